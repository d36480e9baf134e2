load common

FACTS=$ROOT/data/facts/country_capital.jsonl

# rows EXPRESSION FILE.csv: a true Python expression over r, the CSV's records.
rows() {
    python3 -c '
import csv, math, sys
r = list(csv.DictReader(open(sys.argv[2], encoding="utf-8", newline="")))
if not eval(sys.argv[1]):
    sys.exit("false: " + sys.argv[1] + "\n" + str(r[:3]))
' "$@"
}

@test "a prompt gives a table, one line a depth" {
    strata lens -m "$TINY" "$PROMPT" --answer Paris
    expect 0
    [[ $output == "answer ␣Paris (token 1055)"* ]]
    [ "$(grep -cE '^([0-5]_pre|final_post) ' <<<"$output")" -eq 7 ]
    [[ $output == *"norm convention: lens"* ]]
}

@test "the last depth is what the model says" {
    strata run -m "$TINY" "$PROMPT" --answer Paris --top 5 --json
    echo "$output" >run.json
    strata lens -m "$TINY" "$PROMPT" --answer Paris --json
    expect 0
    check 'd["format"] == "strata-lens" and d["lens"] == "lens" and d["site"] == "resid" and d["edits"] == "none"'
    check 'd["labels"] == ["0_pre", "1_pre", "2_pre", "3_pre", "4_pre", "5_pre", "final_post"]'
    check 'd["prompts"][0]["rows"][0]["position"] == 9 and d["prompts"][0]["rows"][0]["token"]["text"] == " of"'
    last='d["prompts"][0]["rows"][0]["layers"][-1]'
    check "[t['id'] for t in $last['top']] == [t['id'] for t in e['top']]" run.json
    check "all(near(t['logprob'], u['logprob']) for t, u in zip($last['top'], e['top']))" run.json
    check "$last['rank'] == e['answer']['rank'] == 1 and $last['kl_final'] == 0" run.json
    check "near($last['logprob'], e['answer']['logprob']) and near($last['prob'], math.exp($last['logprob']))" run.json
}

@test "CSV has one record a row and depth, under the documented header" {
    strata lens -m "$TINY" -i "$FACTS" --limit 5 -o out.csv
    expect 0 "5 prompts, 5 rows of 7 states"
    [ "$(head -1 out.csv)" = "prompt,id,position,layer,label,answer,rank,ties,logprob,prob,entropy,kl_final,top1,top1_prob" ]
    [ "$(wc -l <out.csv)" -eq 36 ]
    rows '[x["prompt"] for x in r[::7]] == list("01234") and r[0]["id"] == "country_capital-001"' out.csv
    rows 'all([x["layer"] for x in r[i:i + 7]] == list("0123456") for i in range(0, 35, 7))' out.csv
    rows 'all(int(x["rank"]) >= 1 and abs(float(x["prob"]) - math.exp(float(x["logprob"]))) < 1e-6 for x in r)' out.csv
    rows 'all(x["top1"] == " " + x["answer"] and x["rank"] == "1" and x["kl_final"] == "0" for x in r[6::7])' out.csv
    [ ! -e out.csv.partial ]
    strata lens -m "$TINY" -i "$FACTS" --limit 5
    [ "$output" = "$(cat out.csv)" ]
    strata lens -m "$TINY" -i - --limit 5 <"$FACTS"
    [ "$output" = "$(cat out.csv)" ]
    strata lens -m "$TINY" -i - --limit 5 < <(cat "$FACTS") # a pipe cannot be rewound
    [ "$output" = "$(cat out.csv)" ]
}

@test "commas, quotes and newlines in ids and answers stay one field" {
    printf '%s\n' '{"id": "a,\"b\"\n", "prompt": "The capital of France is", "answer": "Paris, \"or\""}' >odd.jsonl
    strata lens -m "$TINY" -i odd.jsonl -o odd.csv
    expect 0
    rows 'len(r) == 7 and all(x["id"] == "a,\"b\"\n" and x["answer"] == "Paris, \"or\"" for x in r)' odd.csv
}

@test "HDF5 holds the same numbers as CSV" {
    strata lens -m "$TINY" -i "$FACTS" --limit 5 --positions all -o out.csv
    strata lens -m "$TINY" -i "$FACTS" --limit 5 --positions all -o out.h5
    expect 0
    h5dump -d /lens/rank -y -o ranks out.h5 >header
    python3 -c '
import csv
print(*(x["rank"] for x in csv.DictReader(open("out.csv"))))' >csv.ranks
    [ "$(wc -w <csv.ranks)" -gt 150 ]
    [ "$(tr ',' ' ' <ranks | xargs)" = "$(cat csv.ranks)" ]
    h5dump -a /format -a /site -a /positions -a /lens -a /norm -a /complete out.h5 >attributes
    strata lens -m "$TINY" -i - --limit 5 --positions all -o in.h5 <"$FACTS"
    expect 0
    same_h5 in.h5 out.h5 /lens /prompts
    grep -A9 'ATTRIBUTE "norm"' attributes | grep -q '"lens"'
    grep -q '"strata-lens"' attributes
    grep -q '"resid"' attributes
    grep -q '"all"' attributes
}

