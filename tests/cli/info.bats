load common

@test "sizes and types are the config's" {
    strata info "$TINY" --json
    expect 0
    check 'd["architecture"] == "llama" and d["format"] == "safetensors" and d["weight_types"] == {"F16": 56}'
    python3 - "$output" "$TINY/config.json" <<'END'
import json, sys
d, c = json.loads(sys.argv[1]), json.load(open(sys.argv[2]))
for ours, theirs in [("n_layers", "num_hidden_layers"), ("n_heads", "num_attention_heads"),
                     ("n_kv_heads", "num_key_value_heads"), ("d_model", "hidden_size"), ("d_head", "head_dim"),
                     ("d_mlp", "intermediate_size"), ("d_vocab", "vocab_size"), ("n_ctx", "max_position_embeddings"),
                     ("norm_eps", "rms_norm_eps"), ("rope_theta", "rope_theta"), ("tied", "tie_word_embeddings"),
                     ("activation", "hidden_act")]:
    assert d[ours] == c[theirs], (ours, d[ours], c[theirs])
END
}

@test "parameters and bytes are the file's" {
    strata info "$TINY" --json
    python3 - "$output" "$TINY/model.safetensors" <<'END'
import json, math, struct, sys
d, f = json.loads(sys.argv[1]), open(sys.argv[2], "rb")
header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
n = sum(math.prod(t["shape"]) for name, t in header.items() if name != "__metadata__")
assert d["n_parameters"] == n, n
assert abs(d["weight_bytes"] - 4 * n) < 0.01 * 4 * n, d["weight_bytes"]
assert d["working_bytes"] > 512 * 96 * 4
END
}

@test "the model is the argument or -m, not both" {
    strata info "$TINY"
    expect 0
    text=$output
    strata info -m "$TINY"
    [ "$output" = "$text" ]
    strata info -m "$TINY" "$TINY"
    expect 2 "the model is given twice"
}

@test "text says what the model is and which sites it lacks and why" {
    strata info "$TINY"
    expect 0
    for word in llama 1002720 "byte-level BPE" "rotary" "MiB" "blocks.L.attn.hook_z" \
        "hook_pos_embed: the model has no learned position embedding"; do
        [[ $output == *"$word"* ]]
    done
}

@test "the JSON names present and missing sites" {
    strata info "$TINY" --json
    check '"blocks.L.attn.hook_z" in d["sites"] and "hook_pos_embed" not in d["sites"]'
    check 'd["missing_sites"]["hook_pos_embed"] == "the model has no learned position embedding"'
    check 'not set(d["missing_sites"]) & set(d["sites"])'
    check 'd["bos"] == 0 and d["eos"] == 0 and len(d["tokenizer_sha256"]) == 64'
}

@test "only the header is read: weights may be anything" {
    cp -r "$TINY" copy
    python3 - copy/model.safetensors <<'END'
import sys
f = open(sys.argv[1], "r+b")
f.seek(-1000, 2)
f.write(b"\xff" * 1000)
END
    strata info copy
    expect 0
}

@test "f64 needs more working memory" {
    strata info "$TINY" --json
    single=$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["working_bytes"])' "$output")
    strata info "$TINY" --json --precision f64
    check "d['working_bytes'] > 1.5 * $single"
}

@test "a GGUF file says which types its tensors have" {
    strata info "$ROOT"/tests/golden/models/llama_mixed_gguf/*.gguf --json
    expect 0
    check 'd["format"].startswith("GGUF v") and len(d["weight_types"]) > 1 and d["architecture"] == "llama"'
}

@test "blocks, positions, factors and heads of other families are said" {
    local models=$ROOT/tests/golden/models
    strata info "$models/gemma2"
    expect 0
    [[ $output == *"what sublayers return is normalised"* && $output == *"cap of scores"* ]]
    strata info "$models/mixtral"
    [[ $output == *"2 of 5 experts"* ]]
    strata info "$models/falcon_alibi"
    [[ $output == *"alibi"* ]]
    strata info "$models/bert" --json
    check 'd["block"] == "post-norm" and not d["causal"] and d["head_transform"]'
    check '"blocks.L.hook_normalized_resid_post" in d["sites"] and "ln_final.hook_out" in d["missing_sites"]'
    strata info "$models/gptj" --json
    check 'd["block"] == "parallel" and "parallel" in d["missing_sites"]["blocks.L.hook_resid_mid"]'
}
