#include "probes/attributes.h"

#include "core/base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { SHORTEST = 3, LONGEST_STOP_WORD = 12, MOST_TRIES = 1000 };

/* Function words of three letters and more; shorter tokens are left out anyway. In alphabetical order. */
static const char *const stop_words[] = {
    "about",    "above",   "across",   "after",     "again",      "against",    "all",       "almost",    "along",
    "already",  "also",    "although", "always",    "among",      "and",        "another",   "any",       "anyone",
    "anything", "are",     "around",   "away",      "back",       "because",    "been",      "before",    "behind",
    "being",    "below",   "beneath",  "beside",    "besides",    "between",    "beyond",    "both",      "but",
    "can",      "cannot",  "could",    "despite",   "did",        "does",       "doing",     "done",      "down",
    "during",   "each",    "either",   "else",      "enough",     "even",       "ever",      "every",     "everyone",
    "except",   "few",     "for",      "from",      "get",        "gets",       "had",       "has",       "have",
    "having",   "hence",   "her",      "here",      "hers",       "herself",    "him",       "himself",   "his",
    "how",      "however", "indeed",   "instead",   "into",       "its",        "itself",    "just",      "least",
    "less",     "like",    "many",     "may",       "maybe",      "might",      "mine",      "more",      "moreover",
    "most",     "much",    "must",     "myself",    "near",       "neither",    "never",     "nobody",    "none",
    "nor",      "not",     "nothing",  "now",       "off",        "often",      "once",      "one",       "only",
    "onto",     "other",   "others",   "ought",     "our",        "ours",       "ourselves", "out",       "over",
    "own",      "per",     "perhaps",  "quite",     "rather",     "same",       "shall",     "she",       "should",
    "since",    "some",    "someone",  "something", "soon",       "still",      "such",      "than",      "that",
    "the",      "their",   "theirs",   "them",      "themselves", "then",       "there",     "therefore", "these",
    "they",     "this",    "those",    "though",    "through",    "throughout", "thus",      "till",      "too",
    "toward",   "towards", "under",    "unless",    "until",      "upon",       "very",      "was",       "well",
    "were",     "what",    "whatever", "when",      "where",      "whereas",    "whether",   "which",     "while",
    "who",      "whole",   "whom",     "whose",     "why",        "will",       "with",      "within",    "without",
    "would",    "yet",     "you",      "your",      "yours",      "yourself",
};

static int compare_word(const void *a, const void *b)
{
    return strcmp(a, *(const char *const *)b);
}

