load common

@test "no command is wrong usage" {
    strata
    expect 2 "strata help"
    [ -z "$output" ]
}

@test "help lists every command on stdout" {
    strata help
    expect 0
    for command in info sites tokenize run dump lens curves trace verify diff query doctor; do
        grep -q "^  $command " <<<"$output"
    done
    for word in --help -h; do
        help=$output
        strata $word
        expect 0
        [ "$output" = "$help" ]
    done
}

@test "help COMMAND, COMMAND --help and COMMAND -h are the same page" {
    for command in info sites tokenize run verify doctor; do
        strata help $command
        expect 0
        page=$output
        [[ $page == "usage: strata $command"* ]]
        for word in --help -h; do
            strata $command $word
            expect 0
            [ "$output" = "$page" ]
        done
    done
}

@test "the version names the libraries" {
    strata --version
    expect 0
    [[ ${lines[0]} =~ ^strata\ [0-9]+\.[0-9]+\.[0-9]+$ ]]
    [[ $output == *BLAS:* && $output == *HDF5:* && $output == *"instruction set:"* ]]
    run --separate-stderr env STRATA_ISA=base "$STRATA" --version
    [[ $output == *"instruction set: base"* ]]
}

@test "a misspelt command lists near matches" {
    strata tokenise
    expect 2 "no command 'tokenise'" "did you mean tokenize?"
    one_line
    strata help verfy
    expect 2 "did you mean verify?"
}

@test "a misspelt option lists near matches" {
    strata run -m "$TINY" "$PROMPT" --tpo 3
    expect 2 "unknown option --tpo" "did you mean --top?" "strata help run"
    one_line
    strata run -m "$TINY" "$PROMPT" -top=3
    expect 2 "unknown option -top=3: did you mean --top?"
}

@test "a misspelt choice lists the choices and near matches" {
    strata tokenize -m "$TINY" "$PROMPT" --specials atuo
    expect 2 "auto, none or bos" "did you mean auto?"
    strata run -m "$TINY" "$PROMPT" --precision f16
    expect 2 "f32 or f64"
}

@test "numbers are checked" {
    for value in 0 -1 x 1x '' 1e3 99999999999999999999999 +5; do
        strata run -m "$TINY" "$PROMPT" --top "$value"
        expect 2 "--top must be a whole number from 1"
        one_line
    done
    strata run -m "$TINY" "$PROMPT" -t 257
    expect 2 "--threads must be a whole number from 1 to 256"
}

@test "an option that lacks its value, or is given twice, is wrong usage" {
    strata run "$PROMPT" --top
    expect 2 "--top needs a value: K"
    strata run "$PROMPT" --top 1 --top 2
    expect 2 "--top is given twice"
    strata info --json=yes
    expect 2 "--json takes no value"
}

@test "an option of other commands is refused by name" {
    strata tokenize "$PROMPT" --resume
    expect 2 "--resume is no option of this command"
}

@test "options stand anywhere and in every form" {
    strata run "$PROMPT" --top 2 -m "$TINY" --json
    expect 0
    expected=$output
    for words in "--top=2 -m$TINY --json" "--json --model=$TINY --top 2" "-t 1 --quiet --top 2 --json --model $TINY"; do
        strata run $words "$PROMPT"
        expect 0
        [ "$output" = "$expected" ]
    done
    strata run --top 2 -m "$TINY" --json -- "$PROMPT"
    [ "$output" = "$expected" ]
}

@test "a prompt that starts with a dash comes after --" {
    strata tokenize -m "$TINY" "-x y"
    expect 2 "write --"
    strata tokenize -m "$TINY" -- "-x y"
    expect 0
}

@test "too many arguments are wrong usage" {
    strata run -m "$TINY" The Eiffel Tower
    expect 2 "one argument too many: 'Eiffel'"
    strata sites blocks.0.hook_mlp_out
    expect 2 "one argument too many"
}

@test "a model that is not there, no model, or broken is exit 1 with one line that names it" {
    strata info /nowhere/model.gguf
    expect 1 "/nowhere/model.gguf: "
    one_line
    mkdir empty
    strata info empty
    expect 1 "empty: has no config.json"
    printf 'no GGUF at all' >bad.gguf
    strata run -m bad.gguf x
    expect 1 "bad.gguf: is no GGUF file"
    one_line
}

@test "the default model is \$STRATA_MODEL, else the embedded one, and stderr says which" {
    STRATA_MODEL=$TINY strata tokenize x
    expect 0 "$TINY (from \$STRATA_MODEL)"
    strata tokenize x
    expect 0 "embedded tiny model"
    strata tokenize x --quiet
    expect 0
    [ -z "$stderr" ]
    mkdir -p data/models
    cp "$TINY/model.safetensors" data/models/SmolLM2-135M-Instruct.Q4_1.gguf
    strata tokenize x
    expect 1 "data/models/SmolLM2-135M-Instruct.Q4_1.gguf: is no GGUF file"
}

@test "the embedded model is the one in data/tiny" {
    strata run "$PROMPT" --json
    embedded=$output
    strata run -m "$TINY" "$PROMPT" --json
    [ "$output" = "$embedded" ]
}

