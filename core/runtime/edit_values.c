/* What set, add, scale and patch take: numbers, vectors, noise, other runs. */
#include "core/base/mem.h"
#include "core/base/suggest.h"
#include "core/formats/vector_file.h"
#include "core/runtime/edit_internal.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool read_number(struct piece text, double *out)
{
    char number[64], *end;
    if (!text.len || text.len >= sizeof number)
        return false;
    memcpy(number, text.text, text.len);
    number[text.len] = '\0';
    *out = strtod(number, &end);
    return end == number + text.len && isfinite(*out) && fabs(*out) <= (double)FLT_MAX;
}

/* --- vectors --- */

/* A row of the site, and of it the chosen units. */
struct widths {
    size_t row, unit, chosen, layers;
};

static struct widths widths_of(const struct edit *e, const struct model_config *config)
{
    const char *what;
    size_t n = site_units(e->site, config, &what);
    struct widths w = { .row = site_row_size(e->site, config), .layers = e->last_layer - e->first_layer + 1 };
    w.unit = n ? w.row / n : w.row;
    w.chosen = e->n_units ? 0 : w.row;
    for (size_t i = 0; i < e->n_units; i++)
        w.chosen += (e->units[i].last - e->units[i].first + 1) * w.unit;
    return w;
}

static int wrong_size(const struct edit *e, const struct widths *w, const char *what, size_t n, struct err *err)
{
    char units[64] = "", layers[96] = "", *at = layers;
    if (w->chosen != w->row)
        snprintf(units, sizeof units, ", the chosen units %zu", w->chosen);
    if (w->layers > 1)
        snprintf(at, sizeof layers, " (or %zu: one of these for each of %zu layers)", w->row * w->layers, w->layers);
    return err_set(err, ERR_SHAPE, "%s holds %zu numbers, a row of %s has %zu%s%s", what, n, site_row(e->site)->name,
                   w->row, units, layers);
}

/* Takes over `numbers`: whole rows, or the chosen units of rows, which are spread over a row of zeros. */
static int take_vector(struct edit *e, float *numbers, size_t n, const char *what, const struct model_config *config,
                       struct err *err)
{
    const struct widths w = widths_of(e, config);
    bool whole = n == w.row || n == w.layers * w.row;
    e->source = EDIT_FROM_VECTOR;
    e->n_vectors = whole ? n / w.row : w.chosen ? n / w.chosen : 0;
    if (whole) {
        e->vector = numbers;
        return 0;
    }
    bool units = n == w.chosen || n == w.layers * w.chosen;
    e->vector = units ? mem_zeroed(e->n_vectors * w.row, sizeof *e->vector) : NULL;
    const float *from = numbers;
    for (size_t v = 0; e->vector && v < e->n_vectors; v++)
        for (size_t i = 0; i < e->n_units; i++) {
            size_t width = (e->units[i].last - e->units[i].first + 1) * w.unit;
            memcpy(e->vector + v * w.row + e->units[i].first * w.unit, from, width * sizeof *from);
            from += width;
        }
    free(numbers);
    return e->vector ? 0 : units ? err_nomem(err, "a vector") : wrong_size(e, &w, what, n, err);
}

static int read_vector(struct edit *e, struct piece path, const struct model_config *config, struct err *err)
{
    const struct widths w = widths_of(e, config);
    float *numbers;
    size_t n;
    char *name = mem_strndup(path.text, path.len);
    int rc = name ? vector_file_read(name, w.row * w.layers, &numbers, &n, err) : err_nomem(err, "a path");
    rc = rc ? rc : take_vector(e, numbers, n, name, config, err);
    free(name);
    return rc;
}

static int read_array(struct edit *e, const json_t *array, const struct model_config *config, struct err *err)
{
    size_t n = json_array_size(array);
    float *numbers = mem_array(n, sizeof *numbers);
    if (!numbers)
        return err_nomem(err, "a vector");
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(array, i);
        double x = json_number_value(item);
        if (!json_is_number(item) || fabs(x) > (double)FLT_MAX) {
            free(numbers);
            return err_set(err, ERR_FORMAT, "key \"value\": item %zu is no finite float32 number", i);
        }
        numbers[i] = (float)x;
    }
    return take_vector(e, numbers, n, "the array", config, err);
}

/* --- noise --- */

static int read_noise(struct edit *e, struct piece text, const struct edit_scope *scope, struct err *err)
{
    const char *colon = memchr(text.text, ':', text.len);
    struct piece sigma = { text.text, colon ? (size_t)(colon - text.text) : text.len };
    e->source = EDIT_FROM_NOISE;
    e->seed = scope ? scope->seed : 1;
    if (!read_number(sigma, &e->value) || e->value < 0)
        return err_set(err, ERR_ARG, "'noise:%.*s': write noise:SIGMA or noise:SIGMA:SEED", shown(text), text.text);
    if (!colon)
        return 0;
    struct piece seed = { colon + 1, text.len - sigma.len - 1 };
    e->seed = 0;
    for (size_t i = 0; i < seed.len || !seed.len; i++) {
        unsigned digit = seed.len ? (unsigned)(seed.text[i] - '0') : 10;
        if (digit > 9 || __builtin_mul_overflow(e->seed, (uint64_t)10, &e->seed) ||
            __builtin_add_overflow(e->seed, (uint64_t)digit, &e->seed))
            return err_set(err, ERR_ARG, "'%.*s' is no seed: write a whole number from 0", shown(seed), seed.text);
    }
    return 0;
}

/* --- values --- */

