/* Models: weights that do not fit their config, GGUF metadata, where models are looked for. Configs: test_config.c. */
#include "core/model/model.h"

#include "core/base/json.h"
#include "tests/unit/make_gguf.h"
#include "tests/unit/make_model.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

static struct pool *pool;
static char folder[] = "/tmp/strata-model-XXXXXX", home[256];

/* --- weights --- */

static const char *in_folder(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void assert_open_refused(const char *path, int code, const char *message)
{
    struct model *m = NULL;
    struct err err = { 0 };
    int rc = model_open(&m, path, pool, &err);
    if (!rc) {
        model_free(m);
        fail_msg("accepted, but should say: %s", message);
    }
    assert_null(m);
    if (rc != code || !strstr(err.msg, message))
        fail_msg("%d \"%s\" does not say \"%s\" (%d)", rc, err.msg, message, code);
}

static struct model *must_open(const char *path)
{
    struct model *m = NULL;
    struct err err = { 0 };
    if (model_open(&m, path, pool, &err))
        fail_msg("%s", err.msg);
    return m;
}

static void assert_files_refused(const struct llama_files *f, int code, const char *message)
{
    llama_write_folder(f, in_folder("llama"));
    assert_open_refused(in_folder("llama"), code, message);
}

static void an_honest_folder_opens(void **state)
{
    (void)state;
    struct llama_files f = llama_default();
    char hex[65];
    struct file_map map;
    struct err err = { 0 };
    llama_write_folder(&f, in_folder("llama"));
    struct model *m = must_open(in_folder("llama"));
    assert_int_equal(m->n_parameters, 20 + 4 + 16 + 8 + 8 + 16 + 4 + 12 + 12 + 12 + 4 + 20);
    assert_string_equal(m->file_format, "safetensors");
    assert_string_equal(m->weight_types, "F32 12");
    assert_string_equal(m->path, in_folder("llama"));
    assert_non_null(strstr(m->config_json, "\"hidden_size\":4"));
    assert_int_equal(m->weight_bytes, 0); /* F32 is used where it is mapped, if its address allows it */
    assert_null(m->tokenizer);
    assert_string_equal(m->tokenizer_sha256, "");
    assert_int_equal(file_map_open(&map, in_folder("llama/model.safetensors"), &err), 0);
    assert_int_equal(file_sha256(map.data, map.size, hex, &err), 0);
    file_map_close(&map);
    assert_string_equal(m->sha256, hex);
    assert_true(m->embed[1] == 0.5F && m->embed[2] == 0);
    model_free(m);

    /* BF16 is widened, a header reads no weights. */
    for (size_t i = 0; i < f.n; i++)
        f.tensors[i].dtype = "BF16";
    llama_write_folder(&f, in_folder("llama"));
    assert_int_equal(model_open_header(&m, in_folder("llama"), &err), 0);
    assert_null(m->embed);
    assert_string_equal(m->sha256, "");
    assert_int_equal(m->weight_bytes, 0);
    size_t planned = model_planned_bytes(m);
    model_free(m);
    m = must_open(in_folder("llama"));
    assert_int_equal(m->weight_bytes, planned);
    assert_true(planned >= 4 * m->n_parameters && planned < 4 * m->n_parameters + 12 * 64);
    assert_true(m->embed[1] == 0.5F);
    model_free(m);
}

static void wrong_tensors_are_named(void **state)
{
    (void)state;
    static const char up[] = "model.layers.0.mlp.up_proj.weight";
    struct llama_files f = llama_default();
    for (size_t i = 0; i < f.n; i++) {
        char message[160];
        struct llama_files without = f;
        without.tensors[i].left_out = true;
        snprintf(message, sizeof message, "tensor \"%s\" is missing", f.tensors[i].name);
        assert_files_refused(&without, ERR_FORMAT, message);
        struct llama_files longer = f;
        longer.tensors[i].dims[0]++;
        snprintf(message, sizeof message, "tensor \"%s\" has shape [", f.tensors[i].name);
        assert_files_refused(&longer, ERR_SHAPE, message);
        struct llama_files odd = f;
        odd.tensors[i].value = i % 2 ? NAN : -INFINITY;
        snprintf(message, sizeof message, "tensor \"%s\" holds %s (row 0, column 1)", f.tensors[i].name,
                 i % 2 ? "nan" : "-inf");
        assert_files_refused(&odd, ERR_NUMERIC, message);
        odd.tensors[i].dtype = i % 3 ? "F16" : "BF16";
        odd.tensors[i].value = INFINITY;
        snprintf(message, sizeof message, "tensor \"%s\" holds inf", f.tensors[i].name);
        assert_files_refused(&odd, ERR_NUMERIC, message);
    }
    struct llama_files g = f;
    *llama_tensor(&g, up)->dims = 4;
    assert_files_refused(&g, ERR_SHAPE, "has shape [4, 4], its config asks for [3, 4]");
    g = f;
    llama_tensor(&g, up)->n_dims = 3;
    llama_tensor(&g, up)->dims[2] = 1;
    assert_files_refused(&g, ERR_SHAPE, "has shape [3, 4, 1]");
    g = f;
    llama_tensor(&g, up)->dtype = "I32";
    assert_files_refused(&g, ERR_UNSUPPORTED, "is I32: whole numbers are no weights");
    g = f;
    llama_add(&g, "model.layers.1.mlp.up_proj.weight", 3, 4);
    assert_files_refused(&g, ERR_UNSUPPORTED, "\"model.layers.1.mlp.up_proj.weight\" is not part of a llama model");
    g = f;
    llama_add(&g, "model.layers.0.self_attn.q_proj.bias", 4, 0);
    assert_files_refused(&g, ERR_UNSUPPORTED, "q_proj.bias\" is not part");
    g = f;
    g.config = LLAMA_CONFIG ",\"attention_bias\":true";
    assert_files_refused(&g, ERR_FORMAT, "q_proj.bias\" is missing");
    g = f;
    g.config = LLAMA_CONFIG ",\"tie_word_embeddings\":true";
    llama_tensor(&g, "lm_head.weight")->value = 0.25F;
    assert_files_refused(&g, ERR_FORMAT, "tie_word_embeddings is true, but tensor \"lm_head.weight\" differs");
}

static void copies_and_buffers_are_accepted(void **state)
{
    (void)state;
    struct llama_files f = llama_default();
    f.config = LLAMA_CONFIG ",\"tie_word_embeddings\":true";
    llama_add(&f, "model.layers.0.self_attn.rotary_emb.inv_freq", 1, 0)->dims[0] = 3;
    llama_write_folder(&f, in_folder("llama")); /* lm_head equals the embedding here */
    struct model *m = must_open(in_folder("llama"));
    assert_ptr_equal(m->unembed.data, m->embed);
    model_free(m);
    llama_tensor(&f, "lm_head.weight")->left_out = true;
    llama_write_folder(&f, in_folder("llama"));
    m = must_open(in_folder("llama"));
    assert_ptr_equal(m->unembed.data, m->embed);
    model_free(m);
    /* A base model, saved without the prefix. */
    for (size_t i = 0; i < f.n; i++)
        if (!strncmp(f.tensors[i].name, "model.", 6))
            memmove(f.tensors[i].name, f.tensors[i].name + 6, strlen(f.tensors[i].name) - 5);
    llama_write_folder(&f, in_folder("llama"));
    model_free(must_open(in_folder("llama")));
}

static void damaged_weight_files_are_refused(void **state)
{
    (void)state;
    struct llama_files f = llama_default();
    llama_write_folder(&f, in_folder("llama"));
    struct strbuf file = llama_safetensors(&f, 0, f.n);
    llama_write(in_folder("llama"), "model.safetensors", file.data, file.len - 1);
    assert_open_refused(in_folder("llama"), ERR_FORMAT,
                        "llama/model.safetensors: tensor \"lm_head.weight\": its bytes");
    llama_write(in_folder("llama"), "model.safetensors", file.data, 0);
    assert_open_refused(in_folder("llama"), ERR_FORMAT, "has 0 bytes");
    llama_write(in_folder("llama"), "model.safetensors", file.data, file.len);
    strbuf_release(&file);
    f.config = LLAMA_CONFIG;
    llama_write(in_folder("llama"), "config.json", "{\"model_type\":", 14);
    assert_open_refused(in_folder("llama"), ERR_FORMAT, "llama/config.json: is no valid JSON: line 1");
    llama_write(in_folder("llama"), "config.json", "", 0);
    assert_open_refused(in_folder("llama"), ERR_FORMAT, "llama/config.json: is no valid JSON");
}

static void settings_of_any_size_are_not_parsed(void **state)
{
    (void)state;
    enum { N = (16 << 20) + 1 };
    char *zeros = malloc(N);
    struct llama_files f = llama_default();
    assert_non_null(zeros);
    memset(zeros, '0', N);
    for (size_t i = 1; i < N; i += 2)
        zeros[i] = ',';
    memcpy(zeros, "{\"a\":[", 6);
    llama_write_folder(&f, in_folder("bomb"));
    llama_write(in_folder("bomb"), "config.json", zeros, N);
    assert_open_refused(in_folder("bomb"), ERR_FORMAT, "config.json: has 16777217 bytes, more than 16 MiB");
    llama_write_folder(&f, in_folder("bomb"));
    llama_write(in_folder("bomb"), "tokenizer_config.json", zeros, N);
    model_free(must_open(in_folder("bomb"))); /* not read without a tokenizer */
    free(zeros);
}

static void shards_are_put_together(void **state)
{
    (void)state;
    struct llama_files f = llama_default();
    struct err err = { 0 };
    char command[600], both[129], hex[65];
    struct strbuf a = llama_safetensors(&f, 0, 5), b = llama_safetensors(&f, 5, f.n), index = STRBUF_INIT;
    char path[512];
    snprintf(path, sizeof path, "%s", in_folder("shards"));
    llama_write_config(&f, path);
    llama_write(path, "b.safetensors", a.data, a.len);
    llama_write(path, "a.safetensors", b.data, b.len);
    strbuf_adds(&index, "{\"metadata\":{},\"weight_map\":{");
    for (size_t i = 0; i < f.n; i++)
        strbuf_addf(&index, "%s\"%s\":\"%s.safetensors\"", i ? "," : "", f.tensors[i].name, i < 5 ? "b" : "a");
    strbuf_adds(&index, "}}");
    llama_write(path, "model.safetensors.index.json", index.data, index.len);
    struct model *m = must_open(path);
    assert_int_equal(file_sha256(b.data, b.len, both, &err), 0);
    assert_int_equal(file_sha256(a.data, a.len, both + 64, &err), 0);
    assert_int_equal(file_sha256(both, 128, hex, &err), 0);
    assert_string_equal(m->sha256, hex); /* in the order of the names */
    model_free(m);
    snprintf(command, sizeof command, "rm %s/a.safetensors", path);
    assert_int_equal(system(command), 0);
    assert_open_refused(path, ERR_IO, "shards/a.safetensors: cannot open: No such file");
    static const char escape[] = "{\"weight_map\":{\"lm_head.weight\":\"../llama/model.safetensors\"}}";
    llama_write(path, "model.safetensors.index.json", escape, sizeof escape - 1);
    assert_open_refused(path, ERR_FORMAT, "no plain file name");
    strbuf_release(&a);
    strbuf_release(&b);
    strbuf_release(&index);
}

static void a_tokenizer_larger_than_the_vocabulary_is_refused(void **state)
{
    (void)state;
    struct llama_files f = llama_default();
    struct file_map map;
    struct err err = { 0 };
    assert_int_equal(file_map_open(&map, "data/tiny/tokenizer.json", &err), 0);
    llama_write_folder(&f, in_folder("tokens"));
    llama_write(in_folder("tokens"), "tokenizer.json", map.data, map.size);
    assert_open_refused(in_folder("tokens"), ERR_FORMAT, "the model only 5: they do not belong together");
    llama_write(in_folder("tokens"), "tokenizer.json", "{}", 2);
    assert_open_refused(in_folder("tokens"), ERR_FORMAT, "tokens/tokenizer.json: ");
    file_map_close(&map);
}

/* --- GGUF --- */

/* The names that llama.cpp gives them. */
static void gguf_name_of(const char *name, char out[96])
{
    static const char *const names[][2] = {
        { "model.embed_tokens", "token_embd" },
        { "model.layers.0.input_layernorm", "blk.0.attn_norm" },
        { "model.layers.0.self_attn.q_proj", "blk.0.attn_q" },
        { "model.layers.0.self_attn.k_proj", "blk.0.attn_k" },
        { "model.layers.0.self_attn.v_proj", "blk.0.attn_v" },
        { "model.layers.0.self_attn.o_proj", "blk.0.attn_output" },
        { "model.layers.0.post_attention_layernorm", "blk.0.ffn_norm" },
        { "model.layers.0.mlp.gate_proj", "blk.0.ffn_gate" },
        { "model.layers.0.mlp.up_proj", "blk.0.ffn_up" },
        { "model.layers.0.mlp.down_proj", "blk.0.ffn_down" },
        { "model.norm", "output_norm" },
        { "lm_head", "output" },
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t n = strlen(names[i][0]);
        if (!strncmp(name, names[i][0], n) && name[n] == '.') {
            snprintf(out, 96, "%s%s", names[i][1], name + n);
            return;
        }
    }
    snprintf(out, 96, "%s", name);
}

/* Metadata of the llama of make_model.h, the key `skip` left out. */
static struct gguf_maker gguf_metadata(const char *skip)
{
    static const struct {
        const char *key;
        uint32_t value;
    } sizes[] = {
        { "llama.block_count", 1 },     { "llama.embedding_length", 4 },     { "llama.feed_forward_length", 3 },
        { "llama.context_length", 16 }, { "llama.attention.head_count", 2 }, { "llama.attention.head_count_kv", 1 },
    };
    struct gguf_maker g = { .version = 3, .alignment = 32 };
    if (strcmp(skip, "general.architecture"))
        gguf_put_string(&g, "general.architecture", "llama");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (strcmp(skip, sizes[i].key))
            gguf_put_u32(&g, sizes[i].key, sizes[i].value);
    if (strcmp(skip, "llama.attention.layer_norm_rms_epsilon"))
        gguf_put_f32(&g, "llama.attention.layer_norm_rms_epsilon", 1e-5F);
    return g;
}

static void gguf_finish(struct gguf_maker *g, const struct llama_files *f)
{
    for (size_t i = 0; i < f->n; i++) {
        const struct llama_tensor *t = &f->tensors[i];
        char name[96];
        struct strbuf data = STRBUF_INIT;
        uint64_t dims[2] = { t->dims[t->n_dims - 1], t->dims[0] };
        if (t->left_out)
            continue;
        gguf_name_of(t->name, name);
        llama_bytes(t, &data);
        gguf_put_tensor(g, name, 0, (unsigned)t->n_dims, dims, data.data, data.len);
        strbuf_release(&data);
    }
    struct strbuf file = gguf_made(g);
    llama_write(folder, "m.gguf", file.data, file.len);
    strbuf_release(&file);
}

static void assert_gguf_refused(struct gguf_maker *g, const struct llama_files *f, int code, const char *message)
{
    struct llama_files plain = llama_default();
    gguf_finish(g, f ? f : &plain);
    assert_open_refused(in_folder("m.gguf"), code, message);
}

static void an_honest_gguf_opens(void **state)
{
    (void)state;
    struct llama_files f = llama_default();
    struct gguf_maker g = gguf_metadata("");
    llama_tensor(&f, "lm_head.weight")->value = 0.25F;
    gguf_put_u32(&g, "llama.vocab_size", 5);
    gguf_put_u32(&g, "llama.rope.dimension_count", 2);
    gguf_put_f32(&g, "llama.rope.freq_base", 500);
    gguf_put_string(&g, "llama.rope.scaling.type", "none");
    gguf_put_string(&g, "general.name", "tiny \"one\"");
    gguf_put_string(&g, "tokenizer.ggml.model", "no_vocab");
    gguf_finish(&g, &f);
    struct model *m = must_open(in_folder("m.gguf"));
    assert_string_equal(m->architecture, "llama");
    assert_string_equal(m->file_format, "GGUF v3");
    assert_true(m->ropes[0].theta == 500);
    assert_int_equal(m->config.d_vocab, 5);
    assert_int_equal(m->config.d_head, 2);
    assert_false(m->config.tied);
    assert_true(m->unembed.data[1] == 0.25F && m->embed[1] == 0.5F);
    struct err err = { 0 };
    json_t *config = NULL;
    if (json_parse(m->config_json, strlen(m->config_json), "config", &config, &err))
        fail_msg("%s", err.msg);
    assert_string_equal(json_string_value(json_object_get(config, "general.name")), "tiny \"one\"");
    assert_int_equal(json_integer_value(json_object_get(config, "llama.block_count")), 1);
    json_decref(config);
    model_free(m);
    /* Without an output matrix, or with a copy, the embedding is the unembedding. */
    for (int copy = 0; copy < 2; copy++) {
        g = gguf_metadata("");
        llama_tensor(&f, "lm_head.weight")->left_out = !copy;
        llama_tensor(&f, "lm_head.weight")->value = 0.5F;
        gguf_finish(&g, &f);
        m = must_open(in_folder("m.gguf"));
        assert_true(m->config.tied);
        assert_ptr_equal(m->unembed.data, m->embed);
        model_free(m);
    }
    /* A file may carry Mistral's window under the name of llama. */
    g = gguf_metadata("");
    gguf_put_u32(&g, "llama.attention.sliding_window", 7);
    gguf_finish(&g, &f);
    m = must_open(in_folder("m.gguf"));
    assert_int_equal(m->layers[0].window, 7);
    model_free(m);
}

static void bad_gguf_metadata_is_named(void **state)
{
    (void)state;
    static const char *const needed[] = { "general.architecture",
                                          "llama.block_count",
                                          "llama.embedding_length",
                                          "llama.feed_forward_length",
                                          "llama.context_length",
                                          "llama.attention.head_count",
                                          "llama.attention.layer_norm_rms_epsilon" };
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        struct gguf_maker g = gguf_metadata(needed[i]);
        assert_gguf_refused(&g, NULL, ERR_FORMAT, needed[i]);
    }
    static const struct {
        const char *key;
        uint32_t value;
        int code;
        const char *message;
    } sizes[] = {
        { "llama.attention.head_count_kv", 3, ERR_FORMAT, "cannot share 3 key/value heads" },
        { "llama.attention.head_count", 3, ERR_FORMAT, "is no multiple of 3 heads" },
        { "llama.block_count", 2, ERR_FORMAT, "tensor \"blk.1.attn_norm.weight\" is missing" },
        { "llama.block_count", 0, ERR_FORMAT, "llama.block_count is 0" },
        { "llama.block_count", 4000000000, ERR_FORMAT, "it must be from 1 to 1024" },
        { "llama.embedding_length", 8, ERR_SHAPE, "tensor \"token_embd.weight\" has shape [5, 4]" },
        { "llama.feed_forward_length", 8, ERR_SHAPE, "has shape [3, 4], its config asks for [8, 4]" },
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct gguf_maker g = gguf_metadata(sizes[i].key);
        gguf_put_u32(&g, sizes[i].key, sizes[i].value);
        assert_gguf_refused(&g, NULL, sizes[i].code, sizes[i].message);
    }
    static const struct {
        const char *key;
        uint32_t value;
        const char *message;
    } extras[] = {
        { "llama.vocab_size", 6, "is 6, but \"token_embd.weight\" has 5 rows" },
        { "llama.attention.value_length", 4, "value heads of 4 beside key heads of 2" },
        { "llama.rope.dimension_count", 1, "only whole heads (2) are supported" },
        { "llama.logit_scale", 8, "\"llama.logit_scale\" may change the mathematics" },
        { "llama.some_new_thing", 1, "\"llama.some_new_thing\" may change the mathematics" },
        { "split.count", 2, "one of 2 parts: merge them" },
    };
    for (size_t i = 0; i < sizeof extras / sizeof *extras; i++) {
        struct gguf_maker g = gguf_metadata("");
        gguf_put_u32(&g, extras[i].key, extras[i].value);
        assert_gguf_refused(&g, NULL, i == 0 ? ERR_SHAPE : ERR_UNSUPPORTED, extras[i].message);
    }
}

