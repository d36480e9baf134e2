/*
 * Queries: fields of small files of each layout, types and their errors, joins;
 * functions against naive loops; and random expressions against a naive
 * evaluator, whose every result must be equal to the bit, since both compute in
 * double in the same order. STRATA_SEED=N repeats a run.
 */
#include "core/base/random.h"
#include "core/base/strbuf.h"
#include "core/query/evaluate.h"
#include "core/query/functions.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/must.h"

/* --- files --- */

static char folder[] = "/tmp/strata-query-XXXXXX";

static const char *path_of(const char *name)
{
    static char path[2][128];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

enum { PROMPTS = 3, ROWS = 7, DEPTHS = 4, HEADS = 2, WIDTH = 3 };
static const int32_t prompt_of[ROWS] = { 0, 0, 1, 1, 1, 2, 2 }, position_of[ROWS] = { 0, 1, 0, 1, 2, 0, 1 };
static const int64_t token_offset[PROMPTS + 1] = { 0, 2, 5, 7 };
static const int64_t pattern_offset[PROMPTS + 1] = { 0, 2 * 4, 2 * (4 + 9), 2 * (4 + 9 + 4) };
static int32_t rank[ROWS * DEPTHS];
static float logprob[ROWS * DEPTHS], resid[ROWS * WIDTH], z[ROWS * HEADS * WIDTH], pattern[2 * (4 + 9 + 4)];
static double to_subject[PROMPTS * DEPTHS * HEADS];

static void put(const struct h5_file *f, const char *name, enum store_type type, int n_dims, const hsize_t *dims,
                const void *data)
{
    struct err err = { 0 };
    must(h5_put_array(f, name, type, n_dims, dims, data, &err), &err);
}

static void begin(struct h5_file *f, const char *path, const char *format, int complete)
{
    struct err err = { 0 };
    must(h5_create(f, path, &err), &err);
    must(h5_put_text(f, f->id, "format", format, &err), &err);
    must(h5_put_int(f, f->id, "version", 1, &err), &err);
    must(h5_put_int(f, f->id, "complete", complete, &err), &err);
}

static void put_rows(const struct h5_file *f)
{
    static const char *const ids[] = { "a", "b", "c" }, *const texts[] = { "A x", "B y z", "C, \"q\"" };
    static const char *const relations[] = { "country_capital", "", "color" };
    put(f, "/prompts/id", STORE_TEXT, 1, (hsize_t[]){ PROMPTS }, ids);
    put(f, "/prompts/text", STORE_TEXT, 1, (hsize_t[]){ PROMPTS }, texts);
    put(f, "/prompts/relation", STORE_TEXT, 1, (hsize_t[]){ PROMPTS }, relations);
    put(f, "/rows/prompt", STORE_I32, 1, (hsize_t[]){ ROWS }, prompt_of);
    put(f, "/rows/position", STORE_I32, 1, (hsize_t[]){ ROWS }, position_of);
}

static void make_lens(const char *path)
{
    struct h5_file f;
    struct err err = { 0 };
    static const char *const labels[] = { "0_pre", "1_pre", "2_pre", "final_post" };
    begin(&f, path, "strata-lens", 1);
    put_rows(&f);
    put(&f, "/layers/label", STORE_TEXT, 1, (hsize_t[]){ DEPTHS }, labels);
    put(&f, "/lens/rank", STORE_I32, 2, (hsize_t[]){ ROWS, DEPTHS }, rank);
    put(&f, "/lens/logprob", STORE_F32, 2, (hsize_t[]){ ROWS, DEPTHS }, logprob);
    must(h5_close(&f, 0, &err), &err);
}

static void make_dump(const char *path)
{
    struct h5_file f;
    struct err err = { 0 };
    static const int32_t subject_begin[] = { 0, 1, 1 }, subject_end[] = { 1, 3, 2 };
    begin(&f, path, "strata-dump", 1);
    put_rows(&f);
    put(&f, "/prompts/token_offset", STORE_I64, 1, (hsize_t[]){ PROMPTS + 1 }, token_offset);
    put(&f, "/prompts/pattern_offset", STORE_I64, 1, (hsize_t[]){ PROMPTS + 1 }, pattern_offset);
    put(&f, "/prompts/subject_begin", STORE_I32, 1, (hsize_t[]){ PROMPTS }, subject_begin);
    put(&f, "/prompts/subject_end", STORE_I32, 1, (hsize_t[]){ PROMPTS }, subject_end);
    put(&f, "/tokens/id", STORE_I32, 1, (hsize_t[]){ ROWS }, position_of);
    put(&f, "/activations/blocks.0.hook_resid_post", STORE_F32, 2, (hsize_t[]){ ROWS, WIDTH }, resid);
    put(&f, "/activations/blocks.2.hook_resid_post", STORE_F32, 2, (hsize_t[]){ ROWS, WIDTH }, resid);
    put(&f, "/activations/blocks.2.attn.hook_z", STORE_F32, 3, (hsize_t[]){ ROWS, HEADS, WIDTH }, z);
    put(&f, "/activations/blocks.2.attn.hook_pattern", STORE_F32, 1, (hsize_t[]){ 2 * (4 + 9 + 4) }, pattern);
    must(h5_close(&f, 0, &err), &err);
}

/* Facts in another order, one with another text, one that no other file has. */
static void make_heads(const char *path)
{
    struct h5_file f;
    struct err err = { 0 };
    static const char *const ids[] = { "c", "a", "b" }, *const prompts[] = { "C, \"q\"", "A x", "another text" };
    static const int32_t ranks[] = { 5, 6, 7 };
    begin(&f, path, "strata-heads", 1);
    put(&f, "/facts/id", STORE_TEXT, 1, (hsize_t[]){ PROMPTS }, ids);
    put(&f, "/facts/prompt", STORE_TEXT, 1, (hsize_t[]){ PROMPTS }, prompts);
    put(&f, "/facts/rank", STORE_I32, 1, (hsize_t[]){ PROMPTS }, ranks);
    put(&f, "/ablation/rank", STORE_I32, 1, (hsize_t[]){ PROMPTS }, ranks);
    put(&f, "/attention/to_subject", STORE_F64, 3, (hsize_t[]){ PROMPTS, DEPTHS, HEADS }, to_subject);
    put(&f, "/mean/to_subject", STORE_F64, 2, (hsize_t[]){ PROMPTS, HEADS }, to_subject);
    must(h5_close(&f, 0, &err), &err);
}

static int make_files(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    for (size_t i = 0; i < ROWS * DEPTHS; i++) {
        rank[i] = (int32_t)(i * 7 % 11); /* a 0 now and then: no answer */
        logprob[i] = (float)i / 8 - 2;
    }
    for (size_t i = 0; i < ROWS * WIDTH; i++)
        resid[i] = (float)i;
    for (size_t i = 0; i < ROWS * HEADS * WIDTH; i++)
        z[i] = (float)i + 100;
    for (size_t i = 0; i < sizeof pattern / sizeof *pattern; i++)
        pattern[i] = (float)i;
    for (size_t i = 0; i < PROMPTS * DEPTHS * HEADS; i++)
        to_subject[i] = (double)i + 0.5;
    make_lens(path_of("lens.h5"));
    make_dump(path_of("dump.h5"));
    make_heads(path_of("heads.h5"));
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) ? -1 : 0;
}

