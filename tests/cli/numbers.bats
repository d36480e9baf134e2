load common

# Numbers at their limits: subnormal and huge activations, prompts of one token and of the whole context, batches whose
# ends fall anywhere.

setup() {
    here
    echo "{\"id\":\"a\",\"prompt\":\"$PROMPT\"}" >one.jsonl
}

@test "subnormal activations are numbers like others" {
    # All logits are near 0 then: each token has its share of the vocabulary.
    for value in 1e-38 1e-40 1e-45 0; do
        for precision in f32 f64; do
            strata run -m "$TINY" "$PROMPT" --edit "resid_post:1@all set $value" --precision $precision --json
            expect 0
            check 'abs(d["top"][0]["logprob"] + math.log(4096)) < 1e-6'
        done
    done
    # 1e-7 is between the first and the second number above 0 in half precision: the second is nearer.
    for dtype in f16 f32; do
        strata dump -m "$TINY" -i one.jsonl --sites resid_post:1 --edit 'resid_post:1@all set 1e-7' --dtype $dtype -o $dtype.h5
        expect 0
    done
    strata diff f16.h5 f32.h5 --json
    expect 1
    check 'abs(d["sites"][0]["max_abs"] - (2 * 2.0 ** -24 - 1e-7)) < 1e-13'
}

@test "huge activations: what a norm can take is right, what passes float32 or the file's type is named" {
    for value in 1e15 1e38 -3e38; do
        for precision in f32 f64; do
            strata run -m "$TINY" "$PROMPT" --edit "resid_post:1@last set $value" --precision $precision --json
            expect 0
            echo "$output" >$precision.json
        done
        check 'all(near(a["logprob"], b["logprob"]) for a, b in zip(d["top"], e["top"]))' f32.json
    done
    strata run -m "$TINY" "$PROMPT" --edit "resid_post:1@last set 3e38" --edit "attn_out:2@last set 3e38"
    expect 1 "blocks.2.hook_mlp_out: NaN or infinite at token 9 of prompt" # the first output that it reaches
    one_line
    strata run -m "$TINY" "$PROMPT" --edit "resid_post:1@last set 1e39"
    expect 1 "'1e39' is no finite float32 number"
    for case in "f16 65520" "f16 -1e30" "bf16 3.4e38"; do
        strata dump -m "$TINY" -i one.jsonl --sites resid_post:1 --edit "resid_post:1@3 set ${case#* }" --dtype ${case% *} \
            -o big.h5 --quiet
        expect 1 "blocks.1.hook_resid_post of prompt 0 (a), row of position 3, overflows ${case% *}: use --dtype f32"
        one_line
        [ ! -e big.h5 ]
    done
    strata dump -m "$TINY" -i one.jsonl --sites resid_post:1 --edit 'resid_post:1@3 set 65519' --dtype f16 -o big.h5
    expect 0
}

# prompts LENGTH...: a line of token ids each, named by number and length.
prompts() {
    python3 - "$@" <<'END'
import json, sys
for i, n in enumerate(map(int, sys.argv[1:])):
    print(json.dumps({"id": f"{i}-{n}", "tokens": [(t * 37 + i * 101 + n) % 4000 + 3 for t in range(n)], "answer_token": 300 + i}))
END
}

# A batch has up to 512 rows: here they end after 511, 512 and 128 of them, before and behind prompts of one token.
@test "one token, the whole context, and batches that end anywhere give the same numbers in any order" {
    prompts 1 128 128 128 127 1 128 128 128 128 128 1 1 2 128 >there.jsonl
    tac there.jsonl >back.jsonl
    for order in there back; do
        "$STRATA" dump --quiet -m "$TINY" -i $order.jsonl --sites resid_post,z,pattern,logits -o $order.h5
        "$STRATA" lens --quiet -m "$TINY" -i $order.jsonl -o $order.csv
        cut -d, -f2- $order.csv | sort >$order.sorted
    done
    strata diff --tolerance 1e-5 there.h5 back.h5
    expect 0
    [ "$(wc -l <there.sorted)" = $((15 * 7 + 1)) ]
    [ "$(uname -m)" != x86_64 ] || cmp there.sorted back.sorted
    head -n 1 there.jsonl >alone.jsonl
    strata run -m "$TINY" -i alone.jsonl
    expect 0
    check 'len(d["tokens"]) == 1 and d["top"][0]["rank"] == 1'
    prompts 129 >long.jsonl
    strata dump -m "$TINY" -i long.jsonl --sites z -o long.h5
    expect 1 "long.jsonl: line 1: the prompt has 129 tokens, the model's context is 128"
    one_line
    prompts 0 >none.jsonl
    strata dump -m "$TINY" -i none.jsonl --sites z -o none.h5
    expect 1 "none.jsonl: line 1: "
    one_line
}
