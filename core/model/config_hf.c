/* config.json -> model_config. Keys and defaults are transformers' (models/.../configuration_*.py, version 5). */
#include "core/model/internal.h"

#include <math.h>
#include <string.h>

/*
 * Keys that change the mathematics in ways that are not computed here, and the value at which they do not. A family
 * that reads such a key itself (row_reads) is exempt.
 */
enum neutral { NEUTRAL_NULL, NEUTRAL_FALSE, NEUTRAL_ZERO, NEUTRAL_ONE, NEUTRAL_FULL_ATTENTION };
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
    /* norms of queries and keys */
    { "qk_layernorm", NEUTRAL_FALSE },
    { "use_qk_norm", NEUTRAL_FALSE },
    { "qk_norm", NEUTRAL_FALSE },
    /* latent attention */
    { "q_lora_rank", NEUTRAL_ZERO },
    { "kv_lora_rank", NEUTRAL_ZERO },
    /* positions */
    { "alibi", NEUTRAL_FALSE },
    { "partial_rotary_factor", NEUTRAL_ONE },
    { "rotary_pct", NEUTRAL_ONE },
    { "rotary_dim", NEUTRAL_NULL },
    { "rope_interleaved", NEUTRAL_FALSE },
    { "rope_local_base_freq", NEUTRAL_NULL },
    { "no_rope_layers", NEUTRAL_NULL },
    { "no_rope_layer_interval", NEUTRAL_NULL },
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
    case NEUTRAL_ZERO:
        return json_is_false(value) || (json_is_number(value) && json_number_value(value) == 0);
    case NEUTRAL_ONE:
        return json_is_number(value) && json_number_value(value) == 1;
    case NEUTRAL_FULL_ATTENTION:
        return all_full_attention(value);
    default:
        return false;
    }
}

static bool row_reads(const struct arch *arch, const char *key)
{
    for (size_t i = 0; i < sizeof arch->bias_keys / sizeof *arch->bias_keys; i++)
        if (arch->bias_keys[i].key && !strcmp(arch->bias_keys[i].key, key))
            return true;
    if (!strcmp(key, "sliding_window"))
        return arch->window != WINDOW_NONE;
    if (!strcmp(key, "use_sliding_window") || !strcmp(key, "layer_types"))
        return arch->window == WINDOW_SOME_LAYERS;
    return false;
}

static int refuse_unknown_mathematics(const struct arch *arch, const json_t *config, const char *name, struct err *err)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (!row_reads(arch, refused[i].key) &&
            !is_neutral(json_object_get(config, refused[i].key), refused[i].neutral))
            return err_set(err, ERR_UNSUPPORTED,
                           "%s: key \"%s\" changes the mathematics in a way that is not supported for %s", name,
                           refused[i].key, arch->name);
    return 0;
}

static int read_sizes(struct model_config *c, const struct arch *arch, const json_t *j, const char *name,
                      struct err *err)
{
    const struct config_keys *k = arch->keys;
    int rc;
    if ((rc = json_get_size(j, name, k->n_layers, 1, MAX_LAYERS, &c->n_layers, err)) ||
        (rc = json_get_size(j, name, k->n_heads, 1, MAX_WIDTH, &c->n_heads, err)) ||
        (rc = json_get_size(j, name, k->d_model, 1, MAX_WIDTH, &c->d_model, err)) ||
        (rc = json_get_size(j, name, "vocab_size", 1, MAX_VOCAB, &c->d_vocab, err)) ||
        (rc = json_get_size_or(j, name, k->n_ctx, 1, MAX_CONTEXT, arch->defaults.n_ctx, &c->n_ctx, err)))
        return rc;
    size_t d_mlp = arch->defaults.mlp_factor * c->d_model;
    rc = d_mlp ? json_get_size_or(j, name, k->d_mlp, 1, MAX_MLP, d_mlp, &c->d_mlp, err)
               : json_get_size(j, name, k->d_mlp, 1, MAX_MLP, &c->d_mlp, err);
    if (rc)
        return rc;
    c->n_kv_heads = c->n_heads;
    if (k->n_kv_heads) {
        /* transformers: an absent key is the family's number, null is the number of heads. */
        bool absent = !json_object_get(j, k->n_kv_heads);
        size_t otherwise = absent && arch->defaults.n_kv_heads ? arch->defaults.n_kv_heads : c->n_heads;
        if ((rc = json_get_size_or(j, name, k->n_kv_heads, 1, MAX_WIDTH, otherwise, &c->n_kv_heads, err)))
            return rc;
    }
    size_t d_head = 0;
    if (k->d_head && (rc = json_get_size_or(j, name, k->d_head, 1, MAX_WIDTH, 0, &d_head, err)))
        return rc;
    if (!d_head && c->d_model % c->n_heads)
        return err_set(err, ERR_FORMAT, "%s: \"%s\" %zu is no multiple of \"%s\" %zu", name, k->d_model, c->d_model,
                       k->n_heads, c->n_heads);
    c->d_head = d_head ? d_head : c->d_model / c->n_heads;
    return 0;
}