static void bad_gguf_models_are_refused(void **state)
{
    (void)state;
    struct gguf_maker g = gguf_metadata("general.architecture");
    gguf_put_string(&g, "general.architecture", "mamba");
    assert_gguf_refused(&g, NULL, ERR_UNSUPPORTED, "architecture \"mamba\" is not supported");
    g = gguf_metadata("");
    gguf_put_u32(&g, "llama.expert_count", 8);
    assert_gguf_refused(&g, NULL, ERR_FORMAT, "\"llama.expert_used_count\" is missing");
    g = gguf_metadata("");
    gguf_put_string(&g, "llama.rope.scaling.type", "longrope");
    assert_gguf_refused(&g, NULL, ERR_FORMAT, "tensor \"rope_factors_short.weight\" is missing");
    g = gguf_metadata("");
    gguf_put_u32(&g, "llama.rope.scaling.attn_factor", 2);
    assert_gguf_refused(&g, NULL, ERR_UNSUPPORTED, "\"llama.rope.scaling.attn_factor\" is 2: not supported");
    g = gguf_metadata("");
    gguf_put_u32(&g, "llama.rope.scaling.attn_factor", 0);
    assert_gguf_refused(&g, NULL, ERR_FORMAT, "is 0, it must be above 0");
    g = gguf_metadata("");
    gguf_put_u32(&g, "llama.attention.max_alibi_bias", 8);
    assert_gguf_refused(&g, NULL, ERR_UNSUPPORTED, "max_alibi_bias\" may change the mathematics");
    g = gguf_metadata("");
    gguf_put_string(&g, "llama.rope.scaling.type", "dynamic");
    assert_gguf_refused(&g, NULL, ERR_UNSUPPORTED, "rope scaling of type \"dynamic\"");
    g = gguf_metadata("");
    gguf_put_f32(&g, "llama.logit_scale", 0.5F);
    assert_gguf_refused(&g, NULL, ERR_UNSUPPORTED, "llama.logit_scale");
    g = gguf_metadata("");
    gguf_put_bool(&g, "llama.use_parallel_residual", 1);
    assert_gguf_refused(&g, NULL, ERR_UNSUPPORTED, "llama.use_parallel_residual");
    g = gguf_metadata("");
    gguf_put_bool(&g, "llama.attention.causal", 0);
    assert_gguf_refused(&g, NULL, ERR_UNSUPPORTED, "llama.attention.causal");
    g = gguf_metadata("");
    gguf_put_strings(&g, "tokenizer.ggml.tokens", (const char *const[]){ "a", "b" }, 2);
    assert_gguf_refused(&g, NULL, ERR_SHAPE, "2 tokens, but \"token_embd.weight\" has 5 rows");
    struct llama_files f = llama_default();
    llama_add(&f, "rope_freqs.weight", 1, 0)->value = 1;
    f.tensors[f.n - 1].dims[0] = 3;
    g = gguf_metadata("");
    assert_gguf_refused(&g, &f, ERR_SHAPE, "\"rope_freqs.weight\" is not F32 [1]");
    f = llama_default();
    llama_add(&f, "blk.0.attn_sinks.weight", 2, 0);
    g = gguf_metadata("");
    assert_gguf_refused(&g, &f, ERR_UNSUPPORTED, "\"blk.0.attn_sinks.weight\" is not part of a llama model");
    f = llama_default();
    llama_tensor(&f, "model.layers.0.self_attn.k_proj.weight")->value = NAN;
    g = gguf_metadata("");
    assert_gguf_refused(&g, &f, ERR_NUMERIC, "tensor \"blk.0.attn_k.weight\" holds nan");
}

