/* Sets of sites, and the filters that choose them. */
#include "core/base/glob.h"
#include "core/base/mem.h"
#include "core/base/ranges.h"
#include "core/runtime/sites.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int site_set_init(struct site_set *set, const struct model_config *config, struct err *err)
{
    size_t n_heads;
    *set = (struct site_set){ .config = config };
    set->chosen = mem_zeroed(config->n_layers, N_SITES);
    set->heads = size_mul(config->n_layers, config->n_heads, &n_heads) ? mem_zeroed(n_heads, 1) : NULL;
    if (set->chosen && set->heads)
        return 0;
    site_set_release(set);
    return err_nomem(err, "a set of sites");
}

void site_set_release(struct site_set *set)
{
    free(set->chosen);
    free(set->heads);
    set->chosen = set->heads = NULL;
}

static unsigned char *slot(const struct site_set *set, enum site site, size_t layer)
{
    return &set->chosen[site * set->config->n_layers + layer];
}

void site_set_add_one(struct site_set *set, struct site_ref ref)
{
    *slot(set, ref.site, ref.layer) = 1;
    if (ref.site == SITE_Z)
        memset(set->heads + ref.layer * set->config->n_heads, 0, set->config->n_heads);
}

static void add_head(struct site_set *set, size_t layer, size_t head)
{
    unsigned char *heads = set->heads + layer * set->config->n_heads, *chosen = slot(set, SITE_Z, layer);
    bool whole = *chosen && !memchr(heads, 1, set->config->n_heads);
    if (!whole)
        heads[head] = 1;
    *chosen = 1;
}

bool site_set_has(const struct site_set *set, enum site site, size_t layer)
{
    return *slot(set, site, layer);
}

bool site_set_has_head(const struct site_set *set, size_t layer, size_t head)
{
    const unsigned char *heads = set->heads + layer * set->config->n_heads;
    return site_set_has(set, SITE_Z, layer) && (heads[head] || !memchr(heads, 1, set->config->n_heads));
}

bool site_set_next(const struct site_set *set, size_t *cursor, struct site_ref *out)
{
    /* Stages: before the blocks, each block, after them. */
    size_t n_layers = set->config->n_layers;
    while (*cursor < (n_layers + 2) * N_SITES) {
        size_t stage = *cursor / N_SITES;
        enum site site = (enum site)(*cursor % N_SITES);
        size_t layer = stage && stage <= n_layers ? stage - 1 : 0;
        size_t own_stage = site_row(site)->per_layer ? layer + 1 : site < SITE_RESID_PRE ? 0 : n_layers + 1;
        ++*cursor;
        if (stage == own_stage && site_set_has(set, site, layer)) {
            *out = (struct site_ref){ site, layer };
            return true;
        }
    }
    return false;
}

size_t site_set_count(const struct site_set *set)
{
    size_t n = 0;
    for (size_t i = 0; i < N_SITES * set->config->n_layers; i++)
        n += set->chosen[i];
    return n;
}

/* --- filters --- */

struct glob {
    const char *text;
    size_t len;
    bool in_blocks;      /* text is what follows "blocks.RANGE." */
    struct range layers; /* where in_blocks */
};

/* A glob may be over full names, else over bridge names, else over short ones. */
enum names { FULL_NAMES, BRIDGE_NAMES, SHORT_NAMES };

static const char *name_of(enum names names, enum site site, const struct model_config *config)
{
    return names == FULL_NAMES     ? site_row(site)->name
           : names == BRIDGE_NAMES ? site_bridge_name(site, config)
                                   : site_row(site)->short_name;
}

static bool matches(const struct glob *g, enum names names, enum site site, size_t layer, const char *name)
{
    const struct site_row *row = site_row(site);
    if (g->in_blocks)
        return row->per_layer && names != SHORT_NAMES && layer >= g->layers.first && layer <= g->layers.last &&
               glob_match(g->text, g->len, name);
    char full[SITE_NAME_MAX];
    snprintf(full, sizeof full, "blocks.%zu.%s", layer, name);
    return glob_match(g->text, g->len, row->per_layer && names != SHORT_NAMES ? full : name);
}

