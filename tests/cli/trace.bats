load common

# The widest line of $output, in columns of a terminal.
widest() {
    python3 -c '
import sys, unicodedata
def width(line):
    return sum(0 if unicodedata.combining(c) or unicodedata.category(c) in ("Mn", "Me", "Cf") else
               2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)
print(max(map(width, sys.stdin.read().split("\n"))))' <<<"$output"
}

@test "one line a layer, within 100 columns" {
    strata trace -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris
    expect 0
    [ -z "$stderr" ]
    [ "$(grep -cE '^ +[0-5] ' <<<"$output")" -eq 6 ]
    [ "$(widest)" -le 100 ]
    [[ $output == *"the answer is on rank 1 from layer 4 on"* && $output == *"[ E|iff|el| Tower]| is"* ]]
    [[ $output != *$'\033'* ]]
}

@test "wide, combining, control and broken characters keep the columns" {
    strata trace -m "$TINY" "$(printf '東京は日本の首都です。 \xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x9a\x80\t e\xcc\x81\xcc\x81 \xe2\x80\xae x\n\x01 東京')" --answer "東京"
    expect 0
    [ "$(widest)" -le 100 ]
    [[ $output != *$'\001'* && $output != *$'\t'* ]]
    strata trace -m "$TINY" "$(printf 'word %.0s' $(seq 100))"
    expect 0
    [ "$(widest)" -le 100 ]
}

@test "the parts sum to the logit, heads to their layer" {
    strata trace -m "$TINY" "$PROMPT" --answer Paris --json
    expect 0
    check 'len(d["layers"]) == 7 and d["layers"][0]["layer"] is None and d["answer"]["id"] == 1055'
    check 'near(d["embed"] + d["pos_embed"] + d["bias"] + sum(x["attention"] + x["mlp"] for x in d["layers"][1:]),
        d["logit"] + d["residue"], 1e-7)'
    check 'all(near(sum(x["heads"]), x["attention"], 1e-6) for x in d["layers"][1:])'
    check 'all(abs(x["heads"][x["strongest_head"]["head"]]) == max(map(abs, x["heads"])) for x in d["layers"][1:])'
    check 'abs(d["residue"]) < 1e-4'
    strata trace -m "$TINY" "$PROMPT" --answer Paris --json --precision f64
    expect 0
    check 'abs(d["residue"]) < 1e-10'
}

@test "ranks are the lens's" {
    strata lens -m "$TINY" "$PROMPT" --answer Paris --json
    echo "$output" >lens.json
    strata trace -m "$TINY" "$PROMPT" --answer Paris --json
    check '[x["rank"] for x in d["layers"]] == [x["rank"] for x in e["prompts"][0]["rows"][0]["layers"]]' lens.json
    check '[x["label"] for x in d["layers"]] == e["labels"]' lens.json
    check 'all(near(x["logprob"], y["logprob"]) and x["top"][0]["id"] == y["top"][0]["id"]
        for x, y in zip(d["layers"], e["prompts"][0]["rows"][0]["layers"]))' lens.json
}

@test "without --answer the model's own top token, and it says so" {
    strata trace -m "$TINY" "$PROMPT"
    expect 0
    [[ $output == *"answer    ␣Paris (token 1055: no --answer given, so the model's own top token)"* ]]
    strata trace -m "$TINY" "$PROMPT" --json
    check 'd["own_answer"] and d["answer"]["text"] == " Paris" and d["layers"][-1]["rank"] == 1'
}