/* --- where models are --- */

static void files_that_are_no_model_are_refused(void **state)
{
    (void)state;
    llama_write(in_folder("empty"), "x", "x", 1);
    assert_open_refused(in_folder("empty"), ERR_NOTFOUND, "empty: has no config.json");
    struct llama_files f = llama_default();
    llama_write_config(&f, in_folder("empty"));
    assert_open_refused(in_folder("empty"), ERR_NOTFOUND, "has neither model.safetensors nor");
    llama_write(in_folder("empty"), "pytorch_model.bin", "x", 1);
    assert_open_refused(in_folder("empty"), ERR_NOTFOUND, "convert pytorch_model.bin to safetensors");
    llama_write(folder, "text.gguf", "hello", 5);
    assert_open_refused(in_folder("text.gguf"), ERR_FORMAT, "text.gguf: is no GGUF file: give one, or the folder");
    assert_int_equal(mkfifo(in_folder("fifo.gguf"), 0600), 0);
    assert_open_refused(in_folder("fifo.gguf"), ERR_IO, "is not a regular file");
    llama_write_folder(&f, in_folder("odd"));
    assert_int_equal(unlink(in_folder("odd/model.safetensors")), 0);
    assert_int_equal(mkfifo(in_folder("odd/model.safetensors"), 0600), 0);
    assert_open_refused(in_folder("odd"), ERR_IO, "is not a regular file");
    assert_int_equal(unlink(in_folder("odd/model.safetensors")), 0);
    assert_int_equal(mkdir(in_folder("odd/model.safetensors"), 0700), 0);
    assert_open_refused(in_folder("odd"), ERR_IO, "is not a regular file");
}

