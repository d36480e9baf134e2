/* Edits from JSON: each object is written as the expression that it stands for, then read as one. */
#include "core/base/strbuf.h"
#include "core/base/suggest.h"
#include "core/runtime/edit_internal.h"

#include <string.h>

static const char *const part_keys[N_PARTS] = {
#define X(id, key, before) key,
    EDIT_PARTS(X)
#undef X
};

static const char *const part_before[N_PARTS] = {
#define X(id, key, before) before,
    EDIT_PARTS(X)
#undef X
};

static int check_keys(json_t *object, const char *const *keys, size_t n, const char *what, struct err *err)
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
        suggest_text(&s, "", hint);
        if (!known)
            return err_set(err, ERR_FORMAT, "key \"%.60s\" is unknown%s", key, *hint ? hint : what);
    }
    return 0;
}

static int add_numbers(struct strbuf *s, const char *key, const json_t *array, struct err *err)
{
    if (!json_array_size(array))
        return err_set(err, ERR_FORMAT, "key \"%s\": the array is empty: leave the key out for all", key);
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *item = json_array_get(array, i);
        if (!json_is_integer(item))
            return err_set(err, ERR_FORMAT, "key \"%s\": the array must hold whole numbers", key);
        strbuf_addf(s, "%s%lld", i ? "," : "", (long long)json_integer_value(item));
    }
    return 0;
}

static bool is_text(const json_t *value)
{
    return json_is_string(value) && strlen(json_string_value(value)) == json_string_length(value);
}

/* A part's value as the text that an expression would have. */
static int add_json_text(struct strbuf *s, enum edit_part part, const json_t *value, struct err *err)
{
    const char *key = part_keys[part];
    bool is_list = part == PART_AT || part == PART_KEYS || part == PART_UNITS || part == PART_FROM_AT;
    if (part == PART_VALUE && json_is_array(value)) {
        strbuf_addf(s, "[%zu numbers]", json_array_size(value));
        return 0;
    }
    if (part == PART_VALUE && json_is_number(value)) {
        strbuf_addf(s, "%.17g", json_number_value(value));
        return 0;
    }
    if (is_list && json_is_array(value))
        return add_numbers(s, key, value, err);
    if (is_list && json_is_integer(value)) {
        strbuf_addf(s, "%lld", (long long)json_integer_value(value));
        return 0;
    }
    if (!is_text(value))
        return err_set(err, ERR_FORMAT, "key \"%s\" must be a string%s", key,
                       is_list              ? ", a whole number or an array of them"
                       : part == PART_VALUE ? ", a number or an array of numbers"
                                            : "");
    strbuf_adds(s, json_string_value(value));
    return 0;
}

/* Where each part begins and ends in the expression; SIZE_MAX: absent. */
struct writer {
    struct strbuf text;
    size_t begin[N_PARTS], end[N_PARTS];
};

static int add_part(struct writer *w, enum edit_part part, const char *before, const json_t *value, struct err *err)
{
    if (!value || json_is_null(value))
        return 0;
    strbuf_adds(&w->text, before);
    w->begin[part] = w->text.len;
    int rc = add_json_text(&w->text, part, value, err);
    w->end[part] = w->text.len;
    return rc;
}

/* "site" and "layer": `attn_out:3`, or `:3`. */
static int add_source_site(struct writer *w, const json_t *from, struct err *err)
{
    const json_t *site = json_object_get(from, "site"), *layer = json_object_get(from, "layer");
    int rc = add_part(w, PART_FROM_SITE, part_before[PART_FROM_SITE], site, err);
    if (rc || !layer || json_is_null(layer))
        return rc;
    if (!json_is_integer(layer) || json_integer_value(layer) < 0)
        return err_set(err, ERR_FORMAT, "key \"layer\" must be a whole number from 0");
    if (w->begin[PART_FROM_SITE] == SIZE_MAX) {
        strbuf_adds(&w->text, " ");
        w->begin[PART_FROM_SITE] = w->text.len;
    }
    strbuf_addf(&w->text, ":%lld", (long long)json_integer_value(layer));
    w->end[PART_FROM_SITE] = w->text.len;
    return 0;
}

static int add_source(struct writer *w, json_t *from, struct err *err)
{
    static const char *const keys[] = { "prompt", "site", "layer", "at" };
    if (!from || json_is_null(from))
        return 0;
    if (is_text(from))
        return add_part(w, PART_FROM_RUN, part_before[PART_FROM_RUN], from, err);
    if (!json_is_object(from))
        return err_set(err, ERR_FORMAT, "key \"from\" must be the name of a prompt, or an object");
    int rc = check_keys(from, keys, sizeof keys / sizeof *keys, ": from has prompt, site, layer, at", err);
    rc = rc ? rc : add_source_site(w, from, err);
    bool alone = w->begin[PART_FROM_SITE] == SIZE_MAX;
    rc = rc ? rc : add_part(w, PART_FROM_AT, alone ? " @" : "@", json_object_get(from, "at"), err);
    return rc ? rc : add_part(w, PART_FROM_RUN, part_before[PART_FROM_RUN], json_object_get(from, "prompt"), err);
}

static int parse_object(struct edit_list *list, json_t *object, const struct edit_context *context, struct err *err)
{
    static const char *const keys[] = { "site", "at", "keys", "units", "op", "value", "from" };
    struct writer w = { .text = STRBUF_INIT };
    const json_t *value = json_object_get(object, "value");
    int rc = check_keys(object, keys, sizeof keys / sizeof *keys,
                        ": an edit has site, at, keys, units, op, value, from", err);
    for (size_t i = 0; i < N_PARTS; i++)
        w.begin[i] = w.end[i] = SIZE_MAX;
    for (enum edit_part i = 0; i < PART_FROM_SITE && !rc; i++)
        rc = add_part(&w, i, part_before[i], json_object_get(object, part_keys[i]), err);
    rc = rc ? rc : add_source(&w, json_object_get(object, "from"), err);
    if (!rc && strbuf_failed(&w.text))
        rc = err_nomem(err, "an edit");
    if (!rc) {
        /* The buffer no longer moves. */
        struct edit_text t = { .whole = { strbuf_text(&w.text), w.text.len },
                               .numbers = json_is_array(value) ? value : NULL };
        for (size_t i = 0; i < N_PARTS; i++)
            if (w.begin[i] != SIZE_MAX)
                t.part[i] = (struct piece){ strbuf_text(&w.text) + w.begin[i], w.end[i] - w.begin[i] };
        rc = edit_append(list, &t, context, err);
    }
    strbuf_release(&w.text);
    return rc;
}

int edit_parse_json_in(struct edit_list *list, const json_t *array, const char *where,
                       const struct model_config *config, const struct edit_scope *scope, struct err *err)
{
    const struct edit_context context = { config, scope };
    if (!json_is_array(array))
        return err_set(err, ERR_FORMAT, "%s: edits must be an array of strings or objects", where);
    for (size_t i = 0; i < json_array_size(array); i++) {
        json_t *item = json_array_get(array, i);
        int rc;
        if (json_is_object(item))
            rc = parse_object(list, item, &context, err);
        else if (is_text(item))
            rc = edit_parse_in(list, json_string_value(item), config, scope, err);
        else
            rc = err_set(err, ERR_FORMAT, "must be a string without NUL bytes or an object");
        if (rc) {
            err_prefix(err, "%s: item %zu: ", where, i + 1);
            return rc;
        }
    }
    return 0;
}

int edit_parse_json(struct edit_list *list, const json_t *array, const char *where, const struct model_config *config,
                    struct err *err)
{
    return edit_parse_json_in(list, array, where, config, NULL, err);
}
