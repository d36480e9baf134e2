/*
 * From facts to batches: tokenises prompts, finds subject tokens and answer
 * tokens by the rules of design section 4, and packs prompts into batches of a
 * few hundred rows, in file order.
 *
 *     struct batcher *batcher;
 *     batcher_open(&batcher, model, facts, SPECIALS_AUTO, limit, runtime_batch_rows(), &err);
 *     struct batch *batch;
 *     while ((got = batcher_next(batcher, &batch, &err)) > 0)
 *         runtime_forward(rt, &(struct forward){ .prompts = batch->prompts, .n_prompts = batch->n, ... }, &err);
 *     batcher_close(batcher);
 *
 * Memory is bounded by the batch, whatever the number of facts.
 */
#ifndef STRATA_RUNTIME_PREPARE_H
#define STRATA_RUNTIME_PREPARE_H

#include "core/formats/facts.h"
#include "core/runtime/runtime.h"

/* One fact, ready to run. Strings and arrays are owned (prepared_release). */
struct prepared {
    char *id, *text;                   /* text: the prompt; "" where only token ids were given */
    char *answer, *relation, *subject; /* "" where absent */
    struct tokens tokens;              /* ids and byte spans of `text` (spans 0,0 where only ids were given) */
    size_t subject_begin, subject_end; /* token span; equal: no subject */
    int32_t answer_token;              /* first token of the answer; -1 where none was given */
    int32_t *answer_tokens;            /* all of its tokens */
    size_t n_answer_tokens;
    bool answer_retokenized; /* prompt + answer changed the prompt's own tokens; " answer" was tokenised alone */
    size_t n_after;          /* tokens behind the one that is read, see struct prompt */
};

/*
 * Errors name the file's line through `where` ("facts.jsonl: line 3"): empty prompt after tokenising, subject not
 * found in the prompt, token id outside the vocabulary, prompt longer than the model's context, answer without tokens,
 * no mask or several where the model answers at one.
 */
int prepare_fact(const struct model *model, const struct fact *fact, enum specials specials, const char *where,
                 struct prepared *out, struct err *err);
void prepared_release(struct prepared *p);
/* A view of it. */
struct prompt prepared_prompt(const struct prepared *p);
/* Whether the model answers at a mask: an encoder with a masked-LM head. */
bool prepare_masked(const struct model *model);

/*
 * Tokens of `answer` as the continuation of `prompt`: what follows the prompt's own tokens in prompt + " " + answer.
 * No space where the prompt ends in one or both sides are of a script without spaces. Where the prompt's own tokens
 * change, the tokens of " " + answer alone, and *retokenized is set. *tokens is the caller's (free). A masked prompt:
 * what stands between its own tokens when the answer takes the mask's place.
 */
int prepare_answer(const struct model *model, const char *prompt, const char *answer, int32_t **tokens, size_t *n,
                   bool *retokenized, struct err *err);
/* Token span that overlaps the chosen occurrence of `subject` in the prompt's bytes. */
int prepare_subject(const char *prompt, const struct tokens *tokens, const char *subject, bool last_occurrence,
                    size_t *begin, size_t *end, struct err *err);

struct batch {
    struct prepared *items; /* [n] */
    struct prompt *prompts; /* [n]: views of items */
    size_t *row_offset;     /* [n + 1] first packed row of each prompt */
    size_t n, n_rows;
    size_t first_prompt; /* number of items[0] in the whole input, after --limit and skipping */
};

struct batcher;
/* limit: at most so many facts (SIZE_MAX = all). Borrows model and facts. */
int batcher_open(struct batcher **out, const struct model *model, struct facts *facts, enum specials specials,
                 size_t limit, size_t batch_rows, struct err *err);
/* Prompts without a mask, or with several, are fine too: nobody asks for an answer. */
void batcher_allow_no_mask(struct batcher *b);
/* Skips facts that a resumed run already has (they are parsed and counted, not tokenised). */
int batcher_skip(struct batcher *b, size_t n, struct err *err);
/* 1: *batch is filled and valid until the next call; 0: end; negative: error. At least one prompt, at most batch_rows
 * rows unless one prompt alone is longer. */
int batcher_next(struct batcher *b, struct batch **batch, struct err *err);
/* Bytes of the prompts so far that have no token in the vocabulary and were left out (tokenizer.h). */
size_t batcher_dropped(const struct batcher *b);
void batcher_close(struct batcher *b);

#endif
