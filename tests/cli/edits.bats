load common

OTHER="The Colosseum is in the city of"

# prob ARGUMENTS: the answer's probability.
prob() {
    "$STRATA" run -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris --json "$@" |
        python3 -c 'import json, sys; print(repr(json.load(sys.stdin)["answer"]["prob"]))'
}

near() {
    python3 -c 'import sys; a, b = map(float, sys.argv[1:]); sys.exit(abs(a - b) > 1e-5 * max(abs(a), abs(b)))' "$1" "$2" ||
        { echo "$1 is not $2"; return 1; }
}

@test "freezing everything after an edit undoes it; freezing nothing else keeps it" {
    plain=$(prob)
    edited=$(prob --edit 'resid_post:2@subject-last zero')
    run near "$plain" "$edited"
    [ "$status" -ne 0 ]
    near "$plain" "$(prob --edit 'resid_post:2@subject-last zero' --edit 'resid_post:3-5 freeze')"
    near "$plain" "$(prob --edit 'resid_post:* freeze')"
    near "$plain" "$(prob --edit 'z:1-3@last patch :0@last' --edit 'z:* freeze')"
}

@test "patching the last state takes over the other prompt's answer" {
    strata run -m "$TINY" "$OTHER" --answer Paris --json
    other=$(python3 -c 'import json, sys; print(repr(json.loads(sys.argv[1])["answer"]["prob"]))' "$output")
    near "$other" "$(prob --edit 'resid_post:5@last patch @last' --from "$OTHER")"
    strata run -m "$TINY" -i <(printf '%s\n' "$PROMPT" "$OTHER") --edit 'resid_post:5@last patch @last' --from "$OTHER"
    expect 0
    check 'near(d[0]["top"][0]["logprob"], d[1]["top"][0]["logprob"], 1e-4) and d[0]["top"][0]["id"] == d[1]["top"][0]["id"]'
}

@test "strata run and strata patch agree" {
    strata patch -m "$TINY" "$PROMPT" --subject "Eiffel Tower" --answer Paris --from "$OTHER" --from-subject Colosseum \
        --align subject --direction noise --site resid_post --json
    expect 0
    want=$(python3 -c 'import json, sys; print(repr(json.loads(sys.argv[1])["sweeps"][0]["prob"][1][4]))' "$output")
    near "$want" "$(prob --edit 'resid_post:1@subject-last patch @subject-last' --from "$OTHER" --from-subject Colosseum)"
}

@test "vectors from files: numpy's and raw ones" {
    strata info -m "$TINY" --json 2>/dev/null || strata info "$TINY" --json
    d=$(python3 -c 'import json, sys; d = json.loads(sys.argv[1]); print(d.get("d_model") or d["config"]["d_model"])' "$output")
    python3 - "$d" <<'END'
import struct, sys
n = int(sys.argv[1])
x = [((i * 37) % 11 - 5) / 7 for i in range(n)]
def npy(name, kind, shape, values):
    head = "{'descr': '<%s', 'fortran_order': False, 'shape': %s, }" % (kind, shape)
    head += " " * (-(len(head) + 11) % 64) + "\n"
    body = struct.pack("<%d%s" % (len(values), "f" if kind == "f4" else "d"), *values)
    open(name, "wb").write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + body)
npy("x.npy", "f4", "(%d,)" % n, x)
npy("wide.npy", "f8", "(2, %d)" % n, x + x)
npy("short.npy", "f4", "(%d,)" % (n - 1), x[1:])
open("x.f32", "wb").write(struct.pack("<%df" % n, *x))
END
    a=$(prob --edit 'resid_post:2@subject-last add x.npy')
    run near "$a" "$(prob)"
    [ "$status" -ne 0 ]
    near "$a" "$(prob --edit 'resid_post:2@subject-last add x.f32')"
    near "$(prob --edit 'resid_post:2-3@subject-last add wide.npy')" "$(prob --edit 'resid_post:2-3@subject-last add x.npy')"
    near "$(prob)" "$(prob --edit 'resid_post:2@last add x.npy' --edit 'resid_post:2@last freeze')"
    strata run -m "$TINY" "$PROMPT" --edit 'resid_post:2 add short.npy'
    expect 1 "short.npy holds $((d - 1)) numbers" "has $d"
    one_line
    strata run -m "$TINY" "$PROMPT" --edit 'resid_post:2 add none.npy'
    expect 1 "none.npy"
    one_line
}

