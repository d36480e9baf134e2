/* strata info: what a model is, from its header alone. */
#include "analyses/cli/output.h"
#include "analyses/cli/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *norm_name(enum norm_kind kind)
{
    return kind == NORM_RMS ? "rms" : "layer";
}

static const char *position_name(enum position_kind kind)
{
    static const char *const names[] = { [POSITION_LEARNED] = "learned",
                                         [POSITION_ROTARY] = "rotary",
                                         [POSITION_ALIBI] = "alibi",
                                         [POSITION_RELATIVE] = "relative" };
    return names[kind];
}

static const char *block_name(enum block_kind kind)
{
    static const char *const names[] = {
        [BLOCK_PRE] = "pre-norm", [BLOCK_PARALLEL] = "parallel", [BLOCK_POST] = "post-norm"
    };
    return names[kind];
}

static const char *activation_name(enum activation activation)
{
    static const char *const names[] = {
#define X(id, name) name,
        ACTIVATIONS(X)
#undef X
    };
    return names[activation];
}

/* Bytes of working memory for one batch at its usual size, the lens's reads as the example. */
static size_t working_bytes(const struct model *m, const struct cli *cli)
{
    size_t rows = runtime_batch_rows(), longest = m->config.n_ctx < rows ? m->config.n_ctx : rows;
    return runtime_memory(m, cli->precision, cli->threads, rows, longest, NULL);
}

/* --- text --- */

static void add_row(struct strbuf *out, const char *name)
{
    strbuf_addf(out, "%-13s ", name);
}

static double mib(size_t bytes)
{
    return (double)bytes / (1 << 20);
}

static void add_blocks(const struct model *m, struct strbuf *out)
{
    const struct model_config *c = &m->config;
    size_t windows = 0, last = 0;
    add_row(out, "blocks");
    strbuf_addf(out, "%s, %s", block_name(c->block), c->bidirectional ? "every query sees every key" : "causal");
    if (c->sublayer_norms)
        strbuf_adds(out, ", what sublayers return is normalised");
    if (c->qk_norm)
        strbuf_adds(out, ", queries and keys are normalised");
    if (c->n_experts)
        strbuf_addf(out, ", %zu of %zu experts%s", c->n_experts_used, c->n_experts,
                    c->d_shared ? " and a shared one" : "");
    for (size_t l = 0; l < c->n_layers; l++)
        if (m->layers[l].window) {
            windows++;
            last = m->layers[l].window;
        }
    if (windows)
        strbuf_addf(out, ", %zu with a window of %zu tokens", windows, last);
    strbuf_addc(out, '\n');
}

static void add_positions(const struct model *m, struct strbuf *out)
{
    const struct model_config *c = &m->config;
    add_row(out, "positions");
    strbuf_adds(out, position_name(c->position));
    if (c->position == POSITION_ROTARY)
        strbuf_addf(out, " in %zu of %zu dimensions of a head", c->rotary_dims, c->d_head);
    for (size_t i = 0; i < m->n_ropes; i++)
        strbuf_addf(out, "%s theta %g, scaling %s", i ? ";" : ",", m->ropes[i].theta, m->ropes[i].scaling);
    strbuf_addc(out, '\n');
}

/* Factors and caps, where there are any. */
static void add_factors(const struct model_config *c, struct strbuf *out)
{
    const struct {
        const char *name;
        double value, neutral;
    } factors[] = { { "embedding", c->embed_scale, 1 },       { "sublayers", c->residual_scale, 1 },
                    { "logits", c->logit_scale, 1 },          { "cap of scores", c->attn_softcap, 0 },
                    { "cap of logits", c->logit_softcap, 0 }, { "clip of q, k, v", c->qkv_clip, 0 } };
    const char *comma = "";
    for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
        if (factors[i].value == factors[i].neutral)
            continue;
        if (!*comma)
            add_row(out, "factors");
        strbuf_addf(out, "%s%s %g", comma, factors[i].name, factors[i].value);
        comma = ", ";
    }
    strbuf_adds(out, *comma ? "\n" : "");
}

