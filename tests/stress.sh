#!/usr/bin/env bash
# The golden references again under every core type of OpenBLAS and every instruction set of Strata that this processor
# has, with 1, 2 and 4 threads, at the tolerances that always hold. `tests/stress.sh slice`: two combinations without
# the model that is fetched, for CI. `tests/stress.sh Haswell ...`: those core types only.
set -u
cd "$(dirname "$0")/.."
build=${BUILD:-build} log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
flags=" $(sed -n 's/^flags[^:]*://p' /proc/cpuinfo | head -n 1) "

# missing FLAG...: the first that the processor lacks; fails where it has all.
missing() {
    local flag
    for flag; do
        [[ $flags == *" $flag "* ]] || { echo "$flag"; return; }
    done
    return 1
}

# What each core type's kernels need; OpenBLAS takes the name's word for it.
avx512="avx512f avx512cd avx512bw avx512dq avx512vl"
core_types=("Prescott pni" "Nehalem sse4_2" "Sandybridge avx" "Haswell avx2 fma" "Zen avx2 fma" "SkylakeX $avx512"
    "Cooperlake $avx512 avx512_bf16" "Sapphirerapids $avx512 avx512_bf16 amx_tile amx_bf16")
instruction_sets=("base sse2" "v3 avx2 fma bmi2" "v4 $avx512")

cores=() sets=()
if [ "$(uname -m)" = x86_64 ]; then
    for row in "${core_types[@]}"; do
        read -r name needs <<<"$row"
        [ $# -eq 0 ] || [ "$1" = slice ] || [[ " $* " == *" $name "* ]] || continue
        # shellcheck disable=SC2086 # words
        if lacks=$(missing $needs); then
            echo "  left out: core type $name: this processor has no $lacks"
        elif ! OPENBLAS_CORETYPE=$name "$build/strata" --version | grep -qi "(core $name)"; then
            echo "  left out: core type $name: this OpenBLAS has other kernels in its place"
        else
            cores+=("$name")
        fi
    done
    for row in "${instruction_sets[@]}"; do
        read -r name needs <<<"$row"
        # shellcheck disable=SC2086
        if lacks=$(missing $needs); then
            echo "  left out: instruction set $name: this processor has no $lacks"
        else
            sets+=("$name")
        fi
    done
fi
if [ $# -gt 0 ] && [ "$1" != slice ] && [ ${#cores[@]} -eq 0 ]; then
    echo "no such core type here: $*" >&2
    exit 1
fi
[ ${#cores[@]} -gt 0 ] || { cores=("") sets=(base); echo "  core types: OpenBLAS's own choice only"; }

failed=0 ran=0
# references CORE SET THREADS PROGRAM...
references() {
    local core=$1 isa=$2 threads=$3 test start=$SECONDS
    shift 3
    for test; do
        ran=$((ran + 1))
        if ! env ${core:+OPENBLAS_CORETYPE=$core} STRATA_ISA="$isa" TEST_THREADS="$threads" \
            "$build/tests/golden/$test" >"$log/out" 2>&1; then
            failed=$((failed + 1))
            echo "FAILED $test: core type ${core:-own}, instruction set $isa, $threads threads"
            grep -v '  OK \]\|RUN ' "$log/out" | tail -n 20 | sed 's/^/    /'
        fi
    done
    echo "  core type ${core:-own}, instruction set $isa, $threads threads: $*  $((SECONDS - start)) s"
}

if [ "${1:-}" = slice ]; then
    references "${cores[0]}" base 1 test_lens
    references "${cores[${#cores[@]} / 2]}" "${sets[${#sets[@]} / 2]}" 4 test_models
else
    for core in "${cores[@]}"; do
        for isa in "${sets[@]}"; do
            for threads in 1 2 4; do
                references "$core" "$isa" "$threads" test_models test_lens test_smollm2
            done
        done
    done
fi
echo "$ran runs, $failed failed"
[ "$failed" -eq 0 ]
