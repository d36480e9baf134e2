/* The post-processors of a tokenizer.json. */
#include "core/tokenizer/components.h"

#include <string.h>

static bool is_id_of(const struct tokenizer *tok, const json_t *id, const json_t *text)
{
    json_int_t value = json_integer_value(id);
    if (!json_is_integer(id) || value < 0 || (size_t)value >= tok->vocab.n || !json_is_string(text))
        return false;
    const struct token_text *t = &tok->vocab.token[value];
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
        return rc ? rc : component_fail(o, "TemplateProcessing", "a SpecialToken has no id", err);
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
        const json_t *id = json_array_get(ids, i);
        if (!is_id_of(o->tok, id, json_array_get(tokens, i)))
            return err_set(err, ERR_FORMAT,
                           "%s: post_processor: special token \"%.64s\" has an id that is not its token's", o->where,
                           name);
        if (*n == TEMPLATE_MOST)
            return component_fail(o, "TemplateProcessing", "puts too many tokens around a text", err);
        out[(*n)++] = (int32_t)json_integer_value(id);
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
            return component_fail(o, "TemplateProcessing", "\"single\" may hold SpecialToken and Sequence A only", err);
    }
    if (rc)
        return rc;
    if (n_sequences != 1)
        return component_fail(o, "TemplateProcessing", "\"single\" must hold Sequence A once", err);
    if (o->tok->n_before + n_before > TEMPLATE_MOST || o->tok->n_after + n_after > TEMPLATE_MOST)
        return component_fail(o, "TemplateProcessing", "puts too many tokens around a text", err);
    insert(o->tok->before, &o->tok->n_before, 0, before, n_before);
    insert(o->tok->after, &o->tok->n_after, o->tok->n_after, after, n_after);
    return 0;
}

/* ["[CLS]", 101], checked against the vocabulary. */
static int read_pair(struct opening *o, const json_t *json, const char *key, int32_t *out, struct err *err)
{
    const json_t *pair = json_object_get(json, key), *text = json_array_get(pair, 0), *id = json_array_get(pair, 1);
    if (json_array_size(pair) != 2 || !is_id_of(o->tok, id, text))
        return err_set(err, ERR_FORMAT, "%s: post_processor: key \"%s\" must be a token of the vocabulary and its id",
                       o->where, key);
    *out = (int32_t)json_integer_value(id);
    return 0;
}

/* BERT's and RoBERTa's, which is the same but for the offsets. */
static int open_cls_sep(struct opening *o, const json_t *json, struct err *err)
{
    struct tokenizer *tok = o->tok;
    int32_t cls = 0, sep = 0;
    int rc = read_pair(o, json, "cls", &cls, err);
    if (rc || (rc = read_pair(o, json, "sep", &sep, err)))
        return rc;
    if (tok->n_before == TEMPLATE_MOST || tok->n_after == TEMPLATE_MOST)
        return component_fail(o, "Sequence", "puts too many tokens around a text", err);
    insert(tok->before, &tok->n_before, 0, &cls, 1);
    insert(tok->after, &tok->n_after, tok->n_after, &sep, 1);
    return 0;
}

static int open_post_sequence(struct opening *o, const json_t *json, struct err *err)
{
    return component_open_list(o, json, "processors", open_post_processor, err);
}

int open_post_processor(struct opening *o, const json_t *json, struct err *err)
{
    static const struct component table[] = {
        { "ByteLevel", "add_prefix_space trim_offsets use_regex", component_ignore, 0 }, /* it trims offsets only */
        { "TemplateProcessing", "single pair special_tokens", open_template, 0 },
        { "BertProcessing", "sep cls", open_cls_sep, 0 },
        { "RobertaProcessing", "sep cls trim_offsets add_prefix_space", open_cls_sep, 0 },
        { "Sequence", "processors", open_post_sequence, 0 },
    };
    return component_open(o, table, sizeof table / sizeof *table, json, err);
}
