/* Lens files: the reader. Every number that others use as an index or a shape is checked here. */
#include "core/base/mem.h"
#include "core/store/h5_guard.h"
#include "core/store/lens_file.h"

#include <stdlib.h>
#include <string.h>

/* "" where the file has no such attribute. */
static int get_text(const struct h5_file *f, const char *name, char **out, struct err *err)
{
    if (h5_has_attribute(f->id, name))
        return h5_get_text(f, f->id, name, out, err);
    *out = mem_strdup("");
    return *out ? 0 : err_nomem(err, "an attribute");
}

static int get_identity(struct lens_data *d, const struct h5_file *f, struct err *err)
{
    char *format = NULL;
    int64_t version = 0, complete = 0;
    int rc = 0;
    if (!h5_has_attribute(f->id, "format"))
        rc = err_set(err, ERR_FORMAT, "%s: is no file of Strata's: strata lens makes lens files", f->path);
    if (!rc)
        rc = h5_get_text(f, f->id, "format", &format, err);
    if (!rc && strcmp(format, "strata-lens"))
        rc = err_set(err, ERR_FORMAT, "%s: is a '%.60s' file, not a lens file: strata lens makes one", f->path, format);
    if (!rc)
        rc = h5_get_int(f, f->id, "version", &version, err);
    if (!rc && version != 1)
        rc = err_set(err, ERR_UNSUPPORTED, "%s: lens file version %lld, this program reads version 1", f->path,
                     (long long)version);
    if (!rc)
        rc = h5_get_int(f, f->id, "complete", &complete, err);
    d->complete = complete == 1;
    if (!rc)
        rc = get_text(f, "site", &d->site, err);
    if (!rc)
        rc = get_text(f, "positions", &d->positions, err);
    if (!rc)
        rc = get_text(f, "model_path", &d->model_path, err);
    free(format);
    return rc;
}

static int get_optional_list(const struct h5_file *f, const char *name, enum store_type type, size_t n,
                             void *out_pointer, struct err *err)
{
    int there = h5_look(f, name, err);
    return there > 0 ? h5_get_first(f, name, type, n, out_pointer, err) : there;
}

static int get_prompts(struct lens_data *d, const struct h5_file *f, struct err *err)
{
    int rc = h5_get_length(f, "/prompts/id", &d->n_prompts, err);
    if (!rc)
        rc = h5_get_first(f, "/prompts/id", STORE_TEXT, d->n_prompts, &d->id, err);
    if (!rc)
        rc = h5_get_first(f, "/prompts/text", STORE_TEXT, d->n_prompts, &d->text, err);
    if (!rc)
        rc = h5_get_first(f, "/prompts/answer", STORE_TEXT, d->n_prompts, &d->answer, err);
    if (!rc)
        rc = h5_get_first(f, "/prompts/answer_token", STORE_I32, d->n_prompts, &d->answer_token, err);
    if (!rc)
        rc = get_optional_list(f, "/prompts/subject", STORE_TEXT, d->n_prompts, &d->subject, err);
    if (!rc)
        rc = get_optional_list(f, "/prompts/relation", STORE_TEXT, d->n_prompts, &d->relation, err);
    if (!rc)
        rc = get_optional_list(f, "/prompts/answer_logprob", STORE_F32, d->n_prompts, &d->answer_logprob, err);
    for (size_t i = 0; !rc && i < d->n_prompts; i++)
        if (d->answer_token[i] < -1)
            rc = err_set(err, ERR_FORMAT, "%s: prompt %zu has the answer token %d", f->path, i, d->answer_token[i]);
    return rc;
}

/* Rows of the whole prompts: /rows may already be longer. */
static int get_rows(struct lens_data *d, const struct h5_file *f, struct err *err)
{
    size_t n;
    int rc = h5_get_length(f, "/rows/prompt", &n, err);
    if (!rc)
        rc = h5_get_first(f, "/rows/prompt", STORE_I32, n, &d->row_prompt, err);
    if (rc)
        return rc;
    int32_t last = -1;
    for (d->n_rows = 0; d->n_rows < n; d->n_rows++) {
        int32_t prompt = d->row_prompt[d->n_rows];
        if (prompt >= 0 && (size_t)prompt >= d->n_prompts && !d->complete)
            break;
        if (prompt < 0 || (size_t)prompt >= d->n_prompts || prompt < last || prompt > last + 1)
            return err_set(err, ERR_FORMAT, "%s: row %zu belongs to prompt %d, after one of prompt %d", f->path,
                           d->n_rows, prompt, last);
        last = prompt;
    }
    if ((size_t)last + 1 != d->n_prompts)
        return err_set(err, ERR_FORMAT, "%s: prompt %d has no row", f->path, last + 1);
    rc = h5_get_first(f, "/rows/position", STORE_I32, d->n_rows, &d->row_position, err);
    for (size_t r = 0; !rc && r < d->n_rows; r++)
        if (d->row_position[r] < 0)
            rc = err_set(err, ERR_FORMAT, "%s: row %zu is at position %d", f->path, r, d->row_position[r]);
    return rc;
}

