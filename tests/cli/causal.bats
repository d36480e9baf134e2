load common

facts() {
    cat <<'END'
{"id": "a", "prompt": "The Eiffel Tower is in the city of", "subject": "Eiffel Tower", "answer": "Paris"}
{"id": "b", "prompt": "The Colosseum is in the city of", "subject": "Colosseum", "answer": "Rome"}
{"id": "c", "prompt": "The Eiffel Tower is in the city of", "subject": "Eiffel Tower", "answer": "Oslo"}
END
}

@test "one fact: effects of every token, within 100 columns" {
    strata causal -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris --window 2
    expect 0
    [ -z "$stderr" ]
    [[ $output == *"(tokens 1-4, marked *)"* && $output == *"(rank 1)"* && $output == *"severed at"* ]]
    [ "$(grep -cE '^ +[0-9]+[* ] .*[^%]$' <<<"$output")" -eq 10 ]
    [ "$(awk '{ if (length($0) > most) most = length($0) } END { print most }' <<<"$output")" -le 101 ]
}

@test "JSON: the definitions hold" {
    strata causal -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris --window 2 --samples 4 --json
    expect 0
    check 'd["format"] == "strata-causal" and d["samples"] == 4 and d["window"] == 2 and d["norm"] == "lens"'
    check 'near(d["facts"][0]["corrupted"]["prob"], sum(d["facts"][0]["corrupted"]["samples"]) / 4)'
    check 'all(near(p, d["facts"][0]["corrupted"]["prob"]) for p in d["facts"][0]["restored"]["state"][0])'
    check 'near(d["facts"][0]["restored"]["state"][-1][-1], d["facts"][0]["clean"]["prob"])'
    check 'near(d["facts"][0]["restored"]["severed_mlp"][-1], d["facts"][0]["restored"]["state"][4][-1])'
    check 'near(d["summary"]["total_effect"][0], d["facts"][0]["clean"]["prob"] - d["facts"][0]["corrupted"]["prob"])'
    echo "$output" >causal.json
    strata run -m "$TINY" "$PROMPT" --answer Paris --json
    check 'near(d["answer"]["prob"], e["facts"][0]["clean"]["prob"])' causal.json
}

@test "noise and corrupted runs are those of an edit" {
    # sN is N times a number that --noise can be given.
    strata causal -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris --restore state --samples 2 --json
    echo "$output" >s3.json
    noise=$(python3 -c 'import json; print(repr(json.load(open("s3.json"))["noise"]))')
    strata causal -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris --restore state --samples 2 --json --noise "$noise"
    check 'near(d["facts"][0]["corrupted"]["prob"], e["facts"][0]["corrupted"]["prob"]) and d["noise_rule"] == "given"' s3.json
    strata causal -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris --restore state --samples 2 --json --seed 2
    check 'd["facts"][0]["corrupted"]["samples"] != e["facts"][0]["corrupted"]["samples"] and d["noise"] == e["noise"]' s3.json
    check 'set(d["facts"][0]["restored"]) == {"state"}'
}

@test "a data set: known facts, counts, averages by role" {
    facts >f.jsonl
    strata causal -m "$TINY" -i f.jsonl --restore state,mlp --window 2 --samples 3 --json
    expect 0
    check 'd["facts_read"] == 3 and d["facts_unknown"] >= 1 and d["selection"] == "known"'
    check 'len(d["facts"]) == 3 - d["facts_unknown"]'
    check 'all(s["role"] != "before the subject" and s["n"] <= len(d["facts"]) for s in d["summary"]["series"])'
    strata causal -m "$TINY" -i f.jsonl --restore state --samples 2 --all
    expect 0
    [[ $output == *"3 read"* && $output == *"traced too (--all)"* && $output == *"ATE"* ]]
    tail -n 1 f.jsonl >unknown.jsonl
    strata causal -m "$TINY" -i unknown.jsonl
    expect 1 "none of its 1 facts on rank 1" "--all"
    one_line
}