struct bench {
    struct expression e;
    struct query_files files;
    struct query_columns columns;
    struct query *query;
};

/* Names: "lens dump". */
static int set_up(struct bench *b, const char *names, const char *text, struct err *err)
{
    char copy[64], *save = NULL, paths[4][128];
    const char *pointers[4];
    size_t n = 0;
    *b = (struct bench){ 0 };
    snprintf(copy, sizeof copy, "%s", names);
    for (char *name = strtok_r(copy, " ", &save); name; name = strtok_r(NULL, " ", &save)) {
        snprintf(paths[n], sizeof paths[n], "%s/%s.h5", folder, name);
        pointers[n] = paths[n];
        n++;
    }
    must(expression_parse(&b->e, text, EXPRESSION_ROOTS, err), err);
    int rc = query_files_open(&b->files, pointers, n, &b->e, 1, err);
    if (rc)
        return rc;
    query_columns_init(&b->columns, &b->files);
    return query_bind(&b->query, &b->columns, &b->e, err);
}

static void take_down(struct bench *b)
{
    query_free(b->query);
    query_columns_release(&b->columns);
    query_files_close(&b->files);
    expression_release(&b->e);
}

/* "1 2;3 -": values of all units, the items of a vector between ;, '-' for missing, '/' for units without a partner. */
static void gives(const char *names, const char *text, const char *wanted)
{
    struct bench b;
    struct err err = { 0 };
    struct strbuf out = STRBUF_INIT;
    struct query_place places[4];
    must(set_up(&b, names, text, &err), &err);
    for (uint64_t u = 0; u < query_files_units(&b.files); u++) {
        strbuf_adds(&out, u ? " " : "");
        if (!query_files_find(&b.files, u, places)) {
            strbuf_addc(&out, '/');
            continue;
        }
        must(query_evaluate(b.query, places, &err), &err);
        const struct query_value v = query_value(b.query, 0);
        if (v.kind == QUERY_TEXT)
            strbuf_adds(&out, v.text);
        for (size_t i = 0; v.kind != QUERY_TEXT && i < (v.kind == QUERY_VECTOR ? v.n : 1); i++) {
            double x = v.kind == QUERY_VECTOR ? v.items[i] : v.number;
            strbuf_addf(&out, isnan(x) ? "%s-" : "%s%g", i ? ";" : "", x);
        }
    }
    if (strcmp(strbuf_text(&out), wanted) != 0)
        fail_msg("%s: %s gives\n%s, not\n%s", names, text, strbuf_text(&out), wanted);
    strbuf_release(&out);
    take_down(&b);
}