static int get_numbers(const struct lens_data *d, const struct h5_file *f, const char *name, enum store_type type,
                       size_t top_k, void *out_pointer, struct err *err)
{
    struct h5_dataset s;
    void **out = out_pointer;
    int rc = h5_dataset_open(&s, f, name, err);
    if (rc)
        return rc;
    size_t row = d->n_states, items;
    void *data = NULL;
    bool fits = s.rank == (top_k ? 3 : 2) && s.dims[0] >= d->n_rows && s.dims[1] == d->n_states &&
                (!top_k || (s.dims[2] == top_k && size_mul(row, top_k, &row)));
    if (!fits || !size_mul(d->n_rows, row, &items))
        rc = err_set(err, ERR_FORMAT, "%s: '%s' does not have %zu rows of %zu states", f->path, name, d->n_rows,
                     d->n_states);
    else if (!(data = mem_array(items, 4)))
        rc = err_nomem(err, name);
    else
        rc = h5_dataset_read(&s, 0, d->n_rows, type, data, err);
    h5_dataset_close(&s);
    if (rc)
        free(data);
    else
        *out = data;
    return rc;
}

static int get_top(struct lens_data *d, const struct h5_file *f, struct err *err)
{
    struct h5_dataset s;
    int there = h5_look(f, "/lens/top_token", err);
    if (there <= 0)
        return there;
    int rc = h5_dataset_open(&s, f, "/lens/top_token", err);
    if (rc)
        return rc;
    if (s.rank != 3 || !s.dims[2] || s.dims[2] > INT32_MAX)
        rc = err_set(err, ERR_FORMAT, "%s: '%s' has an unexpected shape", f->path, s.name);
    else
        d->top_k = (size_t)s.dims[2];
    h5_dataset_close(&s);
    if (!rc)
        rc = get_numbers(d, f, "/lens/top_token", STORE_I32, d->top_k, &d->top_token, err);
    return rc ? rc : get_numbers(d, f, "/lens/top_logprob", STORE_F32, d->top_k, &d->top_logprob, err);
}

static int get_all(struct lens_data *d, const struct h5_file *f, struct err *err)
{
    int rc = get_identity(d, f, err);
    if (!rc)
        rc = h5_get_length(f, "/layers/label", &d->n_states, err);
    if (!rc)
        rc = h5_get_first(f, "/layers/label", STORE_TEXT, d->n_states, &d->labels, err);
    if (!rc)
        rc = get_prompts(d, f, err);
    if (!rc)
        rc = get_rows(d, f, err);
    if (!rc)
        rc = get_numbers(d, f, "/lens/rank", STORE_I32, 0, &d->rank, err);
    if (!rc)
        rc = get_numbers(d, f, "/lens/ties", STORE_I32, 0, &d->ties, err);
    if (!rc)
        rc = get_numbers(d, f, "/lens/logprob", STORE_F32, 0, &d->logprob, err);
    if (!rc)
        rc = get_numbers(d, f, "/lens/entropy", STORE_F32, 0, &d->entropy, err);
    if (!rc)
        rc = get_numbers(d, f, "/lens/kl_final", STORE_F32, 0, &d->kl_final, err);
    return rc ? rc : get_top(d, f, err);
}

static int read_file(struct lens_data *d, const char *path, struct err *err)
{
    struct h5_file f;
    *d = (struct lens_data){ 0 };
    int rc = h5_open(&f, path, false, err);
    if (rc)
        return rc;
    rc = h5_close(&f, get_all(d, &f, err), err);
    if (rc)
        lens_data_release(d);
    return rc;
}

static int rehearse(void *arg, struct err *err)
{
    struct lens_data d;
    return read_file(&d, arg, err);
}

int lens_data_read(struct lens_data *out, const char *path, struct err *err)
{
    *out = (struct lens_data){ 0 };
    int rc = h5_guard(path, rehearse, (void *)(uintptr_t)path, err);
    return rc ? rc : read_file(out, path, err);
}

void lens_data_release(struct lens_data *d)
{
    char **texts[] = { d->id, d->text, d->answer, d->subject, d->relation };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        h5_free_text(texts[i], d->n_prompts);
    h5_free_text(d->labels, d->n_states);
    void *arrays[] = { d->site,       d->positions,    d->model_path, d->answer_token, d->answer_logprob,
                       d->row_prompt, d->row_position, d->rank,       d->ties,         d->logprob,
                       d->entropy,    d->kl_final,     d->top_token,  d->top_logprob };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
    *d = (struct lens_data){ 0 };
}
