load common

FACTS=$ROOT/data/facts/country_capital.jsonl

@test "one fact: heads, sources, every head taken out" {
    strata heads -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris
    expect 0
    [ -z "$stderr" ]
    [[ $output == *"norm convention: attribution"* && $output == *"read from these tokens"* ]]
    [[ $output == *"without the heads that add most, against random heads (z zero at the last token"* ]]
    strata heads -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris --json
    expect 0
    check 'd["format"] == "strata-heads" and d["norm"] == "attribution" and len(d["heads"]) == 24'
    check 'all(near(sum(h["source"]), h["logit"], 1e-4) or abs(sum(h["source"]) - h["logit"]) < 1e-5 for h in d["heads"])'
    check 'all(h["without_percent"] is not None and 0 <= h["previous"] <= 1 for h in d["heads"])'
}

@test "shares are those of trace, with either sign" {
    strata trace -m "$TINY" "$PROMPT" --answer Paris --json --precision f64
    echo "$output" >trace.json
    strata heads -m "$TINY" "$PROMPT" --answer Paris --json --no-ablation --no-patterns --precision f64
    expect 0
    check 'all(abs(h["logit"] - e["layers"][1 + h["layer"]]["heads"][h["head"]]) < 1e-6 for h in d["heads"])' trace.json
    check 'any(h["logit"] < 0 for h in d["heads"]) and "ablation" not in d and "patterns" not in d'
}

@test "taking a head out is what run --edit says" {
    strata run -m "$TINY" "$PROMPT" --answer Paris --json
    base=$(python3 -c 'import json,sys; print(json.load(sys.stdin)["answer"]["prob"])' <<<"$output")
    strata run -m "$TINY" "$PROMPT" --answer Paris --json --edit 'L3H1@last zero'
    edited=$(python3 -c 'import json,sys; print(json.load(sys.stdin)["answer"]["prob"])' <<<"$output")
    strata heads -m "$TINY" "$PROMPT" --answer Paris --json
    check "abs(d['heads'][13]['without_percent'] - 100 * ($edited / $base - 1)) < 1e-3 and d['heads'][13]['name'] == 'L3H1'"
}

@test "a file of facts: means over known ones, with the counts" {
    { head -20 "$FACTS"; echo '{"prompt":"The capital of France is","subject":"France","answer":"London"}'
      echo '{"prompt":"Nothing follows"}'; } >facts.jsonl
    strata heads -m "$TINY" -i facts.jsonl --json
    expect 0
    check 'd["facts_given"] == 22 and d["facts_known"] + d["facts_unknown"] == 21 and d["facts_without_answer"] == 1'
    check 'd["facts_measured"] == d["facts_known"] >= 15 and d["facts_unknown"] >= 1'
    check 'all(h["logit_low"] <= h["logit"] <= h["logit_high"] for h in d["heads"])'
    check '[c["heads"] for c in d["ablation"]["counts"]] == [1, 2, 5, 10]'
    strata heads -m "$TINY" -i facts.jsonl --json --all
    check 'd["facts_measured"] == 21'
    strata heads -m "$TINY" -i - --limit 3 <facts.jsonl
    expect 0
    [[ $output == *"of 3 facts: answer on rank 1"* ]]
}

@test "the heads whose loss costs most matter more than random ones" {
    strata heads -m "$TINY" -i "$FACTS" --limit 40 --rank-by effect --counts 1,4 --json
    expect 0
    check 'd["ablation"]["ranked_by"] == "effect"'
    check 'all(c["prob"] < 0.5 * c["random_prob"] and c["rank1"] < c["random_rank1"] for c in d["ablation"]["counts"])'
    check 'd["ablation"]["order"][0] == min(d["heads"], key=lambda h: h["without_percent"])["name"]'
}

@test "the same seed gives the same bytes, another one another control" {
    for run in 1 2; do
        strata heads -m "$TINY" -i "$FACTS" --limit 10 --relation-map --seed 1 --json
        expect 0
        echo "$output" >$run.json
    done
    cmp 1.json 2.json
    strata heads -m "$TINY" -i "$FACTS" --limit 10 --relation-map --seed 2 --json
    check '[c["prob"] for c in d["ablation"]["counts"]] == [c["prob"] for c in e["ablation"]["counts"]]' 1.json
    check '[c["random_prob"] for c in d["ablation"]["counts"]] != [c["random_prob"] for c in e["ablation"]["counts"]]' 1.json
    check '[h["induction"] for h in d["heads"]] != [h["induction"] for h in e["heads"]]' 1.json
}

@test "relations in the weights: shares, controls, skipped pairs, hub heads" {
    cat "$FACTS" "$ROOT/data/facts/country_currency.jsonl" "$ROOT/data/facts/music_composer.jsonl" >facts.jsonl
    strata heads -m "$TINY" -i facts.jsonl --relation-map --rank-by map --no-patterns --json
    expect 0
    check '[m["relation"] for m in d["map"]][-1] == "(copying)" and d["map"][-1]["k"] == 1 and d["map"][0]["k"] == 10'
    check 'd["map"][0]["pairs"] + d["map"][0]["skipped"] == 85 and all(len(m["promote"]) == 24 for m in d["map"])'
    check 'all(max(m["promote"]) <= m["any_head"] <= 1 for m in d["map"])'
    check 'd["ablation"]["order"][0] == max(d["heads"], key=lambda h: h["pairs_held"])["name"]'
    strata heads -m "$TINY" -i "$ROOT/data/facts/music_composer.jsonl" --relation-map
    expect 1 "no fact has a subject and an answer of one token each"
}

