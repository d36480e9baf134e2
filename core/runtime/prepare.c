#include "core/runtime/prepare.h"

#include "core/base/mem.h"
#include "core/base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- one fact --- */

/* Scripts that are written without spaces between words: Thai to Khmer, CJK, kana, wide forms. */
static bool is_unspaced(uint32_t c)
{
    return (c >= 0x0E00 && c <= 0x0EFF) || (c >= 0x1000 && c <= 0x109F) || (c >= 0x1780 && c <= 0x17FF) ||
           (c >= 0x2E80 && c <= 0x30FF) || (c >= 0x3100 && c <= 0x312F) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0xF900 && c <= 0xFAFF) || (c >= 0xFF00 && c <= 0xFFEF) ||
           (c >= 0x20000 && c <= 0x3FFFF);
}

static uint32_t first_character(const char *text)
{
    uint32_t c = 0;
    return utf8_decode(text, strlen(text), &c) ? c : 0;
}

static uint32_t last_character(const char *text)
{
    size_t n = strlen(text), start = n ? n - 1 : 0;
    while (start && ((unsigned char)text[start] & 0xC0) == 0x80)
        start--;
    return first_character(text + start);
}

/* What stands between a prompt and its answer in running text. */
static const char *separator(const char *prompt, const char *answer)
{
    size_t n = strlen(prompt);
    bool spaced = !n || strchr(" \t\n", prompt[n - 1]) || *answer == ' ';
    return spaced || (is_unspaced(last_character(prompt)) && is_unspaced(first_character(answer))) ? "" : " ";
}

static char *join(const char *a, const char *b, const char *c)
{
    size_t na = strlen(a), nb = strlen(b), nc = strlen(c), n;
    if (!size_add(na + nb, nc, &n) || !size_add(n, 1, &n))
        return NULL;
    char *text = mem_array(n, 1);
    if (text) {
        memcpy(text, a, na);
        memcpy(text + na, b, nb);
        memcpy(text + na + nb, c, nc + 1);
    }
    return text;
}

static int encode_joined(const struct tokenizer *tok, const char *a, const char *b, const char *c, struct tokens *out,
                         struct err *err)
{
    char *text = join(a, b, c);
    if (!text)
        return err_nomem(err, "a prompt");
    int rc = tokenizer_encode(tok, text, strlen(text), SPECIALS_NONE, out, err);
    free(text);
    return rc;
}

static int copy_ids(const int32_t *ids, size_t n, int32_t **out, struct err *err)
{
    *out = mem_array(n, sizeof **out);
    if (!*out)
        return err_nomem(err, "answer tokens");
    if (n)
        memcpy(*out, ids, n * sizeof **out);
    return 0;
}

bool prepare_masked(const struct model *model)
{
    return model->config.bidirectional && model->config.unembedding;
}

/* Tokens that are the mask, and where the first of them is. */
static size_t count_masks(const struct model *model, const struct tokens *t, size_t *first)
{
    size_t n = 0;
    for (size_t i = t->n; i-- > 0;)
        if (t->id[i] == model->mask_token) {
            *first = i;
            n++;
        }
    return n;
}

/* The prompt with the answer in the mask's place; spaces that the mask swallowed stay. */
static int encode_filled(const struct model *model, const char *prompt, const char *answer, const struct tokens *own,
                         size_t mask, struct tokens *out, struct err *err)
{
    size_t begin = (size_t)own->begin[mask];
    begin += strspn(prompt + begin, " ");
    answer += begin && strchr(" \t\n", prompt[begin - 1]) ? strspn(answer, " ") : 0;
    char *before = mem_strndup(prompt, begin);
    if (!before)
        return err_nomem(err, "a prompt");
    int rc = encode_joined(model->tokenizer, before, answer, prompt + own->end[mask], out, err);
    free(before);
    return rc;
}

/* What stands between the prompt's own tokens; else what the answer is by itself. */
static int masked_answer(const struct model *model, const char *prompt, const char *answer, int32_t **tokens, size_t *n,
                         bool *retokenized, struct err *err)
{
    struct tokens own = { 0 }, filled = { 0 };
    size_t mask = 0, skip = 0, after = 0;
    int rc = tokenizer_encode(model->tokenizer, prompt, strlen(prompt), SPECIALS_NONE, &own, err);
    bool there = !rc && count_masks(model, &own, &mask);
    if (there)
        rc = encode_filled(model, prompt, answer, &own, mask, &filled, err);
    if (there && !rc) {
        skip = mask;
        after = own.n - mask - 1;
    }
    *retokenized = !rc && *prompt &&
                   (filled.n <= skip + after || memcmp(filled.id, own.id, skip * sizeof *own.id) ||
                    memcmp(filled.id + filled.n - after, own.id + mask + 1, after * sizeof *own.id));
    if (!rc && (!there || *retokenized)) {
        skip = after = 0;
        rc = encode_joined(model->tokenizer, "", *answer == ' ' ? "" : " ", answer, &filled, err);
    }
    if (!rc && (!*answer || filled.n <= skip + after))
        rc = err_set(err, ERR_FORMAT, "answer '%s' has no tokens", answer);
    if (!rc) {
        *n = filled.n - skip - after;
        rc = copy_ids(filled.id + skip, *n, tokens, err);
    }
    tokens_release(&own);
    tokens_release(&filled);
    return rc;
}