static void add_shape(const struct model *m, struct strbuf *out)
{
    const struct model_config *c = &m->config;
    add_row(out, "layers");
    strbuf_addf(out, "%zu\n", c->n_layers);
    add_blocks(m, out);
    add_row(out, "heads");
    strbuf_addf(out, "%zu, d_head %zu", c->n_heads, c->d_head);
    if (c->n_kv_heads != c->n_heads)
        strbuf_addf(out, "; %zu key/value heads, each for %zu query heads", c->n_kv_heads, c->n_heads / c->n_kv_heads);
    strbuf_addc(out, '\n');
    add_row(out, "widths");
    strbuf_addf(out, "d_model %zu, d_mlp %zu (%s%s)", c->d_model, c->d_mlp, c->gated_mlp ? "gated, " : "",
                activation_name(c->activation));
    if (c->d_embed != c->d_model)
        strbuf_addf(out, ", embedding %zu", c->d_embed);
    strbuf_addc(out, '\n');
    add_row(out, "vocabulary");
    strbuf_addf(out, "%zu, unembedding %s%s\n", c->d_vocab,
                !c->unembedding ? "none: hidden states only"
                : c->tied       ? "tied to the embedding"
                                : "of its own",
                c->head_transform ? ", after a masked-LM head" : "");
    add_row(out, "context");
    strbuf_addf(out, "%zu tokens\n", c->n_ctx);
    add_row(out, "norm");
    strbuf_addf(out, "%s, eps %g\n", c->norm == NORM_RMS ? "RMS" : "LayerNorm", c->norm_eps);
    add_positions(m, out);
    add_factors(c, out);
}

static void add_tokenizer(const struct model *m, struct strbuf *out)
{
    add_row(out, "tokenizer");
    if (!m->tokenizer) {
        strbuf_adds(out, "none: give token ids\n");
        return;
    }
    strbuf_adds(out, tokenizer_describe(m->tokenizer));
    int32_t bos = tokenizer_bos(m->tokenizer), eos = tokenizer_eos(m->tokenizer);
    if (bos >= 0)
        strbuf_addf(out, ", BOS %d", (int)bos);
    if (eos >= 0)
        strbuf_addf(out, ", EOS %d", (int)eos);
    strbuf_addc(out, '\n');
}

static bool is_missed(int site, const struct model_config *c)
{
    return site_missing((enum site)site, c) && site_listed((enum site)site, c);
}

/* One line a reason. */
static void add_missing_sites(const struct model_config *c, struct strbuf *out)
{
    char name[SITE_NAME_MAX];
    for (int s = 0; s < N_SITES; s++) {
        const char *reason = is_missed(s, c) ? site_missing((enum site)s, c) : NULL, *comma = "";
        for (int before = 0; reason && before < s; before++)
            reason = is_missed(before, c) && site_missing((enum site)before, c) == reason ? NULL : reason;
        if (!reason)
            continue;
        add_row(out, "no site");
        for (int other = s; other < N_SITES; other++)
            if (is_missed(other, c) && site_missing((enum site)other, c) == reason) {
                site_of_layers((enum site)other, name);
                strbuf_addf(out, "%s%s", comma, name);
                comma = ", ";
            }
        strbuf_addf(out, ": %s\n", reason);
    }
}

static void add_sites(const struct model_config *c, struct strbuf *out)
{
    size_t column = 0;
    char name[SITE_NAME_MAX];
    add_row(out, "sites");
    for (int s = 0; s < N_SITES; s++) {
        if (site_missing((enum site)s, c))
            continue;
        site_of_layers((enum site)s, name);
        if (column + strlen(name) > 90) {
            strbuf_addf(out, "\n%-13s ", "");
            column = 0;
        }
        strbuf_addf(out, "%s%s", column ? " " : "", name);
        column += strlen(name) + 1;
    }
    strbuf_addc(out, '\n');
    add_missing_sites(c, out);
}

