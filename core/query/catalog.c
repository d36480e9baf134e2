#include "core/query/catalog.h"

#include "core/base/glob.h"
#include "core/base/mem.h"
#include "core/runtime/sites.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- what the file is --- */

static int get_group(struct query_file *file, const char *format, struct err *err)
{
    static const struct {
        const char *name, *ids;
    } groups[] = { { "prompts", "/prompts/id" }, { "facts", "/facts/id" } };
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        int got = h5_look(&file->h5, groups[i].ids, err);
        if (got < 0)
            return got;
        file->group = groups[i].name;
        if (got)
            return 0;
    }
    return err_set(err, ERR_UNSUPPORTED, "%s: is a '%.60s' file without prompts or facts: nothing to ask", file->path,
                   format);
}

static int get_kind(struct query_file *file, struct err *err)
{
    char *format = NULL;
    int64_t version = 0, complete = 1;
    if (!h5_has_attribute(file->h5.id, "format"))
        return err_set(err, ERR_FORMAT, "%s: is no file of Strata's: strata dump and strata lens make such",
                       file->path);
    int rc = h5_get_text(&file->h5, file->h5.id, "format", &format, err);
    if (!rc && strncmp(format, "strata-", 7))
        rc = err_set(err, ERR_FORMAT, "%s: is a '%.60s' file, none of Strata's", file->path, format);
    rc = rc ? rc : h5_get_int(&file->h5, file->h5.id, "version", &version, err);
    if (!rc && version != 1)
        rc = err_set(err, ERR_UNSUPPORTED, "%s: is version %lld of its format, this program reads version 1",
                     file->path, (long long)version);
    if (!rc && h5_has_attribute(file->h5.id, "complete"))
        rc = h5_get_int(&file->h5, file->h5.id, "complete", &complete, err);
    file->complete = complete == 1;
    file->is_lens = !rc && !strcmp(format, "strata-lens");
    rc = rc ? rc : get_group(file, format, err);
    free(format);
    return rc;
}

/* Offsets rise from 0. */
static int get_offsets(const struct query_file *file, const char *name, int64_t **out, struct err *err)
{
    int got = h5_look(&file->h5, name, err);
    if (got <= 0)
        return got;
    int rc = h5_get_first(&file->h5, name, STORE_I64, file->n_prompts + 1, out, err);
    bool ok = !rc && (*out)[0] == 0;
    for (size_t i = 0; ok && i < file->n_prompts; i++)
        ok = (*out)[i + 1] > (*out)[i];
    return rc || ok ? rc : err_set(err, ERR_FORMAT, "%s: '%s' does not rise from 0", file->path, name);
}

static size_t tokens_of(const struct query_file *file, size_t prompt)
{
    return (size_t)(file->token_offset[prompt + 1] - file->token_offset[prompt]);
}

/* Every prompt has [heads, tokens, tokens] edges, with as many heads as the first. */
static int check_edges(struct query_file *file, struct err *err)
{
    for (size_t p = 0; file->pattern_offset && p < file->n_prompts; p++) {
        size_t edges = (size_t)(file->pattern_offset[p + 1] - file->pattern_offset[p]);
        size_t n = file->token_offset ? tokens_of(file, p) : 0, square = 0, whole = 0;
        bool ok = n && size_mul(n, n, &square) && (p || edges % square == 0);
        if (ok && !p)
            file->n_edge_heads = edges / square;
        if (!ok || !size_mul(square, file->n_edge_heads, &whole) || whole != edges || !edges)
            return err_set(err, ERR_FORMAT, "%s: prompt %zu has a wrong number of attention edges", file->path, p);
    }
    return 0;
}

static int get_subjects(struct query_file *file, struct err *err)
{
    int got = file->token_offset ? h5_look(&file->h5, "/prompts/subject_begin", err) : 0;
    if (got > 0)
        got = h5_look(&file->h5, "/prompts/subject_end", err);
    if (got <= 0)
        return got;
    int rc = h5_get_first(&file->h5, "/prompts/subject_begin", STORE_I32, file->n_prompts, &file->subject_begin, err);
    rc = rc ? rc : h5_get_first(&file->h5, "/prompts/subject_end", STORE_I32, file->n_prompts, &file->subject_end, err);
    for (size_t p = 0; !rc && p < file->n_prompts; p++) {
        int32_t begin = file->subject_begin[p], end = file->subject_end[p];
        if (begin < 0 || end < begin) /* no subject */
            file->subject_begin[p] = file->subject_end[p] = 0;
        else if ((size_t)end > tokens_of(file, p))
            rc = err_set(err, ERR_FORMAT, "%s: the subject of prompt %zu ends after the prompt", file->path, p);
    }
    return rc;
}

