load common

FACTS=$ROOT/data/facts/country_capital.jsonl

# Every fact of a relation in its paraphrases.
paraphrases() {
    python3 -c '
import json, sys
root, relation, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
templates = json.load(open(root + "/data/tiny/sentences.json"))["paraphrases"][relation]
for line in list(open(f"{root}/data/facts/{relation}.jsonl"))[:n]:
    fact = json.loads(line)
    for prompt in [fact["prompt"]] + [t.replace("{}", fact["subject"]) for t in templates]:
        print(json.dumps({**fact, "prompt": prompt}))' "$ROOT" "$@"
}

@test "one fact: the neurons that add most, their tokens, the answer without them" {
    strata neurons -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris
    expect 0
    [ -z "$stderr" ]
    [[ $output == *"norm convention: attribution"* && $output == *"geva: W_U v, no norm"* ]]
    [[ $output == *"against random ones of the same"* ]]
    strata neurons -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris --json
    expect 0
    check 'd["format"] == "strata-neurons" and d["norm"] == "attribution" and d["tokens_norm"] == "geva"'
    check 'len(d["neurons"]) == 10 and d["neurons"][0]["logit"] >= d["neurons"][9]["logit"] > 0'
    check 'all(len(n["up"]) == 10 and n["up"][0]["score"] >= n["up"][9]["score"] > n["down"][0]["score"] for n in d["neurons"])'
    check 'd["ablation"]["counts"][-1]["prob"] < d["ablation"]["counts"][-1]["random_prob"]'
}

@test "layers are what trace says of the FFN" {
    strata trace -m "$TINY" "$PROMPT" --answer Paris --json --precision f64
    echo "$output" >trace.json
    strata neurons -m "$TINY" "$PROMPT" --answer Paris --json --no-ablation --precision f64
    expect 0
    check 'all(abs(x - y["mlp"]) < 1e-6 for x, y in zip(d["layer_logit"], e["layers"][1:]))' trace.json
}

@test "a neuron taken out is what run --edit says" {
    strata neurons -m "$TINY" "$PROMPT" --answer Paris --json
    expect 0
    echo "$output" >neurons.json
    first=$(python3 -c 'import json; print(json.load(open("neurons.json"))["neurons"][0]["name"])')
    strata run -m "$TINY" "$PROMPT" --answer Paris --json --edit "$first@last zero"
    check 'near(d["answer"]["prob"], e["ablation"]["counts"][0]["prob"], 1e-4)' neurons.json
}

@test "paraphrases of a fact fire the same late neurons, other facts fewer" {
    paraphrases country_capital 15 >facts.jsonl
    strata neurons -m "$TINY" -i facts.jsonl --json
    expect 0
    check 'd["facts_given"] == 60 and d["paraphrased"] >= 10 and d["paraphrase_pairs"] > d["paraphrased"]'
    check 'd["overlap_paraphrases"][-1] > d["overlap_others"][-1] + 0.1'
    check 'any(p["in_all"] for p in d["paraphrases"]) and all(p["prompts"] >= 2 for p in d["paraphrases"])'
    strata neurons -m "$TINY" -i "$FACTS" --limit 10 --json
    check 'd["paraphrased"] == 0 and d["overlap_paraphrases"][0] is None and d["paraphrases"] == []'
}

@test "the same seed gives the same bytes, another one another control" {
    paraphrases country_capital 5 >facts.jsonl
    for run in 1 2; do
        strata neurons -m "$TINY" -i facts.jsonl --seed 1 --json
        expect 0
        echo "$output" >$run.json
    done
    cmp 1.json 2.json
    strata neurons -m "$TINY" -i facts.jsonl --seed 2 --json
    check '[c["prob"] for c in d["ablation"]["counts"]] == [c["prob"] for c in e["ablation"]["counts"]]' 1.json
    check '[c["random_prob"] for c in d["ablation"]["counts"]] != [c["random_prob"] for c in e["ablation"]["counts"]]' 1.json
}

@test "the norm of tokens is chosen and named" {
    strata neurons -m "$TINY" "$PROMPT" --answer Paris --json --no-ablation
    echo "$output" >geva.json
    strata neurons -m "$TINY" "$PROMPT" --answer Paris --json --no-ablation --tokens gain
    expect 0
    check 'd["tokens_norm"] == "gain" and d["neurons"][0]["name"] == e["neurons"][0]["name"] and d["neurons"][0]["up"] != e["neurons"][0]["up"]' geva.json
}

@test "a folder gets numbers and figures" {
    command -v gnuplot >/dev/null || skip "gnuplot is not installed"
    paraphrases country_capital 6 >facts.jsonl
    strata neurons -m "$TINY" -i facts.jsonl -o out
    expect 0
    for name in layers neurons overlap entropy ablation; do
        for kind in svg png dat gp; do [ -s out/$name.$kind ] || { echo "no $name.$kind"; return 1; }; done
    done
    [ -s out/neurons.csv ]
    [ "$(wc -l <out/layers.csv)" -eq 7 ]
    [ -s out/ablation.csv ]
    h5dump -a format -a norm -a tokens_norm out/neurons.h5 >attributes
    grep -q '"strata-neurons"' attributes
    grep -q '"geva"' attributes
    h5dump -n out/neurons.h5 >names
    for name in /by_logit/coefficient /by_size/neuron /layers/entropy /listed/up /ablation/logprob /mean/overlap_others; do
        grep -q "$name" names || { echo "no $name"; return 1; }
    done
}

@test "known facts only, with the counts" {
    { head -5 "$FACTS"; echo '{"prompt":"The capital of France is","subject":"France","answer":"London"}'; } >facts.jsonl
    strata neurons -m "$TINY" -i facts.jsonl
    expect 0
    [[ $output == *"n = 5 of 6 facts: answer on rank 1 in 5; 1 others left out"* ]]
    strata neurons -m "$TINY" -i facts.jsonl --all -o x.csv
    expect 0
    [ "$(head -1 x.csv)" = "layer,neuron,facts,coefficient,size,logit,answer_rank,up,down,norm" ]
}

@test "bad input is one line before anything runs" {
    strata neurons -m nowhere
    expect 2 "give a prompt, or -i FILE"
    strata neurons -m nowhere "$PROMPT" --all
    expect 2 "--all goes with -i"
    strata neurons -m nowhere "$PROMPT" -o x.svg
    expect 2 "give a folder"
    strata neurons -m nowhere "$PROMPT" --tokens other
    expect 2
    strata neurons -m "$TINY" "$PROMPT" --subject Colosseum
    expect 1 "subject 'Colosseum' is not in the prompt"
    one_line
}
