/*
 * Tokenizers: text to ids and exact byte offsets, equal to Hugging Face's
 * `tokenizers` library. Anything in a tokenizer file that is not understood is
 * an error when it is opened, never a guess.
 *
 *     struct tokenizer *tok;
 *     if (tokenizer_open_json(&tok, data, size, "tokenizer.json", &err)) ...
 *     struct tokens t = { 0 };
 *     if (tokenizer_encode(tok, "The Eiffel Tower", 16, SPECIALS_AUTO, &t, &err)) ...
 *     for (size_t i = 0; i < t.n; i++)
 *         printf("%d [%d,%d)\n", t.id[i], t.begin[i], t.end[i]);
 *     tokens_release(&t);
 *     tokenizer_free(tok);
 *
 * A tokenizer is immutable after opening: any number of threads may encode.
 */
#ifndef STRATA_TOKENIZER_TOKENIZER_H
#define STRATA_TOKENIZER_TOKENIZER_H

#include "core/base/err.h"
#include "core/base/json.h"
#include "core/formats/gguf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer;

/* Special tokens around a text: what the tokenizer's post-processor adds; none; that, and BOS first in any case. */
enum specials { SPECIALS_AUTO, SPECIALS_NONE, SPECIALS_BOS };

/*
 * Parallel arrays of n tokens. begin/end are bytes of the input text, not trimmed (" Paris" has its space), so that
 * the tokens cover the text without gaps; exceptions:
 * - special tokens that the post-processor adds have begin == end, as has a space or U+2581 put before the text;
 * - where a normalizer changed characters, a token has the whole characters that `tokenizers` gives it: those that it
 *   came from, without what was left out (a mark composed with the letter before, a control character); what one
 *   character became shares its span; white space that a pre-tokenizer removes belongs to no token;
 * - the byte tokens ("<0x0A>") of Unigram all have the span of the text that has no token, those of BPE a byte each;
 * - added tokens that swallow spaces and added tokens made of spaces can overlap, as in `tokenizers`;
 * - what a pre-tokenizer removes has no token: the spaces between words of WordPiece ("Paris", not " Paris");
 * - bytes without a token in a vocabulary without unk are left out, as in `tokenizers`; n_dropped counts them.
 * `tokenizers` itself gives each token that holds a part of a character the whole character; here it has its bytes.
 */
struct tokens {
    int32_t *id, *begin, *end;
    size_t n, capacity, n_dropped;
};

void tokens_release(struct tokens *t);
void tokens_clear(struct tokens *t); /* n = 0, memory kept */

int tokenizer_open_json(struct tokenizer **out, const void *data, size_t size, const char *name, struct err *err);
/*
 * What a folder without tokenizer.json has: vocab.txt, or vocab.json and merges.txt, and settings, NULL where there are
 * none. As transformers reads them for a model of this type (config.json's model_type); ERR_UNSUPPORTED for others.
 * RoBERTa's <mask> takes the space before it, as in the tokenizer.json that its models have.
 */
struct tokenizer_file {
    const char *data, *name; /* data NULL: absent */
    size_t size;
};
struct tokenizer_files {
    struct tokenizer_file vocab, merges; /* merges: with a vocab.json */
    const json_t *config;                /* tokenizer_config.json */
    const json_t *specials;              /* special_tokens_map.json */
    const json_t *added;                 /* added_tokens.json */
    const char *model_type;
};
int tokenizer_open_files(struct tokenizer **out, const struct tokenizer_files *files, struct err *err);
/* From tokenizer.ggml.* metadata; an unknown model or pre-tokenizer is an error. Copies what it needs. */
int tokenizer_open_gguf(struct tokenizer **out, const struct gguf *g, struct err *err);
void tokenizer_free(struct tokenizer *tok); /* NULL is fine */

/*
 * Replaces *out's contents. Added tokens inside the text ("<|endoftext|>") become their ids, special ones too.
 * SPECIALS_BOS adds what SPECIALS_AUTO does and BOS before it unless BOS is first already; ERR_UNSUPPORTED without a
 * BOS. The truncation and padding that a tokenizer.json may ask for are not applied. The text must be valid UTF-8
 * (ERR_FORMAT names the byte offset otherwise).
 */
int tokenizer_encode(const struct tokenizer *tok, const char *text, size_t len, enum specials specials,
                     struct tokens *out, struct err *err);

size_t tokenizer_size(const struct tokenizer *tok); /* 1 + the largest id */
/* The bytes a token stands for in running text (" Paris"), not always whole UTF-8. Borrowed; NULL for an unused id. */
const char *tokenizer_bytes(const struct tokenizer *tok, int32_t id, size_t *len);
/* Id whose bytes are exactly these, or -1. */
int32_t tokenizer_find(const struct tokenizer *tok, const char *bytes, size_t len);
bool tokenizer_is_special(const struct tokenizer *tok, int32_t id);
int32_t tokenizer_bos(const struct tokenizer *tok); /* -1 where there is none */
int32_t tokenizer_eos(const struct tokenizer *tok);
/*
 * Tells BOS and EOS where the tokenizer file does not (tokenizer.json never does; config.json and
 * tokenizer_config.json do); -1 leaves it. Only while opening a model.
 */
void tokenizer_set_bos_eos(struct tokenizer *tok, int32_t bos, int32_t eos);
/* "byte-level BPE, 49152 tokens, pre-tokenizer smollm", "BPE with byte fallback, 32000 tokens": one line for `info`. */
const char *tokenizer_describe(const struct tokenizer *tok);

#endif