static int get_prompts(struct query_file *file, struct err *err)
{
    char name[32];
    snprintf(name, sizeof name, "/%s/id", file->group);
    int rc = h5_get_length(&file->h5, name, &file->n_prompts, err);
    rc = rc ? rc : get_offsets(file, "/prompts/token_offset", &file->token_offset, err);
    rc = rc ? rc : get_offsets(file, "/prompts/pattern_offset", &file->pattern_offset, err);
    rc = rc ? rc : check_edges(file, err);
    for (size_t p = 0; !rc && file->token_offset && p < file->n_prompts; p++)
        if (tokens_of(file, p) > file->most_tokens)
            file->most_tokens = tokens_of(file, p);
    return rc ? rc : get_subjects(file, err);
}

/* Rows of the whole prompts, in order; a partial file's list may be longer. */
static int get_rows(struct query_file *file, struct err *err)
{
    int got = h5_look(&file->h5, "/rows/prompt", err);
    if (got <= 0)
        return got;
    file->has_rows = true;
    size_t n = 0, r = 0;
    int rc = h5_get_length(&file->h5, "/rows/prompt", &n, err);
    rc = rc ? rc : h5_get_first(&file->h5, "/rows/prompt", STORE_I32, n, &file->row_prompt, err);
    rc = rc ? rc : h5_get_first(&file->h5, "/rows/position", STORE_I32, n, &file->row_position, err);
    if (rc)
        return rc;
    file->first_row = mem_array(file->n_prompts + 1, sizeof *file->first_row);
    if (!file->first_row)
        return err_nomem(err, "rows");
    for (size_t p = 0; p < file->n_prompts; p++) {
        file->first_row[p] = r;
        for (; r < n && file->row_prompt[r] == (int32_t)p; r++) {
            int32_t at = file->row_position[r];
            if (at < 0 || (r > file->first_row[p] && at <= file->row_position[r - 1]) ||
                (file->token_offset && (size_t)at >= tokens_of(file, p)))
                return err_set(err, ERR_FORMAT, "%s: row %zu: positions of a prompt must rise and lie in it",
                               file->path, r);
        }
        if (r == file->first_row[p])
            return err_set(err, ERR_FORMAT, "%s: prompt %zu has no rows, or rows are not in order", file->path, p);
        file->several_rows |= r > file->first_row[p] + 1;
    }
    if (r < n && file->complete)
        return err_set(err, ERR_FORMAT, "%s: row %zu belongs to no prompt", file->path, r);
    file->first_row[file->n_prompts] = file->n_rows = r;
    return 0;
}

/* --- fields --- */

/*
 * Where a dataset's first dimension does not count rows (where there are such) or prompts; their number alone does not
 * tell, as when six facts went through six layers.
 */
static const struct {
    const char *glob;
    enum query_layout layout;
} layouts[] = {
    { "/activations/*hook_pattern", QUERY_EDGES },
    { "/activations/*hook_attn_scores", QUERY_EDGES },
    { "/tokens/*", QUERY_TOKENS },
    { "/restored/state", QUERY_TOKENS },
    { "/restored/attn", QUERY_TOKENS },
    { "/restored/mlp", QUERY_TOKENS },
    { "/prompts/*_offset", QUERY_OTHER },
    { "/rows/prompt", QUERY_OTHER },
    { "/prompts/*", QUERY_PROMPTS },
    { "/facts/*", QUERY_PROMPTS },
    /* means, bands and the like over all facts */
    { "/mean/*", QUERY_OTHER },
    { "/low/*", QUERY_OTHER },
    { "/high/*", QUERY_OTHER },
    { "/thirds/*", QUERY_OTHER },
    { "/patterns/*", QUERY_OTHER },
    { "/stages/*", QUERY_OTHER },
    { "/heads/*", QUERY_OTHER },
    { "/listed/*", QUERY_OTHER },
    /* what an axis means */
    { "/layers/label", QUERY_OTHER },
    { "/layers/blocked", QUERY_OTHER },
    { "/knockout/keys", QUERY_OTHER },
    { "/ablation/counts", QUERY_OTHER },
    { "/ablation/order", QUERY_OTHER },
};

