/*
 * Near matches, for "did you mean ..." in errors about names.
 *
 *     struct suggest s;
 *     suggest_init(&s, wanted, strlen(wanted));
 *     for (size_t i = 0; i < n; i++)
 *         suggest_consider(&s, names[i]);
 *     char hint[SUGGEST_TEXT_MAX];
 *     return err_set(err, ERR_NOTFOUND, "no site '%s'%s", wanted, suggest_text(&s, "", hint));
 *
 * Near: at most a third of the letters wrong (optimal string alignment:
 * insertions, deletions, substitutions and swaps of neighbours; case does not
 * count), or the whole word stands inside the name. Nearest first, ties in the
 * order considered.
 */
#ifndef STRATA_BASE_SUGGEST_H
#define STRATA_BASE_SUGGEST_H

#include <stddef.h>

enum { SUGGEST_MOST = 3, SUGGEST_LONGEST = 96, SUGGEST_TEXT_MAX = 512 };

struct suggest {
    const char *wanted; /* borrowed */
    size_t len;
    const char *name[SUGGEST_MOST]; /* borrowed, nearest first */
    size_t distance[SUGGEST_MOST], n;
};

void suggest_init(struct suggest *s, const char *wanted, size_t len);
/* name must live until suggest_text. Words and names longer than SUGGEST_LONGEST bytes are near nothing. */
void suggest_consider(struct suggest *s, const char *name);
/* The same for a name that a word stands for: the word must be near, the name is shown. */
void suggest_consider_as(struct suggest *s, const char *word, const char *name);
/* ": did you mean a, b or c?" with the prefix before each name, or "" when nothing is near; returns text. */
const char *suggest_text(const struct suggest *s, const char *prefix, char text[SUGGEST_TEXT_MAX]);

/* Edits between two words of at most SUGGEST_LONGEST bytes; SIZE_MAX for longer ones. */
size_t suggest_distance(const char *a, size_t a_len, const char *b, size_t b_len);

#endif
