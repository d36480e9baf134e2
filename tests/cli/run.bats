load common

# References are from transformers in float64 on data/tiny; transformers' logits are float32 inside the rotary angles only.

@test "top tokens and logprobs are transformers'" {
    strata run -m "$TINY" "$PROMPT" --top 5 --json
    expect 0
    [ -z "$stderr" ]
    check '[t["id"] for t in d["top"]] == [1055, 978, 2183, 1279, 295]'
    check '[t["token"] for t in d["top"]] == [" Paris", " Chile", " Bolivia", " Dubai", "os"]'
    check '[t["rank"] for t in d["top"]] == [1, 2, 3, 4, 5]'
    check 'all(near(t["logprob"], r) for t, r in zip(d["top"], [-0.008898660638911367, -6.2036701108606795,
        -7.155634403265164, -7.63351865114617, -7.853264939200347]))'
    check 'all(near(t["prob"], math.exp(t["logprob"])) for t in d["top"])'
}

@test "the whole distribution sums to 1, and is the same in double" {
    strata run -m "$TINY" "$PROMPT" --top 4096 --json
    check 'near(sum(t["prob"] for t in d["top"]), 1, 1e-6) and len({t["id"] for t in d["top"]}) == 4096'
    check 'all(a["logprob"] >= b["logprob"] for a, b in zip(d["top"], d["top"][1:]))'
    check 'all(t["rank"] == 1 + sum(u["logprob"] > t["logprob"] for u in d["top"][:60]) for t in d["top"][:50])'
    printf '%s\n' "$output" >single
    strata run -m "$TINY" "$PROMPT" --top 4096 --json --precision f64
    check 'near(sum(t["prob"] for t in d["top"]), 1, 1e-12)'
    check '(lambda a: 0 < max(abs(a[t["id"]] - t["logprob"]) for t in d["top"]) < 2e-5)(
        {t["id"]: t["logprob"] for t in e["top"]})' single
}

@test "the table has the same numbers" {
    strata run -m "$TINY" "$PROMPT" --top 2 --answer London
    expect 0
    [ "${lines[0]}" = $'rank\tid\ttoken\tprob\tlogprob' ]
    [[ ${lines[1]} == $'1\t1055\t" Paris"\t0.991141\t-0.008898'* ]]
    [[ $output == *'answer: rank 656, id 907, " London", probability '* ]]
}

@test "an answer's rank and logprob are transformers'" {
    for row in Paris,1055,1,-0.008898660638911367 London,907,656,-14.96537007600404 Rome,891,74,-11.384449350791078; do
        IFS=, read -r word id rank logprob <<<"$row"
        strata run -m "$TINY" "$PROMPT" --answer "$word" --json
        check "d['answer']['token_id'] == $id and d['answer']['rank'] == $rank and near(d['answer']['logprob'], $logprob)"
        check 'd["answer"]["ties"] == 0 and near(d["answer"]["prob"], math.exp(d["answer"]["logprob"]))'
    done
    strata run -m "$TINY" "$PROMPT" --json
    check '"answer" not in d and "generated" not in d'
}

@test "an answer of several tokens: the first one's rank, and the chain's logprob is transformers'" {
    strata run -m "$TINY" "The capital of France is" --answer "Paris, of course" --json
    check 'd["answer"]["token_id"] == 1055 and d["answer"]["rank"] == 1 and d["answer"]["n_tokens"] == 5'
    check 'near(d["answer"]["chain_logprob"], -53.2430879468922)'
    strata run -m "$TINY" "The capital of France is" --answer "Paris, of course" --json --edit 'z:0 zero'
    check '"chain_logprob" not in d["answer"]'
    strata run -m "$TINY" "$PROMPT" --answer Paris --json
    check '"chain_logprob" not in d["answer"]'
}

@test "the prompt's tokens come with their text and spans" {
    strata run -m "$TINY" "$PROMPT" --json
    check 'd["prompt"] == "The Eiffel Tower is in the city of"'
    check 'd["tokens"][4] == {"id": 2521, "text": " Tower", "begin": 10, "end": 16} and len(d["tokens"]) == 10'
}

@test "a token that is part of a character has its bytes" {
    strata run -m "$TINY" "x"$'\u65e5' --json
    expect 0
    check 'bytes.fromhex("".join(t.get("bytes", t["text"].encode().hex()) for t in d["tokens"])).decode() == d["prompt"]'
    check 'any("bytes" in t for t in d["tokens"])'
}

