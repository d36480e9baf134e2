#include "core/runtime/sites.h"

#include "core/base/ranges.h"
#include "core/base/suggest.h"

#include <stdio.h>
#include <string.h>

#define X(id, text) static const char axes_text_##id[] = text;
SITE_AXES(X)
#undef X

static const struct site_row rows[N_SITES] = {
#define X(id, name, short_name, bridge, axes, condition, per_layer, editable, meaning)                                 \
    { name, short_name, bridge, axes_text_##axes, meaning, AXES_##axes, SITE_IF_##condition, per_layer, editable },
    SITES(X)
#undef X
};

/* What an error may propose where the layer is not known. */
static const char *const any_layer_names[N_SITES] = {
#define X(id, name, short_name, bridge, axes, condition, per_layer, editable, meaning)                                 \
    per_layer ? "blocks.*." name : name,
    SITES(X)
#undef X
};

static const char *const reasons[] = {
#define X(id, reason) reason,
    SITE_CONDITIONS(X)
#undef X
};

/* TransformerLens's get_act_name has these besides the short names. */
static const struct alias {
    const char *name;
    enum site site;
} aliases[] = {
    { "attn", SITE_PATTERN }, { "attn_logits", SITE_SCORES }, { "query", SITE_Q },           { "key", SITE_K },
    { "value", SITE_V },      { "mlp_pre", SITE_MLP_PRE },    { "mlp_post", SITE_MLP_POST },
};
enum { N_ALIASES = sizeof aliases / sizeof *aliases };

/* Further names of TransformerLens's bridge, inside the blocks; of two rows of one name the first that exists. */
static const struct alias bridge_aliases[] = {
    { "ln1.hook_in", SITE_RESID_PRE },    { "attn.hook_in", SITE_LN1_OUT },     { "attn.q.hook_in", SITE_LN1_OUT },
    { "attn.k.hook_in", SITE_LN1_OUT },   { "attn.v.hook_in", SITE_LN1_OUT },   { "attn.o.hook_out", SITE_ATTN_RAW },
    { "attn.o.hook_out", SITE_ATTN_OUT }, { "mlp.hook_in", SITE_LN2_OUT },      { "mlp.in.hook_in", SITE_LN2_OUT },
    { "mlp.out.hook_out", SITE_MLP_RAW }, { "mlp.out.hook_out", SITE_MLP_OUT },
};
enum { N_BRIDGE_ALIASES = sizeof bridge_aliases / sizeof *bridge_aliases };

/* Names of modules in `k6attn`, `scale4ln1`; get_act_name's short spellings. */
static const struct module {
    const char *spelling, *prefix;
} modules[] = {
    { "a", "attn." }, { "attention", "attn." }, { "m", "mlp." }, { "b", "" }, { "block", "" }, { "blocks", "" },
};
enum { N_MODULES = sizeof modules / sizeof *modules };

struct piece {
    const char *text;
    size_t len;
};

const struct site_row *site_row(enum site site)
{
    return &rows[site];
}

const char *site_bridge_name(enum site site, const struct model_config *config)
{
    if (config && config->gated_mlp && site == SITE_MLP_PRE)
        return "mlp.gate.hook_out";
    if (config && config->gated_mlp && site == SITE_MLP_PRE_LINEAR)
        return "mlp.in.hook_out";
    return rows[site].bridge_name;
}

enum site site_leaving_block(const struct model_config *config)
{
    return config->block == BLOCK_POST ? SITE_NORMALIZED_RESID_POST : SITE_RESID_POST;
}

const char *site_missing(enum site site, const struct model_config *config)
{
    bool exists = true, gated = config->gated_mlp, experts = config->n_experts;
    switch (rows[site].condition) {
    case SITE_IF_ALWAYS:
        break;
    case SITE_IF_POSITIONS:
        exists = config->position == POSITION_LEARNED;
        break;
    case SITE_IF_TYPES:
        exists = config->n_token_types;
        break;
    case SITE_IF_FULL_EMBED:
        exists = model_embeds_a_sum(config) && config->embed_norm;
        break;
    case SITE_IF_ROTARY:
        exists = config->position == POSITION_ROTARY;
        break;
    case SITE_IF_LN1:
        exists = config->block != BLOCK_POST && config->ln1;
        break;
    case SITE_IF_LN2:
        exists = config->block != BLOCK_POST && config->ln2;
        break;
    case SITE_IF_SEQUENTIAL:
        exists = config->block != BLOCK_PARALLEL;
        break;
    case SITE_IF_SUBLAYER_NORMS:
        exists = config->sublayer_norms;
        break;
    case SITE_IF_POST_NORM:
        exists = config->block == BLOCK_POST;
        break;
    case SITE_IF_DENSE:
        exists = !experts;
        break;
    case SITE_IF_GATED:
        exists = gated && !experts;
        break;
    case SITE_IF_EXPERTS:
        exists = experts;
        break;
    case SITE_IF_FINAL_NORM:
        exists = config->final_norm;
        break;
    case SITE_IF_HEAD_TRANSFORM:
        exists = config->head_transform;
        break;
    case SITE_IF_UNEMBEDDING:
        exists = config->unembedding;
        break;
    }
    if (!exists && rows[site].condition == SITE_IF_GATED && experts)
        return reasons[SITE_IF_DENSE];
    return exists ? NULL : reasons[rows[site].condition];
}

char *site_name(struct site_ref ref, char *name)
{
    if (rows[ref.site].per_layer)
        snprintf(name, SITE_NAME_MAX, "blocks.%zu.%s", ref.layer, rows[ref.site].name);
    else
        snprintf(name, SITE_NAME_MAX, "%s", rows[ref.site].name);
    return name;
}

int site_shape(enum site site, const struct model_config *config, size_t dims[2])
{
    switch (rows[site].axes) {
    case AXES_MODEL:
        dims[0] = config->d_model;
        return 1;
    case AXES_EMBED:
        dims[0] = model_embed_width(config);
        return 1;
    case AXES_EXPERTS:
        dims[0] = config->n_experts;
        return 1;
    case AXES_EXPERT_RESULT:
        dims[0] = config->n_experts;
        dims[1] = config->d_model;
        return 2;
    case AXES_SCALE:
        dims[0] = 1;
        return 1;
    case AXES_QUERY:
        dims[0] = config->n_heads;
        dims[1] = config->d_head;
        return 2;
    case AXES_KEY:
        dims[0] = config->n_kv_heads;
        dims[1] = config->d_head;
        return 2;
    case AXES_RESULT:
        dims[0] = config->n_heads;
        dims[1] = config->d_model;
        return 2;
    case AXES_NEURONS:
        dims[0] = config->d_mlp;
        return 1;
    case AXES_VOCAB:
        dims[0] = config->d_vocab;
        return 1;
    case AXES_EDGES:
        break;
    }
    return 0;
}

size_t site_row_size(enum site site, const struct model_config *config)
{
    size_t dims[2];
    int n = site_shape(site, config, dims);
    return n == 2 ? dims[0] * dims[1] : n == 1 ? dims[0] : config->n_heads;
}

size_t site_units(enum site site, const struct model_config *config, const char **what)
{
    switch (rows[site].axes) {
    case AXES_QUERY:
    case AXES_RESULT:
    case AXES_EDGES:
        *what = "head";
        return config->n_heads;
    case AXES_KEY:
        *what = "KV head";
        return config->n_kv_heads;
    case AXES_EXPERTS:
    case AXES_EXPERT_RESULT:
        *what = "expert";
        return config->n_experts;
    case AXES_NEURONS:
        *what = "neuron";
        return config->d_mlp;
    default:
        *what = NULL;
        return 0;
    }
}

/* --- names --- */

static bool equals(struct piece p, const char *text)
{
    return p.len == strlen(text) && !memcmp(p.text, text, p.len);
}

static int shown(struct piece p)
{
    return p.len < 120 ? (int)p.len : 120;
}

/* Of two rows of one name, the one that the model has; of two that it lacks, the first. */
static enum site better(enum site found, int s, const struct model_config *config)
{
    return found == N_SITES || (site_missing(found, config) && !site_missing((enum site)s, config)) ? (enum site)s
                                                                                                    : found;
}

/* A full name without "blocks.L.", or a bridge name; N_SITES when there is none. */
static enum site find_name(struct piece name, bool per_layer, const struct model_config *config)
{
    enum site found = N_SITES;
    for (int s = 0; s < N_SITES; s++)
        if (rows[s].per_layer == per_layer && equals(name, rows[s].name))
            found = better(found, s, config);
    for (int s = 0; s < N_SITES && (found == N_SITES || site_missing(found, config)); s++) {
        const char *bridge = site_bridge_name((enum site)s, config);
        if (rows[s].per_layer == per_layer && bridge && equals(name, bridge))
            found = better(found, s, config);
    }
    for (size_t i = 0; per_layer && i < N_BRIDGE_ALIASES; i++)
        if (equals(name, bridge_aliases[i].name))
            found = better(found, (int)bridge_aliases[i].site, config);
    return found;
}

bool site_listed(enum site site, const struct model_config *config)
{
    struct piece name = { rows[site].name, strlen(rows[site].name) };
    if (config)
        return !site_missing(site, config) || find_name(name, rows[site].per_layer, config) == site;
    for (int s = 0; s < (int)site; s++)
        if (rows[s].per_layer == rows[site].per_layer && equals(name, rows[s].name))
            return false;
    return true;
}

static enum site find_short(struct piece name, const struct model_config *config)
{
    enum site found = N_SITES;
    for (int s = 0; s < N_SITES; s++)
        if (equals(name, rows[s].short_name))
            found = better(found, s, config);
    if (found != N_SITES)
        return found;
    for (size_t i = 0; i < N_ALIASES; i++)
        if (equals(name, aliases[i].name))
            return aliases[i].site;
    return N_SITES;
}

/* Moves *text past the word, if it begins with it. */
static bool skip(const char **text, const char *word, size_t len)
{
    if (strncmp(*text, word, len))
        return false;
    *text += len;
    return true;
}

/* The `scale` and `ln1` of `scale4ln1`: the site `ln1.hook_scale`. */
static enum site find_in_module(struct piece name, struct piece module, const struct model_config *config)
{
    const char *spelled = NULL;
    for (size_t i = 0; i < N_MODULES; i++)
        if (equals(module, modules[i].spelling))
            spelled = modules[i].prefix;
    enum site alias = find_short(name, config), found = N_SITES;
    for (int s = 0; s < N_SITES; s++) {
        const char *rest = rows[s].name;
        bool inside = spelled ? skip(&rest, spelled, strlen(spelled))
                              : skip(&rest, module.text, module.len) && skip(&rest, ".", 1);
        if (inside && rows[s].per_layer && ((int)alias == s || (skip(&rest, "hook_", 5) && equals(name, rest))))
            found = better(found, s, config);
    }
    return found;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* `k6`, `resid_post7`, `scale4ln1`: name, layer, module. */
static enum site find_act_name(struct piece text, const struct model_config *config, struct piece *layer)
{
    size_t end = text.len, start = 0;
    while (end && is_digit(text.text[end - 1]))
        end--;
    enum site site = end < text.len ? find_short((struct piece){ text.text, end }, config) : N_SITES;
    *layer = (struct piece){ text.text + end, text.len - end };
    if (site != N_SITES)
        return site;
    while (start < text.len && !is_digit(text.text[start]))
        start++;
    end = start;
    while (end < text.len && is_digit(text.text[end]))
        end++;
    *layer = (struct piece){ text.text + start, end - start };
    if (!start || start == end || end == text.len)
        return N_SITES;
    return find_in_module((struct piece){ text.text, start }, (struct piece){ text.text + end, text.len - end },
                          config);
}

/* --- errors --- */

static int unknown(struct piece text, struct piece tail, struct piece layers, const struct model_config *config,
                   struct err *err)
{
    struct suggest s;
    char hint[SUGGEST_TEXT_MAX], prefix[SITE_NAME_MAX] = "";
    bool in_block = tail.text > text.text;
    if (equals(tail, "mlp.gate.hook_out"))
        return err_set(err, ERR_UNSUPPORTED, "'%.*s': %s", shown(text), text.text, reasons[SITE_IF_GATED]);
    if (!in_block && find_name(tail, true, config) != N_SITES)
        return err_set(err, ERR_NOTFOUND, "'%.*s' is inside the blocks: write blocks.L.%.*s, L a layer, a range or *",
                       shown(text), text.text, shown(tail), tail.text);
    if (in_block && layers.len < 20)
        snprintf(prefix, sizeof prefix, "blocks.%.*s.", (int)layers.len, layers.text);
    suggest_init(&s, tail.text, tail.len);
    for (int i = 0; i < N_SITES; i++) {
        if (site_missing((enum site)i, config) || (in_block && !rows[i].per_layer))
            continue;
        suggest_consider(&s, in_block ? rows[i].name : rows[i].short_name);
        const char *bridge = site_bridge_name((enum site)i, config);
        if (!in_block)
            suggest_consider(&s, any_layer_names[i]);
        else if (bridge)
            suggest_consider(&s, bridge);
    }
    for (size_t i = 0; i < N_ALIASES && !in_block; i++)
        suggest_consider(&s, aliases[i].name);
    suggest_text(&s, prefix, hint);
    return err_set(err, ERR_NOTFOUND, "'%.*s' names no site%s", shown(text), text.text,
                   *hint ? hint : ": `strata sites` lists them");
}

static int missing(enum site site, const struct model_config *config, struct err *err)
{
    return err_set(err, ERR_UNSUPPORTED, "%s: %s", rows[site].name, site_missing(site, config));
}

static int check_layers(struct piece text, struct range layers, const struct model_config *config, struct err *err)
{
    if (layers.last < config->n_layers)
        return 0;
    return err_set(err, ERR_ARG, "'%.*s': there is no layer %zu: the model has %zu layers, 0 to %zu", shown(text),
                   text.text, layers.last, config->n_layers, config->n_layers - 1);
}

/* --- spans --- */

/* L3H7, L7N120 */
static bool parse_unit(struct piece text, struct site_span *out)
{
    struct range layer, unit;
    size_t at = 1;
    while (at < text.len && is_digit(text.text[at]))
        at++;
    if (!text.len || text.text[0] != 'L' || at == text.len || (text.text[at] != 'H' && text.text[at] != 'N') ||
        !range_parse(text.text + 1, at - 1, &layer) || !range_parse(text.text + at + 1, text.len - at - 1, &unit) ||
        unit.first != unit.last)
        return false;
    *out = (struct site_span){ .site = text.text[at] == 'H' ? SITE_Z : SITE_MLP_POST,
                               .first_layer = layer.first,
                               .last_layer = layer.last,
                               .unit = unit.first };
    return true;
}

/* Finds the site, and the text of its layers (text NULL: none given). tail: what stands for the name, for messages. */
static enum site split_name(struct piece text, const struct model_config *config, struct piece *layers,
                            struct piece *tail)
{
    enum { BLOCKS = sizeof "blocks." - 1 };
    *layers = (struct piece){ NULL, 0 };
    *tail = text;
    if (text.len > BLOCKS && !memcmp(text.text, "blocks.", BLOCKS)) {
        const char *dot = memchr(text.text + BLOCKS, '.', text.len - BLOCKS);
        if (!dot)
            return N_SITES;
        *layers = (struct piece){ text.text + BLOCKS, (size_t)(dot - text.text) - BLOCKS };
        *tail = (struct piece){ dot + 1, text.len - (size_t)(dot - text.text) - 1 };
        return find_name(*tail, true, config);
    }
    const char *colon = memchr(text.text, ':', text.len);
    if (colon) {
        *tail = (struct piece){ text.text, (size_t)(colon - text.text) };
        *layers = (struct piece){ colon + 1, text.len - tail->len - 1 };
        return find_short(*tail, config);
    }
    enum site site = find_name(text, false, config);
    if (site == N_SITES)
        site = find_short(text, config);
    struct piece layer;
    if (site == N_SITES && (site = find_act_name(text, config, &layer)) != N_SITES)
        *layers = layer;
    return site;
}

int site_span_parse(const char *name, size_t len, const struct model_config *config, struct site_span *out,
                    struct err *err)
{
    struct piece text = { name, len }, layer_text, tail;
    struct range layers = { 0, config->n_layers - 1 };
    if (parse_unit(text, out)) {
        const char *what;
        size_t n = site_units(out->site, config, &what);
        int rc = check_layers(text, (struct range){ out->first_layer, out->last_layer }, config, err);
        if (!rc && out->unit >= n)
            rc = err_set(err, ERR_ARG, "'%.*s': there is no %s %zu: %s has %zu, 0 to %zu", shown(text), name, what,
                         out->unit, rows[out->site].name, n, n - 1);
        return rc;
    }
    enum site site = split_name(text, config, &layer_text, &tail);
    if (site == N_SITES)
        return unknown(text, tail, layer_text, config, err);
    if (site_missing(site, config))
        return missing(site, config, err);
    if (!rows[site].per_layer && layer_text.text)
        return err_set(err, ERR_ARG, "'%.*s': %s stands outside the blocks and has no layer", shown(text), name,
                       rows[site].name);
    if (layer_text.text && !equals(layer_text, "*")) {
        if (!range_parse(layer_text.text, layer_text.len, &layers))
            return err_set(err, ERR_ARG, "'%.*s': '%.*s' is no layer: write a number, a range such as 3-5, or *",
                           shown(text), name, shown(layer_text), layer_text.text);
        int rc = check_layers(text, layers, config, err);
        if (rc)
            return rc;
    }
    *out = (struct site_span){ site, layers.first, layers.last, SIZE_MAX };
    if (!rows[site].per_layer)
        out->last_layer = 0;
    return 0;
}

int site_parse(const char *name, const struct model_config *config, struct site_ref *out, struct err *err)
{
    struct site_span span;
    int rc = site_span_parse(name, strlen(name), config, &span, err);
    if (rc)
        return rc;
    if (span.unit != SIZE_MAX || span.first_layer != span.last_layer)
        return err_set(err, ERR_ARG, "'%s': one whole site is needed here, such as blocks.%zu.%s", name,
                       span.last_layer, rows[span.site].name);
    *out = (struct site_ref){ span.site, span.first_layer };
    return 0;
}
