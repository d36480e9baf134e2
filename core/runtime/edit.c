#include "core/runtime/edit_internal.h"

#include "core/base/mem.h"
#include "core/base/suggest.h"

#include <stdlib.h>
#include <string.h>

/* What follows an operation. */
enum form { FORM_NOTHING, FORM_VALUE, FORM_MEAN, FORM_PATCH, FORM_FREEZE };

static const struct op {
    const char *name;
    enum edit_op op;
    enum form form;
} ops[] = {
#define X(id, text, takes_value) { text, EDIT_##id, (takes_value) ? FORM_VALUE : FORM_NOTHING },
    EDIT_OPS(X)
#undef X
        { "mean", EDIT_SET, FORM_MEAN },
    { "patch", EDIT_SET, FORM_PATCH },
    { "freeze", EDIT_SET, FORM_FREEZE },
};
enum { N_OPS = sizeof ops / sizeof *ops };

static void release_edit(struct edit *e)
{
    positions_release(&e->at);
    positions_release(&e->keys);
    positions_release(&e->from_at);
    free(e->units);
    free(e->vector);
    free(e->text);
}

void edit_list_release(struct edit_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        release_edit(&list->edits[i]);
    free(list->edits);
    *list = (struct edit_list){ NULL, 0, 0 };
}

static int fill_units(struct edit *e, struct piece text, size_t unit, const struct model_config *config,
                      struct err *err)
{
    const char *what, *site = site_row(e->site)->name;
    size_t n = site_units(e->site, config, &what);
    if (!text.text && unit == SIZE_MAX)
        return 0;
    if (!n)
        return err_set(err, ERR_ARG, "'#%.*s': %s has neither heads nor neurons", shown(text), text.text, site);
    if (text.text && unit != SIZE_MAX)
        return err_set(err, ERR_ARG, "'#%.*s': the site already names its %s", shown(text), text.text, what);
    if (unit != SIZE_MAX) {
        e->units = mem_array(1, sizeof *e->units);
        if (!e->units)
            return err_nomem(err, "an edit");
        e->units[0] = (struct range){ unit, unit };
        e->n_units = 1;
        return 0;
    }
    int rc = ranges_parse(text.text, text.len, &e->units, &e->n_units, err);
    if (rc) {
        err_prefix(err, "'#%.*s': ", shown(text), text.text);
        return rc;
    }
    /* Once each: an overlap must not add or scale twice. */
    ranges_merge(e->units, &e->n_units);
    size_t last = e->units[e->n_units - 1].last;
    if (last >= n)
        return err_set(err, ERR_ARG, "'#%.*s': there is no %s %zu: %s has %zu, 0 to %zu", shown(text), text.text, what,
                       last, site, n, n - 1);
    return 0;
}

static int find_op(struct piece text, const struct op **out, struct err *err)
{
    struct suggest s;
    char hint[SUGGEST_TEXT_MAX];
    if (!text.len)
        return err_set(err, ERR_ARG, "the operation is missing: " EDIT_GRAMMAR);
    suggest_init(&s, text.text, text.len);
    for (size_t i = 0; i < N_OPS; i++) {
        *out = &ops[i];
        if (is_word(text, ops[i].name))
            return 0;
        suggest_consider(&s, ops[i].name);
    }
    suggest_text(&s, "", hint);
    return err_set(err, ERR_NOTFOUND, "'%.*s' is no operation%s", shown(text), text.text,
                   *hint ? hint : ": write set, add, scale, zero, mean, patch, freeze, block or uniform");
}

/* What takes no value was given one. */
static int refuse_value(struct edit *e, const struct edit_text *t, const struct op *op, struct err *err)
{
    struct piece from = t->part[PART_FROM_RUN].text    ? t->part[PART_FROM_RUN]
                        : t->part[PART_FROM_SITE].text ? t->part[PART_FROM_SITE]
                                                       : t->part[PART_FROM_AT];
    struct piece value = t->part[PART_VALUE];
    (void)e;
    if (from.text && op->form != FORM_PATCH)
        return err_set(err, ERR_ARG, "'%s' takes nothing from elsewhere, but '%.*s' follows: only patch does", op->name,
                       shown(from), from.text);
    if ((value.text || t->numbers) && op->form != FORM_VALUE)
        return err_set(err, ERR_ARG, "'%s' takes no value, but '%.*s' follows", op->name, value.text ? shown(value) : 5,
                       value.text ? value.text : "array");
    return 0;
}

