"""System calls that fail, by strace's fault injection: which ones a command makes, and what it does without them."""
import errno
import os
import re
import shutil
import subprocess

import cases

# What fails how. The first error also from a call on ("and all later"), as on a full or dying disk.
WRITE, FLUSH, MAKE = ("ENOSPC", "EIO", "EDQUOT"), ("EIO", "ENOSPC"), ("ENOSPC", "EROFS", "EMFILE")
OUTPUT_ERRORS = dict(write=WRITE, pwrite64=WRITE, writev=WRITE, ftruncate=FLUSH, fsync=FLUSH, fdatasync=FLUSH,
                     close=("EIO",), rename=("EROFS", "ENOSPC"), openat=MAKE, mkdir=MAKE, read=("EIO",), pread64=("EIO",),
                     lseek=("EIO",), flock=("ENOLCK",))
INPUT_ERRORS = dict(read=("EIO",), pread64=("EIO",), mmap=("ENOMEM", "ENODEV"), openat=("EIO", "EMFILE", "EACCES"))
OTHER_ERRORS = dict(clone3=("EAGAIN",), clone=("EAGAIN",), pipe2=("EMFILE",), pipe=("EMFILE",))
# With one worker all other calls come in the same order every time; these are the start of others.
WITH_HELPERS = ("clone3", "clone")
# Numbers count from the start of the process, so that a call of the dynamic loader may have the number of one of ours.
LOADER_FAILED = 127
# Before main, OpenBLAS starts threads, and ends the process where it cannot.
OPENBLAS_FAILED = b"OpenBLAS blas_thread_init"
STICKY = ("write", "pwrite64", "writev", "fsync", "fdatasync", "rename", "openat", "pread64")
TRACED = sorted(set(OUTPUT_ERRORS) | set(INPUT_ERRORS) | set(OTHER_ERRORS))
CALL = re.compile(r"^(\d+) +(\w+)\((.*)")
# What a command says to standard error, also where the call that says it fails.
SAID = re.compile(r'^\d+ +write\(2<[^>]*>, "((?:[^"\\]|\\.)*)"', re.M)


def can_trace():
    """Why not, or None."""
    if not shutil.which("strace"):
        return "strace is not installed"
    p = subprocess.run(["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=write", "true"], capture_output=True, text=True)
    return "strace may not trace here: %s" % p.stderr.strip() if p.returncode else None


class Fault:
    def __init__(self, call, number, error, later, target):
        self.call, self.number, self.error, self.later, self.target = call, number, error, later, target

    def __str__(self):
        return "%s number %d (%s)%s fails with %s" % (self.call, self.number, self.target,
                                                     " and all later" if self.later else "", self.error)


class Io:
    def __init__(self, case, inputs, work):
        self.case, self.inputs, self.work = case, inputs, work
        self.references = {n: cases.Reference(case, inputs, os.path.join(work, "reference-%d" % n), n) for n in (1, 2)}

    def traced(self, name, calls, threads, inject=None):
        folder = cases.fresh(os.path.join(self.work, name))
        log = os.path.join(self.work, name + ".trace")
        command = ["strace", "-f", "-qq", "-y", "-s", "2000", "--seccomp-bpf", "-o", log, "-e", "trace=" + ",".join(calls)]
        if inject:
            command += ["-e", "inject=" + inject]
        result = cases.run(command + self.case.command(self.inputs, threads=threads), folder)
        with open(log, errors="replace") as f:
            text = f.read()
        os.remove(log)
        return folder, result, text

    def errors_of(self, call, arguments, folder):
        """(errors, target) for a call; no errors where it is not to fail."""
        name = re.search(r'[<"](/[^>"]*|[^<>"]*)', arguments)
        if call in OTHER_ERRORS:
            return OTHER_ERRORS[call], "-"
        if call in ("openat", "mkdir", "rename"):
            quoted = re.search(r'"([^"]*)"', arguments)
            path = os.path.normpath(os.path.join(folder, quoted.group(1))) if quoted else ""
        else:
            path = (re.search(r"<([^>]*)>", arguments) or name).group(1) if name else ""
        descriptor = arguments.split("<")[0]
        if call in ("write", "writev") and descriptor == "1":
            return OUTPUT_ERRORS[call], "standard output"
        made = call != "openat" or "O_CREAT" in arguments or "O_TMPFILE" in arguments or "O_RDWR" in arguments
        if path.startswith(folder) and call in OUTPUT_ERRORS and made:
            return OUTPUT_ERRORS[call], path[len(folder) + 1:] or "."
        if path.startswith((cases.TINY, os.path.dirname(self.inputs["facts"]) + "/", folder)) and call in INPUT_ERRORS:
            return INPUT_ERRORS[call], os.path.basename(path)
        return (), path

    def jobs(self):
        """Every fault that is to be tried."""
        calls = [c for c in TRACED if c not in WITH_HELPERS]
        folder, result, text = self.traced("plain", calls, 1)
        wrong = self.references[1].differs(folder, result)
        if wrong:
            raise SystemExit("%s: traced, without a fault: %s" % (self.case.name, wrong))
        more = self.traced("plain", WITH_HELPERS, 2)[2]
        seen, jobs = {}, {}
        for m in map(CALL.match, (text + more).split("\n")):
            if not m:
                continue
            pid, call, arguments = m.groups()
            number = seen[pid, call] = seen.get((pid, call), 0) + 1
            errors, target = self.errors_of(call, arguments, folder)
            for i, error in enumerate(errors):
                jobs.setdefault((call, number, error, False), target)
                if i == 0 and call in STICKY:
                    jobs.setdefault((call, number, error, True), target)
        return [Fault(*job, target) for job, target in jobs.items()]

    def check(self, fault):
        name = "-".join((fault.call, str(fault.number), fault.error, str(fault.later)))
        inject = "%s:error=%s:when=%d%s" % (fault.call, fault.error, fault.number, "+" if fault.later else "")
        threads = 2 if fault.call in WITH_HELPERS else 1
        folder, result, text = self.traced(name, sorted({fault.call, "write"}), threads, inject)
        reference = self.references[threads]
        reached = "INJECTED" in text and result.status != LOADER_FAILED and OPENBLAS_FAILED not in result.err
        wrong = reached and (self.judge(fault, folder, result, text, reference) or
                             cases.goes_on(self.case, self.inputs, folder, reference, threads))
        shutil.rmtree(folder)
        if wrong:
            return "%s: %s: %s" % (self.case.name, fault, wrong)
        return "not reached" if not reached else "coped" if result.status == 0 else "refused"

    def judge(self, fault, folder, result, text, reference):
        if result.status == 0:
            return reference.differs(folder, result)
        # Of the calls that say it, since these may be what fails.
        said = "".join(SAID.findall(text)).replace("\\n", "\n").replace('\\"', '"')
        if result.status != 1:
            return "status %s: %s" % (result.status, said[:300])
        if said.count("\n") != 1 or not said.startswith("strata: "):
            return "not one line: %r" % said[:600]
        # Which file, or which stream.
        names = ("standard output", "facts.jsonl", "many.jsonl", "lens.h5", "dump.h5", "data/tiny", "thread", self.case.output_name() or "?")
        if not any(name in said for name in names):
            return "does not name the file: %r" % said
        if os.strerror(getattr(errno, fault.error)) not in said:
            return "does not tell the cause: %r" % said
        return cases.left_wrong(self.case, folder, reference)


if __name__ == "__main__":
    import sys
    sys.exit(can_trace())
