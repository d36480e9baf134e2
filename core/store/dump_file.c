#include "core/store/dump_file.h"

#include "core/base/mem.h"
#include "core/base/strbuf.h"
#include "core/base/utf8.h"
#include "core/store/dump_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_edges(enum site site)
{
    return site_row(site)->axes == AXES_EDGES;
}

void dump_site_path(const struct dump_site *site, char path[SITE_NAME_MAX + 16])
{
    char name[SITE_NAME_MAX];
    snprintf(path, SITE_NAME_MAX + 16, "/activations/%s", site_name(site->ref, name));
}

/* --- sizes --- */

void dump_count(const struct dump_plan *plan, const struct batch *batch, const unsigned char *keep,
                struct dump_counts *counts)
{
    const struct model_config *config = plan->sites->config;
    bool edges = false;
    struct site_ref ref;
    for (size_t cursor = 0; !edges && site_set_next(plan->sites, &cursor, &ref);)
        edges = is_edges(ref.site);
    counts->prompts += batch->n;
    counts->tokens += batch->n_rows;
    for (size_t r = 0; r < batch->n_rows; r++)
        counts->rows += !keep || keep[r];
    for (size_t i = 0; edges && i < batch->n; i++) {
        uint64_t n = batch->prompts[i].n_tokens;
        counts->edges += n * n * config->n_heads;
    }
}

/* Fills all but the dataset. */
static int shape_site(const struct dump_plan *plan, struct site_ref ref, struct dump_site *out, struct err *err)
{
    const struct model_config *config = plan->sites->config;
    *out = (struct dump_site){ .ref = ref, .row_items = 1 };
    if (is_edges(ref.site))
        return 0;
    out->n_dims = site_shape(ref.site, config, out->dims);
    size_t n_heads = 0;
    for (size_t h = 0; ref.site == SITE_Z && h < config->n_heads; h++)
        n_heads += site_set_has_head(plan->sites, ref.layer, h);
    if (ref.site == SITE_Z && n_heads < config->n_heads) {
        out->heads = mem_array(n_heads, sizeof *out->heads);
        if (!out->heads)
            return err_nomem(err, "heads");
        out->dims[0] = 0;
        for (size_t h = 0; h < config->n_heads; h++)
            if (site_set_has_head(plan->sites, ref.layer, h))
                out->heads[out->dims[0]++] = h;
    }
    for (int i = 0; i < out->n_dims; i++)
        out->row_items *= out->dims[i];
    char name[SITE_NAME_MAX];
    if (out->row_items > WRITE_QUEUE_PIECE / store_type_size(plan->provenance->dtype))
        return err_set(err, ERR_UNSUPPORTED, "a row of %s is larger than the write queue takes (%zu MiB)",
                       site_name(ref, name), WRITE_QUEUE_PIECE >> 20);
    return 0;
}

uint64_t dump_bytes(const struct dump_plan *plan, const struct dump_counts *counts)
{
    uint64_t items = 0;
    struct site_ref ref;
    struct dump_site site;
    for (size_t cursor = 0; site_set_next(plan->sites, &cursor, &ref);) {
        uint64_t all;
        int rc = shape_site(plan, ref, &site, NULL);
        free(site.heads);
        if (rc)
            return UINT64_MAX;
        if (__builtin_mul_overflow(is_edges(ref.site) ? counts->edges : counts->rows, site.row_items, &all) ||
            __builtin_add_overflow(items, all, &items))
            return UINT64_MAX;
    }
    return __builtin_mul_overflow(items, store_type_size(plan->provenance->dtype), &items) ? UINT64_MAX : items;
}

/* --- opening --- */