@test "positions choose rows, and say what is wrong with them" {
    local what n
    for what in last=1 all=10 subject=4 subject-first=1 subject-last=1 non-subject=6 0,3-5=4; do
        strata lens -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --positions "${what%=*}" --json
        expect 0
        n=${what#*=}
        check "len(d['prompts'][0]['rows']) == $n"
    done
    strata lens -m "$TINY" "$PROMPT" --positions subject-last
    expect 1 "the prompt has no subject"
    one_line
    strata lens -m "$TINY" "$PROMPT" --positions 10
    expect 1 "there is no position 10: the prompt has 10 tokens"
    strata lens -m "$TINY" "$PROMPT" --positions lats
    expect 2 "did you mean last?"
}

@test "sublayers and heads are read too, always ending in the final residual" {
    local what
    for what in attn_out=7=0_attn_out mlp_out=7=0_mlp_out heads=25=L0H0; do
        IFS== read -r site n first <<<"$what"
        strata lens -m "$TINY" "$PROMPT" --site "$site" --json
        expect 0
        check "d['site'] == '$site' and len(d['labels']) == $n and d['labels'][0] == '$first'"
        check "d['labels'][-1] == 'final_post' and d['prompts'][0]['rows'][0]['layers'][-1]['top'][0]['text'] == ' Paris'"
    done
    strata lens -m "$TINY" "$PROMPT" --site atn_out
    expect 2 "attn_out"
}

@test "top-k is kept as asked; none is fine" {
    strata lens -m "$TINY" "$PROMPT" --top 20 --json
    check 'all(len(x["top"]) == 20 for x in d["prompts"][0]["rows"][0]["layers"])'
    strata lens -m "$TINY" "$PROMPT" --top 0 --json
    expect 0
    check 'all(x["top"] == [] for x in d["prompts"][0]["rows"][0]["layers"])'
    strata lens -m "$TINY" "$PROMPT" --top 1001
    expect 2
}

@test "facts without an answer stay, with no rank" {
    printf '%s\n' '{"prompt": "The capital of France is", "answer": "Paris"}' '{"prompt": "The capital of Italy is"}' >f.jsonl
    strata lens -m "$TINY" -i f.jsonl -o f.csv
    expect 0 "1 prompts without an answer have no rank"
    rows 'all(x["rank"] == x["ties"] == x["logprob"] == x["prob"] == "" for x in r[7:])' f.csv
    rows 'all(x["entropy"] and x["top1"] for x in r) and r[6]["rank"] == "1"' f.csv
}

@test "the chain is the product over all tokens of the answer" {
    strata lens -m "$TINY" "The capital of France is" --answer " Paris and London" --chain --json
    expect 0
    [ "$(jq_free n_answer_tokens)" -ge 3 ]
    chain=$(jq_free chain_logprob)
    first=$(python3 -c 'import json,sys; print(json.load(sys.stdin)["prompts"][0]["rows"][0]["layers"][-1]["logprob"])' <<<"$output")
    strata run -m "$TINY" "The capital of France is Paris" --answer and --json
    second=$(python3 -c 'import json,sys; print(json.load(sys.stdin)["answer"]["logprob"])' <<<"$output")
    strata run -m "$TINY" "The capital of France is Paris and" --answer London --json
    third=$(python3 -c 'import json,sys; print(json.load(sys.stdin)["answer"]["logprob"])' <<<"$output")
    python3 -c "assert abs($first + $second + $third - $chain) < 1e-4, ($first, $second, $third, $chain)"
    strata lens -m "$TINY" "$PROMPT" --answer Paris --chain --edit 'L0H0 zero'
    expect 2 "--chain goes with no edits"
}

# A number of the one prompt in $output.
jq_free() {
    python3 -c 'import json,sys; print(json.load(sys.stdin)["prompts"][0][sys.argv[1]])' "$1" <<<"$output"
}

@test "edits change what comes after them and nothing before" {
    strata lens -m "$TINY" "$PROMPT" --answer Paris --json
    echo "$output" >plain.json
    strata lens -m "$TINY" "$PROMPT" --answer Paris --edit 'blocks.3.attn.hook_z@last zero' --json
    expect 0
    check 'd["edits"] == "blocks.3.attn.hook_z@last zero"'
    check '[a["logprob"] == b["logprob"] for a, b in zip(d["prompts"][0]["rows"][0]["layers"],
        e["prompts"][0]["rows"][0]["layers"])] == [True] * 4 + [False] * 3' plain.json
    strata lens -m "$TINY" "$PROMPT" --edit 'blocks.9.attn.hook_z zero'
    expect 1
    one_line
}

@test "the same command twice gives the same bytes, with any number of threads the same ranks" {
    strata lens -m "$TINY" -i "$FACTS" -t 2 -o a.csv
    strata lens -m "$TINY" -i "$FACTS" -t 2 -o b.csv
    cmp a.csv b.csv
    strata lens -m "$TINY" -i "$FACTS" -t 1 -o c.csv
    diff <(cut -d, -f1-8 a.csv) <(cut -d, -f1-8 c.csv)
    strata lens -m "$TINY" -i "$FACTS" --precision f64 -o d.csv
    rows 'len(r) == 85 * 7 and all(x["rank"] == "1" for x in r[6::7])' d.csv
}