static uint64_t items_of(const struct query_file *file, enum query_layout layout)
{
    switch (layout) {
    case QUERY_ROWS:
        return file->n_rows;
    case QUERY_PROMPTS:
        return file->n_prompts;
    case QUERY_TOKENS:
        return file->token_offset ? (uint64_t)file->token_offset[file->n_prompts] : 0;
    case QUERY_EDGES:
        return file->pattern_offset ? (uint64_t)file->pattern_offset[file->n_prompts] : 0;
    case QUERY_OTHER:
        break;
    }
    return 0;
}

static enum query_layout layout_of(const struct query_file *file, const struct h5_dataset *set)
{
    enum query_layout layout = file->has_rows ? QUERY_ROWS : QUERY_PROMPTS;
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (glob_match(layouts[i].glob, strlen(layouts[i].glob), set->name)) {
            layout = layouts[i].layout;
            break;
        }
    uint64_t items = items_of(file, layout);
    bool counts = set->rank && items && (set->dims[0] == items || (!file->complete && set->dims[0] > items));
    bool text_list = set->type != STORE_TEXT || (set->rank == 1 && (layout == QUERY_ROWS || layout == QUERY_PROMPTS));
    bool empty = !set->row_items || (layout == QUERY_EDGES && set->rank != 1);
    return counts && text_list && !empty ? layout : QUERY_OTHER;
}

static void set_axes(const struct query_file *file, struct query_field *field, const struct h5_dataset *set)
{
    if (field->layout == QUERY_EDGES)
        field->axes[field->n_axes++] = file->n_edge_heads;
    if (field->layout == QUERY_EDGES || field->layout == QUERY_TOKENS)
        field->axes[field->n_axes++] = 0;
    for (int i = 1; field->layout != QUERY_EDGES && i < set->rank; i++)
        field->axes[field->n_axes++] = (size_t)set->dims[i];
    if (glob_match("/lens/*", 7, field->path) && field->n_axes && field->axes[0] == file->n_layer_labels)
        field->labels = file->layer_labels;
    if (glob_match("/knockout/*", 11, field->path) && field->n_axes && field->axes[0] == file->n_key_labels)
        field->labels = file->key_labels;
}

/* "blocks.7.attn.hook_z": the layer, and the name of the site. */
static void set_site(struct query_field *field)
{
    char *end;
    if (strncmp(field->path, "/activations/blocks.", 20))
        return;
    unsigned long layer = strtoul(field->path + 20, &end, 10);
    for (int s = 0; s < N_SITES && *end == '.' && layer < INT32_MAX; s++)
        if (site_row((enum site)s)->per_layer && !strcmp(site_row((enum site)s)->name, end + 1)) {
            field->site = end + 1;
            field->layer = layer;
        }
}

/* A dump of single heads says which. */
static int set_members(const struct query_file *file, struct query_field *field, const struct h5_dataset *set,
                       struct err *err)
{
    size_t n = field->n_axes ? field->axes[0] : 0, got = 0;
    if (!field->site || !n || !h5_has_attribute(set->id, "heads"))
        return 0;
    field->members = mem_array(n, sizeof *field->members);
    if (!field->members)
        return err_nomem(err, "heads");
    int rc = h5_get_ints(&file->h5, set->id, "heads", field->members, n, &got, err);
    return rc || got == n
               ? rc
               : err_set(err, ERR_FORMAT, "%s: '%s' does not say which heads it holds", file->path, field->path);
}

enum { MOST_FIELDS = 1 << 16, MOST_NAME = 512 };

struct walk {
    struct query_file *file;
    const char *group;
    struct err *err;
    int rc;
};

/* Names that no expression can have are passed over; Strata writes none. */
static bool is_name(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.";
    size_t n = strspn(name, letters);
    return n && !name[n] && n < MOST_NAME;
}

