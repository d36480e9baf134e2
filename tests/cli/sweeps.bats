load common

# Sweeps over facts: killed and interrupted runs resume, with the same command only, to the bytes of a run that was never
# interrupted.

setup_file() {
    export WORK=$BATS_FILE_TMPDIR
    cat "$ROOT"/data/facts/[a-c]*.jsonl | head -n 400 >"$WORK/facts.jsonl"
    many_variants >"$WORK/many.json"
}

# An experiment of some thousand variants of 40 prompts.
many_variants() {
    python3 - "$WORK/facts.jsonl" <<'END'
import itertools, json, sys
facts = [json.loads(line) for line, _ in zip(open(sys.argv[1]), range(40))]
prompts = [{"name": f["id"], **{k: f[k] for k in ("prompt", "subject", "answer")}} for f in facts]
edits = ["%s:%d@%s %s" % x for x in itertools.product(("attn_out", "mlp_out", "resid_post"), range(4),
                                                      ("last", "subject", "non-subject"), ("zero", "scale 2", "add noise:0.3"))]
variants = [{"name": p["name"] + " " + e, "prompt": p["name"], "edits": [e]} for p in prompts for e in edits]
print(json.dumps({"format": "strata-experiment", "version": 1, "prompts": prompts, "variants": variants}))
END
}

# sweep COMMAND OUT [OPTION...]: replaces the (sub)shell, so that its process number is the program's.
sweep() {
    local command=$1 out=$2 over=(-i "$WORK/facts.jsonl")
    shift 2
    case $command in
    experiment) over=("$WORK/many.json") ;;
    trace) ;;
    *) over+=(--all) ;;
    esac
    exec "$STRATA" "$command" --quiet -t 1 -m "$TINY" "${over[@]}" -o "$out" "$@"
}

