/* config.json -> model_config. Keys and defaults are transformers' (models/.../configuration_*.py, version 5). */
#include "core/model/internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/*
 * Keys that change the mathematics in ways that are not computed here, and the value at which they do not. A family
 * that reads such a key itself (row_reads) is exempt.
 */
enum neutral {
    NEUTRAL_NULL,
    NEUTRAL_FALSE,
    NEUTRAL_TRUE,
    NEUTRAL_ZERO,
    NEUTRAL_ONE,
    NEUTRAL_EMPTY,
    NEUTRAL_FULL_ATTENTION,
    NEUTRAL_ABSOLUTE
};
static const struct {
    const char *key;
    enum neutral neutral;
} refused[] = {
    /* weights and wiring */
    { "quantization_config", NEUTRAL_NULL },
    { "compression_config", NEUTRAL_NULL },
    { "is_encoder_decoder", NEUTRAL_FALSE },
    { "add_cross_attention", NEUTRAL_FALSE },
    { "word_embed_proj_dim", NEUTRAL_NULL },
    { "use_parallel_residual", NEUTRAL_FALSE },
    { "parallel_attn", NEUTRAL_FALSE },
    { "attention_bias", NEUTRAL_FALSE },
    { "mlp_bias", NEUTRAL_FALSE },
    { "use_bias", NEUTRAL_FALSE },
    { "per_layer_config", NEUTRAL_NULL },
    /* experts */
    { "num_experts", NEUTRAL_ZERO },
    { "num_local_experts", NEUTRAL_ZERO },
    { "n_routed_experts", NEUTRAL_ZERO },
    { "moe_intermediate_size", NEUTRAL_NULL },
    { "mlp_only_layers", NEUTRAL_EMPTY },
    { "decoder_sparse_step", NEUTRAL_ONE },
    /* scales and caps */
    { "attn_logit_softcapping", NEUTRAL_ZERO },
    { "final_logit_softcapping", NEUTRAL_ZERO },
    { "embedding_multiplier", NEUTRAL_ONE },
    { "residual_multiplier", NEUTRAL_ONE },
    { "attention_multiplier", NEUTRAL_NULL },
    { "logits_scaling", NEUTRAL_ONE },
    { "logit_scale", NEUTRAL_ONE },
    { "scale_emb", NEUTRAL_ONE },
    { "scale_depth", NEUTRAL_NULL },
    { "dim_model_base", NEUTRAL_NULL },
    { "query_pre_attn_scalar", NEUTRAL_NULL },
    { "scale_attn_by_inverse_layer_idx", NEUTRAL_FALSE },
    { "use_mup", NEUTRAL_FALSE },
    { "clip_qkv", NEUTRAL_NULL },
    { "attn_temperature_tuning", NEUTRAL_FALSE },
    { "scale_attn_weights", NEUTRAL_TRUE },
    /* norms of queries and keys */
    { "qk_layernorm", NEUTRAL_FALSE },
    { "use_qk_norm", NEUTRAL_FALSE },
    { "qk_norm", NEUTRAL_FALSE },
    /* latent attention */
    { "q_lora_rank", NEUTRAL_ZERO },
    { "kv_lora_rank", NEUTRAL_ZERO },
    /* positions */
    { "alibi", NEUTRAL_FALSE },
    { "position_embedding_type", NEUTRAL_ABSOLUTE },
    { "partial_rotary_factor", NEUTRAL_ONE },
    { "rotary_pct", NEUTRAL_ONE },
    { "rope_pct", NEUTRAL_ONE },
    { "rotary_dim", NEUTRAL_NULL },
    { "rope_interleaved", NEUTRAL_FALSE },
    { "rope_local_base_freq", NEUTRAL_NULL },
    { "no_rope_layers", NEUTRAL_NULL },
    { "no_rope_layer_interval", NEUTRAL_NULL },
    { "sliding_window_pattern", NEUTRAL_NULL },
    { "attention_types", NEUTRAL_NULL },
    { "attention_layers", NEUTRAL_NULL },
    { "attention_chunk_size", NEUTRAL_NULL },
    { "sliding_window", NEUTRAL_NULL },
    { "use_sliding_window", NEUTRAL_FALSE },
    { "layer_types", NEUTRAL_FULL_ATTENTION },
};

static bool all_full_attention(const json_t *list)
{
    size_t i;
    json_t *type;
    json_array_foreach(list, i, type) if (!json_is_string(type) ||
                                          strcmp(json_string_value(type), "full_attention")) return false;
    return json_is_array(list);
}

