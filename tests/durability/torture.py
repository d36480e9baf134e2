#!/usr/bin/env python3
"""Kills Strata with SIGKILL again and again, looks at what is left each time, and resumes.

    tests/durability/torture.py --kills 200 dump shards sweeps          (kinds; `all`; --seed N repeats a run)

Half of the kills come at random times, the other half at a system call that changes a file (kill_at.c): at a flush, rename
or removal, or at any write; before, after, or in the middle of it. After each kill

  - h5ls opens each partial file; it holds whole prompts, and every byte that a reader sees is that of a run that was never
    interrupted; so is every byte of the file outside the datasets, but for their extents and `complete`;
  - a file under its final name is, whole, the file of that run.

In the end, --resume makes the same files as that run, byte for byte, and nothing else. SOURCE_DATE_EPOCH keeps the time
of creation out of that, and the command line is the same.
"""
import argparse, collections, itertools, json, os, pathlib, random, re, shutil, signal, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
TINY = ROOT / "data/tiny"
DUMP = ["dump", "-i", "FACTS", "--sites", "resid_post,z,pattern", "--flush", "0"]

# Name: facts, options of the command; -o comes last. "No --resume": begun anew.
KINDS = {
    "dump": (775, DUMP + ["-o", "out.h5"]),
    "shards": (775, DUMP + ["--shard-size", "2", "-o", "out/"]),
    "lens": (400, ["lens", "-i", "FACTS", "--positions", "all", "-o", "out.h5"]),
    "csv": (300, ["lens", "-i", "FACTS", "-o", "out.csv"]),
    "causal": (30, ["causal", "-i", "FACTS", "--all", "--samples", "2", "-o", "out.h5"]),
    "knockout": (400, ["knockout", "-i", "FACTS", "--all", "-o", "out.h5"]),
    "heads": (200, ["heads", "-i", "FACTS", "--all", "--no-patterns", "--counts", "1,2", "--rank-by", "effect", "--mode",
                    "mean", "-o", "out.h5"]),
    "neurons": (200, ["neurons", "-i", "FACTS", "--all", "-o", "out.h5"]),
    "experiment": (40, ["experiment", "VARIANTS", "-o", "out.h5"]),
    "trace": (60, ["trace", "-i", "FACTS", "--window", "1", "-o", "out.h5"]),
    "each": (24, ["trace", "-i", "FACTS", "--each", "--no-plots", "-o", "out"]),
    "figures": (0, ["trace", "The Eiffel Tower is in the city of", "--subject", "Eiffel Tower", "-o", "out"]),
}
SWEEPS = ["knockout", "heads", "neurons", "experiment", "trace", "each", "causal"]
BEGUN_ANEW = {"csv", "figures"}
READABLE = {"out.csv.partial"}  # text: whole lines are checked


# --- what runs ---

def make_variants(facts, path):
    """An experiment of some thousand variants."""
    prompts = [{"name": f["id"], **{k: f[k] for k in ("prompt", "subject", "answer")}} for f in facts]
    edits = ["%s:%d@%s %s" % x for x in itertools.product(("attn_out", "mlp_out", "resid_post"), range(4),
                                                         ("last", "subject", "non-subject"),
                                                         ("zero", "scale 2", "add noise:0.3"))]
    variants = [{"name": p["name"] + " " + e, "prompt": p["name"], "edits": [e]} for p in prompts for e in edits]
    path.write_text(json.dumps({"format": "strata-experiment", "version": 1, "prompts": prompts, "variants": variants}))


class Run:
    """One kind of output: the command, the run that is never interrupted (in whole/), the one that is (in killed/)."""

    def __init__(self, kind, options, work):
        facts, command = KINDS[kind]
        self.kind, self.work, self.preload = kind, work, options.preload
        self.output = command[-1].rstrip("/")
        facts = max(1, int(facts * options.size)) if facts else 0
        lines = [line for path in sorted((ROOT / "data/facts").glob("[a-c]*.jsonl"))
                 for line in path.read_text().splitlines()][:facts]
        (work / "facts.jsonl").write_text("".join(line + "\n" for line in lines))
        make_variants([json.loads(line) for line in lines], work / "variants.json")
        names = {"FACTS": "../facts.jsonl", "VARIANTS": "../variants.json"}
        self.command = [options.strata, *[names.get(word, word) for word in command], "--quiet", "-t", "1", "-m", str(TINY)]
        if kind not in BEGUN_ANEW:
            self.command.append("--resume")
        for folder in ("whole", "killed"):
            (work / folder).mkdir()
        self.here = work / "killed"
        self.calls = self.run_whole()

    def start(self, folder, **environment):
        with open(self.work / "said", "wb") as said:
            return subprocess.Popen(self.command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said,
                                    env={**os.environ, "SOURCE_DATE_EPOCH": "0", **environment})

    def run_whole(self):
        """Times it, and lists its calls where they can be counted."""
        whole, log = self.work / "whole", self.work / "calls"
        begin = time.monotonic()
        if self.start(whole).wait():
            fail(self, "cannot run: " + (self.work / "said").read_text())
        self.seconds = time.monotonic() - begin
        if not self.preload:
            return ""
        (self.work / "again").mkdir()
        self.start(self.work / "again", LD_PRELOAD=self.preload, KILL_COUNTS=str(log)).wait()
        same_tree(self, self.work / "again", whole)
        shutil.rmtree(self.work / "again")
        return log.read_text()


