# Shared by the command-line tests: `load common` first. STRATA is the program under test; each test runs in a folder of
# its own, without a default model.
bats_require_minimum_version 1.5.0
ROOT=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
STRATA=$(realpath "${STRATA:-$ROOT/build/strata}")
TINY=$ROOT/data/tiny
PROMPT="The Eiffel Tower is in the city of"
unset STRATA_MODEL STRATA_ISA

here() {
    mkdir "$BATS_TEST_TMPDIR/here"
    cd "$BATS_TEST_TMPDIR/here"
}

setup() {
    here
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

# torture KIND [OPTION...]: kills and resumes; KILL_SEED=N repeats a run.
torture() {
    python3 "$ROOT/tests/durability/torture.py" --strata "$STRATA" \
        ${KILL_SEED:+--seed "$KILL_SEED"} "$@"
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

# refute COMMAND...: it fails. (A failing `! COMMAND`, or `A && B` whose A is false, does not end a test.)
refute() {
    if "$@"; then
        echo "not expected to succeed: $*"
        return 1
    fi
}

# same_h5 A B OBJECT...: equal to the last bit, of the same shapes: h5diff alone passes over what it cannot compare.
same_h5() {
    local a=$1 b=$2 object said
    shift 2
    for object; do
        said=$(h5diff "$a" "$b" "$object" 2>&1) && [[ $said != *"not comparable"* ]] ||
            { echo "$a and $b differ in $object: $said"; return 1; }
    done
}

# not_under_asan [REASON]
not_under_asan() {
    if grep -q __asan_init "$STRATA"; then
        skip "${1:-a preloaded library does not go with the address sanitizer}"
    fi
}

# traceable: skips where system calls cannot be recorded, or made to fail.
traceable() {
    not_under_asan "the leak checker does not run under strace"
    python3 "$ROOT/tests/faults/injected_io.py" || skip "strace may not trace here"
}

# wrong_blas INNER: makes wrong.so, to be preloaded: sgemm with a wrong first number wherever the inner size is INNER
# (0: always).
wrong_blas() {
    not_under_asan
    cat >wrong.c <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
typedef void gemm(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int);
gemm cblas_sgemm;
void cblas_sgemm(int order, int a_trans, int b_trans, int m, int n, int k, float alpha, const float *a, int lda,
                 const float *b, int ldb, float beta, float *c, int ldc)
{
    gemm *right = (gemm *)dlsym(RTLD_NEXT, "cblas_sgemm");
    right(order, a_trans, b_trans, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    if (!INNER || k == INNER)
        c[0] = c[0] * 1.01f + 0.01f;
}
END
    ${CC:-cc} -shared -fPIC -DINNER="$1" -o wrong.so wrong.c -ldl
}