/* As huggingface_hub lays it out: snapshots hold links to blobs. */
static void make_cache(const char *hub, const char *model)
{
    struct llama_files f = llama_default();
    struct strbuf file = llama_safetensors(&f, 0, f.n);
    char path[512], link[600];
    snprintf(path, sizeof path, "%s/%s/blobs", hub, model);
    llama_write(path, "aaa", file.data, file.len);
    snprintf(link, sizeof link, "{%s}", f.config);
    llama_write(path, "bbb", link, strlen(link));
    snprintf(path, sizeof path, "%s/%s/refs", hub, model);
    llama_write(path, "main", "0123abc", 7);
    snprintf(path, sizeof path, "%s/%s/snapshots/0123abc", hub, model);
    llama_write(path, "README.md", "", 0);
    snprintf(link, sizeof link, "%s/model.safetensors", path);
    assert_int_equal(symlink("../../blobs/aaa", link), 0);
    snprintf(link, sizeof link, "%s/config.json", path);
    assert_int_equal(symlink("../../blobs/bbb", link), 0);
    strbuf_release(&file);
}

static void assert_found(const char *id, const char *path_end)
{
    struct model *m = must_open(id);
    if (strcmp(m->path + strlen(m->path) - strlen(path_end), path_end))
        fail_msg("%s: found %s", id, m->path);
    model_free(m);
}

