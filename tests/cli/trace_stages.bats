load common

FACTS=$ROOT/data/facts

# A file of some facts of three relations.
some_facts() {
    head -qn 8 "$FACTS"/{animal_sound,work_author,country_continent}.jsonl >facts.jsonl
}

# random_model KIND LAYERS SIGMA: a model of that size in KIND/, weights drawn from a normal distribution, the tiny
# model's tokenizer.
random_model() {
    python3 - "$@" "$TINY" <<'END'
import array, json, os, random, shutil, struct, sys
kind, layers, sigma, tiny = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
d, heads, kv, ff, vocab = 32, 4, 2, 64, 4096
os.makedirs(kind, exist_ok=True)
shapes = {}
if kind == "gpt2":
    config = {"n_layer": layers, "n_embd": d, "n_head": heads, "n_inner": ff, "n_positions": 128,
              "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new"}
    shapes |= {"wte.weight": [vocab, d], "wpe.weight": [128, d], "ln_f.weight": [d], "ln_f.bias": [d]}
    for l in range(layers):
        p = "h.%d." % l
        for name, n_in, n_out in (("attn.c_attn", d, 3 * d), ("attn.c_proj", d, d), ("mlp.c_fc", d, ff), ("mlp.c_proj", ff, d)):
            shapes |= {p + name + ".weight": [n_in, n_out], p + name + ".bias": [n_out]}
        for name in ("ln_1", "ln_2"):
            shapes |= {p + name + ".weight": [d], p + name + ".bias": [d]}
else:
    config = {"num_hidden_layers": layers, "hidden_size": d, "num_attention_heads": heads, "num_key_value_heads": kv,
              "intermediate_size": ff, "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "hidden_act": "silu",
              "rope_theta": 10000.0, "tie_word_embeddings": True}
    shapes |= {"model.embed_tokens.weight": [vocab, d], "model.norm.weight": [d]}
    for l in range(layers):
        p = "model.layers.%d." % l
        width = d * kv // heads
        for name, n_out, n_in in (("self_attn.q_proj", d, d), ("self_attn.k_proj", width, d), ("self_attn.v_proj", width, d),
                                  ("self_attn.o_proj", d, d), ("mlp.gate_proj", ff, d), ("mlp.up_proj", ff, d), ("mlp.down_proj", d, ff)):
            shapes[p + name + ".weight"] = [n_out, n_in]
            if kind == "qwen2" and name[10:] in ("q_proj", "k_proj", "v_proj"):
                shapes[p + name + ".bias"] = [n_out]
        shapes |= {p + "input_layernorm.weight": [d], p + "post_attention_layernorm.weight": [d]}
draw, header, data = random.Random(1), {}, b""
for name, shape in shapes.items():
    n = shape[0] * (shape[1] if len(shape) > 1 else 1)
    norm = len(shape) == 1 and name.endswith("weight")
    bytes_ = array.array("f", (1.0 if norm else draw.gauss(0, sigma) for _ in range(n))).tobytes()
    header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(bytes_)]}
    data += bytes_
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
open(kind + "/model.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + data)
json.dump({"model_type": kind, "vocab_size": vocab, "bos_token_id": 0, "eos_token_id": 0} | config, open(kind + "/config.json", "w"))
for name in ("tokenizer.json", "tokenizer_config.json"):
    shutil.copy(tiny + "/" + name, kind)
END
}

@test "models of 1, 2 and 80 layers, of each family: within 60 lines and 100 columns, and what is left out is said" {
    for model in "llama 1" "gpt2 2" "qwen2 80" "llama 80"; do
        read -r kind layers <<<"$model"
        random_model "$kind" "$layers" 0.3
        strata trace -m "$kind" "$PROMPT" --subject "Eiffel Tower" --causal
        expect 0
        [ "$(wc -l <<<"$output")" -lt 60 ]
        [ "$(wc -L <<<"$output")" -le 100 ]
        shown=$(grep -cE '^ +[0-9]+ .*H[0-9]' <<<"$output")
        if [ "$layers" -lt 80 ]; then
            [ "$shown" -eq "$layers" ]
        else
            [[ $output == *" $((layers - shown)) of $layers layers left out"* ]]
            grep -qE "^ +79 " <<<"$output" # the last one stays
        fi
        refute grep -qiE '\b(nan|inf)\b' <<<"$output"
    done
    strata trace -m llama "$PROMPT" --subject "Eiffel Tower" -o out --no-plots
    [ "$(grep -cE '^ +[0-9]+ .*H[0-9]' out/report.html)" -eq 80 ] # the page has all of them
}

