load common

# The library as a stranger finds it: installed elsewhere, found by pkg-config, nothing of the source tree in sight.
setup_file() {
    cd "$BATS_FILE_TMPDIR"
    export PKG_CONFIG_PATH=$BATS_FILE_TMPDIR/usr/lib/pkgconfig LINK_FLAGS= sanitize=
    if grep -q __asan_init "$STRATA"; then
        sanitize=address,undefined LINK_FLAGS=-fsanitize=address,undefined
    fi
    make -C "$BATS_TEST_DIRNAME/../.." --no-print-directory install PREFIX="$BATS_FILE_TMPDIR/usr" \
        BUILD="${BUILD:-build}" SANITIZE=$sanitize >install.log 2>&1 || { tail install.log; return 1; }
}

compile() {
    ${CC:-cc} -std=c11 -Wall -Wextra -Werror $LINK_FLAGS -o "$1" "$1.c" $(pkg-config --cflags --libs strata)
}

@test "the installed program runs" {
    run "$BATS_FILE_TMPDIR/usr/bin/strata" run "$PROMPT" --quiet --top 1
    [ "$status" -eq 0 ]
    [[ $output == *'" Paris"'* ]]
}

@test "the version is the program's" {
    run pkg-config --modversion strata
    [ "strata $output" = "$("$STRATA" --version | head -1)" ]
}

@test "a program compiles against the installed header, links, and runs" {
    cat >use.c <<'END'
#include <stdio.h>
#include <strata.h>

int main(void)
{
    struct err err;
    struct pool *pool;
    struct model *model;
    if (pool_create(&pool, 1, &err) || model_open(&model, NULL, pool, &err))
        return fprintf(stderr, "%s\n", err.msg), 1;
    printf("%zu layers\n", model->config.n_layers);
    model_free(model);
    pool_free(pool);
    return 0;
}
END
    compile use
    run ./use
    [ "$status" -eq 0 ]
    [ "$output" = "6 layers" ]
}

@test "the example in the header compiles and runs" {
    sed -n '/^ \*     #include <stdio.h>/,/^ \*     cc example/p' "$BATS_FILE_TMPDIR/usr/include/strata/strata.h" |
        sed '/cc example/d; s/^ \*     //; s/^ \*$//; s|"gpt2"|NULL|' >example.c
    compile example
    run ./example
    [ "$status" -eq 0 ]
    [[ $output == "1 rows, first number "* ]] || [[ $output =~ ^[0-9]+\ rows,\ first\ number\ -?[0-9] ]]
}

@test "only headers that the public one needs are installed" {
    cd "$BATS_FILE_TMPDIR/usr/include/strata"
    [ -z "$(find . -name '*internal*')" ]
    [ "$(find . -name '*.h' | wc -l)" -gt 15 ]
}
