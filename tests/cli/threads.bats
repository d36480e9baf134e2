load common

# Threads: the same numbers whatever their number, and an end in bounded time when a signal comes in the middle of a pass.

setup_file() {
    cat "$ROOT"/data/facts/[a-c]*.jsonl | head -n 24 >"$BATS_FILE_TMPDIR/facts.jsonl"
}

# results T: what the commands say with T threads, a folder.
results() {
    local t=$1 fact=("$PROMPT" --subject "Eiffel Tower" --answer Paris) facts=(-i "$BATS_FILE_TMPDIR/facts.jsonl")
    mkdir "$t"
    "$STRATA" dump --quiet -t "$t" -m "$TINY" "${facts[@]}" --sites '*' --limit 6 -o "$t/dump.h5"
    "$STRATA" lens --quiet -t "$t" -m "$TINY" "${facts[@]}" --positions all -o "$t/lens.csv"
    "$STRATA" lens --quiet -t "$t" -m "$TINY" "${facts[@]}" --site heads -o "$t/heads.csv"
    "$STRATA" knockout --quiet -t "$t" -m "$TINY" "${facts[@]}" --all -o "$t/knockout.json"
    "$STRATA" heads --quiet -t "$t" -m "$TINY" "${facts[@]}" --all -o "$t/attribution.csv"
    "$STRATA" causal --quiet -t "$t" -m "$TINY" "${fact[@]}" --samples 2 -o "$t/causal.json"
    "$STRATA" trace --quiet -t "$t" -m "$TINY" "${fact[@]}" --json --no-plots -o "$t/trace" >"$t/trace.json"
}

# agree A B: bytes where products are Strata's own; the contract's 1e-5 a site where OpenBLAS's may part the work otherwise.
agree() {
    local file
    strata diff --tolerance 1e-5 "$1/dump.h5" "$2/dump.h5"
    expect 0
    [ "$(uname -m)" = x86_64 ] || return 0
    same_h5 "$1/dump.h5" "$2/dump.h5" /activations
    for file in lens.csv heads.csv knockout.json attribution.csv causal.json trace/stages.csv; do
        [ -s "$1/$file" ]
        cmp "$1/$file" "$2/$file"
    done
}

@test "1, 2 and 4 threads give the same bytes" {
    for isa in base v4; do
        mkdir "$isa"
        pushd "$isa"
        export STRATA_ISA=$isa
        for t in 1 2 4; do
            results $t
        done
        agree 1 2
        agree 1 4
        mv 4 first
        results 4
        agree first 4
        popd
    done
}

@test "in double, 1 and 4 threads agree to 1e-12" {
    for t in 1 4; do
        "$STRATA" dump --quiet -t $t -m "$TINY" -i "$BATS_FILE_TMPDIR/facts.jsonl" --sites '*' --limit 6 --precision f64 \
            --dtype f64 -o $t.h5
    done
    strata diff --tolerance 1e-12 1.h5 4.h5 --json
    expect 0
    check 'len(d["sites"]) > 50 and all(s["relative"] < 1e-12 for s in d["sites"])'
}

@test "golden references under another core type, instruction set and number of threads" {
    (cd "$ROOT" && [ -x "$BUILD/tests/golden/test_models" ]) || skip "no build of the tests"
    run "$ROOT/tests/stress.sh" slice
    echo "$output"
    [ "$status" -eq 0 ]
}

@test "the program has the threads it was told to have, and BLAS none" {
    mkfifo never
    exec 9<>never
    for t in 1 3; do
        "$STRATA" run --quiet -t $t -m "$TINY" -i - <never >out 9<&- &
        pid=$!
        for wait in {1..200}; do
            grep -q model.safetensors /proc/$pid/maps && break
            sleep 0.02
        done
        sleep 0.1
        n=$(grep ^Threads: /proc/$pid/status | tr -dc 0-9)
        kill -TERM $pid
        wait $pid || true
        echo "$n threads of $t"
        [ "$n" = $t ]
    done
}

# slow_blas SECONDS: makes slow.so, to be preloaded: attention's products of queries and keys (24 numbers a head in the
# tiny model) take that long, also where a signal comes.
slow_blas() {
    not_under_asan
    cat >slow.c <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>
typedef void gemm(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int);
gemm cblas_sgemm;
void cblas_sgemm(int order, int a_trans, int b_trans, int m, int n, int k, float alpha, const float *a, int lda,
                 const float *b, int ldb, float beta, float *c, int ldc)
{
    struct timespec left = { .tv_sec = (time_t)SECONDS, .tv_nsec = (long)(1e9 * (SECONDS - (time_t)SECONDS)) };
    if (k == 24) {
        close(open("inside", O_CREAT | O_WRONLY, 0600));
        while (nanosleep(&left, &left))
            ;
    }
    ((gemm *)dlsym(RTLD_NEXT, "cblas_sgemm"))(order, a_trans, b_trans, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
END
    ${CC:-cc} -shared -fPIC -DSECONDS="$1" -o slow.so slow.c -ldl
}

# in_a_product COMMAND...: starts it in the background, $pid, and waits until it is inside a product.
in_a_product() {
    rm -f inside
    set -m # a shell without job control starts background commands deaf to SIGINT
    LD_PRELOAD=$PWD/slow.so "$STRATA" "$@" >/dev/null 2>said &
    pid=$!
    for wait in {1..500}; do
        [ ! -e inside ] || return 0
        sleep 0.02
    done
    echo "never inside a product: $(cat said)"
    return 1
}

@test "SIGINT in the middle of a pass ends it" {
    slow_blas 0.3
    # A pass is 6 layers of 4 heads, 7 s for each prompt; within one layer is 1.2 s.
    for command in "run -m $TINY abc" "lens -m $TINY abc" \
        "dump -m $TINY -i $BATS_FILE_TMPDIR/facts.jsonl --limit 1 --sites resid_post -o out.h5" \
        "knockout -m $TINY -i $BATS_FILE_TMPDIR/facts.jsonl --limit 1 --all -o out.h5"; do
        in_a_product $command --quiet -t 1
        start=$(date +%s%N)
        kill -INT $pid
        status=0
        wait $pid || status=$?
        took=$((($(date +%s%N) - start) / 1000000))
        echo "$command: status $status after $took ms: $(cat said)"
        [ $status = 130 ]
        [ $took -lt 4000 ]
        grep -q "^strata: interrupted" said
        [ "$(wc -l <said)" = 1 ]
        [ ! -e out.h5 ]
        rm -f out.h5.*
    done
}

@test "a second SIGINT kills at once" {
    slow_blas 60
    in_a_product run -m "$TINY" "$PROMPT" --quiet -t 2
    kill -INT $pid
    sleep 0.3
    kill -0 $pid
    kill -INT $pid
    { sleep 5; kill -KILL $pid; } 2>/dev/null 3>&- &
    status=0
    wait $pid || status=$?
    kill $! || true
    [ $status = 130 ]
    [ ! -s said ]
}
