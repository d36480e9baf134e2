#!/usr/bin/env bash
# Runs every fuzz target for FUZZ_SECONDS on its seeds, its regression files and what earlier runs found
# ($BUILD/fuzz/corpus). An input that fails stays in $BUILD/fuzz/found. Names of targets as arguments: only these.
set -eu
cd "$(dirname "$0")/../.."
BUILD=${BUILD:-build}
failed=
for source in tests/fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    name=${name#fuzz_}
    if [ $# -gt 0 ] && ! printf '%s\n' "$@" | grep -qx "$name"; then
        continue
    fi
    corpus=$BUILD/fuzz/corpus/$name found=$BUILD/fuzz/found/$name log=$BUILD/fuzz/$name.log
    mkdir -p "$corpus" "$found"
    others=("$BUILD/fuzz/seeds/$name")
    [ -d "tests/fuzz/regressions/$name" ] && others+=("tests/fuzz/regressions/$name")
    # 10 s (of CPU time; libFuzzer measures by the clock) and 1 GiB beside libFuzzer's and the sanitizers' own: what the loaders promise for any input.
    if "$BUILD/fuzz/fuzz_$name" -max_total_time="${FUZZ_SECONDS:-60}" -timeout=25 -rss_limit_mb=2048 -malloc_limit_mb=1024 \
        -use_value_profile=1 -print_final_stats=1 -artifact_prefix="$found/" "$corpus" "${others[@]}" >"$log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        coverage=$(grep -oE 'cov: [0-9]+' "$log" | tail -n 1)
        printf '  %-18s %9s runs, %s\n' "$name" "$runs" "$coverage"
    else
        failed="$failed $name"
        echo "FAILED $name: see $log, the input is in $found"
        grep -E 'not so:|ERROR|SUMMARY|runtime error' "$log" | head -n 5 | sed 's/^/    /'
    fi
done
[ -z "$failed" ] || exit 1