@test "random models know nothing: not found, though the answer be the one they would give" {
    for kind in llama gpt2 qwen2; do
        random_model $kind 12 0.02
        strata trace -m $kind "$PROMPT" --subject "Eiffel Tower" --json
        expect 0
        check 'd["stages"]["known"] and all(d["stages"][x]["finding"] == "not found" for x in
            ("enrichment", "propagation", "extraction"))'
        strata trace -m $kind "$PROMPT" --subject "Eiffel Tower" --answer Paris
        [ "$(grep -c 'not found: the model does not know this fact' <<<"$output")" -eq 3 ]
    done
}

@test "random models have no stages: their own answers are found to have one in at most 1 of 10" {
    printf '{"prompt": "%s", "subject": "%s"}\n' "The Eiffel Tower is near the river in the city of" "Eiffel Tower" \
        "corn found under a lily in Venezuela with pumpkin juice" "a lily" \
        "seven thick bottles of milk stand behind the red door and" "thick bottles" \
        "who painted the stork and the bridge over water near" "stork" >facts.jsonl
    for kind in llama gpt2; do
        for sigma in 0.15 0.3 0.6; do
            for layers in 6 9; do
                random_model $kind $layers $sigma
                strata trace -m $kind -i facts.jsonl --each --json
                expect 0
                cat <<<"$output" >>results
            done
        done
    done
    python3 -c '
import collections, json
results = [json.loads(line)["stages"] for line in open("results")]
assert len(results) == 48
for stage in ("enrichment", "propagation", "extraction"):
    n = collections.Counter(r[stage]["finding"] for r in results)
    print(stage, n)
    assert n["found"] <= 4 and n["not found"] >= 40'
}

@test "subjects at the start, at the end, and all of the prompt; prompts of a token or two" {
    random_model gpt2 3 0.3
    for model in "$TINY" gpt2; do
        for case in "$PROMPT|The" "$PROMPT|of" "$PROMPT|$PROMPT" "Paris|Paris" "Paris is|Paris" "Paris is|is"; do
            strata trace -m "$model" "${case%|*}" --subject "${case#*|}" --causal
            expect 0
            [ "$(grep -cE '^[123] (enrichment|propagation|extraction) +(found|not found|not measured) ' <<<"$output")" -eq 3 ]
            refute grep -qiE '\b(nan|inf)\b' <<<"$output"
        done
        strata trace -m "$model" "$PROMPT" --subject "$PROMPT"
        [ "$(grep -cE '^[123].*not measured' <<<"$output")" -eq 3 ]
    done
}

@test "a long prompt is shortened around its subject" {
    strata trace -m "$TINY" "$(printf 'one two %.0s' $(seq 24)) The Eiffel Tower is in the city of" --subject "Eiffel Tower"
    expect 0
    [ "$(wc -l <<<"$output")" -lt 60 ]
    [ "$(wc -L <<<"$output")" -le 100 ]
    [[ $output == *" ..."*"[ E|iff|el| Tower]"* ]]
}

@test "one fact: three stages with number and control, within 60 lines and 100 columns" {
    strata trace -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris
    expect 0
    [ -z "$stderr" ]
    [ "$(wc -l <<<"$output")" -lt 60 ]
    [ "$(wc -L <<<"$output")" -le 100 ]
    [[ $output == *"does the model know it? yes: answer on rank 1"* ]]
    [[ $output == *"3 extraction  not measured "*"too few other tokens to block as a control"* ]]
    [[ $output == *"left out      causal tracing (--causal)"* ]]
}

@test "extraction is found against every other set of tokens" {
    strata trace -m "$TINY" "When a cow makes its sound, people say that it" --subject cow --answer moos
    expect 0
    [ "$(wc -L <<<"$output")" -le 100 ]
    [[ $output == *"3 extraction  found "*"subject blocked in layer"*"control: 8 sets of as many other tokens: deepest"* ]]
}

@test "a fact that the model does not know gets no story" {
    strata trace -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer London -o out --no-plots
    expect 0
    [[ $output == *"does the model know it? no: answer on rank "* ]]
    [ "$(grep -c 'not found: the model does not know this fact' <<<"$output")" -eq 3 ]
    [[ $output != *"control:"* && $output != *"heads  "* ]]
    refute grep -q "blocked" out/report.html
    [ ! -e out/stages.csv ]
    strata trace -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer London --json
    check 'not d["stages"]["known"] and d["stages"]["extraction"]["finding"] == "not found" and "heads" not in d["stages"]'
}

