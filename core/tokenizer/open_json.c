/* tokenizer.json: the top level, from which each stage's part is opened in the order that they depend on each other. */
#include "core/tokenizer/components.h"

#include "core/base/strbuf.h"
#include "core/formats/json_walk.h"

#include <string.h>

enum part { VERSION, TRUNCATION, PADDING, ADDED, NORMALIZER, PRE_TOKENIZER, POST_PROCESSOR, DECODER, MODEL, N_PARTS };

static const char *const part_names[N_PARTS] = { "version",        "truncation", "padding",
                                                 "added_tokens",   "normalizer", "pre_tokenizer",
                                                 "post_processor", "decoder",    "model" };

/* Of any part but the model, as text. A tree costs some fifty times as much. */
enum { PART_LARGEST = 8 << 20 };

static int find_parts(const char *text, size_t n, const char *where, struct json_slice parts[N_PARTS], struct err *err)
{
    struct json_walk walk;
    struct json_slice key, value;
    int got = json_walk_open(&walk, text, n, where, err);
    if (!got && walk.closing != '}')
        got = err_set(err, ERR_FORMAT, "%s: must be a JSON object", where);
    while (!got && (got = json_walk_next(&walk, &key, &value, err)) > 0) {
        size_t i = 0;
        while (i < N_PARTS && !json_slice_is(key, part_names[i]))
            i++;
        if (i == N_PARTS)
            return err_set(err, ERR_UNSUPPORTED, "%s: the key %.*s is not known in a tokenizer.json", where,
                           (int)(key.n < 64 ? key.n : 64), key.text);
        if (parts[i].text)
            return err_set(err, ERR_FORMAT, "%s: has the key \"%s\" twice", where, part_names[i]);
        parts[i] = value;
        got = 0;
    }
    return got;
}

/* Parses one part and hands it to its stage; an absent one is null. */
static int open_part(struct opening *o, const struct json_slice parts[N_PARTS], enum part part,
                     int (*open)(struct opening *, const json_t *, struct err *), struct err *err)
{
    json_t *json = NULL;
    o->stage = part_names[part];
    int rc = parts[part].text ? json_slice_parse(parts[part], PART_LARGEST, o->where, o->stage, &json, err) : 0;
    if (!rc)
        rc = open(o, json, err);
    json_decref(json);
    return rc;
}

static int open_version(struct opening *o, const json_t *json, struct err *err)
{
    if (!json || (json_is_string(json) && !strcmp(json_string_value(json), "1.0")))
        return 0;
    return err_set(err, ERR_UNSUPPORTED, "%s: the version must be \"1.0\"", o->where);
}

static int open_all(struct opening *o, const void *data, size_t size, struct err *err)
{
    struct json_slice parts[N_PARTS] = { { 0 } };
    int rc = find_parts(data, size, o->where, parts, err);
    if (!rc && !parts[MODEL].text)
        rc = err_set(err, ERR_FORMAT, "%s: has no \"model\"", o->where);
    if (rc || (rc = open_part(o, parts, VERSION, open_version, err)) ||
        (rc = open_part(o, parts, PRE_TOKENIZER, open_pre_tokenizer, err)) || (o->stage = "model", false) ||
        (rc = open_model(o, parts[MODEL].text, parts[MODEL].n, err)) ||
        (rc = open_part(o, parts, NORMALIZER, open_normalizer, err)) ||
        (rc = open_part(o, parts, ADDED, open_added_tokens, err)) || (rc = added_finish(o->tok, o->where, err)) ||
        (rc = open_part(o, parts, POST_PROCESSOR, open_post_processor, err)) ||
        (rc = open_part(o, parts, DECODER, open_decoder, err)))
        return rc;
    return opening_finish(o, err);
}

int tokenizer_open_json(struct tokenizer **out, const void *data, size_t size, const char *name, struct err *err)
{
    struct strbuf names = STRBUF_INIT;
    struct opening o = { .tok = tokenizer_new(), .where = name, .names = &names };
    int rc = o.tok ? open_all(&o, data, size, err) : err_nomem(err, "a tokenizer");
    strbuf_release(&names);
    if (rc)
        tokenizer_free(o.tok);
    else
        *out = o.tok;
    return rc;
}