@test "a prompt alone and in a batch has the same lens" {
    strata lens -m "$TINY" -i "$FACTS" --limit 20 --json -o all.json
    strata lens -m "$TINY" "The capital of France is" --answer Paris --json
    check 'all(near(a["logprob"], b["logprob"]) and a["rank"] == b["rank"] for a, b in zip(
        d["prompts"][0]["rows"][0]["layers"], e["prompts"][0]["rows"][0]["layers"]))' all.json
}

# Runs the lens in the background and interrupts it once FILE is there; sets $status.
interrupted() {
    local file=$1
    shift
    "$STRATA" lens -m "$TINY" -i many.jsonl --positions all -t 1 "$@" 2>cut.err &
    local pid=$!
    for i in $(seq 200); do [ -s "$file" ] && break; sleep 0.01; done
    sleep 0.1
    kill -INT $pid || true
    status=0
    wait $pid || status=$?
}

@test "an interrupted run exits 130 and resumes to the same file" {
    for i in $(seq 12); do cat "$FACTS"; done | sed 's/"id": "[^"]*", //' >many.jsonl
    interrupted cut.h5.partial -o cut.h5
    if [ $status -ne 0 ]; then
        [ $status -eq 130 ]
        grep -q "interrupted" cut.err
        [ -e cut.h5.partial ]
        [ ! -e cut.h5 ]
        strata lens -m "$TINY" -i many.jsonl --positions all -t 1 -o cut.h5 --top 4 --resume
        expect 1
        strata lens -m "$TINY" -i many.jsonl --positions all -t 1 -o cut.h5 --edit 'L0H0 zero' --resume
        expect 1 "edits"
        strata lens -m "$TINY" -i many.jsonl --positions all -t 1 -o cut.h5 --resume
        expect 0 "resuming after"
    fi
    strata lens -m "$TINY" -i many.jsonl --positions all -t 1 -o whole.h5
    same_h5 cut.h5 whole.h5 /lens/rank /lens/ties /lens/logprob /lens/entropy /lens/kl_final /lens/top_token \
        /lens/top_logprob /rows/prompt /rows/position /prompts/text /prompts/answer_token
}

@test "an interrupted CSV keeps its whole records apart" {
    for i in $(seq 12); do cat "$FACTS"; done >many.jsonl
    interrupted cut.csv.partial -o cut.csv
    [ $status -eq 0 ] && return # too fast a machine
    [ $status -eq 130 ]
    [ ! -e cut.csv ]
    rows 'r and len(r) % 7 == 0 and all(x["top1_prob"] for x in r)' cut.csv.partial
}

@test "a result is not written over, nor promised where it cannot be" {
    strata lens -m "$TINY" -i "$FACTS" --limit 2 -o out.h5
    expect 0
    strata lens -m "$TINY" -i "$FACTS" --limit 2 -o out.h5
    expect 1 "out.h5"
    one_line
    strata lens -m "$TINY" -i "$FACTS" --limit 2 -o nowhere/out.csv
    expect 1 "nowhere/out.csv"
    one_line
    strata lens -m "$TINY" -i "$FACTS" --limit 2 -o nowhere/out.h5
    expect 1 "nowhere/out.h5"
    one_line
}

@test "wrong usage is told before anything runs" {
    strata lens -m nowhere
    expect 2 "give a prompt, or -i FILE"
    strata lens -m nowhere -i f.jsonl "$PROMPT"
    expect 2 "not both"
    strata lens -m nowhere -i f.jsonl --answer Paris
    expect 2 "--answer goes with a prompt"
    strata lens -m nowhere "$PROMPT" -o out.png
    expect 2 ".h5, .csv or .json"
    strata lens -m nowhere "$PROMPT" -o out.csv --resume
    expect 2 "--resume"
    strata lens -m nowhere "$PROMPT" -o out.h5 --json
    expect 2 "choose one format"
}

@test "a bad fact is named by its line" {
    printf '%s\n' '{"prompt": "The capital of France is", "answer": "Paris"}' '{"prompt": ""}' >bad.jsonl
    strata lens -m "$TINY" -i bad.jsonl -o bad.csv
    expect 1 "bad.jsonl: line 2"
    one_line
    [ ! -e bad.csv ]
    strata lens -m "$TINY" -i bad.jsonl -o bad.h5
    expect 1 "bad.jsonl: line 2"
    [ ! -e bad.h5 ]
}

@test "a file without prompts is an error" {
    echo >none.jsonl
    strata lens -m "$TINY" -i none.jsonl
    expect 1 "none.jsonl: holds no prompts"
    strata lens -m "$TINY" -i none.jsonl -o none.csv
    expect 1 "none.jsonl: holds no prompts"
    [ ! -e none.csv ]
    strata lens -m "$TINY" -i none.jsonl -o none.h5
    expect 1 "none.jsonl: holds no prompts"
    one_line
}
