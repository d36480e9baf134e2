#!/usr/bin/env bash
# What the seeds, the regression files and the corpora of `make fuzz` reach of the parsers, from a COVERAGE=1 build.
set -eu
cd "$(dirname "$0")/../.."
BUILD=${BUILD:-build}
find "$BUILD/coverage" -name '*.gcda' -delete
for source in tests/fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    name=${name#fuzz_}
    find "$BUILD/fuzz/corpus/$name" "$BUILD/fuzz/seeds/$name" "tests/fuzz/regressions/$name" -type f 2>/dev/null | head -n "${MOST:-3000}" |
        xargs -r -n 500 "$BUILD/coverage/tests/fuzz/fuzz_$name"
done
REPORT_ONLY=1 BUILD=$BUILD/coverage tests/coverage.sh
