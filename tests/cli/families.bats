load common

# Golden models have no tokenizer: letters will do.
letters() {
    local vocab='"Ġ":0' i=1 c
    for c in {a..z} T; do
        vocab+=",\"$c\":$((i++))"
    done
    echo '{"version":"1.0","added_tokens":[],"normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,
        "trim_offsets":true,"use_regex":true},"post_processor":null,
        "decoder":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true},
        "model":{"type":"BPE","vocab":{'"$vocab"'},"merges":[]}}'
}

# The golden model of that name, with letters, as ./NAME; and six facts.
golden() {
    cp -r "$ROOT/tests/golden/models/$1" .
    letters >"$1/tokenizer.json"
    for subject in abc xyz kkk qed axe fig; do
        echo "{\"prompt\": \"The $subject of\", \"subject\": \"$subject\", \"answer\": \"${subject:1:1}\"}"
    done >f.jsonl
}

# Parallel, sandwich norms with soft-caps, norms without gains, scaled residuals and logits, ALiBi.
@test "every analysis runs on every kind of block, with finite numbers" {
    for model in cohere2 gemma2 olmo granite bloom; do
        golden $model
        strata trace -m $model "The abc of" --subject abc --json
        expect 0
        check 'abs(d["residue"]) < 1e-5 * (1 + abs(d["logit"])) and len(d["layers"]) == 3'
        for command in lens knockout causal heads neurons; do
            extra=--all
            [ $command != lens ] || extra=
            strata $command -m $model -i f.jsonl $extra -o $command.csv
            expect 0
            [ "$(wc -l <$command.csv)" -gt 3 ]
            [ "$(grep -ciwE 'nan|inf' $command.csv)" -eq 0 ]
        done
        strata patch -m $model "The abc of " --from "The xyz of " --answer q --from-answer t \
            --site resid_post,attn_out,z -o p.csv
        expect 0
        [ "$(grep -ciwE 'nan|inf' p.csv)" -eq 0 ]
    done
}

@test "parallel blocks have no state between their halves, and say so" {
    golden cohere2
    strata patch -m cohere2 "The abc of " --from "The xyz of " --answer q --from-answer t --site resid_mid
    expect 1 "hook_resid_mid cannot be patched layer by layer: the block is parallel"
    one_line
}

@test "experts: neurons have no site, all else runs" {
    golden qwen2_moe
    strata trace -m qwen2_moe "The abc of" --subject abc --json
    expect 0
    strata heads -m qwen2_moe -i f.jsonl --all --json
    expect 0
    strata neurons -m qwen2_moe -i f.jsonl --all
    expect 1 "qwen2_moe: its MLPs are mixtures of experts" mlp.hook_expert_result
    one_line
}

@test "post-norm: logits are no sum of parts, and lens, knockout and causal run" {
    golden opt_post
    for command in heads neurons; do
        strata $command -m opt_post -i f.jsonl --all
        expect 1 "opt: every block normalises the stream itself" "use lens, patch, causal or knockout"
        one_line
    done
    strata trace -m opt_post "The abc of" --subject abc
    expect 0
    [[ $output == *"its parts, and the three stages, are not available: "* ]]
    strata lens -m opt_post -i f.jsonl -o lens.csv
    expect 0
    strata run -m opt_post "The abc of" --json
    expect 0
    strata knockout -m opt_post -i f.jsonl --all --json
    expect 0
    check 'all(math.isfinite(x) for s in d["thirds"].values() for x in s["mean"])'
}

@test "longrope: a generation that passes the old context is one line" {
    golden phi3_long
    strata run -m phi3_long "The abc of the abc of the abc of the of" --generate 4
    expect 1 "prompts of more than 40 tokens are rotated otherwise"
    strata run -m phi3_long "The abc of" --generate 8
    expect 0
}
