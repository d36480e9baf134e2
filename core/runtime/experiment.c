#include "core/runtime/experiment.h"

#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/base/strbuf.h"
#include "core/base/strmap.h"
#include "core/base/suggest.h"
#include "core/runtime/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_PROMPTS = 65536, MOST_VARIANTS = 1 << 20, WHERE_MAX = 512 };

struct reader {
    struct experiment *out;
    const char *path;
    const struct model *model;
    enum specials specials;
    const char **names; /* [n_prompts] for `from` */
};

static int check_keys(json_t *object, const char *where, const char *const *keys, size_t n, struct err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        struct suggest s;
        char hint[SUGGEST_TEXT_MAX];
        bool known = false;
        suggest_init(&s, key, strlen(key));
        for (size_t i = 0; i < n; i++) {
            known = known || !strcmp(key, keys[i]);
            suggest_consider(&s, keys[i]);
        }
        if (!known)
            return err_set(err, ERR_FORMAT, "%s: key \"%.60s\" is unknown%s", where, key, suggest_text(&s, "", hint));
    }
    return 0;
}

/* Names are told apart, and from `base`. taken: [n] of those before. */
static int read_name(const json_t *object, const char *where, struct strmap *taken, size_t number, char **out,
                     struct err *err)
{
    const char *name;
    uint32_t other;
    int rc = json_get_string(object, where, "name", &name, err);
    if (rc)
        return rc;
    if (!name || !*name)
        return err_set(err, ERR_FORMAT, "%s: key \"name\" is missing", where);
    if (!strcmp(name, "base"))
        return err_set(err, ERR_FORMAT, "%s: the name \"base\" is taken: it is each variant's own base run", where);
    if (strmap_get(taken, name, strlen(name), &other))
        return err_set(err, ERR_FORMAT, "%s: the name \"%.60s\" is taken by item %zu", where, name, (size_t)other + 1);
    *out = mem_strdup(name);
    bool room = *out && !strmap_put(taken, *out, strlen(*out), (uint32_t)number, NULL);
    return room ? 0 : err_nomem(err, "an experiment");
}

/* --- prompts --- */

static int read_tokens(const json_t *array, const char *where, int32_t **out, size_t *n, struct err *err)
{
    if (!array)
        return 0;
    *n = json_array_size(array);
    *out = mem_array(*n, sizeof **out);
    if (!*out)
        return err_nomem(err, "tokens");
    for (size_t i = 0; i < *n; i++) {
        const json_t *item = json_array_get(array, i);
        json_int_t id = json_integer_value(item);
        if (!json_is_integer(item) || id < 0 || id > INT32_MAX)
            return err_set(err, ERR_FORMAT, "%s: tokens: item %zu is no token id", where, i + 1);
        (*out)[i] = (int32_t)id;
    }
    return 0;
}

static int read_fact(const struct reader *r, const json_t *object, const char *where, struct experiment_prompt *out,
                     struct err *err)
{
    struct fact fact = { .id = out->name, .answer_token = -1, .line = 1 };
    const char *occurrence;
    json_t *array;
    int32_t *tokens = NULL;
    size_t answer;
    int rc = json_get_string(object, where, "prompt", &fact.prompt, err);
    rc = rc ? rc : json_get_string(object, where, "subject", &fact.subject, err);
    rc = rc ? rc : json_get_string(object, where, "answer", &fact.answer, err);
    rc = rc ? rc : json_get_string(object, where, "subject_occurrence", &occurrence, err);
    rc = rc ? rc : json_get_size_or(object, where, "answer_token", 0, INT32_MAX, SIZE_MAX, &answer, err);
    rc = rc ? rc : json_get_array(object, where, "tokens", &array, err);
    if (rc)
        return rc;
    if (!fact.prompt == !array)
        return err_set(err, ERR_FORMAT, "%s: give \"prompt\" or \"tokens\"%s", where, array ? ", not both" : "");
    if (occurrence && strcmp(occurrence, "first") != 0 && strcmp(occurrence, "last") != 0)
        return err_set(err, ERR_FORMAT, "%s: subject_occurrence is \"first\" or \"last\"", where);
    fact.subject_occurrence_last = occurrence && !strcmp(occurrence, "last");
    fact.answer_token = answer == SIZE_MAX ? -1 : (int32_t)answer;
    rc = read_tokens(array, where, &tokens, &fact.n_tokens, err);
    fact.tokens = tokens;
    rc = rc ? rc : prepare_fact(r->model, &fact, r->specials, where, &out->fact, err);
    free(tokens);
    return rc;
}

