#!/usr/bin/env bash
# Runs the test programs of a build made with COVERAGE=1 and prints covered lines and branches of each folder, then the
# files that have most lines left. COVERAGE_CLI=1 also runs the command-line tests;
# REPORT_ONLY=1 reports what has run already. Needs gcov.
set -eu
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build/coverage}
if [ -z "${REPORT_ONLY:-}" ]; then
    find "$BUILD" -name '*.gcda' -delete
    for test in $(find "$BUILD/tests/unit" "$BUILD/tests/golden" "$BUILD/tests/fuzz" -maxdepth 1 -type f -perm -u+x | sort); do
        BUILD=$BUILD "$test" >/dev/null 2>&1 || echo "  (failed: $(basename "$test"))" >&2
    done
fi
if [ -n "${COVERAGE_CLI:-}" ]; then
    STRATA=$BUILD/strata BUILD=$BUILD bats tests/cli >/dev/null || echo "  (failed: some command-line tests)" >&2
fi
python3 - "$BUILD" <<'END'
import collections, json, os, subprocess, sys
build = sys.argv[1]
objects = [os.path.join(d, f) for d, _, files in os.walk(build) for f in files if f.endswith(".gcda")]
lines, branches = collections.defaultdict(dict), collections.defaultdict(dict)
for path in objects:
    if "/tests/" in path:
        continue
    out = subprocess.run(["gcov", "--json-format", "--stdout", "--branch-probabilities", path], capture_output=True).stdout
    for report in filter(None, out.decode().split("\n")):
        for file in json.loads(report)["files"]:
            if file["file"].startswith("/") or not file["file"].endswith(".c"):
                continue
            # A source may be compiled more than once (instruction sets, precisions): a line is covered if any copy is.
            for line in file["lines"]:
                key = line["line_number"]
                lines[file["file"]][key] = lines[file["file"]].get(key, 0) + line["count"]
                for i, branch in enumerate(line["branches"]):
                    seen = branches[file["file"]]
                    seen[key, i] = seen.get((key, i), 0) + branch["count"]
def percent(table):
    n = sum(len(t) for t in table)
    return n, 100 * sum(count > 0 for t in table for count in t.values()) / n if n else 100
folders = collections.defaultdict(list)
for file in lines:
    folders[os.path.dirname(file)].append(file)
print(f"  {'folder':<22}{'lines':>8}{'covered':>9}{'branches':>10}{'taken':>8}")
for folder in sorted(folders):
    n, covered = percent([lines[f] for f in folders[folder]])
    b, taken = percent([branches[f] for f in folders[folder]])
    print(f"  {folder:<22}{n:>8}{covered:>8.1f}%{b:>10}{taken:>7.1f}%")
print("  most lines left:")
left = {f: sorted(k for k, c in lines[f].items() if not c) for f in lines}
for file in sorted(left, key=lambda f: -len(left[f]))[: int(os.environ.get("MOST", 15))]:
    print(f"  {file:<34} {len(left[file]):>4} of {len(lines[file])}: {' '.join(map(str, left[file][:12]))}")
END