int prepare_answer(const struct model *model, const char *prompt, const char *answer, int32_t **tokens, size_t *n,
                   bool *retokenized, struct err *err)
{
    if (!model->tokenizer)
        return err_set(err, ERR_UNSUPPORTED, "the model has no tokenizer: give \"answer_token\" instead of \"answer\"");
    if (prepare_masked(model))
        return masked_answer(model, prompt, answer, tokens, n, retokenized, err);
    struct tokens own = { 0 }, whole = { 0 };
    const char *between = separator(prompt, answer);
    int rc = tokenizer_encode(model->tokenizer, prompt, strlen(prompt), SPECIALS_NONE, &own, err);
    if (!rc)
        rc = encode_joined(model->tokenizer, prompt, between, answer, &whole, err);
    size_t skip = own.n;
    *retokenized = false;
    if (!rc && (whole.n <= own.n || (own.n && memcmp(whole.id, own.id, own.n * sizeof *own.id)))) {
        *retokenized = true;
        skip = 0;
        rc = encode_joined(model->tokenizer, "", *between || *answer == ' ' ? between : " ", answer, &whole, err);
    }
    if (!rc && (!*answer || whole.n <= skip))
        rc = err_set(err, ERR_FORMAT, "answer '%s' has no tokens", answer);
    if (!rc) {
        *n = whole.n - skip;
        rc = copy_ids(whole.id + skip, *n, tokens, err);
    }
    tokens_release(&own);
    tokens_release(&whole);
    return rc;
}

int prepare_subject(const char *prompt, const struct tokens *tokens, const char *subject, bool last_occurrence,
                    size_t *begin, size_t *end, struct err *err)
{
    const char *found = NULL;
    for (const char *at = prompt; (at = strstr(at, subject)); at++) {
        found = at;
        if (!last_occurrence)
            break;
    }
    if (!found || !*subject)
        return err_set(err, ERR_NOTFOUND, "subject '%s' is not in the prompt '%.200s': it must stand there literally",
                       subject, prompt);
    size_t first = (size_t)(found - prompt), last = first + strlen(subject), i = 0;
    while (i < tokens->n && ((size_t)tokens->end[i] <= first || tokens->begin[i] == tokens->end[i]))
        i++;
    *begin = i;
    while (i < tokens->n && (size_t)tokens->begin[i] < last && tokens->begin[i] != tokens->end[i])
        i++;
    *end = i;
    if (*begin == *end)
        return err_set(err, ERR_NOTFOUND, "subject '%s' covers no token of the prompt", subject);
    return 0;
}

static int check_length(const struct model *model, const struct prepared *p, struct err *err)
{
    if (!p->tokens.n)
        return err_set(err, ERR_FORMAT, "the prompt has no tokens");
    if (p->tokens.n > model->config.n_ctx)
        return err_set(err, ERR_FORMAT, "the prompt has %zu tokens, the model's context is %zu: shorten it",
                       p->tokens.n, model->config.n_ctx);
    for (size_t i = 0; i < p->tokens.n; i++)
        if (p->tokens.id[i] < 0 || (size_t)p->tokens.id[i] >= model->config.d_vocab)
            return err_set(err, ERR_FORMAT, "token id %d is outside the vocabulary of %zu", (int)p->tokens.id[i],
                           model->config.d_vocab);
    return 0;
}

static int take_ids(const struct fact *fact, struct tokens *out, struct err *err)
{
    size_t n = fact->n_tokens;
    out->id = mem_array(n, sizeof *out->id);
    out->begin = mem_zeroed(n, sizeof *out->begin);
    out->end = mem_zeroed(n, sizeof *out->end);
    if (!out->id || !out->begin || !out->end)
        return err_nomem(err, "a prompt");
    memcpy(out->id, fact->tokens, n * sizeof *out->id);
    out->n = out->capacity = n;
    return 0;
}

