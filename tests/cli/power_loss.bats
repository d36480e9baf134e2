load common

# What a power loss leaves: system calls are recorded, their order is looked at, and played to a disk that keeps only what
# was flushed (tests/durability/power_loss.py; `make torture` for more moments).

# lost KIND [OPTION...]
lost() {
    run python3 "$ROOT/tests/durability/power_loss.py" --strata "$STRATA" ${POWER_SEED:+--seed "$POWER_SEED"} "$@"
    echo "$output"
}

@test "flushed, renamed, flushed; and old or whole after a power loss: dumps, lens, CSV, a sweep, folders" {
    traceable
    for kind in dump shards lens csv knockout; do
        lost $kind --size 0.1 --losses 4
        [ "$status" = 0 ]
    done
    lost each --size 0.08 --losses 2
    [ "$status" = 0 ]
    lost figures --losses 1
    [ "$status" = 0 ]
}

@test "a flush that is left out is found, by the order and by the replay" {
    traceable
    for left_out in file-fsync folder-fsync; do
        lost csv --size 0.1 --losses 6 --without $left_out
        [ "$status" = 1 ]
        [[ $output == *"flushed"* ]]
    done
    lost csv --size 0.1 --losses 6 --without file-fsync --losses-only
    [ "$status" = 1 ]
    [[ $output == *"is not whole"* ]]
    lost dump --size 0.2 --losses 30 --seed 1 --without data-fsync --losses-only
    [ "$status" = 1 ]
    lost knockout --size 0.1 --losses 6 --without draft
    [ "$status" = 1 ]
    [[ $output == *"opened for writing under its final name"* ]]
}
