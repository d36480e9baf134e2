/* GGUF metadata -> model_config. Keys: llama.cpp, gguf-py/gguf/constants.py. */
#include "core/base/mem.h"
#include "core/base/strbuf.h"
#include "core/model/internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Every key under the architecture's prefix must be one of these: READ is understood or harmless, the others must have
 * the value at which they change nothing.
 */
enum expected { READ, MUST_BE_ZERO, MUST_BE_ONE, MUST_BE_FALSE, MUST_BE_TRUE };
static const struct {
    const char *suffix;
    enum expected expected;
} known_keys[] = {
    { "block_count", READ },
    { "context_length", READ },
    { "embedding_length", READ },
    { "feed_forward_length", READ },
    { "vocab_size", READ },
    { "tensor_data_layout", READ },
    { "attention.head_count", READ },
    { "attention.head_count_kv", READ },
    { "attention.key_length", READ },
    { "attention.value_length", READ },
    { "attention.layer_norm_epsilon", READ },
    { "attention.layer_norm_rms_epsilon", READ },
    { "attention.sliding_window", READ },
    { "attention.causal", MUST_BE_TRUE },
    { "attention.max_alibi_bias", MUST_BE_ZERO },
    { "attention.clamp_kqv", MUST_BE_ZERO },
    { "rope.dimension_count", READ },
    { "rope.freq_base", READ },
    { "rope.scaling.type", READ },
    { "rope.scaling.factor", READ },
    { "rope.scaling.original_context_length", READ },
    { "rope.scaling.finetuned", READ },
    { "rope.scaling.attn_factor", MUST_BE_ONE },
    { "use_parallel_residual", MUST_BE_FALSE },
    { "expert_count", MUST_BE_ZERO },
    { "expert_used_count", MUST_BE_ZERO },
    { "attn_logit_softcapping", MUST_BE_ZERO },
    { "final_logit_softcapping", MUST_BE_ZERO },
    { "logit_scale", MUST_BE_ONE },
    { "residual_scale", MUST_BE_ONE },
    { "embedding_scale", MUST_BE_ONE },
    { "pooling_type", MUST_BE_ZERO },
};

enum { KEY_MAX = 96 };

static const char *key_of(char out[KEY_MAX], const struct model *m, const char *suffix)
{
    snprintf(out, KEY_MAX, "%s.%s", m->storage->arch->gguf, suffix);
    return out;
}

static int check_key(const struct gguf *g, const char *key, const char *suffix, struct err *err)
{
    size_t i = 0, n = sizeof known_keys / sizeof *known_keys;
    while (i < n && strcmp(known_keys[i].suffix, suffix))
        i++;
    bool fine = i < n, flag = false;
    double number = 0;
    int rc = 0;
    if (fine && known_keys[i].expected >= MUST_BE_FALSE) {
        rc = gguf_get_bool_or(g, key, false, &flag, err);
        fine = flag == (known_keys[i].expected == MUST_BE_TRUE);
    } else if (fine && known_keys[i].expected >= MUST_BE_ZERO) {
        rc = gguf_get_number_or(g, key, 0, &number, err);
        fine = number == (known_keys[i].expected == MUST_BE_ONE ? 1 : 0);
    }
    if (rc || fine)
        return rc;
    return err_set(err, ERR_UNSUPPORTED, "%s: metadata key \"%s\" may change the mathematics and is not supported",
                   gguf_name(g), key);
}

static int check_keys(const struct model *m, const struct gguf *g, struct err *err)
{
    const char *prefix = m->storage->arch->gguf, *key;
    size_t n = strlen(prefix);
    for (size_t i = 0; (key = gguf_key(g, i)); i++) {
        int rc = strncmp(key, prefix, n) || key[n] != '.' ? 0 : check_key(g, key, key + n + 1, err);
        if (rc)
            return rc;
    }
    return 0;
}

static int find_architecture(struct model *m, const struct gguf *g, struct err *err)
{
    const char *name;
    size_t len, parts;
    int rc = gguf_get_string(g, "general.architecture", &name, &len, err);
    if (rc)
        return rc;
    if (!name)
        return err_set(err, ERR_FORMAT, "%s: metadata key \"general.architecture\" is missing", gguf_name(g));
    const struct arch *arch = arch_of_gguf(name, len);
    if (!arch)
        return err_set(err, ERR_UNSUPPORTED, "%s: architecture \"%.*s\" is not supported: known families are %s",
                       gguf_name(g), len > 64 ? 64 : (int)len, name, model_known_families());
    if ((rc = config_begin(m, arch, err)))
        return rc;
    if ((rc = gguf_get_size_or(g, "split.count", 0, SIZE_MAX, 1, &parts, err)))
        return rc;
    if (parts > 1)
        return err_set(err, ERR_UNSUPPORTED, "%s: is one of %zu parts: merge them with llama-gguf-split --merge",
                       gguf_name(g), parts);
    return 0;
}

