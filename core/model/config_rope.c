/*
 * Rotary settings of config.json: "rope_parameters" (transformers 5) holds theta too, for all layers or by layer type;
 * "rope_scaling" (4) stands beside "rope_theta".
 */
#include "core/base/mem.h"
#include "core/model/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int positive(const struct config_reader *r, const json_t *rope, const char *key, double *out)
{
    int rc = json_get_number_or(rope, r->name, key, 0, out, r->err);
    if (!rc && !(*out > 0))
        rc = err_set(r->err, ERR_FORMAT, "%s: the rope settings need \"%s\", a number above 0", r->name, key);
    return rc;
}

/* The config's own key counts before the one in the settings, and the context where neither is there. */
static int read_old_context(const struct config_reader *r, const json_t *rope, double *out)
{
    static const char key[] = "original_max_position_embeddings";
    size_t context;
    int rc = json_get_size_or(rope, r->name, key, 1, MAX_CONTEXT, r->m->config.n_ctx, &context, r->err);
    rc = rc ? rc : json_get_size_or(r->json, r->name, key, 1, MAX_CONTEXT, context, &context, r->err);
    *out = (double)context;
    return rc;
}

static int read_llama3(const struct config_reader *r, const json_t *rope, struct rope_scaling *out)
{
    int rc;
    out->type = "llama3";
    out->kind = ROPE_LLAMA3;
    if ((rc = positive(r, rope, "factor", &out->factor)) || (rc = positive(r, rope, "low_freq_factor", &out->low)) ||
        (rc = positive(r, rope, "high_freq_factor", &out->high)) || (rc = read_old_context(r, rope, &out->old_context)))
        return rc;
    if (out->low >= out->high)
        return err_set(r->err, ERR_FORMAT, "%s: \"low_freq_factor\" %g is not below \"high_freq_factor\" %g", r->name,
                       out->low, out->high);
    return 0;
}

static int read_yarn(const struct config_reader *r, const json_t *rope, struct rope_scaling *out)
{
    double mscale, all;
    int rc;
    out->type = "yarn";
    out->kind = ROPE_YARN;
    if ((rc = positive(r, rope, "factor", &out->factor)) || (rc = read_old_context(r, rope, &out->old_context)) ||
        (rc = json_get_number_or(rope, r->name, "beta_slow", 1, &out->low, r->err)) ||
        (rc = json_get_number_or(rope, r->name, "beta_fast", 32, &out->high, r->err)) ||
        (rc = json_get_bool_or(rope, r->name, "truncate", true, &out->whole_ramp, r->err)) ||
        (rc = json_get_number_or(rope, r->name, "mscale", 0, &mscale, r->err)) ||
        (rc = json_get_number_or(rope, r->name, "mscale_all_dim", 0, &all, r->err)))
        return rc;
    double scale = mscale != 0 && all != 0 ? rope_yarn_scale(out->factor, mscale) / rope_yarn_scale(out->factor, all)
                                           : rope_yarn_scale(out->factor, 1);
    return json_get_number_or(rope, r->name, "attention_factor", scale, &out->scale, r->err);
}

static int read_factors(const struct config_reader *r, const json_t *rope, const char *key, float *out)
{
    json_t *list;
    size_t half = r->m->config.rotary_dims / 2;
    int rc = json_get_array(rope, r->name, key, &list, r->err);
    if (rc)
        return rc;
    if (!list || json_array_size(list) != half)
        return err_set(r->err, ERR_FORMAT, "%s: the rope settings need \"%s\", %zu numbers", r->name, key, half);
    for (size_t i = 0; i < half; i++) {
        const json_t *number = json_array_get(list, i);
        out[i] = (float)json_number_value(number);
        if (!json_is_number(number) || !(out[i] > 0))
            return err_set(r->err, ERR_FORMAT, "%s: entry %zu of \"%s\" is no number above 0", r->name, i, key);
    }
    return 0;
}

/* LongRoPE (Ding et al. 2024) as in Phi-3: factors of each pair, others for prompts beyond the old context. */
static int add_longrope(const struct config_reader *r, const json_t *rope, struct rope_scaling *out)
{
    struct model *m = r->m;
    size_t half = m->config.rotary_dims / 2;
    float *factors = mem_array(2 * half, sizeof *factors);
    double scale = 1;
    int rc = factors ? read_old_context(r, rope, &out->old_context) : err_nomem(r->err, "rotary frequencies");
    rc = rc ? rc
            : json_get_number_or(rope, r->name, "factor", (double)m->config.n_ctx / out->old_context, &out->factor,
                                 r->err);
    if (!rc && out->factor > 1)
        scale = sqrt(1 + log(out->factor) / log(out->old_context));
    rc = rc ? rc : json_get_number_or(rope, r->name, "attention_factor", scale, &out->scale, r->err);
    rc = rc ? rc : read_factors(r, rope, "short_factor", factors);
    rc = rc ? rc : read_factors(r, rope, "long_factor", factors + half);
    rc = rc ? rc : rope_add_long(m, r->name, out, factors, factors + half, r->err);
    free(factors);
    return rc;
}

