load common

# A quick sample of what `make faults` does in full: allocations and system calls that fail in the middle of commands.
# A failure prints the seed: FAULTS_SEED=N repeats it.

faults() {
    echo "FAULTS_SEED=${FAULTS_SEED:=$RANDOM}"
    python3 "$ROOT/tests/faults/faults.py" --seed "$FAULTS_SEED" --preload "$ROOT/$BUILD/tests/faults/fail_alloc.so" "$@"
}

setup_file() {
    export STRATA
}

@test "allocations that fail: one line, no half file, nothing lost" {
    if grep -q __asan_init "$STRATA"; then
        skip "a preloaded library does not go with the address sanitizer"
    fi
    BUILD=${BUILD:-build}
    [ -e "$ROOT/$BUILD/tests/faults/fail_alloc.so" ] || skip "tests/faults/fail_alloc.so is not built"
    faults alloc --sample 5 --cases info,tokenize,run_edits,lens_h5,dump_folder,trace,knockout
}

@test "system calls that fail: one line, no half file, --resume goes on" {
    if grep -q __asan_init "$STRATA"; then
        skip "the leak checker does not run under strace"
    fi
    python3 "$ROOT/tests/faults/injected_io.py" || skip "strace may not trace here"
    BUILD=${BUILD:-build} faults io --sample 5 --cases run_file,lens_csv,lens_h5,dump_many,dump_folder,trace,knockout
}