static int declare_known(struct dump_writer *w, struct err *err)
{
    static const struct stream_spec specs[N_KNOWN] = {
#define X(id, text, kind, count, one_more)                                                                             \
    { .name = text, .type = STORE_##kind, .axis = DUMP_##count, .fence = one_more, .known = true },
        DUMP_KNOWN(X)
#undef X
    };
    const int64_t zero = 0;
    int rc = 0;
    for (size_t i = 0; !rc && i < N_KNOWN; i++) {
        if (i == KNOWN_PATTERN_OFFSET && !w->has_edges)
            continue;
        rc = stream_declare(w->stream, &specs[i], &w->known[i], err);
        if (!rc && specs[i].fence)
            rc = stream_put(w->stream, w->known[i], 1, &zero, err);
    }
    return rc;
}

static int choose_sites(struct dump_writer *w, struct err *err)
{
    const struct site_set *set = w->plan.sites;
    struct site_ref ref;
    w->sites = mem_zeroed(site_set_count(set), sizeof *w->sites);
    w->slots = mem_zeroed(N_SITES * set->config->n_layers, sizeof *w->slots);
    if (!w->sites || !w->slots)
        return err_nomem(err, "sites to store");
    for (size_t cursor = 0; site_set_next(set, &cursor, &ref);) {
        int rc = shape_site(&w->plan, ref, &w->sites[w->n_sites], err);
        w->slots[ref.site * set->config->n_layers + ref.layer] = ++w->n_sites;
        if (rc)
            return rc;
        w->has_edges = w->has_edges || is_edges(ref.site);
    }
    return 0;
}

int dump_writer_open(struct dump_writer **out, const char *path, const struct dump_plan *plan, bool resume,
                     struct err *err)
{
    struct dump_writer *w = mem_zeroed(1, sizeof *w);
    if (!w)
        return err_nomem(err, "a dump file");
    w->sink.take = dump_sink_take;
    w->plan = *plan;
    w->item = store_type_size(plan->provenance->dtype);
    int rc = stream_open(&w->stream, path, resume, err);
    rc = rc ? rc : choose_sites(w, err);
    rc = rc ? rc : declare_known(w, err);
    if (rc)
        dump_writer_close(w);
    else
        *out = w;
    return rc;
}

/* --- first pass --- */

/* A token's bytes as readers of UTF-8 strings expect them: what is no UTF-8, and NUL, becomes U+FFFD. */
static void add_token(struct strbuf *out, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t k = utf8_decode(bytes + i, n - i, &cp);
        if (k && cp)
            strbuf_add(out, bytes + i, k);
        else
            strbuf_adds(out, "\xef\xbf\xbd");
        i += k ? k : 1;
    }
}

static int put_token_texts(struct dump_writer *w, const struct tokens *tokens, struct err *err)
{
    const struct tokenizer *tok = w->plan.provenance->model->tokenizer;
    struct strbuf text = STRBUF_INIT;
    int rc = 0;
    for (size_t t = 0; !rc && t < tokens->n; t++) {
        size_t n = 0;
        const char *bytes = tok ? tokenizer_bytes(tok, tokens->id[t], &n) : NULL;
        strbuf_reset(&text);
        add_token(&text, bytes, bytes ? n : 0);
        const char *item = strbuf_text(&text);
        rc = strbuf_failed(&text) ? err_nomem(err, "a token's text")
                                  : stream_put(w->stream, w->known[KNOWN_TOKEN_TEXT], 1, &item, err);
    }
    strbuf_release(&text);
    return rc;
}

static int put_tokens(struct dump_writer *w, const struct tokens *tokens, struct err *err)
{
    int rc = stream_put(w->stream, w->known[KNOWN_TOKEN_ID], tokens->n, tokens->id, err);
    rc = rc ? rc : stream_put(w->stream, w->known[KNOWN_BYTE_BEGIN], tokens->n, tokens->begin, err);
    rc = rc ? rc : stream_put(w->stream, w->known[KNOWN_BYTE_END], tokens->n, tokens->end, err);
    return rc ? rc : put_token_texts(w, tokens, err);
}

/* keep: of this prompt's tokens. */
static int put_rows(struct dump_writer *w, uint64_t prompt, size_t n_tokens, const unsigned char *keep, struct err *err)
{
    int32_t number = (int32_t)prompt;
    int rc = 0;
    for (size_t t = 0; !rc && t < n_tokens; t++) {
        int32_t position = (int32_t)t;
        if (keep && !keep[t])
            continue;
        rc = stream_put(w->stream, w->known[KNOWN_ROW_PROMPT], 1, &number, err);
        rc = rc ? rc : stream_put(w->stream, w->known[KNOWN_ROW_POSITION], 1, &position, err);
    }
    return rc;
}

