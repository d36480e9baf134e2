load common

FACTS=$ROOT/data/facts/country_capital.jsonl

dump() {
    strata dump -m "$TINY" -i "$FACTS" "$@"
}

@test "a dump has the layout of its contract" {
    dump -o a.h5 --sites resid_post:0,z:1,k:1,pattern:1,logits
    expect 0
    [ -z "$output" ]
    [[ $stderr == *"plan: 5 sites, 85 prompts"* ]]
    list=$(h5ls -r a.h5 | tr -s ' ')
    for entry in "/prompts/id Dataset {85}" "/prompts/text Dataset {85}" "/prompts/token_offset Dataset {86}" \
        "/prompts/pattern_offset Dataset {86}" "/tokens/id Dataset {474}" "/tokens/text Dataset {474}" \
        "/tokens/byte_begin Dataset {474}" "/tokens/byte_end Dataset {474}" "/rows/prompt Dataset {474}" \
        "/rows/position Dataset {474}" "/activations/blocks.0.hook_resid_post Dataset {474, 96}" \
        "/activations/blocks.1.attn.hook_z Dataset {474, 4, 24}" \
        "/activations/blocks.1.attn.hook_k Dataset {474, 2, 24}" \
        "/activations/blocks.1.attn.hook_pattern Dataset {10864}" "/activations/logits Dataset {474, 4096}"; do
        grep -qF "$entry" <<<"$list" || { echo "no $entry in: $list"; false; }
    done
    header=$(h5dump -A a.h5)
    for name in format version strata_version command model_path model_sha256 architecture config tokenizer_sha256 \
        specials precision dtype threads blas isa seed created complete site axes meaning; do
        grep -qF "ATTRIBUTE \"$name\"" <<<"$header" || { echo "no attribute $name"; false; }
    done
    [ "$(ls)" = a.h5 ]
}

@test "h5dump reads what the run shows" {
    dump -o a.h5 --sites logits --positions last --limit 1
    expect 0
    text=$(h5dump -d /prompts/text a.h5 | sed -n 's/.*(0): "\(.*\)"/\1/p')
    [ "$text" = "The capital of France is" ]
    # The largest logit is the token that run puts on rank 1.
    best=$(h5dump -d /activations/logits -y -w 1 a.h5 | sed -n '/DATA {/,/}/p' | grep -oE '^ *-?[0-9.e+-]+' |
        awk '{ if (NR == 1 || $1 > max) { max = $1; at = NR - 1 } } END { print at }')
    strata run -m "$TINY" "$text" --top 1 --json
    [[ $output == *"\"rank\": 1, \"id\": $best,"* || $output == *"\"rank\":1,\"id\":$best,"* ]]
}

@test "halves are as far away as their precision" {
    dump -o f32.h5 --sites resid_post,z,pattern
    expect 0
    for type in f16 bf16; do
        dump -o $type.h5 --sites resid_post,z,pattern --dtype $type
        expect 0
    done
    h5dump -H -d /activations/blocks.0.attn.hook_z f16.h5 | grep -q "16-bit little-endian"
    # 2^-11 and 2^-8: half a unit in the last place
    strata diff f16.h5 f32.h5 --tolerance 0.00049
    expect 0
    strata diff bf16.h5 f32.h5 --tolerance 0.0039
    expect 0
    strata diff f16.h5 f32.h5 --tolerance 0.00001
    expect 1 differ
}

@test "the same command twice gives the same datasets, standard input too" {
    dump -o a.h5 --sites resid_post,z
    dump -o b.h5 --sites resid_post,z
    run --separate-stderr "$STRATA" dump -m "$TINY" -i - -o c.h5 --sites resid_post,z < <(cat "$FACTS")
    expect 0
    same_h5 a.h5 b.h5 /activations /prompts /tokens /rows
    same_h5 a.h5 c.h5 /activations /prompts /tokens /rows
}

@test "a folder gets shards, a manifest and an index that reads as one" {
    dump -o whole.h5 --sites resid_post,z,pattern:2
    dump -o parts/ --sites resid_post,z,pattern:2 --shard-size 1
    expect 0
    n=$(ls parts/shard-*.h5 | wc -l)
    [ "$n" -gt 0 ]
    grep -q '"complete": true' parts/manifest.json
    [ "$(grep -c '"file"' parts/manifest.json)" = "$n" ]
    strata diff whole.h5 parts/index.h5
    expect 0
    # Relative names: the folder can be moved.
    mv parts moved
    same_h5 whole.h5 moved/index.h5 /activations
}

