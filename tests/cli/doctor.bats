load common

@test "all is well here" {
    strata doctor
    expect 0
    for name in "instruction set" BLAS kernels threads memory disk HDF5 gnuplot fonts model; do
        grep -qE "^(ok|warn) +$name " <<<"$output"
    done
    grep -qE '^ok +BLAS .*self-test passed' <<<"$output"
    grep -qE '^ok +kernels +self-test passed: products, .*softmax.*the lens' <<<"$output"
    grep -qE '^ok +HDF5 .*read back' <<<"$output"
}

@test "JSON has the same checks" {
    strata doctor --json
    expect 0
    check 'd["ok"] and {c["name"] for c in d["checks"]} >= {"BLAS", "kernels", "HDF5", "gnuplot", "fonts", "disk", "memory"}'
    check 'all(c["status"] in ("ok", "warn", "fail") for c in d["checks"])'
}

@test "without gnuplot it warns and says what to install" {
    mkdir bin
    run --separate-stderr env PATH="$PWD/bin" "$STRATA" doctor
    expect 0
    grep -qE '^warn +gnuplot +not found: .*gnuplot-nox' <<<"$output"
}

@test "a gnuplot that fails is a warning with what it said" {
    mkdir bin
    printf '#!/bin/sh\necho no terminal >&2\nexit 1\n' >bin/gnuplot
    chmod +x bin/gnuplot
    run --separate-stderr env PATH="$PWD/bin:$PATH" "$STRATA" doctor
    expect 0
    grep -qE '^warn +gnuplot .*no terminal' <<<"$output"
}

@test "what is essential and missing is a failure, exit 1" {
    run --separate-stderr env TMPDIR=/nowhere "$STRATA" doctor
    expect 1 "temporary files"
    grep -qE '^fail +temporary files .*/nowhere: set TMPDIR' <<<"$output"
    one_line
    strata doctor -m /nowhere/model.gguf --json
    expect 1
    check 'not d["ok"] and [c["name"] for c in d["checks"] if c["status"] == "fail"] == ["model"]'
}

@test "nothing is left behind" {
    mkdir tmp
    run --separate-stderr env TMPDIR="$PWD/tmp" "$STRATA" doctor
    expect 0
    [ -z "$(ls -A tmp)" ]
    [ "$(ls)" = tmp ]
}

@test "a BLAS that computes wrong products is a failure, and nothing runs on it" {
    wrong_blas 0
    run --separate-stderr env LD_PRELOAD="$PWD/wrong.so" "$STRATA" doctor
    expect 1 "BLAS"
    grep -qE '^fail +BLAS ' <<<"$output"
    run --separate-stderr env LD_PRELOAD="$PWD/wrong.so" "$STRATA" run -m "$TINY" "$PROMPT"
    expect 1 "BLAS"
    one_line
    [ -z "$output" ]
}

# The oracle of GELU's vector kernel is the C library's tanh: with another one, one of the two is wrong.
@test "a kernel that computes wrong numbers is a failure, and nothing runs on it" {
    not_under_asan
    cat >wrong.c <<'END'
double tanh(double x);
double tanh(double x)
{
    return x / (1 + (x < 0 ? -x : x));
}
END
    ${CC:-cc} -shared -fPIC -o wrong.so wrong.c
    run --separate-stderr env LD_PRELOAD="$PWD/wrong.so" "$STRATA" doctor
    expect 1 "kernels"
    grep -qE '^fail +kernels +activation GELU \(tanh\): wrong numbers here \(instruction set ' <<<"$output"
    run --separate-stderr env LD_PRELOAD="$PWD/wrong.so" "$STRATA" run -m "$TINY" "$PROMPT"
    expect 1 "activation GELU (tanh): wrong numbers here" "STRATA_ISA"
    one_line
    [ -z "$output" ]
}