@test "a folder gets numbers and figures, and is not overwritten" {
    command -v gnuplot >/dev/null || skip "gnuplot is not installed"
    facts >f.jsonl
    strata causal -m "$TINY" -i f.jsonl --all --samples 2 --window 2 -o out
    expect 0
    [[ $output == *"average indirect effect"* ]]
    for name in state mlp attn subject_last last severed; do
        for kind in svg png dat gp; do [ -s out/$name.$kind ]; done
    done
    [ -s out/causal.h5 ]
    [ ! -e out/causal.h5.partial ]
    head -1 out/causal.csv | grep -qx 'prompt,id,kind,position,token,role,layer,p,ie,p_clean,p_corrupted,norm'
    head -1 out/summary.csv | grep -qx 'kind,role,layer,n,aie,low,high,norm'
    strata causal -m "$TINY" -i f.jsonl --all --samples 2 --window 2 -o out
    expect 1 "causal.h5"
    one_line
    strata causal -m "$TINY" -i f.jsonl --all --samples 2 --window 2 -o out --resume
    expect 0 "resuming after 3 of 3"
    strata causal -m "$TINY" -i f.jsonl --all --samples 3 --window 2 -o out --resume
    expect 1 "was begun with samples 2, now 3"
    one_line
    strata causal -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --samples 2 --window 2 -o one
    expect 0
    for name in state mlp attn severed; do [ -s one/$name.png ]; done
    grep -q "fcfbfd" one/state.gp
    grep -q "f7fcf5" one/mlp.gp
    grep -q "fff5f0" one/attn.gp
}

@test "a killed run resumes to the same file" {
    facts >f.jsonl
    strata causal -m "$TINY" -i f.jsonl --all --samples 2 --window 2 -o whole.h5
    expect 0
    [ -z "$output" ]
    # Stopped by itself: between two facts, at the first write that a signal meets.
    cat f.jsonl f.jsonl f.jsonl f.jsonl f.jsonl f.jsonl f.jsonl f.jsonl >many.jsonl
    strata causal -m "$TINY" -i many.jsonl --all --samples 40 --window 2 -o a.h5
    expect 0
    "$STRATA" causal -m "$TINY" -i many.jsonl --all --samples 40 --window 2 -o b.h5 2>err &
    pid=$!
    for _ in $(seq 200); do
        [ -e b.h5.partial ] && break
        sleep 0.01
    done
    kill -INT $pid
    wait $pid && status=0 || status=$?
    if [ "$status" -ne 0 ]; then
        [ "$status" -eq 130 ]
        grep -q -- "--resume" err
        strata causal -m "$TINY" -i many.jsonl --all --samples 40 --window 3 -o b.h5 --resume
        expect 1 "window"
        strata causal -m "$TINY" -i many.jsonl --all --samples 40 --window 2 -o b.h5 --resume
        expect 0
    fi
    strata diff a.h5 b.h5 || true
    python3 - a.h5 b.h5 <<'END'
import sys
try:
    import h5py
except ImportError:
    sys.exit(0)
a, b = (h5py.File(f, "r") for f in sys.argv[1:])
names = []
a.visit(names.append)
for name in names:
    if hasattr(a[name], "shape"):
        assert (a[name][()] == b[name][()]).all(), name
END
}

@test "what cannot be traced is one line" {
    strata causal -m "$TINY" "$PROMPT"
    expect 2 "--subject TEXT is missing"
    strata causal -m "$TINY" "$PROMPT" --subject Louvre
    expect 1 "subject 'Louvre' is not in the prompt"
    one_line
    strata causal -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --noise 3s
    expect 2 "--noise '3s'" "s3"
    strata causal -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --restore states
    expect 2 "--restore 'states'" "severed"
    strata causal -m "$TINY" "$PROMPT" --subject "Eiffel Tower" -o x.png
    expect 2 "folder"
    strata causal -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --resume
    expect 2 "--resume"
    strata causal -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --samples 0
    expect 2 "--samples"
    echo '{"prompt": "The Colosseum is in", "answer": "Rome"}' >f.jsonl
    strata causal -m "$TINY" -i f.jsonl
    expect 1 "none is given" "subject"
    one_line
    echo '{"prompt": "The Colosseum is in", "answer": "Rome", "subject": "Louvre"}' >f.jsonl
    strata causal -m "$TINY" -i f.jsonl -o out.h5
    expect 1 "f.jsonl: line 1" "'Louvre' is not in the prompt"
    [ ! -e out.h5 ]
    [ ! -e out.h5.partial ]
}