@test "noise is that of the seed" {
    a=$(prob --edit 'hook_embed@subject add noise:0.3')
    [ "$a" = "$(prob --edit 'hook_embed@subject add noise:0.3:1')" ]
    [ "$a" = "$(prob --edit 'hook_embed@subject add noise:0.3' -t 1)" ]
    [ "$(prob --edit 'hook_embed@subject add noise:0.3' --seed 2)" = "$(prob --edit 'hook_embed@subject add noise:0.3:2')" ]
    [ "$a" != "$(prob --edit 'hook_embed@subject add noise:0.3:2')" ]
    near "$(prob)" "$(prob --edit 'hook_embed@subject add noise:0')"
}

@test "means are over the data set, at the edit's positions" {
    # Of one prompt's last token, the mean is what is there.
    printf '{"prompt": "%s", "subject": "Eiffel Tower"}\n' "$PROMPT" >one.jsonl
    near "$(prob)" "$(prob --edit 'z:*@last mean' --mean-over one.jsonl)"
    near "$(prob)" "$(prob --edit 'mlp_out:2@subject-last mean' --mean-over one.jsonl)"
    printf '{"prompt": "%s", "subject": "Colosseum"}\n' "$OTHER" >other.jsonl
    cat one.jsonl other.jsonl >two.jsonl
    a=$(prob --edit 'resid_post:5@last mean' --mean-over other.jsonl)
    near "$a" "$(prob --edit 'resid_post:5@last patch @last' --from "$OTHER")"
    b=$(prob --edit 'resid_post:5@last mean' --mean-over two.jsonl)
    [ "$a" != "$b" ]
    strata run -m "$TINY" "$PROMPT" --edit 'z:1 mean'
    expect 1 "--mean-over FACTS"
    one_line
    strata run -m "$TINY" "$PROMPT" --edit 'z:1 zero' --mean-over one.jsonl
    expect 1 "no edit sets a mean"
    strata run -m "$TINY" "$PROMPT" --edit 'z:1@20 mean' --mean-over one.jsonl
    expect 1 "no position 20" "of the data set"
    one_line
}

@test "what an edit cannot do is one line, before anything runs" {
    # The first of several edits: the later ones are not resolved.
    strata run -m "$TINY" "$PROMPT" --edit 'z:1@99 zero' --edit 'z:1 zero'
    expect 1 "there is no position 99"
    one_line
    strata run -m "$TINY" "$PROMPT" --edit 'z:1@last patch'
    expect 1 "patches what is there anyway" "freeze"
    one_line
    strata run -m "$TINY" "$PROMPT" --edit 'z:1 patch' --from "The Colosseum is"
    expect 1 "beyond the"
    one_line
    strata run -m "$TINY" "$PROMPT" --edit 'z:1 zero' --from "$OTHER"
    expect 1 "no edit patches from it"
    strata run -m "$TINY" "$PROMPT" --edit 'z:1@last patch @subject-last' --from "$OTHER"
    expect 1 "no subject"
    one_line
    strata run -m "$TINY" "$PROMPT" --edit 'z:1@30 zero'
    expect 1 "no position 30"
    strata run -m "$TINY" "$PROMPT" --edit 'z:1#77 zero'
    expect 1 "no head 77"
    strata lens -m "$TINY" "$PROMPT" --edit 'z:1 freeze'
    expect 1 "strata experiment"
    one_line
}

# --- experiments ---