static int refuse_runs(const struct edit_list *edits, const char *where, struct err *err)
{
    for (size_t i = 0; i < edits->n; i++)
        if (edits->edits[i].source == EDIT_FROM_RUN || edits->edits[i].source == EDIT_FROM_MEAN)
            return err_set(err, ERR_ARG, "%s: edit '%.100s': base runs take no values from other runs: use a variant",
                           where, edits->edits[i].text);
    return 0;
}

static int read_prompt(struct reader *r, json_t *object, size_t number, struct strmap *taken, struct err *err)
{
    static const char *const keys[] = { "name",   "prompt",       "tokens", "subject", "subject_occurrence",
                                        "answer", "answer_token", "edits" };
    struct experiment_prompt *p = &r->out->prompts[r->out->n_prompts++];
    const struct edit_scope scope = { .seed = r->out->seed, .default_run = EDIT_OWN_RUN };
    char where[WHERE_MAX];
    json_t *edits;
    snprintf(where, sizeof where, "%.400s: prompts: item %zu", r->path, number + 1);
    *p = (struct experiment_prompt){ .fact = { .answer_token = -1 } };
    if (!json_is_object(object))
        return err_set(err, ERR_FORMAT, "%s: must be an object", where);
    int rc = check_keys(object, where, keys, sizeof keys / sizeof *keys, err);
    rc = rc ? rc : read_name(object, where, taken, number, &p->name, err);
    rc = rc ? rc : read_fact(r, object, where, p, err);
    rc = rc ? rc : json_get_array(object, where, "edits", &edits, err);
    if (!rc && edits)
        rc = edit_parse_json_in(&p->edits, edits, where, &r->model->config, &scope, err);
    rc = rc ? rc : refuse_runs(&p->edits, where, err);
    r->names[number] = p->name;
    return rc;
}

static int read_prompts(struct reader *r, const json_t *array, struct strmap *taken, struct err *err)
{
    size_t n = json_array_size(array);
    if (!n || n > MOST_PROMPTS)
        return err_set(err, ERR_FORMAT, "%s: \"prompts\" has %zu items: 1 to %d are taken", r->path, n, MOST_PROMPTS);
    r->out->prompts = mem_array(n, sizeof *r->out->prompts);
    r->names = mem_array(n, sizeof *r->names);
    if (!r->out->prompts || !r->names)
        return err_nomem(err, "an experiment");
    int rc = 0;
    for (size_t i = 0; !rc && i < n; i++)
        rc = read_prompt(r, json_array_get(array, i), i, taken, err);
    return rc;
}

/* --- variants --- */

static int find_prompt(const struct reader *r, const json_t *object, const char *where, const struct strmap *prompts,
                       size_t *out, struct err *err)
{
    struct suggest s;
    char hint[SUGGEST_TEXT_MAX];
    const char *name;
    uint32_t number = 0;
    int rc = json_get_string(object, where, "prompt", &name, err);
    bool found = !rc && (!name || strmap_get(prompts, name, strlen(name), &number));
    *out = number;
    if (rc || found)
        return rc;
    suggest_init(&s, name, strlen(name));
    for (size_t i = 0; i < r->out->n_prompts; i++)
        suggest_consider(&s, r->names[i]);
    return err_set(err, ERR_NOTFOUND, "%s: there is no prompt \"%.60s\"%s", where, name, suggest_text(&s, "", hint));
}

