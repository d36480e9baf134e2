#include "core/base/suggest.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t suggest_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t rows[3][SUGGEST_LONGEST + 1];
    size_t *before = rows[0], *above = rows[1], *row = rows[2];
    if (a_len > SUGGEST_LONGEST || b_len > SUGGEST_LONGEST)
        return SIZE_MAX;
    for (size_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t *oldest = before;
        before = above;
        above = row;
        row = oldest;
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            char x = lower(a[i - 1]), y = lower(b[j - 1]);
            row[j] = least(above[j - 1] + (x != y), least(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && x == lower(b[j - 2]) && lower(a[i - 2]) == y)
                row[j] = least(row[j], before[j - 2] + 1);
        }
    }
    return row[b_len];
}

void suggest_init(struct suggest *s, const char *wanted, size_t len)
{
    *s = (struct suggest){ .wanted = wanted, .len = len };
}

static bool contains(const char *name, size_t name_len, const char *word, size_t len)
{
    for (size_t i = 0; i + len <= name_len; i++)
        if (!strncasecmp(name + i, word, len))
            return true;
    return false;
}

void suggest_consider(struct suggest *s, const char *name)
{
    suggest_consider_as(s, name, name);
}

void suggest_consider_as(struct suggest *s, const char *word, const char *name)
{
    size_t word_len = strlen(word), distance = suggest_distance(s->wanted, s->len, word, word_len);
    bool inside = s->len >= 3 && distance != SIZE_MAX && contains(word, word_len, s->wanted, s->len);
    if (!s->len || (!inside && distance > (s->len < 6 ? 1 : s->len / 3)))
        return;
    size_t at = 0;
    while (at < s->n && s->distance[at] <= distance)
        if (!strcmp(s->name[at++], name))
            return;
    if (at == SUGGEST_MOST)
        return;
    for (size_t i = s->n < SUGGEST_MOST ? s->n++ : SUGGEST_MOST - 1; i > at; i--) {
        s->name[i] = s->name[i - 1];
        s->distance[i] = s->distance[i - 1];
    }
    s->name[at] = name;
    s->distance[at] = distance;
}

const char *suggest_text(const struct suggest *s, const char *prefix, char text[SUGGEST_TEXT_MAX])
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < s->n && used < SUGGEST_TEXT_MAX; i++) {
        const char *join = !i ? ": did you mean " : i + 1 < s->n ? ", " : " or ";
        int n = snprintf(text + used, SUGGEST_TEXT_MAX - used, "%s%s%s%s", join, prefix, s->name[i],
                         i + 1 == s->n ? "?" : "");
        used += n > 0 ? (size_t)n : 0;
    }
    return text;
}