static void refuses(const char *names, const char *text, const char *words)
{
    struct bench b;
    struct err err = { 0 };
    assert_message(set_up(&b, names, text, &err), &err, words);
    take_down(&b);
}

static void rows_prompts_and_labels(void **state)
{
    (void)state;
    gives("lens", "rank[0]", "- 6 1 7 2 8 3");
    gives("lens", "lens.rank[-1]", "10 5 - 6 1 7 2");
    gives("lens", "rank[\"final_post\"]", "10 5 - 6 1 7 2");
    gives("lens", "rank", "-;7;3;10 6;2;9;5 1;8;4;- 7;3;10;6 2;9;5;1 8;4;-;7 3;10;6;2");
    gives("lens", "rank[1:3]", "7;3 2;9 8;4 3;10 9;5 4;- 10;6");
    gives("lens", "id", "a a b b b c c");
    gives("lens", "position", "0 1 0 1 2 0 1");
    gives("lens", "missing(relation)", "0 0 1 1 1 0 0");
    gives("lens", "relation ~ 'co*t*l'", "1 1 0 0 0 0 0");
    gives("lens", "first(rank <= 3)", "2 1 0 1 0 - 0");
    gives("lens", "rank[0] != 6", "0 0 1 1 1 1 1"); /* missing: also false */
    gives("lens", "not rank[0] == 6", "1 0 1 1 1 1 1");
    gives("lens", "id in ('a', 'c') and rank[1] not in (7, 10)", "0 1 0 0 0 1 0");
}

