#include "core/runtime/edit.h"

#include "core/base/mem.h"
#include "core/base/strbuf.h"
#include "core/base/suggest.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define GRAMMAR "write SITE[@POSITIONS[<-KEYS]][#UNITS] OP [VALUE]"

static const struct op {
    const char *name;
    bool takes_value;
} ops[] = {
#define X(id, text, takes_value) { text, takes_value },
    EDIT_OPS(X)
#undef X
};
enum { N_OPS = sizeof ops / sizeof *ops };

/* The parts of an edit, their keys in JSON and what stands before them in an expression. */
#define PARTS(X)                                                                                                       \
    X(SITE, "site", "")                                                                                                \
    X(AT, "at", "@")                                                                                                   \
    X(KEYS, "keys", "<-")                                                                                              \
    X(UNITS, "units", "#")                                                                                             \
    X(OP, "op", " ")                                                                                                   \
    X(VALUE, "value", " ")
enum part {
#define X(id, key, before) PART_##id,
    PARTS(X)
#undef X
        N_PARTS
};

static const char *const part_keys[N_PARTS] = {
#define X(id, key, before) key,
    PARTS(X)
#undef X
};

static const char *const part_before[N_PARTS] = {
#define X(id, key, before) before,
    PARTS(X)
#undef X
};

struct piece {
    const char *text; /* NULL: absent */
    size_t len;
};

static int shown(struct piece p)
{
    return p.len < 120 ? (int)p.len : 120;
}

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

static int fill_op(struct edit *e, struct piece text, struct err *err)
{
    struct suggest s;
    char hint[SUGGEST_TEXT_MAX];
    if (!text.len)
        return err_set(err, ERR_ARG, "the operation is missing: " GRAMMAR);
    suggest_init(&s, text.text, text.len);
    for (size_t i = 0; i < N_OPS; i++) {
        if (text.len == strlen(ops[i].name) && !memcmp(text.text, ops[i].name, text.len)) {
            e->op = (enum edit_op)i;
            if ((e->op == EDIT_BLOCK || e->op == EDIT_UNIFORM) && e->site != SITE_SCORES)
                return err_set(err, ERR_ARG, "'%s' acts on attn.hook_attn_scores only, not on %s: use zero",
                               ops[i].name, site_row(e->site)->name);
            return 0;
        }
        suggest_consider(&s, ops[i].name);
    }
    suggest_text(&s, "", hint);
    return err_set(err, ERR_NOTFOUND, "'%.*s' is no operation%s", shown(text), text.text,
                   *hint ? hint : ": write set, add, scale, zero, block or uniform");
}

static int fill_value(struct edit *e, struct piece text, struct err *err)
{
    const char *op = ops[e->op].name;
    if (!ops[e->op].takes_value)
        return text.text ? err_set(err, ERR_ARG, "'%s' takes no value, but '%.*s' follows", op, shown(text), text.text)
                         : 0;
    if (!text.len)
        return err_set(err, ERR_ARG, "'%s' needs a value, as in '%s 0.5'", op, op);
    char number[64], *end;
    if (text.len < sizeof number) {
        memcpy(number, text.text, text.len);
        number[text.len] = '\0';
        e->value = strtod(number, &end);
        if (end == number + text.len && end > number && isfinite(e->value) && fabs(e->value) <= (double)FLT_MAX)
            return 0;
    }
    return err_set(err, ERR_ARG, "'%.*s' is no finite float32 number", shown(text), text.text);
}

static int fill(struct edit *e, const struct piece parts[N_PARTS], const struct model_config *config, struct err *err)
{
    struct site_span span;
    struct piece site = parts[PART_SITE], at = parts[PART_AT], keys = parts[PART_KEYS];
    if (!site.len)
        return err_set(err, ERR_ARG, "the site is missing: " GRAMMAR);
    int rc = site_span_parse(site.text, site.len, config, &span, err);
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
    rc = fill_units(e, parts[PART_UNITS], span.unit, config, err);
    rc = rc ? rc : fill_op(e, parts[PART_OP], err);
    return rc ? rc : fill_value(e, parts[PART_VALUE], err);
}

