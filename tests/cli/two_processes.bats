load common

# Two processes on one output: the second refuses with one line, the first ends unharmed. And readers of a file that is
# being written.

export SOURCE_DATE_EPOCH=0

setup() {
    mkdir "$BATS_TEST_TMPDIR/here"
    cd "$BATS_TEST_TMPDIR/here"
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

@test "the second process refuses, also to resume, and the first ends as if alone" {
    jobs=()
    together() {
        pair "$@" >"pair-${#jobs[@]}" 2>&1 3>&- &
        jobs+=($!)
    }
    together out.h5 dump --sites z
    together out/ dump --sites z
    together out.h5 lens
    together out.csv lens
    together out.h5 causal --all --samples 2
    together out causal --all --samples 2 --no-plots
    together out.h5 knockout --all
    together out knockout --all --no-plots
    together out.h5 heads --all
    together out.h5 neurons --all
    together out.h5 trace
    together out trace --each --no-plots
    together out.json run
    together out.json tokenize
    failed=0
    for i in "${!jobs[@]}"; do
        wait "${jobs[i]}" || { cat "pair-$i"; failed=1; }
    done
    [ $failed = 0 ]
}

@test "the lock is a plain flock, of every command that writes" {
    "$STRATA" lens --quiet -m "$TINY" -i facts.jsonl -o l.h5
    "$STRATA" dump --quiet -m "$TINY" -i facts.jsonl --sites z -o d.h5
    echo '{"format": "strata-experiment", "version": 1, "prompts": [{"name": "a", "prompt": "The sky is"}],
           "variants": [{"name": "b", "edits": ["mlp_out:1 zero"]}]}' >e.json
    one=(-m "$TINY" "$PROMPT" --subject "Eiffel Tower")
    jobs=()
    locked() {
        (
            mkdir "lock-$BASHPID" && cd "lock-$BASHPID"
            exec 9>"${1%/}.lock"
            flock 9
            # And nothing else is there afterwards.
            second "$@" && [ "$(ls)" = "$(printf '%s\n' "${1%/}.lock" said.two)" ]
        ) >"locked-${#jobs[@]}" 2>&1 3>&- &
        jobs+=($!)
    }
    locked out.h5 patch "${one[@]}" --from "The Colosseum is in the city of"
    locked out.json patch "${one[@]}" --from "The Colosseum is in the city of"
    locked out trace "${one[@]}"
    locked out/ knockout "${one[@]}"
    locked out.csv heads "${one[@]}"
    locked out.h5 neurons "${one[@]}"
    locked out causal "${one[@]}"
    locked out.h5 experiment ../e.json -m "$TINY"
    locked out.csv experiment ../e.json -m "$TINY"
    locked out curves ../l.h5
    locked out.csv curves ../l.h5
    locked out.json diff ../d.h5 ../d.h5
    locked out.json run -m "$TINY" "$PROMPT"
    locked out.txt tokenize -m "$TINY" "$PROMPT"
    locked out.json info "$TINY"
    locked out.txt sites -m "$TINY"
    locked out.txt verify "$TINY"
    locked out.txt doctor
    failed=0
    for i in "${!jobs[@]}"; do
        wait "${jobs[i]}" || { cat "locked-$i"; failed=1; }
    done
    [ $failed = 0 ]
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
    "$STRATA" dump "${args[@]}" --sites z --flush 0 -o d.h5 3>&- &
    dump=$!
    "$STRATA" lens "${args[@]}" -o l.h5 3>&- &
    lens=$!
    reads=0
    # reader PID COMMAND...: until the writer is done, it finds no file yet, or no longer, or reads it.
    reader() {
        local writer=$1 status
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
    }
    reader $dump "$STRATA" diff --json d.h5.partial whole.h5
    reader $lens "$STRATA" curves l.h5.partial --json
    [ $reads -gt 0 ]
}