static int fill_op(struct edit *e, const struct edit_text *t, const struct edit_context *c, struct err *err)
{
    const struct op *op;
    bool edges = site_row(e->site)->axes == AXES_EDGES;
    int rc = find_op(t->part[PART_OP], &op, err);
    rc = rc ? rc : refuse_value(e, t, op, err);
    if (rc)
        return rc;
    e->op = op->op;
    if ((e->op == EDIT_BLOCK || e->op == EDIT_UNIFORM) && e->site != SITE_SCORES)
        return err_set(err, ERR_ARG, "'%s' acts on attn.hook_attn_scores only, not on %s: use zero", op->name,
                       site_row(e->site)->name);
    switch (op->form) {
    case FORM_NOTHING:
        return 0;
    case FORM_VALUE:
        return edit_fill_value(e, t, op->name, c, err);
    case FORM_MEAN:
        e->source = EDIT_FROM_MEAN;
        return edges ? err_set(err, ERR_UNSUPPORTED, "'mean' does not act on attention edges: prompts differ in length")
                     : 0;
    case FORM_PATCH:
        return edit_fill_patch(e, t, c, err);
    case FORM_FREEZE:
        e->source = EDIT_FROM_RUN;
        e->run = EDIT_OWN_RUN;
        e->from_site = e->site;
        e->from_layer = EDIT_SAME_LAYER;
        e->from_same = true;
        return 0;
    }
    return 0;
}

static int fill(struct edit *e, const struct edit_text *t, const struct edit_context *c, struct err *err)
{
    struct site_span span;
    struct piece site = t->part[PART_SITE], at = t->part[PART_AT], keys = t->part[PART_KEYS];
    if (!site.len)
        return err_set(err, ERR_ARG, "the site is missing: " EDIT_GRAMMAR);
    int rc = site_span_parse(site.text, site.len, c->config, &span, err);
    if (rc)
        return rc;
    const struct site_row *row = site_row(span.site);
    e->site = span.site;
    e->first_layer = span.first_layer;
    e->last_layer = span.last_layer;
    if (!row->editable)
        return err_set(err, ERR_UNSUPPORTED, "%s cannot be edited", row->name);
    if (at.text && (rc = positions_parse(at.text, at.len, &e->at, err)))
        return rc;
    if (keys.text && row->axes != AXES_EDGES)
        return err_set(err, ERR_ARG, "'<-%.*s': %s has no keys: only attn.hook_attn_scores and attn.hook_pattern do",
                       shown(keys), keys.text, row->name);
    if (keys.text && (rc = positions_parse(keys.text, keys.len, &e->keys, err)))
        return rc;
    rc = fill_units(e, t->part[PART_UNITS], span.unit, c->config, err);
    return rc ? rc : fill_op(e, t, c, err);
}

