#include "core/tokenizer/components.h"

#include "core/base/mem.h"
#include "core/base/strbuf.h"

#include <string.h>

enum { DEEPEST = 8 }; /* of Sequences; real files have one */

struct component {
    const char *type;
    const char *keys; /* besides "type", separated by spaces */
    int (*open)(struct opening *o, const json_t *json, struct err *err);
};

static int fail(const struct opening *o, const char *type, const char *problem, struct err *err)
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

static int open_component(struct opening *o, const struct component *table, size_t n, const json_t *json,
                          struct err *err)
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
        return fail(o, type, "Sequences are nested too deeply", err);
    for (size_t i = 0; i < n; i++)
        if (!strcmp(table[i].type, type)) {
            if ((rc = check_keys(o, &table[i], json, err)))
                return rc;
            o->depth++;
            rc = table[i].open(o, json, err);
            o->depth--;
            return rc;
        }
    return unknown_type(o, table, n, type, err);
}

static int open_all(struct opening *o, const json_t *json, const char *key,
                    int (*open)(struct opening *, const json_t *, struct err *), struct err *err)
{
    json_t *list;
    int rc = json_get_array(json, o->where, key, &list, err);
    if (!rc && !list)
        rc = fail(o, "Sequence", "has no list of components", err);
    for (size_t i = 0; !rc && i < json_array_size(list); i++)
        rc = open(o, json_array_get(list, i), err);
    return rc;
}

static int need_bool(const struct opening *o, const json_t *json, const char *key, bool *out, struct err *err)
{
    if (!json_is_boolean(json_object_get(json, key)))
        return err_set(err, ERR_FORMAT, "%s: %s: key \"%s\" must be true or false", o->where, o->stage, key);
    return json_get_bool_or(json, o->where, key, false, out, err);
}

/* Normalizers. */

static int add_normalizer(struct opening *o, struct normalizer normalizer, const char *type, struct err *err)
{
    if (o->tok->n_normalizers == NORMALIZERS_MOST)
        return fail(o, type, "too many normalizers", err);
    o->tok->normalizers[o->tok->n_normalizers++] = normalizer;
    return 0;
}

static int open_nfc(struct opening *o, const json_t *json, struct err *err)
{
    (void)json;
    return add_normalizer(o, (struct normalizer){ .kind = NORMALIZER_NFC }, "NFC", err);
}

static int open_nfd(struct opening *o, const json_t *json, struct err *err)
{
    (void)json;
    return add_normalizer(o, (struct normalizer){ .kind = NORMALIZER_NFD }, "NFD", err);
}

static int open_nfkc(struct opening *o, const json_t *json, struct err *err)
{
    (void)json;
    return add_normalizer(o, (struct normalizer){ .kind = NORMALIZER_NFKC }, "NFKC", err);
}

static int open_nfkd(struct opening *o, const json_t *json, struct err *err)
{
    (void)json;
    return add_normalizer(o, (struct normalizer){ .kind = NORMALIZER_NFKD }, "NFKD", err);
}

static int open_normalizer_sequence(struct opening *o, const json_t *json, struct err *err)
{
    return open_all(o, json, "normalizers", open_normalizer, err);
}

int open_normalizer(struct opening *o, const json_t *json, struct err *err)
{
    static const struct component table[] = {
        { "NFC", "", open_nfc },
        { "NFD", "", open_nfd },
        { "NFKC", "", open_nfkc },
        { "NFKD", "", open_nfkd },
        { "Sequence", "normalizers", open_normalizer_sequence },
    };
    return open_component(o, table, sizeof table / sizeof *table, json, err);
}

/* Pre-tokenizers. */

static void add_name(struct opening *o, const char *name)
{
    if (o->names->len)
        strbuf_addc(o->names, '+');
    strbuf_adds(o->names, name);
}

static int open_byte_level(struct opening *o, const json_t *json, struct err *err)
{
    bool prefix, trim, regex;
    int rc = need_bool(o, json, "add_prefix_space", &prefix, err);
    if (rc || (rc = need_bool(o, json, "trim_offsets", &trim, err)) ||
        (rc = json_get_bool_or(json, o->where, "use_regex", true, &regex, err)))
        return rc;
    add_name(o, "ByteLevel");
    return pre_add_byte_level(o->tok, prefix, regex, o->where, err);
}