# same A B: every dataset and attribute but the root's, which tell the command and the time.
same() {
    local name names=$(h5ls "$1" | cut -d' ' -f1)
    [ -n "$names" ]
    [ "$names" = "$(h5ls "$2" | cut -d' ' -f1)" ]
    for name in $names; do
        same_h5 "$1" "$2" "/$name"
    done
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

@test "SIGKILL 20 times, shared out" {
    torture sweeps --size 0.15
}

@test "trace --each: what is finished is skipped, what is missing of it is not" {
    args=(trace --quiet -t 1 -m "$TINY" -i "$WORK/facts.jsonl" --limit 40 --each --no-plots -o each)
    set -m
    for try in {1..10}; do
        rm -rf each each.journal
        "$STRATA" "${args[@]}" >/dev/null 2>said &
        child=$!
        for wait in {1..1000}; do
            [ ! -e each/00003/report.html ] || break
            sleep 0.01
        done
        kill -INT $child 2>/dev/null || true
        status=0
        wait $child || status=$?
        [ $status != 130 ] || break
    done
    [ $status = 130 ]
    grep -q "interrupted.*each.journal holds what is done: go on with --resume" said
    touch -d 2001-01-01 each/0000[01]/report.html
    rm each/00002/report.html
    strata "${args[@]}" --resume
    expect 0
    [ "$(date -r each/00000/report.html +%Y)$(date -r each/00001/report.html +%Y)" = 20012001 ]
    [ "$(ls each/*/report.html | wc -l)" = 40 ]
    [ ! -e each.journal ]
    [ ! -e each.lock ]
}

@test "SIGINT exits 130 and says how to go on; only the same command may" {
    (sweep knockout whole.h5)
    # A shell without job control starts background commands deaf to SIGINT.
    set -m
    stopped knockout
    grep -q "interrupted.*cut.h5.journal holds what is done: go on with --resume" said
    [ "$(wc -l <said)" = 1 ]
    [ ! -e cut.h5 ]
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

@test "a changed vector is another experiment" {
    python3 -c 'print("\x01" * 384, end="")' >x.f32
    sed 's/attn_out:0@last zero"\]/attn_out:0@last add x.f32"]/' "$WORK/many.json" >mine.json
    grep -q 'add x.f32' mine.json
    args=(experiment --quiet -t 1 -m "$TINY" mine.json -o a.h5)
    for try in {1..10}; do
        rm -f a.h5 a.h5.journal
        "$STRATA" "${args[@]}" &
        child=$!
        for wait in {1..500}; do
            [ "$(stat -c %s a.h5.journal 2>/dev/null || echo 0)" -le 40 ] || break
            sleep 0.01
        done
        kill -KILL $child 2>/dev/null || true
        wait $child 2>/dev/null || true
        [ ! -e a.h5 ] || continue
        break
    done
    [ -s a.h5.journal ]
    cp x.f32 same.f32
    python3 -c 'print("\x02" * 384, end="")' >x.f32
    strata "${args[@]}" --resume
    expect 1 "a.h5.journal: of another command, model, input or machine"
    one_line
    cp same.f32 x.f32
    strata "${args[@]}" --resume
    expect 0
    [ -s a.h5 ]
    [ ! -e a.h5.journal ]
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
    for command in knockout heads neurons causal trace "trace --each"; do
        strata $command -m "$TINY" -i bad.jsonl -o out
        expect 1 "zebra"
        [ -z "$(ls -d out* 2>/dev/null)" ]
    done
}

@test "trace --each: a bad fact further on is found before anything runs" {
    { head -n 300 "$WORK/facts.jsonl"; echo '{"prompt": "a b", "subject": "zebra"}'; } >late.jsonl
    strata trace --each -m "$TINY" -i late.jsonl -o out
    expect 1 "late.jsonl: line 301: subject 'zebra' is not in the prompt"
    one_line
    [ -z "$output" ]
    [ -z "$(ls -d out* 2>/dev/null)" ]
}

@test "an input without facts" {
    : >empty.jsonl
    for command in "knockout --all" "heads --all" "neurons --all" "causal --all" trace "trace --each"; do
        strata $command -m "$TINY" -i empty.jsonl -o out
        expect 1 "empty.jsonl: holds no prompts"
        one_line
        [ ! -e out ]
        [ ! -e out.journal ]
        strata $command -m "$TINY" -i - </dev/null
        expect 1 "standard input: holds no prompts"
    done
}

# Before the model is even read: there is none.
@test "an output that cannot be made is said before anything runs" {
    echo x >file
    echo '{}' >empty.json
    for command in knockout heads neurons causal; do
        strata $command -m nowhere "$PROMPT" --subject "Eiffel Tower" -o none/out.h5
        expect 1 "strata: none/out.h5: cannot create: No such file or directory"
        strata $command -m nowhere "$PROMPT" --subject "Eiffel Tower" -o file/out.csv
        expect 1 "strata: file/out.csv: cannot create: Not a directory"
        strata $command -m nowhere "$PROMPT" --subject "Eiffel Tower" -o file/deep/out
        expect 1 "strata: file/deep/out: cannot make the folder: Not a directory"
        strata $command -m nowhere "$PROMPT" --subject "Eiffel Tower" -o file
        expect 1 "strata: file: is there already and is no folder: choose another output"
    done
    strata trace -m nowhere "$PROMPT" -o file
    expect 1 "strata: file: is there already and is no folder"
    strata trace -m nowhere -i "$WORK/facts.jsonl" -o none/trace.h5
    expect 1 "strata: none/trace.h5: cannot create"
    strata patch -m nowhere "$PROMPT" --from "$PROMPT" -o none/patch.json
    expect 1 "strata: none/patch.json: cannot create"
    strata experiment -m nowhere empty.json -o none/result.h5
    expect 1 "strata: none/result.h5: cannot create"
    mkdir folder.csv
    strata experiment -m nowhere empty.json -o folder.csv
    expect 1 "strata: folder.csv: is a folder: choose another output"
    [ ! -e none ]
    [ "$(cat file)" = x ]
    # A folder is made together with those above it.
    strata knockout --quiet -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --no-plots -o new/deep/out/
    expect 0
    [ -s new/deep/out/knockout.h5 ]
}
