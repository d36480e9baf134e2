/* Edits (text and JSON), site filters, site names, positions: the first byte chooses which. */
#include "core/runtime/runtime.h"
#include "tests/fuzz/fuzz.h"

/* Every axis has another size. */
static const struct model_config config = {
    .n_layers = 6,
    .n_heads = 9,
    .n_kv_heads = 3,
    .d_model = 36,
    .d_head = 4,
    .d_mlp = 50,
    .d_vocab = 100,
    .n_ctx = 64,
    .d_embed = 36,
    .ln1 = true,
    .ln2 = true,
    .final_norm = true,
    .unembedding = true,
    .norm = NORM_RMS,
    .position = POSITION_ROTARY,
    .gated_mlp = true,
};

static void check_edits(const struct edit_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        const struct edit *e = &list->edits[i];
        fuzz_check(e->site < N_SITES && site_row(e->site)->editable);
        fuzz_check(e->first_layer <= e->last_layer && e->last_layer < config.n_layers);
        for (size_t u = 0; u < e->n_units; u++)
            fuzz_check(e->units[u].last < site_units(e->site, &config, &(const char *){ NULL }));
    }
}

static void try_edit(const char *text)
{
    static const char *const runs[] = { "a", "b" };
    const struct edit_scope scope = { .seed = 3, .runs = runs, .n_runs = 2, .default_run = EDIT_OWN_RUN };
    struct edit_list list = { 0 };
    struct err err = { 0 };
    if (fuzz_result(edit_parse_in(&list, text, &config, &scope, &err), &err))
        fuzz_check(list.n == 1);
    check_edits(&list);
    edit_list_release(&list);
}

static void try_edit_json(const char *text)
{
    struct edit_list list = { 0 };
    struct err err = { 0 };
    json_t *array = NULL;
    if (fuzz_result(json_parse(text, strlen(text), "edits", &array, &err), &err)) {
        fuzz_result(edit_parse_json(&list, array, "edits", &config, &err), &err);
        check_edits(&list);
    }
    edit_list_release(&list);
    json_decref(array);
}

static void try_filter(const char *text)
{
    struct site_set set;
    struct site_ref ref;
    struct err err = { 0 };
    size_t cursor = 0;
    fuzz_check(!site_set_init(&set, &config, &err));
    fuzz_result(site_set_add(&set, text, &err), &err);
    while (site_set_next(&set, &cursor, &ref))
        fuzz_check(!site_missing(ref.site, &config) && ref.layer < config.n_layers);
    site_set_release(&set);
}

static void try_name(const char *text)
{
    struct site_ref ref;
    struct site_span span;
    struct err err[2] = { { 0 } };
    if (fuzz_result(site_parse(text, &config, &ref, &err[0]), &err[0]))
        fuzz_check(ref.site < N_SITES && ref.layer < config.n_layers);
    if (fuzz_result(site_span_parse(text, strlen(text), &config, &span, &err[1]), &err[1]))
        fuzz_check(span.first_layer <= span.last_layer && span.last_layer < config.n_layers);
}

static void try_positions(const char *text)
{
    struct positions p;
    struct err err[2] = { { 0 } };
    unsigned char mask[12];
    size_t n = 0, counted = 0;
    const struct prompt prompt = { .n_tokens = sizeof mask, .subject_begin = 2, .subject_end = 5 };
    if (!fuzz_result(positions_parse(text, strlen(text), &p, &err[0]), &err[0]))
        return;
    if (fuzz_result(positions_resolve(&p, &prompt, mask, &n, &err[1]), &err[1])) {
        for (size_t i = 0; i < sizeof mask; i++)
            counted += mask[i];
        fuzz_check(n && counted == n);
    }
    positions_release(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[])(const char *) = { try_edit, try_edit_json, try_filter, try_name, try_positions };
    if (!size)
        return 0;
    char *text = (char *)fuzz_copy(data, size); /* the first byte makes room for the NUL */
    memmove(text, text + 1, size - 1);
    text[size - 1] = '\0';
    tries[data[0] % 5](text);
    free(text);
    return 0;
}