static bool is_neutral(const json_t *value, enum neutral neutral)
{
    if (!value || json_is_null(value))
        return true;
    switch (neutral) {
    case NEUTRAL_FALSE:
        return json_is_false(value);
    case NEUTRAL_TRUE:
        return json_is_true(value);
    case NEUTRAL_EMPTY:
        return json_is_array(value) && !json_array_size(value);
    case NEUTRAL_ZERO:
        return json_is_false(value) || (json_is_number(value) && json_number_value(value) == 0);
    case NEUTRAL_ONE:
        return json_is_number(value) && json_number_value(value) == 1;
    case NEUTRAL_ABSOLUTE:
        return json_is_string(value) && !strcmp(json_string_value(value), "absolute");
    case NEUTRAL_FULL_ATTENTION:
        return all_full_attention(value);
    default:
        return false;
    }
}

/* Whether key is one of "a|b.c". */
static bool spells(const char *spellings, const char *key)
{
    char one[TENSOR_NAME_MAX];
    for (const char *cursor = spellings; spellings && next_spelling(&cursor, one);)
        if (!strcmp(one, key))
            return true;
    return false;
}

static bool window_reads(const struct window_rule *rule, const char *key)
{
    switch (rule->kind) {
    case WINDOW_NONE:
        return false;
    case WINDOW_LISTED:
        return !strcmp(key, "attention_types") || !strcmp(key, "attention_layers");
    case WINDOW_EVERY_LAYER:
        return !strcmp(key, "sliding_window");
    default:
        return !strcmp(key, "sliding_window") || !strcmp(key, "layer_types") || !strcmp(key, "use_sliding_window") ||
               spells(rule->period_key, key);
    }
}

static bool row_reads(const struct arch *arch, const char *key)
{
    for (size_t i = 0; i < sizeof arch->bias_keys / sizeof *arch->bias_keys; i++)
        if (spells(arch->bias_keys[i].key, key))
            return true;
    for (size_t i = 0; i < MOST_PROPERTY_KEYS; i++)
        if (spells(arch->properties[i].key, key))
            return true;
    return window_reads(&arch->window, key) || spells(arch->local_theta_key, key) ||
           (arch_property(arch, PROPERTY_ROPE_LAYERS) && !strcmp(key, "no_rope_layers"));
}

static int refuse_unknown_mathematics(const struct config_reader *r)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (!row_reads(r->arch, refused[i].key) &&
            !is_neutral(json_object_get(r->json, refused[i].key), refused[i].neutral))
            return config_not_supported(r, refused[i].key);
    return 0;
}

struct config_place config_find(const struct config_reader *r, const char *spellings)
{
    struct config_place first = { NULL, "" }, place;
    char spelling[TENSOR_NAME_MAX];
    for (const char *cursor = spellings; next_spelling(&cursor, spelling);) {
        char *dot = strchr(spelling, '.');
        place = (struct config_place){ r->json, "" };
        if (dot) {
            *dot = '\0';
            place.object = json_object_get(r->json, spelling);
        }
        snprintf(place.key, sizeof place.key, "%s", dot ? dot + 1 : spelling);
        if (!first.key[0])
            first = place;
        if (json_object_get(place.object, place.key))
            return place;
    }
    return first;
}

/* --- sizes --- */

static int read_size(const struct config_reader *r, const char *spellings, size_t most, size_t *out)
{
    struct config_place place = config_find(r, spellings);
    return json_get_size(place.object, r->name, place.key, 1, most, out, r->err);
}

static int read_size_or(const struct config_reader *r, const char *spellings, size_t most, size_t otherwise,
                        size_t *out)
{
    *out = otherwise;
    if (!spellings)
        return 0;
    struct config_place place = config_find(r, spellings);
    return json_get_size_or(place.object, r->name, place.key, 1, most, otherwise, out, r->err);
}

/* An absent key is the family's number, null is the number of heads (transformers). */
static int read_kv_heads(const struct config_reader *r)
{
    struct model_config *c = &r->m->config;
    c->n_kv_heads = c->n_heads;
    if (!r->arch->keys->n_kv_heads)
        return 0;
    struct config_place place = config_find(r, r->arch->keys->n_kv_heads);
    bool absent = !json_object_get(place.object, place.key);
    size_t otherwise = absent && r->arch->defaults.n_kv_heads ? r->arch->defaults.n_kv_heads : c->n_heads;
    return json_get_size_or(place.object, r->name, place.key, 1, MAX_WIDTH, otherwise, &c->n_kv_heads, r->err);
}

