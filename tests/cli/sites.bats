load common

@test "without a model every site has its axes and meaning" {
    strata sites
    expect 0
    [ -z "$stderr" ]
    grep -qE '^blocks\.L\.attn\.hook_z +z +row, n_heads, d_head +mix of values' <<<"$output"
    grep -qE '^hook_pos_embed .*not in every model' <<<"$output"
}

@test "with a model shapes are numbers and refusals have reasons" {
    strata sites -m "$TINY"
    expect 0
    grep -qE '^blocks\.L\.attn\.hook_z +z +row, 4, 24 ' <<<"$output"
    grep -qE '^blocks\.L\.attn\.hook_k +k +row, 2, 24 ' <<<"$output"
    grep -qE '^hook_pos_embed +pos_embed +absent +the model has no learned position embedding$' <<<"$output"
}

@test "JSON has one row a site" {
    strata sites --json
    check 'd["model"] is None and len(d["sites"]) == len({s["name"] for s in d["sites"]}) >= 29'
    check '[s["axes"] for s in d["sites"] if s["name"] == "blocks.L.attn.hook_pattern"] == [["head", "query", "key"]]'
    strata sites --json -m "$TINY"
    check 'd["n_layers"] == 6'
    check '[s["shape"] for s in d["sites"] if s["name"] == "blocks.L.attn.hook_z"] == [["row", 4, 24]]'
    check '[s["shape"] for s in d["sites"] if s["name"] == "blocks.L.attn.hook_pattern"] == [[4, "query", "key"]]'
    check '[s["missing"] for s in d["sites"] if s["name"] == "hook_pos_embed"] == ["the model has no learned position embedding"]'
    check 'all(s["missing"] is None and s["meaning"] for s in d["sites"] if "shape" in s)'
}

@test "every name of the list is one that --edit takes" {
    strata sites --json -m "$TINY"
    python3 -c 'import json, sys
for s in json.loads(sys.argv[1])["sites"]:
    if not s["missing"] and s["editable"]:
        print(s["name"].replace("blocks.L.", "blocks.3."))
        print(s["short"] + (":3" if s["per_layer"] else ""))' "$output" >names
    [ "$(wc -l <names)" -ge 50 ]
    edits=()
    while read -r name; do
        edits+=(--edit "$name scale 1")
    done <names
    strata run -m "$TINY" "$PROMPT" --json
    plain=$output
    strata run -m "$TINY" "$PROMPT" --json "${edits[@]}"
    expect 0
    check 'd["top"][0]["id"] == 1055'
    check "near(d['top'][0]['logprob'], json.loads('''$plain''')['top'][0]['logprob'], 1e-4)"
}

@test "learned positions exist where rotary ones do not, and the other way round" {
    strata sites -m "$ROOT/tests/golden/models/gpt2"
    expect 0
    grep -qE '^hook_pos_embed +pos_embed +row, [0-9]+ ' <<<"$output"
    grep -qE '^blocks\.L\.attn\.hook_rot_q +rot_q +absent +the model has no rotary position embedding$' <<<"$output"
    grep -qE "^blocks\.L\.mlp\.hook_pre_linear +pre_linear +absent +the model's MLP is not gated$" <<<"$output"
}
