load common

FACTS=$ROOT/data/facts/country_capital.jsonl

dump() {
    "$STRATA" dump --quiet -m "$TINY" -i "$FACTS" --limit 20 "$@"
}

@test "a file equals itself" {
    dump -o a.h5 --sites resid_post,z,pattern
    strata diff a.h5 a.h5
    expect 0
    [[ $output == *equal ]]
}

@test "an edit shows from its layer on, and not before" {
    dump -o a.h5 --sites resid_post,z
    dump -o b.h5 --sites resid_post,z --edit 'blocks.3.attn.hook_z@last#1 zero'
    strata diff a.h5 b.h5
    expect 1 "first blocks.3.attn.hook_z"
    [[ $output == *"first that differs: blocks.3.attn.hook_z"* ]]
    strata diff a.h5 b.h5 --json
    expect 1
    python3 - "$output" <<'PY'
import json, sys
d = json.loads(sys.argv[1])
assert not d["equal"] and d["first"] == "blocks.3.attn.hook_z" and d["prompts"] == 20
for s in d["sites"]:
    same = int(s["site"].split(".")[1]) < 3
    assert s["within"] == same and (s["max_abs"] == 0) == same and (s["relative"] == 0) == same, s
    assert abs(s["cosine"]) <= 1 + 1e-12
PY
}

@test "prompts and sites of one file only are counted by side" {
    dump -o a.h5 --sites resid_post:0,z:0
    dump -o b.h5 --sites resid_post:0,k:0 --positions last --limit 10 2>/dev/null ||
        "$STRATA" dump --quiet -m "$TINY" -i "$FACTS" --limit 10 -o b.h5 --sites resid_post:0,k:0 --positions last
    strata diff a.h5 b.h5 --tolerance 1e-5
    expect 1 "different prompts, rows or sites"
    [[ $output == *"10 prompts, 10 rows in both"* ]]
    [[ $output == *"10 prompts only in A"* ]]
    [[ $output == *"rows only in A, 0 only in B"* ]]
    [[ $output =~ hook_z\ +only\ in\ A ]]
    [[ $output =~ hook_k\ +only\ in\ B ]]
}

@test "lens files are compared too, a dump and a lens file are not" {
    "$STRATA" lens --quiet -m "$TINY" -i "$FACTS" --limit 20 -o a.h5
    "$STRATA" lens --quiet -m "$TINY" -i "$FACTS" --limit 20 -o b.h5
    strata diff a.h5 b.h5
    expect 0
    dump -o c.h5 --sites z
    strata diff a.h5 c.h5
    expect 1 "one is a dump, the other a lens file"
    one_line
}

@test "one flipped bit is found" {
    dump -o a.h5 --sites z:2
    cp a.h5 b.h5
    at=$(h5dump -p -H -d /activations/blocks.2.attn.hook_z a.h5 | sed -n 's/ *OFFSET \([0-9]*\)/\1/p')
    printf '\x01' | dd of=b.h5 bs=1 seek=$((at + 40)) conv=notrunc status=none
    cmp -s a.h5 b.h5 && skip "the byte was 1 already"
    strata diff a.h5 b.h5
    expect 1 "first blocks.2.attn.hook_z"
}

@test "files that are no dump are one clear line" {
    dump -o a.h5 --sites z:0
    for bad in "$ROOT/LICENSE" "$TINY/model.safetensors"; do
        strata diff a.h5 $bad
        expect 1 "$bad: cannot open as HDF5"
        one_line
    done
    for bad in /dev/null "$TINY"; do
        strata diff a.h5 $bad
        expect 1 "$bad: is not a regular file"
        one_line
    done
    strata diff a.h5 none.h5
    expect 1 "none.h5: cannot open: No such file"
    one_line
    head -c 3000 a.h5 >cut.h5
    strata diff cut.h5 a.h5
    expect 1 "cut.h5"
    one_line
    strata diff a.h5
    expect 2
    strata diff a.h5 a.h5 --tolerance -1
    expect 2 "--tolerance"
}