static void add_text(const struct model *m, const struct cli *cli, struct strbuf *out)
{
    add_row(out, "model");
    strbuf_addf(out, "%s\n", m->path);
    add_row(out, "architecture");
    strbuf_addf(out, "%s\n", m->architecture);
    add_row(out, "format");
    strbuf_addf(out, "%s, tensors by type: %s\n", m->file_format, m->weight_types);
    add_shape(m, out);
    add_row(out, "parameters");
    strbuf_addf(out, "%zu\n", m->n_parameters);
    add_row(out, "memory");
    strbuf_addf(out, "%.1f MiB: weights as float32 %.1f, working memory %.1f (batches of %zu tokens, %d threads)\n",
                mib(model_planned_bytes(m)) + mib(working_bytes(m, cli)), mib(model_planned_bytes(m)),
                mib(working_bytes(m, cli)), runtime_batch_rows(), cli->threads);
    add_row(out, "");
    strbuf_addf(out, "%.1f MiB with --weights stream (two blocks as float32 at a time)\n",
                mib(model_streamed_bytes(m)) + mib(working_bytes(m, cli)));
    add_tokenizer(m, out);
    add_sites(&m->config, out);
}

/* --- JSON --- */

static void add_string(struct strbuf *out, const char *key, const char *value)
{
    strbuf_addf(out, "\"%s\":", key);
    if (value)
        strbuf_add_json(out, value, strlen(value));
    else
        strbuf_adds(out, "null");
    strbuf_addc(out, ',');
}

/* "Q4_1 210, F32 61" as {"Q4_1":210,"F32":61} */
static void add_types(struct strbuf *out, const char *types)
{
    strbuf_adds(out, "\"weight_types\":{");
    for (const char *at = types; *at;) {
        size_t name = strcspn(at, " "), count = strcspn(at + name, ",");
        strbuf_addf(out, "%s\"%.*s\":%.*s", at == types ? "" : ",", (int)name, at, (int)count - 1, at + name + 1);
        at += name + count;
        at += strspn(at, ", ");
    }
    strbuf_adds(out, "},");
}

static void add_json_config(const struct model *m, struct strbuf *out)
{
    const struct model_config *c = &m->config;
    strbuf_addf(out,
                "\"n_layers\":%zu,\"n_heads\":%zu,\"n_kv_heads\":%zu,\"d_model\":%zu,\"d_head\":%zu,\"d_mlp\":%zu,"
                "\"d_vocab\":%zu,\"n_ctx\":%zu,",
                c->n_layers, c->n_heads, c->n_kv_heads, c->d_model, c->d_head, c->d_mlp, c->d_vocab, c->n_ctx);
    strbuf_addf(out, "\"norm\":\"%s\",\"norm_eps\":%.17g,\"position\":\"%s\",\"rotary_dims\":%zu,", norm_name(c->norm),
                c->norm_eps, position_name(c->position), c->rotary_dims);
    if (c->position == POSITION_ROTARY)
        strbuf_addf(out, "\"rope_theta\":%.17g,\"rope_scaling\":\"%s\",", m->ropes[0].theta, m->ropes[0].scaling);
    strbuf_addf(out, "\"activation\":\"%s\",\"gated_mlp\":%s,\"tied\":%s,\"attn_scale\":%.17g,",
                activation_name(c->activation), c->gated_mlp ? "true" : "false", c->tied ? "true" : "false",
                c->attn_scale);
    strbuf_addf(out,
                "\"block\":\"%s\",\"causal\":%s,\"sublayer_norms\":%s,\"qk_norm\":%s,\"n_experts\":%zu,"
                "\"n_experts_used\":%zu,\"d_embed\":%zu,\"unembedding\":%s,\"head_transform\":%s,",
                block_name(c->block), c->bidirectional ? "false" : "true", c->sublayer_norms ? "true" : "false",
                c->qk_norm ? "true" : "false", c->n_experts, c->n_experts_used, c->d_embed,
                c->unembedding ? "true" : "false", c->head_transform ? "true" : "false");
}