@test "the same command gives the same bytes, other thread counts the same numbers" {
    strata run -m "$TINY" "$PROMPT" --json -t 1
    expected=$output
    printf '%s\n' "$output" >one
    for threads in 2 3; do
        strata run -m "$TINY" "$PROMPT" --json -t $threads
        check 'all(near(a["logprob"], b["logprob"], 2e-5) for a, b in zip(d["top"], e["top"]))' one
    done
    strata run -m "$TINY" "$PROMPT" --json -t 1
    [ "$output" = "$expected" ]
}

# --- generation ---

@test "greedy generation is transformers', and stops at the end of text" {
    strata run -m "$TINY" "$PROMPT" --generate 6 --json
    check '[t["id"] for t in d["generated"]["tokens"]] == [1055, 14]'
    check 'd["generated"]["text"] == " Paris." and d["generated"]["stopped"] == "end-of-text"'
    strata run -m "$TINY" "$PROMPT" --generate 1 --json
    check 'd["generated"]["text"] == " Paris" and d["generated"]["stopped"] == "length"'
    strata run -m "$TINY" "$PROMPT" --generate 6
    [ "${lines[-1]}" = 'generated: " Paris." (end of text)' ]
}

@test "each generated token is the top token of a run of its own" {
    prompt="Once there"
    strata run -m "$TINY" "$prompt" --generate 12 --json
    expect 0
    check 'len(d["generated"]["tokens"]) >= 3'
    python3 -c 'import json, sys
d = json.loads(sys.argv[1])
ids = [t["id"] for t in d["tokens"]]
for t in d["generated"]["tokens"]:
    print(json.dumps({"tokens": ids}))
    ids.append(t["id"])' "$output" >steps.jsonl
    python3 -c 'import json, sys; print([t["id"] for t in json.loads(sys.argv[1])["generated"]["tokens"]])' "$output" >ids
    strata run -m "$TINY" -i steps.jsonl --top 1
    check "[o['top'][0]['id'] for o in d] == $(cat ids)"
}

@test "generation past the context is refused before it starts" {
    strata run -m "$TINY" "$PROMPT" --generate 120
    expect 1 "the model's context of 128" "generate at most 119"
    one_line
    strata run -m "$TINY" "$PROMPT" --generate 119 --json
    expect 0
}

# --- many prompts ---

@test "the tiny model knows its facts: every answer has rank 1" {
    strata run -m "$TINY" -i "$ROOT/data/facts/landmark_city.jsonl" --top 1
    expect 0
    n=$(wc -l <"$ROOT/data/facts/landmark_city.jsonl")
    check "len(d) == $n and all(o['answer']['rank'] == 1 for o in d)"
    check 'd[0]["id"] == "landmark_city-001" and d[0]["top"][0]["token"] == " Paris"'
}

@test "a prompt in a batch gives what it gives alone" {
    strata run -m "$TINY" -i "$ROOT/data/facts/landmark_city.jsonl" --limit 7 --top 3
    check 'len(d) == 7'
    printf '%s\n' "$output" >all
    for number in 0 6; do
        sed -n "$((number + 1))p" "$ROOT/data/facts/landmark_city.jsonl" >one.jsonl
        strata run -m "$TINY" -i one.jsonl --top 3
        check "all(abs(a['logprob'] - b['logprob']) < 1e-5 and a['id'] == b['id']
                   for a, b in zip(d['top'], e[$number]['top']))" all
    done
}

@test "text files, standard input and token ids are prompts" {
    printf '%s\nThe capital of France is\n' "$PROMPT" >prompts.txt
    strata run -m "$TINY" -i prompts.txt --top 1
    check '[o["top"][0]["token"] for o in d] == [" Paris", " Paris"]'
    file=$output
    run --separate-stderr bash -c '"$0" run -m "$1" -i - --top 1 <prompts.txt' "$STRATA" "$TINY"
    [ "$output" = "$file" ]
    run --separate-stderr bash -c 'echo "$2" | "$0" run -m "$1" - --top 1 --json' "$STRATA" "$TINY" "$PROMPT"
    check 'd["top"][0]["id"] == 1055 and d["prompt"] == "The Eiffel Tower is in the city of"'
    echo '{"tokens": [263, 409, 3442, 298, 2521, 260, 268, 270, 304, 261], "answer_token": 907}' >ids.jsonl
    strata run -m "$TINY" -i ids.jsonl --top 1
    check 'd["top"][0]["id"] == 1055 and d["answer"]["rank"] == 656'
}

