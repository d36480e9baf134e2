#include "analyses/cli/options.h"

#include "core/base/mem.h"
#include "core/base/suggest.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_OPTIONS = 64 };

struct parser {
    const struct option *const *tables;
    const struct option *seen[MOST_OPTIONS]; /* those that cannot be repeated */
    size_t n_seen;
    struct err *err;
};

void text_list_release(struct text_list *list)
{
    free(list->items);
    *list = (struct text_list){ 0 };
}

static const struct option *find_long(const struct parser *p, const char *name, size_t len)
{
    for (const struct option *const *t = p->tables; *t; t++)
        for (const struct option *o = *t; o->name; o++)
            if (strlen(o->name) == len && !memcmp(o->name, name, len))
                return o;
    return NULL;
}

static const struct option *find_short(const struct parser *p, char name)
{
    for (const struct option *const *t = p->tables; *t; t++)
        for (const struct option *o = *t; o->name; o++)
            if (o->short_name && o->short_name == name)
                return o;
    return NULL;
}

static int unknown_long(const struct parser *p, const char *name, size_t len)
{
    struct suggest s;
    char hint[SUGGEST_TEXT_MAX];
    suggest_init(&s, name, len);
    for (const struct option *const *t = p->tables; *t; t++)
        for (const struct option *o = *t; o->name; o++)
            if (o->kind != OPTION_REFUSED)
                suggest_consider(&s, o->name);
    return err_set(p->err, ERR_ARG, "unknown option --%.*s%s", (int)(len < 100 ? len : 100), name,
                   suggest_text(&s, "--", hint));
}

/* Decimal digits only: strtoull alone would take signs and spaces. */
static bool parse_digits(const char *text, uint64_t most, uint64_t *out)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    *out = value;
    return !*end && !errno && value <= most;
}

static int set_size(const struct parser *p, const struct option *o, const char *text)
{
    uint64_t value;
    if (parse_digits(text, o->most ? o->most : SIZE_MAX, &value) && value >= o->least) {
        *(size_t *)o->value = (size_t)value;
        return 0;
    }
    if (o->most)
        return err_set(p->err, ERR_ARG, "--%s must be a whole number from %zu to %zu, not '%.100s'", o->name, o->least,
                       o->most, text);
    return err_set(p->err, ERR_ARG, "--%s must be a whole number from %zu, not '%.100s'", o->name, o->least, text);
}

static int set_choice(const struct parser *p, const struct option *o, const char *text)
{
    struct suggest s;
    struct strbuf all = STRBUF_INIT;
    char hint[SUGGEST_TEXT_MAX];
    suggest_init(&s, text, strlen(text));
    for (int i = 0; o->choices[i]; i++) {
        if (!strcmp(o->choices[i], text)) {
            *(int *)o->value = i;
            strbuf_release(&all);
            return 0;
        }
        suggest_consider(&s, o->choices[i]);
        strbuf_addf(&all, "%s%s", !i ? "" : o->choices[i + 1] ? ", " : " or ", o->choices[i]);
    }
    err_set(p->err, ERR_ARG, "--%s must be %s, not '%.100s'%s", o->name, strbuf_text(&all), text,
            suggest_text(&s, "", hint));
    strbuf_release(&all);
    return ERR_ARG;
}

static int set_value(const struct parser *p, const struct option *o, const char *text)
{
    switch (o->kind) {
    case OPTION_TEXT:
        *(const char **)o->value = text;
        return 0;
    case OPTION_LIST: {
        struct text_list *list = o->value;
        if (!mem_grow(&list->items, &list->capacity, list->n + 1, sizeof *list->items))
            return err_nomem(p->err, "the options");
        list->items[list->n++] = text;
        return 0;
    }
    case OPTION_SIZE:
        return set_size(p, o, text);
    case OPTION_SEED:
        if (parse_digits(text, UINT64_MAX, o->value))
            return 0;
        return err_set(p->err, ERR_ARG, "--%s must be a whole number from 0 to 2^64-1, not '%.100s'", o->name, text);
    case OPTION_CHOICE:
        return set_choice(p, o, text);
    default:
        return err_set(p->err, ERR_ARG, "--%s takes no value", o->name);
    }
}

