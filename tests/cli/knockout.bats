load common

facts() {
    cat <<'END'
{"id": "a", "prompt": "The Eiffel Tower is in the city of", "subject": "Eiffel Tower", "answer": "Paris"}
{"id": "b", "prompt": "The Colosseum is in the city of", "subject": "Colosseum", "answer": "Rome"}
{"id": "c", "prompt": "The Eiffel Tower is in the city of", "subject": "Eiffel Tower", "answer": "Oslo"}
{"id": "d", "prompt": "Hamlet was written by", "subject": "Hamlet"}
END
}

one() {
    strata knockout -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris --window 3 "$@"
}

@test "one fact: a line a layer and a third, within 100 columns" {
    one
    expect 0
    [ -z "$stderr" ]
    [ "$(grep -cE '^ +[0-5]  [0-9]-[0-9] ' <<<"$output")" -eq 6 ]
    [ "$(grep -cE '^ *(early|middle|late) ' <<<"$output")" -eq 3 ]
    [[ $output == *"␣Paris"* || $output == *"Paris (token 1055), p = "*"rank 1"* ]]
    [ "$(awk '{ if (length($0) > most) most = length($0) } END { print most }' <<<"$output")" -le 100 ]
}

@test "JSON: each number is a run with that edit" {
    one --json
    expect 0
    check 'd["format"] == "strata-knockout" and d["norm"] == "lens" and d["window"] == 3 and d["facts_given"] == 1'
    check 'd["blocked_layers"] == [[0,1],[0,2],[1,3],[2,4],[3,5],[4,5]]'
    check 'all(near(d["change_percent"][k]["mean"][l], 100 * (p / d["facts"][0]["base_prob"] - 1), 1e-4)
        for k, ps in d["facts"][0]["prob"].items() for l, p in enumerate(ps))'
    echo "$output" >k.json
    strata run -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris --json \
        --edit 'blocks.1-3.attn.hook_attn_scores@last<-subject block'
    check 'near(d["answer"]["prob"], e["facts"][0]["prob"]["subject"][2], 1e-4)' k.json
    strata run -m "$TINY" "$PROMPT" --answer Paris --json --edit 'blocks.4-5.attn.hook_attn_scores@last<-0,5-8 block'
    check 'near(d["answer"]["prob"], e["facts"][0]["prob"]["non-subject"][5], 1e-4)' k.json
    strata run -m "$TINY" "$PROMPT" --answer Paris --json --edit 'blocks.0-2.attn.hook_attn_scores@last<-4 block'
    check 'near(d["answer"]["prob"], e["facts"][0]["tokens"][4]["prob"][1], 1e-4)' k.json
}

@test "a data set: known facts only, the others counted" {
    facts >f.jsonl
    strata knockout -m "$TINY" -i f.jsonl --json
    expect 0
    check 'd["facts_given"] == 3 and d["prompts_without_answer"] == 1'
    check 'd["facts_known"] == d["facts_measured"] == len(d["facts"]) < 3'
    check 'all(f["base_rank"] == 1 for f in d["facts"])'
    strata knockout -m "$TINY" -i f.jsonl --all --json
    check 'len(d["facts"]) == 3 and d["n_subjects"] == 2 and d["subject_at_0"] == 0'
    check 'all(a <= m <= b for k in d["change_percent"].values() for a, m, b in zip(k["low"], k["mean"], k["high"]))'
    strata knockout -m "$TINY" -i f.jsonl --own --json
    check 'len(d["facts"]) == 4 == d["facts_known"] and d["answer"] == "own"'
    facts | strata knockout -m "$TINY" -i -
    strata knockout -m "$TINY" -i f.jsonl
    [[ $output == *"on rank 1: "*" of 3; the others are left out (--all takes them)"* ]]
    [ "$(wc -l <<<"$output")" -lt 60 ]
    [ "$(awk '{ if (length($0) > most) most = length($0) } END { print most }' <<<"$output")" -le 100 ]
}