experiment() {
    cat <<'END'
{"format": "strata-experiment", "version": 1, "seed": 3, "description": "a test",
 "prompts": [
   {"name": "eiffel", "prompt": "The Eiffel Tower is in the city of", "subject": "Eiffel Tower", "answer": "Paris"},
   {"name": "rome", "prompt": "The Colosseum is in the city of", "subject": "Colosseum"},
   {"name": "noisy", "prompt": "The Eiffel Tower is in the city of", "subject": "Eiffel Tower", "answer": "Paris",
    "edits": ["hook_embed@subject add noise:0.4"]}],
 "variants": [
   {"name": "nothing", "edits": []},
   {"name": "swap", "prompt": "eiffel", "edits": [{"site": "resid_post:5", "at": "last", "op": "patch",
                                                   "from": {"prompt": "rome", "at": "last"}}]},
   {"name": "restored", "prompt": "noisy", "edits": ["resid_post:5@last patch from eiffel"]},
   {"name": "embedding", "prompt": "noisy", "edits": ["hook_embed@subject patch from eiffel"]},
   {"name": "head", "prompt": "eiffel", "edits": ["z:4@last#0 zero"]}]}
END
}

@test "an experiment: base runs, then variants, in every format" {
    experiment >e.json
    strata experiment -m "$TINY" e.json --json
    expect 0
    check '[r["variant"] for r in d["rows"]] == ["base"] * 3 + ["nothing", "swap", "restored", "embedding", "head"]'
    check 'd["rows"][3]["prob"] == d["rows"][0]["prob"] and d["rows"][3]["change_percent"] == 0'
    check 'near(d["rows"][5]["prob"], d["rows"][0]["prob"]) and near(d["rows"][6]["prob"], d["rows"][0]["prob"])'
    check 'd["rows"][2]["prob"] < 0.5 * d["rows"][0]["prob"] and d["rows"][1]["rank"] == 1'
    echo "$output" >e1.json
    near "$(python3 -c 'import json; print(json.load(open("e1.json"))["rows"][7]["prob"])')" "$(prob --edit 'z:4@last#0 zero')"
    near "$(python3 -c 'import json; print(json.load(open("e1.json"))["rows"][2]["prob"])')" \
        "$(prob --edit 'hook_embed@subject add noise:0.4:3')"
    strata run -m "$TINY" --experiment e.json --json
    expect 0
    check 'd == e' e1.json
    strata experiment -m "$TINY" e.json
    expect 0
    [ "$(wc -l <<<"$output")" -eq 9 ]
    strata experiment -m "$TINY" e.json -o e.csv
    expect 0
    [ "$(wc -l <e.csv)" -eq 9 ]
    strata experiment -m "$TINY" e.json -o e.h5
    expect 0
    [ -s e.h5 ]
    [ ! -e e.h5.partial ]
}