static void ids_are_found_in_the_hugging_face_cache(void **state)
{
    (void)state;
    char hub[300];
    unsetenv("HF_HUB_CACHE");
    unsetenv("HF_HOME");
    unsetenv("XDG_CACHE_HOME");
    snprintf(home, sizeof home, "%s/home", folder);
    setenv("HOME", home, 1);
    assert_open_refused("tiny", ERR_NOTFOUND, "tiny: is no file, no folder and no model in the Hugging Face cache");
    snprintf(hub, sizeof hub, "%s/.cache/huggingface/hub", home);
    make_cache(hub, "models--tiny");
    make_cache(hub, "models--an-org--some.model_7B");
    assert_found("tiny", "home/.cache/huggingface/hub/models--tiny/snapshots/0123abc");
    assert_found("an-org/some.model_7B", "hub/models--an-org--some.model_7B/snapshots/0123abc");
    assert_open_refused("an-org/other", ERR_NOTFOUND, "an-org/other: is no file");
    snprintf(hub, sizeof hub, "%s/xdg/huggingface/hub", folder);
    make_cache(hub, "models--tiny");
    snprintf(hub, sizeof hub, "%s/xdg", folder);
    setenv("XDG_CACHE_HOME", hub, 1);
    assert_found("tiny", "xdg/huggingface/hub/models--tiny/snapshots/0123abc");
    snprintf(hub, sizeof hub, "%s/hf/hub", folder);
    make_cache(hub, "models--tiny");
    snprintf(hub, sizeof hub, "%s/hf", folder);
    setenv("HF_HOME", hub, 1);
    assert_found("tiny", "hf/hub/models--tiny/snapshots/0123abc");
    snprintf(hub, sizeof hub, "%s/direct", folder);
    make_cache(hub, "models--tiny");
    setenv("HF_HUB_CACHE", hub, 1);
    assert_found("tiny", "direct/models--tiny/snapshots/0123abc");
}

