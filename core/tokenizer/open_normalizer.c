/* The normalizers of a tokenizer.json. */
#include "core/tokenizer/components.h"

#include "core/base/base64.h"
#include "core/base/mem.h"

#include <stdlib.h>
#include <string.h>

static int open_normalizer_sequence(struct opening *o, const json_t *json, struct err *err)
{
    return component_open_list(o, json, "normalizers", open_normalizer, err);
}

/* One without settings. */
static int open_simple(struct opening *o, const json_t *json, struct err *err)
{
    (void)json;
    return normalizer_add(o->tok, &(struct normalizer){ .kind = (enum normalizer_kind)o->kind }, o->where, err);
}

static int open_bert(struct opening *o, const json_t *json, struct err *err)
{
    bool clean, chinese, lowercase, accents;
    int rc = component_bool(o, json, "clean_text", &clean, err);
    if (rc || (rc = component_bool(o, json, "handle_chinese_chars", &chinese, err)) ||
        (rc = component_bool(o, json, "lowercase", &lowercase, err)) ||
        (rc = json_get_bool_or(json, o->where, "strip_accents", lowercase, &accents, err)))
        return rc;
    return normalizer_add_bert(o->tok, clean, chinese, accents, lowercase, o->where, err);
}

static int open_strip(struct opening *o, const json_t *json, struct err *err)
{
    struct normalizer x = { .kind = NORMALIZER_STRIP };
    int rc = component_bool(o, json, "strip_left", &x.left, err);
    if (rc || (rc = component_bool(o, json, "strip_right", &x.right, err)))
        return rc;
    return normalizer_add(o->tok, &x, o->where, err);
}

static int open_prepend(struct opening *o, const json_t *json, struct err *err)
{
    const char *text;
    int rc = json_get_string(json, o->where, "prepend", &text, err);
    if (rc || !text)
        return rc ? rc : component_fail(o, "Prepend", "has no \"prepend\"", err);
    struct normalizer x = { .kind = NORMALIZER_PREPEND, .content = mem_strdup(text) };
    return x.content ? normalizer_add(o->tok, &x, o->where, err) : err_nomem(err, "a normalizer");
}

static int open_replace(struct opening *o, const json_t *json, struct err *err)
{
    struct normalizer x = { .kind = NORMALIZER_REPLACE };
    const char *content;
    int rc = json_get_string(json, o->where, "content", &content, err);
    if (!rc && !content)
        rc = component_fail(o, "Replace", "has no \"content\"", err);
    if (!rc)
        rc = component_pattern(o, json, "Replace", &x.regex, err);
    if (rc)
        return rc;
    if ((x.content = mem_strdup(content)))
        return normalizer_add(o->tok, &x, o->where, err);
    normalizer_release(&x);
    return err_nomem(err, "a normalizer");
}

static int open_precompiled(struct opening *o, const json_t *json, struct err *err)
{
    struct normalizer x = { .kind = NORMALIZER_CHARSMAP };
    const char *text;
    char *data = NULL;
    size_t n;
    int rc = json_get_string(json, o->where, "precompiled_charsmap", &text, err);
    if (!rc && (!text || !base64_decode(text, strlen(text), &data, &n)))
        rc = component_fail(o, "Precompiled", "the precompiled_charsmap must be base64", err);
    if (!rc)
        rc = charsmap_open(&x.charsmap, data, n, o->where, err);
    free(data);
    return rc ? rc : normalizer_add(o->tok, &x, o->where, err);
}

int open_normalizer(struct opening *o, const json_t *json, struct err *err)
{
    static const struct component table[] = {
        { "NFC", "", open_simple, NORMALIZER_NFC },
        { "NFD", "", open_simple, NORMALIZER_NFD },
        { "NFKC", "", open_simple, NORMALIZER_NFKC },
        { "NFKD", "", open_simple, NORMALIZER_NFKD },
        { "Lowercase", "", open_simple, NORMALIZER_LOWERCASE },
        { "StripAccents", "", open_simple, NORMALIZER_STRIP_ACCENTS },
        { "Nmt", "", open_simple, NORMALIZER_NMT },
        { "BertNormalizer", "clean_text handle_chinese_chars strip_accents lowercase", open_bert, 0 },
        { "Strip", "strip_left strip_right", open_strip, 0 },
        { "Prepend", "prepend", open_prepend, 0 },
        { "Replace", "pattern content", open_replace, 0 },
        { "Precompiled", "precompiled_charsmap", open_precompiled, 0 },
        { "Sequence", "normalizers", open_normalizer_sequence, 0 },
    };
    return component_open(o, table, sizeof table / sizeof *table, json, err);
}