@test "without a subject, or with edits, the stages are not measured" {
    strata trace -m "$TINY" "$PROMPT" --answer Paris --json
    expect 0
    check 'all(d["stages"][x]["finding"] == "not measured" for x in ("enrichment", "propagation", "extraction"))'
    strata trace -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris --edit 'L0H0 scale 1'
    [ "$(grep -c 'not measured *: the model is edited' <<<"$output")" -eq 3 ]
}

@test "--no-stages shows the layers alone" {
    strata trace -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris --no-stages
    expect 0
    [[ $output != *"stages"* && $output == *"residue"* ]]
    strata trace -m "$TINY" "$PROMPT" --no-stages --causal
    expect 2 "about the stages"
}

@test "the blocked numbers are those of strata knockout" {
    strata trace -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris --window 3 -o out --no-plots
    expect 0
    strata knockout -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris --window 3 --spare-first -o k.csv
    expect 0
    python3 -c '
import csv
own = {(r["curve"], r["layer"]): float(r["value"]) for r in csv.DictReader(open("out/stages.csv"))}
n = 0
for r in csv.DictReader(open("k.csv")):
    curve = {"subject": "blocked_subject", "non-subject": "blocked_rest", "last": "blocked_last"}.get(r["keys"])
    if curve:
        assert abs(own[curve, r["layer"]] - float(r["change_percent"])) < 1e-3, r
        n += 1
assert n == 18, n' || { head -3 k.csv; return 1; }
}

@test "page, CSV, JSON and HDF5 say the same numbers" {
    strata trace -m "$TINY" "When a cow makes its sound, people say that it" --subject cow --answer moos -o out --no-plots --json
    expect 0
    check '"%.9g" % d["stages"]["extraction"]["number"]["mean"] in [r.split(",")[3] for r in
        open("out/stages.csv").read().split("\n") if r.startswith("blocked_subject,")]'
    python3 -c '
import json, sys
d = json.load(open("out/trace.json"))["stages"]
page = open("out/report.html", encoding="utf-8").read()
for stage in ("enrichment", "propagation", "extraction"):
    s = d[stage]
    assert "<td>%s</td>" % s["finding"] in page
assert "p(answer) %+.0f %%" % d["extraction"]["number"]["mean"] in page
assert "%.4f" % d["ablation"][0]["p"] in page
assert d["heads"][0]["head"] in page and "%+.3f" % d["heads"][0]["logit"] in page'
    h5dump -d /stages/blocked_subject -m "%.6f" out/trace.h5 >dump
    value=$(python3 -c 'import json; print("%.6f" % json.load(open("out/trace.json"))["stages"]["extraction"]["number"]["mean"])')
    grep -qF -- "$value" dump
}

@test "the page stands alone: no script, nothing from elsewhere, texts escaped" {
    strata trace -m "$TINY" '<script>alert("x")</script> & the Eiffel Tower is in' --subject "Eiffel Tower" -o out
    expect 0
    grep -q '&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp;' out/report.html
    python3 - <<'END'
import html.parser
class Strict(html.parser.HTMLParser):
    open = []
    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "iframe", "link", "object", "embed"), tag
        for name, value in attrs:
            assert not name.startswith("on"), name
            if name in ("src", "href"):
                assert value.startswith("data:image/") or ":" not in value and not value.startswith("/"), value[:80]
        if tag not in ("meta", "img"):
            self.open.append(tag)
    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag
text = open("out/report.html", encoding="utf-8").read()
p = Strict()
p.feed(text)
assert not p.open, p.open
assert 'name="viewport"' in text and "max-width: 100%" in text and "strata trace -m" in text
END
}

