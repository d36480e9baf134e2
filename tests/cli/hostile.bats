load common

# Files that change or are not what they seem: one clear line, exit status 1.

# Fails where the limit of this test ends, so that what hangs is seen.
limited() {
    run --separate-stderr timeout 10 "$STRATA" "$@"
}

@test "a model that is cut short during a run is named" {
    cp -r "$ROOT/tests/golden/models/llama_a" model
    mkfifo facts
    "$STRATA" lens -m model -i - -o x.h5 --quiet <facts 2>err &
    pid=$!
    exec 9>facts
    for _ in $(seq 100); do
        grep -q model.safetensors "/proc/$pid/maps" && break
        sleep 0.05
    done
    grep -q model.safetensors "/proc/$pid/maps" || skip "the weights are not mapped while facts are awaited"
    : >model/model.safetensors
    echo '{"tokens":[1,2,3],"answer_token":4}' >&9
    exec 9>&-
    status=0
    wait "$pid" || status=$?
    stderr=$(cat err)
    expect 1 "model/model.safetensors: was cut short"
    one_line
}