static void add_json_sites(const struct model_config *c, struct strbuf *out)
{
    char name[SITE_NAME_MAX];
    const char *comma = "";
    strbuf_adds(out, "\"sites\":[");
    for (int s = 0; s < N_SITES; s++)
        if (!site_missing((enum site)s, c)) {
            site_of_layers((enum site)s, name);
            strbuf_addf(out, "%s\"%s\"", comma, name);
            comma = ",";
        }
    strbuf_adds(out, "],\"missing_sites\":{");
    comma = "";
    for (int s = 0; s < N_SITES; s++)
        if (site_missing((enum site)s, c) && site_listed((enum site)s, c)) {
            site_of_layers((enum site)s, name);
            strbuf_addf(out, "%s\"%s\":\"%s\"", comma, name, site_missing((enum site)s, c));
            comma = ",";
        }
    strbuf_adds(out, "}");
}

static void add_json(const struct model *m, const struct cli *cli, struct strbuf *out)
{
    strbuf_addc(out, '{');
    add_string(out, "model", m->path);
    add_string(out, "architecture", m->architecture);
    add_string(out, "format", m->file_format);
    add_types(out, m->weight_types);
    add_json_config(m, out);
    strbuf_addf(out, "\"n_parameters\":%zu,\"weight_bytes\":%zu,\"streamed_bytes\":%zu,\"working_bytes\":%zu,",
                m->n_parameters, model_planned_bytes(m), model_streamed_bytes(m), working_bytes(m, cli));
    add_string(out, "tokenizer", m->tokenizer ? tokenizer_describe(m->tokenizer) : NULL);
    add_string(out, "tokenizer_sha256", m->tokenizer ? m->tokenizer_sha256 : NULL);
    strbuf_addf(out, "\"bos\":%d,\"eos\":%d,", m->tokenizer ? (int)tokenizer_bos(m->tokenizer) : -1,
                m->tokenizer ? (int)tokenizer_eos(m->tokenizer) : -1);
    add_json_sites(&m->config, out);
    strbuf_adds(out, "}\n");
}

static int run(struct cli *cli, struct err *err)
{
    struct model *m;
    struct strbuf out = STRBUF_INIT;
    int rc = cli_model_argument(cli, err);
    rc = rc ? rc : output_format(cli, err);
    rc = rc ? rc : cli_open_header(&m, cli, err);
    if (rc)
        return rc;
    if (cli->json)
        add_json(m, cli, &out);
    else
        add_text(m, cli, &out);
    model_free(m);
    return output_text(cli, &out, 0, err);
}

const struct command command_info = {
    .name = "info",
    .arguments = "[MODEL]",
    .summary = "what a model is: architecture, sizes, types, memory, tokenizer, sites",
    .details =
        "Reads the header only, so that it is quick and says nothing about the weights' values.\n"
        "\n"
        "  strata info gpt2\n"
        "  strata info model.gguf --json | python3 -m json.tool\n"
        "\n"
        "JSON keys: model, architecture, format, weight_types (tensors by type), n_layers, n_heads, n_kv_heads,\n"
        "d_model, d_head, d_mlp, d_vocab, n_ctx, norm, norm_eps, position, rotary_dims, rope_theta,\n"
        "rope_scaling, activation, gated_mlp, tied, attn_scale, block (pre-norm, parallel, post-norm), causal,\n"
        "sublayer_norms, qk_norm, n_experts, n_experts_used, d_embed, unembedding, head_transform,\n"
        "n_parameters, weight_bytes (as float32), streamed_bytes (of them with --weights stream),\n"
        "working_bytes, tokenizer, tokenizer_sha256, bos, eos (-1: none), sites, missing_sites.\n",
    .common = COMMON_MODEL_PATH | COMMON_PRECISION | COMMON_OUTPUT | COMMON_JSON,
    .most_arguments = 1,
    .run = run,
};
