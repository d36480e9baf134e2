#include "core/tokenizer/components.h"

#include "core/base/strbuf.h"

#include <string.h>

enum { DEEPEST = 8 }; /* of Sequences; real files have one */

int component_fail(const struct opening *o, const char *type, const char *problem, struct err *err)
{
    return err_set(err, ERR_UNSUPPORTED, "%s: %s %s: %s", o->where, o->stage, type, problem);
}

bool component_has_word(const char *words, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = words; n && (at = strstr(at, word)); at += n)
        if ((at == words || at[-1] == ' ') && (at[n] == ' ' || !at[n]))
            return true;
    return false;
}

static int check_keys(const struct opening *o, const struct component *c, const json_t *json, struct err *err)
{
    for (void *i = json_object_iter((json_t *)json); i; i = json_object_iter_next((json_t *)json, i)) {
        const char *key = json_object_iter_key(i);
        if (strcmp(key, "type") && !component_has_word(c->keys, key))
            return err_set(err, ERR_UNSUPPORTED, "%s: %s %s has the key \"%.64s\", which is not known", o->where,
                           o->stage, c->type, key);
    }
    return 0;
}

static int unknown_type(const struct opening *o, const struct component *table, size_t n, const char *type,
                        struct err *err)
{
    struct strbuf known = STRBUF_INIT;
    for (size_t i = 0; i < n; i++)
        strbuf_addf(&known, "%s%s", i ? ", " : "", table[i].type);
    int rc = err_set(err, ERR_UNSUPPORTED, "%s: %s \"%.64s\" is not supported; supported are %s", o->where, o->stage,
                     type, strbuf_text(&known));
    strbuf_release(&known);
    return rc;
}

int component_open(struct opening *o, const struct component *table, size_t n, const json_t *json, struct err *err)
{
    const char *type = NULL;
    if (!json || json_is_null(json))
        return 0;
    if (!json_is_object(json))
        return err_set(err, ERR_FORMAT, "%s: %s must be an object or null", o->where, o->stage);
    int rc = json_get_string(json, o->where, "type", &type, err);
    if (rc || !type)
        return rc ? rc : err_set(err, ERR_FORMAT, "%s: a %s has no \"type\"", o->where, o->stage);
    if (o->depth == DEEPEST)
        return component_fail(o, type, "Sequences are nested too deeply", err);
    for (size_t i = 0; i < n; i++)
        if (!strcmp(table[i].type, type)) {
            if ((rc = check_keys(o, &table[i], json, err)))
                return rc;
            o->kind = table[i].kind;
            o->depth++;
            rc = table[i].open(o, json, err);
            o->depth--;
            return rc;
        }
    return unknown_type(o, table, n, type, err);
}

int component_open_list(struct opening *o, const json_t *json, const char *key,
                        int (*open)(struct opening *, const json_t *, struct err *), struct err *err)
{
    json_t *list;
    int rc = json_get_array(json, o->where, key, &list, err);
    if (!rc && !list)
        rc = component_fail(o, "Sequence", "has no list of components", err);
    for (size_t i = 0; !rc && i < json_array_size(list); i++)
        rc = open(o, json_array_get(list, i), err);
    return rc;
}

int component_bool(const struct opening *o, const json_t *json, const char *key, bool *out, struct err *err)
{
    if (!json_is_boolean(json_object_get(json, key)))
        return err_set(err, ERR_FORMAT, "%s: %s: key \"%s\" must be true or false", o->where, o->stage, key);
    return json_get_bool_or(json, o->where, key, false, out, err);
}

int component_text(const struct opening *o, const json_t *json, const char *type, const char *key, const char *text,
                   struct err *err)
{
    const char *value;
    int rc = json_get_string(json, o->where, key, &value, err);
    if (rc || (value && !strcmp(value, text)))
        return rc;
    return err_set(err, ERR_UNSUPPORTED, "%s: %s %s: only the %s \"%s\" is supported", o->where, o->stage, type, key,
                   text);
}

/* {"Regex": "..."} or {"String": "..."} under the key "pattern". */
int component_pattern(struct opening *o, const json_t *json, const char *type, struct regex **out, struct err *err)
{
    const json_t *pattern = json_object_get(json, "pattern");
    const char *regex, *text;
    if (!json_is_object(pattern) || json_object_size(pattern) != 1)
        return component_fail(o, type, "the pattern must be an object with Regex or String", err);
    int rc = json_get_string(pattern, o->where, "Regex", &regex, err);
    if (rc || (rc = json_get_string(pattern, o->where, "String", &text, err)))
        return rc;
    if ((!regex || !*regex) && (!text || !*text))
        return component_fail(o, type, "the pattern must have a Regex or String that is not empty", err);
    return regex ? regex_open(out, regex, o->where, err) : regex_open_literal(out, text, o->where, err);
}

int component_ignore(struct opening *o, const json_t *json, struct err *err)
{
    (void)o, (void)json, (void)err;
    return 0;
}

int opening_finish(const struct opening *o, struct err *err)
{
    if (strbuf_failed(o->names))
        return err_nomem(err, "names of pre-tokenizers");
    return tokenizer_finish(o->tok, strbuf_text(o->names), err);
}
