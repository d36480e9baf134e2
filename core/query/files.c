#include "core/query/files.h"

#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/base/strmap.h"
#include "core/query/catalog.h"
#include "core/runtime/sites.h"
#include "core/store/h5_guard.h"

#include <stdlib.h>
#include <string.h>

/* --- names --- */

/* Whether `tail` is the whole of name or stands after one of its dots. */
static bool is_tail(const char *name, const char *tail)
{
    size_t n = strlen(name), m = strlen(tail);
    return m <= n && !strcmp(name + n - m, tail) && (m == n || name[n - m - 1] == '.');
}

bool query_field_is_of_layers(const struct query_field *field, const char *name)
{
    if (!field->site)
        return false;
    if (is_tail(field->site, name))
        return true;
    for (int s = 0; s < N_SITES; s++)
        if (!strcmp(site_row((enum site)s)->name, field->site) && !strcmp(site_row((enum site)s)->short_name, name))
            return true;
    return false;
}

bool query_field_is_named(const struct query_field *field, const char *name)
{
    if (is_tail(field->name, name) || query_field_is_of_layers(field, name))
        return true;
    for (int s = 0; s < N_SITES && !field->site && !strncmp(field->path, "/activations/", 13); s++)
        if (!strcmp(site_row((enum site)s)->name, field->leaf) && !strcmp(site_row((enum site)s)->short_name, name))
            return true;
    return false;
}

/* --- the rehearsal --- */

struct rehearsal {
    struct query_file file;
    const struct expression *expressions;
    size_t n_expressions;
    bool joined; /* ids and texts will be read */
};

static bool is_wanted(const struct rehearsal *r, const struct query_field *field)
{
    if (r->joined && field->layout == QUERY_PROMPTS && field->type == STORE_TEXT)
        return true;
    for (size_t i = 0; i < r->n_expressions; i++)
        for (size_t j = 0; j < r->expressions[i].n_nodes; j++) {
            const struct expression_node *node = &r->expressions[i].nodes[j];
            if (node->op == EXPRESSION_FIELD && query_field_is_named(field, node->text))
                return true;
        }
    return false;
}

/* Chunks go through filters and an index, texts through a heap, which may be damaged anywhere; the rest is plain bytes.
 */
static bool is_plain(const struct h5_dataset *set)
{
    hid_t list = H5Dget_create_plist(set->id);
    bool chunked = list >= 0 && H5Pget_layout(list) == H5D_CHUNKED;
    H5Pclose(list);
    return !chunked && set->type != STORE_TEXT;
}

enum { TRIED_BYTES = 1 << 20, TRIED_TEXTS = 1024 };

static int try_texts(const struct h5_dataset *set, struct err *err)
{
    char *texts[TRIED_TEXTS];
    uint64_t n = set->rank == 1 ? set->dims[0] : 0;
    int rc = 0;
    for (uint64_t at = 0; !rc && at < n; at += TRIED_TEXTS) {
        uint64_t step = n - at < TRIED_TEXTS ? n - at : TRIED_TEXTS;
        rc = h5_dataset_read_text(set, at, step, texts, err);
        for (uint64_t i = 0; !rc && i < step; i++)
            free(texts[i]);
    }
    return rc;
}

static int try_numbers(const struct h5_dataset *set, struct err *err)
{
    bool integers = set->type == STORE_I32 || set->type == STORE_I64;
    size_t bytes;
    if (!size_mul(set->row_items, sizeof(double), &bytes))
        return err_nomem(err, "a row");
    uint64_t n = set->dims[0], most = bytes && bytes < TRIED_BYTES ? TRIED_BYTES / bytes : 1;
    /* of plain bytes the first row and the last */
    uint64_t rows = is_plain(set) ? 1 : most, step = is_plain(set) ? (n > 2 ? n - 1 : 1) : rows;
    void *out = mem_array((size_t)rows, bytes);
    int rc = out ? 0 : err_nomem(err, "a row");
    for (uint64_t at = 0; !rc && at < n; at += step)
        rc = h5_dataset_read(set, at, n - at < rows ? n - at : rows, integers ? STORE_I64 : STORE_F64, out, err);
    free(out);
    return rc;
}