@test "wrong experiments are one line each, before anything runs" {
    bad() {
        experiment | python3 -c '
import json, sys
d = json.load(sys.stdin)
exec(sys.argv[1])
json.dump(d, open("bad.json", "w"))' "$1"
        shift
        strata experiment -m "$TINY" bad.json
        expect 1 "$@"
        one_line
        [ -z "$output" ]
    }
    bad 'd["varints"] = d.pop("variants")' '"varints" is unknown: did you mean variants?'
    bad 'd["version"] = 2' version
    bad 'd["format"] = "x"' '"strata-experiment"'
    bad 'd["prompts"] = []' '"prompts" has 0 items'
    bad 'd["prompts"][1]["nmae"] = d["prompts"][1].pop("name")' 'prompts: item 2' 'did you mean name?'
    bad 'd["prompts"][1]["name"] = "eiffel"' '"eiffel" is taken by item 1'
    bad 'd["prompts"][1]["name"] = "base"' '"base" is taken'
    bad 'd["prompts"][1]["subject"] = "Louvre"' 'item 2' "'Louvre' is not in the prompt"
    bad 'del d["prompts"][1]["prompt"]' 'give "prompt" or "tokens"'
    bad 'd["prompts"][0]["edits"] = ["z:1 freeze"]' 'use a variant'
    bad 'd["variants"][1]["prompt"] = "eifel"' 'variants: item 2' 'did you mean eiffel?'
    bad 'd["variants"][1]["edits"] = [{"site": "z:1", "op": "zero", "unit": 3}]' 'item 2' 'did you mean units?'
    bad 'd["variants"][2]["edits"] = ["z:1 patch from eifel"]' 'item 3' 'did you mean eiffel?'
    bad 'd["variants"][4]["edits"] = ["z:1@99 zero"]' 'variant "head"' 'no position 99'
    bad 'd["variants"][4]["edits"] = ["z:1#99 zero"]' 'no head 99'
    bad 'd["variants"][4]["edits"] = ["hook_zz:1 zero"]' 'hook_z'
    bad 'd["prompts"][1]["prompt"] = "The Colosseum is"; d["variants"][4]["edits"] = ["z:1 patch from rome"]' \
        'variant "head"' 'beyond the'
    bad 'd["variants"][4]["edits"] = ["z:1 mean"]' '"mean_over"'
    bad 'd["variants"][4]["edits"] = [{"site": "resid_post:1", "op": "set", "value": [1, 2, 3]}]' 'holds 3 numbers'
    echo '{"format": "strata-experiment", "version": 1, ' >bad.json
    strata experiment -m "$TINY" bad.json
    expect 1 bad.json
    one_line
    strata experiment -m "$TINY" none.json
    expect 1 none.json
    one_line
    experiment >e.json
    strata run -m "$TINY" "$PROMPT" --experiment e.json
    expect 2 "give nothing else"
    strata experiment -m "$TINY" e.json -o e.png
    expect 2 ".h5, .csv, .json"
}

@test "what is not there, and vectors of another size or type, by any command that edits" {
    python3 - <<'END'
import struct
def npy(name, kind, numbers, there):
    head = "{'descr': '%s', 'fortran_order': False, 'shape': (%d,), }" % (kind, numbers)
    head += " " * (-(len(head) + 11) % 64) + "\n"
    open(name, "wb").write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + there)
npy("int.npy", "<i4", 96, bytes(4 * 96))
npy("cut.npy", "<f4", 96, bytes(40))
npy("nan.npy", "<f4", 96, struct.pack("<f", float("nan")) * 96)
open("text.npy", "w").write("hello")
open("odd.f32", "wb").write(bytes(7))
open("empty.f32", "wb").close()
open("x.safetensors", "wb").write(bytes(64))
END
    refuses() {
        for command in run trace lens; do
            strata $command -m "$TINY" "$PROMPT" --edit "$1"
            expect 1 "edit '$1'" "$2"
            one_line
            [ -z "$output" ]
        done
    }
    refuses 'L6H0 zero' "no layer 6: the model has 6 layers"
    refuses 'L0H4 zero' "no head 4: attn.hook_z has 4"
    refuses 'L0N256 zero' "no neuron 256: mlp.hook_post has 256"
    refuses 'mlp_post:0#256 zero' "no neuron 256"
    refuses 'z:0-6 zero' "no layer 6"
    refuses 'z:0@99 zero' "no position 99: the prompt has 10 tokens"
    refuses 'z:0@3-99 zero' "no position 99"
    refuses 'z:0@subject zero' "the prompt has no subject"
    refuses 'resid_pots:0 zero' "did you mean resid_post"
    refuses 'resid_post:0@last patch :7' "no layer 7"
    refuses 'resid_post:0 add int.npy' "int.npy: holds '<i4': save x.astype('<f4')"
    refuses 'resid_post:0 add cut.npy' "cut.npy: its shape promises 96 numbers"
    refuses 'resid_post:0 add nan.npy' "nan.npy: number 0 is not a finite float32"
    refuses 'resid_post:0 add text.npy' "text.npy: is no .npy file"
    refuses 'resid_post:0 add odd.f32' "odd.f32: 7 bytes are no whole number of float32"
    refuses 'resid_post:0 add empty.f32' "empty.f32 holds 0 numbers, a row of hook_resid_post has 96"
    refuses 'resid_post:0 add x.safetensors' "a vector is FILE.npy or FILE.f32"
}
