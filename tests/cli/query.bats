load common

FACTS=$ROOT/data/facts/country_capital.jsonl

setup_file() {
    cd "$BATS_FILE_TMPDIR"
    local common=(--quiet -m "$TINY" -i "$FACTS") twelve=(--limit 12)
    "$STRATA" lens "${common[@]}" "${twelve[@]}" -o lens.h5
    "$STRATA" lens "${common[@]}" "${twelve[@]}" --site heads -o lens_heads.h5
    "$STRATA" lens "${common[@]}" "${twelve[@]}" --positions all -o lens_all.h5
    "$STRATA" dump "${common[@]}" "${twelve[@]}" --sites resid_post,pattern,z -o dump.h5
    "$STRATA" dump "${common[@]}" "${twelve[@]}" --sites L3H1,L3H2 -o some_heads.h5
    "$STRATA" dump "${common[@]}" "${twelve[@]}" --sites resid_post:1 --dtype f16 -o half.h5
    "$STRATA" heads "${common[@]}" "${twelve[@]}" --all -o heads.h5
    "$STRATA" heads "${common[@]}" --limit 5 --all -o five.h5
    "$STRATA" neurons "${common[@]}" "${twelve[@]}" --all -o neurons.h5
    "$STRATA" knockout "${common[@]}" "${twelve[@]}" --all -o knockout.h5
    "$STRATA" causal "${common[@]}" --limit 3 --all -o causal.h5
    "$STRATA" trace "${common[@]}" --limit 6 --no-plots -o traced >traced.txt
    mv traced/trace.h5 .
}

# In the folder of those files; $status, $output, $stderr as strata, and the files stdout and stderr.
query() {
    (cd "$BATS_FILE_TMPDIR" && exec "$STRATA" query "$@") >stdout 2>stderr && status=0 || status=$?
    output=$(<stdout)
    stderr=$(<stderr)
}

# against EXPRESSION: a true Python expression over `rows`, the lines of the CSV in the file stdout as lists of texts, and
# h5(FILE, DATASET), all numbers or texts of a dataset as h5dump prints them.
against() {
    python3 - "$1" "$BATS_FILE_TMPDIR" <<'PY'
import csv, math, re, subprocess, sys
def h5(name, dataset):
    subprocess.run(["h5dump", "-d", dataset, "-y", "-w", "1", "-m", "%.17g", "-o", "values", f"{sys.argv[2]}/{name}"],
                   check=True, stdout=subprocess.DEVNULL)
    return [t if t else float(x) for t, x in re.findall(r'"([^"]*)"|([-+.\deninf]+)', open("values").read())]
def near(a, b):
    return len(a) == len(b) and all(abs(x - y) <= 1e-8 * max(abs(x), abs(y)) for x, y in zip(a, b))
def numbers(field):
    return [float(x) for x in field.split(";")]
def column(i):
    return [r[i] for r in rows[1:]]
rows = list(csv.reader(open("stdout")))
if not eval("(" + sys.argv[1] + ")"):
    sys.exit("false: " + sys.argv[1] + "\n" + open("stdout").read()[:2000])
PY
}

@test "the answer enters the top 10 late and a head looks at the subject: two files" {
    query lens.h5 heads.h5 'first(rank <= 10) >= 3 and to_subject[L4H2] > 0.3' --select 'id, first(rank <= 10), to_subject[4,2]'
    expect 0 " of 12 rows"
    against '(lambda ids, rank, look: column(0) == [ids[i] for i in range(12) if look[i] > 0.3 and
        next((k for k in range(7) if 0 < rank[7 * i + k] <= 10), -1) >= 3])(
        h5("lens.h5", "/prompts/id"), h5("lens.h5", "/lens/rank"), h5("heads.h5", "/attention/to_subject")[4 * 4 + 2::24])'
    against '0 < len(rows) - 1 < 12 and rows[0][1] == "first(rank <= 10)" and all(float(x) >= 3 for x in column(1))'
    # the other way round the units are facts, and ranks must say whose
    query lens.h5 heads.h5 'first(rank <= 10) >= 3 and to_subject[4,2] > 0.3' --count
    first=$output
    query heads.h5 lens.h5 'first(lens:rank <= 10) >= 3 and to_subject[4,2] > 0.3' --count
    expect 0 " of 12 facts"
    [ "$output" = "$first" ]
}

