/* The decoders of a tokenizer.json. They are not run: they must say what the spelling of the vocabulary (internal.h)
 * says. */
#include "core/tokenizer/components.h"

#include <string.h>

static int open_byte_level_decoder(struct opening *o, const json_t *json, struct err *err)
{
    (void)json;
    return o->tok->byte_level
               ? 0
               : component_fail(o, "ByteLevel", "without the pre-tokenizer ByteLevel is not supported", err);
}

static int open_replace_decoder(struct opening *o, const json_t *json, struct err *err)
{
    const json_t *pattern = json_object_get(json, "pattern");
    if (!json_is_object(pattern) || json_object_size(pattern) != 1)
        return component_fail(o, "Replace", "the pattern must be an object with String", err);
    int rc = component_text(o, pattern, "Replace", "String", METASPACE, err);
    return rc ? rc : component_text(o, json, "Replace", "content", " ", err);
}

static int open_strip_decoder(struct opening *o, const json_t *json, struct err *err)
{
    return component_text(o, json, "Strip", "content", " ", err);
}

static int open_metaspace_decoder(struct opening *o, const json_t *json, struct err *err)
{
    return component_text(o, json, "Metaspace", "replacement", METASPACE, err);
}

static int open_decoder_sequence(struct opening *o, const json_t *json, struct err *err)
{
    return component_open_list(o, json, "decoders", open_decoder, err);
}

int open_decoder(struct opening *o, const json_t *json, struct err *err)
{
    static const struct component table[] = {
        { "ByteLevel", "add_prefix_space trim_offsets use_regex", open_byte_level_decoder, 0 },
        { "Metaspace", "replacement prepend_scheme split add_prefix_space str_rep", open_metaspace_decoder, 0 },
        { "Replace", "pattern content", open_replace_decoder, 0 },
        { "ByteFallback", "", component_ignore, 0 },
        { "Fuse", "", component_ignore, 0 },
        { "Strip", "content start stop", open_strip_decoder, 0 },
        { "WordPiece", "prefix cleanup", component_ignore, 0 },
        { "Sequence", "decoders", open_decoder_sequence, 0 },
    };
    return component_open(o, table, sizeof table / sizeof *table, json, err);
}