static void sites_take_their_layer_first(void **state)
{
    (void)state;
    gives("dump", "resid_post[2]", "0;1;2 3;4;5 6;7;8 9;10;11 12;13;14 15;16;17 18;19;20");
    gives("dump", "blocks.0.hook_resid_post[1]", "1 4 7 10 13 16 19");
    gives("dump", "hook_resid_post[-1, 2]", "2 5 8 11 14 17 20");
    gives("dump", "z[2, 1]", "103;104;105 109;110;111 115;116;117 121;122;123 127;128;129 133;134;135 139;140;141");
    gives("dump", "z[L2H1, 0]", "103 109 115 121 127 133 139");
    gives("dump", "z[2, :, 0]", "100;103 106;109 112;115 118;121 124;127 130;133 136;139");
    refuses("dump", "resid_post", "column 11: |layer is missing|layers 0, 2");
    refuses("dump", "resid_post[1]", "column 12: |no such layer|layers 0, 2");
    refuses("dump", "resid_post[:]", "column 12: |one number");
    refuses("dump", "z[2]", "column 5: |2 axes|at most one");
    refuses("dump", "z[2,0,0,0]", "column 9: |too many");
    refuses("dump", "z[2,2]", "column 5: |past the end|has 2");
    refuses("dump", "z[2,subject]", "column 5: |does not count tokens");
}

static void attention_is_ragged(void **state)
{
    (void)state;
    gives("dump", "pattern[2,0]", "0;1 2;3 8;9;10 11;12;13 14;15;16 26;27 28;29");
    gives("dump", "pattern[2,1]", "4;5 6;7 17;18;19 20;21;22 23;24;25 30;31 32;33");
    gives("dump", "pattern[2,0,subject]", "0 2 9;10 12;13 15;16 27 29");
    gives("dump", "pattern[2,1,-1]", "5 7 19 22 25 31 33");
    gives("dump", "pattern[2,:,2]", "-;- -;- 10;19 13;22 16;25 -;- -;-");
    gives("dump", "tokens.id", "0;1 0;1 0;1;2 0;1;2 0;1;2 0;1 0;1");
    gives("dump", "tokens.id[subject]", "0 0 1;2 1;2 1;2 1 1");
    gives("dump", "pattern[2,0] + tokens.id", "0;2 2;4 8;10;12 11;13;15 14;16;18 26;28 28;30");
    refuses("dump", "pattern[2,0,1:2]", "column 13: |differ in length");
    refuses("dump", "pattern[2,0] + pattern[2,0,subject]", "column 14: |different tokens");
}

static void later_files_are_joined(void **state)
{
    (void)state;
    gives("lens heads", "to_subject[1,0]", "10.5 10.5 / / / 2.5 2.5");
    gives("lens heads", "heads:facts.rank", "6 6 / / / 5 5");
    gives("lens heads", "rank[1]", "7 2 / / / 4 10"); /* the first file's */
    gives("dump lens", "rank[1] + resid_post[0, 0]", "7 5 14 12 21 19 28");
    refuses("heads lens", "facts.rank", "lens.h5 first");
    refuses("lens heads", "haeds:rank", "column 1: |did you mean heads");
    refuses("lens heads", "heads:rank", "column 7: |could be|ablation.rank, facts.rank");
    refuses("heads", "rank > 1", "column 1: |could be|ablation.rank, facts.rank");
    refuses("heads", "1 < mean.to_subject[0,0]", "column 5: |not kept for each");
    refuses("lens lens", "rank[0]", "same name");
}

static void types_are_checked_with_their_place(void **state)
{
    (void)state;
    refuses("lens", "1 + rnak", "column 5: |no field 'rnak' in |did you mean lens.rank?");
    refuses("lens", "frist(rank)", "column 1: |no function|first");
    refuses("lens", "first(id)", "column 7: |a vector, not a text");
    refuses("lens", "first(3)", "column 7: |a vector, not a number");
    refuses("lens", "first(rank, 3)", "column 1: |one value, not 2");
    refuses("lens", "dot(rank)", "column 1: |two vectors, not 1");
    refuses("lens", "id + 1", "column 4: |a text and a number");
    refuses("lens", "id < 1", "column 4: |a text and a number");
    refuses("lens", "-id", "column 1: |text");
    refuses("lens", "id ~ 3", "column 4: |texts");
    refuses("lens", "rank + rank[1:]", "column 6: |4 and 3");
    refuses("lens", "cosine(rank, rank[1:])", "column 1: |4 and 3");
    refuses("lens", "id in ('a', 3)", "column 13: |a text|a number");
    refuses("lens", "rank[\"finalpost\"]", "column 6: |did you mean final_post");
    refuses("lens", "rank[3:2]", "column 6: |range");
    refuses("lens", "logprob[subject]", "column 9: |tokens");

    struct bench b;
    struct err err = { 0 };
    must(set_up(&b, "lens", "rank <= 10", &err), &err);
    assert_message(query_check_condition(b.query, 0, &err), &err, "column 6: |any(), all() or first()");
    take_down(&b);
}