@test "against another answer, or the others of the relation" {
    strata heads -m "$TINY" "$PROMPT" --answer Paris --against London --json --no-ablation --no-patterns --precision f64
    echo "$output" >difference.json
    for answer in Paris London; do
        strata heads -m "$TINY" "$PROMPT" --answer $answer --json --no-ablation --no-patterns --precision f64
        echo "$output" >$answer.json
    done
    output=$(<difference.json)
    check 'all(abs(h["logit"] - (p["logit"] - l["logit"])) < 1e-6 for h, p, l in zip(d["heads"],
        json.load(open("Paris.json"))["heads"], json.load(open("London.json"))["heads"]))'
    check 'd["against"].startswith("that of")'
    strata heads -m "$TINY" "$PROMPT" --answer Paris --against Paris
    expect 1 "its first token is the answer's own"
    one_line
    { head -5 "$FACTS"; echo '{"prompt":"A dolphin is a kind of","subject":"dolphin","answer":"mammal","relation":"alone"}'; } >facts.jsonl
    strata heads -m "$TINY" -i facts.jsonl --against relation --all
    expect 0 "1 facts left out, whose relation has one answer only"
    [[ $output == *"n = 5 of 6 facts"* ]]
}

@test "modes and places are told apart" {
    strata heads -m "$TINY" -i "$FACTS" --limit 10 --mode mean --at all --draws 2 --json
    expect 0
    check 'd["ablation"]["mode"] == "mean" and d["ablation"]["at"] == "all" and d["ablation"]["draws"] == 2'
    strata heads -m "$TINY" "$PROMPT" --answer Paris --mode mean
    expect 1 "the mean of one fact is the fact itself"
    one_line
}

@test "a folder gets numbers and figures" {
    command -v gnuplot >/dev/null || skip "gnuplot is not installed"
    strata heads -m "$TINY" -i "$FACTS" --limit 12 --relation-map --every-head -o out
    expect 0
    for name in logit from_subject to_subject without previous duplicate induction hubs ablation relations; do
        for kind in svg png dat gp; do [ -s out/$name.$kind ] || { echo "no $name.$kind"; return 1; }; done
    done
    [ -z "$(ls out | grep partial)" ]
    [ "$(wc -l <out/heads.csv)" -eq 25 ]
    [ -s out/ablation.csv ]
    [ -s out/relations.csv ]
    grep -q "norm convention: attribution" out/logit.gp
    grep -q "n = 12 facts" out/logit.gp
    h5dump -a format -a norm -a facts_measured -a ablation_mode out/heads.h5 >attributes
    grep -q '"strata-heads"' attributes
    grep -q '"attribution"' attributes
    h5dump -H out/heads.h5 | tr -s ' \n' ' ' >header
    for want in '"logit" { DATATYPE H5T_IEEE_F64LE DATASPACE SIMPLE { ( 12, 6, 4 )' \
        '"promote" { DATATYPE H5T_IEEE_F64LE DATASPACE SIMPLE { ( 2, 6, 4 )' \
        '"change_percent" { DATATYPE H5T_IEEE_F64LE DATASPACE SIMPLE { ( 6, 4 )'; do
        grep -qF "$want" header || { echo "no $want"; cat header; return 1; }
    done
}

@test "single files by extension" {
    strata heads -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris -o x.h5
    expect 0
    [ -s x.h5 ]
    h5dump -n x.h5 | grep -q /attribution/source
    strata heads -m "$TINY" "$PROMPT" --answer Paris -o x.csv --no-ablation --no-patterns
    expect 0
    [ "$(head -1 x.csv)" = "layer,head,logit,logit_low,logit_high,from_subject,to_subject,without_percent,previous,duplicate,induction,pairs_held,norm" ]
    strata heads -m "$TINY" "$PROMPT" --answer Paris -o x.json
    expect 0
    [ -s x.json ]
    [ -z "$output" ]
}

@test "bad input is one line before anything runs" {
    strata heads -m nowhere
    expect 2 "give a prompt, or -i FILE"
    strata heads -m nowhere "$PROMPT" --relation-map
    expect 2 "--relation-map goes with -i"
    strata heads -m nowhere -i x --rank-by map
    expect 2 "--rank-by map needs --relation-map"
    strata heads -m nowhere "$PROMPT" -o x.png
    expect 2 "give a folder"
    strata heads -m nowhere "$PROMPT" --rank-by nothing
    expect 2
    strata heads -m "$TINY" "$PROMPT" --subject Colosseum
    expect 1 "subject 'Colosseum' is not in the prompt"
    one_line
    strata heads -m "$TINY" "$PROMPT" --counts 1,13
    expect 1 "give rising numbers from 1 to 12, half of the model's heads"
    one_line
    strata heads -m "$TINY" "$PROMPT" --counts 2,x
    expect 1 "--counts"
    echo '{"prompt":"The capital of France is","subject":"France","answer":"London"}' >facts.jsonl
    strata heads -m "$TINY" -i facts.jsonl
    expect 1 "no fact to measure: of 1, 0 have no answer and 1 have one that the model does not put on rank 1: --all"
    one_line
}