static int read_properties(struct model *m, const json_t *j, const char *name, struct err *err)
{
    struct model_config *c = &m->config;
    const struct arch *arch = m->storage->arch;
    c->norm = arch->norm;
    c->position = arch->position;
    c->gated_mlp = arch->gated_mlp;
    const char *activation;
    bool scaled;
    int rc;
    if ((rc = json_get_number_or(j, name, arch->keys->norm_eps, arch->defaults.norm_eps, &c->norm_eps, err)) ||
        (rc = json_get_string(j, name, arch->keys->activation, &activation, err)) ||
        (rc = json_get_bool_or(j, name, "tie_word_embeddings", arch->defaults.tied, &c->tied, err)) ||
        (rc = json_get_bool_or(j, name, "scale_attn_weights", true, &scaled, err)))
        return rc;
    c->attn_scale = scaled ? 1 / sqrt((double)c->d_head) : 1;
    if (!activation)
        activation = arch->defaults.activation;
    if (!activation_of_name(activation, &c->activation))
        return err_set(err, ERR_UNSUPPORTED, "%s: activation \"%s\" of key \"%s\" is not supported", name, activation,
                       arch->keys->activation);
    m->storage->biased = arch->biased;
    for (size_t i = 0; i < sizeof arch->bias_keys / sizeof *arch->bias_keys && arch->bias_keys[i].key; i++) {
        bool biased;
        if ((rc = json_get_bool_or(j, name, arch->bias_keys[i].key, arch->bias_keys[i].otherwise, &biased, err)))
            return rc;
        if (biased)
            m->storage->biased |= arch->bias_keys[i].roles;
    }
    return 0;
}

static int positive(const json_t *j, const char *name, const char *key, double *out, struct err *err)
{
    int rc = json_get_number_or(j, name, key, 0, out, err);
    if (!rc && !(*out > 0))
        rc = err_set(err, ERR_FORMAT, "%s: the rope settings need \"%s\", a number above 0", name, key);
    return rc;
}

static int read_llama3(const json_t *config, const json_t *rope, const char *name, size_t n_ctx,
                       struct rope_scaling *out, struct err *err)
{
    size_t context;
    int rc;
    out->type = "llama3";
    if ((rc = positive(rope, name, "factor", &out->factor, err)) ||
        (rc = positive(rope, name, "low_freq_factor", &out->low, err)) ||
        (rc = positive(rope, name, "high_freq_factor", &out->high, err)) ||
        (rc = json_get_size_or(rope, name, "original_max_position_embeddings", 1, MAX_CONTEXT, n_ctx, &context, err)) ||
        (rc = json_get_size_or(config, name, "original_max_position_embeddings", 1, MAX_CONTEXT, context, &context,
                               err)))
        return rc;
    out->old_context = (double)context;
    if (out->low >= out->high)
        return err_set(err, ERR_FORMAT, "%s: \"low_freq_factor\" %g is not below \"high_freq_factor\" %g", name,
                       out->low, out->high);
    return 0;
}

/* "rope_parameters" (transformers 5) holds theta too; "rope_scaling" (4) stands beside "rope_theta". */
static int read_rope(struct model_config *c, const json_t *config, const char *name, struct rope_scaling *out,
                     struct err *err)
{
    json_t *rope;
    const char *type = NULL;
    double theta, partial = 1;
    int rc;
    *out = (struct rope_scaling){ .type = "none", .factor = 1 };
    if ((rc = json_get_number_or(config, name, "rope_theta", 10000, &theta, err)) ||
        (rc = json_get_object(config, name, "rope_scaling", &rope, err)) ||
        (!rope && (rc = json_get_object(config, name, "rope_parameters", &rope, err))))
        return rc;
    if (rope) {
        const char *key;
        json_t *value;
        json_object_foreach(rope, key, value) if (json_is_object(value)) return err_set(
            err, ERR_UNSUPPORTED, "%s: rope settings by layer type (\"%s\") are not supported", name, key);
        if ((rc = json_get_number_or(rope, name, "rope_theta", theta, &theta, err)) ||
            (rc = json_get_number_or(rope, name, "partial_rotary_factor", 1, &partial, err)) ||
            (rc = json_get_string(rope, name, "rope_type", &type, err)) ||
            (!type && (rc = json_get_string(rope, name, "type", &type, err))))
            return rc;
    }
    if (partial != 1)
        return err_set(err, ERR_UNSUPPORTED, "%s: key \"partial_rotary_factor\" is %g, only 1 is supported", name,
                       partial);
    out->theta = theta;
    if (!(theta > 0))
        return err_set(err, ERR_FORMAT, "%s: \"rope_theta\" is %g, it must be above 0", name, theta);
    if (!type || !strcmp(type, "default"))
        return 0;
    if (!strcmp(type, "linear")) {
        out->type = "linear";
        return positive(rope, name, "factor", &out->factor, err);
    }
    if (!strcmp(type, "llama3"))
        return read_llama3(config, rope, name, c->n_ctx, out, err);
    return err_set(err, ERR_UNSUPPORTED,
                   "%s: rope scaling of type \"%s\" is not supported: known are default, linear and llama3", name,
                   type);
}