@test "states, heads and attention of a dump are the file's own" {
    query dump.h5 'norm(resid_post[3]) > 0' --select 'id, position, norm(resid_post[3]), resid_post[3]'
    expect 0
    against '(lambda x: near([v for f in column(3) for v in numbers(f)], x) and near([float(f) for f in column(2)],
        [math.sqrt(sum(v * v for v in x[i:i + 96])) for i in range(0, len(x), 96)]))(
        h5("dump.h5", "/activations/blocks.3.hook_resid_post"))'
    against '[float(f) for f in column(1)] == h5("dump.h5", "/rows/position")'
    query dump.h5 'z[5, 2, 7] < 0' --select 'z[5,2,7]'
    against '(lambda z: near([float(f) for f in column(0)], [x for x in z[2 * 24 + 7::96] if x < 0]))(
        h5("dump.h5", "/activations/blocks.5.attn.hook_z"))'
    query dump.h5 'not missing(id)' --select 'sum(pattern[2,1]), sum(pattern[2, 1, subject])'
    against 'all(abs(float(f) - 1) < 1e-5 for f in column(0))'
    against '(lambda p, t, o, b, e: near([float(f) for f in column(1)], [sum(p[int(o[i]) + (n + q) * n + k]
        for k in range(int(b[i]), int(e[i]))) for i in range(12) for n in [int(t[i + 1] - t[i])] for q in range(n)]))(
        h5("dump.h5", "/activations/blocks.2.attn.hook_pattern"), h5("dump.h5", "/prompts/token_offset"),
        h5("dump.h5", "/prompts/pattern_offset"), h5("dump.h5", "/prompts/subject_begin"),
        h5("dump.h5", "/prompts/subject_end"))'
}

@test "every kind of file can be asked" {
    query lens_heads.h5 'any(rank <= 200 and logprob < 0)' --select 'rank["L3H2"], rank[L3H2], rank[14]'
    expect 0
    against 'len(rows) > 1 and all(r[0] == r[1] == r[2] for r in rows[1:])'
    query lens_all.h5 'position == 2' --count
    [ "$output" = 12 ]
    query heads.h5 'max(ablation.logprob) > -100 and mean(to_subject[5]) >= 0' --count
    [ "$output" = 12 ]
    query neurons.h5 'by_logit.layer[0] >= 0' --select 'id, by_logit.neuron[0], layers.entropy'
    expect 0
    against 'len(rows) == 13 and near([v for f in column(2) for v in numbers(f)], h5("neurons.h5", "/layers/entropy"))'
    query knockout.h5 'min(change_percent["subject"]) < -10' --select 'change_percent["subject", 2], change_percent[0,2]'
    expect 0
    against 'len(rows) > 1 and all(r[0] == r[1] for r in rows[1:])'
    query causal.h5 'max(state[:, 2]) > -1' --select 'id, state[:, 2], state[subject, 2], corrupted.prob'
    expect 0 "3 of 3 prompts"
    against 'near([v for f in column(1) for v in numbers(f)], h5("causal.h5", "/restored/state")[2::6])'
    query trace.h5 'min(blocked_subject) < 200' --select 'id, blocked_subject[2]' --json
    expect 0
    check 'len(d) == 6 and set(d[0]) == {"id", "blocked_subject[2]"}'
    query half.h5 'resid_post[1,0] > -1000' --count
    expect 0
    [ "$output" -gt 12 ]
}

@test "a head's number is its own in a dump of single heads" {
    query some_heads.h5 'position >= 0' --select 'z[3,2], z[L3H1]'
    expect 0
    cp stdout kept
    query dump.h5 'position >= 0' --select 'z[3,2], z[L3H1]'
    cmp stdout kept
    query some_heads.h5 'z[3,0,0] > 0'
    expect 1 "column 5: head 0 of blocks.3.attn.hook_z is not stored, only 1, 2"
    query some_heads.h5 'z[3,-1,0] > 0'
    expect 1 "column 5: head -1 of blocks.3.attn.hook_z is not stored, only 1, 2"
    query some_heads.h5 'any(z[3,0:2,0] > 0)'
    expect 1 "column 9: blocks.3.attn.hook_z has only some of the heads: take one, or all that there are (:)"
}