int edit_append(struct edit_list *list, const struct edit_text *t, const struct edit_context *c, struct err *err)
{
    struct edit e = { .text = mem_strndup(t->whole.text, t->whole.len) };
    int rc = e.text ? fill(&e, t, c, err) : err_nomem(err, "an edit");
    if (!rc && !mem_grow(&list->edits, &list->capacity, list->n + 1, sizeof *list->edits))
        rc = err_nomem(err, "edits");
    if (!rc) {
        list->edits[list->n++] = e;
        return 0;
    }
    err_prefix(err, "edit '%.*s': ", shown(t->whole), t->whole.text);
    release_edit(&e);
    return rc;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* The next word of text from *at; text NULL at the end. */
static struct piece next_word(const char **at)
{
    while (is_space(**at))
        ++*at;
    struct piece word = { *at, 0 };
    while (word.text[word.len] && !is_space(word.text[word.len]))
        word.len++;
    *at += word.len;
    return word.len ? word : (struct piece){ NULL, 0 };
}

/* What stands before the first of the stop bytes; *from moves on to it. */
static struct piece take_until(struct piece *from, const char *stops)
{
    struct piece taken = { from->text, 0 };
    while (taken.len < from->len && !strchr(stops, from->text[taken.len]))
        taken.len++;
    from->text += taken.len;
    from->len -= taken.len;
    return taken;
}

static void drop(struct piece *from, size_t n)
{
    from->text += n;
    from->len -= n;
}

/* SITE[@POSITIONS[<-KEYS]][#UNITS] */
static void split_target(struct piece target, struct piece parts[N_PARTS])
{
    parts[PART_SITE] = take_until(&target, "@#");
    if (target.len && *target.text == '@') {
        drop(&target, 1);
        parts[PART_AT] = take_until(&target, "<#");
        if (target.len >= 2 && !memcmp(target.text, "<-", 2)) {
            drop(&target, 2);
            parts[PART_KEYS] = take_until(&target, "#");
        } else if (target.len && *target.text == '<') {
            /* "last<subject": let the whole be refused as a position. */
            parts[PART_AT].len += take_until(&target, "#").len;
        }
    }
    if (target.len) {
        drop(&target, 1);
        parts[PART_UNITS] = target;
    }
}

/* [SITE][@POSITIONS] [from RUN]; `word` is what follows `patch`. */
static void split_source(struct piece word, const char **at, struct piece parts[N_PARTS])
{
    if (word.text && !is_word(word, "from")) {
        struct piece site = take_until(&word, "@");
        if (site.len)
            parts[PART_FROM_SITE] = site;
        if (word.len) {
            drop(&word, 1);
            parts[PART_FROM_AT] = word;
        }
        word = next_word(at);
    }
    if (word.text && is_word(word, "from")) {
        parts[PART_FROM_RUN] = next_word(at);
        if (!parts[PART_FROM_RUN].text)
            parts[PART_FROM_RUN] = (struct piece){ word.text + word.len, 0 };
    } else
        *at = word.text ? word.text : *at;
}

int edit_parse_in(struct edit_list *list, const char *text, const struct model_config *config,
                  const struct edit_scope *scope, struct err *err)
{
    struct edit_text t = { .whole = { text, strlen(text) } };
    const struct edit_context context = { config, scope };
    const char *at = text;
    struct piece target = next_word(&at);
    t.part[PART_OP] = next_word(&at);
    struct piece value = next_word(&at);
    if (t.part[PART_OP].text && is_word(t.part[PART_OP], "patch"))
        split_source(value, &at, t.part);
    else
        t.part[PART_VALUE] = value;
    struct piece extra = next_word(&at);
    if (!target.text)
        return err_set(err, ERR_ARG, "edit '%.*s' is empty: " EDIT_GRAMMAR, shown(t.whole), text);
    if (extra.text)
        return err_set(err, ERR_ARG, "edit '%.*s': '%.*s' is one word too many: " EDIT_GRAMMAR, shown(t.whole), text,
                       shown(extra), extra.text);
    split_target(target, t.part);
    return edit_append(list, &t, &context, err);
}

int edit_parse(struct edit_list *list, const char *text, const struct model_config *config, struct err *err)
{
    return edit_parse_in(list, text, config, NULL, err);
}

bool edit_list_sources(const struct edit_list *list, struct site_set *sites)
{
    bool any = false;
    for (size_t i = 0; i < list->n; i++) {
        const struct edit *e = &list->edits[i];
        if (e->source != EDIT_FROM_RUN)
            continue;
        any = true;
        size_t first = e->from_layer == EDIT_SAME_LAYER ? e->first_layer : e->from_layer;
        size_t last = e->from_layer == EDIT_SAME_LAYER ? e->last_layer : e->from_layer;
        for (size_t l = first; l <= last; l++)
            site_set_add_one(sites, (struct site_ref){ e->from_site, l });
    }
    return any;
}
