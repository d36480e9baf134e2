"""Commands that faults are injected into: what they need, what they leave behind, and when two results are the same."""
import glob
import json
import os
import re
import shutil
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STRATA = os.path.realpath(os.environ.get("STRATA", os.path.join(ROOT, "build/strata")))
TINY = os.path.join(ROOT, "data/tiny")
FACTS = os.path.join(ROOT, "data/facts/country_capital.jsonl")
PROMPT = "The Eiffel Tower is in the city of"
# What an interrupted run may leave (README, Files): it is whole as far as it goes, and --resume continues it.
KEPT = (".partial", ".journal")


class Case:
    """arguments: of strata, in which {name} is one of the inputs that make_inputs writes; output: what -o names, or None:
    the result is standard output. The command runs in a folder of its own."""

    def __init__(self, name, arguments, output=None, resumes=False):
        self.name, self.output, self.resumes = name, output, resumes
        self.arguments = arguments.split() + ["--quiet"] + (["-o", output] if output else [])

    def command(self, inputs, resume=False, threads=1):
        words = [w.format(**inputs) for w in self.arguments]
        return [STRATA] + words + ["-t", str(threads)] + (["--resume"] if resume else [])

    def output_name(self):
        return self.output.rstrip("/") if self.output else None


CASES = [
    Case("info", "info {tiny}"),
    Case("tokenize", "tokenize -m {tiny} {prompt}"),
    Case("tokenize_facts", "tokenize -m {tiny} -i {facts}"),
    Case("run", "run -m {tiny} {prompt} --json --generate 2"),
    Case("run_edits", "run -m {tiny} {prompt} --json --subject Eiffel --answer Paris --edit {edit}"),
    Case("run_file", "run -m {tiny} {prompt} --json", "run.json"),
    Case("lens_csv", "lens -m {tiny} -i {facts}", "lens.csv"),
    Case("lens_h5", "lens -m {tiny} -i {facts}", "lens.h5", resumes=True),
    Case("dump", "dump -m {tiny} -i {facts} --flush 0 --sites resid_post,pattern:1", "dump.h5", resumes=True),
    # So many batches that the writing thread makes more calls than the main one: a number that both reach fails in both.
    Case("dump_many", "dump -m {tiny} -i {many} --flush 0 --sites resid_post,z", "dump.h5", resumes=True),
    Case("dump_folder", "dump -m {tiny} -i {facts} --flush 0 --sites resid_post,z --shard-size 1", "dump/", resumes=True),
    Case("trace", "trace -m {tiny} {prompt} --subject {subject} --answer Paris --no-plots", "trace/"),
    Case("trace_plots", "trace -m {tiny} {prompt} --subject {subject} --answer Paris", "trace/"),
    Case("trace_facts", "trace -m {tiny} -i {facts} --no-plots", "stages/", resumes=True),
    Case("knockout", "knockout -m {tiny} -i {facts} --all", "knockout.h5", resumes=True),
    Case("knockout_folder", "knockout -m {tiny} -i {facts} --all --no-plots", "knockout/", resumes=True),
    Case("heads", "heads -m {tiny} -i {facts} --all", "heads.h5", resumes=True),
    Case("neurons", "neurons -m {tiny} -i {facts} --all", "neurons.csv"),
    Case("curves", "curves {lens}", "curves/"),
    Case("diff", "diff {dump} {dump} --json"),
]


def make_inputs(folder):
    """Files for all cases: names by the words that stand for them."""
    facts, lens, dump = (os.path.join(folder, n) for n in ("facts.jsonl", "lens.h5", "dump.h5"))
    with open(FACTS) as f, open(facts, "w") as out:
        out.writelines(f.readlines()[:3])
    many = os.path.join(folder, "many.jsonl")
    with open(many, "w") as out:
        for name in sorted(glob.glob(os.path.join(ROOT, "data/facts/[ac]*.jsonl"))):
            with open(name) as f:
                out.write(f.read())
    inputs = dict(tiny=TINY, facts=facts, many=many, lens=lens, dump=dump, prompt=PROMPT, subject="Eiffel Tower", edit="z:1@last zero")
    for command in (["lens", "-o", lens], ["dump", "-o", dump, "--sites", "resid_post"]):
        subprocess.run([STRATA, *command, "-m", TINY, "-i", facts, "--quiet"], check=True)
    return inputs