static int no_value(struct piece text, enum edit_op op, struct err *err)
{
    if (op == EDIT_SCALE)
        return err_set(err, ERR_ARG, "'%.*s' is no finite float32 number", shown(text), text.text);
    return err_set(err, ERR_ARG,
                   "'%.*s' is no finite float32 number; a vector is FILE.npy or FILE.f32, noise is noise:SIGMA[:SEED]",
                   shown(text), text.text);
}

int edit_fill_value(struct edit *e, const struct edit_text *t, const char *op, const struct edit_context *c,
                    struct err *err)
{
    static const char noise[] = "noise:";
    struct piece text = t->part[PART_VALUE];
    bool is_noise = text.len >= sizeof noise - 1 && !memcmp(text.text, noise, sizeof noise - 1);
    bool is_file = vector_file_named(text.text, text.len);
    if (!text.len && !t->numbers)
        return err_set(err, ERR_ARG, "'%s' needs a value, as in '%s 0.5'", op, op);
    if (!t->numbers && read_number(text, &e->value))
        return 0;
    if (e->op == EDIT_SCALE || (!t->numbers && !is_noise && !is_file))
        return no_value(text, e->op, err);
    if (site_row(e->site)->axes == AXES_EDGES)
        return err_set(err, ERR_UNSUPPORTED, "%s takes a number: its rows are as long as the prompt",
                       site_row(e->site)->name);
    if (t->numbers)
        return read_array(e, t->numbers, c->config, err);
    if (is_file)
        return read_vector(e, text, c->config, err);
    return read_noise(e, (struct piece){ text.text + sizeof noise - 1, text.len - (sizeof noise - 1) }, c->scope, err);
}

/* --- other runs --- */

static int find_run(struct edit *e, struct piece name, const struct edit_scope *scope, struct err *err)
{
    struct suggest s;
    char hint[SUGGEST_TEXT_MAX];
    e->run = EDIT_OWN_RUN;
    if (!name.text) {
        e->run = scope ? scope->default_run : EDIT_OWN_RUN;
        return 0;
    }
    if (is_word(name, "base"))
        return 0;
    suggest_init(&s, name.text, name.len);
    suggest_consider(&s, "base");
    for (size_t i = 0; scope && i < scope->n_runs; i++) {
        if (is_word(name, scope->runs[i])) {
            e->run = i;
            return 0;
        }
        suggest_consider(&s, scope->runs[i]);
    }
    suggest_text(&s, "", hint);
    return err_set(err, ERR_NOTFOUND, "there is no run '%.*s' to patch from%s", shown(name), name.text,
                   *hint ? hint : ": `base` is this prompt's own");
}

static int wrong_layers(struct piece text, struct err *err)
{
    return err_set(err, ERR_ARG, "'%.*s': values come from one layer, or from the same one", shown(text), text.text);
}

/* `:3`, the same site in another layer. */
static int find_layer(struct edit *e, struct piece text, const struct model_config *config, struct err *err)
{
    struct range layer;
    if (!site_row(e->site)->per_layer || !range_parse(text.text + 1, text.len - 1, &layer) || layer.first != layer.last)
        return wrong_layers(text, err);
    if (layer.first >= config->n_layers)
        return err_set(err, ERR_ARG, "'%.*s': there is no layer %zu: the model has %zu layers, 0 to %zu", shown(text),
                       text.text, layer.first, config->n_layers, config->n_layers - 1);
    e->from_layer = layer.first;
    return 0;
}

static int find_source(struct edit *e, struct piece text, const struct model_config *config, struct err *err)
{
    struct site_span span;
    e->from_site = e->site;
    e->from_layer = EDIT_SAME_LAYER;
    if (!text.text)
        return 0;
    if (*text.text == ':')
        return find_layer(e, text, config, err);
    int rc = site_span_parse(text.text, text.len, config, &span, err);
    if (rc)
        return rc;
    const struct site_row *to = site_row(e->site), *from = site_row(span.site);
    bool all = from->per_layer && span.first_layer == 0 && span.last_layer + 1 == config->n_layers;
    e->from_site = span.site;
    if (span.unit != SIZE_MAX || (span.first_layer != span.last_layer && !all))
        return wrong_layers(text, err);
    if (!all || !to->per_layer)
        e->from_layer = span.first_layer;
    bool edges = to->axes == AXES_EDGES || from->axes == AXES_EDGES;
    if (edges ? e->site != e->from_site : site_row_size(e->site, config) != site_row_size(e->from_site, config))
        return err_set(err, ERR_SHAPE, "a row of %s has %zu numbers, one of %s %zu: they cannot be exchanged", to->name,
                       site_row_size(e->site, config), from->name, site_row_size(e->from_site, config));
    return 0;
}

int edit_fill_patch(struct edit *e, const struct edit_text *t, const struct edit_context *c, struct err *err)
{
    struct piece at = t->part[PART_FROM_AT];
    e->source = EDIT_FROM_RUN;
    int rc = find_run(e, t->part[PART_FROM_RUN], c->scope, err);
    rc = rc ? rc : find_source(e, t->part[PART_FROM_SITE], c->config, err);
    if (rc)
        return rc;
    e->from_same = !at.text;
    if (at.text)
        return positions_parse(at.text, at.len, &e->from_at, err);
    if (e->run == EDIT_OWN_RUN && e->from_site == e->site && e->from_layer == EDIT_SAME_LAYER)
        return err_set(err, ERR_ARG,
                       "patches what is there anyway: name a site, positions or `from RUN`; the base run's "
                       "own values are `freeze`");
    return 0;
}