static int open_split(struct opening *o, const json_t *json, struct err *err)
{
    const json_t *pattern = json_object_get(json, "pattern");
    const char *behavior, *regex, *text;
    bool invert;
    int rc = json_get_string(json, o->where, "behavior", &behavior, err);
    if (rc || (rc = need_bool(o, json, "invert", &invert, err)))
        return rc;
    if (!behavior || strcmp(behavior, "Isolated"))
        return fail(o, "Split", "only the behavior Isolated is supported", err);
    if (invert)
        return fail(o, "Split", "invert is not supported", err);
    if (!json_is_object(pattern) || json_object_size(pattern) != 1)
        return fail(o, "Split", "the pattern must be an object with Regex or String", err);
    if ((rc = json_get_string(pattern, o->where, "Regex", &regex, err)) ||
        (rc = json_get_string(pattern, o->where, "String", &text, err)))
        return rc;
    if ((!regex || !*regex) && (!text || !*text))
        return fail(o, "Split", "the pattern must have a Regex or String that is not empty", err);
    add_name(o, "Split");
    return pre_add_split(o->tok, regex ? regex : text, !regex, o->where, err);
}

static int open_digits(struct opening *o, const json_t *json, struct err *err)
{
    bool individual;
    int rc = need_bool(o, json, "individual_digits", &individual, err);
    if (rc)
        return rc;
    add_name(o, "Digits");
    return pre_add_digits(o->tok, individual, o->where, err);
}

static int open_pre_sequence(struct opening *o, const json_t *json, struct err *err)
{
    return open_all(o, json, "pretokenizers", open_pre_tokenizer, err);
}

int open_pre_tokenizer(struct opening *o, const json_t *json, struct err *err)
{
    static const struct component table[] = {
        { "ByteLevel", "add_prefix_space trim_offsets use_regex", open_byte_level },
        { "Split", "pattern behavior invert", open_split },
        { "Digits", "individual_digits", open_digits },
        { "Sequence", "pretokenizers", open_pre_sequence },
    };
    return open_component(o, table, sizeof table / sizeof *table, json, err);
}

/* Decoders are not run: they must say what the spelling of the vocabulary (internal.h) says. */

static int ignore(struct opening *o, const json_t *json, struct err *err)
{
    (void)o, (void)json, (void)err;
    return 0;
}

static int open_byte_level_decoder(struct opening *o, const json_t *json, struct err *err)
{
    (void)json;
    return o->tok->byte_level ? 0 : fail(o, "ByteLevel", "without the pre-tokenizer ByteLevel is not supported", err);
}

static int need_text(const struct opening *o, const json_t *json, const char *type, const char *key, const char *text,
                     struct err *err)
{
    const char *value;
    int rc = json_get_string(json, o->where, key, &value, err);
    if (rc || (value && !strcmp(value, text)))
        return rc;
    return err_set(err, ERR_UNSUPPORTED, "%s: %s %s: only the %s \"%s\" is supported", o->where, o->stage, type, key,
                   text);
}

static int open_replace_decoder(struct opening *o, const json_t *json, struct err *err)
{
    const json_t *pattern = json_object_get(json, "pattern");
    if (!json_is_object(pattern) || json_object_size(pattern) != 1)
        return fail(o, "Replace", "the pattern must be an object with String", err);
    int rc = need_text(o, pattern, "Replace", "String", METASPACE, err);
    return rc ? rc : need_text(o, json, "Replace", "content", " ", err);
}

static int open_strip_decoder(struct opening *o, const json_t *json, struct err *err)
{
    return need_text(o, json, "Strip", "content", " ", err);
}

static int open_metaspace_decoder(struct opening *o, const json_t *json, struct err *err)
{
    return need_text(o, json, "Metaspace", "replacement", METASPACE, err);
}

static int open_decoder_sequence(struct opening *o, const json_t *json, struct err *err)
{
    return open_all(o, json, "decoders", open_decoder, err);
}

int open_decoder(struct opening *o, const json_t *json, struct err *err)
{
    static const struct component table[] = {
        { "ByteLevel", "add_prefix_space trim_offsets use_regex", open_byte_level_decoder },
        { "Metaspace", "replacement prepend_scheme split add_prefix_space str_rep", open_metaspace_decoder },
        { "Replace", "pattern content", open_replace_decoder },
        { "ByteFallback", "", ignore },
        { "Fuse", "", ignore },
        { "Strip", "content start stop", open_strip_decoder },
        { "Sequence", "decoders", open_decoder_sequence },
    };
    return open_component(o, table, sizeof table / sizeof *table, json, err);
}

/* Post-processors. */

static bool is_text_of(const struct tokenizer *tok, int32_t id, const json_t *text)
{
    const struct token_text *t = &tok->vocab.token[id];
    return t->text && t->len == json_string_length(text) && !memcmp(t->text, json_string_value(text), t->len);
}