@test "a folder gets numbers and figures, also where an earlier run left some" {
    command -v gnuplot >/dev/null || skip "gnuplot is not installed"
    for run in 1 2; do
        strata trace -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris -o out/trace
        expect 0
        [ -z "$stderr" ]
        for name in rank grid heads contributions; do
            for kind in svg png dat gp; do [ -s out/trace/$name.$kind ]; done
        done
        [ -s out/trace/trace.h5 ]
        [ -s out/trace/trace.json ]
        [ "$(grep -c '<img src="data:image/svg+xml;base64,' out/trace/report.html)" -eq 6 ]
        [ -z "$(ls out/trace | grep partial)" ]
    done
    grep -q "norm convention: lens" out/trace/grid.gp
    grep -q "norm convention: attribution" out/trace/heads.gp
    grep -q "␣Paris (answer)" out/trace/rank.gp
}

@test "trace.h5 holds everything with its shape" {
    strata trace -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris -o out --no-plots
    expect 0
    [ ! -e out/rank.gp ]
    refute grep -q "<img" out/report.html
    h5dump -H out/trace.h5 | tr -s ' \n' ' ' >header
    for want in '"rank" { DATATYPE H5T_STD_I32LE DATASPACE SIMPLE { ( 10, 7 )' \
        '"top_token" { DATATYPE H5T_STD_I32LE DATASPACE SIMPLE { ( 10, 7, 5 )' \
        '"heads" { DATATYPE H5T_IEEE_F64LE DATASPACE SIMPLE { ( 6, 4 )' \
        '"pattern" { DATATYPE H5T_IEEE_F32LE DATASPACE SIMPLE { ( 6, 4, 10 )'; do
        grep -qF "$want" header || { echo "no $want"; cat header; return 1; }
    done
    h5dump -a format -a subject -a subject_begin -a model_sha256 -a norm_attribution out/trace.h5 >attributes
    grep -q '"strata-trace"' attributes
    grep -q '"Eiffel Tower"' attributes
}

@test "a file of facts: one picture each, one folder each" {
    strata trace -m "$TINY" -i "$ROOT/data/facts/country_capital.jsonl" --limit 3 --each -o out --no-plots
    expect 0
    [ "$(grep -c '^residue' <<<"$output")" -eq 3 ]
    [ -s out/00000/trace.h5 ]
    [ -s out/00002/trace.json ]
    [ ! -e out/00003 ]
    strata trace -m "$TINY" -i "$ROOT/data/facts/country_capital.jsonl" --limit 3 --each --json
    check 'len(d) == 3 and [x["answer"]["text"] for x in d] == [" Paris", " Berlin", " Rome"]'
}

@test "edits are applied, named, and their share is told apart" {
    strata trace -m "$TINY" "$PROMPT" --answer Paris --edit 'L4H2@last zero' --json
    expect 0
    check 'd["layers"][5]["heads"][2] == 0 and abs(d["residue"]) < 1e-4 and d["edits"] == "L4H2@last zero"'
    strata trace -m "$TINY" "$PROMPT" --answer Paris --edit 'resid_post:5@last add 1'
    expect 0
    [[ $output == *"edits     resid_post:5@last add 1"* && $output == *"is what the edits add"* ]]
}

@test "a chosen subject must stand in the prompt" {
    strata trace -m "$TINY" "$PROMPT" --subject Colosseum
    expect 1 "subject 'Colosseum' is not in the prompt"
    one_line
}

@test "wrong usage is told before anything runs" {
    strata trace -m nowhere
    expect 2 "give a prompt, or -i FILE"
    strata trace -m nowhere "$PROMPT" -o trace.png
    expect 2 "give a folder"
    strata trace -m nowhere "$PROMPT" --no-plots
    expect 2 "there are no plots without -o"
    strata trace -m nowhere "$PROMPT" --top 0
    expect 2
    strata trace -m "$TINY" ""
    expect 1
    one_line
}

@test "a folder that cannot be made is an error" {
    echo x >file
    strata trace -m "$TINY" "$PROMPT" -o file/out
    expect 1 "file"
    one_line
}

@test "without gnuplot the numbers are there, and one note" {
    mkdir bin
    run --separate-stderr env PATH="$PWD/bin" "$STRATA" trace -m "$TINY" "$PROMPT" --answer Paris -o out
    expect 0 "gnuplot is not installed"
    [ "$(wc -l <<<"$stderr")" -eq 1 ]
    [ -s out/trace.h5 ]
    [ -s out/grid.dat ]
    [ -s out/grid.gp ]
    [ ! -e out/grid.png ]
}

@test "a hostile prompt stays text on the page" {
    strata trace -m "$TINY" '<script>alert("x")</script> & <img src=x onerror=y> is' -o out --no-plots
    expect 0
    grep -q '&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; &lt;img' out/report.html
    refute grep -qi '<script\|<img' out/report.html
    python3 -c '
import html.parser
class Strict(html.parser.HTMLParser):
    open = []
    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img"):
            self.open.append(tag)
    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag
p = Strict()
p.feed(open("out/report.html", encoding="utf-8").read())
assert not p.open, p.open'
}

@test "the answer may have several tokens: the first is traced" {
    strata trace -m "$TINY" "$PROMPT" --answer "Paris and London"
    expect 0
    [[ $output == *"answer    ␣Paris (token 1055, the first of "* ]]
}

@test "a file without prompts is an error" {
    echo >none.jsonl
    strata trace -m "$TINY" -i none.jsonl
    expect 1 "none.jsonl: holds no prompts"
    one_line
}
