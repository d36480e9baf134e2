/* Which layers of config.json's model look back only so far, and what else differs among layers. */
#include "core/model/internal.h"

#include <string.h>

static int not_supported(const struct config_reader *r, const char *key, size_t layer, const char *type)
{
    return err_set(r->err, ERR_UNSUPPORTED, "%s: \"%s\" of layer %zu is \"%.40s\": not supported", r->name, key, layer,
                   type ? type : "no string");
}

/* "layer_types" decides for each layer where it is there. */
static int read_types(const struct config_reader *r, size_t window, bool *decided)
{
    struct model *m = r->m;
    json_t *types;
    int rc = json_get_array(r->json, r->name, "layer_types", &types, r->err);
    *decided = types;
    if (rc || !types)
        return rc;
    if (json_array_size(types) != m->config.n_layers)
        return err_set(r->err, ERR_FORMAT, "%s: \"layer_types\" has %zu entries for %zu layers", r->name,
                       json_array_size(types), m->config.n_layers);
    for (size_t l = 0; l < m->config.n_layers; l++) {
        const char *type = json_string_value(json_array_get(types, l));
        bool slides = type && !strcmp(type, "sliding_attention");
        if (!slides && (!type || strcmp(type, "full_attention")))
            return not_supported(r, "layer_types", l, type);
        if (slides && !window)
            return err_set(r->err, ERR_FORMAT, "%s: layer %zu is \"sliding_attention\" but no window is set", r->name,
                           l);
        m->layers[l].window = slides ? window : 0;
    }
    return 0;
}

/* Layers from "max_window_layers" on slide. */
static int read_some(const struct config_reader *r, size_t window)
{
    size_t first;
    int rc = json_get_size_or(r->json, r->name, "max_window_layers", 0, SIZE_MAX, 28, &first, r->err);
    for (size_t l = 0; !rc && l < r->m->config.n_layers; l++)
        r->m->layers[l].window = l >= first ? window : 0;
    return rc;
}

void config_slide_by_period(struct model *m, size_t period, size_t window)
{
    const struct window_rule *rule = &m->storage->arch->window;
    for (size_t l = 0; l < m->config.n_layers; l++)
        m->layers[l].window = (l + !rule->first_is_full) % period ? window : 0;
}

static int read_period(const struct config_reader *r, size_t window)
{
    const struct window_rule *rule = &r->arch->window;
    size_t period = rule->period;
    if (rule->period_key) {
        struct config_place place = config_find(r, rule->period_key);
        int rc = json_get_size_or(place.object, r->name, place.key, 1, MAX_LAYERS, period, &period, r->err);
        if (rc)
            return rc;
    }
    config_slide_by_period(r->m, period, window);
    return 0;
}

/* GPT-Neo: "attention_layers" names each layer, "attention_types" is [[names, repeats], ..]. */
static int take_name(const struct config_reader *r, const json_t *name, size_t *layer, size_t window)
{
    const char *text = json_string_value(name);
    bool local = text && !strcmp(text, "local");
    if (!local && (!text || strcmp(text, "global")))
        return not_supported(r, "attention_types", *layer, text);
    if (*layer < r->m->config.n_layers)
        r->m->layers[*layer].window = local ? window : 0;
    ++*layer;
    return 0;
}

