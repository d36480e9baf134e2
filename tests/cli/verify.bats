load common

@test "the tiny model passes, each check with its limit" {
    strata verify "$TINY"
    expect 0
    [[ $output == *"resid_pre + attn_out = resid_mid"* && $output == *"blocks.L.attn.hook_pattern"* ]]
    [[ $output != *OFF* ]]
    [ "$(grep -c ' ok$' <<<"$output")" -ge 35 ]
}

@test "JSON has every check" {
    strata verify -m "$TINY" --json
    expect 0
    check 'd["ok"] and all(c["ok"] and c["worst"] <= c["limit"] for c in d["checks"])'
    check '{"identity", "precision"} == {c["kind"] for c in d["checks"]}'
    check 'sum(c["kind"] == "precision" for c in d["checks"]) == 28 and d["n_tokens"] > 64'
    check 'any(0 < c["worst"] for c in d["checks"])'
}

@test "a model without a tokenizer is checked with random ids of the seed" {
    mkdir bare
    cp "$TINY"/config.json "$TINY"/model.safetensors bare
    strata verify bare --json
    expect 0
    check 'd["ok"] and d["n_tokens"] == 98'
    first=$output
    strata verify bare --json
    [ "$output" = "$first" ]
    strata verify bare --json --seed 2
    expect 0
    [ "$output" != "$first" ]
}

@test "every checkpoint passes" {
    for step in 000032 001024; do
        strata verify "$TINY/checkpoints/step_$step" --json
        expect 0
    done
}

@test "a model of every family and file format passes" {
    for model in "$ROOT"/tests/golden/models/*; do
        [ -e "$model/config.json" ] || model=$(echo "$model"/*.gguf)
        strata verify "$model" --json
        expect 0
        check 'd["ok"] and d["n_tokens"] > 64'
    done
}

@test "wrong products of queries and keys are found, named, and exit 1" {
    # d_head is 24: the inner size of these products alone, which are the BLAS's. Its self-test has other shapes.
    wrong_blas 24
    run --separate-stderr env LD_PRELOAD="$PWD/wrong.so" "$STRATA" verify "$TINY" --quiet
    expect 1 "$TINY: " "checks are off, first '"
    one_line
    grep -qE '^blocks\.L\.attn\.hook_attn_scores .* OFF$' <<<"$output"
    grep -qE '^post W_out \+ b_out = mlp_out .* ok$' <<<"$output"
    grep -qE '^pattern v = z .* ok$' <<<"$output"
}
