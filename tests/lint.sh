#!/usr/bin/env bash
# Warnings as errors on gcc and clang, format, cppcheck, static analysers; quiet unless something is wrong.
set -eu
cd "$(dirname "$0")/.."
tests/deps.sh lint
jobs=$(nproc)
for cc in gcc clang; do
    make --no-print-directory -s -j"$jobs" CC=$cc WERROR=1 BUILD=build/lint-$cc objects >/dev/null
    echo "  $cc: no warnings"
done
# Neither ends a test where it is false, unless it is the last command (set -e): a line each, and `refute`.
if grep -nE '^\s+((\[ .*|grep -q.*|cmp .*|\[\[ [^]]*\]\]) && (\[|grep|!|cmp)|! )' tests/cli/*.bats |
    grep -vE '\|\||&& (break|continue|return|skip)'; then
    echo "  tests/cli: these checks cannot fail"
    exit 1
fi
files=$(git ls-files '*.c' '*.h')
clang-format --dry-run -Werror $files
echo "  clang-format: clean"
cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 -j "$jobs" \
    -I. -DISA=base -DREAL_BITS=32 --suppress=missingIncludeSystem --suppressions-list=tests/cppcheck.txt core probes analyses
echo "  cppcheck: clean"
# What reads untrusted files; `make tidy` takes all, and some minutes.
tests/analyse.sh $(git ls-files core/{base,formats,model,query,store,tokenizer}/'*.c')
