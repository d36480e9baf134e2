#!/usr/bin/env bash
# Fuzzes under AFL++ the target that wants a file: HDF5 is read in a child process, which under libFuzzer and the sanitizers
# comes to a few inputs a second. An input that fails stays in $BUILD/afl/out/NAME/default/crashes.
set -eu
cd "$(dirname "$0")/../.."
BUILD=${BUILD:-build}
command -v afl-fuzz >/dev/null || { echo "AFL++ is missing: apt-get install afl++" >&2; exit 1; }
export AFL_NO_UI=1 AFL_NO_AFFINITY=1 AFL_SKIP_CPUFREQ=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1
name=h5
out=$BUILD/afl/out/$name
mkdir -p "$out"
AFL_AUTORESUME=1 afl-fuzz -V "${FUZZ_SECONDS:-60}" -t 15000 -i "$BUILD/fuzz/seeds/$name" -o "$out" -- \
    "$BUILD/afl/tests/fuzz/fuzz_$name" @@ >"$out/log" 2>&1 || { tail -n 20 "$out/log"; exit 1; }
value() { sed -n "s/^$1 *: //p" "$out/default/fuzzer_stats"; }
last=$(value last_find)
printf '  %-18s %9s runs, %s edges, %s s, the last new path after %s s\n' "$name" "$(value execs_done)" \
    "$(value edges_found)" "$(value run_time)" "$((last ? last - $(value start_time) : 0))"
[ "$(value saved_crashes)" = 0 ] && [ "$(value saved_hangs)" = 0 ] || { echo "FAILED $name: see $out"; exit 1; }