/* Adds what matches and exists. Returns how many; *missing is a site that matches but does not exist. */
static size_t add_matches(struct site_set *set, const struct glob *g, enum names names, enum site *missing)
{
    size_t n = 0;
    for (int s = 0; s < N_SITES; s++) {
        enum site site = (enum site)s;
        const char *name = name_of(names, site, set->config);
        size_t n_layers = site_row(site)->per_layer ? set->config->n_layers : 1;
        for (size_t l = 0; name && l < n_layers; l++) {
            if (!matches(g, names, site, l, name))
                continue;
            if (site_missing(site, set->config)) {
                *missing = site;
                break;
            }
            site_set_add_one(set, (struct site_ref){ site, l });
            n++;
        }
    }
    return n;
}

static int shown(size_t len)
{
    return len < 120 ? (int)len : 120;
}

static int add_glob(struct site_set *set, const char *text, size_t len, struct err *err)
{
    enum { BLOCKS = sizeof "blocks." - 1 };
    struct glob g = { .text = text, .len = len };
    const char *dot = len > BLOCKS ? memchr(text + BLOCKS, '.', len - BLOCKS) : NULL;
    if (dot && !memcmp(text, "blocks.", BLOCKS) &&
        range_parse(text + BLOCKS, (size_t)(dot - text) - BLOCKS, &g.layers)) {
        g.in_blocks = true;
        g.text = dot + 1;
        g.len = len - (size_t)(dot + 1 - text);
        if (g.layers.last >= set->config->n_layers)
            return err_set(err, ERR_ARG, "'%.*s': there is no layer %zu: the model has %zu layers, 0 to %zu",
                           shown(len), text, g.layers.last, set->config->n_layers, set->config->n_layers - 1);
    }
    enum site missing = N_SITES;
    for (int names = FULL_NAMES; names <= SHORT_NAMES && missing == N_SITES; names++)
        if (add_matches(set, &g, (enum names)names, &missing))
            return 0;
    if (missing != N_SITES)
        return err_set(err, ERR_UNSUPPORTED, "'%.*s': %s: %s", shown(len), text, site_row(missing)->name,
                       site_missing(missing, set->config));
    /* Read as a name it fails too, with near matches. */
    struct site_span span;
    int rc = site_span_parse(text, len, set->config, &span, err);
    return rc ? rc : err_set(err, ERR_NOTFOUND, "'%.*s' matches no site", shown(len), text);
}

static int add_item(struct site_set *set, const char *text, size_t len, struct err *err)
{
    struct site_span span;
    if (!len)
        return err_set(err, ERR_ARG, "a site filter is empty: write for example resid_post,z:3-5");
    if (glob_has_wildcard(text, len) && !memchr(text, ':', len))
        return add_glob(set, text, len, err);
    struct range number;
    if (range_parse(text, len, &number))
        return err_set(err, ERR_ARG, "'%.*s' in a site filter is no site: repeat the name, as in z:3,z:5", shown(len),
                       text);
    int rc = site_span_parse(text, len, set->config, &span, err);
    if (rc)
        return rc;
    if (span.unit != SIZE_MAX && span.site != SITE_Z)
        return err_set(err, ERR_ARG, "'%.*s': a filter takes single heads, not neurons: choose the site with post:%zu",
                       shown(len), text, span.first_layer);
    for (size_t l = span.first_layer; l <= span.last_layer; l++) {
        if (span.unit != SIZE_MAX)
            add_head(set, l, span.unit);
        else
            site_set_add_one(set, (struct site_ref){ span.site, l });
    }
    return 0;
}

int site_set_add(struct site_set *set, const char *filter, struct err *err)
{
    for (const char *at = filter;; at++) {
        size_t len = strcspn(at, ",");
        const char *next = at + len;
        while (len && (*at == ' ' || *at == '\t')) {
            at++;
            len--;
        }
        while (len && (at[len - 1] == ' ' || at[len - 1] == '\t'))
            len--;
        int rc = add_item(set, at, len, err);
        if (rc)
            return rc;
        if (!*next)
            return 0;
        at = next;
    }
}
