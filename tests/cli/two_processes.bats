load common

# Two processes on one output: the second refuses with one line, the first ends unharmed. And readers of a file that is
# being written.

export SOURCE_DATE_EPOCH=0

setup() {
    here
    head -n 12 "$ROOT/data/facts/country_capital.jsonl" >facts.jsonl
}

listing() {
    find . -path "./$1*" -printf '%p %s\n' | sort
}

# settled OUT: the first process has made what it makes before it waits.
settled() {
    local last= now same=0
    for wait in {1..300}; do
        now=$(listing "$1")
        [ "$now" = "$last" ] && same=$((same + 1)) || same=0
        [ $same -lt 5 ] || return 0
        last=$now
        sleep 0.05
    done
    echo "$1 does not settle"
    return 1
}

# second OUT COMMAND...: refused, with or without --resume where the command has that, and touches nothing.
second() {
    local out=$1 before status=0
    shift
    before=$(listing "$out")
    "$STRATA" "$@" -o "$out" >said.two 2>&1 || status=$?
    if [ $status != 1 ] || [ "$(cat said.two)" != "strata: $out: another process is writing it: wait for it, or choose another output" ]; then
        echo "$* -o $out: status $status: $(cat said.two)"
        return 1
    fi
    [ "$before" = "$(listing "$out")" ] || { echo "$out was touched"; return 1; }
}

# pair OUT COMMAND...: the first process waits for its facts, the second comes meanwhile.
pair() {
    local out=$1 child status=0 plain
    shift
    mkdir "two-$1-${out//\//-}" && cd "two-$1-${out//\//-}"
    cp ../facts.jsonl .
    mkfifo slow
    "$STRATA" "$@" --quiet -m "$TINY" -i - -o "$out" <slow >said.one 2>&1 &
    child=$!
    exec 9>slow
    for wait in {1..1000}; do
        [ ! -e "${out%/}.lock" ] || break
        sleep 0.01
    done
    settled "${out%/}" || return 1
    second "$out" "$@" --quiet -m "$TINY" -i facts.jsonl || return 1
    if "$STRATA" help "$1" | grep -q -- --resume && [ "$out" != "${out%.csv}.csv" ]; then
        second "$out" "$@" --quiet -m "$TINY" -i facts.jsonl --resume || return 1
    fi
    cat facts.jsonl >&9
    exec 9>&-
    wait $child || { echo "$* -o $out: the first: $(cat said.one)"; return 1; }
    [ ! -e "${out%/}.lock" ] || return 1
    # What it wrote is what it writes alone.
    mkdir alone
    (cd alone && "$STRATA" "$@" --quiet -m "$TINY" -i - -o "$out" <../facts.jsonl >/dev/null)
    diff -r "$out" "alone/$out"
}

# locked OUT COMMAND...: another program stands in for the first process.
locked() {
    mkdir "lock-$BASHPID"
    cd "lock-$BASHPID"
    exec 9>"${1%/}.lock"
    flock 9
    second "$@" || return 1
    # And nothing else is there afterwards.
    [ "$(ls)" = "$(printf '%s\n' "${1%/}.lock" said.two)" ]
}

# together FUNCTION ARGUMENT...: beside the others; all_done waits for them, and shows those that failed.
jobs=()
together() {
    "$@" >"job-${#jobs[@]}" 2>&1 3>&- &
    jobs+=($!)
}

all_done() {
    local i failed=0
    for i in "${!jobs[@]}"; do
        wait "${jobs[i]}" || { cat "job-$i"; failed=1; }
    done
    return $failed
}

@test "the second process refuses, also to resume, and the first ends as if alone" {
    together pair out.h5 dump --sites z
    together pair out/ dump --sites z
    together pair out.h5 lens
    together pair out.csv lens
    together pair out.h5 causal --all --samples 2
    together pair out causal --all --samples 2 --no-plots
    together pair out.h5 knockout --all
    together pair out knockout --all --no-plots
    together pair out.h5 heads --all
    together pair out.h5 neurons --all
    together pair out.h5 trace
    together pair out trace --each --no-plots
    together pair out.json run
    together pair out.json tokenize
    all_done
}

@test "the lock is a plain flock, of every command that writes" {
    "$STRATA" lens --quiet -m "$TINY" -i facts.jsonl -o l.h5
    "$STRATA" dump --quiet -m "$TINY" -i facts.jsonl --sites z -o d.h5
    echo '{"format": "strata-experiment", "version": 1, "prompts": [{"name": "a", "prompt": "The sky is"}],
           "variants": [{"name": "b", "edits": ["mlp_out:1 zero"]}]}' >e.json
    one=(-m "$TINY" "$PROMPT" --subject "Eiffel Tower")
    together locked out.h5 patch "${one[@]}" --from "The Colosseum is in the city of"
    together locked out.json patch "${one[@]}" --from "The Colosseum is in the city of"
    together locked out trace "${one[@]}"
    together locked out/ knockout "${one[@]}"
    together locked out.csv heads "${one[@]}"
    together locked out.h5 neurons "${one[@]}"
    together locked out causal "${one[@]}"
    together locked out.h5 experiment ../e.json -m "$TINY"
    together locked out.csv experiment ../e.json -m "$TINY"
    together locked out curves ../l.h5
    together locked out.csv curves ../l.h5
    together locked out.json diff ../d.h5 ../d.h5
    together locked out.json run -m "$TINY" "$PROMPT"
    together locked out.txt tokenize -m "$TINY" "$PROMPT"
    together locked out.json info "$TINY"
    together locked out.txt sites -m "$TINY"
    together locked out.txt verify "$TINY"
    together locked out.txt doctor
    all_done
    # What a killed process left is no obstacle.
    touch out.csv.lock
    strata lens -m "$TINY" -i facts.jsonl -o out.csv
    expect 0
    [ ! -e out.csv.lock ]
}

@test "what is flushed can be read while it is written" {
    for i in {1..4}; do cat "$ROOT"/data/facts/[a-c]*.jsonl; done >many.jsonl
    args=(--quiet -t 1 -m "$TINY" -i many.jsonl)
    "$STRATA" dump "${args[@]}" --sites z -o whole.h5
    # A lens is flushed every 5 s: this one, in the middle of its run, sleeps until that is due.
    cat many.jsonl many.jsonl >more.jsonl
    "$STRATA" lens --quiet -t 1 -m "$TINY" -i more.jsonl -o l.h5 3>&- &
    lens=$! due=$((SECONDS + 6))
    for wait in {1..1000}; do
        [ ! -e l.h5.starting ] || break
        sleep 0.01
    done
    sleep 0.5
    kill -STOP $lens
    "$STRATA" dump "${args[@]}" --sites z --flush 0 -o d.h5 3>&- &
    dump=$!
    # reader PID COMMAND...: until the writer is done, it finds no file yet, or no longer, or reads it.
    reader() {
        local writer=$1 status reads=0
        shift
        while kill -0 $writer 2>/dev/null; do
            status=0
            "$@" >seen 2>said || status=$?
            if [ -s seen ]; then
                reads=$((reads + 1))
            elif ! grep -q "cannot open: No such file" said; then
                echo "status $status: $(cat said)"
                return 1
            fi
        done
        wait $writer
        echo "$reads reads"
        [ $reads -gt 0 ]
    }
    reader $dump "$STRATA" diff --json d.h5.partial whole.h5
    while [ $SECONDS -lt $due ]; do sleep 0.1; done
    kill -CONT $lens
    reader $lens "$STRATA" curves l.h5.partial --json
}