static int add_rope(const struct config_reader *r, const json_t *rope, double theta)
{
    struct rope_scaling out = { .theta = theta, .type = "none", .factor = 1, .scale = 1 };
    const char *type = NULL;
    int rc;
    if (rope && ((rc = json_get_number_or(rope, r->name, "rope_theta", theta, &out.theta, r->err)) ||
                 (rc = json_get_string(rope, r->name, "rope_type", &type, r->err)) ||
                 (!type && (rc = json_get_string(rope, r->name, "type", &type, r->err)))))
        return rc;
    if (!(out.theta > 0))
        return err_set(r->err, ERR_FORMAT, "%s: \"rope_theta\" is %g, it must be above 0", r->name, out.theta);
    if (!type || !strcmp(type, "default"))
        return rope_add(r->m, r->name, &out, r->err);
    if (!strcmp(type, "longrope") || !strcmp(type, "su"))
        return add_longrope(r, rope, &out);
    if (!strcmp(type, "linear")) {
        out.type = "linear";
        rc = positive(r, rope, "factor", &out.factor);
    } else if (!strcmp(type, "llama3"))
        rc = read_llama3(r, rope, &out);
    else if (!strcmp(type, "yarn"))
        rc = read_yarn(r, rope, &out);
    else
        return err_set(r->err, ERR_UNSUPPORTED,
                       "%s: rope scaling of type \"%s\" is not supported: known are default, linear, llama3, yarn and "
                       "longrope",
                       r->name, type);
    return rc ? rc : rope_add(r->m, r->name, &out, r->err);
}

/* Families in which part of a head rotates have a property that reads this key. */
static int refuse_fraction(const struct config_reader *r, const json_t *rope)
{
    double fraction = 1;
    if (arch_property(r->arch, PROPERTY_ROTARY_FRACTION))
        return 0;
    int rc = rope ? json_get_number_or(rope, r->name, "partial_rotary_factor", 1, &fraction, r->err) : 0;
    if (!rc && fraction != 1)
        rc = err_set(r->err, ERR_UNSUPPORTED, "%s: key \"partial_rotary_factor\" is %g, only 1 is supported for %s",
                     r->name, fraction, r->arch->name);
    return rc;
}

int config_read_ropes(const struct config_reader *r)
{
    const struct arch *arch = r->arch;
    json_t *rope, *full = NULL, *local = NULL;
    double theta, local_theta = arch->local_theta;
    int rc;
    struct config_place place = config_find(r, arch->rope_theta_key ? arch->rope_theta_key : "rope_theta");
    if ((rc = json_get_number_or(place.object, r->name, place.key, arch->rope_theta > 0 ? arch->rope_theta : 10000,
                                 &theta, r->err)) ||
        (rc = json_get_object(r->json, r->name, "rope_scaling", &rope, r->err)) ||
        (!rope && (rc = json_get_object(r->json, r->name, "rope_parameters", &rope, r->err))))
        return rc;
    if (arch->local_theta_key) {
        place = config_find(r, arch->local_theta_key);
        if ((rc = json_get_number_or(place.object, r->name, place.key, local_theta, &local_theta, r->err)))
            return rc;
    }
    const char *key;
    json_t *value;
    json_object_foreach(rope, key, value)
    {
        if (!json_is_object(value))
            continue;
        if (arch->local_theta == 0 || (strcmp(key, "full_attention") && strcmp(key, "sliding_attention")))
            return err_set(r->err, ERR_UNSUPPORTED, "%s: rope settings by layer type (\"%s\") are not supported for %s",
                           r->name, key, arch->name);
        if (!strcmp(key, "full_attention"))
            full = value;
        else
            local = value;
    }
    if (full || local)
        rope = full;
    if ((rc = refuse_fraction(r, rope)) || (rc = add_rope(r, rope, theta)) || arch->local_theta == 0)
        return rc;
    r->m->storage->local_rope = r->m->n_ropes;
    return add_rope(r, local, local_theta);
}
