load common

# Files that change or are not what they seem: one clear line, exit status 1.

# limited MIB COMMAND...: as strata, with the promised limits of 10 s of CPU time and MIB of memory; a minute in all.
limited() {
    local kib=$(($1 << 10))
    shift
    if grep -q __asan_init "$STRATA"; then
        kib=unlimited # sanitizers reserve address space
    fi
    run --separate-stderr bash -c 'ulimit -v "$1"; ulimit -t 10; shift; exec timeout 60 "$@"' - "$kib" "$STRATA" "$@"
}

# refused TEXT...: exit status 1 and one line with each TEXT.
refused() {
    expect 1 "$@"
    one_line
}

@test "FIFOs and folders in place of a model's files are refused at once" {
    for name in config.json model.safetensors tokenizer.json tokenizer_config.json; do
        for make in mkfifo mkdir; do
            rm -rf model
            cp -r "$TINY" model
            rm -rf "model/$name" model/checkpoints
            $make "model/$name"
            limited 1024 info model
            refused "model/$name: is not a regular file"
        done
    done
    rm -rf model
    cp -r "$ROOT/tests/golden/models/llama_b" model
    for name in model.safetensors.index.json model-00001-of-00002.safetensors; do
        mv "model/$name" kept
        mkfifo "model/$name"
        limited 1024 info model
        refused "model/$name: is not a regular file"
        rm "model/$name"
        mv kept "model/$name"
    done
    mkfifo fifo
    limited 1024 info fifo
    refused "fifo: is not a regular file"
    limited 1024 info /dev/zero
    refused "/dev/zero: is not a regular file"
}

@test "FIFOs and folders in place of other files are refused at once" {
    mkdir folder.jsonl folder.json folder.h5 folder.npy
    mkfifo fifo.json fifo.h5 fifo.npy
    limited 1024 lens -m "$TINY" -i folder.jsonl -o x.h5
    refused "folder.jsonl: is"
    for kind in folder fifo; do
        limited 1024 experiment $kind.json -m "$TINY"
        refused "$kind.json: is not a regular file"
        limited 1024 diff $kind.h5 $kind.h5
        refused "$kind.h5: "
        limited 1024 curves $kind.h5 -o c
        refused "$kind.h5: "
        limited 1024 run -m "$TINY" x --edit "resid_post:1@last add $kind.npy"
        expect 1 "$kind.npy: is not a regular file"
    done
}

@test "shards outside the model's folder are refused" {
    cp -r "$ROOT/tests/golden/models/llama_b" model
    for shard in ../secret.safetensors /etc/passwd a/b.safetensors ..; do
        python3 - "$shard" <<'END'
import json, sys
path = "model/model.safetensors.index.json"
index = json.load(open(path))
index["weight_map"] = {name: sys.argv[1] for name in index["weight_map"]}
json.dump(index, open(path, "w"))
END
        limited 1024 info model
        refused "\"$shard\" is no plain file name of the same folder"
    done
}

@test "files made to cost much memory or time are refused within the limits" {
    python3 - <<'END'
import struct
n = 1000000
with open("keys.gguf", "wb") as f:
    f.write(b"GGUF" + struct.pack("<IQQ", 3, 0, n))
    f.write(b"".join(struct.pack("<Q6sI", 6, b"%06x" % i, 7) + b"\1" for i in range(n)))
with open("tensors.gguf", "wb") as f:
    f.write(b"GGUF" + struct.pack("<IQQ", 3, 2000000, 0) + bytes(37 * 2000000))
open("objects.json", "w").write('{"format":"strata-experiment","version":1,"prompts":[' + "{}," * 4000000 + "{}]}")
open("large.json", "w").write('{"format":"' + "x" * (33 << 20) + '"}')
open("deep.json", "w").write("[" * 2000000)
open("objects.jsonl", "w").write("[" + "{}," * 4000000 + "{}]")
END
    limited 1200 info keys.gguf
    refused "keys.gguf: counts 1000000 keys and 0 tensors, at most 65536"
    limited 1200 info tensors.gguf
    refused "tensors.gguf: counts 0 keys and 2000000 tensors, at most"
    limited 1200 experiment objects.json -m "$TINY"
    refused "objects.json: holds more than 3000000 objects and lists"
    limited 1200 experiment large.json -m "$TINY"
    refused "large.json: has 34603" "more than 32 MiB"
    limited 1200 experiment deep.json -m "$TINY"
    refused "deep.json: is no valid JSON" "depth"
    limited 1200 lens -m "$TINY" -i objects.jsonl -o x.h5
    refused "objects.jsonl: line 1: "
    limited 1200 run -m "$TINY" x --edits objects.json
    refused "objects.json: holds more than 3000000 objects and lists"
}

@test "token ids outside the vocabulary are refused" {
    echo '{"tokens":[1,2,4096],"answer_token":4}' >ids.jsonl
    limited 1024 lens -m "$TINY" -i ids.jsonl -o x.h5
    refused "ids.jsonl: line 1: token id 4096 is outside the vocabulary of 4096"
    echo '{"tokens":[1,2],"answer_token":4096}' >ids.jsonl
    limited 1024 lens -m "$TINY" -i ids.jsonl -o x.h5
    refused "ids.jsonl: line 1: answer token 4096 is outside the vocabulary of 4096"
}

@test "a model that is cut short during a run is named" {
    cp -r "$ROOT/tests/golden/models/llama_a" model
    mkfifo facts
    "$STRATA" lens -m model -i - -o x.h5 --quiet <facts 2>err &
    pid=$!
    exec 9>facts
    for _ in $(seq 100); do
        grep -q model.safetensors "/proc/$pid/maps" && break
        sleep 0.05
    done
    grep -q model.safetensors "/proc/$pid/maps" || skip "the weights are not mapped while facts are awaited"
    : >model/model.safetensors
    echo '{"tokens":[1,2,3],"answer_token":4}' >&9
    exec 9>&-
    status=0
    wait "$pid" || status=$?
    stderr=$(cat err)
    expect 1 "model/model.safetensors: was cut short"
    one_line
}