static void hostile_files_are_refused(void **state)
{
    (void)state;
    struct h5_file f;
    struct err err = { 0 };
    static const int32_t wrong[ROWS] = { 0, 0, 1, 1, 1, 2, 9 };
    static const int64_t falls[PROMPTS + 1] = { 0, 5, 2, 7 };
    const char *path = path_of("bad.h5");
    begin(&f, path, "strata-lens", 1);
    put_rows(&f);
    must(H5Ldelete(f.id, "/rows/prompt", H5P_DEFAULT) < 0, &err);
    put(&f, "/rows/prompt", STORE_I32, 1, (hsize_t[]){ ROWS }, wrong);
    must(h5_close(&f, 0, &err), &err);
    refuses("bad", "id", "bad.h5: row 6 belongs to no prompt");
    begin(&f, path, "strata-dump", 1);
    put_rows(&f);
    put(&f, "/prompts/token_offset", STORE_I64, 1, (hsize_t[]){ PROMPTS + 1 }, falls);
    must(h5_close(&f, 0, &err), &err);
    refuses("bad", "id", "token_offset' does not rise");
    begin(&f, path, "strata-patch", 1);
    must(h5_close(&f, 0, &err), &err);
    refuses("bad", "id", "without prompts or facts");
    begin(&f, path, "other", 1);
    must(h5_close(&f, 0, &err), &err);
    refuses("bad", "id", "none of Strata's");
}

/* Rows run ahead of prompts in a partial file: the last prompt's are left out. */
static void partial_files_count_whole_prompts(void **state)
{
    (void)state;
    struct h5_file f;
    struct err err = { 0 };
    static const char *const ids[] = { "a", "b" };
    begin(&f, path_of("part.h5"), "strata-lens", 0);
    put(&f, "/prompts/id", STORE_TEXT, 1, (hsize_t[]){ 2 }, ids);
    put(&f, "/rows/prompt", STORE_I32, 1, (hsize_t[]){ ROWS }, prompt_of);
    put(&f, "/rows/position", STORE_I32, 1, (hsize_t[]){ ROWS }, position_of);
    put(&f, "/lens/rank", STORE_I32, 2, (hsize_t[]){ ROWS - 1, DEPTHS }, rank);
    must(h5_close(&f, 0, &err), &err);
    gives("part", "rank[0]", "- 6 1 7 2");
}

/* --- many rows: blocks, and joins that jump about --- */

