load common

# One file for all tests: lens.h5 of 85 capitals and 65 landmarks.
setup_file() {
    cat "$BATS_TEST_DIRNAME"/../../data/facts/{country_capital,landmark_city}.jsonl >"$BATS_FILE_TMPDIR/facts.jsonl"
    "${STRATA:-$BATS_TEST_DIRNAME/../../build/strata}" lens --quiet -m "$BATS_TEST_DIRNAME/../../data/tiny" \
        -i "$BATS_FILE_TMPDIR/facts.jsonl" -o "$BATS_FILE_TMPDIR/lens.h5"
    "${STRATA:-$BATS_TEST_DIRNAME/../../build/strata}" lens --quiet -m "$BATS_TEST_DIRNAME/../../data/tiny" \
        -i "$BATS_FILE_TMPDIR/facts.jsonl" -o "$BATS_FILE_TMPDIR/lens.csv"
}

@test "without -o a table, one line a depth" {
    strata curves "$BATS_FILE_TMPDIR/lens.h5"
    expect 0
    [[ $output == "n = 150 facts, "*"norm convention: lens"* ]]
    [ "$(grep -cE '^ +[0-6]  ' <<<"$output")" -eq 7 ]
}

@test "medians, hits and probabilities are those of the lens's own CSV" {
    strata curves "$BATS_FILE_TMPDIR/lens.h5" --json
    expect 0
    check 'd["format"] == "strata-curves" and d["n_facts"] == 150 and d["norm"] == "lens" and d["band_over"] == "subjects"'
    python3 - "$BATS_FILE_TMPDIR/lens.csv" >own.json <<'P'
import csv, json, statistics, sys
depths = [[] for _ in range(7)]
for x in csv.DictReader(open(sys.argv[1])):
    depths[int(x["layer"])].append((int(x["rank"]), float(x["prob"]), float(x["entropy"])))
print(json.dumps([{"median": statistics.median(r for r, _, _ in d), "hit1": sum(r == 1 for r, _, _ in d) / len(d),
                   "hit10": sum(r <= 10 for r, _, _ in d) / len(d), "p": sum(p for _, p, _ in d) / len(d),
                   "entropy": statistics.median(h for _, _, h in d)} for d in depths]))
P
    check 'all(x["rank_median"] == y["median"] and near(x["hit1"], y["hit1"]) and near(x["hit10"], y["hit10"])
        and near(x["prob_mean"], y["p"]) and near(x["entropy_median"], y["entropy"]) for x, y in zip(d["layers"], e))' own.json
    check 'all(x["rank_q1"] <= x["rank_median"] <= x["rank_q3"] for x in d["layers"])'
    check 'all(x["hit1_low"] <= x["hit1"] <= x["hit1_high"] for x in d["layers"])'
    check 'd["layers"][-1]["hit1"] == 1 and d["never_rank1"] == 0 and d["final_rank1"] == 150'
    check 'any(x["competitors_mean"] > 0.01 for x in d["layers"])'
}

@test "the seed is in the output and decides the bands" {
    strata curves "$BATS_FILE_TMPDIR/lens.h5" --json --seed 1
    first=$output
    strata curves "$BATS_FILE_TMPDIR/lens.h5" --json
    [ "$output" = "$first" ]
    strata curves "$BATS_FILE_TMPDIR/lens.h5" --json --seed 2
    [ "$output" != "$first" ]
    check 'd["seed"] == 2 and d["draws"] == 1000'
    strata curves "$BATS_FILE_TMPDIR/lens.h5" --json --draws 50
    check 'd["draws"] == 50'
}

@test "CSV and JSON files" {
    strata curves "$BATS_FILE_TMPDIR/lens.h5" -o c.csv
    expect 0
    [ "$(wc -l <c.csv)" -eq 8 ]
    [[ $(head -1 c.csv) == layer,label,n,rank_median,* ]]
    strata curves "$BATS_FILE_TMPDIR/lens.h5" -o c.json
    expect 0
    python3 -c 'import json; assert len(json.load(open("c.json"))["layers"]) == 7'
    strata curves "$BATS_FILE_TMPDIR/lens.h5" -o c.png
    expect 2 "give a folder"
}

@test "a folder gets tables and figures, again and again" {
    command -v gnuplot >/dev/null || skip "gnuplot is not installed"
    for run in 1 2; do
        strata curves "$BATS_FILE_TMPDIR/lens.h5" -o new/curves
        expect 0
        [ -z "$stderr" ]
        for name in rank probability hits candidates competitors depth; do
            [ -s new/curves/$name.svg ]
            [ -s new/curves/$name.png ]
            [ -s new/curves/$name.dat ]
            [ -s new/curves/$name.gp ]
        done
        [ -s new/curves/curves.csv ]
        [ -s new/curves/curves.json ]
        [ "$(grep -c '<img src="data:image/svg+xml;base64,' new/curves/index.html)" -eq 6 ]
    done
    grep -q "norm convention: lens" new/curves/rank.gp
    grep -q "n = 150 facts" new/curves/rank.gp
}

@test "of heads there is a map, and nothing that settles" {
    command -v gnuplot >/dev/null || skip "gnuplot is not installed"
    strata lens -m "$TINY" -i "$BATS_FILE_TMPDIR/facts.jsonl" --limit 10 --site heads -o heads.h5
    strata curves heads.h5 -o c
    expect 0
    [ -s c/heads.png ]
    [ -s c/rank.png ]
    [ ! -e c/depth.gp ]
    [ "$(grep -vc '^#' c/heads.dat)" -ge 24 ]
    strata curves heads.h5
    expect 0
    [[ $output == *L5H3* && $output != *settled* ]]
}

@test "without gnuplot the numbers are there, and a note" {
    mkdir bin
    run --separate-stderr env PATH="$PWD/bin" "$STRATA" curves "$BATS_FILE_TMPDIR/lens.h5" -o c
    expect 0 "gnuplot is not installed"
    grep -q "rank: not drawn" c/index.html
    [ -s c/curves.csv ]
    [ -s c/rank.dat ]
    [ -s c/rank.gp ]
    [ ! -e c/rank.png ]
}

@test "files that are no lens results are refused in one line" {
    strata curves nowhere.h5
    expect 1 "nowhere.h5"
    one_line
    echo "hello" >text.h5
    strata curves text.h5
    expect 1 "text.h5"
    one_line
    head -c 20000 "$BATS_FILE_TMPDIR/lens.h5" >cut.h5
    strata curves cut.h5
    expect 1 "cut.h5"
    one_line
    strata curves
    expect 2
}

@test "prompts without answers are counted; none with one is an error" {
    printf '%s\n' '{"prompt": "The capital of France is", "answer": "Paris"}' '{"prompt": "The capital of Italy is"}' >f.jsonl
    strata lens -m "$TINY" -i f.jsonl --positions all -o f.h5
    strata curves f.h5 --json
    expect 0
    check 'd["n_facts"] == 1 and d["left_out"] == {"prompts_without_answer": 1, "rows_at_other_positions": 4}'
    sed -n 2p f.jsonl >none.jsonl
    strata lens -m "$TINY" -i none.jsonl -o none.h5
    strata curves none.h5
    expect 1 "no prompt has an answer"
    one_line
}
