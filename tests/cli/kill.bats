load common

# What signals leave: SIGKILL, again and again (tests/durability/torture.py; `make torture` for hundreds), SIGTERM and SIGHUP.

setup_file() {
    export SITES=resid_post,z,pattern
    export WORK=$BATS_FILE_TMPDIR
    cat "$ROOT"/data/facts/[a-c]*.jsonl >"$WORK/facts.jsonl"
    "$STRATA" dump --quiet -m "$TINY" -i "$WORK/facts.jsonl" --sites $SITES --flush 0 -o "$WORK/whole.h5"
}

# What is there must be right: whole prompts, all of their rows, the same numbers.
check_partial() {
    h5ls -r killed.h5.partial >/dev/null
    run --separate-stderr "$STRATA" diff --json killed.h5.partial "$WORK/whole.h5"
    python3 - "$output" <<'PY'
import json, sys
d = json.loads(sys.argv[1])
assert d["prompts"] > 0 and d["prompts_only_a"] == d["prompts_other"] == d["rows_only_a"] == d["rows_only_b"] == 0, d
assert all(s["within"] and s["n"] > 0 for s in d["sites"]), d
PY
}

compare_complete() {
    same_h5 killed.h5 "$WORK/whole.h5" /activations /prompts /tokens /rows
    [ "$(ls)" = killed.h5 ]
}

@test "SIGKILL 20 times: a dump" {
    torture dump --size 0.2
}

@test "SIGKILL 20 times: a dump of shards" {
    torture shards --size 0.3
}

# signalled SIGNAL...: sends them one after the other while a dump runs, until they met one that had flushed something.
signalled() {
    dump_args=(--quiet -m "$TINY" -i "$WORK/facts.jsonl" --sites $SITES -o killed.h5)
    for try in {1..20}; do
        env --default-signal=HUP "$STRATA" dump "${dump_args[@]}" 2>said & # the tests may run under nohup
        child=$!
        for wait in {1..1000}; do
            [ ! -e killed.h5.starting ] && [ ! -e killed.h5 ] || break
            sleep 0.005
        done
        sleep 0.$(printf %02d $((try * 3 - 3))) # from at once to half a second, for slow builds
        for signal; do
            kill -$signal $child 2>/dev/null || true
            sleep 0.005 # two of a kind at once are one
        done
        status=0
        wait $child || status=$?
        # Death by the signal: only before main ran.
        [ $status != 129 ] && [ $status != 143 ] || [ ! -e killed.h5.lock ]
        [ $status = 130 ] && grep -q holds said && break
        rm -f killed.h5*
    done
    [ $status = 130 ]
    grep -q "killed.h5.partial holds .* of .* prompts: go on with --resume" said
    [ "$(wc -l <said)" = 1 ]
    rm said
    check_partial
    strata dump "${dump_args[@]}" --resume
    expect 0
    compare_complete
}

@test "SIGTERM flushes, exits 130 and says how to go on" {
    signalled TERM
}

# A terminal that closes sends it from the kernel and from the shell.
@test "SIGHUP, once or twice, flushes, exits 130 and says how to go on" {
    signalled HUP
    rm killed.h5
    signalled HUP HUP
}

@test "what nohup ignores stays ignored" {
    (trap '' HUP; exec "$STRATA" dump --quiet -m "$TINY" -i "$WORK/facts.jsonl" --sites $SITES -o killed.h5) &
    child=$!
    for wait in {1..500}; do
        [ ! -e killed.h5.lock ] || break
        sleep 0.01
    done
    kill -HUP $child
    status=0
    wait $child || status=$?
    [ $status = 0 ]
    compare_complete
}
