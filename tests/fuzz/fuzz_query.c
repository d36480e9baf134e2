/* Query expressions: parsed, bound to small files of each kind, evaluated. The first byte chooses the files. */
#include "core/query/evaluate.h"
#include "core/query/functions.h"
#include "tests/fuzz/fuzz.h"

enum { PROMPTS = 2, ROWS = 5, DEPTHS = 3, HEADS = 2, WIDTH = 3, EDGES = HEADS * (4 + 9) };

/* --- the files: two prompts of two and three tokens --- */

static const int32_t prompt_of[ROWS] = { 0, 0, 1, 1, 1 }, position_of[ROWS] = { 0, 1, 0, 1, 2 };
static const int64_t token_offset[] = { 0, 2, 5 }, pattern_offset[] = { 0, HEADS * 4, EDGES };
static const int32_t subject_begin[] = { 0, 1 }, subject_end[] = { 1, 3 };
static const int32_t whole[ROWS * DEPTHS] = { 1, 0, 3, 20, 5, 0, 0, 0, 0, 7, 7, 7, 1, 2, 3 };
static const float numbers[ROWS * HEADS * WIDTH] = { 0, -1, 2, 1e30f, 0.5f, 0, 0, 0, 3, 4 };
static const char *const ids[] = { "a", "b" }, *const texts[] = { "A x", "B y z" };

static void put(const struct h5_file *f, const char *name, enum store_type type, int rank, hsize_t a, hsize_t b,
                hsize_t c, const void *data)
{
    struct err err = { 0 };
    const hsize_t dims[] = { a, b, c };
    fuzz_check(!h5_put_array(f, name, type, rank, dims, data, &err));
}

static void begin(struct h5_file *f, const char *path, const char *format)
{
    struct err err = { 0 };
    fuzz_check(!h5_create(f, path, &err) && !h5_put_text(f, f->id, "format", format, &err) &&
               !h5_put_int(f, f->id, "version", 1, &err));
}

static void put_rows(const struct h5_file *f)
{
    put(f, "/prompts/id", STORE_TEXT, 1, PROMPTS, 0, 0, ids);
    put(f, "/prompts/text", STORE_TEXT, 1, PROMPTS, 0, 0, texts);
    put(f, "/rows/prompt", STORE_I32, 1, ROWS, 0, 0, prompt_of);
    put(f, "/rows/position", STORE_I32, 1, ROWS, 0, 0, position_of);
}

static void make_lens(const char *path)
{
    static const char *const labels[] = { "0_pre", "1_pre", "final_post" };
    struct h5_file f;
    begin(&f, path, "strata-lens");
    put_rows(&f);
    put(&f, "/layers/label", STORE_TEXT, 1, DEPTHS, 0, 0, labels);
    put(&f, "/lens/rank", STORE_I32, 2, ROWS, DEPTHS, 0, whole);
    put(&f, "/lens/logprob", STORE_F32, 2, ROWS, DEPTHS, 0, numbers);
    fuzz_check(!h5_close(&f, 0, NULL));
}

static void make_dump(const char *path)
{
    struct h5_file f;
    begin(&f, path, "strata-dump");
    put_rows(&f);
    put(&f, "/prompts/token_offset", STORE_I64, 1, PROMPTS + 1, 0, 0, token_offset);
    put(&f, "/prompts/pattern_offset", STORE_I64, 1, PROMPTS + 1, 0, 0, pattern_offset);
    put(&f, "/prompts/subject_begin", STORE_I32, 1, PROMPTS, 0, 0, subject_begin);
    put(&f, "/prompts/subject_end", STORE_I32, 1, PROMPTS, 0, 0, subject_end);
    put(&f, "/tokens/id", STORE_I32, 1, ROWS, 0, 0, position_of);
    put(&f, "/activations/blocks.0.hook_resid_post", STORE_F32, 2, ROWS, WIDTH, 0, numbers);
    put(&f, "/activations/blocks.0.attn.hook_z", STORE_F32, 3, ROWS, HEADS, WIDTH, numbers);
    put(&f, "/activations/blocks.0.attn.hook_pattern", STORE_F32, 1, EDGES, 0, 0, numbers);
    fuzz_check(!h5_close(&f, 0, NULL));
}