@test "a folder resumes after its last finished shard" {
    cat "$ROOT"/data/facts/*.jsonl >facts.jsonl
    common="-m $TINY -i facts.jsonl --sites resid_post --shard-size 4"
    strata dump $common -o whole/
    expect 0
    strata dump $common -o parts/
    # As if killed in the second of several shards.
    rm parts/index.h5 parts/shard-0000[1-9].h5
    strata dump $common -o parts/
    expect 1 "--resume"
    strata dump $common -o parts/ --resume
    expect 0
    [[ $stderr == *"shard-00000.h5: "*"are there already"* ]]
    strata diff whole/index.h5 parts/index.h5
    expect 0
    cmp whole/manifest.json <(sed "s|parts/|whole/|; s| --resume||" parts/manifest.json)
}

@test "an existing file is never overwritten" {
    echo precious >a.h5
    dump -o a.h5 --sites z
    expect 1 "a.h5: exists already: remove it, or choose another output"
    one_line
    [ "$(cat a.h5)" = precious ]
    dump -o a.h5 --sites z --resume
    expect 1 "a.h5: cannot open as HDF5"
    mv a.h5 a.h5.partial
    dump -o a.h5 --sites z
    expect 1 "an interrupted run left it: continue it with --resume, or remove it"
}

@test "--resume of a complete file checks it and changes nothing" {
    dump -o a.h5 --sites z
    before=$(sha256sum <a.h5)
    dump -o a.h5 --sites z --resume
    expect 0
    [ "$before" = "$(sha256sum <a.h5)" ]
    dump -o a.h5 --sites z --resume --dtype f16
    expect 1 "dtype 'f32', now 'f16'"
    dump -o a.h5 --sites z,k --resume
    expect 1 "repeat the same command"
    dump -o a.h5 --sites z --resume --limit 10
    expect 1
    [ "$before" = "$(sha256sum <a.h5)" ]
}

@test "the plan comes first" {
    dump -o a.h5 --sites '*' --plan
    expect 0
    [[ $output == "plan: "*"85 prompts"*"on disk"* ]]
    [ ! -e a.h5 ]
    dump -o a.h5 --sites resid_post --plan --json
    expect 0
    python3 -c 'import json, sys; p = json.load(sys.stdin); assert p["rows"] == 474 and p["site_bytes"] == 474 * 96 * 4 * 6' <<<"$output"
}

@test "a disk without room is refused before anything is written" {
    not_under_asan
    cat >full.c <<'END'
#include <string.h>
#include <sys/statvfs.h>
int statvfs(const char *path, struct statvfs *fs)
{
    (void)path;
    memset(fs, 0, sizeof *fs);
    return 0;
}
END
    ${CC:-cc} -shared -fPIC -o full.so full.c
    LD_PRELOAD=$PWD/full.so dump -o full.h5 --sites z
    expect 1 "full.h5: needs" "has 0 bytes free"
    [ -z "$(ls full.h5*)" ]
}

@test "positions choose rows and heads choose slices" {
    dump -o a.h5 --sites L1H3,L1H0,resid_post:0 --positions subject-last
    expect 0
    list=$(h5ls -r a.h5 | tr -s ' ')
    grep -qF "/activations/blocks.1.attn.hook_z Dataset {85, 2, 24}" <<<"$list"
    grep -qF "/activations/blocks.0.hook_resid_post Dataset {85, 96}" <<<"$list"
    h5dump -a /activations/blocks.1.attn.hook_z/heads a.h5 | grep -q "(0): 0, 3"
    echo '{"prompt": "No subject here"}' >f.jsonl
    strata dump -m "$TINY" -i f.jsonl -o b.h5 --sites z --positions subject
    expect 1 "f.jsonl: prompt 0"
    one_line
}

@test "wrong usage of dump is exit 2, a bad input exit 1, each in one line" {
    strata dump -m "$TINY" -i "$FACTS" -o a.h5
    expect 2 "--sites"
    strata dump -m "$TINY" --sites z -o a.h5
    expect 2 "-i FILE"
    dump --sites z
    expect 2 "-o OUT.h5"
    dump --sites z -o a.txt
    expect 2 "a.txt"
    dump --sites z -o a.h5 --dtype f8
    expect 2 "--dtype"
    dump --sites zz -o a.h5
    expect 1 "did you mean z?"
    one_line
    dump --sites z -o none/a.h5
    expect 1 "none/a.h5: cannot create: No such file or directory"
    strata dump -m "$TINY" -i /dev/null --sites z -o a.h5
    expect 1 "holds no prompts"
    one_line
    [ -z "$(ls)" ]
}

@test "a folder without write permission is one clear line" {
    mkdir closed
    chmod 555 closed
    [ ! -w closed ] || skip "root may write everywhere"
    dump --sites z -o closed/a.h5
    expect 1 "closed/a.h5: cannot create: Permission denied"
    one_line
}

@test "a file size limit is one clear line and leaves nothing" {
    run --separate-stderr bash -c 'ulimit -f 64; exec "$@"' _ "$STRATA" dump --quiet -m "$TINY" -i "$FACTS" \
        --sites resid_post -o a.h5
    expect 1 "a.h5.starting: cannot"
    one_line
    [ -z "$(ls)" ]
}
