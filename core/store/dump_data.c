#include "core/store/dump_data.h"

#include "core/base/mem.h"
#include "core/runtime/sites.h"
#include "core/store/h5_guard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- what the file is --- */

static int get_kind(struct dump_data *d, struct err *err)
{
    char *format = NULL;
    int64_t version = 0, complete = 0;
    if (!h5_has_attribute(d->file.id, "format"))
        return err_set(err, ERR_FORMAT, "%s: is no file of Strata's: strata dump makes dump files", d->path);
    int rc = h5_get_text(&d->file, d->file.id, "format", &format, err);
    if (!rc && strcmp(format, "strata-dump") && strcmp(format, "strata-lens"))
        rc = err_set(err, ERR_FORMAT, "%s: is a '%.60s' file, neither a dump nor a lens file", d->path, format);
    if (!rc)
        d->kind = strcmp(format, "strata-lens") ? DUMP_KIND_DUMP : DUMP_KIND_LENS;
    free(format);
    rc = rc ? rc : h5_get_int(&d->file, d->file.id, "version", &version, err);
    if (!rc && version != 1)
        rc = err_set(err, ERR_UNSUPPORTED, "%s: is version %lld of its format, this program reads version 1", d->path,
                     (long long)version);
    rc = rc ? rc : h5_get_int(&d->file, d->file.id, "complete", &complete, err);
    d->complete = complete == 1;
    return rc;
}

/* --- lists --- */

/* All of a list of *n items, or its first *n where that is not 0: in a partial file some lists are ahead of others. */
static int get_list(struct dump_data *d, const char *name, enum store_type type, size_t *n, void *out, struct err *err)
{
    int rc = *n ? 0 : h5_get_length(&d->file, name, n, err);
    return rc ? rc : h5_get_first(&d->file, name, type, *n, out, err);
}

/* Offsets rise from 0; every item has something. */
static int get_offsets(struct dump_data *d, const char *name, int64_t **out, struct err *err)
{
    size_t n = d->n_prompts + 1;
    int rc = get_list(d, name, STORE_I64, &n, out, err);
    if (rc)
        return rc;
    const int64_t *offset = *out;
    bool ok = offset[0] == 0;
    for (size_t i = 0; ok && i < d->n_prompts; i++)
        ok = offset[i + 1] > offset[i];
    return ok ? 0 : err_set(err, ERR_FORMAT, "%s: '%s' does not rise from 0", d->path, name);
}

static int get_prompts(struct dump_data *d, struct err *err)
{
    int rc = get_list(d, "/prompts/id", STORE_TEXT, &d->n_prompts, &d->id, err);
    rc = rc ? rc : get_list(d, "/prompts/text", STORE_TEXT, &d->n_prompts, &d->text, err);
    if (rc || d->kind == DUMP_KIND_LENS)
        return rc;
    rc = get_offsets(d, "/prompts/token_offset", &d->token_offset, err);
    int edges = rc ? rc : h5_look(&d->file, "/prompts/pattern_offset", err);
    if (edges < 0)
        rc = edges;
    else if (edges)
        rc = get_offsets(d, "/prompts/pattern_offset", &d->pattern_offset, err);
    d->n_tokens = rc ? 0 : (size_t)d->token_offset[d->n_prompts];
    return rc ? rc : get_list(d, "/tokens/id", STORE_I32, &d->n_tokens, &d->token, err);
}

/* Rows of the whole prompts, in order. */
static int get_rows(struct dump_data *d, struct err *err)
{
    size_t n = 0;
    int rc = get_list(d, "/rows/prompt", STORE_I32, &n, &d->row_prompt, err);
    rc = rc ? rc : get_list(d, "/rows/position", STORE_I32, &n, &d->row_position, err);
    if (rc)
        return rc;
    d->first_row = mem_array(d->n_prompts + 1, sizeof *d->first_row);
    if (!d->first_row)
        return err_nomem(err, "rows");
    size_t r = 0;
    for (size_t p = 0; p < d->n_prompts; p++) {
        d->first_row[p] = r;
        for (; r < n && d->row_prompt[r] == (int32_t)p; r++)
            if (d->row_position[r] < 0 || (r > d->first_row[p] && d->row_position[r] <= d->row_position[r - 1]))
                return err_set(err, ERR_FORMAT, "%s: row %zu: positions of a prompt must rise", d->path, r);
        if (r == d->first_row[p])
            return err_set(err, ERR_FORMAT, "%s: prompt %zu has no rows, or rows are not in order", d->path, p);
    }
    d->first_row[d->n_prompts] = d->n_rows = r;
    return 0;
}

/* --- sites --- */

/* Place in the forward pass: before the blocks 0, block L is L + 1, after them the last. */
static uint64_t place(const char *name)
{
    char *end = NULL;
    uint64_t stage = 0, layer = 0;
    const char *rest = name;
    if (!strncmp(name, "blocks.", 7)) {
        layer = strtoull(name + 7, &end, 10);
        rest = *end == '.' ? end + 1 : end;
        stage = 1;
    }
    for (int s = 0; s < N_SITES; s++)
        if (!strcmp(site_row((enum site)s)->name, rest)) {
            if (!stage && s >= SITE_RESID_PRE)
                stage = 2;
            return stage << 60 | (layer & 0xffffffff) << 16 | (uint64_t)s;
        }
    return UINT64_MAX;
}

static int by_place(const void *a, const void *b)
{
    const struct dump_data_site *x = a, *y = b;
    uint64_t p = place(x->name), q = place(y->name);
    return p < q ? -1 : p > q ? 1 : strcmp(x->name, y->name);
}

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && !strcmp(name + n - m, end);
}