def fail(run, text):
    sys.exit(f"{run.kind}: {text} (what is there: {run.work})")


# --- kills ---

NAMES = {"p": "pwrite", "w": "write", "s": "fsync", "d": "fdatasync", "t": "ftruncate", "r": "rename", "u": "unlink"}


def choose_call(run, rng):
    """A call: near a flush, rename or removal, where the order matters, by its number in a whole run; or one of those by
    name, early, since a resumed run has fewer; or any."""
    order = [i for i, letter in enumerate(run.calls) if letter in "sdrut"]
    way, call = rng.random(), "any"
    nth = rng.randint(1, len(run.calls))
    if order and way < 0.5:
        nth = min(max(1, rng.choice(order) + rng.randint(-30, 30)), len(run.calls))
    elif order and way < 0.8:
        call, nth = NAMES[rng.choice([run.calls[i] for i in order])], rng.randint(1, 3)
    return {"LD_PRELOAD": run.preload, "KILL_CALL": call, "KILL_NTH": str(nth),
            "KILL_WHEN": rng.choice(["before", "after", "within"])}


def kill_once(run, rng, timed):
    """Exit status: 0 where the run was whole before the kill came; -9."""
    while True:
        child = run.start(run.here, **({} if timed else choose_call(run, rng)))
        if timed:
            try:
                child.wait(rng.uniform(0.2, 1.1) * run.seconds)
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
        status = child.wait()
        said = (run.work / "said").read_text()
        # A gnuplot that outlives a killed run keeps the lock until it is done.
        if status != 1 or "another process is writing it" not in said:
            break
        time.sleep(0.1)
    if status not in (0, -signal.SIGKILL):
        fail(run, f"exit status {status}: {said}")
    return status


# --- what is there ---

def datasets(path):
    """Name: items, bytes of an item, offset, of all contiguous datasets; what h5ls says."""
    listed = subprocess.run(["h5ls", "-r", "-v", "--address", path], capture_output=True, text=True)
    if listed.returncode or listed.stderr:
        return None
    found = {}
    for part in re.split(r"\n(?=/)", listed.stdout):
        head = re.match(r"(\S+)\s+Dataset \{(\d+)", part)
        size, at = re.search(r"logical bytes, (\d+) allocated", part), re.search(r"Address:\s+(\d+)", part)
        if head and size and at:
            found[head[1]] = (int(head[2]), int(size[1]), int(at[1]))
    return found


def ints(data, width):
    return [int.from_bytes(data[i:i + width], "little", signed=True) for i in range(0, len(data), width)]


def check_partial(run, path, whole_path):
    """A stream file that is not complete: whole prompts, with the numbers of the whole file."""
    there, full = datasets(path), datasets(whole_path)
    data, whole = path.read_bytes(), whole_path.read_bytes()
    if there is None or there.keys() != full.keys() or len(data) > len(whole):
        fail(run, f"{path.name} does not open, or has other datasets")
    axis = next(name for name in ("/prompts/id", "/facts/id") if name in full)
    n, n_full = there[axis][0], full[axis][0]
    if not 1 <= n <= n_full:
        fail(run, f"{path.name} counts {n} of {n_full} {axis}")
    expected = {n_full: n, n_full + 1: n + 1}

    def column(name, width):
        items, size, at = full[name]
        return ints(whole[at:at + items * width], width)
    if "/rows/prompt" in full:
        expected[full["/rows/prompt"][0]] = sum(1 for p in column("/rows/prompt", 4) if p < n)
    for name in ("/prompts/token_offset", "/prompts/pattern_offset"):
        if name in full:
            offsets = column(name, 8)
            expected[offsets[-1]] = offsets[n]
    hidden = []
    for name, (items, size, at) in sorted(there.items(), key=lambda item: item[1][2]):
        total, _, at_full = full[name]
        bytes_an_item = size // total
        if at != at_full or items > total or items < expected.get(total, 0):
            fail(run, f"{path.name}: {name} shows {items} items of {total}, {axis} counts {n}")
        if data[at:at + items * bytes_an_item] != whole[at:at + items * bytes_an_item]:
            fail(run, f"{path.name}: {name} has other numbers than an uninterrupted run")
        hidden.append((at, at + size))
    check_outside(run, path, data, whole, hidden, len(there) + 1)
    return n


def check_outside(run, path, data, whole, hidden, most):
    """Headers, names, attributes, texts: at most the extents and `complete` are other."""
    at, others = 0, 0
    for begin, end in hidden + [(len(whole), len(whole))]:
        a, b = data[at:begin], whole[at:begin]
        if a != b:
            others += sum(a[i:i + 8] != b[i:i + 8] for i in range(0, len(b), 8))
        at = max(at, end)
    if others > most:
        fail(run, f"{path.name}: {others} words outside the datasets are other than those of an uninterrupted run")