static void hostile_ids_and_refs_are_refused(void **state)
{
    (void)state;
    char hub[300], path[600];
    snprintf(hub, sizeof hub, "%s/bad", folder);
    setenv("HF_HUB_CACHE", hub, 1);
    make_cache(hub, "models--tiny");
    static const char *const ids[] = { "../bad/models--tiny", "a/b/c", "tiny/", "/tiny", "a--b", ".tiny", "", "ti ny" };
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        assert_open_refused(ids[i], ERR_NOTFOUND, "is no file, no folder and no model");
    snprintf(path, sizeof path, "%s/models--tiny/refs", hub);
    llama_write(path, "main", "../../../etc", 12);
    assert_open_refused("tiny", ERR_FORMAT, "refs/main: holds no commit: download the model again");
    llama_write(path, "main", "", 0);
    assert_open_refused("tiny", ERR_FORMAT, "holds no commit");
    llama_write(path, "main", "ffff", 4);
    assert_open_refused("tiny", ERR_NOTFOUND, "snapshots/ffff: has no config.json");
    snprintf(path, sizeof path, "%s/models--tiny/refs/main", hub);
    assert_int_equal(unlink(path), 0);
    assert_open_refused("tiny", ERR_IO, "refs/main: cannot open");
    unsetenv("HF_HUB_CACHE");
}