static int append(struct edit_list *list, const struct piece parts[N_PARTS], struct piece text,
                  const struct model_config *config, struct err *err)
{
    struct edit e = { .text = mem_strndup(text.text, text.len) };
    int rc = e.text ? fill(&e, parts, config, err) : err_nomem(err, "an edit");
    if (!rc && !mem_grow(&list->edits, &list->capacity, list->n + 1, sizeof *list->edits))
        rc = err_nomem(err, "edits");
    if (!rc) {
        list->edits[list->n++] = e;
        return 0;
    }
    err_prefix(err, "edit '%.*s': ", shown(text), text.text);
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

int edit_parse(struct edit_list *list, const char *text, const struct model_config *config, struct err *err)
{
    struct piece parts[N_PARTS] = { { NULL, 0 } };
    struct piece whole = { text, strlen(text) };
    const char *at = text;
    struct piece target = next_word(&at);
    parts[PART_OP] = next_word(&at);
    parts[PART_VALUE] = next_word(&at);
    struct piece extra = next_word(&at);
    if (!target.text)
        return err_set(err, ERR_ARG, "edit '%.*s' is empty: " GRAMMAR, shown(whole), text);
    if (extra.text)
        return err_set(err, ERR_ARG, "edit '%.*s': '%.*s' is one word too many: " GRAMMAR, shown(whole), text,
                       shown(extra), extra.text);
    split_target(target, parts);
    return append(list, parts, whole, config, err);
}

/* --- JSON --- */

static int check_keys(json_t *object, struct err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        struct suggest s;
        char hint[SUGGEST_TEXT_MAX];
        bool known = false;
        suggest_init(&s, key, strlen(key));
        for (size_t i = 0; i < N_PARTS; i++) {
            known = known || !strcmp(key, part_keys[i]);
            suggest_consider(&s, part_keys[i]);
        }
        suggest_text(&s, "", hint);
        if (!known)
            return err_set(err, ERR_FORMAT, "key \"%.60s\" is unknown%s", key,
                           *hint ? hint : ": an edit has site, at, keys, units, op, value");
    }
    return 0;
}

static int add_numbers(struct strbuf *s, const char *key, const json_t *array, struct err *err)
{
    if (!json_array_size(array))
        return err_set(err, ERR_FORMAT, "key \"%s\": the array is empty: leave the key out for all", key);
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *item = json_array_get(array, i);
        if (!json_is_integer(item))
            return err_set(err, ERR_FORMAT, "key \"%s\": the array must hold whole numbers", key);
        strbuf_addf(s, "%s%lld", i ? "," : "", (long long)json_integer_value(item));
    }
    return 0;
}

/* A part's value as the text that an expression would have. */
static int add_json_text(struct strbuf *s, enum part part, const json_t *value, struct err *err)
{
    const char *key = part_keys[part];
    bool is_list = part == PART_AT || part == PART_KEYS || part == PART_UNITS;
    if (part == PART_VALUE) {
        if (!json_is_number(value))
            return err_set(err, ERR_FORMAT, "key \"%s\" must be a number", key);
        strbuf_addf(s, "%.17g", json_number_value(value));
        return 0;
    }
    if (is_list && json_is_array(value))
        return add_numbers(s, key, value, err);
    if (is_list && json_is_integer(value)) {
        strbuf_addf(s, "%lld", (long long)json_integer_value(value));
        return 0;
    }
    if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value))
        return err_set(err, ERR_FORMAT, "key \"%s\" must be a string%s", key,
                       is_list ? ", a whole number or an array of them" : "");
    strbuf_adds(s, json_string_value(value));
    return 0;
}

static int parse_object(struct edit_list *list, json_t *object, const struct model_config *config, struct err *err)
{
    struct strbuf s = STRBUF_INIT;
    size_t begin[N_PARTS], end[N_PARTS];
    int rc = check_keys(object, err);
    for (enum part i = 0; i < N_PARTS && !rc; i++) {
        const json_t *value = json_object_get(object, part_keys[i]);
        begin[i] = end[i] = SIZE_MAX;
        if (!value || json_is_null(value))
            continue;
        strbuf_adds(&s, part_before[i]);
        begin[i] = s.len;
        rc = add_json_text(&s, i, value, err);
        end[i] = s.len;
    }
    if (!rc && strbuf_failed(&s))
        rc = err_nomem(err, "an edit");
    if (!rc) {
        /* The buffer no longer moves. */
        struct piece parts[N_PARTS] = { { NULL, 0 } };
        for (size_t i = 0; i < N_PARTS; i++)
            if (begin[i] != SIZE_MAX)
                parts[i] = (struct piece){ strbuf_text(&s) + begin[i], end[i] - begin[i] };
        rc = append(list, parts, (struct piece){ strbuf_text(&s), s.len }, config, err);
    }
    strbuf_release(&s);
    return rc;
}

int edit_parse_json(struct edit_list *list, const json_t *array, const char *where, const struct model_config *config,
                    struct err *err)
{
    if (!json_is_array(array))
        return err_set(err, ERR_FORMAT, "%s: edits must be an array of strings or objects", where);
    for (size_t i = 0; i < json_array_size(array); i++) {
        json_t *item = json_array_get(array, i);
        int rc;
        if (json_is_object(item))
            rc = parse_object(list, item, config, err);
        else if (json_is_string(item) && strlen(json_string_value(item)) == json_string_length(item))
            rc = edit_parse(list, json_string_value(item), config, err);
        else
            rc = err_set(err, ERR_FORMAT, "must be a string without NUL bytes or an object");
        if (rc) {
            err_prefix(err, "%s: item %zu: ", where, i + 1);
            return rc;
        }
    }
    return 0;
}
