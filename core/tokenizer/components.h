/*
 * The components of a tokenizer.json, found by their "type" in the table of their stage. A type, key or value that is
 * not understood is an error that names it. Internal to core/tokenizer.
 */
#ifndef STRATA_TOKENIZER_COMPONENTS_H
#define STRATA_TOKENIZER_COMPONENTS_H

#include "core/base/json.h"
#include "core/formats/json_walk.h"
#include "core/tokenizer/internal.h"

/* What is being opened; names collects the pre-tokenizers' types for the description. */
struct opening {
    struct tokenizer *tok;
    const char *where; /* file name */
    const char *stage; /* "pre_tokenizer" */
    struct strbuf *names;
    int depth, kind; /* of nesting; of the row of the component being opened */
};

/* json is an object or null (no component). */
int open_normalizer(struct opening *o, const json_t *json, struct err *err);
int open_pre_tokenizer(struct opening *o, const json_t *json, struct err *err);
/* After the vocabulary and the added tokens: its ids are checked. */
int open_post_processor(struct opening *o, const json_t *json, struct err *err);
int open_decoder(struct opening *o, const json_t *json, struct err *err);
int open_added_tokens(struct opening *o, const json_t *json, struct err *err);
/* For the stages. A row of a stage's table: */
struct component {
    const char *type;
    const char *keys; /* besides "type", separated by spaces */
    int (*open)(struct opening *o, const json_t *json, struct err *err);
    int kind; /* for open, where several rows share it */
};
int component_open(struct opening *o, const struct component *table, size_t n, const json_t *json, struct err *err);
/* Every item of a Sequence's list under `key`. */
int component_open_list(struct opening *o, const json_t *json, const char *key,
                        int (*open)(struct opening *, const json_t *, struct err *), struct err *err);
int component_fail(const struct opening *o, const char *type, const char *problem, struct err *err);
/* One that needs nothing done. */
int component_ignore(struct opening *o, const json_t *json, struct err *err);
/* The key must be there. */
int component_bool(const struct opening *o, const json_t *json, const char *key, bool *out, struct err *err);
/* The key, where it is given, must have this text. */
int component_text(const struct opening *o, const json_t *json, const char *type, const char *key, const char *text,
                   struct err *err);
/* {"Regex": "..."} or {"String": "..."} under the key "pattern". */
int component_pattern(struct opening *o, const json_t *json, const char *type, struct regex **out, struct err *err);
/* Fills in what follows from all the components. */
int opening_finish(const struct opening *o, struct err *err);
/* Whether `word` is one of `words`, which are separated by spaces. */
bool component_has_word(const char *words, const char *word);

/* The "model" object, still as text: its vocabulary and merges have hundreds of thousands of entries. */
int open_model(struct opening *o, const char *text, size_t n, struct err *err);
struct model_parts {
    json_t *settings;                /* all keys but these two */
    struct json_slice vocab, merges; /* text NULL: absent */
};
int open_bpe(struct opening *o, const struct model_parts *parts, struct err *err);
int open_wordpiece(struct opening *o, const struct model_parts *parts, struct err *err);
int open_unigram(struct opening *o, const struct model_parts *parts, struct err *err);
/* The string behind a slice to out, which has room for slice.n bytes; false when it is no valid JSON string. */
bool model_string(struct json_slice slice, char *out, size_t *len);
int model_bad_entry(const struct opening *o, const char *list, size_t i, struct json_slice slice, struct err *err);
/* An object of text to id. */
int model_vocab(struct opening *o, struct json_slice slice, struct err *err);

#endif