@test "a model without a tokenizer runs on token ids" {
    mkdir bare
    cp "$TINY"/config.json "$TINY"/model.safetensors bare
    echo '{"tokens": [263, 409, 3442, 298, 2521, 260, 268, 270, 304, 261], "answer_token": 907}' >ids.jsonl
    strata run -m bare -i ids.jsonl --top 1
    check 'd["top"][0]["id"] == 1055 and d["answer"]["rank"] == 656'
    strata run -m bare x
    expect 1 "no tokenizer"
}

# --- edits ---

@test "without any block the logits are the embedding's" {
    strata run -m "$TINY" "$PROMPT" --top 3 --json --edit 'blocks.*.hook_attn_out zero' --edit 'blocks.*.hook_mlp_out zero'
    expect 0
    check '[t["id"] for t in d["top"]] == [261, 307, 12]'
    check 'all(near(t["logprob"], r, 1e-4) for t, r in zip(d["top"][1:], [-21.901824151259238, -22.867136237450037]))'
    zero=$output
    for edits in "mlp_out:0-5 scale 0;attn_out scale 0" "blocks.0-5.hook_mlp_out set 0;blocks.0-5.hook_attn_out@all zero"; do
        strata run -m "$TINY" "$PROMPT" --top 3 --json --edit "${edits%;*}" --edit "${edits#*;}"
        [ "$output" = "$zero" ]
    done
}

@test "blocking the last token's view of the subject takes the answer away" {
    strata run -m "$TINY" "$PROMPT" --answer Paris --json --subject "Eiffel Tower" \
        --edit 'blocks.*.attn.hook_attn_scores@last<-subject block'
    expect 0
    check 'd["answer"]["prob"] < 0.5'
    blocked=$output
    # The subject is tokens 1 to 4: " E", "iff", "el", " Tower".
    strata run -m "$TINY" "$PROMPT" --answer Paris --json --edit 'attn_scores@9<-1-4 block'
    [ "$output" = "$blocked" ]
    # The pattern without the softmax's renormalisation is something else.
    strata run -m "$TINY" "$PROMPT" --answer Paris --json --edit 'pattern@9<-1-4 zero'
    [ "$output" != "$blocked" ]
    # Other edges at the same place are another thing, edges of the future nothing at all.
    strata run -m "$TINY" "$PROMPT" --answer Paris --json --edit 'attn_scores@0-3<-5-9 block'
    check 'near(d["answer"]["logprob"], -0.008898660638911367, 1e-4)'
}

@test "an edit that changes nothing leaves the answer, and the order of edits counts" {
    strata run -m "$TINY" "$PROMPT" --answer Paris --json --edit 'resid_post:3 add 0'
    check 'near(d["answer"]["logprob"], -0.008898660638911367)'
    strata run -m "$TINY" "$PROMPT" --json --edit 'logits set 0'
    check 'all(t["rank"] == 1 and near(t["prob"], 1 / 4096) for t in d["top"])'
    check '[t["id"] for t in d["top"]] == list(range(10))'
    strata run -m "$TINY" "$PROMPT" --json --edit 'z:2 add 1' --edit 'z:2 scale 2'
    one=$output
    strata run -m "$TINY" "$PROMPT" --json --edit 'z:2 scale 2' --edit 'z:2 add 1'
    [ "$output" != "$one" ]
}

@test "edits from a JSON file are the same edits" {
    strata run -m "$TINY" "$PROMPT" --json --edit 'z:4@last#1,3 zero' --edit 'mlp_out:2@1-4 scale 0.5'
    expected=$output
    cat >edits.json <<'END'
[{"site": "blocks.4.attn.hook_z", "at": "last", "units": [1, 3], "op": "zero"}, "mlp_out:2@1-4 scale 0.5"]
END
    strata run -m "$TINY" "$PROMPT" --json --edits edits.json
    expect 0
    [ "$output" = "$expected" ]
    strata run -m "$TINY" "$PROMPT" --json --edit 'z:4@last#1,3 zero'
    [ "$output" != "$expected" ]
    echo '[{"site": "z:4", "opp": "zero"}]' >bad.json
    strata run -m "$TINY" "$PROMPT" --edits bad.json
    expect 1 "bad.json" "opp"
    one_line
}