static void blocks_and_jumps_give_the_same_rows(void **state)
{
    (void)state;
    enum { N = 3000, W = 300 };
    struct h5_file f;
    struct err err = { 0 };
    char(*id)[8] = calloc(N, sizeof *id);
    const char **ids = calloc(N, sizeof *ids), **shuffled = calloc(N, sizeof *shuffled);
    double *x = calloc((size_t)N * W, sizeof *x), *y = calloc(N, sizeof *y);
    for (size_t i = 0; i < N; i++) {
        snprintf(id[i], sizeof id[i], "%zu", i);
        ids[i] = id[i];
        for (size_t k = 0; k < W; k++)
            x[i * W + k] = (double)(i * 1000 + k);
    }
    for (size_t i = 0; i < N; i++) {
        size_t at = i * 1009 % N; /* 1009 is prime to 3000: each once */
        shuffled[i] = ids[at];
        y[i] = (double)at;
    }
    begin(&f, path_of("many.h5"), "strata-heads", 1);
    put(&f, "/facts/id", STORE_TEXT, 1, (hsize_t[]){ N }, ids);
    put(&f, "/facts/prompt", STORE_TEXT, 1, (hsize_t[]){ N }, ids);
    put(&f, "/a/x", STORE_F64, 2, (hsize_t[]){ N, W }, x);
    must(h5_close(&f, 0, &err), &err);
    begin(&f, path_of("jump.h5"), "strata-heads", 1);
    put(&f, "/facts/id", STORE_TEXT, 1, (hsize_t[]){ N }, shuffled);
    put(&f, "/facts/prompt", STORE_TEXT, 1, (hsize_t[]){ N }, shuffled);
    put(&f, "/a/y", STORE_F64, 1, (hsize_t[]){ N }, y);
    must(h5_close(&f, 0, &err), &err);

    struct bench b;
    struct query_place places[4];
    must(set_up(&b, "many jump", "x[299] == y * 1000 + 299 and x[0] == y * 1000", &err), &err);
    for (uint64_t u = 0; u < N; u++) {
        assert_true(query_files_find(&b.files, u, places));
        must(query_evaluate(b.query, places, &err), &err);
        if (query_value(b.query, 0).number != 1)
            fail_msg("unit %zu", (size_t)u);
    }
    for (size_t i = 0; i < b.columns.n; i++) /* bounded: a block of 1 MiB */
        assert_true(b.columns.columns[i].capacity * b.columns.columns[i].row_bytes <= 1 << 20);
    take_down(&b);
    free(id);
    free(ids);
    free(shuffled);
    free(x);
    free(y);
}

/* --- functions, and random expressions, against naive ones --- */

static uint64_t seed(void)
{
    const char *text = getenv("STRATA_SEED");
    unsigned long long s = text ? strtoull(text, NULL, 10) : (unsigned)getpid();
    print_message("STRATA_SEED=%llu\n", s);
    return s;
}

static double naive_reduce(const char *name, const double *v, size_t n)
{
    double found[64], true_at[64], s = 0, squares = 0;
    size_t m = 0, t = 0;
    for (size_t i = 0; i < n; i++)
        if (v[i] == v[i]) {
            found[m++] = v[i];
            s += v[i];
            squares += v[i] * v[i];
            if (v[i] < 0 || v[i] > 0)
                true_at[t++] = (double)i;
        }
    double low = NAN, high = NAN;
    for (size_t i = 0; i < m; i++) {
        low = fmin(low, found[i]);
        high = fmax(high, found[i]);
    }
    double at_low = NAN, at_high = NAN;
    for (size_t i = n; i-- > 0;) {
        at_low = v[i] == low ? (double)i : at_low;
        at_high = v[i] == high ? (double)i : at_high;
    }
    const struct {
        const char *name;
        double value;
    } all[] = {
        { "first", t ? true_at[0] : NAN },
        { "last", t ? true_at[t - 1] : NAN },
        { "any", t > 0 },
        { "all", t == n },
        { "count", (double)t },
        { "sum", s },
        { "mean", m ? s / (double)m : NAN },
        { "min", low },
        { "max", high },
        { "argmin", at_low },
        { "argmax", at_high },
        { "norm", sqrt(squares) },
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!strcmp(all[i].name, name))
            return all[i].value;
    fail_msg("no naive %s", name);
    return NAN;
}

static bool equal(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}

static double random_item(struct random_source *r)
{
    static const double some[] = { 0, 1, 1, -1, 2, NAN, 0.5, -3 };
    return random_below(r, 2) ? some[random_below(r, 8)] : random_normal(r);
}