static int rehearse(void *arg, struct err *err)
{
    struct rehearsal *r = arg;
    int rc = query_catalog_read(&r->file, err);
    for (size_t i = 0; !rc && i < r->file.n_fields; i++) {
        struct h5_dataset set;
        if (r->file.fields[i].layout == QUERY_OTHER || !is_wanted(r, &r->file.fields[i]))
            continue;
        rc = h5_dataset_open(&set, &r->file.h5, r->file.fields[i].path, err);
        if (rc)
            break;
        rc = set.type == STORE_TEXT ? try_texts(&set, err) : try_numbers(&set, err);
        h5_dataset_close(&set);
    }
    return rc;
}

/* --- opening --- */

static char *stem_of(const char *path)
{
    const char *name = file_base_name(path);
    size_t n = strlen(name);
    static const char *const endings[] = { ".partial", ".h5" };
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t m = strlen(endings[i]);
        if (n > m && !strncmp(name + n - m, endings[i], m))
            n -= m;
    }
    return mem_strndup(name, n);
}

static int open_file(struct query_files *q, const char *path, const struct expression *expressions,
                     size_t n_expressions, bool joined, struct err *err)
{
    struct query_file *file = &q->files[q->n];
    *file = (struct query_file){ .h5.id = -1, .path = mem_strdup(path), .stem = stem_of(path) };
    if (!file->path || !file->stem) {
        query_catalog_close(file);
        return err_nomem(err, "a path");
    }
    struct rehearsal rehearsal = { *file, expressions, n_expressions, joined };
    int rc = h5_guard(path, rehearse, &rehearsal, err);
    rc = rc ? rc : query_catalog_read(file, err);
    for (size_t i = 0; !rc && i < q->n; i++)
        if (!strcmp(q->files[i].stem, file->stem))
            rc = err_set(err, ERR_ARG,
                         "%s and %s: two files of the same name: fields could not say which is meant; rename one",
                         q->files[i].path, path);
    if (rc)
        query_catalog_close(file);
    else
        q->n++;
    return rc;
}

/* --- joining --- */

enum { BLOCK = 1024 };

/* FNV-1a. A join only has to notice that another input was used, not to withstand an attack. */
static uint64_t hash_text(const char *text)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 0x100000001b3u;
    return h;
}

struct identities {
    struct h5_dataset id, text;
    char *ids[BLOCK], *texts[BLOCK];
    size_t at, n; /* prompts in the block */
};

static int open_identities(struct identities *b, const struct query_file *file, struct err *err)
{
    bool facts = !strcmp(file->group, "facts");
    int rc = h5_dataset_open(&b->id, &file->h5, facts ? "/facts/id" : "/prompts/id", err);
    if (rc)
        return rc;
    rc = h5_dataset_open(&b->text, &file->h5, facts ? "/facts/prompt" : "/prompts/text", err);
    if (rc)
        h5_dataset_close(&b->id);
    return rc;
}

static void drop_block(struct identities *b)
{
    for (size_t i = 0; i < b->n; i++) {
        free(b->ids[i]);
        free(b->texts[i]);
        b->ids[i] = b->texts[i] = NULL;
    }
    b->n = 0;
}

static int next_block(struct identities *b, size_t n_prompts, struct err *err)
{
    b->at += b->n;
    drop_block(b);
    size_t n = n_prompts - b->at < BLOCK ? n_prompts - b->at : BLOCK;
    int rc = h5_dataset_read_text(&b->id, b->at, n, b->ids, err);
    if (rc)
        return rc;
    b->n = n;
    rc = h5_dataset_read_text(&b->text, b->at, n, b->texts, err);
    if (rc) /* what it had put there it has freed */
        memset(b->texts, 0, sizeof b->texts);
    return rc;
}

static void close_identities(struct identities *b)
{
    drop_block(b);
    h5_dataset_close(&b->id);
    h5_dataset_close(&b->text);
}

/* A later file's prompts by id. */
struct index {
    struct strmap map;
    char **ids; /* owned; keys of the map */
    uint64_t *hashes;
    size_t n;
};

static int fill_index(struct index *x, const struct query_file *file, struct err *err)
{
    struct identities b = { .at = 0 };
    x->ids = mem_zeroed(file->n_prompts, sizeof *x->ids);
    x->hashes = mem_array(file->n_prompts, sizeof *x->hashes);
    if (!x->ids || !x->hashes || strmap_init(&x->map, file->n_prompts))
        return err_nomem(err, "ids");
    int rc = open_identities(&b, file, err);
    if (rc)
        return rc;
    while (!rc && x->n < file->n_prompts) {
        rc = next_block(&b, file->n_prompts, err);
        for (size_t i = 0; !rc && i < b.n; i++) {
            uint32_t there = (uint32_t)x->n;
            x->hashes[x->n] = hash_text(b.texts[i]);
            x->ids[x->n] = b.ids[i];
            b.ids[i] = NULL;
            if (strmap_put(&x->map, x->ids[x->n], strlen(x->ids[x->n]), (uint32_t)x->n, &there))
                rc = err_nomem(err, "ids");
            else if (there != x->n)
                rc = err_set(err, ERR_FORMAT, "%s: two prompts have the id '%.100s': it cannot be joined", file->path,
                             x->ids[x->n]);
            x->n++;
        }
    }
    close_identities(&b);
    return rc;
}

