/* The added tokens of a tokenizer.json. */
#include "core/tokenizer/components.h"

#include "core/base/mem.h"

#include <string.h>

static int open_added_token(struct opening *o, const json_t *json, int32_t *next_id, struct err *err)
{
    const char *content;
    size_t id;
    struct added_token t = { 0 };
    if (!json_is_object(json))
        return err_set(err, ERR_FORMAT, "%s: added_tokens must hold objects", o->where);
    int rc = json_get_string(json, o->where, "content", &content, err);
    if (rc || (rc = json_get_size(json, o->where, "id", 0, INT32_MAX - 1, &id, err)) ||
        (rc = component_bool(o, json, "single_word", &t.single_word, err)) ||
        (rc = component_bool(o, json, "lstrip", &t.lstrip, err)) ||
        (rc = component_bool(o, json, "rstrip", &t.rstrip, err)) ||
        (rc = component_bool(o, json, "normalized", &t.normalized, err)) ||
        (rc = component_bool(o, json, "special", &t.special, err)))
        return rc;
    if (!content || strlen(content) > ADDED_LONGEST)
        return err_set(err, ERR_FORMAT, "%s: added token %zu must have a content of 1 to %d bytes", o->where, id,
                       (int)ADDED_LONGEST);
    if (vocab_find(&o->tok->vocab, content, strlen(content)) < 0 && (int32_t)id != (*next_id)++)
        return err_set(err, ERR_FORMAT,
                       "%s: added token '%s' has id %zu where %d is the next free one: libraries disagree on its id",
                       o->where, content, id, (int)*next_id - 1);
    t.id = (int32_t)id;
    t.len = (uint32_t)strlen(content);
    t.content = mem_strdup(content);
    return t.content ? added_put(o->tok, &t, o->where, err) : err_nomem(err, "added tokens");
}

int open_added_tokens(struct opening *o, const json_t *json, struct err *err)
{
    int32_t next_id = (int32_t)o->tok->vocab.n_used;
    int rc = 0;
    if (json && !json_is_null(json) && !json_is_array(json))
        return err_set(err, ERR_FORMAT, "%s: added_tokens must be a list", o->where);
    for (size_t i = 0; !rc && i < json_array_size(json); i++)
        rc = open_added_token(o, json_array_get(json, i), &next_id, err);
    return rc;
}