static void functions_equal_naive_loops(void **state)
{
    (void)state;
    struct random_source r;
    random_seed(&r, seed());
    for (int round = 0; round < 2000; round++) {
        double a[20] = { 0 }, b[20] = { 0 }, dot = 0, aa = 0, bb = 0;
        size_t n = random_below(&r, 20);
        for (size_t i = 0; i < n; i++) {
            a[i] = random_item(&r);
            b[i] = random_item(&r);
            dot += a[i] * b[i];
            aa += a[i] * a[i];
            bb += b[i] * b[i];
        }
        for (size_t f = 0; query_function_at(f); f++) {
            const struct query_function *function = query_function_at(f);
            assert_ptr_equal(query_function_find(function->name), function);
            if (function->kind == FUNCTION_REDUCE && !equal(function->reduce(a, n), naive_reduce(function->name, a, n)))
                fail_msg("%s of %zu items: %g, not %g", function->name, n, function->reduce(a, n),
                         naive_reduce(function->name, a, n));
        }
        assert_true(equal(query_function_find("dot")->pair(a, b, n), dot));
        assert_true(equal(query_function_find("cosine")->pair(a, b, n), dot / sqrt(aa * bb)));
    }
    assert_true(query_function_find("abs")->map(-2) == 2 && query_function_find("sqrt")->map(9) == 3);
    assert_true(query_function_find("exp")->map(0) == 1 && query_function_find("log")->map(1) == 0);
    assert_true(query_function_find("missing")->map(NAN) == 1 && query_function_find("missing")->map(0) == 0);
    assert_true(!query_is_true(NAN) && !query_is_true(0) && query_is_true(-1));
}

/* A random expression as text, fully in parentheses or not, and its value computed on the way; n 0: a number. */
struct random_value {
    size_t n;
    double v[DEPTHS];
};

static void write_random(struct random_source *r, struct strbuf *out, size_t row, int depth, bool vector,
                         struct random_value *value);

static double naive_operator(const char *op, double a, double b)
{
    bool there = a == a && b == b, x = a == a && a != 0, y = b == b && b != 0;
    switch (op[0]) {
    case '+':
        return a + b;
    case '-':
        return a - b;
    case '*':
        return a * b;
    case '/':
        return a / b;
    case '=':
        return there ? a == b : 0;
    case '!':
        return there ? a != b : 0;
    case '<':
        return there ? (op[1] ? a <= b : a < b) : 0;
    case '>':
        return there ? (op[1] ? a >= b : a > b) : 0;
    case 'o':
        return x ? 1 : y;
    default:
        return x ? y : 0;
    }
}

static void write_operator(struct random_source *r, struct strbuf *out, size_t row, int depth, bool vector,
                           struct random_value *value)
{
    static const char *const ops[] = { "+", "-", "*", "/", "==", "!=", "<", "<=", ">", ">=", "or", "and" };
    const char *op = ops[random_below(r, 12)];
    struct random_value a = { 0 }, b = { 0 };
    bool left = vector && random_below(r, 3), right = vector && (!left || random_below(r, 2));
    strbuf_adds(out, "(");
    write_random(r, out, row, depth - 1, left, &a);
    strbuf_addf(out, random_below(r, 2) || op[0] == 'o' || op[0] == 'a' ? " %s " : "%s", op);
    write_random(r, out, row, depth - 1, right, &b);
    strbuf_adds(out, ")");
    value->n = vector ? DEPTHS : 0;
    for (size_t i = 0; i < (vector ? DEPTHS : 1); i++)
        value->v[i] = naive_operator(op, a.v[a.n ? i : 0], b.v[b.n ? i : 0]);
}

static void write_call(struct random_source *r, struct strbuf *out, size_t row, int depth, struct random_value *value)
{
    struct random_value a = { 0 };
    const struct query_function *f;
    do
        f = query_function_at(random_below(r, 12));
    while (f->kind != FUNCTION_REDUCE);
    strbuf_addf(out, "%s(", f->name);
    write_random(r, out, row, depth - 1, true, &a);
    strbuf_adds(out, ")");
    *value = (struct random_value){ 0, { naive_reduce(f->name, a.v, DEPTHS) } };
}