/* `text`: what was attached to the option, or NULL; *next: the word that follows, advanced where it is the value. */
static int take(struct parser *p, const struct option *o, const char *text, char ***next, char **end)
{
    if (o->kind == OPTION_REFUSED)
        return err_set(p->err, ERR_ARG, "--%s is no option of this command", o->name);
    for (size_t i = 0; i < p->n_seen; i++)
        if (p->seen[i] == o)
            return err_set(p->err, ERR_ARG, "--%s is given twice", o->name);
    if (o->kind != OPTION_LIST && p->n_seen < MOST_OPTIONS)
        p->seen[p->n_seen++] = o;
    if (o->kind == OPTION_FLAG && !text) {
        *(bool *)o->value = true;
        return 0;
    }
    if (!text && o->kind != OPTION_FLAG) {
        if (*next == end)
            return err_set(p->err, ERR_ARG, "--%s needs a value%s%s", o->name, o->argument ? ": " : "",
                           o->argument ? o->argument : "");
        text = *(*next)++;
    }
    return set_value(p, o, text);
}

static int take_long(struct parser *p, const char *word, char ***next, char **end)
{
    const char *name = word + 2, *equals = strchr(name, '=');
    size_t len = equals ? (size_t)(equals - name) : strlen(name);
    const struct option *o = find_long(p, name, len);
    return o ? take(p, o, equals ? equals + 1 : NULL, next, end) : unknown_long(p, name, len);
}

static int take_short(struct parser *p, const char *word, char ***next, char **end)
{
    /* `-top 3` would else be `-t op`. */
    const struct option *o = find_long(p, word + 1, strcspn(word + 1, "="));
    if (o)
        return err_set(p->err, ERR_ARG, "unknown option %.100s: did you mean --%s?", word, o->name);
    o = find_short(p, word[1]);
    if (o)
        return take(p, o, word[2] ? word + 2 : NULL, next, end);
    return err_set(p->err, ERR_ARG, "unknown option %.100s: before an argument that starts with '-' write --", word);
}

int options_parse(int argc, char **argv, const struct option *const *tables, size_t *n_positional, struct err *err)
{
    struct parser p = { .tables = tables, .err = err };
    char **next = argv + 1, **end = argv + argc;
    bool options_ended = false;
    *n_positional = 0;
    while (next < end) {
        char *word = *next++;
        int rc = 0;
        if (options_ended || word[0] != '-' || !word[1])
            argv[1 + (*n_positional)++] = word;
        else if (word[1] != '-')
            rc = take_short(&p, word, &next, end);
        else if (word[2])
            rc = take_long(&p, word, &next, end);
        else
            options_ended = true;
        if (rc)
            return rc;
    }
    return 0;
}

/* "-o, --output PATH" */
static void help_left(const struct option *o, struct strbuf *out)
{
    if (o->short_name)
        strbuf_addf(out, "-%c, ", o->short_name);
    strbuf_addf(out, "--%s", o->name);
    if (o->argument)
        strbuf_addf(out, " %s", o->argument);
    for (int i = 0; !o->argument && o->choices && o->choices[i]; i++)
        strbuf_addf(out, "%c%s", i ? '|' : ' ', o->choices[i]);
}

void options_help(const struct option *table, struct strbuf *out)
{
    struct strbuf left = STRBUF_INIT;
    enum { WIDTH = 28 };
    for (const struct option *o = table; o->name; o++) {
        if (o->kind == OPTION_REFUSED)
            continue;
        strbuf_reset(&left);
        help_left(o, &left);
        const char *text = strbuf_text(&left);
        if (left.len > WIDTH)
            strbuf_addf(out, "  %s\n  %*s  %s\n", text, WIDTH, "", o->help);
        else
            strbuf_addf(out, "  %-*s  %s\n", WIDTH, text, o->help);
    }
    strbuf_release(&left);
}