static int add_field(struct query_file *file, const char *group, const char *leaf, struct err *err)
{
    if (file->n_fields == MOST_FIELDS)
        return err_set(err, ERR_FORMAT, "%s: holds more than %d datasets", file->path, MOST_FIELDS);
    if (!mem_grow(&file->fields, &file->fields_capacity, file->n_fields + 1, sizeof *file->fields))
        return err_nomem(err, "fields");
    size_t n = strlen(group) + strlen(leaf) + 3;
    struct query_field *field = &file->fields[file->n_fields++];
    *field = (struct query_field){ .path = mem_array(n, 1), .name = mem_array(n, 1) };
    if (!field->path || !field->name)
        return err_nomem(err, "fields");
    snprintf(field->path, n, "/%s/%s", group, leaf);
    snprintf(field->name, n, "%s.%s", group, leaf);
    field->leaf = field->name + strlen(group) + 1;
    struct h5_dataset set;
    int rc = h5_dataset_open(&set, &file->h5, field->path, err);
    if (rc)
        return rc;
    field->type = set.type;
    field->layout = layout_of(file, &set);
    set_axes(file, field, &set);
    set_site(field);
    rc = set_members(file, field, &set, err);
    h5_dataset_close(&set);
    return rc;
}

static herr_t visit_dataset(hid_t group, const char *name, const H5L_info_t *info, void *arg)
{
    struct walk *w = arg;
    H5O_info_t object;
    if (info->type != H5L_TYPE_HARD || !is_name(name))
        return 0;
    if (H5Oget_info_by_name2(group, name, &object, H5O_INFO_BASIC, H5P_DEFAULT) < 0)
        w->rc = h5_fail(&w->file->h5, w->err, "list '/%s'", w->group);
    else if (object.type == H5O_TYPE_DATASET)
        w->rc = add_field(w->file, w->group, name, w->err);
    return w->rc ? -1 : 0;
}

static herr_t visit_group(hid_t root, const char *name, const H5L_info_t *info, void *arg)
{
    struct walk *w = arg;
    H5O_info_t object;
    if (info->type != H5L_TYPE_HARD || !is_name(name))
        return 0;
    hid_t group = -1;
    hsize_t at = 0;
    w->group = name;
    bool ok = H5Oget_info_by_name2(root, name, &object, H5O_INFO_BASIC, H5P_DEFAULT) >= 0;
    if (ok && object.type != H5O_TYPE_GROUP)
        return 0;
    ok = ok && (group = H5Gopen2(root, name, H5P_DEFAULT)) >= 0 &&
         H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, &at, visit_dataset, w) >= 0;
    if (!ok && !w->rc)
        w->rc = h5_fail(&w->file->h5, w->err, "list '/%s'", name);
    if (group >= 0)
        H5Gclose(group);
    return w->rc ? -1 : 0;
}

static int get_fields(struct query_file *file, struct err *err)
{
    struct walk walk = { .file = file, .err = err };
    hsize_t at = 0;
    if (H5Literate(file->h5.id, H5_INDEX_NAME, H5_ITER_INC, &at, visit_group, &walk) < 0 && !walk.rc)
        walk.rc = h5_fail(&file->h5, err, "list its groups");
    H5Eclear2(H5E_DEFAULT);
    return walk.rc;
}

static int get_labels(struct query_file *file, const char *name, char ***out, size_t *n, struct err *err)
{
    int got = h5_look(&file->h5, name, err);
    if (got <= 0)
        return got;
    int rc = h5_get_length(&file->h5, name, n, err);
    rc = rc ? rc : h5_get_first(&file->h5, name, STORE_TEXT, *n, out, err);
    if (rc)
        *n = 0;
    return rc;
}

int query_catalog_read(struct query_file *file, struct err *err)
{
    int rc = h5_open(&file->h5, file->path, false, err);
    rc = rc ? rc : get_kind(file, err);
    rc = rc ? rc : get_prompts(file, err);
    rc = rc ? rc : get_rows(file, err);
    rc = rc ? rc : get_labels(file, "/layers/label", &file->layer_labels, &file->n_layer_labels, err);
    rc = rc ? rc : get_labels(file, "/knockout/keys", &file->key_labels, &file->n_key_labels, err);
    return rc ? rc : get_fields(file, err);
}

void query_catalog_close(struct query_file *file)
{
    if (file->path)
        h5_close(&file->h5, 0, NULL);
    for (size_t i = 0; i < file->n_fields; i++) {
        free(file->fields[i].path);
        free(file->fields[i].name);
        free(file->fields[i].members);
    }
    h5_free_text(file->layer_labels, file->n_layer_labels);
    h5_free_text(file->key_labels, file->n_key_labels);
    void *arrays[] = { file->path,          file->stem,        file->token_offset, file->pattern_offset,
                       file->subject_begin, file->subject_end, file->row_position, file->row_prompt,
                       file->first_row,     file->fields,      file->partner };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
    *file = (struct query_file){ .h5.id = -1 };
}