static int read_vocabulary(struct model *m, const struct gguf *g, struct err *err)
{
    char name[TENSOR_NAME_MAX], key[KEY_MAX];
    struct gguf_array tokens;
    size_t size;
    tensor_name(name, "", role_gguf_name(ROLE_EMBED), 0, 0, ".weight");
    const struct tensor *embed = tensor_set_find(gguf_tensors(g), name);
    if (!embed || embed->n_dims != 2 || embed->dims[0] < 1 || embed->dims[0] > MAX_VOCAB)
        return err_set(err, ERR_SHAPE, "%s: tensor \"%s\" is missing or no matrix", gguf_name(g), name);
    m->config.d_vocab = embed->dims[0];
    int rc;
    if ((rc = gguf_get_size_or(g, key_of(key, m, "vocab_size"), 1, MAX_VOCAB, embed->dims[0], &size, err)) ||
        (rc = gguf_get_array(g, "tokenizer.ggml.tokens", &tokens, err)))
        return rc;
    if (tokens.n && tokens.n != embed->dims[0])
        return err_set(err, ERR_SHAPE, "%s: %zu tokens, but \"%s\" has %zu rows", gguf_name(g), tokens.n, name,
                       embed->dims[0]);
    if (size != embed->dims[0])
        return err_set(err, ERR_SHAPE, "%s: key \"%s\" is %zu, but \"%s\" has %zu rows", gguf_name(g), key, size, name,
                       embed->dims[0]);
    return 0;
}

static int read_sizes(struct model *m, const struct gguf *g, struct err *err)
{
    struct model_config *c = &m->config;
    char key[KEY_MAX];
    int rc;
    if ((rc = gguf_get_size(g, key_of(key, m, "block_count"), 1, MAX_LAYERS, &c->n_layers, err)) ||
        (rc = gguf_get_size(g, key_of(key, m, "embedding_length"), 1, MAX_WIDTH, &c->d_model, err)) ||
        (rc = gguf_get_size(g, key_of(key, m, "feed_forward_length"), 1, MAX_MLP, &c->d_mlp, err)) ||
        (rc = gguf_get_size(g, key_of(key, m, "context_length"), 1, MAX_CONTEXT, &c->n_ctx, err)) ||
        (rc = gguf_get_size(g, key_of(key, m, "attention.head_count"), 1, MAX_WIDTH, &c->n_heads, err)) ||
        (rc = gguf_get_size_or(g, key_of(key, m, "attention.head_count_kv"), 1, MAX_WIDTH, c->n_heads, &c->n_kv_heads,
                               err)))
        return rc;
    size_t d_value, d_rotary;
    if ((rc = gguf_get_size_or(g, key_of(key, m, "attention.key_length"), 1, MAX_WIDTH, 0, &c->d_head, err)))
        return rc;
    if (!c->d_head && c->d_model % c->n_heads)
        return err_set(err, ERR_FORMAT, "%s: embedding length %zu is no multiple of %zu heads", gguf_name(g),
                       c->d_model, c->n_heads);
    if (!c->d_head)
        c->d_head = c->d_model / c->n_heads;
    if ((rc = gguf_get_size_or(g, key_of(key, m, "attention.value_length"), 1, MAX_WIDTH, c->d_head, &d_value, err)) ||
        (rc = gguf_get_size_or(g, key_of(key, m, "rope.dimension_count"), 0, MAX_WIDTH, c->d_head, &d_rotary, err)))
        return rc;
    if (d_value != c->d_head)
        return err_set(err, ERR_UNSUPPORTED, "%s: value heads of %zu beside key heads of %zu are not supported",
                       gguf_name(g), d_value, c->d_head);
    if (m->storage->arch->position == POSITION_ROTARY && d_rotary != c->d_head)
        return err_set(err, ERR_UNSUPPORTED, "%s: key \"%s\" is %zu, only whole heads (%zu) are supported",
                       gguf_name(g), key, d_rotary, c->d_head);
    return 0;
}