static int fill_partners(const struct query_file *first, struct query_file *file, const struct index *x,
                         struct err *err)
{
    struct identities b = { .at = 0 };
    file->partner = mem_array(first->n_prompts, sizeof *file->partner);
    int rc = file->partner ? open_identities(&b, first, err) : err_nomem(err, "ids");
    if (rc)
        return rc;
    for (size_t done = 0; !rc && done < first->n_prompts; done += b.n) {
        rc = next_block(&b, first->n_prompts, err);
        for (size_t i = 0; !rc && i < b.n; i++) {
            uint32_t at = UINT32_MAX;
            if (!strmap_get(&x->map, b.ids[i], strlen(b.ids[i]), &at) || x->hashes[at] != hash_text(b.texts[i]))
                at = UINT32_MAX;
            file->partner[done + i] = at;
        }
    }
    close_identities(&b);
    return rc;
}

static int join(const struct query_file *first, struct query_file *file, struct err *err)
{
    if (file->several_rows && !first->has_rows)
        return err_set(err, ERR_ARG, "%s: has several rows a prompt, %s one a fact: put %s first", file->path,
                       first->path, file->path);
    struct index x = { .n = 0 };
    int rc = fill_index(&x, file, err);
    rc = rc ? rc : fill_partners(first, file, &x, err);
    strmap_release(&x.map);
    h5_free_text(x.ids, x.ids ? file->n_prompts : 0);
    free(x.hashes);
    return rc;
}

int query_files_open(struct query_files *out, const char *const *paths, size_t n, const struct expression *expressions,
                     size_t n_expressions, struct err *err)
{
    *out = (struct query_files){ 0 };
    if (n > QUERY_MOST_FILES)
        return err_set(err, ERR_ARG, "more than %d files", QUERY_MOST_FILES);
    out->files = mem_zeroed(n, sizeof *out->files);
    int rc = out->files ? 0 : err_nomem(err, "files");
    for (size_t i = 0; !rc && i < n; i++)
        rc = open_file(out, paths[i], expressions, n_expressions, n > 1 && n_expressions, err);
    for (size_t i = 1; !rc && n_expressions && i < n; i++)
        rc = join(&out->files[0], &out->files[i], err);
    if (rc)
        query_files_close(out);
    return rc;
}

void query_files_close(struct query_files *q)
{
    for (size_t i = 0; i < q->n; i++)
        query_catalog_close(&q->files[i]);
    free(q->files);
    *q = (struct query_files){ 0 };
}

/* --- units --- */

uint64_t query_files_units(const struct query_files *q)
{
    return q->files[0].has_rows ? q->files[0].n_rows : q->files[0].n_prompts;
}

static bool find_row(const struct query_file *file, int32_t position, struct query_place *place)
{
    size_t low = file->first_row[place->prompt], high = file->first_row[place->prompt + 1];
    place->row = low;
    if (!file->several_rows)
        return true;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (file->row_position[middle] < position)
            low = middle + 1;
        else
            high = middle;
    }
    place->row = low;
    return low < file->first_row[place->prompt + 1] && file->row_position[low] == position;
}

bool query_files_find(const struct query_files *q, uint64_t unit, struct query_place *places)
{
    const struct query_file *first = &q->files[0];
    places[0] = (struct query_place){ (size_t)unit, 0 };
    if (first->has_rows)
        places[0] = (struct query_place){ (size_t)first->row_prompt[unit], (size_t)unit };
    for (size_t i = 1; i < q->n; i++) {
        const struct query_file *file = &q->files[i];
        uint32_t prompt = file->partner[places[0].prompt];
        places[i] = (struct query_place){ prompt, 0 };
        if (prompt == UINT32_MAX)
            return false;
        if (file->has_rows && !find_row(file, first->has_rows ? first->row_position[unit] : 0, &places[i]))
            return false;
    }
    return true;
}
