#!/usr/bin/env bash
# Runs every test program and the command-line tests; prints failures and, last, "N passed, N failed[, N skipped]".
set -u
cd "$(dirname "$0")/.."
export STRATA=${STRATA:-build/strata} BUILD=${BUILD:-build}
STRATA=$(realpath "$STRATA")
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
passed=0 failed=0 skipped=0

# Counts TAP lines; shows what failed and what was skipped. $1: name, $2: TAP file, $3: exit status
count() {
    local ok not_ok skip
    skip=$(grep -ciE '^(not )?ok .*# skip' "$2") # cmocka writes "not ok", bats "ok"
    ok=$(grep -E '^ok ' "$2" | grep -civE '# skip')
    not_ok=$(grep -E '^not ok ' "$2" | grep -civE '# skip')
    if [ "$3" -ne 0 ] && [ "$not_ok" -eq 0 ]; then
        not_ok=1
        echo "FAILED $1: exit status $3"
    fi
    passed=$((passed + ok)) failed=$((failed + not_ok)) skipped=$((skipped + skip))
    if [ "$not_ok" -ne 0 ]; then
        echo "FAILED $1"
        tail -n 60 "$2" | sed 's/^/    /'
    fi
    grep -iE '^(not )?ok .*# skip' "$2" | sed -E "s/^(not )?ok [0-9]* *-* */skipped: $1: /"
    printf '  %-44s %4d passed %3d failed  %s s\n' "$1" "$ok" "$not_ok" "$4"
}

for test in $(find "$BUILD/tests/unit" "$BUILD/tests/golden" "$BUILD/tests/fuzz" -maxdepth 1 -type f -perm -u+x | sort); do
    start=$SECONDS
    CMOCKA_MESSAGE_OUTPUT=TAP "$test" >"$log/tap" 2>"$log/err"
    status=$?
    cat "$log/err" >>"$log/tap"
    count "$(basename "$test")" "$log/tap" $status $((SECONDS - start))
done
for file in tests/cli/*.bats; do
    [ -e "$file" ] || continue
    if [[ " ${SKIP:-} " == *" $(basename "$file") "* ]]; then
        echo "  $(basename "$file"): left out (SKIP)"
        continue
    fi
    start=$SECONDS
    bats --tap "$file" >"$log/tap" 2>&1 </dev/null
    count "$(basename "$file")" "$log/tap" $? $((SECONDS - start))
done
echo
if [ "$skipped" -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ]