@test "joins leave out and count what has no partner, and notice other texts" {
    query lens.h5 five.h5 'to_subject[0,0] >= 0' --count
    expect 0 "5 of 12 rows" "7 rows left out"
    [ "$output" = 5 ]
    query lens_all.h5 dump.h5 'rank[0] >= 0 and norm(resid_post[0]) > 0' --select 'position, rows.position, dump:position'
    expect 0
    [[ $stderr != *"left out"* ]]
    against 'len(rows) > 40 and all(r[0] == r[1] == r[2] for r in rows[1:])'
    query lens.h5 dump.h5 'position == dump:position' --count
    [ "$output" = 12 ]
    query heads.h5 dump.h5 'prob > 0'
    expect 1 "dump.h5: has several rows a prompt, heads.h5 one a fact: put"
    one_line
    sed 's/The capital of France/The main city of France/' "$FACTS" >other.jsonl
    "$STRATA" lens --quiet -m "$TINY" -i other.jsonl --limit 12 -o other.h5
    strata query "$BATS_FILE_TMPDIR/lens.h5" other.h5 'other:rank[0] > 0' --count
    expect 0 "1 rows left out"
    [ "$output" = 11 ]
}

@test "columns, CSV, JSON Lines, --limit, --count and --fields" {
    query lens.h5 'rank[-1] >= 1 and answer != "x"' --limit 2
    expect 0 "2 of the first 2 rows"
    [ "$(head -n 1 stdout)" = "id,position,rank[-1],answer" ]
    [ "$(wc -l <stdout)" -eq 3 ]
    query lens.h5 'rank[0] >= 1' --limit 1 --select 'rank[0:3], "a,b", missing(rank), first(rank < 0)'
    against 'rows[0] == ["rank[0:3]", "\"a,b\"", "missing(rank)", "first(rank < 0)"] and rows[1][1] == "a,b" and
        rows[1][0].count(";") == 2 and rows[1][2] == "0;0;0;0;0;0;0" and rows[1][3] == ""'
    query lens.h5 'rank[0] >= 1' --limit 1 --json --select 'rank[0:3], first(rank < 0), answer'
    check 'len(d["rank[0:3]"]) == 3 and d["first(rank < 0)"] is None and d["answer"] == "Paris"'
    for name in out.csv out.jsonl out.json; do
        query lens.h5 'rank[0] >= 1' -o "$PWD/$name"
        expect 0
        [ -z "$output" ]
        [ "$(wc -l <$name)" -ge 12 ]
    done
    query lens.h5 'rank[0] < 0'
    expect 0 "0 of 12 rows"
    [ "$output" = "id,position,rank[0]" ]
    query lens.h5 'rank[0] < 0' --count --quiet
    [ "$output" = 0 ]
    [ -z "$stderr" ]
    query --fields lens.h5 dump.h5 --json
    check '[f["shape"] for f in d if f["name"] == "lens.rank"] == [[7]]'
    check '[f["shape"] for f in d if f["name"].endswith("0.attn.hook_pattern")] == [[4, "tokens"]]'
    query --fields trace.h5 # six facts, six layers: means over facts are no fields
    [[ $output == *facts.blocked_subject* ]]
    [[ $output != *mean.* && $output != *low.* ]]
}