static int put_prompt(struct dump_writer *w, const struct prepared *p, int64_t tokens_end, int64_t edges_end,
                      struct err *err)
{
    const int32_t begin = (int32_t)p->subject_begin, end = (int32_t)p->subject_end;
    const struct {
        size_t column;
        const void *data;
    } values[] = {
        { KNOWN_PROMPT_ID, &p->id },         { KNOWN_PROMPT_TEXT, &p->text },
        { KNOWN_ANSWER, &p->answer },        { KNOWN_SUBJECT, &p->subject },
        { KNOWN_RELATION, &p->relation },    { KNOWN_ANSWER_TOKEN, &p->answer_token },
        { KNOWN_SUBJECT_BEGIN, &begin },     { KNOWN_SUBJECT_END, &end },
        { KNOWN_TOKEN_OFFSET, &tokens_end }, { KNOWN_PATTERN_OFFSET, &edges_end },
    };
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof values / sizeof *values; i++)
        if (values[i].column != KNOWN_PATTERN_OFFSET || w->has_edges)
            rc = stream_put(w->stream, w->known[values[i].column], 1, values[i].data, err);
    return rc ? rc : put_tokens(w, &p->tokens, err);
}

int dump_writer_add(struct dump_writer *w, const struct batch *batch, const unsigned char *keep, struct err *err)
{
    struct dump_counts at = w->counts;
    if (at.prompts + batch->n > INT32_MAX)
        return err_set(err, ERR_ARG, "more than %d prompts: use --limit", INT32_MAX);
    if (!mem_grow(&w->steps, &w->steps_capacity, w->n_steps + 1, sizeof *w->steps))
        return err_nomem(err, "counts of batches");
    int rc = 0;
    for (size_t i = 0; !rc && i < batch->n; i++) {
        const struct prepared *p = &batch->items[i];
        uint64_t n = p->tokens.n;
        at.tokens += n;
        at.edges += w->has_edges ? n * n * w->plan.sites->config->n_heads : 0;
        rc = put_prompt(w, p, (int64_t)at.tokens, (int64_t)at.edges, err);
        rc = rc ? rc : put_rows(w, at.prompts + i, p->tokens.n, keep ? keep + batch->row_offset[i] : NULL, err);
    }
    dump_count(&w->plan, batch, keep, &w->counts);
    w->steps[w->n_steps++] = w->counts;
    return rc;
}

/* --- start --- */

static int describe_site(const struct dump_writer *w, const struct h5_file *f, const struct dump_site *site,
                         struct err *err)
{
    const struct site_row *row = site_row(site->ref.site);
    char path[SITE_NAME_MAX + 16];
    dump_site_path(site, path);
    hid_t object = H5Dopen2(f->id, path, H5P_DEFAULT);
    if (object < 0)
        return h5_fail(f, err, "open '%s'", path);
    int rc = h5_put_text(f, object, "site", path + strlen("/activations/"), err);
    rc = rc ? rc : h5_put_text(f, object, "axes", row->axes_text, err);
    rc = rc ? rc : h5_put_text(f, object, "dtype", store_type_name(w->plan.provenance->dtype), err);
    rc = rc ? rc : h5_put_text(f, object, "meaning", row->meaning, err);
    int64_t *heads = site->heads ? mem_array(site->dims[0], sizeof *heads) : NULL;
    for (size_t i = 0; heads && i < site->dims[0]; i++)
        heads[i] = (int64_t)site->heads[i];
    if (!rc && site->heads)
        rc = heads ? h5_put_ints(f, object, "heads", heads, site->dims[0], err) : err_nomem(err, "heads");
    free(heads);
    H5Dclose(object);
    return rc;
}

static struct provenance with_format(const struct dump_writer *w)
{
    struct provenance p = *w->plan.provenance;
    p.format = "strata-dump";
    p.version = 1;
    return p;
}