@test "CSV has the numbers of JSON; standard input is read twice" {
    facts >f.jsonl
    strata knockout -m "$TINY" -i f.jsonl --all --json
    echo "$output" >k.json
    run --separate-stderr bash -c "'$STRATA' knockout -m '$TINY' -i - --all -o k.csv <f.jsonl"
    expect 0
    python3 - <<'END'
import csv, json
d = json.load(open("k.json"))
rows = list(csv.DictReader(open("k.csv")))
assert len(rows) == 3 * 3 * 6
for f in d["facts"]:
    for r in (r for r in rows if r["fact"] == f["id"]):
        p = f["prob"][r["keys"]][int(r["layer"])]
        assert abs(float(r["prob"]) - p) <= 1e-8 * p, (r, p)
        assert [int(r["first_blocked"]), int(r["last_blocked"])] == d["blocked_layers"][int(r["layer"])]
END
}

@test "a folder: the same bytes twice; numbers without gnuplot" {
    command -v gnuplot >/dev/null || skip "gnuplot is not installed"
    SOURCE_DATE_EPOCH=1 one -o a
    expect 0
    for name in knockout.h5 knockout.csv curves.csv {knockout,tokens}.{dat,gp,svg,png}; do
        [ -s "a/$name" ]
    done
    cp -r a b
    SOURCE_DATE_EPOCH=1 one -o a
    diff -r a b
    mkdir bin
    run --separate-stderr env PATH="$PWD/bin" "$STRATA" knockout -m "$TINY" "$PROMPT" --subject "Eiffel Tower" -o c
    expect 0 "gnuplot is not installed"
    [ -s c/knockout.dat ]
    [ ! -e c/knockout.png ]
    one -o d --no-plots
    [ ! -e d/knockout.dat ]
    [ -s d/knockout.h5 ]
}

@test "HDF5 explains itself" {
    facts >f.jsonl
    strata knockout -m "$TINY" -i f.jsonl --all --window 2 -o k.h5
    expect 0
    [ -z "$output" ]
    [ ! -e k.h5.partial ]
    h5dump -A k.h5 >head.txt
    for name in strata-knockout norm window spare_first facts_known blocked seed model_sha256; do
        grep -q "$name" head.txt
    done
    h5dump -d /layers/blocked k.h5 | grep -q '(0,0): 0, 0,'
    h5dump -H -d /knockout/prob k.h5 | grep -q '( 3, 3, 6 )'
}

@test "token 0 can be spared" {
    one --spare-first --json
    echo "$output" >k.json
    strata run -m "$TINY" "$PROMPT" --answer Paris --json --edit 'blocks.4-5.attn.hook_attn_scores@last<-5-8 block'
    check 'near(d["answer"]["prob"], e["facts"][0]["prob"]["non-subject"][5], 1e-4) and e["spare_first"]' k.json
}

@test "wrong usage and bad facts: one line, nothing written" {
    strata knockout -m "$TINY" "$PROMPT" --answer Paris
    expect 2 "--subject is missing"
    strata knockout -m "$TINY" "$PROMPT" --subject Louvre --answer Paris
    expect 1 "Louvre"
    one_line
    one -o k.png
    expect 2 "give a folder"
    one --own
    expect 2 "--own"
    one --all
    expect 2 "--all goes with -i"
    one --no-plots
    expect 2 "--no-plots"
    { facts; echo '{"id": "e", "prompt": "Hamlet was written by", "answer": "Shakespeare"}'; } >f.jsonl
    strata knockout -m "$TINY" -i f.jsonl -o k.json
    expect 1 "prompt e: it has no subject"
    one_line
    [ ! -e k.json ]
    echo '{"prompt": "The Eiffel Tower is in the city of", "subject": "Eiffel Tower", "answer": "Oslo"}' >u.jsonl
    strata knockout -m "$TINY" -i u.jsonl
    expect 1 "u.jsonl: nothing to measure" "--all"
    one_line
}
