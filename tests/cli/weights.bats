#!/usr/bin/env bats
# --weights stream: the same numbers with two blocks in memory at a time.
load common

same() { # $1..: a command; its output with streamed weights is that with weights in memory
    strata "$@" --weights memory
    expect 0
    local memory=$output
    strata "$@" --weights stream
    expect 0
    [ "$output" = "$memory" ]
}

@test "every analysis gives the same output with streamed weights" {
    local fact=("The capital of France is" --subject France --answer Paris)
    same run -m "$TINY" "${fact[@]}" --json
    same trace -m "$TINY" "${fact[@]}" --json
    same knockout -m "$TINY" "${fact[@]}" --json
    same heads -m "$TINY" "${fact[@]}" --json
    same neurons -m "$TINY" "${fact[@]}" --json
}

@test "verify passes with streamed weights" {
    strata verify "$TINY" --weights stream
    expect 0
}

@test "damage in a streamed block is found when the block is used, by the tensor's name" {
    cp -r "$TINY" copy
    python3 - copy/model.safetensors <<'PY'
import json, struct, sys
f = open(sys.argv[1], "r+b")
size = struct.unpack("<Q", f.read(8))[0]
begin = json.loads(f.read(size))["model.layers.3.mlp.up_proj.weight"]["data_offsets"][0]
f.seek(8 + size + begin)
f.write(b"\xff\xff")
PY
    strata run -m copy "The capital of France is" --weights stream
    expect 1 "model.layers.3.mlp.up_proj.weight" "damaged"
}

@test "info says what both ways need" {
    strata info "$TINY" --json
    check 'd["streamed_bytes"] < d["weight_bytes"]'
}

@test "an unknown place for the weights is refused" {
    strata run -m "$TINY" "x" --weights disk
    expect 2 "auto" "memory" "stream"
}