@test "edits act on each fact's own subject" {
    strata run -m "$TINY" -i "$ROOT/data/facts/landmark_city.jsonl" --limit 20 --top 1 \
        --edit 'blocks.*.attn.hook_attn_scores@last<-subject block'
    expect 0
    check 'sum(o["answer"]["rank"] == 1 for o in d) < 12'
}

@test "with generation, edits act on the prompt and reach later tokens through it" {
    strata run -m "$TINY" "$PROMPT" --generate 3 --json --edit 'mlp_out:1 zero'
    expect 0 "edits act on the prompt"
    check 'd["generated"]["tokens"][0]["id"] == d["top"][0]["id"]'
}

@test "an edit that names nothing says what is near" {
    strata run -m "$TINY" "$PROMPT" --edit 'blocks.4.attn.hook_zz zero'
    expect 1 "edit 'blocks.4.attn.hook_zz zero'" "did you mean"
    one_line
    strata run -m "$TINY" "$PROMPT" --edit 'z:4@last zeroo'
    expect 1 "did you mean zero?"
    strata run -m "$TINY" "$PROMPT" --edit 'z:6 zero'
    expect 1 "6"
    one_line
    strata run -m "$TINY" "$PROMPT" --edit 'z:4#4 zero'
    expect 1 "there is no head 4"
    strata run -m "$TINY" "$PROMPT" --edit 'hook_pos_embed zero'
    expect 1 "no learned position embedding"
    strata run -m "$TINY" "$PROMPT" --edit 'z:4@subject zero'
    expect 1 "subject"
    one_line
    strata run -m "$TINY" "$PROMPT" --edit 'z:4@10 zero'
    expect 1 "10"
    one_line
}

# --- refusals ---

@test "a subject that is not in the prompt is an error" {
    strata run -m "$TINY" "$PROMPT" --subject "Big Ben"
    expect 1 "subject 'Big Ben' is not in the prompt"
    one_line
}

@test "prompts that are empty or too long are errors" {
    strata run -m "$TINY" ""
    expect 1 "no tokens"
    one_line
    strata run -m "$TINY" "$(printf 'word %.0s' $(seq 200))"
    expect 1 "the model's context is 128"
    one_line
    printf 'ok\n%s\n' "$(printf 'word %.0s' $(seq 200))" >long.txt
    strata run -m "$TINY" -i long.txt
    expect 1 "long.txt: line 2"
    one_line
}

@test "more tokens than the vocabulary has cannot be listed" {
    strata run -m "$TINY" "$PROMPT" --top 4097
    expect 1 "--top 4097: the vocabulary has 4096 tokens"
}

@test "what belongs to one prompt is refused with a file" {
    strata run -m "$TINY" -i x.txt --subject y
    expect 2 "--subject goes with one prompt"
    strata run -m "$TINY"
    expect 2 "give a prompt, or -i FILE"
}

@test "an empty answer or subject is an error, not none" {
    strata run -m "$TINY" "$PROMPT" --answer ""
    expect 1 "the answer is empty"
    one_line
    strata run -m "$TINY" "$PROMPT" --subject ""
    expect 1 "the subject is empty"
    one_line
}

@test "NaN in the weights is refused by the tensor's name" {
    cp -r "$TINY" nan
    python3 - nan/model.safetensors <<'END'
import json, struct, sys
f = open(sys.argv[1], "r+b")
n = struct.unpack("<Q", f.read(8))[0]
header = json.loads(f.read(n))
f.seek(8 + n + header["model.layers.2.mlp.down_proj.weight"]["data_offsets"][0] + 10)
f.write(b"\x00\x7e")
END
    strata run -m nan "$PROMPT"
    expect 1 "model.layers.2.mlp.down_proj.weight" "holds nan"
    one_line
    [ -z "$output" ]
}

@test "an edit that makes numbers infinite is refused, not propagated" {
    strata run -m "$TINY" "$PROMPT" --edit 'resid_post:2 scale 3e38' --edit 'resid_post:2 scale 3e38'
    expect 1 "blocks." "NaN or infinite"
    one_line
    [ -z "$output" ]
}
