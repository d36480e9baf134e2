load common

# Ids and spans below are from Hugging Face tokenizers on data/tiny/tokenizer.json.

@test "one line a token: index, id, begin, end, text" {
    strata tokenize -m "$TINY" "$PROMPT"
    expect 0
    [ "${#lines[@]}" -eq 10 ]
    [ "${lines[0]}" = $'0\t263\t0\t3\t"The"' ]
    [ "${lines[1]}" = $'1\t409\t3\t5\t" E"' ]
    [ "$(cut -f2 <<<"$output" | tr '\n' ' ')" = "263 409 3442 298 2521 260 268 270 304 261 " ]
    [ "$(cut -f3,4 <<<"$output" | tr '\t\n' ', ')" = "0,3 3,5 5,8 8,10 10,16 16,19 19,22 22,26 26,31 31,34 " ]
}

@test "JSON has the same numbers and the text of each token" {
    strata tokenize -m "$TINY" "$PROMPT" --json
    check 'd["ids"] == [263, 409, 3442, 298, 2521, 260, 268, 270, 304, 261]'
    check 'd["begin"] == [0, 3, 5, 8, 10, 16, 19, 22, 26, 31] and d["end"] == d["begin"][1:] + [34]'
    check '"".join(d["text"]) == d["prompt"]'
}

@test "bytes are counted, and partial characters do not break the output" {
    strata tokenize -m "$TINY" $'caf\u00e9 \u65e5\u672c \U1f600' --json
    expect 0
    check 'd["end"][-1] == len(d["prompt"].encode()) and d["begin"][0] == 0'
    check 'all(a <= b for a, b in zip(d["begin"], d["begin"][1:]))'
}

@test "special tokens: bos is added on request, with an empty span" {
    strata tokenize -m "$TINY" x --json --specials bos
    check 'd["ids"][0] == 0 and d["begin"][0] == d["end"][0] == 0 and len(d["ids"]) == 2'
    strata tokenize -m "$TINY" x --json
    check 'len(d["ids"]) == 1'
    strata tokenize -m "$TINY" x --json --specials none
    check 'len(d["ids"]) == 1'
}

@test "standard input is a text, less one newline at its end" {
    strata tokenize -m "$TINY" $'a b\n' --json
    with=$output
    run --separate-stderr bash -c 'printf "a b\n\n" | "$0" tokenize -m "$1" - --json' "$STRATA" "$TINY"
    [ "$output" = "$with" ]
    run --separate-stderr bash -c 'printf "a b" | "$0" tokenize -m "$1" - --json' "$STRATA" "$TINY"
    check 'd["prompt"] == "a b"'
}

@test "a text file gives one object a line, every line as it is" {
    printf ' leading\ntrailing  \n\n   \ntab\there\r\nlast' >lines.txt
    strata tokenize -m "$TINY" -i lines.txt
    expect 0
    objects=$output
    printf '%s\n' "$output" >objects
    [ "$(wc -l <objects)" -eq 6 ]
    check 'all(list(o) == ["ids", "begin", "end"] for o in d)'
    check '[o["end"][-1] if o["ids"] else 0 for o in d] == [8, 10, 0, 3, 8, 4]'
    number=0
    while IFS= read -r text; do
        strata tokenize -m "$TINY" --json -- "$text"
        check "{k: d[k] for k in ('ids', 'begin', 'end')} == e[$number]" objects
        number=$((number + 1))
    done < <(printf ' leading\ntrailing  \n\n   \ntab\there\nlast\n')
    [ $number -eq 6 ]
    run --separate-stderr bash -c '"$0" tokenize -m "$1" -i - <lines.txt' "$STRATA" "$TINY"
    [ "$output" = "$objects" ]
}

@test "of fact files the prompt is tokenized" {
    strata tokenize -m "$TINY" -i "$ROOT/data/facts/landmark_city.jsonl" --limit 2
    expect 0
    check 'len(d) == 2 and d[0]["ids"] == [263, 409, 3442, 298, 2521, 260, 268, 270, 304, 261]'
    echo '{"tokens": [1, 2]}' >ids.jsonl
    strata tokenize -m "$TINY" -i ids.jsonl
    expect 1 "ids.jsonl: line 1: has token ids"
    one_line
}

@test "bad input is one line and exit 1" {
    strata tokenize -m "$TINY" $'bad \xff byte'
    expect 1 "is no UTF-8 at byte 4"
    one_line
    printf 'ok\nbad \xff\n' >bad.txt
    strata tokenize -m "$TINY" -i bad.txt
    expect 1 "bad.txt: line 2"
    one_line
    strata tokenize -m "$TINY" -i nothing.txt
    expect 1 "nothing.txt: cannot open"
    strata tokenize -m "$TINY" -i .
    expect 1 ".: is a folder"
    run --separate-stderr bash -c 'printf "a\0b" | "$0" tokenize -m "$1" -' "$STRATA" "$TINY"
    expect 1 "NUL"
}

@test "a text or a file, not both and not neither" {
    strata tokenize -m "$TINY"
    expect 2 "give a text, or -i FILE"
    strata tokenize -m "$TINY" x -i y.txt
    expect 2 "not both"
}

@test "an empty text has no tokens" {
    strata tokenize -m "$TINY" "" --json
    expect 0
    check 'd["ids"] == []'
}

@test "a model without a tokenizer says so" {
    mkdir bare
    cp "$TINY"/config.json "$TINY"/model.safetensors bare
    strata tokenize -m bare x
    expect 1 "bare: has no tokenizer"
    one_line
}

@test "a folder with vocab.json and merges.txt in place of tokenizer.json" {
    mkdir plain
    cp "$ROOT"/tests/golden/models/gpt2/{config.json,model.safetensors} plain
    echo '{"a":0,"b":1,"ab":2,"Ġ":3,"Ġab":4,"<|endoftext|>":5}' >plain/vocab.json
    printf '#version: 0.2\na b\nĠ ab\n' >plain/merges.txt
    strata tokenize -m plain "ab ab<|endoftext|>b" --json
    expect 0
    check 'd["ids"] == [2, 4, 5, 1] and d["begin"] == [0, 2, 5, 18] and d["text"][1] == " ab"'
    echo '{"add_bos_token":true}' >plain/tokenizer_config.json
    strata tokenize -m plain "ab" --json
    check 'd["ids"] == [5, 2]'
    echo 'a' >>plain/merges.txt
    strata tokenize -m plain "ab"
    expect 1 "plain/merges.txt: line 4 is not two tokens with a space between"
    one_line
}