static int read_sizes(const struct config_reader *r)
{
    struct model_config *c = &r->m->config;
    const struct config_keys *k = r->arch->keys;
    int rc;
    if ((rc = read_size(r, k->n_layers, MAX_LAYERS, &c->n_layers)) ||
        (rc = read_size(r, k->n_heads, MAX_WIDTH, &c->n_heads)) ||
        (rc = read_size(r, k->d_model, MAX_WIDTH, &c->d_model)) ||
        (rc = read_size(r, "vocab_size", MAX_VOCAB, &c->d_vocab)) ||
        (rc = read_size_or(r, k->n_ctx, MAX_CONTEXT, r->arch->defaults.n_ctx, &c->n_ctx)))
        return rc;
    size_t d_mlp = r->arch->defaults.mlp_factor * c->d_model, d_head;
    rc = d_mlp || !k->d_mlp ? read_size_or(r, k->d_mlp, MAX_MLP, d_mlp, &c->d_mlp)
                            : read_size(r, k->d_mlp, MAX_MLP, &c->d_mlp);
    if (rc || (rc = read_kv_heads(r)) ||
        (rc = read_size_or(r, k->d_head, MAX_WIDTH, k->d_head ? r->arch->defaults.d_head : 0, &d_head)))
        return rc;
    if (!d_head && c->d_model % c->n_heads)
        return err_set(r->err, ERR_FORMAT, "%s: \"%s\" %zu is no multiple of \"%s\" %zu", r->name,
                       config_find(r, k->d_model).key, c->d_model, config_find(r, k->n_heads).key, c->n_heads);
    c->d_head = d_head ? d_head : c->d_model / c->n_heads;
    return 0;
}

/* --- properties --- */

static int read_property(const struct config_reader *r, const struct property_key *k)
{
    struct config_place place = config_find(r, k->key);
    bool flag;
    double number;
    int rc;
    if (k->property == PROPERTY_NONE ||
        (k->property < PROPERTY_PARALLEL && json_is_null(json_object_get(place.object, place.key))))
        return 0;
    if (k->property >= PROPERTY_PARALLEL) {
        rc = json_get_bool_or(place.object, r->name, place.key, k->otherwise != 0, &flag, r->err);
        if (!rc && k->property == PROPERTY_GROUPED_QUERIES)
            return flag ? read_kv_heads(r) : 0;
        return rc ? rc : config_set_flag(r, k->property, place.key, flag);
    }
    rc = json_get_number_or(place.object, r->name, place.key, k->otherwise, &number, r->err);
    return rc || isnan(number) ? rc : config_set_number(r, k->property, place.key, number);
}

/* Properties that say something of single layers are read once there are layers. */
static int read_properties(const struct config_reader *r, bool of_layers)
{
    for (size_t i = 0; i < MOST_PROPERTY_KEYS && r->arch->properties[i].key; i++) {
        const struct property_key *k = &r->arch->properties[i];
        int rc = (k->property == PROPERTY_ROPE_LAYERS) == of_layers ? read_property(r, k) : 0;
        if (rc)
            return rc;
    }
    return 0;
}

static int read_activation(const struct config_reader *r, const char *spellings, enum activation *out)
{
    const char *name = NULL;
    if (!spellings)
        return 0;
    struct config_place place = config_find(r, spellings);
    int rc = json_get_string(place.object, r->name, place.key, &name, r->err);
    if (rc || !name || activation_of_name(name, out))
        return rc;
    return err_set(r->err, ERR_UNSUPPORTED, "%s: activation \"%s\" of key \"%s\" is not supported", r->name, name,
                   place.key);
}

static int read_biases(const struct config_reader *r)
{
    for (size_t i = 0; i < sizeof r->arch->bias_keys / sizeof *r->arch->bias_keys; i++) {
        const struct bias_key *k = &r->arch->bias_keys[i];
        bool biased = false;
        int rc = k->key ? json_get_bool_or(r->json, r->name, k->key, k->otherwise, &biased, r->err) : 0;
        if (rc)
            return rc;
        if (biased)
            r->m->storage->biased |= k->roles;
    }
    return 0;
}