class Result:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err


def run(command, folder, env=None, timeout=60):
    try:
        p = subprocess.run(command, cwd=folder, env=env, timeout=timeout, stdin=subprocess.DEVNULL, capture_output=True)
    except subprocess.TimeoutExpired:
        return Result("does not end", b"", b"")
    return Result(p.returncode, p.stdout, p.stderr)


def files_below(folder):
    return sorted(os.path.relpath(os.path.join(at, name), folder) for at, _, names in os.walk(folder) for name in names)


# Times, and the command that they came with, are what two runs of one command may differ in.
TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def same_file(a, b):
    with open(a, "rb") as f, open(b, "rb") as g:
        if TIME.sub(b"", f.read()).replace(b" --resume", b"") == TIME.sub(b"", g.read()).replace(b" --resume", b""):
            return True
    if not a.endswith(".h5"):
        return False
    groups = subprocess.run(["h5ls", b], capture_output=True, text=True).stdout.split("\n")
    names = [line.split()[0] for line in groups if line]
    return bool(names) and all(same_object(a, b, "/" + name) for name in names)


def same_object(a, b, name):
    """h5diff alone passes over what it cannot compare: other shapes."""
    diff = subprocess.run(["h5diff", a, b, name], capture_output=True, text=True)
    return diff.returncode == 0 and "not comparable" not in diff.stdout


class Reference:
    """What the case gives without a fault."""

    def __init__(self, case, inputs, folder, threads=1):
        os.mkdir(folder)
        result = run(case.command(inputs, threads=threads), folder)
        if result.status != 0 or result.err:
            raise SystemExit("%s: %s: %s" % (case.name, result.status, result.err.decode()))
        self.folder, self.files, self.out = folder, files_below(folder), result.out

    def differs(self, folder, result):
        """Why a run that says it is done is not; None where it is."""
        files = files_below(folder)
        if files != self.files:
            return "has the files %s, not %s" % (files, self.files)
        for name in files:
            if not same_file(os.path.join(folder, name), os.path.join(self.folder, name)):
                return "%s is another" % name
        if TIME.sub(b"", result.out) != TIME.sub(b"", self.out):
            return "standard output is another: %r" % result.out[:300]
        return None


def left_wrong(case, folder, reference):
    """What a failed run left behind that it must not have, or None."""
    output = case.output_name()
    for name in files_below(folder):
        path = os.path.join(folder, name)
        if name.endswith(KEPT) and case.resumes and name.startswith(output):
            continue
        # Files of a folder come one by one, each whole; the manifest says that more are to come.
        if name.endswith("manifest.json"):
            with open(path) as f:
                if json.load(f)["complete"] is False:
                    continue
        if name in reference.files and same_file(path, os.path.join(reference.folder, name)):
            continue
        return "left %s%s" % (name, ", which is not whole" if name in reference.files else "")
    return None


def goes_on(case, inputs, folder, reference, threads=1):
    """After a failure without its cause: the same command ends as if nothing had been; None, or what is wrong."""
    kept = any(name.endswith(KEPT) for name in files_below(folder)) or (case.resumes and os.listdir(folder))
    result = run(case.command(inputs, bool(kept), threads), folder)
    if result.status != 0:
        return "afterwards%s: status %s: %s" % (" with --resume" if kept else "", result.status, result.err.decode())
    wrong = reference.differs(folder, result)
    return wrong and "afterwards%s: %s" % (" with --resume" if kept else "", wrong)


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder)
    return folder
