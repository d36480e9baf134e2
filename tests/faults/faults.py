#!/usr/bin/env python3
"""Fails allocations and system calls of whole commands, one by one, and looks at what comes of it.

    faults.py alloc              every call site of the program, in every case of cases.py
    faults.py alloc --libraries  also those of the libraries that it calls, but for HDF5 and OpenBLAS (SECURITY.md)
    faults.py io                 every write, read, opening, flush, renaming, with several errors
    --sample N                   so many of them a case, chosen by --seed (printed)
    --cases NAME,...             only these

Whatever fails: exit status 1, one line on standard error that begins with "strata: " and tells the cause, no half file
under its final name, no stray file, no memory that is not freed, and the same command works afterwards (--resume where
something was kept). Or the program copes: exit status 0, and the result is that of a run without fault.
"""
import argparse
import collections
import concurrent.futures
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

import cases
import injected_io

# Libraries whose allocations are not failed: HDF5 keeps invalid states and aborts (its own tests do not cover it),
# OpenBLAS ends the process.
NOT_FAILED = ("libhdf5", "libopenblas")


class Log:
    """The report of fail_alloc.c."""

    def __init__(self, path):
        self.own = self.all = 0
        self.sites, self.failed, self.leaks = {}, None, []
        if not os.path.exists(path):
            return
        for line in open(path):
            word, *rest = line.split()
            if word == "calls":
                self.own, self.all = map(int, rest)
            elif word == "site":
                self.sites[rest[0]] = dict(object=rest[1], count=int(rest[2]), first_own=int(rest[3]),
                                           first_all=int(rest[4]), frames=tuple(rest[5:]))
            elif word == "failed":
                self.failed = self.sites[rest[1]]
            else:
                self.leaks.append((self.sites[rest[0]], int(rest[1]), int(rest[2])))


def key(site):
    return (site["object"],) + site["frames"]


def symbols(site):
    """Where a site is, in words."""
    text = subprocess.run(["addr2line", "-f", "-s", "-e", cases.STRATA, *(hex(int(f, 16) - 1) for f in site["frames"])],
                          capture_output=True, text=True).stdout.split("\n")
    return "%s: " % site["object"] + " < ".join("%s (%s)" % (a, b) for a, b in zip(text[0::2], text[1::2]))


class Alloc:
    """Failing allocations of one case."""
    memory = re.compile(r"memory|[Cc]annot allocate|cannot start (a|\d+) thread|could not be started")

    def __init__(self, case, inputs, work, preload):
        self.case, self.inputs, self.work, self.preload = case, inputs, work, preload
        self.reference = cases.Reference(case, inputs, os.path.join(work, "reference"))
        _, self.plain = self.once("plain", None, "own")
        if not self.plain.own:
            raise SystemExit("%s: %s counted no allocation" % (case.name, preload))
        self.known = {key(s) for s, _, _ in self.plain.leaks}

    def once(self, name, call, scope, rest=False):
        folder = cases.fresh(os.path.join(self.work, name))
        log = os.path.join(self.work, name + ".log")
        if os.path.exists(log):
            os.remove(log)
        env = dict(os.environ, LD_PRELOAD=self.preload, FAIL_ALLOC_LOG=log, FAIL_ALLOC_SCOPE=scope,
                   FAIL_ALLOC_AT=str(call or 0), FAIL_ALLOC_REST=str(int(rest)))
        return cases.run(self.case.command(self.inputs), folder, env), Log(log)

    def calls(self, libraries):
        """(scope, number of the call) of the first of each site."""
        own = [("own", s["first_own"]) for s in self.plain.sites.values() if s["object"] == "own"]
        if not libraries:
            return own
        return [("all", s["first_all"]) for s in self.plain.sites.values()
                if s["object"] != "own" and not s["object"].startswith(NOT_FAILED)]

    def leak(self, log):
        for site, n, size in log.leaks:
            if site["object"] == "own" or not (site["object"].startswith(NOT_FAILED) or key(site) in self.known):
                return "%d bytes in %d blocks are not freed: %s" % (size, n, symbols(site))
        return None

    def check(self, job):
        scope, call, rest, again = job
        name = "%s-%d-%d" % (scope, call, rest)
        folder = os.path.join(self.work, name)
        result, log = self.once(name, call, scope, rest)
        where = " at %s" % symbols(log.failed) if log.failed else ""
        wrong = self.judge(result, log, folder) or (again and cases.goes_on(self.case, self.inputs, folder, self.reference))
        shutil.rmtree(folder)
        what = "%s: call %d (%s)%s fails" % (self.case.name, call, scope, " and all later" if rest else "")
        if wrong:
            return "%s%s: %s" % (what, where, wrong)
        return "coped" if result.status == 0 else "refused" if log.failed else "not reached"

    def judge(self, result, log, folder):
        if result.status == 0:
            return self.reference.differs(folder, result) or self.leak(log)
        text = result.err.decode(errors="replace")
        if result.status != 1:
            return "status %s: %s" % (result.status, text[:300])
        if text.count("\n") != 1 or not text.startswith("strata: "):
            return "not one line: %r" % text[:600]
        if not self.memory.search(text):
            return "does not say that memory is the cause: %r" % text
        return cases.left_wrong(self.case, folder, self.reference) or self.leak(log)