@test "mistakes are one line with their place" {
    query lens.h5 'rnak > 3'
    [ "$stderr" = "strata: query: column 1: no field 'rnak' in lens.h5: did you mean lens.rank?" ]
    query lens.h5 'xyzzy > 3'
    [ "$stderr" = "strata: query: column 1: no field 'xyzzy' in lens.h5: --fields lists what is there" ]
    expect 1
    query lens.h5 'rnak > 3'
    expect 1 "strata: query: column 1: no field 'rnak' in lens.h5: did you mean lens.rank?"
    one_line
    query lens.h5 'first(rank <= 10) > 3 and lense:rank[0] > 1'
    expect 1 "column 27: no file 'lense': did you mean lens?"
    query lens.h5 'rank <= 10'
    expect 1 "column 6: the condition is a vector: any(), all() or first()"
    one_line
    query lens.h5 'id'
    expect 1 "column 1: the condition is a text"
    query lens.h5 'rank[0] > 3 adn rank[1] > 3'
    expect 2 "strata: query: column 13: an operator or the end is expected, not 'adn'"
    query lens.h5 'rank[0] > 3' --select 'id, rank[7]'
    expect 1 "strata: query: --select: column 10: 7 is past the end of axis 1 of lens.rank, which has 7"
    query lens.h5 'rank[0] > 3' --select 'id,'
    expect 2 "query: --select: column 4"
    query lens.h5
    expect 2 "needs files and an expression"
    query lens.h5 'rank[0] > 3' -o x.h5
    expect 2 "this command writes .csv, .json or .jsonl"
    query lens.h5 'rank[0] > 3' -o x.csv --json
    expect 2 "choose one"
    query lens.h5 'rank[0] > 3' -o /nowhere/x.csv
    expect 1 "/nowhere/x.csv: cannot create"
    query neurons.h5 'listed.logit[0] > 1'
    expect 1 "not kept for each row, prompt or fact"
    query lens.h5 "$(printf '(%.0s' {1..5000})"
    expect 2 "nested more than 100 levels deep"
}

@test "partial files count their whole prompts" {
    local condition='norm(resid_post[5]) > 0 and sum(pattern[2,1]) > 0.99' columns='id, position, resid_post[5,0]'
    cat "$ROOT"/data/facts/[a-c]*.jsonl >many.jsonl
    "$STRATA" dump --quiet -m "$TINY" -i many.jsonl --sites resid_post,pattern --flush 0 -o killed.h5 &
    child=$!
    for _ in {1..200}; do
        strata query killed.h5.partial 'position == 0' --count
        [[ $output =~ ^[0-9]{2,}$ ]] && break
        sleep 0.01
    done
    kill -KILL $child 2>/dev/null || true
    wait $child 2>/dev/null || true
    [ -e killed.h5.partial ] || skip "it was finished before it could be killed"
    strata query killed.h5.partial "$condition" --select "$columns"
    expect 0 "(partial file)"
    rows=$(($(wc -l <<<"$output") - 1))
    [ "$rows" -gt 0 ]
    "$STRATA" dump --quiet -m "$TINY" -i many.jsonl --sites resid_post,pattern -o whole.h5
    "$STRATA" query whole.h5 "$condition" --select "$columns" --limit "$rows" --quiet >whole
    [ "$output" = "$(<whole)" ]
}

@test "files that are damaged or no results are one clear line" {
    cp "$BATS_FILE_TMPDIR/lens.h5" .
    for bad in "$ROOT/LICENSE" "$TINY/model.safetensors"; do
        strata query "$bad" 'rank > 1'
        expect 1 "$bad: cannot open as HDF5"
        one_line
    done
    mkfifo fifo.h5
    strata query fifo.h5 'rank > 1'
    expect 1 "fifo.h5: is not a regular file"
    strata query none.h5 'rank > 1'
    expect 1 "none.h5: cannot open: No such file"
    one_line
    head -c 3000 lens.h5 >cut.h5
    strata query cut.h5 'rank[0] > 1'
    expect 1 "cut.h5"
    one_line
    seed=${QUERY_SEED:-$RANDOM}
    echo "QUERY_SEED=$seed"
    python3 - "$seed" <<'PY'
import random, sys
random.seed(int(sys.argv[1]))
good = open("lens.h5", "rb").read()
for i in range(12):
    bad = bytearray(good)
    for _ in range(random.choice([1, 4, 30])):
        bad[random.randrange(len(bad))] = random.choice([0, 1, 255, random.randrange(256)])
    open(f"damaged{i}.h5", "wb").write(bad)
PY
    for i in {0..11}; do # either answered or refused; never a crash or a hang
        run --separate-stderr timeout 20 "$STRATA" query damaged$i.h5 'first(rank <= 10) >= 0 and answer ~ "*"' --quiet
        if [ "$status" -ne 0 ]; then
            expect 1
            one_line
        fi
    done
}
