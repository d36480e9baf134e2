/* The WordPiece model of a tokenizer.json. */
#include "core/tokenizer/components.h"

#include <string.h>

int open_wordpiece(struct opening *o, const struct model_parts *parts, struct err *err)
{
    struct tokenizer *tok = o->tok;
    const char *unk, *prefix;
    size_t most;
    int rc = json_get_string(parts->settings, o->where, "unk_token", &unk, err);
    if (rc || (rc = json_get_string(parts->settings, o->where, "continuing_subword_prefix", &prefix, err)) ||
        (rc = json_get_size(parts->settings, o->where, "max_input_chars_per_word", 0, INT32_MAX, &most, err)))
        return rc;
    if (!unk || !prefix)
        return err_set(err, ERR_FORMAT, "%s: model WordPiece has no \"%s\"", o->where,
                       unk ? "continuing_subword_prefix" : "unk_token");
    if (tok->byte_level)
        return err_set(err, ERR_UNSUPPORTED, "%s: WordPiece with the pre-tokenizer ByteLevel is not supported",
                       o->where);
    if ((rc = model_vocab(o, parts->vocab, err)))
        return rc;
    int32_t id = vocab_find(&tok->vocab, unk, strlen(unk));
    if (id < 0)
        return err_set(err, ERR_FORMAT, "%s: the unk_token '%.64s' is not in the vocabulary", o->where, unk);
    tok->model = MODEL_WORDPIECE;
    return wordpiece_init(&tok->wordpiece, &tok->vocab, prefix, id, most, err);
}