static int take_prompt(const struct model *model, const struct fact *fact, enum specials specials, struct prepared *out,
                       struct err *err)
{
    int rc;
    if (fact->tokens)
        rc = take_ids(fact, &out->tokens, err);
    else if (!model->tokenizer)
        rc = err_set(err, ERR_UNSUPPORTED, "the model has no tokenizer: give \"tokens\", an array of ids");
    else
        rc = tokenizer_encode(model->tokenizer, fact->prompt, strlen(fact->prompt), specials, &out->tokens, err);
    return rc ? rc : check_length(model, out, err);
}

/* Where the prompt is read: the mask, exactly one, where the model answers at masks; else the last token. */
static int find_reading(const struct model *model, struct prepared *out, bool answers, struct err *err)
{
    size_t at = out->tokens.n - 1, n = 1;
    char name[64] = "mask";
    size_t len = 0;
    out->n_after = 0;
    if (!prepare_masked(model))
        return 0;
    if (model->mask_token < 0 && answers)
        return err_set(err, ERR_UNSUPPORTED,
                       "the model's files name no mask token: add \"mask_token_id\" to config.json");
    n = count_masks(model, &out->tokens, &at);
    out->n_after = out->tokens.n - 1 - at;
    if (!answers || n == 1)
        return 0;
    const char *bytes = model->tokenizer ? tokenizer_bytes(model->tokenizer, model->mask_token, &len) : NULL;
    if (bytes && len < sizeof name)
        snprintf(name, sizeof name, "%.*s", (int)len, bytes);
    return n ? err_set(err, ERR_FORMAT, "the prompt has %zu %s: the answer is read at one, write a single one", n, name)
             : err_set(err, ERR_FORMAT, "the prompt has no %s: write it where the answer is to stand", name);
}

static int take_answer(const struct model *model, const struct fact *fact, struct prepared *out, struct err *err)
{
    if (fact->answer_token >= 0) {
        if ((size_t)fact->answer_token >= model->config.d_vocab)
            return err_set(err, ERR_FORMAT, "answer token %d is outside the vocabulary of %zu", (int)fact->answer_token,
                           model->config.d_vocab);
        out->n_answer_tokens = 1;
        int rc = copy_ids(&fact->answer_token, 1, &out->answer_tokens, err);
        if (rc)
            return rc;
    } else if (fact->answer) {
        if (!*fact->answer)
            return err_set(err, ERR_ARG, "the answer is empty: leave it out");
        int rc = prepare_answer(model, fact->tokens ? "" : fact->prompt, fact->answer, &out->answer_tokens,
                                &out->n_answer_tokens, &out->answer_retokenized, err);
        if (rc)
            return rc;
    } else
        return 0;
    out->answer_token = out->answer_tokens[0];
    return 0;
}

static int take_subject(const struct fact *fact, struct prepared *out, struct err *err)
{
    if (!fact->subject)
        return 0;
    if (!*fact->subject)
        return err_set(err, ERR_ARG, "the subject is empty: leave it out");
    if (fact->tokens)
        return err_set(err, ERR_UNSUPPORTED,
                       "a subject is found in the prompt's text, and this fact has only token ids");
    return prepare_subject(out->text, &out->tokens, out->subject, fact->subject_occurrence_last, &out->subject_begin,
                           &out->subject_end, err);
}

static int prepare(const struct model *model, const struct fact *fact, enum specials specials, const char *where,
                   bool answers, struct prepared *out, struct err *err)
{
    *out = (struct prepared){ .answer_token = -1 };
    out->id = mem_strdup(fact->id);
    out->text = mem_strdup(fact->tokens ? "" : fact->prompt);
    out->answer = mem_strdup(fact->answer ? fact->answer : "");
    out->relation = mem_strdup(fact->relation ? fact->relation : "");
    out->subject = mem_strdup(fact->subject ? fact->subject : "");
    int rc;
    if (!out->id || !out->text || !out->answer || !out->relation || !out->subject)
        rc = err_nomem(err, "a fact");
    else if (!(rc = take_prompt(model, fact, specials, out, err)) && !(rc = find_reading(model, out, answers, err)) &&
             !(rc = take_answer(model, fact, out, err)))
        rc = take_subject(fact, out, err);
    if (rc) {
        prepared_release(out);
        return err_prefix(err, "%s: ", where);
    }
    return 0;
}

int prepare_fact(const struct model *model, const struct fact *fact, enum specials specials, const char *where,
                 struct prepared *out, struct err *err)
{
    return prepare(model, fact, specials, where, true, out, err);
}

struct prompt prepared_prompt(const struct prepared *p)
{
    return (struct prompt){
        .tokens = p->tokens.id,
        .n_tokens = p->tokens.n,
        .subject_begin = p->subject_begin,
        .subject_end = p->subject_end,
        .n_after = p->n_after,
        .name = p->id,
    };
}

