#!/usr/bin/env python3
"""Long runs with flat memory: gives N prompts to each command and samples its memory as it goes.

usage: soak.py STRATA MODEL N OUT.dat [COMMAND ...]     names in COMMANDS below; all of them by default

Fails where what a process holds of its own (RssAnon: without the mapped model file) grows from a fifth of the time on by
more than SLACK bytes a prompt, or where results lack prompts. OUT.dat has one block a command, as gnuplot reads it:
seconds, MiB of RSS, MiB of RssAnon.
"""
import csv
import glob
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time

COMMANDS = {
    "lens to HDF5": ["lens", "-o", "out.h5"],
    "lens to CSV": ["lens", "-o", "out.csv"],
    "lens, all positions": ["lens", "--positions", "all", "-o", "out.h5"],
    "dump": ["dump", "--positions", "last", "--sites", "resid_post,z", "-o", "out.h5"],
    "dump to shards": ["dump", "--sites", "resid_post", "--shard-size", "64", "-o", "out/"],
}
SLACK = 64  # bytes a prompt: offsets, ids and lengths of 100,000 prompts are 6 MiB


def prompts(n):
    """The facts of data/facts over and over, each prompt with its number: none is like another."""
    paths = sorted(glob.glob(os.path.join(os.path.dirname(__file__), "../../data/facts/*.jsonl")))
    facts = [json.loads(line) for path in paths for line in open(path, encoding="utf-8")]
    for i, fact in zip(range(n), itertools.cycle(facts)):
        yield json.dumps({**fact, "id": str(i), "prompt": f"{i}: {fact['prompt']}"}).encode() + b"\n"


def memory(pid):
    """MiB of RSS and of RssAnon."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        kib = {line.split(":")[0]: line.split()[1] for line in status if line.startswith("Rss") or line.startswith("VmRSS")}
    return int(kib["VmRSS"]) / 1024, int(kib["RssAnon"]) / 1024


def run(strata, model, arguments, folder, interval):
    """Samples (seconds, MiB of RSS, MiB of RssAnon) of one run over prompts.jsonl in its folder."""
    samples, begin = [], time.monotonic()
    with open(os.path.join(folder, "err"), "wb") as err:
        child = subprocess.Popen([strata, *arguments, "--quiet", "-m", model, "-i", "prompts.jsonl"], stderr=err, cwd=folder)
    while child.poll() is None:
        try:
            samples.append((time.monotonic() - begin, *memory(child.pid)))
        except (KeyError, FileNotFoundError, ProcessLookupError):
            pass  # it just ended
        time.sleep(interval)
    if child.returncode:
        sys.exit(f"soak.py: {' '.join(arguments)}: status {child.returncode}: " + open(os.path.join(folder, "err")).read())
    return samples


def growth(samples, n):
    """Bytes a prompt, at an even pace: the least-squares slope of RssAnon over time, from a fifth of it on."""
    end = samples[-1][0]
    points = [(t / end * n, own * 1048576) for t, _, own in samples if t >= end / 5]
    if len(points) < 20:
        sys.exit("soak.py: too few samples: take more prompts")
    x = sum(p[0] for p in points) / len(points)
    y = sum(p[1] for p in points) / len(points)
    return sum((p[0] - x) * (p[1] - y) for p in points) / sum((p[0] - x) ** 2 for p in points)


def count(folder):
    """Prompts in the result."""
    out = os.path.join(folder, next(name for name in os.listdir(folder) if name.startswith("out")))
    if out.endswith(".csv"):
        with open(out, encoding="utf-8", newline="") as file:
            return len({row[0] for row in csv.reader(file)}) - 1
    path = os.path.join(out, "index.h5") if os.path.isdir(out) else out
    listing = subprocess.run(["h5ls", "-r", path], capture_output=True, text=True, check=True).stdout
    sizes = [line for line in listing.splitlines() if line.startswith("/prompts/id ")]
    return int(sizes[0].split("{")[1].split("}")[0].split("/")[0]) if sizes else -1


def main():
    strata, model, n, out = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    failed = False
    with open(out, "w", encoding="utf-8") as dat:
        for name in sys.argv[5:] or COMMANDS:
            with tempfile.TemporaryDirectory() as folder:
                with open(os.path.join(folder, "prompts.jsonl"), "wb") as file:
                    file.writelines(prompts(n))
                samples = run(strata, model, COMMANDS[name], folder, 1 if n >= 50000 else 0.1)
                counted = count(folder)
            slope, seconds, own = growth(samples, n), samples[-1][0], max(s[2] for s in samples)
            bad = slope > SLACK or counted != n
            failed |= bad
            print(f"  {name:20} {seconds:6.0f} s, {n / seconds:6.0f} prompts/s, at most {own:4.0f} MiB of its own, "
                  f"{slope:+6.1f} bytes a prompt, {counted} prompts{'  FAILED' if bad else ''}", flush=True)
            dat.write(f'"{name}"\n' + "".join("%.1f %.2f %.2f\n" % s for s in samples) + "\n\n")
    return failed


if __name__ == "__main__":
    sys.exit(main())
