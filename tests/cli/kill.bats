load common

# SIGKILL at random moments: the partial file opens, holds whole prompts with the right numbers, and --resume ends
# with the datasets of a run that was never interrupted.

setup_file() {
    export SITES=resid_post,z,pattern
    export WORK=$BATS_FILE_TMPDIR
    cat "$ROOT"/data/facts/[a-c]*.jsonl >"$WORK/facts.jsonl"
    local start=$(date +%s%N)
    "$STRATA" dump --quiet -m "$TINY" -i "$WORK/facts.jsonl" --sites $SITES --flush 0 -o "$WORK/whole.h5"
    export TAKES_MS=$((($(date +%s%N) - start) / 1000000))
}

# Replaces the (sub)shell, so that its process number is the program's.
dump_again() {
    exec "$STRATA" dump --quiet -m "$TINY" -i "$WORK/facts.jsonl" --sites $SITES --flush 0 -o "$WORK/killed.h5" --resume
}

# What is there must be right: whole prompts, all of their rows, the same numbers.
check_partial() {
    h5ls -r "$WORK/killed.h5.partial" >/dev/null
    run --separate-stderr "$STRATA" diff --json "$WORK/killed.h5.partial" "$WORK/whole.h5"
    python3 - "$output" <<'PY'
import json, sys
d = json.loads(sys.argv[1])
assert d["prompts"] > 0 and d["prompts_only_a"] == d["prompts_other"] == d["rows_only_a"] == d["rows_only_b"] == 0, d
assert all(s["within"] and s["n"] > 0 for s in d["sites"]), d
PY
}

compare_complete() {
    strata diff "$WORK/killed.h5" "$WORK/whole.h5"
    expect 0
    for group in activations prompts tokens rows; do
        h5diff "$WORK/killed.h5" "$WORK/whole.h5" /$group
    done
}

@test "SIGKILL at 20 random moments" {
    seed=${KILL_SEED:-$RANDOM}
    echo "KILL_SEED=$seed"
    RANDOM=$seed
    partials=0 completed=0
    for kill in {1..20}; do
        dump_again &
        child=$!
        pause=$((TAKES_MS / 4 + RANDOM % TAKES_MS))
        sleep $((pause / 1000)).$(printf %03d $((pause % 1000)))
        kill -KILL $child 2>/dev/null || true
        wait $child 2>/dev/null || true
        if [ -e "$WORK/killed.h5.partial" ]; then
            partials=$((partials + 1))
            check_partial
        elif [ -e "$WORK/killed.h5" ]; then
            completed=$((completed + 1))
            compare_complete
            rm "$WORK/killed.h5"
        fi
    done
    echo "$partials partial files, $completed completed before the kill"
    (dump_again)
    compare_complete
    [ $((partials + completed)) -gt 0 ]
    rm -f "$WORK"/killed.h5*
}

@test "SIGTERM flushes, exits 130 and says how to go on" {
    dump_args=(--quiet -m "$TINY" -i "$WORK/facts.jsonl" --sites $SITES -o "$WORK/killed.h5")
    for try in {1..20}; do
        "$STRATA" dump "${dump_args[@]}" 2>"$WORK/said" &
        child=$!
        pause=$((TAKES_MS * (try % 10 + 1) / 12))
        sleep $((pause / 1000)).$(printf %03d $((pause % 1000)))
        kill -TERM $child 2>/dev/null || true
        status=0
        wait $child || status=$?
        [ ! -e "$WORK/killed.h5.starting" ] || [ $status = 143 ] # before main ran
        [ $status = 130 ] && [ -e "$WORK/killed.h5.partial" ] && break
        rm -f "$WORK"/killed.h5*
    done
    [ $status = 130 ]
    grep -q "killed.h5.partial holds .* of .* prompts: go on with --resume" "$WORK/said"
    [ "$(wc -l <"$WORK/said")" = 1 ]
    check_partial
    strata dump "${dump_args[@]}" --resume
    expect 0
    compare_complete
    rm -f "$WORK"/killed.h5*
}

@test "two processes cannot write one file" {
    # The lock is a plain flock, so another program can stand in for the first process.
    exec 9>"$WORK/killed.h5.lock"
    flock 9
    strata dump -m "$TINY" -i "$WORK/facts.jsonl" --sites z -o "$WORK/killed.h5"
    exec 9>&-
    expect 1 "killed.h5: another process is writing it"
    [ ! -e "$WORK/killed.h5" ]
    # A lock file that a killed process left is no obstacle.
    touch "$WORK/killed.h5.lock"
    strata dump -m "$TINY" -i "$WORK/facts.jsonl" --sites z -o "$WORK/killed.h5"
    expect 0
    [ ! -e "$WORK/killed.h5.lock" ]
    rm -f "$WORK"/killed.h5*
}
