load common

# A quick sample of what `make faults` does in full: allocations and system calls that fail in the middle of commands.
# A failure prints the seed: FAULTS_SEED=N repeats it.

faults() {
    echo "FAULTS_SEED=${FAULTS_SEED:=$RANDOM}"
    python3 "$ROOT/tests/faults/faults.py" --seed "$FAULTS_SEED" "$@"
}

setup_file() {
    export STRATA
    # As the Makefile has it, from the root.
    export FAIL_ALLOC=$(cd "$ROOT" && realpath "${BUILD:-build}")/tests/faults/fail_alloc.so
}

@test "allocations that fail: one line, no half file, nothing lost" {
    not_under_asan
    [ -e "$FAIL_ALLOC" ] || skip "tests/faults/fail_alloc.so is not built"
    faults alloc --preload "$FAIL_ALLOC" --sample 5 --cases info,tokenize,run_edits,lens_h5,dump_folder,trace,knockout
}

@test "system calls that fail: one line, no half file, --resume goes on" {
    traceable
    faults io --sample 5 --cases run_file,lens_csv,lens_h5,dump_many,dump_folder,trace,knockout
}