bool attribute_stop_word(const char *word, size_t len)
{
    char text[LONGEST_STOP_WORD + 1];
    if (len > LONGEST_STOP_WORD || memchr(word, '\0', len))
        return false;
    memcpy(text, word, len);
    text[len] = '\0';
    return bsearch(text, stop_words, sizeof stop_words / sizeof *stop_words, sizeof *stop_words, compare_word);
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

bool attribute_token(const struct model *model, int32_t token, bool lower)
{
    char word[LONGEST_STOP_WORD];
    size_t len = 0, n_chars = 0;
    const struct tokenizer *tok = model->tokenizer;
    const char *bytes = tok ? tokenizer_bytes(tok, token, &len) : NULL;
    if (!bytes || tokenizer_is_special(tok, token))
        return false;
    for (; len && is_space(bytes[len - 1]); len--)
        ;
    for (; len && is_space(*bytes); len--)
        bytes++;
    for (size_t i = 0; i < len; i++)
        n_chars += ((unsigned char)bytes[i] & 0xC0) != 0x80;
    if (n_chars < SHORTEST)
        return false;
    if (len > sizeof word)
        return true;
    for (size_t i = 0; i < len; i++)
        word[i] = lower && bytes[i] >= 'A' && bytes[i] <= 'Z' ? (char)(bytes[i] + ('a' - 'A')) : bytes[i];
    return !attribute_stop_word(word, len);
}

int attribute_sets_init(struct attribute_sets *s, const struct model *model, struct err *err)
{
    *s = (struct attribute_sets){ .model = model };
    if (!model->tokenizer)
        return err_set(err, ERR_UNSUPPORTED, "%.300s: attributes of subjects need a tokenizer, which it has not",
                       model->path);
    return strmap_init(&s->numbers, 64) ? err_nomem(err, "attributes of subjects") : 0;
}

void attribute_sets_release(struct attribute_sets *s)
{
    for (size_t i = 0; i < s->n; i++) {
        free(s->sets[i].subject);
        free(s->sets[i].tokens);
    }
    free(s->sets);
    strmap_release(&s->numbers);
    *s = (struct attribute_sets){ 0 };
}

size_t attribute_sets_find(const struct attribute_sets *s, const char *subject)
{
    uint32_t number;
    return strmap_get(&s->numbers, subject, strlen(subject), &number) ? number : SIZE_MAX;
}

/* Index of the first token >= `token`. */
static size_t place_of(const struct attribute_set *set, int32_t token)
{
    size_t low = 0, high = set->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (set->tokens[middle] < token)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool attribute_set_has(const struct attribute_set *set, int32_t token)
{
    size_t at = place_of(set, token);
    return at < set->n && set->tokens[at] == token;
}

static int insert(struct attribute_set *set, int32_t token, struct err *err)
{
    size_t at = place_of(set, token);
    if (at < set->n && set->tokens[at] == token)
        return 0;
    if (!mem_grow(&set->tokens, &set->capacity, set->n + 1, sizeof *set->tokens))
        return err_nomem(err, "attributes of a subject");
    memmove(set->tokens + at + 1, set->tokens + at, (set->n - at) * sizeof *set->tokens);
    set->tokens[at] = token;
    set->n++;
    return 0;
}

static int find_or_make(struct attribute_sets *s, const char *subject, struct attribute_set **out, struct err *err)
{
    size_t number = attribute_sets_find(s, subject);
    if (number == SIZE_MAX) {
        char *copy = mem_strdup(subject);
        if (!copy || s->n >= UINT32_MAX || !mem_grow(&s->sets, &s->capacity, s->n + 1, sizeof *s->sets) ||
            strmap_put(&s->numbers, copy, strlen(copy), (uint32_t)s->n, NULL)) {
            free(copy);
            return err_nomem(err, "attributes of subjects");
        }
        number = s->n++;
        s->sets[number] = (struct attribute_set){ .subject = copy };
    }
    *out = &s->sets[number];
    return 0;
}

int attribute_sets_add(struct attribute_sets *s, const char *subject, const char *attribute, struct err *err)
{
    struct attribute_set *set = NULL;
    struct tokens tokens = { 0 };
    size_t len = strlen(attribute);
    char *text = mem_array(len + 2, 1);
    if (!text)
        return err_nomem(err, "an attribute");
    *text = ' ';
    memcpy(text + 1, attribute, len + 1);
    int rc = tokenizer_encode(s->model->tokenizer, text, len + 1, SPECIALS_NONE, &tokens, err);
    rc = rc ? rc : find_or_make(s, subject, &set, err);
    for (size_t i = 0; !rc && i < tokens.n; i++)
        if (attribute_token(s->model, tokens.id[i], false))
            rc = insert(set, tokens.id[i], err);
    tokens_release(&tokens);
    free(text);
    return rc;
}

static bool share_token(const struct attribute_set *a, const struct attribute_set *b)
{
    for (size_t i = 0; i < a->n; i++)
        if (attribute_set_has(b, a->tokens[i]))
            return true;
    return false;
}

size_t attribute_sets_other(const struct attribute_sets *s, size_t own, struct random_source *random)
{
    for (int tries = 0; s->n && tries < MOST_TRIES; tries++) {
        size_t other = (size_t)random_below(random, s->n);
        const struct attribute_set *set = &s->sets[other];
        if (other != own && set->n && (own == SIZE_MAX || !share_token(&s->sets[own], set)))
            return other;
    }
    return SIZE_MAX;
}