@test "a full and a closed standard output are errors, a reader that has enough is none" {
    run bash -c '"$0" sites >/dev/full' "$STRATA"
    [ "$status" -eq 1 ]
    [[ $output == "strata: standard output: cannot write: "* ]]
    run bash -c '"$0" sites >&-' "$STRATA"
    [ "$status" -eq 1 ]
    [[ $output == "strata: standard output: cannot write: "* ]]
    # As with git and grep: ended by SIGPIPE, in silence.
    for words in sites "help lens" "tokenize -m $TINY hello"; do
        run bash -c '(sleep 0.2; exec "$0" "$@") | true; exit ${PIPESTATUS[0]}' "$STRATA" $words
        [ "$status" -eq 141 ]
        [ -z "$output" ]
    done
}

@test "results go to -o whole or not at all" {
    strata run -m "$TINY" "$PROMPT" --json
    expected=$output
    strata run -m "$TINY" "$PROMPT" -o result.json
    expect 0
    [ -z "$output" ]
    [ "$(cat result.json)" = "$expected" ]
    [ "$(ls)" = result.json ]
    strata run -m "$TINY" "$PROMPT" -o /dev/full
    expect 1 "/dev/full: cannot write"
    strata run -m "$TINY" "$PROMPT" -o no/such/folder.json
    expect 1 "no/such/folder.json: cannot create"
    strata run -m "$TINY" "$PROMPT" -o result.h5
    expect 2 "this command writes .json or .txt"
    strata run -m "$TINY" "$PROMPT" --edit 'z:0@99 zero' -o result.json
    expect 1
    [ "$(cat result.json)" = "$expected" ]
}

@test "an interrupted command says so and exits with 130" {
    mkfifo never
    exec 9<>never
    for signal in INT TERM; do
        # Job control, so that the background job does not ignore SIGINT; `timeout` so that a lost signal is a failure.
        run timeout 20 bash -c 'set -m
            "$1" tokenize -m "$2" -i - <never >out 2>err 9<&- &
            pid=$!
            until grep -q "^SigCgt:.*4...$" /proc/$pid/status; do sleep 0.02; done
            kill -$3 $pid
            wait $pid' - "$STRATA" "$TINY" $signal
        [ "$status" -eq 130 ]
        [ "$(cat err)" = "strata: interrupted" ]
    done
}

@test "an interrupted command leaves what it had as PATH.partial, in whole lines" {
    for n in $(seq 40); do cat "$ROOT"/data/facts/*.jsonl; done >facts.jsonl
    run timeout 60 bash -c 'set -m
        "$1" run -m "$2" -i facts.jsonl -o result.jsonl --quiet 2>err &
        pid=$!
        until [ -s result.jsonl.partial ]; do sleep 0.02; done
        kill -INT $pid
        wait $pid' - "$STRATA" "$TINY"
    [ "$status" -eq 130 ]
    [[ $(cat err) == "strata: interrupted after "*" prompts" ]]
    [ ! -e result.jsonl ]
    done=$(wc -l <result.jsonl.partial)
    [[ $(cat err) == *" $done prompts" ]]
    output=$(tail -1 result.jsonl.partial)
    check 'd["top"][0]["rank"] == 1'
}

@test "progress is drawn on a terminal only, and not with --quiet" {
    cat "$ROOT"/data/facts/*.jsonl "$ROOT"/data/facts/*.jsonl >facts.jsonl
    # Runs the program with stderr on a terminal and prints what was drawn.
    cat >on_terminal.py <<'END'
import os, pty, subprocess, sys
main, side = pty.openpty()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=side)
os.close(side)
drawn = b""
while True:
    try:
        block = os.read(main, 4096)
    except OSError:
        break
    drawn += block
sys.stdout.buffer.write(drawn)
sys.exit(process.wait())
END
    run python3 on_terminal.py "$STRATA" run -m "$TINY" -i facts.jsonl --top 1 -t 1
    [ "$status" -eq 0 ]
    [[ $output =~ run:\ [0-9]+/3514\ prompts,\ [0-9.e+]+/s,\ left:\ [0-9]+\ s ]]
    # The last thing drawn is an empty line.
    [[ $output == *$'\r\e[K' ]]
    run python3 on_terminal.py "$STRATA" run -m "$TINY" -i facts.jsonl --top 1 -t 1 --quiet
    [ -z "$output" ]
    strata run -m "$TINY" -i facts.jsonl --top 1
    expect 0
    [ -z "$stderr" ]
}

@test "--limit takes the first facts, in batches of any size" {
    strata run -m "$TINY" -i "$ROOT/data/facts/landmark_city.jsonl" --top 1 --limit 3 -o three.jsonl
    expect 0
    [ "$(wc -l <three.jsonl)" -eq 3 ]
    strata run -m "$TINY" -i "$ROOT/data/facts/landmark_city.jsonl" --top 1
    [ "$(head -3 <<<"$output" | cut -d, -f1)" = "$(cut -d, -f1 three.jsonl)" ]
}

@test "a closed standard input is an error where it is read" {
    run bash -c '"$0" tokenize -m "$1" - <&- 2>&1' "$STRATA" "$TINY"
    [ "$status" -eq 1 ]
    [[ $output == "strata: standard input: cannot read"* ]]
    run bash -c '"$0" sites <&- 2>/dev/null' "$STRATA"
    [ "$status" -eq 0 ]
}

@test "control characters of a message do not reach the terminal" {
    strata info $'a\x1b[2J\nb'
    expect 1 "a?[2J?b"
    one_line
}

@test "near options do not change meaning: no abbreviations" {
    strata run -m "$TINY" "$PROMPT" --gen 3
    expect 2 "unknown option --gen" "did you mean --generate?"
}