static int read_norm(struct model *m, const struct gguf *g, struct err *err)
{
    char key[KEY_MAX];
    key_of(key, m,
           m->storage->arch->norm == NORM_RMS ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon");
    if (!gguf_has(g, key))
        return err_set(err, ERR_FORMAT, "%s: metadata key \"%s\" is missing", gguf_name(g), key);
    return gguf_get_number_or(g, key, 0, &m->config.norm_eps, err);
}

static int read_rope(struct model *m, const struct gguf *g, struct rope_scaling *rope, struct err *err)
{
    char key[KEY_MAX];
    const char *type;
    size_t len;
    int rc;
    if ((rc = gguf_get_number_or(g, key_of(key, m, "rope.freq_base"), 10000, &rope->theta, err)) ||
        (rc = gguf_get_number_or(g, key_of(key, m, "rope.scaling.factor"), 1, &rope->factor, err)) ||
        (rc = gguf_get_string(g, key_of(key, m, "rope.scaling.type"), &type, &len, err)))
        return rc;
    bool none = type && len == 4 && !memcmp(type, "none", 4);
    if (type && !none && (len != 6 || memcmp(type, "linear", 6)))
        return err_set(err, ERR_UNSUPPORTED,
                       "%s: rope scaling of type \"%.*s\" is not supported: known are none and linear", gguf_name(g),
                       len > 64 ? 64 : (int)len, type);
    /* A factor without a type is linear; 0 is how some writers say 1 (llama.cpp). */
    if (none || rope->factor == 0)
        rope->factor = 1;
    if (rope->factor != 1)
        rope->type = "linear";
    return 0;
}

/* llama3 scaling comes as divisors of the plain frequencies. *divisors is the caller's, NULL where there are none. */
static int read_divisors(const struct model *m, const struct gguf *g, float **divisors, struct err *err)
{
    const struct tensor *t = tensor_set_find(gguf_tensors(g), GGUF_ROPE_DIVISORS);
    *divisors = NULL;
    if (!t)
        return 0;
    if (t->dtype != DTYPE_F32 || t->n_dims != 1 || t->n != m->config.d_head / 2)
        return err_set(err, ERR_SHAPE, "%s: tensor \"%s\" is not F32 [%zu]", gguf_name(g), t->name,
                       m->config.d_head / 2);
    *divisors = mem_array(t->n, sizeof **divisors);
    if (!*divisors)
        return err_nomem(err, "rotary frequencies");
    tensor_widen(t, 0, t->n, *divisors);
    return 0;
}

static int read_windows(struct model *m, const struct gguf *g, struct err *err)
{
    char key[KEY_MAX];
    size_t window;
    int rc = gguf_get_size_or(g, key_of(key, m, "attention.sliding_window"), 0, MAX_CONTEXT, 0, &window, err);
    if (rc || !window)
        return rc;
    /* Only Mistral, whose files say llama, slides in every layer. */
    if (m->storage->arch->position != POSITION_ROTARY || m->storage->arch->window.kind == WINDOW_SOME_LAYERS)
        return err_set(err, ERR_UNSUPPORTED, "%s: key \"%s\" is not supported for %s: which layers slide is not said",
                       gguf_name(g), key, m->architecture);
    for (size_t l = 0; l < m->config.n_layers; l++)
        m->layers[l].window = window;
    return 0;
}

int config_from_gguf(struct model *m, const struct gguf *g, struct err *err)
{
    struct model_config *c = &m->config;
    struct rope_scaling rope = { .type = "none", .factor = 1, .scale = 1 };
    float *divisors = NULL;
    int rc;
    if ((rc = find_architecture(m, g, err)) || (rc = check_keys(m, g, err)) || (rc = read_vocabulary(m, g, err)) ||
        (rc = read_sizes(m, g, err)) || (rc = read_norm(m, g, err)))
        return rc;
    const struct arch *arch = m->storage->arch;
    c->attn_scale = arch->unscaled_scores ? 1 : 1 / sqrt((double)c->d_head);
    for (size_t i = 0; i < sizeof arch->bias_keys / sizeof *arch->bias_keys; i++)
        m->storage->maybe_biased |= arch->bias_keys[i].roles;
    if ((rc = config_finish(m, gguf_name(g), err)))
        return rc;
    if (c->position == POSITION_ROTARY &&
        ((rc = read_rope(m, g, &rope, err)) || (rc = read_divisors(m, g, &divisors, err))))
        return rc;
    if (divisors) {
        rope.type = "llama3";
        rope.kind = ROPE_DIVISORS;
        rope.divisors = divisors;
    }
    if (c->position == POSITION_ROTARY)
        rc = rope_add(m, gguf_name(g), &rope, err);
    free(divisors);
    return rc ? rc : read_windows(m, g, err);
}

/* The API is typed, so each type is tried; what is none of them is an array. */
static bool add_value(struct strbuf *json, const struct gguf *g, const char *key)
{
    const char *text;
    size_t len, size;
    double number;
    bool flag;
    if (!gguf_get_string(g, key, &text, &len, NULL))
        strbuf_add_json(json, text, len);
    else if (!gguf_get_bool_or(g, key, false, &flag, NULL))
        strbuf_adds(json, flag ? "true" : "false");
    else if (!gguf_get_size_or(g, key, 0, SIZE_MAX, 0, &size, NULL))
        strbuf_addf(json, "%zu", size);
    else if (!gguf_get_number_or(g, key, 0, &number, NULL) && isfinite(number))
        strbuf_addf(json, "%.9g", number);
    else
        return false;
    return true;
}

char *config_json_of_gguf(const struct gguf *g)
{
    struct strbuf json = STRBUF_INIT;
    const char *key;
    strbuf_addc(&json, '{');
    for (size_t i = 0; !strbuf_failed(&json) && (key = gguf_key(g, i)); i++) {
        size_t before = json.len;
        strbuf_adds(&json, before > 1 ? "," : "");
        strbuf_add_json(&json, key, strlen(key));
        strbuf_addc(&json, ':');
        if (!add_value(&json, g, key))
            json.len = before;
    }
    strbuf_addc(&json, '}');
    if (strbuf_failed(&json))
        strbuf_release(&json);
    return json.data;
}