static int read_rest(const struct config_reader *r)
{
    struct model_config *c = &r->m->config;
    int rc;
    c->norm_eps = r->arch->defaults.norm_eps;
    config_scale_scores(r->m);
    if (r->arch->keys->norm_eps) {
        struct config_place place = config_find(r, r->arch->keys->norm_eps);
        if ((rc = json_get_number_or(place.object, r->name, place.key, c->norm_eps, &c->norm_eps, r->err)))
            return rc;
    }
    if ((rc = read_activation(r, r->arch->keys->activation, &c->activation)))
        return rc;
    if (!r->arch->head_activation)
        c->head_activation = c->activation;
    if ((rc = read_activation(r, r->arch->head_activation_key, &c->head_activation)) ||
        (rc = json_get_bool_or(r->json, r->name, "tie_word_embeddings", r->arch->defaults.tied, &c->tied, r->err)) ||
        (rc = read_biases(r)))
        return rc;
    return read_properties(r, false);
}

/* "p2c|c2p" or a list of them. */
static bool names_kind(const json_t *kinds, const char *kind)
{
    size_t i;
    json_t *entry;
    if (json_is_string(kinds))
        return strstr(json_string_value(kinds), kind);
    json_array_foreach(kinds, i,
                       entry) if (json_is_string(entry) && !strcmp(json_string_value(entry), kind)) return true;
    return false;
}

/* DeBERTa; a number below 1 is none. */
static int read_relative(const struct config_reader *r)
{
    struct model_config *c = &r->m->config;
    struct relative_positions *p = &c->relative;
    const json_t *kinds = json_object_get(r->json, "pos_att_type");
    const char *norm = NULL;
    double longest, buckets;
    int rc = json_get_number_or(r->json, r->name, "max_relative_positions", -1, &longest, r->err);
    rc = rc ? rc : json_get_number_or(r->json, r->name, "position_buckets", -1, &buckets, r->err);
    rc = rc ? rc : json_get_bool_or(r->json, r->name, "share_att_key", false, &p->shared, r->err);
    rc = rc ? rc : json_get_string(r->json, r->name, "norm_rel_ebd", &norm, r->err);
    rc = rc ? rc
            : config_take_size(r, "max_relative_positions", longest < 1 ? (double)c->n_ctx : longest, MAX_CONTEXT,
                               &p->longest);
    rc = rc ? rc : config_take_size(r, "position_buckets", buckets < 1 ? 0 : buckets, MAX_CONTEXT, &p->buckets);
    if (rc)
        return rc;
    if (p->buckets == 1 || (p->buckets && p->longest - 1 <= p->buckets / 2))
        return config_wrong_number(r, "position_buckets", buckets);
    p->span = p->buckets ? p->buckets : p->longest;
    p->normalised = norm && strstr(norm, "layer_norm");
    p->to_position = names_kind(kinds, "c2p");
    p->from_position = names_kind(kinds, "p2c");
    double factor = 1 + p->to_position + p->from_position;
    for (size_t l = 0; l < c->n_layers; l++)
        r->m->layers[l].attn_scale = c->attn_scale / sqrt(factor);
    c->attn_scale /= sqrt(factor);
    return 0;
}

int config_from_json(struct model *m, const json_t *config, const char *name, struct err *err)
{
    const char *type;
    struct config_reader r = { .m = m, .json = config, .name = name, .err = err };
    if (!json_is_object(config))
        return err_set(err, ERR_FORMAT, "%s: is no JSON object", name);
    int rc = json_get_string(config, name, "model_type", &type, err);
    if (rc)
        return rc;
    if (!type)
        return err_set(err, ERR_FORMAT, "%s: key \"model_type\" is missing: known families are %s", name,
                       model_known_families());
    r.arch = arch_of_model_type(type);
    if (!r.arch)
        return err_set(err, ERR_UNSUPPORTED, "%s: model_type \"%.64s\" is not supported: known families are %s", name,
                       type, model_known_families());
    if ((rc = refuse_unknown_mathematics(&r)) || (rc = config_begin(m, r.arch, err)) || (rc = read_sizes(&r)) ||
        (rc = read_rest(&r)) || (rc = config_finish(m, name, err)))
        return rc;
    if (m->config.position == POSITION_RELATIVE && (rc = read_relative(&r)))
        return rc;
    if (m->config.position == POSITION_ROTARY && (rc = config_read_ropes(&r)))
        return rc;
    rc = read_properties(&r, true);
    return rc ? rc : config_read_windows(&r);
}