def check_what_is_there(run, tally, partial_texts=True):
    """Everything that a kill left; a power loss may leave holes in a text that is not published."""
    whole = run.work / "whole"
    for path in sorted(run.here.rglob("*")):
        name = path.relative_to(run.here)
        if path.is_dir() or path.name.endswith((".lock", ".tmp", ".starting")):
            continue
        if path.name.endswith(".journal"):
            tally["journals"] += path.stat().st_size > 40
        elif path.name.endswith(".partial") and path.name in READABLE:
            tally["partial files"] += 1
            if partial_texts and not (whole / name).with_suffix("").read_bytes().startswith(path.read_bytes()):
                fail(run, f"{name} is no beginning of the whole file")
        elif path.name.endswith(".partial"):
            tally["partial files"] += 1
            check_partial(run, path, (whole / name).with_suffix(""))
        elif path.name == "manifest.json":
            check_manifest(run, path)
        elif path.read_bytes() != (whole / name).read_bytes():
            fail(run, f"{name} stands under its final name and is not whole")
        else:
            tally["whole files beside"] += 1


def check_manifest(run, path):
    """It names finished shards only."""
    for shard in json.loads(path.read_text())["shards"]:
        if not (path.parent / shard["file"]).exists():
            fail(run, f"manifest.json names {shard['file']}, which is not there")


def same_tree(run, a, b):
    def listed(folder):
        return {path.relative_to(folder): None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")}
    mine, other = listed(a), listed(b)
    for name in sorted(mine.keys() | other.keys()):
        if mine.get(name, 0) != other.get(name, 0):
            what = "is other" if name in mine and name in other else "is missing" if name in other else "was left behind"
            fail(run, f"{name} {what} after --resume")


# --- all of it ---

def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def torture(kind, options, rng, work):
    run = Run(kind, options, work)
    tally = collections.Counter()
    for kill in range(options.kills):
        timed = kill % 2 == 0 or not run.calls
        tally["at a time" if timed else "at a call"] += 1
        if kill_once(run, rng, timed):
            check_what_is_there(run, tally)
        else:
            same_tree(run, run.here, run.work / "whole")
            tally["done before the kill"] += 1
            empty(run.here)
    while run.start(run.here).wait():
        if "another process is writing it" not in (run.work / "said").read_text():
            fail(run, "--resume fails: " + (run.work / "said").read_text())
        time.sleep(0.1)
    same_tree(run, run.here, run.work / "whole")
    print(f"{kind}: {options.kills} kills ({tally.pop('at a time', 0)} at a time, {tally.pop('at a call', 0)} at a call), "
          + ", ".join(f"{n} {what}" for what, n in sorted(tally.items()))
          + f"; {run.seconds:.2f} s and {len(run.calls)} calls uninterrupted", flush=True)
    return sum(tally.values())


def build_options(parser):
    """Those that power_loss.py has, too; says the seed."""
    parser.add_argument("--seed", type=int, help="repeat a run")
    parser.add_argument("--size", type=float, default=1, help="share of the facts to work on (1)")
    parser.add_argument("--strata", default=os.environ.get("STRATA", str(ROOT / "build/strata")))
    parser.add_argument("--keep", action="store_true", help="keep the files")
    options = parser.parse_args()
    options.strata, options.preload = os.path.realpath(options.strata), None
    seed = options.seed if options.seed is not None else random.randrange(1 << 31)
    print(f"--seed {seed}", flush=True)
    return options, seed


def make_folder(prefix):
    """In memory where there is room: thousands of flushes cost minutes on a busy disk, and kills and replays need none."""
    memory = "/dev/shm"
    roomy = os.path.isdir(memory) and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 1 << 30
    return pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=memory if roomy else None))


def build_preload(strata, work):
    """None where it cannot be: under the address sanitizer, without a compiler."""
    if b"__asan_init" in pathlib.Path(strata).read_bytes():
        return None
    library = work / "kill_at.so"
    made = subprocess.run([os.environ.get("CC", "cc").split()[-1], "-shared", "-fPIC", "-O1", "-o", library, HERE / "kill_at.c",
                           "-ldl"], capture_output=True)
    return None if made.returncode else str(library)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="+", help="all, sweeps, or: " + ", ".join(KINDS))
    parser.add_argument("--kills", type=int, default=20, help="of each kind; shared out among the sweeps (20)")
    parser.add_argument("--each", action="store_true", help="so many of each sweep, too")
    options, seed = build_options(parser)
    kinds = [k for kind in options.kinds for k in (KINDS if kind == "all" else SWEEPS if kind == "sweeps" else [kind])]
    if "sweeps" in options.kinds and not options.each:
        options.kills = -(-options.kills // len(SWEEPS))
    work, seen = make_folder("strata-torture-"), 0
    try:
        options.preload = build_preload(options.strata, work)
        for kind in kinds:
            (work / kind).mkdir()
            seen += torture(kind, options, random.Random(f"{seed} {kind}"), work / kind)
        if not seen:
            sys.exit("no kill left anything to look at")
    finally:
        if not options.keep:
            shutil.rmtree(work)


if __name__ == "__main__":
    main()