static void the_default_model_is_found(void **state)
{
    (void)state;
    char here[512], path[512];
    struct llama_files f = llama_default();
    assert_non_null(getcwd(here, sizeof here));
    unsetenv("STRATA_MODEL");
    assert_int_equal(chdir(folder), 0);
    struct model *m = must_open(NULL);
    assert_string_equal(m->path, "embedded tiny model");
    assert_non_null(m->tokenizer);
    assert_int_equal(strlen(m->sha256), 64);
    model_free(m);
    snprintf(path, sizeof path, "%s", in_folder("llama"));
    llama_write_folder(&f, path);
    setenv("STRATA_MODEL", path, 1);
    m = must_open(NULL);
    assert_string_equal(m->path, path);
    model_free(m);
    setenv("STRATA_MODEL", "/nonexistent/model", 1);
    assert_open_refused(NULL, ERR_NOTFOUND, "/nonexistent/model: is no file");
    unsetenv("STRATA_MODEL");
    assert_int_equal(chdir(here), 0);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) && !pool_create(&pool, 2, NULL) ? 0 : -1;
}

static int tear_down(void **state)
{
    char command[300];
    (void)state;
    pool_free(pool);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_honest_folder_opens),
        cmocka_unit_test(wrong_tensors_are_named),
        cmocka_unit_test(copies_and_buffers_are_accepted),
        cmocka_unit_test(damaged_weight_files_are_refused),
        cmocka_unit_test(settings_of_any_size_are_not_parsed),
        cmocka_unit_test(shards_are_put_together),
        cmocka_unit_test(a_tokenizer_larger_than_the_vocabulary_is_refused),
        cmocka_unit_test(an_honest_gguf_opens),
        cmocka_unit_test(bad_gguf_metadata_is_named),
        cmocka_unit_test(bad_gguf_models_are_refused),
        cmocka_unit_test(files_that_are_no_model_are_refused),
        cmocka_unit_test(ids_are_found_in_the_hugging_face_cache),
        cmocka_unit_test(hostile_ids_and_refs_are_refused),
        cmocka_unit_test(the_default_model_is_found),
    };
    return cmocka_run_group_tests_name("model", tests, set_up, tear_down);
}