/* The ids of one special token of a template, each checked against the vocabulary. */
static int template_ids(struct opening *o, const json_t *specials, const json_t *piece, int32_t *out, size_t *n,
                        struct err *err)
{
    const char *name;
    json_t *special, *ids, *tokens;
    int rc = json_get_string(piece, o->where, "id", &name, err);
    if (rc || !name)
        return rc ? rc : fail(o, "TemplateProcessing", "a SpecialToken has no id", err);
    special = json_object_get(specials, name);
    if (!json_is_object(special))
        return err_set(err, ERR_FORMAT, "%s: post_processor: special token \"%.64s\" is not in special_tokens",
                       o->where, name);
    if ((rc = json_get_array(special, o->where, "ids", &ids, err)) ||
        (rc = json_get_array(special, o->where, "tokens", &tokens, err)))
        return rc;
    if (!json_array_size(ids) || json_array_size(ids) != json_array_size(tokens))
        return err_set(err, ERR_FORMAT, "%s: post_processor: special token \"%.64s\" has not as many ids as tokens",
                       o->where, name);
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i), *token = json_array_get(tokens, i);
        json_int_t value = json_integer_value(id);
        if (!json_is_integer(id) || value < 0 || (size_t)value >= o->tok->vocab.n || !json_is_string(token) ||
            !is_text_of(o->tok, (int32_t)value, token))
            return err_set(err, ERR_FORMAT,
                           "%s: post_processor: special token \"%.64s\" has an id that is not its token's", o->where,
                           name);
        if (*n == TEMPLATE_MOST)
            return fail(o, "TemplateProcessing", "puts too many tokens around a text", err);
        out[(*n)++] = (int32_t)value;
    }
    return 0;
}

static void insert(int32_t *ids, size_t *n, size_t at, const int32_t *added, size_t n_added)
{
    memmove(ids + at + n_added, ids + at, (*n - at) * sizeof *ids);
    memcpy(ids + at, added, n_added * sizeof *ids);
    *n += n_added;
}

/* "single": special tokens around one sequence A. "pair" is never used. */
static int open_template(struct opening *o, const json_t *json, struct err *err)
{
    json_t *single, *specials;
    int32_t before[TEMPLATE_MOST], after[TEMPLATE_MOST];
    size_t n_before = 0, n_after = 0, n_sequences = 0;
    int rc = json_get_array(json, o->where, "single", &single, err);
    if (rc || (rc = json_get_object(json, o->where, "special_tokens", &specials, err)))
        return rc;
    for (size_t i = 0; !rc && i < json_array_size(single); i++) {
        const json_t *piece = json_array_get(single, i), *token = json_object_get(piece, "SpecialToken"),
                     *sequence = json_object_get(piece, "Sequence");
        const char *id = json_string_value(json_object_get(sequence, "id"));
        if (json_is_object(token))
            rc = n_sequences ? template_ids(o, specials, token, after, &n_after, err)
                             : template_ids(o, specials, token, before, &n_before, err);
        else if (id && !strcmp(id, "A"))
            n_sequences++;
        else
            return fail(o, "TemplateProcessing", "\"single\" may hold SpecialToken and Sequence A only", err);
    }
    if (rc)
        return rc;
    if (n_sequences != 1)
        return fail(o, "TemplateProcessing", "\"single\" must hold Sequence A once", err);
    if (o->tok->n_before + n_before > TEMPLATE_MOST || o->tok->n_after + n_after > TEMPLATE_MOST)
        return fail(o, "TemplateProcessing", "puts too many tokens around a text", err);
    insert(o->tok->before, &o->tok->n_before, 0, before, n_before);
    insert(o->tok->after, &o->tok->n_after, o->tok->n_after, after, n_after);
    return 0;
}

static int open_post_sequence(struct opening *o, const json_t *json, struct err *err)
{
    return open_all(o, json, "processors", open_post_processor, err);
}

int open_post_processor(struct opening *o, const json_t *json, struct err *err)
{
    static const struct component table[] = {
        { "ByteLevel", "add_prefix_space trim_offsets use_regex", ignore }, /* it trims offsets only */
        { "TemplateProcessing", "single pair special_tokens", open_template },
        { "Sequence", "processors", open_post_sequence },
    };
    return open_component(o, table, sizeof table / sizeof *table, json, err);
}

/* Added tokens. */

static int open_added_token(struct opening *o, const json_t *json, int32_t *next_id, struct err *err)
{
    const char *content;
    size_t id;
    struct added_token t = { 0 };
    if (!json_is_object(json))
        return err_set(err, ERR_FORMAT, "%s: added_tokens must hold objects", o->where);
    int rc = json_get_string(json, o->where, "content", &content, err);
    if (rc || (rc = json_get_size(json, o->where, "id", 0, INT32_MAX - 1, &id, err)) ||
        (rc = need_bool(o, json, "single_word", &t.single_word, err)) ||
        (rc = need_bool(o, json, "lstrip", &t.lstrip, err)) || (rc = need_bool(o, json, "rstrip", &t.rstrip, err)) ||
        (rc = need_bool(o, json, "normalized", &t.normalized, err)) ||
        (rc = need_bool(o, json, "special", &t.special, err)))
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
