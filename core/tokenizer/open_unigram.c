/* The Unigram model of a tokenizer.json: a list of [text, log-probability], the ids in order. */
#include "core/tokenizer/components.h"

#include "core/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Exact, or the nearest double; exponent is at most 308. */
static double power_of_ten(int exponent)
{
    char text[16];
    double power = 1;
    if (exponent > 22) {
        snprintf(text, sizeof text, "1e%d", exponent);
        return strtod(text, NULL);
    }
    while (exponent-- > 0)
        power *= 10;
    return power;
}

/* "e-3" to its value, at most 9999 either way. */
static const char *exponent_of(const char *at, const char *end, int *exponent)
{
    int value = 0, sign = 1;
    if (at == end || (*at != 'e' && *at != 'E'))
        return at;
    if (++at < end && (*at == '+' || *at == '-'))
        sign = *at++ == '-' ? -1 : 1;
    if (at == end || !is_digit(*at))
        return NULL;
    for (; at < end && is_digit(*at); at++)
        value = value < 1000 ? value * 10 + (*at - '0') : 9999;
    *exponent += sign * value;
    return at;
}

/*
 * A JSON number as the library's reader makes a double of it, which is not always the nearest: as many digits as fit 64
 * bits, then one division or product. Paths that tie are told apart by the last bit.
 */
static bool read_score(struct json_slice slice, double *out)
{
    const char *at = slice.text, *end = at + slice.n;
    bool negative = at < end && *at == '-', fraction = false, full = false;
    uint64_t digits = 0;
    int exponent = 0;
    at += negative;
    if (at == end || !is_digit(*at))
        return false;
    for (; at < end && (is_digit(*at) || (*at == '.' && !fraction)); at++) {
        if (*at == '.') {
            fraction = true;
            if (at + 1 == end || !is_digit(at[1]))
                return false;
            continue;
        }
        uint64_t next;
        full = full || __builtin_mul_overflow(digits, 10, &next) ||
               __builtin_add_overflow(next, (uint64_t)(*at - '0'), &next);
        if (!full)
            digits = next;
        exponent += full ? !fraction : -(int)fraction;
        if (exponent > 9999 || exponent < -9999)
            return false;
    }
    at = exponent_of(at, end, &exponent);
    double value = (double)digits;
    for (; value > 0 && exponent < -308; exponent += 308)
        value /= 1e308;
    if (exponent > 308 && digits)
        return false;
    value = exponent < 0 ? value / power_of_ten(-exponent) : value * power_of_ten(exponent);
    *out = negative ? -value : value;
    return at == end && isfinite(value);
}

struct pieces_read {
    struct vocab_entry *entries;
    double *scores;
    size_t n, capacity, scores_capacity;
};

/* ["text", score] to the next entry, its text to *at, which moves on. */
static int read_piece(struct opening *o, struct json_slice value, struct pieces_read *p, char **at, struct err *err)
{
    struct json_walk walk;
    struct json_slice none, text, score;
    size_t len;
    if (json_walk_open(&walk, value.text, value.n, o->where, NULL) || walk.closing != ']' ||
        json_walk_next(&walk, &none, &text, NULL) != 1 || !model_string(text, *at, &len) ||
        json_walk_next(&walk, &none, &score, NULL) != 1)
        return model_bad_entry(o, "vocab", p->n, value, err);
    if (!mem_grow(&p->entries, &p->capacity, p->n + 1, sizeof *p->entries) ||
        !mem_grow(&p->scores, &p->scores_capacity, p->n + 1, sizeof *p->scores))
        return err_nomem(err, "the vocabulary");
    if (!read_score(score, &p->scores[p->n]) || json_walk_next(&walk, &none, &text, NULL) || p->n == INT32_MAX)
        return model_bad_entry(o, "vocab", p->n, value, err);
    p->entries[p->n] = (struct vocab_entry){ *at, (uint32_t)len, (int32_t)p->n };
    p->n++;
    *at += len;
    return 0;
}

/* *scores is the caller's. */
static int read_vocab(struct opening *o, struct json_slice slice, double **scores, struct err *err)
{
    struct json_walk walk;
    struct json_slice key, value;
    struct pieces_read p = { 0 };
    char *texts = mem_array(slice.n + 1, 1), *at = texts;
    int got = texts ? json_walk_open(&walk, slice.text, slice.n, o->where, err) : err_nomem(err, "the vocabulary");
    if (!got && walk.closing != ']')
        got = err_set(err, ERR_FORMAT, "%s: the model's vocab must be a list", o->where);
    while (!got && (got = json_walk_next(&walk, &key, &value, err)) > 0)
        got = read_piece(o, value, &p, &at, err);
    if (!got && !p.n)
        got = err_set(err, ERR_FORMAT, "%s: the model's vocab is empty", o->where);
    if (got)
        free(texts);
    else
        got = vocab_init(&o->tok->vocab, texts, (size_t)(at - texts), p.entries, p.n, o->where, err);
    free(p.entries);
    *scores = p.scores;
    return got;
}

static int check_bytes(const struct opening *o, const struct unigram *u, struct err *err)
{
    for (int byte = 0; byte < 256; byte++)
        if (u->byte_id[byte] < 0)
            return err_set(err, ERR_UNSUPPORTED,
                           "%s: Unigram with byte_fallback but no token <0x%02X> is not supported", o->where,
                           (unsigned)byte);
    return 0;
}

int open_unigram(struct opening *o, const struct model_parts *parts, struct err *err)
{
    struct tokenizer *tok = o->tok;
    double *scores = NULL;
    size_t unk = 0;
    const json_t *given = json_object_get(parts->settings, "unk_id");
    bool has_unk = given && !json_is_null(given);
    int rc = read_vocab(o, parts->vocab, &scores, err);
    if (!rc && has_unk)
        rc = json_get_size(parts->settings, o->where, "unk_id", 0, tok->vocab.n - 1, &unk, err);
    if (rc) {
        free(scores);
        return rc;
    }
    tok->model = MODEL_UNIGRAM;
    rc = unigram_init(&tok->unigram, &tok->vocab, scores, has_unk ? (int32_t)unk : -1, err);
    if (rc ||
        (rc = json_get_bool_or(parts->settings, o->where, "byte_fallback", false, &tok->unigram.byte_fallback, err)))
        return rc;
    return tok->unigram.byte_fallback ? check_bytes(o, &tok->unigram, err) : 0;
}