def run_all(jobs, check, workers):
    """Counts of outcomes; failures are printed."""
    counts, wrong = collections.Counter(), 0
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for outcome in pool.map(check, jobs):
            if outcome in ("coped", "refused", "not reached"):
                counts[outcome] += 1
            else:
                wrong += 1
                print("FAULT " + outcome, flush=True)
    return counts, wrong


def alloc(args, case, inputs, work, rng):
    a = Alloc(case, inputs, work, os.path.abspath(args.preload))
    calls = sorted(set(a.calls(args.libraries)))
    jobs = [(scope, n, rest, not rest) for scope, n in calls for rest in (False, True)]
    if args.sample:
        jobs = rng.sample(jobs, min(args.sample, len(jobs)))
    elif not args.libraries:
        # Calls that are not the first of their site, a hundred or so.
        jobs += [("own", n, False, False) for n in range(1, a.plain.own + 1, max(1, a.plain.own // 100))]
    counts, wrong = run_all(jobs, a.check, args.workers)
    return "%d sites" % len(calls), counts, wrong


def io(args, case, inputs, work, rng):
    i = injected_io.Io(case, inputs, work)
    jobs = i.jobs()
    n = len(jobs)
    if args.sample:
        jobs = rng.sample(jobs, min(args.sample, len(jobs)))
    counts, wrong = run_all(jobs, i.check, args.workers)
    return "%d faults" % n, counts, wrong


def main():
    p = argparse.ArgumentParser()
    p.add_argument("kind", choices=("alloc", "io"))
    p.add_argument("--sample", type=int, default=0)
    p.add_argument("--seed", type=int, default=None)
    p.add_argument("--cases", default="")
    p.add_argument("--libraries", action="store_true")
    p.add_argument("--preload", default=os.path.join(os.environ.get("BUILD", "build"), "tests/faults/fail_alloc.so"))
    p.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    args = p.parse_args()
    seed = args.seed if args.seed is not None else random.randrange(1 << 30)
    if args.sample:
        print("--seed %d" % seed)
    rng = random.Random(seed)
    known = [c.name for c in cases.CASES]
    wanted = args.cases.split(",") if args.cases else known
    if set(wanted) - set(known):
        p.error("no such cases: %s; there are %s" % (", ".join(sorted(set(wanted) - set(known))), ", ".join(known)))
    wrong = failed = 0
    with tempfile.TemporaryDirectory(prefix="strata-faults-") as top:
        inputs = cases.make_inputs(top)
        for case in cases.CASES:
            if case.name not in wanted:
                continue
            work = os.path.join(top, case.name)
            os.mkdir(work)
            of, counts, bad = (alloc if args.kind == "alloc" else io)(args, case, inputs, work, rng)
            print("%-16s %s: %d refused, %d coped with, %d not reached, %d wrong" %
                  (case.name, of, counts["refused"], counts["coped"], counts["not reached"], bad), flush=True)
            shutil.rmtree(work)
            wrong += bad
            failed += counts["refused"] + counts["coped"]
    if not failed:
        sys.exit("nothing was made to fail")
    sys.exit(wrong > 0)


main()
