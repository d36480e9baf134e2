load common

# Sweeps over facts: killed and interrupted runs resume, with the same command only, to the bytes of a run that was never
# interrupted.

setup_file() {
    export WORK=$BATS_FILE_TMPDIR
    cat "$ROOT"/data/facts/[a-c]*.jsonl | head -n 400 >"$WORK/facts.jsonl"
}

# sweep COMMAND OUT [OPTION...]: replaces the (sub)shell, so that its process number is the program's.
sweep() {
    local command=$1 out=$2
    shift 2
    exec "$STRATA" "$command" --quiet -t 1 -m "$TINY" -i "$WORK/facts.jsonl" --all -o "$out" "$@"
}

# same A B: every dataset and attribute but the root's, which tell the command and the time.
same() {
    local name names=$(h5ls "$1" | cut -d' ' -f1)
    [ -n "$names" ] && [ "$names" = "$(h5ls "$2" | cut -d' ' -f1)" ]
    for name in $names; do
        h5diff "$1" "$2" "/$name" || { echo "$1 and $2 differ in $name"; return 1; }
    done
}

# killed COMMAND TIMES [OPTION...]: kills it as often at random moments, resumes, and compares.
killed() {
    local command=$1 times=$2 start pause takes child kept=0
    shift 2
    start=$(date +%s%N)
    (sweep "$command" whole.h5 "$@")
    takes=$((($(date +%s%N) - start) / 1000000))
    seed=${KILL_SEED:-$RANDOM}
    echo "KILL_SEED=$seed"
    RANDOM=$seed
    for ((i = 0; i < times; i++)); do
        sweep "$command" killed.h5 "$@" --resume &
        child=$!
        pause=$((takes / 4 + RANDOM % takes))
        sleep $((pause / 1000)).$(printf %03d $((pause % 1000)))
        kill -KILL $child 2>/dev/null || true
        wait $child 2>/dev/null || true
        if [ -e killed.h5.journal ]; then
            kept=$((kept + 1))
        elif [ -e killed.h5 ]; then
            same killed.h5 whole.h5
            rm killed.h5
        fi
    done
    echo "$kept journals after $times kills, $takes ms uninterrupted"
    [ $kept -gt 0 ]
    (sweep "$command" killed.h5 "$@" --resume)
    same killed.h5 whole.h5
    [ ! -e killed.h5.journal ] && [ ! -e killed.h5.lock ]
}

# stopped COMMAND [OPTION...]: SIGINT with something kept in OUT.journal.
stopped() {
    local command=$1 child
    shift
    for try in {1..10}; do
        rm -f cut.h5 cut.h5.journal
        "$STRATA" "$command" --quiet -t 1 -m "$TINY" -i "$WORK/facts.jsonl" --all -o cut.h5 "$@" 2>said &
        child=$!
        for wait in {1..500}; do
            [ "$(stat -c %s cut.h5.journal 2>/dev/null || echo 0)" -le 40 ] || break
            sleep 0.01
        done
        kill -INT $child 2>/dev/null || true
        status=0
        wait $child || status=$?
        [ $status != 130 ] || return 0
    done
    echo "never interrupted: status $status, $(cat said)"
    return 1
}

@test "knockout: SIGKILL at 10 random moments" {
    killed knockout 10
}

@test "heads: SIGKILL at random moments" {
    killed heads 4 --no-patterns --counts 1,2 --rank-by effect --mode mean
}

@test "neurons: SIGKILL at random moments" {
    killed neurons 4
}

@test "SIGINT exits 130 and says how to go on; only the same command may" {
    (sweep knockout whole.h5)
    # A shell without job control starts background commands deaf to SIGINT.
    set -m
    stopped knockout
    grep -q "interrupted.*cut.h5.journal holds what is done: go on with --resume" said
    [ "$(wc -l <said)" = 1 ] && [ ! -e cut.h5 ]
    args=(knockout -t 1 -m "$TINY" -i "$WORK/facts.jsonl" --all -o cut.h5)
    strata "${args[@]}"
    expect 1 "cut.h5.journal: an interrupted run left it: continue it with --resume, or remove it"
    one_line
    for other in "--window 1" "--spare-first" "--limit 3" "--seed 9" "--precision f64"; do
        strata "${args[@]}" $other --resume
        expect 1 "cut.h5.journal: of another command, model, input or machine"
        one_line
    done
    # The journal is as it was: the right command still goes on.
    strata "${args[@]}" --quiet --resume
    expect 0
    same cut.h5 whole.h5
    [ ! -e cut.h5.journal ]
}

@test "a changed input is another input" {
    cp "$WORK/facts.jsonl" mine.jsonl
    set -m
    for try in {1..10}; do
        rm -f a.h5 a.h5.journal
        "$STRATA" neurons --quiet -t 1 -m "$TINY" -i mine.jsonl --all -o a.h5 2>said &
        child=$!
        for wait in {1..500}; do
            [ "$(stat -c %s a.h5.journal 2>/dev/null || echo 0)" -le 40 ] || break
            sleep 0.01
        done
        kill -INT $child 2>/dev/null || true
        status=0
        wait $child || status=$?
        [ $status != 130 ] || break
    done
    [ $status = 130 ]
    tail -n +2 "$WORK/facts.jsonl" >mine.jsonl
    strata neurons -t 1 -m "$TINY" -i mine.jsonl --all -o a.h5 --resume
    expect 1 "a.h5.journal: of another command, model, input or machine"
}

@test "what cannot be resumed is refused at once, and nothing is left behind" {
    strata knockout -m "$TINY" -i "$WORK/facts.jsonl" --resume
    expect 2 "--resume"
    strata heads -m "$TINY" -i - -o out.h5 --resume </dev/null
    expect 2 "--resume -i -: only a file can be read again"
    for command in knockout heads neurons causal lens trace; do
        strata $command -m "$TINY" "$PROMPT" --limit 3
        expect 2 "--limit goes with -i"
    done
    strata neurons -m "$TINY" -i "$WORK/facts.jsonl" -o nowhere/out.h5
    expect 1 "nowhere/out.h5: cannot create"
    one_line
    echo '{"prompt": "a b", "subject": "zebra"}' >bad.jsonl
    for command in knockout heads neurons; do
        strata $command -m "$TINY" -i bad.jsonl -o out
        expect 1 "zebra"
        [ -z "$(ls -d out* 2>/dev/null)" ]
    done
}