@test "figures of the stages are drawn" {
    command -v gnuplot >/dev/null || skip "gnuplot is not installed"
    strata trace -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris --causal -o out --attributes "$FACTS/landmark_city.jsonl"
    expect 0
    [ -z "$(sed '/causal tracing:/d' <<<"$stderr")" ]
    for name in enrichment recall removed knockout causal; do
        for kind in svg png dat gp; do [ -s out/$name.$kind ]; done
    done
    [ "$(grep -c '<img src="data:image/svg+xml;base64,' out/report.html)" -eq 9 ]
}

@test "the same seed gives the same bytes, another seed other draws" {
    export SOURCE_DATE_EPOCH=1000000000
    some_facts
    for run in 1 2; do
        strata trace -m "$TINY" -i facts.jsonl -o trace.h5
        expect 0
        mv trace.h5 $run.h5
    done
    cmp 1.h5 2.h5
    strata trace -m "$TINY" -i facts.jsonl --seed 2 -o trace.h5
    refute h5diff -q 1.h5 trace.h5 /facts/blocked_random
    h5diff -q 1.h5 trace.h5 /facts/blocked_subject
}

@test "many facts: known and unknown counted, means with bands, a line a relation" {
    some_facts
    echo '{"prompt": "Hamlet was written by", "subject": "Hamlet", "answer": "Paris", "relation": "wrong"}' >>facts.jsonl
    echo '{"prompt": "Hamlet was written by", "answer": "Shakespeare"}' >>facts.jsonl
    echo '{"prompt": "Hamlet was written by", "subject": "Hamlet"}' >>facts.jsonl
    strata trace -m "$TINY" -i facts.jsonl -o out --no-plots
    expect 0
    [[ $output == *"n = 24 of 27 facts: answer on rank 1 in 25; 1 others left out; 1 without an answer"* ]]
    [[ $output == *"1 known ones without a subject left out"* ]]
    [ "$(wc -L <<<"$output")" -le 100 ]
    grep -q '^work_author *8/8' <<<"$output"
    grep -q '^wrong *0/1 *$' <<<"$output"
    for name in trace.h5 curves.csv relations.csv facts.csv heads.csv report.html; do [ -s out/$name ]; done
    [ "$(wc -l <out/facts.csv)" -eq 25 ]
    python3 - <<'END'
import csv
rows = list(csv.DictReader(open("out/curves.csv")))
every = [r for r in rows if r["relation"] == "(all)" and r["curve"] == "blocked_rest"]
assert len(every) == 6 and all(float(r["low"]) <= float(r["mean"]) <= float(r["high"]) for r in every)
# weighted means of the relations are the mean of all
for e in every:
    parts = [r for r in rows if r["curve"] == "blocked_rest" and r["layer"] == e["layer"] and r["relation"] != "(all)"]
    n = sum(int(r["n"]) for r in parts)
    mean = sum(int(r["n"]) * float(r["mean"]) for r in parts) / n
    assert n == int(e["n"]) and abs(mean - float(e["mean"])) < 1e-6 * 100, (mean, e)
END
}

@test "attributes of shuffled subjects are a fake, and not found" {
    some_facts
    strata trace -m "$TINY" -i facts.jsonl --json
    check 'd["enrichment"]["finding"] == "found" and d["enrichment"]["difference"]["low"] > 0'
    python3 -c '
import json
facts = [json.loads(x) for x in open("facts.jsonl")]
for i, fact in enumerate(facts):
    print(json.dumps({"prompt": fact["prompt"], "subject": fact["subject"], "answer": facts[(i + 9) % len(facts)]["answer"]}))
' >shuffled.jsonl
    strata trace -m "$TINY" -i facts.jsonl --attributes shuffled.jsonl --json
    expect 0
    check 'd["enrichment"]["finding"] == "not found" and d["n"] == 24'
}

@test "a model that knows none of the facts: not found, without a story" {
    echo '{"prompt": "Hamlet was written by", "subject": "Hamlet", "answer": "Paris"}' >facts.jsonl
    strata trace -m "$TINY" -i facts.jsonl -o out
    expect 0
    [ "$(grep -c 'not found *: the model knows none of these facts' <<<"$output")" -eq 3 ]
    [ -s out/trace.h5 ]
    [ -s out/report.html ]
    refute grep -q "<img" out/report.html
}

@test "an interruption writes what was measured" {
    cat "$FACTS"/*.jsonl >facts.jsonl
    "$STRATA" trace -m "$TINY" -i facts.jsonl -o out --no-plots >text 2>errors &
    pid=$!
    sleep 4
    kill -INT $pid
    status=0
    wait $pid || status=$?
    if [ $status -eq 0 ]; then skip "finished before the signal"; fi
    [ $status -eq 130 ]
    if [ -e out/trace.h5 ]; then
        grep -q "INTERRUPTED: the first" text
        grep -q "what was measured is written" errors
        h5dump -a interrupted out/trace.h5 | grep -q ": 1"
    fi
}

@test "other forms of the result, and wrong usage" {
    some_facts
    strata trace -m "$TINY" -i facts.jsonl -o out.csv
    expect 0
    grep -q "^(all),blocked_subject,%,0," out.csv
    strata trace -m nowhere -i facts.jsonl -o out.png
    expect 2 "or a folder"
    strata trace -m nowhere -i facts.jsonl --causal
    expect 2 "strata causal -i"
    strata trace -m nowhere -i facts.jsonl --edit 'L0H0 zero'
    expect 2 "one prompt"
    strata trace -m nowhere "$PROMPT" --each
    expect 2 "--each goes with -i"
    strata trace -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --attributes nofile
    expect 1 "nofile"
    one_line
}