/* Layers from "max_window_layers" on slide, unless "layer_types" says it for each. */
static int read_some_windows(struct model *m, const json_t *j, const char *name, size_t window, struct err *err)
{
    json_t *types;
    size_t first;
    int rc;
    if ((rc = json_get_size_or(j, name, "max_window_layers", 0, SIZE_MAX, 28, &first, err)) ||
        (rc = json_get_array(j, name, "layer_types", &types, err)))
        return rc;
    if (types && json_array_size(types) != m->config.n_layers)
        return err_set(err, ERR_FORMAT, "%s: \"layer_types\" has %zu entries for %zu layers", name,
                       json_array_size(types), m->config.n_layers);
    for (size_t l = 0; l < m->config.n_layers; l++) {
        bool slides = window && l >= first;
        if (types) {
            const char *type = json_string_value(json_array_get(types, l));
            slides = type && !strcmp(type, "sliding_attention");
            if (!slides && (!type || strcmp(type, "full_attention")))
                return err_set(err, ERR_UNSUPPORTED, "%s: \"layer_types\" of layer %zu is \"%s\": not supported", name,
                               l, type ? type : "no string");
            if (slides && !window)
                return err_set(err, ERR_FORMAT, "%s: layer %zu is \"sliding_attention\" but no window is set", name, l);
        }
        m->layers[l].window = slides ? window : 0;
    }
    return 0;
}

static int read_windows(struct model *m, const json_t *j, const char *name, struct err *err)
{
    const struct arch *arch = m->storage->arch;
    if (arch->window == WINDOW_NONE)
        return 0;
    /* Absent is 4096 in every family that has the key, null is none. */
    bool use = arch->window == WINDOW_EVERY_LAYER;
    size_t window, otherwise = json_object_get(j, "sliding_window") ? 0 : 4096;
    int rc;
    if ((rc = json_get_size_or(j, name, "sliding_window", 1, MAX_CONTEXT, otherwise, &window, err)) ||
        (!use && (rc = json_get_bool_or(j, name, "use_sliding_window", false, &use, err))))
        return rc;
    if (arch->window == WINDOW_SOME_LAYERS)
        return read_some_windows(m, j, name, use ? window : 0, err);
    for (size_t l = 0; l < m->config.n_layers; l++)
        m->layers[l].window = window;
    return 0;
}

int config_from_json(struct model *m, const json_t *config, const char *name, struct err *err)
{
    const char *type;
    struct rope_scaling rope = { .type = "none", .factor = 1 };
    if (!json_is_object(config))
        return err_set(err, ERR_FORMAT, "%s: is no JSON object", name);
    int rc = json_get_string(config, name, "model_type", &type, err);
    if (rc)
        return rc;
    if (!type)
        return err_set(err, ERR_FORMAT, "%s: key \"model_type\" is missing: known families are %s", name,
                       model_known_families());
    const struct arch *arch = arch_of_model_type(type);
    if (!arch)
        return err_set(err, ERR_UNSUPPORTED, "%s: model_type \"%.64s\" is not supported: known families are %s", name,
                       type, model_known_families());
    m->storage->arch = arch;
    m->architecture = arch->name;
    if ((rc = refuse_unknown_mathematics(arch, config, name, err)) ||
        (rc = read_sizes(&m->config, arch, config, name, err)) || (rc = read_properties(m, config, name, err)))
        return rc;
    if (arch->position == POSITION_ROTARY && (rc = read_rope(&m->config, config, name, &rope, err)))
        return rc;
    if ((rc = config_finish(m, name, &rope, err)))
        return rc;
    return read_windows(m, config, name, err);
}
