/* Tokenizers of GGUF metadata: what the models share. Internal to core/tokenizer. */
#ifndef STRATA_TOKENIZER_OPEN_GGUF_H
#define STRATA_TOKENIZER_OPEN_GGUF_H

#include "core/tokenizer/internal.h"

enum token_type { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER_DEFINED, TYPE_UNUSED, TYPE_BYTE };

struct gguf_opening {
    struct tokenizer *tok;
    const struct gguf *g;
    const char *where;
    const char *pre;                 /* the pre-tokenizer's name, for the description; "" without one */
    int32_t strips;                  /* the added token that takes the spaces before it; -1: none */
    struct gguf_array tokens, types; /* at least one; as many, or none */
};

/* The type of token i; normal where the file has none. */
int gguf_token_type(const struct gguf_opening *o, size_t i, enum token_type *out, struct err *err);
/* *id stays where the key is absent. */
int gguf_token_id(const struct gguf_opening *o, const char *key, int32_t *id, struct err *err);
/* BOS and EOS, and whether they go around a text where the file does not say it. */
int gguf_open_around(struct gguf_opening *o, bool add_bos, bool add_eos, struct err *err);

/* One per tokenizer.ggml.model: all that comes between the vocabulary and the added tokens. */
int gguf_open_llama(struct gguf_opening *o, struct err *err);
int gguf_open_bert(struct gguf_opening *o, struct err *err);
/* A token's text as vocab.txt has it to out, which has room for n + RESPELT_LONGER bytes. */
enum { RESPELT_LONGER = 2 };
size_t gguf_respell_bert(const char *text, size_t n, char *out);
int gguf_open_t5(struct gguf_opening *o, struct err *err);

#endif
