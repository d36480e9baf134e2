#!/usr/bin/env python3
"""Runs a command several times: prints the median wall time in seconds and the largest peak memory in MB.

usage: measure.py RUNS COMMAND [ARGUMENT ...]     '{}' in an argument becomes the number of the run
"""
import os
import statistics
import subprocess
import sys
import time

runs, command = int(sys.argv[1]), sys.argv[2:]
seconds, peak = [], 0
for run in range(runs):
    arguments = [a.replace("{}", str(run)) for a in command]
    begin = time.monotonic()
    child = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    message = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    seconds.append(time.monotonic() - begin)
    if status:
        sys.exit(f"measure.py: {' '.join(arguments)} failed: {message.decode(errors='replace')[-500:]}")
    peak = max(peak, usage.ru_maxrss / 1024)
print(f"{statistics.median(seconds):.3f} {peak:.0f}")
