#!/usr/bin/env bash
# gcc -fanalyzer and clang-tidy (.clang-tidy) over the C files given, or all of the program's. Prints what they find, less
# what tests/analyser.txt explains; exit status 1 where anything is left.
set -eu
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- $(git ls-files 'core/*.c' 'probes/*.c' 'analyses/*.c')
export FLAGS="-std=c11 -D_POSIX_C_SOURCE=200809L -D_GNU_SOURCE= -I. -DSTRATA_VERSION=\"x\" -DISA=base -DREAL_BITS=32 $(
    pkg-config --cflags openblas hdf5 libpcre2-8 libutf8proc jansson libcrypto | sed 's/-I/-isystem /g')"
found=$(mktemp)
trap 'rm -f "$found"' EXIT

# One tool over one file. The definitions of what analyser.h redefines are read without it.
analyse() {
    local include="-include tests/analyser.h"
    case $2 in
    core/base/err.c) include= ;;
    esac
    case $1 in
    gcc) gcc -fanalyzer $FLAGS $include -O1 -S -o /dev/null "$2" 2>&1 ;;
    clang-tidy) clang-tidy -quiet "$2" -- $FLAGS $include 2>/dev/null ;;
    esac | grep -E ': (warning|error|fatal error):' | sed "s#^$PWD/##; s#^\./##"
}
export -f analyse

for tool in gcc clang-tidy; do
    printf '%s\n' "$@" | xargs -P "$(nproc)" -I{} bash -c 'analyse "$@" || true' - $tool {} >>"$found"
    left=$(sed -E 's/^([^:]+):[0-9]+:[0-9]+: /\1: /' "$found" | sort -u | grep -vxFf <(grep -v '^#' tests/analyser.txt) || true)
    if [ -n "$left" ]; then
        echo "$tool finds:"
        sort -u "$found" | grep -E "$(cut -d: -f1 <<<"$left" | sort -u | paste -sd'|')" | sed 's/^/    /'
        exit 1
    fi
    echo "  $tool: nothing found"
done