static int read_variant(struct reader *r, json_t *object, size_t number, const struct strmap *prompts,
                        struct strmap *taken, struct err *err)
{
    static const char *const keys[] = { "name", "prompt", "edits" };
    struct experiment_variant *v = &r->out->variants[r->out->n_variants++];
    const struct edit_scope scope = {
        .seed = r->out->seed, .runs = r->names, .n_runs = r->out->n_prompts, .default_run = EDIT_OWN_RUN
    };
    char where[WHERE_MAX];
    json_t *edits;
    snprintf(where, sizeof where, "%.400s: variants: item %zu", r->path, number + 1);
    *v = (struct experiment_variant){ 0 };
    if (!json_is_object(object))
        return err_set(err, ERR_FORMAT, "%s: must be an object", where);
    int rc = check_keys(object, where, keys, sizeof keys / sizeof *keys, err);
    rc = rc ? rc : read_name(object, where, taken, number, &v->name, err);
    rc = rc ? rc : find_prompt(r, object, where, prompts, &v->prompt, err);
    rc = rc ? rc : json_get_array(object, where, "edits", &edits, err);
    if (!rc && !edits)
        rc = err_set(err, ERR_FORMAT, "%s: key \"edits\" is missing", where);
    return rc ? rc : edit_parse_json_in(&v->edits, edits, where, &r->model->config, &scope, err);
}

static int read_variants(struct reader *r, const json_t *array, const struct strmap *prompts, struct err *err)
{
    size_t n = json_array_size(array);
    struct strmap taken;
    if (!n || n > MOST_VARIANTS)
        return err_set(err, ERR_FORMAT, "%s: \"variants\" has %zu items: 1 to %d are taken", r->path, n, MOST_VARIANTS);
    r->out->variants = mem_array(n, sizeof *r->out->variants);
    if (!r->out->variants || strmap_init(&taken, n))
        return err_nomem(err, "an experiment");
    int rc = 0;
    for (size_t i = 0; !rc && i < n; i++)
        rc = read_variant(r, json_array_get(array, i), i, prompts, &taken, err);
    strmap_release(&taken);
    return rc;
}

/* --- the file --- */

static int read_head(struct reader *r, json_t *object, json_t **prompts, json_t **variants, struct err *err)
{
    static const char *const keys[] = {
        "format", "version", "prompts", "variants", "mean_over", "seed", "description"
    };
    const char *format, *mean_over;
    size_t version, seed;
    if (!json_is_object(object))
        return err_set(err, ERR_FORMAT, "%s: must be an object with \"format\": \"strata-experiment\"", r->path);
    int rc = json_get_string(object, r->path, "format", &format, err);
    if (!rc && (!format || strcmp(format, "strata-experiment") != 0))
        rc = err_set(err, ERR_FORMAT, "%s: key \"format\" must be \"strata-experiment\"", r->path);
    rc = rc ? rc : check_keys(object, r->path, keys, sizeof keys / sizeof *keys, err);
    rc = rc ? rc : json_get_size(object, r->path, "version", 1, 1, &version, err);
    rc = rc ? rc : json_get_size_or(object, r->path, "seed", 0, INT64_MAX, (size_t)r->out->seed, &seed, err);
    rc = rc ? rc : json_get_string(object, r->path, "mean_over", &mean_over, err);
    rc = rc ? rc : json_get_array(object, r->path, "prompts", prompts, err);
    rc = rc ? rc : json_get_array(object, r->path, "variants", variants, err);
    if (rc)
        return rc;
    r->out->seed = seed;
    if (mean_over && !(r->out->mean_over = mem_strdup(mean_over)))
        return err_nomem(err, "an experiment");
    if (!*prompts || !*variants)
        return err_set(err, ERR_FORMAT, "%s: key \"%s\" is missing", r->path, *prompts ? "variants" : "prompts");
    return 0;
}