static int describe(void *arg, const struct h5_file *f, struct err *err)
{
    const struct dump_writer *w = arg;
    const struct provenance p = with_format(w);
    int rc = provenance_write(f, &p, false, err);
    rc = rc ? rc : h5_put_text(f, f->id, "positions", w->plan.positions, err);
    rc = rc ? rc : h5_put_int(f, f->id, "first_prompt", (int64_t)w->plan.first_prompt, err);
    if (!rc && w->shards)
        rc = dump_index_create(w, f, err);
    for (size_t i = 0; !rc && i < w->n_sites; i++)
        rc = describe_site(w, f, &w->sites[i], err);
    return rc;
}

static int check_site(const struct h5_file *f, const struct dump_site *site, struct err *err)
{
    char path[SITE_NAME_MAX + 16];
    int64_t *heads = mem_array(site->dims[0] + 1, sizeof *heads);
    size_t n = 0;
    dump_site_path(site, path);
    if (!heads)
        return err_nomem(err, "heads");
    int there = h5_look(f, path, err), rc = there < 0 ? there : 0;
    hid_t object = there > 0 ? H5Dopen2(f->id, path, H5P_DEFAULT) : -1;
    bool same = object >= 0 && h5_has_attribute(object, "heads") == (site->heads != NULL);
    if (same && site->heads)
        rc = h5_get_ints(f, object, "heads", heads, site->dims[0] + 1, &n, err);
    for (size_t i = 0; !rc && same && i < n; i++)
        same = n == site->dims[0] && heads[i] == (int64_t)site->heads[i];
    if (object >= 0)
        H5Dclose(object);
    H5Eclear2(H5E_DEFAULT);
    free(heads);
    if (rc || same)
        return rc;
    return err_set(err, ERR_ARG,
                   "%s: was begun without '%s' or with other heads: repeat the same command, or remove it", f->path,
                   path + strlen("/activations/"));
}

static int check(void *arg, const struct h5_file *f, struct err *err)
{
    const struct dump_writer *w = arg;
    const struct provenance p = with_format(w);
    int64_t first = 0;
    char *positions = NULL;
    int rc = provenance_check(f, &p, err);
    rc = rc ? rc : h5_get_text(f, f->id, "positions", &positions, err);
    rc = rc ? rc : h5_get_int(f, f->id, "first_prompt", &first, err);
    if (!rc && (strcmp(positions, w->plan.positions) || (uint64_t)first != w->plan.first_prompt))
        rc = err_set(err, ERR_ARG,
                     "%s: was begun with --positions %.60s at prompt %lld, now %.60s at %llu: repeat the same command, "
                     "or remove it",
                     f->path, positions, (long long)first, w->plan.positions, (unsigned long long)w->plan.first_prompt);
    free(positions);
    hid_t group = rc ? -1 : H5Gopen2(f->id, "/activations", H5P_DEFAULT);
    H5G_info_t info = { .nlinks = 0 };
    if (group >= 0) {
        H5Gget_info(group, &info);
        H5Gclose(group);
    }
    H5Eclear2(H5E_DEFAULT);
    for (size_t i = 0; !rc && i < w->n_sites; i++)
        rc = check_site(f, &w->sites[i], err);
    if (!rc && info.nlinks != w->n_sites)
        rc = err_set(err, ERR_ARG, "%s: was begun with %llu sites, now %zu: repeat the same command, or remove it",
                     f->path, (unsigned long long)info.nlinks, w->n_sites);
    return rc;
}

static int declare_sites(struct dump_writer *w, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < w->n_sites; i++) {
        struct dump_site *site = &w->sites[i];
        char path[SITE_NAME_MAX + 16];
        dump_site_path(site, path);
        const struct stream_spec spec = { .name = path,
                                          .type = w->plan.provenance->dtype,
                                          .axis = is_edges(site->ref.site) ? DUMP_EDGES : DUMP_ROWS,
                                          .n_dims = site->n_dims,
                                          .dims = { site->dims[0], site->dims[1] } };
        rc = stream_declare(w->stream, &spec, &site->dataset, err);
    }
    return rc;
}

