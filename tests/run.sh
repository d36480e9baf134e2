#!/usr/bin/env bash
# Runs every test program and the command-line tests, JOBS at a time (one per processor); prints failures and, last,
# "N passed, N failed[, N skipped]". SKIP="a.bats ..." leaves files out.
set -u
cd "$(dirname "$0")/.."
export STRATA=${STRATA:-build/strata} BUILD=${BUILD:-build}
STRATA=$(realpath "$STRATA")
log=$(mktemp -d)
export log
trap 'rm -rf "$log"' EXIT

# Counts TAP lines into $log/counts; shows what failed and what was skipped. $1: name, $2: TAP file, $3: exit status,
# $4: seconds
count() {
    local ok not_ok skip
    skip=$(grep -ciE '^(not )?ok .*# skip' "$2") # cmocka writes "not ok", bats "ok"
    ok=$(grep -E '^ok ' "$2" | grep -civE '# skip')
    not_ok=$(grep -E '^not ok ' "$2" | grep -civE '# skip')
    if [ "$3" -ne 0 ] && [ "$not_ok" -eq 0 ]; then
        not_ok=1
        echo "FAILED $1: exit status $3"
    fi
    if [ "$not_ok" -ne 0 ]; then
        echo "FAILED $1"
        tail -n 60 "$2" | sed 's/^/    /'
    fi
    grep -iE '^(not )?ok .*# skip' "$2" | sed -E "s/^(not )?ok [0-9]* *-* */skipped: $1: /"
    printf '  %-44s %4d passed %3d failed  %s s\n' "$1" "$ok" "$not_ok" "$4"
    echo "$ok $not_ok $skip" >>"$log/counts"
}

# One program or .bats file; its lines appear together.
run_one() {
    local name start=$SECONDS status
    name=$(basename "$1")
    if [[ $name == *.bats ]]; then
        bats --tap "$1" >"$log/$name.tap" 2>&1 </dev/null
    else
        CMOCKA_MESSAGE_OUTPUT=TAP "$1" >"$log/$name.tap" 2>"$log/$name.err" </dev/null
    fi
    status=$?
    [ ! -e "$log/$name.err" ] || cat "$log/$name.err" >>"$log/$name.tap"
    (flock 9; count "$name" "$log/$name.tap" $status $((SECONDS - start))) 9>"$log/lock"
}
export -f count run_one

# The command-line tests first: the longest are among them.
tests=()
for file in $(wc -c tests/cli/*.bats | sort -rn | grep -o 'tests/cli/.*'); do
    if [[ " ${SKIP:-} " == *" $(basename "$file") "* ]]; then
        echo "  $(basename "$file"): left out (SKIP)"
    else
        tests+=("$file")
    fi
done
for kind in unit golden fuzz; do
    for test in "$BUILD"/tests/$kind/*; do
        [ -f "$test" ] && [ -x "$test" ] && tests+=("$test")
    done
done
printf '%s\0' "${tests[@]}" | xargs -0 -n 1 -P "${JOBS:-$(nproc)}" bash -c 'run_one "$1"' run_one
[ "$(wc -l <"$log/counts")" = ${#tests[@]} ] || echo "- 1 -" >>"$log/counts" # a runner died
echo
awk '{ p += $1; f += $2; s += $3 }
     END { printf "%d passed, %d failed%s\n", p, f, s ? ", " s " skipped" : ""; exit f > 0 }' "$log/counts"