static int read_object(struct reader *r, json_t *object, struct err *err)
{
    json_t *prompts, *variants;
    struct strmap names;
    int rc = read_head(r, object, &prompts, &variants, err);
    if (!rc && strmap_init(&names, json_array_size(prompts)))
        rc = err_nomem(err, "an experiment");
    if (rc)
        return rc;
    rc = read_prompts(r, prompts, &names, err);
    rc = rc ? rc : read_variants(r, variants, &names, err);
    strmap_release(&names);
    return rc;
}

int experiment_read(struct experiment *out, const char *path, const struct model *model, enum specials specials,
                    uint64_t seed, struct err *err)
{
    struct reader r = { .out = out, .path = path, .model = model, .specials = specials };
    json_t *object;
    *out = (struct experiment){ .seed = seed };
    int rc = json_parse_file(path, &object, err);
    if (!rc) {
        rc = read_object(&r, object, err);
        json_decref(object);
    }
    free(r.names);
    if (rc)
        experiment_release(out);
    return rc;
}

void experiment_release(struct experiment *e)
{
    for (size_t i = 0; i < e->n_prompts; i++) {
        free(e->prompts[i].name);
        prepared_release(&e->prompts[i].fact);
        edit_list_release(&e->prompts[i].edits);
    }
    for (size_t i = 0; i < e->n_variants; i++) {
        free(e->variants[i].name);
        edit_list_release(&e->variants[i].edits);
    }
    free(e->prompts);
    free(e->variants);
    free(e->mean_over);
    *e = (struct experiment){ 0 };
}

/* --- every edit against its prompt --- */

static struct prompt prompt_of(const struct experiment_prompt *p)
{
    struct prompt prompt = prepared_prompt(&p->fact);
    prompt.name = p->name;
    return prompt;
}

/* Means have no values yet, and need none for this. */
static int check_variant(const struct pass *pass, const struct prompt *prompt, size_t run,
                         const struct edit_list *edits, struct err *err)
{
    struct edit *copy = mem_array(edits->n, sizeof *copy);
    if (!copy)
        return err_nomem(err, "an experiment");
    for (size_t i = 0; i < edits->n; i++) {
        copy[i] = edits->edits[i];
        if (copy[i].source == EDIT_FROM_MEAN)
            copy[i].source = EDIT_FROM_NUMBER;
    }
    const struct edit_list list = { .edits = copy, .n = edits->n };
    struct sequence s = { .prompt = prompt, .run = run, .edits = &list };
    int rc = pass_resolve_sequence(pass, &s, err);
    free(s.resolved);
    free(copy);
    return rc;
}

int experiment_check(const struct experiment *e, struct err *err)
{
    struct prompt *prompts = mem_array(e->n_prompts, sizeof *prompts);
    size_t *n_tokens = mem_array(e->n_prompts, sizeof *n_tokens);
    int rc = prompts && n_tokens ? 0 : err_nomem(err, "an experiment");
    for (size_t i = 0; !rc && i < e->n_prompts; i++) {
        prompts[i] = prompt_of(&e->prompts[i]);
        n_tokens[i] = prompts[i].n_tokens;
    }
    const struct collector runs = { .n_prompts = e->n_prompts, .tokens = n_tokens };
    const struct pass pass = { .source = &runs, .source_prompts = prompts };
    for (size_t i = 0; !rc && i < e->n_prompts; i++)
        rc = check_variant(&pass, &prompts[i], i, &e->prompts[i].edits, err);
    for (size_t i = 0; !rc && i < e->n_variants; i++) {
        const struct experiment_variant *v = &e->variants[i];
        rc = check_variant(&pass, &prompts[v->prompt], v->prompt, &v->edits, err);
        if (rc)
            err_prefix(err, "variant \"%.60s\": ", v->name);
    }
    free(prompts);
    free(n_tokens);
    return rc;
}
