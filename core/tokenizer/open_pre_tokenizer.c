/* The pre-tokenizers of a tokenizer.json. */
#include "core/tokenizer/components.h"

#include "core/base/strbuf.h"
#include "core/base/utf8.h"

#include <string.h>

static void add_name(struct opening *o, const char *name)
{
    if (o->names->len)
        strbuf_addc(o->names, '+');
    strbuf_adds(o->names, name);
}

static int open_byte_level(struct opening *o, const json_t *json, struct err *err)
{
    bool prefix, trim, regex;
    int rc = component_bool(o, json, "add_prefix_space", &prefix, err);
    if (rc || (rc = component_bool(o, json, "trim_offsets", &trim, err)) ||
        (rc = json_get_bool_or(json, o->where, "use_regex", true, &regex, err)))
        return rc;
    add_name(o, "ByteLevel");
    return pre_add_byte_level(o->tok, prefix, regex, o->where, err);
}

static int read_behavior(struct opening *o, const char *type, const json_t *json, enum split_behavior *out,
                         struct err *err)
{
    static const char *const names[] = { [SPLIT_ISOLATED] = "Isolated",
                                         [SPLIT_REMOVED] = "Removed",
                                         [SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
                                         [SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
                                         [SPLIT_CONTIGUOUS] = "Contiguous" };
    const char *name;
    int rc = json_get_string(json, o->where, "behavior", &name, err);
    if (rc)
        return rc;
    for (size_t i = 0; name && i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i])) {
            *out = (enum split_behavior)i;
            return 0;
        }
    return component_fail(
        o, type, "the behavior must be Isolated, Removed, MergedWithPrevious, MergedWithNext or Contiguous", err);
}

static int open_split(struct opening *o, const json_t *json, struct err *err)
{
    struct pre_tokenizer pre = { .kind = PRE_SPLIT };
    int rc = read_behavior(o, "Split", json, &pre.behavior, err);
    if (rc || (rc = component_bool(o, json, "invert", &pre.invert, err)) ||
        (rc = component_pattern(o, json, "Split", &pre.regex, err)))
        return rc;
    add_name(o, "Split");
    return pre_add(o->tok, pre, o->where, err);
}

static int open_digits(struct opening *o, const json_t *json, struct err *err)
{
    bool individual;
    int rc = component_bool(o, json, "individual_digits", &individual, err);
    if (rc)
        return rc;
    add_name(o, "Digits");
    return pre_add_class(o->tok, char_is_numeric, individual ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS, o->where, err);
}

static int open_metaspace(struct opening *o, const json_t *json, struct err *err)
{
    static const char *const schemes[] = {
        [PREPEND_ALWAYS] = "always", [PREPEND_FIRST] = "first", [PREPEND_NEVER] = "never"
    };
    struct pre_tokenizer pre = { .kind = PRE_METASPACE };
    const char *scheme;
    bool prefix;
    size_t i = 0;
    int rc = component_text(o, json, "Metaspace", "replacement", METASPACE, err);
    if (rc || (rc = json_get_string(json, o->where, "prepend_scheme", &scheme, err)) ||
        (rc = json_get_bool_or(json, o->where, "split", true, &pre.split, err)) ||
        (rc = json_get_bool_or(json, o->where, "add_prefix_space", true, &prefix, err)))
        return rc;
    while (scheme && i < sizeof schemes / sizeof *schemes && strcmp(scheme, schemes[i]))
        i++;
    if (i == sizeof schemes / sizeof *schemes)
        return component_fail(o, "Metaspace", "the prepend_scheme must be always, first or never", err);
    pre.prepend = (enum prepend_scheme)i;
    if (!prefix && pre.prepend != PREPEND_NEVER)
        return component_fail(o, "Metaspace", "add_prefix_space and prepend_scheme contradict each other", err);
    add_name(o, "Metaspace");
    return pre_add(o->tok, pre, o->where, err);
}

static int open_whitespace_split(struct opening *o, const json_t *json, struct err *err)
{
    (void)json;
    add_name(o, "WhitespaceSplit");
    return pre_add_class(o->tok, char_is_space, SPLIT_REMOVED, o->where, err);
}

/* \w+|[^\w\s]+ */
static int open_whitespace(struct opening *o, const json_t *json, struct err *err)
{
    (void)json;
    add_name(o, "Whitespace");
    int rc = pre_add_class(o->tok, char_is_space, SPLIT_REMOVED, o->where, err);
    return rc ? rc : pre_add_class(o->tok, char_is_word, SPLIT_CONTIGUOUS, o->where, err);
}

static int open_punctuation(struct opening *o, const json_t *json, struct err *err)
{
    enum split_behavior behavior = SPLIT_ISOLATED;
    int rc = json_object_get(json, "behavior") ? read_behavior(o, "Punctuation", json, &behavior, err) : 0;
    if (rc)
        return rc;
    add_name(o, "Punctuation");
    return pre_add_class(o->tok, char_is_punctuation, behavior, o->where, err);
}

static int open_bert_pre_tokenizer(struct opening *o, const json_t *json, struct err *err)
{
    (void)json;
    add_name(o, "BertPreTokenizer");
    return pre_add_bert(o->tok, o->where, err);
}

static int open_char_delimiter(struct opening *o, const json_t *json, struct err *err)
{
    const char *delimiter;
    uint32_t cp;
    int rc = json_get_string(json, o->where, "delimiter", &delimiter, err);
    if (rc)
        return rc;
    if (!delimiter || !*delimiter || utf8_decode(delimiter, strlen(delimiter), &cp) != strlen(delimiter))
        return component_fail(o, "CharDelimiterSplit", "the delimiter must be one character", err);
    add_name(o, "CharDelimiterSplit");
    return pre_add_split(o->tok, delimiter, true, SPLIT_REMOVED, false, o->where, err);
}

static int open_pre_sequence(struct opening *o, const json_t *json, struct err *err)
{
    return component_open_list(o, json, "pretokenizers", open_pre_tokenizer, err);
}

int open_pre_tokenizer(struct opening *o, const json_t *json, struct err *err)
{
    static const struct component table[] = {
        { "ByteLevel", "add_prefix_space trim_offsets use_regex", open_byte_level, 0 },
        { "Split", "pattern behavior invert", open_split, 0 },
        { "Digits", "individual_digits", open_digits, 0 },
        { "Metaspace", "replacement prepend_scheme split add_prefix_space str_rep", open_metaspace, 0 },
        { "Whitespace", "", open_whitespace, 0 },
        { "WhitespaceSplit", "", open_whitespace_split, 0 },
        { "Punctuation", "behavior", open_punctuation, 0 },
        { "BertPreTokenizer", "", open_bert_pre_tokenizer, 0 },
        { "CharDelimiterSplit", "delimiter", open_char_delimiter, 0 },
        { "Sequence", "pretokenizers", open_pre_sequence, 0 },
    };
    return component_open(o, table, sizeof table / sizeof *table, json, err);
}