static void write_leaf(struct random_source *r, struct strbuf *out, size_t row, bool vector, struct random_value *value)
{
    bool ranks = random_below(r, 2);
    double items[DEPTHS];
    for (size_t i = 0; i < DEPTHS; i++) {
        int32_t x = rank[row * DEPTHS + i];
        items[i] = !ranks ? (double)logprob[row * DEPTHS + i] : x ? (double)x : (double)NAN;
    }
    if (vector) {
        strbuf_adds(out, ranks ? "rank" : "logprob");
        value->n = DEPTHS;
        memcpy(value->v, items, sizeof items);
    } else if (random_below(r, 2)) {
        size_t at = random_below(r, DEPTHS);
        strbuf_addf(out, "%s[%zu]", ranks ? "rank" : "logprob", at);
        *value = (struct random_value){ 0, { items[at] } };
    } else {
        size_t number = random_below(r, 12);
        strbuf_addf(out, "%zu", number);
        *value = (struct random_value){ 0, { (double)number } };
    }
}

static void write_random(struct random_source *r, struct strbuf *out, size_t row, int depth, bool vector,
                         struct random_value *value)
{
    size_t choice = depth ? random_below(r, 6) : 0;
    if (!choice)
        write_leaf(r, out, row, vector, value);
    else if (choice == 1) {
        bool minus = random_below(r, 2);
        strbuf_adds(out, minus ? "(-" : "(not ");
        write_random(r, out, row, depth - 1, vector, value);
        strbuf_adds(out, ")");
        for (size_t i = 0; i < (vector ? DEPTHS : 1); i++)
            value->v[i] = minus ? -value->v[i] : !(value->v[i] == value->v[i] && value->v[i] != 0);
    } else if (choice == 2 && !vector)
        write_call(r, out, row, depth, value);
    else
        write_operator(r, out, row, depth, vector, value);
}

static void random_expressions_equal_a_naive_evaluator(void **state)
{
    (void)state;
    struct random_source r;
    uint64_t s = seed();
    struct query_files files;
    struct query_columns columns;
    struct expression e;
    struct err err = { 0 };
    const char *path = path_of("lens.h5");
    random_seed(&r, s);
    must(expression_parse(&e, "rank[0] + logprob[0]", 1, &err), &err);
    must(query_files_open(&files, &path, 1, &e, 1, &err), &err);
    expression_release(&e);
    query_columns_init(&columns, &files);
    for (int round = 0; round < 3000; round++) {
        struct strbuf text = STRBUF_INIT;
        struct random_value wanted = { 0 };
        struct query *query;
        struct query_place places[4];
        size_t row = random_below(&r, ROWS);
        bool vector = random_below(&r, 2);
        write_random(&r, &text, row, 5, vector, &wanted);
        must(expression_parse(&e, strbuf_text(&text), 1, &err), &err);
        must(query_bind(&query, &columns, &e, &err), &err);
        assert_true(query_files_find(&files, row, places));
        must(query_evaluate(query, places, &err), &err);
        const struct query_value got = query_value(query, 0);
        assert_int_equal(got.kind, vector ? QUERY_VECTOR : QUERY_NUMBER);
        for (size_t i = 0; i < (vector ? DEPTHS : 1); i++)
            if (!equal(vector ? got.items[i] : got.number, wanted.v[i]))
                fail_msg("row %zu, item %zu: %g, not %g: %s", row, i, vector ? got.items[i] : got.number, wanted.v[i],
                         strbuf_text(&text));
        query_free(query);
        expression_release(&e);
        strbuf_release(&text);
    }
    query_columns_release(&columns);
    query_files_close(&files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_prompts_and_labels),
        cmocka_unit_test(sites_take_their_layer_first),
        cmocka_unit_test(attention_is_ragged),
        cmocka_unit_test(later_files_are_joined),
        cmocka_unit_test(types_are_checked_with_their_place),
        cmocka_unit_test(hostile_files_are_refused),
        cmocka_unit_test(partial_files_count_whole_prompts),
        cmocka_unit_test(blocks_and_jumps_give_the_same_rows),
        cmocka_unit_test(functions_equal_naive_loops),
        cmocka_unit_test(random_expressions_equal_a_naive_evaluator),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