static void make_heads(const char *path)
{
    struct h5_file f;
    begin(&f, path, "strata-heads");
    put(&f, "/facts/id", STORE_TEXT, 1, PROMPTS, 0, 0, ids);
    put(&f, "/facts/prompt", STORE_TEXT, 1, PROMPTS, 0, 0, texts);
    put(&f, "/facts/rank", STORE_I32, 1, PROMPTS, 0, 0, whole);
    put(&f, "/attention/to_subject", STORE_F32, 3, PROMPTS, 2, HEADS, numbers);
    fuzz_check(!h5_close(&f, 0, NULL));
}

/* All, made and opened once. */
static struct query_files *sets(void)
{
    static struct query_files files[3];
    char lens[128], dump[128], heads[128];
    if (files[0].n)
        return files;
    const char *paths[3][3] = { { lens, heads, dump }, { dump, lens, NULL }, { heads, NULL, NULL } };
    const size_t n[] = { 3, 2, 1 };
    struct expression e;
    struct err err = { 0 };
    snprintf(lens, sizeof lens, "%s/lens.h5", fuzz_folder());
    snprintf(dump, sizeof dump, "%s/dump.h5", fuzz_folder());
    snprintf(heads, sizeof heads, "%s/heads.h5", fuzz_folder());
    make_lens(lens);
    make_dump(dump);
    make_heads(heads);
    fuzz_check(!expression_parse(&e, "id", 1, &err));
    for (size_t i = 0; i < 3; i++)
        fuzz_check(!query_files_open(&files[i], paths[i], n[i], &e, 1, &err));
    expression_release(&e);
    return files;
}

/* --- one expression --- */

/* What the parser promises to those who walk the tree. */
static void check_tree(const struct expression *e)
{
    size_t length = strlen(e->text);
    fuzz_check(e->n_roots && e->n_nodes <= EXPRESSION_NODES && e->n_indices <= EXPRESSION_NODES);
    for (size_t i = 0; i < e->n_nodes; i++) {
        const struct expression_node *node = &e->nodes[i];
        size_t children = 0;
        fuzz_check(node->begin < node->end && node->end <= length && node->place <= length);
        fuzz_check(node->index + node->n_indices <= e->n_indices);
        for (size_t c = node->child; c != SIZE_MAX; c = e->nodes[c].sibling, children++)
            fuzz_check(c < i);
        fuzz_check(children == node->n_children);
    }
    for (size_t i = 0; i < e->n_roots; i++)
        fuzz_check(e->roots[i] < e->n_nodes);
}

/* An error of the expression begins with a column inside it, or just after its end. */
static void check_place(const char *text, const struct err *err)
{
    char *end;
    fuzz_check(!strncmp(err->msg, "column ", 7));
    unsigned long column = strtoul(err->msg + 7, &end, 10);
    fuzz_check(column && column <= strlen(text) + 1 && !strncmp(end, ": ", 2));
}

static void check_value(const struct query *query, size_t root)
{
    const struct query_value v = query_value(query, root);
    const struct query_type type = query_root_type(query, root);
    fuzz_check(v.kind == type.kind && (v.kind != QUERY_TEXT || v.text));
    fuzz_check(v.kind != QUERY_VECTOR ||
               (v.items && (type.length == QUERY_LENGTH_FIXED ? v.n == type.n : v.n <= type.n)));
}

static void evaluate(const struct query_files *files, const struct expression *e)
{
    struct query_columns columns;
    struct query *query;
    struct query_place places[QUERY_MOST_FILES];
    struct err err = { 0 };
    query_columns_init(&columns, files);
    if (fuzz_result(query_bind(&query, &columns, e, &err), &err))
        for (uint64_t u = 0; u < query_files_units(files); u++) {
            fuzz_check(query_files_find(files, u, places) && !query_evaluate(query, places, &err));
            for (size_t i = 0; i < e->n_roots; i++)
                check_value(query, i);
        }
    else
        check_place(e->text, &err);
    query_free(query);
    query_columns_release(&columns);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct expression e;
    struct err err = { 0 };
    if (!size)
        return 0;
    char *text = (char *)fuzz_copy(data, size); /* the first byte makes room for the NUL */
    memmove(text, text + 1, size - 1);
    text[size - 1] = '\0';
    if (fuzz_result(expression_parse(&e, text, EXPRESSION_ROOTS, &err), &err)) {
        check_tree(&e);
        evaluate(&sets()[data[0] % 3], &e);
    } else
        check_place(text, &err);
    expression_release(&e);
    free(text);
    return 0;
}
