load common

# The golden BERT with words for its 61 tokens: [MASK] is 4, as in its references.
words="[PAD] [UNK] [CLS] [SEP] [MASK] the capital of france is paris . eiffel tower in un ##known ##able rome italy"
FRANCE="The capital of France is [MASK]."

make_bert() {
    mkdir bert
    cp "$ROOT"/tests/golden/models/bert/{config.json,model.safetensors} bert
    { tr ' ' '\n' <<<"$words"; seq -f 'w%g' 41; } >bert/vocab.txt
}

# No masked-LM head, names without a prefix: as sentence encoders are saved.
make_headless() {
    make_bert
    python3 - <<'END'
import json, struct
data = open("bert/model.safetensors", "rb").read()
n = struct.unpack("<Q", data[:8])[0]
header, body = json.loads(data[8:8 + n]), data[8 + n:]
kept = {k.removeprefix("bert."): v for k, v in header.items() if not k.startswith("cls.")}
out, blob = {}, b""
for k, v in kept.items():
    if k == "__metadata__":
        continue
    part = body[slice(*v["data_offsets"])]
    out[k] = v | {"data_offsets": [len(blob), len(blob) + len(part)]}
    blob += part
text = json.dumps(out).encode()
open("bert/model.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + blob)
END
}

@test "a masked prompt is answered at its mask, as by transformers" {
    make_bert
    strata run -m bert "$FRANCE" --answer Paris --top 3 --json
    expect 0
    check '[t["id"] for t in d["tokens"]] == [2, 5, 6, 7, 8, 9, 4, 11, 3]'
    check '[t["token"] for t in d["top"]] == ["rome", "[MASK]", "un"]'
    check 'near(d["top"][0]["logprob"], -0.9495378019395828)'
    check 'd["answer"]["token_id"] == 10 and d["answer"]["rank"] == 48 and near(d["answer"]["logprob"], -13.874391192218601)'
}

@test "an answer is what stands between the prompt's own tokens" {
    make_bert
    strata run -m bert "$FRANCE" --answer unknownable --json
    expect 0
    check 'd["answer"]["token_id"] == 15 and d["answer"]["n_tokens"] == 3 and not d["answer"]["retokenized"]'
    check '"chain_logprob" not in d["answer"]'
}

@test "a prompt without a mask, or with two, says so" {
    make_bert
    strata run -m bert "The capital of France is"
    expect 1 "the prompt has no [MASK]"
    one_line
    strata lens -m bert "[MASK] of [MASK]"
    expect 1 "the prompt has 2 [MASK]"
    strata run -m bert "$FRANCE" --generate 2
    expect 1 "is an encoder"
    one_line
    echo "The capital of France" >plain.txt
    strata dump -m bert -i plain.txt -o plain.h5 --sites resid_post --quiet
    expect 0
    strata dump -m bert -i plain.txt -o last.h5 --sites resid_post --positions last --quiet
    expect 1 "the prompt has no [MASK]"
}

@test "the lens reads the mask through the model's own head, down to its own answer" {
    make_bert
    strata lens -m bert "$FRANCE" --answer rome -o lens.csv --quiet
    expect 0
    [ "$(cut -d, -f3,5 lens.csv | tr '\n' ' ')" = "position,label 6,0_pre 6,1_pre 6,final_post " ]
    [[ $(tail -1 lens.csv) == *,1,0,-0.9495* ]]
}

@test "a trace goes through the lens; what is not linear is not attributed" {
    make_bert
    strata trace -m bert "$FRANCE" --subject France --answer rome
    expect 0
    [[ $output == *"are not available: the masked-LM head is not linear"* ]]
    strata trace -m bert "$FRANCE" --answer rome --json
    check 'd["layers"][-1]["rank"] == 1 and d["layers"][-1]["attention"] is None and d["layers"][-1]["heads"] == []'
    strata heads -m bert "$FRANCE" --subject France --answer rome
    expect 1 "the masked-LM head is not linear"
    one_line
}

@test "a knockout blocks the mask's edges, as an edit does" {
    make_bert
    strata knockout -m bert "$FRANCE" --subject France --answer rome --json
    expect 0
    printf '%s\n' "$output" >knockout.json
    strata run -m bert "$FRANCE" --subject France --answer rome --json \
        --edit 'blocks.0.attn.hook_attn_scores@last<-subject block'
    expect 0
    check 'near(d["answer"]["prob"], 0.384788068, 1e-5)'
}

@test "an encoder without a head has hidden states and nothing else" {
    make_headless
    echo "The capital of France" >plain.txt
    strata dump -m bert -i plain.txt -o plain.h5 --sites normalized_resid_post --positions last --quiet
    expect 0
    for command in run lens trace knockout; do
        strata $command -m bert "The capital of France" --subject France
        expect 1 "has no unembedding"
        one_line
    done
    strata info bert
    [[ $output == *"unembedding none: hidden states only"* ]]
}