struct walk {
    struct dump_data *d;
    const char *folder;
    size_t capacity;
    bool failed;
};

enum { MOST_SITES = 1 << 20, MOST_NAME = 4096 };

static herr_t add_site(hid_t group, const char *name, const H5L_info_t *info, void *arg)
{
    struct walk *w = arg;
    struct dump_data *d = w->d;
    size_t n = strlen(w->folder), m = strlen(name);
    (void)group;
    if (info->type != H5L_TYPE_HARD)
        return 0;
    w->failed = m > MOST_NAME || d->n_sites == MOST_SITES ||
                !mem_grow(&d->sites, &w->capacity, d->n_sites + 1, sizeof *d->sites);
    char *path = w->failed ? NULL : mem_array(n + m + 1, 1);
    if (!path) {
        w->failed = true;
        return -1;
    }
    memcpy(path, w->folder, n);
    memcpy(path + n, name, m + 1);
    d->sites[d->n_sites++] = (struct dump_data_site){
        .path = path,
        .name = path + n,
        .edges = ends_with(name, "hook_pattern") || ends_with(name, "hook_attn_scores"),
    };
    return 0;
}

static int get_sites(struct dump_data *d, struct err *err)
{
    struct walk walk = { .d = d, .folder = d->kind == DUMP_KIND_LENS ? "/lens/" : "/activations/" };
    char folder[16];
    snprintf(folder, sizeof folder, "%.*s", (int)strlen(walk.folder) - 1, walk.folder);
    int there = h5_look(&d->file, folder, err);
    if (there <= 0)
        return there ? there : err_set(err, ERR_FORMAT, "%s: has no '%s'", d->path, folder);
    hid_t group = H5Gopen2(d->file.id, folder, H5P_DEFAULT);
    hsize_t at = 0;
    int rc = 0;
    if (group < 0 || H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, &at, add_site, &walk) < 0)
        rc = walk.failed ? err_set(err, ERR_FORMAT, "%s: '%s' holds too many or too long names", d->path, folder)
                         : h5_fail(&d->file, err, "list '%s'", folder);
    if (group >= 0)
        H5Gclose(group);
    H5Eclear2(H5E_DEFAULT);
    if (!rc && d->n_sites)
        qsort(d->sites, d->n_sites, sizeof *d->sites, by_place);
    for (size_t i = 0; !rc && i < d->n_sites; i++)
        if (d->sites[i].edges && !d->pattern_offset)
            rc = err_set(err, ERR_FORMAT, "%s: has no '/prompts/pattern_offset'", d->path);
    return rc;
}

/* --- opening --- */

static int open_file(struct dump_data *d, const char *path, struct err *err)
{
    *d = (struct dump_data){ .file.id = -1, .path = mem_strdup(path) };
    int rc = d->path ? h5_open(&d->file, d->path, false, err) : err_nomem(err, "a path");
    rc = rc ? rc : get_kind(d, err);
    rc = rc ? rc : get_prompts(d, err);
    rc = rc ? rc : get_rows(d, err);
    rc = rc ? rc : get_sites(d, err);
    if (rc)
        dump_data_close(d);
    return rc;
}

/* Chunks go through filters and an index, which may be damaged anywhere; other layouts are plain bytes. */
static bool is_chunked(const struct h5_dataset *set)
{
    hid_t list = H5Dget_create_plist(set->id);
    bool chunked = list >= 0 && H5Pget_layout(list) == H5D_CHUNKED;
    H5Pclose(list);
    return chunked;
}

static int try_site(const struct dump_data *d, const char *path, struct err *err)
{
    struct h5_dataset set;
    int rc = h5_dataset_open(&set, &d->file, path, err);
    if (rc)
        return rc;
    bool integers = set.type == STORE_I32 || set.type == STORE_I64;
    size_t bytes;
    void *row = size_mul(set.row_items, sizeof(double), &bytes) && set.type != STORE_TEXT ? mem_array(bytes, 1) : NULL;
    uint64_t n = set.rank ? set.dims[0] : 0, step = is_chunked(&set) || n < 2 ? 1 : n - 1;
    for (uint64_t r = 0; row && !rc && r < n; r += step)
        rc = h5_dataset_read(&set, r, 1, integers ? STORE_I64 : STORE_F64, row, err);
    free(row);
    h5_dataset_close(&set);
    return rc;
}

static int rehearse(void *arg, struct err *err)
{
    struct dump_data d;
    int rc = open_file(&d, arg, err);
    for (size_t i = 0; !rc && i < d.n_sites; i++)
        rc = try_site(&d, d.sites[i].path, err);
    return rc;
}

int dump_data_open(struct dump_data *d, const char *path, struct err *err)
{
    *d = (struct dump_data){ .file.id = -1 };
    int rc = h5_guard(path, rehearse, (void *)(uintptr_t)path, err);
    return rc ? rc : open_file(d, path, err);
}

void dump_data_close(struct dump_data *d)
{
    if (!d->path)
        return;
    h5_close(&d->file, 0, NULL);
    h5_free_text(d->id, d->n_prompts);
    h5_free_text(d->text, d->n_prompts);
    for (size_t i = 0; i < d->n_sites; i++)
        free(d->sites[i].path);
    void *arrays[] = { d->sites,      d->token_offset, d->token,     d->pattern_offset,
                       d->row_prompt, d->row_position, d->first_row, d->path };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
    *d = (struct dump_data){ .file.id = -1 };
}