static int start(struct dump_writer *w, struct err *err)
{
    const struct stream_hooks hooks = { describe, check, w };
    const uint64_t lengths[DUMP_AXES] = { w->counts.prompts, w->counts.tokens, w->counts.rows, w->counts.edges };
    return stream_start(w->stream, lengths, w->has_edges ? DUMP_AXES : DUMP_EDGES, &hooks, w->plan.flush_seconds, err);
}

int dump_writer_start(struct dump_writer *w, struct err *err)
{
    int rc = declare_sites(w, err);
    rc = rc ? rc : start(w, err);
    size_t done = rc ? 0 : (size_t)stream_done(w->stream), i = 0;
    while (done && i < w->n_steps && w->steps[i].prompts != done)
        i++;
    if (done && i == w->n_steps)
        return err_set(err, ERR_ARG, "prompt %zu ends no batch: the run to resume made other batches", done);
    if (done)
        w->counts_done = w->steps[i];
    return rc;
}

size_t dump_writer_done(const struct dump_writer *w)
{
    return (size_t)stream_done(w->stream);
}

/* --- second pass --- */

int dump_writer_begin(struct dump_writer *w, const struct batch *batch, const unsigned char *keep, struct err *err)
{
    if (!mem_grow(&w->kept, &w->kept_capacity, batch->n_rows, sizeof *w->kept) ||
        !mem_grow(&w->edge_offset, &w->edge_capacity, batch->n, sizeof *w->edge_offset))
        return err_nomem(err, "the rows of a batch");
    w->batch = batch;
    w->counts_batch = (struct dump_counts){ 0 };
    dump_count(&w->plan, batch, keep, &w->counts_batch);
    size_t n = 0;
    for (size_t r = 0; r < batch->n_rows; r++)
        w->kept[r] = !keep || keep[r] ? n++ : SIZE_MAX;
    uint64_t edges = 0;
    for (size_t i = 0; i < batch->n; i++) {
        uint64_t n_tokens = batch->prompts[i].n_tokens;
        w->edge_offset[i] = edges;
        edges += n_tokens * n_tokens * w->plan.sites->config->n_heads;
    }
    for (size_t i = 0; i < w->n_sites; i++)
        w->sites[i].arrived = 0;
    return 0;
}

struct sink *dump_writer_sink(struct dump_writer *w)
{
    return &w->sink;
}

int dump_writer_end(struct dump_writer *w, struct err *err)
{
    struct dump_counts *done = &w->counts_done;
    const struct dump_counts *batch = &w->counts_batch;
    for (size_t i = 0; i < w->n_sites; i++) {
        const struct dump_site *site = &w->sites[i];
        uint64_t expected = is_edges(site->ref.site) ? batch->edges : batch->rows * site->row_items;
        char name[SITE_NAME_MAX];
        if (site->arrived != expected)
            return err_set(err, ERR_CHECK, "%s: %llu numbers of %llu arrived", site_name(site->ref, name),
                           (unsigned long long)site->arrived, (unsigned long long)expected);
    }
    done->prompts += batch->prompts;
    done->tokens += batch->tokens;
    done->rows += batch->rows;
    done->edges += batch->edges;
    return stream_mark(w->stream, (uint64_t[]){ done->prompts, done->tokens, done->rows, done->edges }, err);
}

int dump_writer_finish(struct dump_writer *w, struct err *err)
{
    return stream_finish(w->stream, err);
}

void dump_writer_close(struct dump_writer *w)
{
    if (!w)
        return;
    stream_close(w->stream, NULL);
    for (size_t i = 0; i < w->n_sites; i++)
        free(w->sites[i].heads);
    free(w->sites);
    free(w->slots);
    free(w->steps);
    free(w->kept);
    free(w->edge_offset);
    free(w);
}

/* --- the index of a folder --- */

int dump_writer_index(struct dump_writer *w, const struct dump_shard *shards, size_t n_shards, struct err *err)
{
    w->shards = shards;
    w->n_shards = n_shards;
    int rc = start(w, err);
    const struct dump_counts *c = &w->counts;
    if (!rc && !stream_is_complete(w->stream))
        rc = stream_mark(w->stream, (uint64_t[]){ c->prompts, c->tokens, c->rows, c->edges }, err);
    return rc ? rc : stream_finish(w->stream, err);
}
