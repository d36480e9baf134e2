# Shared by the command-line tests: `load common` first. STRATA is the program under test; each test runs in a folder of
# its own, without a default model.
bats_require_minimum_version 1.5.0
ROOT=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
STRATA=$(realpath "${STRATA:-$ROOT/build/strata}")
TINY=$ROOT/data/tiny
PROMPT="The Eiffel Tower is in the city of"
unset STRATA_MODEL STRATA_ISA

setup() {
    mkdir "$BATS_TEST_TMPDIR/here"
    cd "$BATS_TEST_TMPDIR/here"
}

# Runs the program: $status, $output (stdout alone), $stderr.
strata() {
    run --separate-stderr "$STRATA" "$@"
}

# expect STATUS [TEXT...]: the exit status, and each TEXT on stderr; shows both where they differ.
expect() {
    local want=$1 text
    shift
    if [ "$status" -ne "$want" ]; then
        echo "exit status $status, not $want; stderr: $stderr; stdout: ${output:0:500}"
        return 1
    fi
    for text in "$@"; do
        if [[ $stderr != *"$text"* ]]; then
            echo "stderr lacks '$text': $stderr"
            return 1
        fi
    done
}

# One line on stderr, beginning with `strata: `: what a failure prints.
one_line() {
    [ "$(wc -l <<<"$stderr")" -eq 1 ] && [[ $stderr == "strata: "* ]] || { echo "not one line: $stderr"; return 1; }
}

# check EXPRESSION [FILE]: a true Python expression over d, the JSON in $output (a list where there are several lines of
# it), and e, the JSON of a file.
check() {
    printf '%s' "$output" | python3 -c '
import json, math, sys
def parse(text):
    try:
        return json.loads(text)
    except ValueError:
        return [json.loads(line) for line in text.splitlines()]
def near(a, b, relative=1e-5):
    return abs(a - b) <= relative * max(abs(a), abs(b))
text = sys.stdin.read()
d = parse(text)
e = parse(open(sys.argv[2]).read()) if len(sys.argv) > 2 else None
if not eval(sys.argv[1]):
    sys.exit("false: " + sys.argv[1] + "\n" + text[:2000])
' "$@"
}
