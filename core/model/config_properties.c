/* What each property of the architecture table does, whichever file says it. */
#include "core/model/internal.h"

#include <math.h>

int config_not_supported(const struct config_reader *r, const char *key)
{
    return err_set(r->err, ERR_UNSUPPORTED,
                   "%s: key \"%s\" changes the mathematics in a way that is not supported for %s", r->name, key,
                   r->arch->name);
}

int config_wrong_number(const struct config_reader *r, const char *key, double x)
{
    return err_set(r->err, ERR_FORMAT, "%s: \"%s\" is %g, which cannot be", r->name, key, x);
}

int config_take_size(const struct config_reader *r, const char *key, double x, double most, size_t *out)
{
    if (!(x >= 0 && x <= most && x == floor(x)))
        return config_wrong_number(r, key, x);
    *out = (size_t)x;
    return 0;
}

int config_set_number(const struct config_reader *r, enum property property, const char *key, double x)
{
    struct model_config *c = &r->m->config;
    size_t size = 0;
    int rc;
    switch (property) {
    case PROPERTY_ATTN_SOFTCAP:
        c->attn_softcap = x;
        return x >= 0 ? 0 : config_wrong_number(r, key, x);
    case PROPERTY_LOGIT_SOFTCAP:
        c->logit_softcap = x;
        return x >= 0 ? 0 : config_wrong_number(r, key, x);
    case PROPERTY_EMBED_SCALE:
        c->embed_scale = x;
        return 0;
    case PROPERTY_RESIDUAL_SCALE:
        c->residual_scale = x;
        return 0;
    case PROPERTY_ATTN_SCALE:
        c->attn_scale = x;
        return 0;
    case PROPERTY_ATTN_SCALAR:
        c->attn_scale = 1 / sqrt(x);
        return x > 0 ? 0 : config_wrong_number(r, key, x);
    case PROPERTY_LOGIT_SCALE:
        c->logit_scale = x;
        return x != 0 ? 0 : config_wrong_number(r, key, x);
    case PROPERTY_LOGIT_DIVISOR:
        c->logit_scale = 1 / x;
        return x != 0 ? 0 : config_wrong_number(r, key, x);
    case PROPERTY_QKV_CLIP:
        c->qkv_clip = x;
        return x >= 0 ? 0 : config_wrong_number(r, key, x);
    case PROPERTY_ROTARY_FRACTION:
        c->rotary_dims = (size_t)((double)c->d_head * x);
        return x > 0 && x <= 1 ? 0 : config_wrong_number(r, key, x);
    case PROPERTY_ROTARY_DIMS:
        return config_take_size(r, key, x, (double)c->d_head, &c->rotary_dims);
    case PROPERTY_ALIBI_MOST:
        r->m->storage->alibi_most = x;
        return x > 0 ? 0 : config_wrong_number(r, key, x);
    case PROPERTY_MLP_FACTOR:
        return config_take_size(r, key, x * (double)c->d_model, MAX_MLP, &c->d_mlp);
    case PROPERTY_D_EMBED:
        return config_take_size(r, key, x, MAX_WIDTH, &c->d_embed);
    case PROPERTY_N_TYPES:
        return config_take_size(r, key, x, MAX_WIDTH, &c->n_token_types);
    case PROPERTY_EXPERTS:
        return config_take_size(r, key, x, MAX_EXPERTS, &c->n_experts);
    case PROPERTY_EXPERTS_USED:
        return config_take_size(r, key, x, MAX_EXPERTS, &c->n_experts_used);
    case PROPERTY_EXPERT_WIDTH:
        return config_take_size(r, key, x, MAX_MLP, &c->d_mlp);
    case PROPERTY_SHARED_WIDTH:
        return config_take_size(r, key, x, MAX_MLP, &c->d_shared);
    case PROPERTY_PAD_TOKEN:
        if ((rc = config_take_size(r, key, x, (double)c->n_ctx - 2, &size)))
            return rc;
        c->position_offset = size + 1;
        c->n_ctx -= c->position_offset;
        return 0;
    case PROPERTY_LAYER_GROUPS:
        rc = config_take_size(r, key, x, (double)c->n_layers, &r->m->storage->layer_groups);
        return rc || r->m->storage->layer_groups ? rc : config_wrong_number(r, key, x);
    case PROPERTY_MUST_BE_ONE:
        return x == 1 ? 0 : config_not_supported(r, key);
    case PROPERTY_MUST_BE_ZERO:
        return x == 0 ? 0 : config_not_supported(r, key);
    case PROPERTY_MUST_BE_D_MODEL:
        return x == (double)c->d_model ? 0 : config_not_supported(r, key);
    case PROPERTY_MUST_BE_D_HEAD:
        return x == (double)c->d_head ? 0 : config_not_supported(r, key);
    case PROPERTY_ROPE_LAYERS:
        if ((rc = config_take_size(r, key, x, MAX_LAYERS, &size)))
            return rc;
        for (size_t l = 0; size && l < c->n_layers; l++)
            if ((l + 1) % size == 0)
                r->m->layers[l].rope = NO_ROPE;
        return 0;
    default:
        return 0;
    }
}

int config_set_flag(const struct config_reader *r, enum property property, const char *key, bool is)
{
    struct model_config *c = &r->m->config;
    switch (property) {
    case PROPERTY_PARALLEL:
        c->block = is ? BLOCK_PARALLEL : BLOCK_PRE;
        return 0;
    case PROPERTY_PRE_NORM:
        c->block = is ? BLOCK_PRE : BLOCK_POST;
        c->final_norm = is;
        return 0;
    case PROPERTY_NO_FINAL_NORM:
        c->final_norm = c->final_norm && !is;
        return 0;
    case PROPERTY_QK_NORM:
        c->qk_norm = is;
        return 0;
    case PROPERTY_ALIBI:
        c->position = is ? POSITION_ALIBI : c->position;
        return 0;
    case PROPERTY_MULTI_QUERY:
        c->n_kv_heads = is ? 1 : c->n_heads;
        return 0;
    case PROPERTY_RENORMALISED:
        c->experts_renormalised = is;
        return 0;
    case PROPERTY_SCALE_BY_LAYER:
        r->m->storage->scale_by_layer = is;
        return 0;
    case PROPERTY_SCALED_SCORES:
        c->attn_scale = is ? c->attn_scale : 1;
        return 0;
    case PROPERTY_MUST_BE_TRUE:
    case PROPERTY_MUST_BE_FALSE:
        return is == (property == PROPERTY_MUST_BE_TRUE) ? 0 : config_not_supported(r, key);
    default:
        return 0;
    }
}