static int read_listed(const struct config_reader *r, size_t window)
{
    json_t *layers, *types;
    size_t layer = 0;
    int rc = json_get_array(r->json, r->name, "attention_layers", &layers, r->err);
    rc = rc ? rc : json_get_array(r->json, r->name, "attention_types", &types, r->err);
    if (rc)
        return rc;
    for (size_t i = 0; !rc && layers && i < json_array_size(layers); i++)
        rc = take_name(r, json_array_get(layers, i), &layer, window);
    for (size_t i = 0; !rc && !layers && i < json_array_size(types); i++) {
        const json_t *names = json_array_get(json_array_get(types, i), 0);
        json_int_t repeats = json_integer_value(json_array_get(json_array_get(types, i), 1));
        for (json_int_t k = 0; !rc && k < repeats && layer <= r->m->config.n_layers; k++)
            for (size_t n = 0; !rc && n < json_array_size(names); n++)
                rc = take_name(r, json_array_get(names, n), &layer, window);
    }
    /* transformers: without either, global and local in turn */
    for (size_t l = 0; !rc && !layers && !types && l < r->m->config.n_layers; l++, layer++)
        r->m->layers[l].window = l % 2 ? window : 0;
    if (!rc && layer != r->m->config.n_layers)
        rc = err_set(r->err, ERR_FORMAT, "%s: \"attention_types\" are of %zu layers, not %zu", r->name, layer,
                     r->m->config.n_layers);
    return rc;
}

static int read_windows(const struct config_reader *r)
{
    const struct window_rule *rule = &r->arch->window;
    if (rule->kind == WINDOW_NONE)
        return 0;
    /* Absent is the family's number, null is none. */
    struct config_place place = config_find(r, rule->key ? rule->key : "sliding_window");
    size_t window, otherwise = json_object_get(place.object, place.key) ? 0 : rule->otherwise;
    bool use = true, decided = false;
    int rc = json_get_size_or(place.object, r->name, place.key, 0, MAX_CONTEXT, otherwise, &window, r->err);
    if (!rc && rule->kind == WINDOW_SOME_LAYERS)
        rc = json_get_bool_or(r->json, r->name, "use_sliding_window", false, &use, r->err);
    window = !use ? 0 : rule->halved ? window / 2 + 1 : window;
    if (!rc && (rule->kind == WINDOW_SOME_LAYERS || rule->kind == WINDOW_PERIODIC))
        rc = read_types(r, window, &decided);
    if (rc || decided)
        return rc;
    switch (rule->kind) {
    case WINDOW_SOME_LAYERS:
        return read_some(r, window);
    case WINDOW_PERIODIC:
        return read_period(r, window);
    case WINDOW_LISTED:
        return read_listed(r, window);
    default:
        for (size_t l = 0; l < r->m->config.n_layers; l++)
            r->m->layers[l].window = window;
        return 0;
    }
}

/* "no_rope_layers" has a 1 for each layer with rotary, a 0 for each without; else every n-th layer is without. */
static int read_rope_layers(const struct config_reader *r)
{
    json_t *list;
    struct model *m = r->m;
    int rc = json_get_array(r->json, r->name, "no_rope_layers", &list, r->err);
    if (rc || !list)
        return rc;
    if (json_array_size(list) != m->config.n_layers)
        return err_set(r->err, ERR_FORMAT, "%s: \"no_rope_layers\" has %zu entries for %zu layers", r->name,
                       json_array_size(list), m->config.n_layers);
    for (size_t l = 0; l < m->config.n_layers; l++) {
        const json_t *entry = json_array_get(list, l);
        if (!json_is_integer(entry))
            return err_set(r->err, ERR_FORMAT, "%s: entry %zu of \"no_rope_layers\" is no whole number", r->name, l);
        m->layers[l].rope = json_integer_value(entry) ? 0 : NO_ROPE;
    }
    return 0;
}

void config_ropes_of_windows(struct model *m)
{
    const struct arch *arch = m->storage->arch;
    for (size_t l = 0; l < m->config.n_layers; l++) {
        if (arch->local_theta > 0 && m->layers[l].window)
            m->layers[l].rope = m->storage->local_rope;
        if (arch->window.full_has_no_rope && !m->layers[l].window)
            m->layers[l].rope = NO_ROPE;
    }
}

int config_read_windows(const struct config_reader *r)
{
    int rc = read_windows(r);
    if (rc)
        return rc;
    config_ropes_of_windows(r->m);
    return arch_property(r->arch, PROPERTY_ROPE_LAYERS) ? read_rope_layers(r) : 0;
}