void prepared_release(struct prepared *p)
{
    free(p->id);
    free(p->text);
    free(p->answer);
    free(p->relation);
    free(p->subject);
    tokens_release(&p->tokens);
    free(p->answer_tokens);
    *p = (struct prepared){ .answer_token = -1 };
}

/* --- batches --- */

struct batcher {
    const struct model *model;
    struct facts *facts;
    enum specials specials;
    size_t limit, batch_rows, n_dropped;
    size_t n_read;           /* facts taken from the file, pending one included */
    struct prepared pending; /* did not fit into the last batch */
    bool has_pending, ended, no_answers;
    struct batch batch;
    size_t items_capacity, prompts_capacity, offsets_capacity;
};

int batcher_open(struct batcher **out, const struct model *model, struct facts *facts, enum specials specials,
                 size_t limit, size_t batch_rows, struct err *err)
{
    struct batcher *b = mem_zeroed(1, sizeof *b);
    if (!b)
        return err_nomem(err, "batches");
    b->model = model;
    b->facts = facts;
    b->specials = specials;
    b->limit = limit;
    b->batch_rows = batch_rows;
    *out = b;
    return 0;
}

void batcher_allow_no_mask(struct batcher *b)
{
    b->no_answers = true;
}

int batcher_skip(struct batcher *b, size_t n, struct err *err)
{
    struct fact fact;
    for (; n && b->n_read < b->limit; n--) {
        int got = facts_next(b->facts, &fact, err);
        if (got <= 0)
            return got;
        b->n_read++;
    }
    return 0;
}

/* 1: b->pending holds a fact; 0: no more; negative: error. */
static int fill_pending(struct batcher *b, struct err *err)
{
    if (b->has_pending)
        return 1;
    if (b->ended || b->n_read >= b->limit)
        return 0;
    struct fact fact;
    int got = facts_next(b->facts, &fact, err);
    if (got <= 0) {
        b->ended = !got;
        return got;
    }
    char where[512];
    snprintf(where, sizeof where, "%.400s: line %zu", facts_name(b->facts), fact.line);
    int rc = prepare(b->model, &fact, b->specials, where, !b->no_answers, &b->pending, err);
    if (rc)
        return rc;
    b->n_read++;
    b->n_dropped += b->pending.tokens.n_dropped;
    b->has_pending = true;
    return 1;
}

static void empty_batch(struct batch *batch)
{
    for (size_t i = 0; i < batch->n; i++)
        prepared_release(&batch->items[i]);
    batch->n = batch->n_rows = 0;
}

static int add_pending(struct batcher *b, struct err *err)
{
    struct batch *batch = &b->batch;
    if (!mem_grow(&batch->items, &b->items_capacity, batch->n + 1, sizeof *batch->items))
        return err_nomem(err, "a batch");
    batch->items[batch->n++] = b->pending;
    batch->n_rows += b->pending.tokens.n;
    b->has_pending = false;
    return 0;
}

/* After the items have stopped moving. */
static int make_views(struct batcher *b, struct err *err)
{
    struct batch *batch = &b->batch;
    if (!mem_grow(&batch->prompts, &b->prompts_capacity, batch->n, sizeof *batch->prompts) ||
        !mem_grow(&batch->row_offset, &b->offsets_capacity, batch->n + 1, sizeof *batch->row_offset))
        return err_nomem(err, "a batch");
    batch->row_offset[0] = 0;
    for (size_t i = 0; i < batch->n; i++) {
        const struct prepared *p = &batch->items[i];
        batch->prompts[i] = prepared_prompt(p);
        batch->row_offset[i + 1] = batch->row_offset[i] + p->tokens.n;
    }
    return 0;
}

int batcher_next(struct batcher *b, struct batch **out, struct err *err)
{
    int got;
    empty_batch(&b->batch);
    while ((got = fill_pending(b, err)) > 0) {
        if (!b->batch.n)
            b->batch.first_prompt = b->n_read - 1;
        else if (b->batch.n_rows + b->pending.tokens.n > b->batch_rows)
            break;
        int rc = add_pending(b, err);
        if (rc)
            return rc;
    }
    if (got < 0 || !b->batch.n)
        return got;
    int rc = make_views(b, err);
    *out = &b->batch;
    return rc ? rc : 1;
}

size_t batcher_dropped(const struct batcher *b)
{
    return b->n_dropped;
}

void batcher_close(struct batcher *b)
{
    if (!b)
        return;
    empty_batch(&b->batch);
    if (b->has_pending)
        prepared_release(&b->pending);
    free(b->batch.items);
    free(b->batch.prompts);
    free(b->batch.row_offset);
    free(b);
}
