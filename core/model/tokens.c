/* The model's tokenizer: where it comes from, its BOS and EOS, its hash, and whether it fits the vocabulary. */
#include "core/base/strbuf.h"
#include "core/model/internal.h"

#include <string.h>

/* Fingerprint of what defines a GGUF tokenizer: its arrays, strings behind their lengths, numbers as doubles. */
static int hash_arrays(struct model *m, const struct gguf *g, struct err *err)
{
    static const char *const keys[] = { "tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type",
                                        "tokenizer.ggml.merges" };
    struct strbuf bytes = STRBUF_INIT;
    int rc = 0;
    for (size_t k = 0; !rc && k < sizeof keys / sizeof *keys; k++) {
        struct gguf_array array;
        rc = gguf_get_array(g, keys[k], &array, err);
        for (size_t i = 0; !rc && i < array.n; i++) {
            const char *text;
            size_t len;
            double number;
            if (!gguf_array_string(&array, i, &text, &len, NULL)) {
                strbuf_add(&bytes, &len, sizeof len);
                strbuf_add(&bytes, text, len);
            } else if (!(rc = gguf_array_number(&array, i, &number, err)))
                strbuf_add(&bytes, &number, sizeof number);
        }
    }
    if (!rc && (strbuf_failed(&bytes) || !file_sha256(strbuf_text(&bytes), bytes.len, m->tokenizer_sha256)))
        rc = err_nomem(err, "the tokenizer's hash");
    strbuf_release(&bytes);
    return rc;
}

static int check_size(const struct model *m, const char *where, struct err *err)
{
    if (tokenizer_size(m->tokenizer) <= m->config.d_vocab)
        return 0;
    return err_set(err, ERR_FORMAT, "%s: the tokenizer has %zu tokens, the model only %zu: they do not belong together",
                   where, tokenizer_size(m->tokenizer), m->config.d_vocab);
}

int tokens_open_gguf(struct model *m, const struct gguf *g, struct err *err)
{
    const char *kind;
    size_t len, mask;
    m->mask_token = -1;
    int rc = gguf_get_size_or(g, "tokenizer.ggml.mask_token_id", 0, SIZE_MAX, SIZE_MAX, &mask, err);
    if (!rc && mask < m->config.d_vocab)
        m->mask_token = (int32_t)mask;
    rc = rc ? rc : gguf_get_string(g, "tokenizer.ggml.model", &kind, &len, err);
    if (rc || !kind || (len == 4 && !memcmp(kind, "none", 4)) || (len == 8 && !memcmp(kind, "no_vocab", 8)))
        return rc;
    if ((rc = tokenizer_open_gguf(&m->tokenizer, g, err)) || (rc = check_size(m, gguf_name(g), err)))
        return rc;
    return hash_arrays(m, g, err);
}

/* "bos_token_id" is a number or a list of them. What the tokenizer does not have is no token: -1. */
static int32_t id_in_config(const json_t *config, const char *key, size_t n_tokens)
{
    const json_t *value = json_object_get(config, key);
    if (json_is_array(value))
        value = json_array_get(value, 0);
    json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    return id >= 0 && (size_t)id < n_tokens ? (int32_t)id : -1;
}

/* "bos_token" is a string or an object with "content". */
static int32_t id_of_token(const struct tokenizer *tok, const json_t *tokenizer_config, const char *key)
{
    const json_t *value = json_object_get(tokenizer_config, key);
    if (json_is_object(value))
        value = json_object_get(value, "content");
    return json_is_string(value) ? tokenizer_find(tok, json_string_value(value), json_string_length(value)) : -1;
}

/* *out stays NULL where the folder has no such file. */
static int read_settings(const struct source *source, const char *name, json_t **out, struct err *err)
{
    struct file_map map;
    *out = NULL;
    if (!source_has(source, name))
        return 0;
    int rc = source_open_settings(source, name, &map, err);
    if (rc)
        return rc;
    rc = json_parse(map.data, map.size, map.name, out, err);
    file_map_close(&map);
    return rc;
}

static void set_bos_eos(struct model *m, const json_t *settings, const json_t *config)
{
    size_t n = tokenizer_size(m->tokenizer);
    int32_t bos = id_of_token(m->tokenizer, settings, "bos_token");
    int32_t eos = id_of_token(m->tokenizer, settings, "eos_token");
    tokenizer_set_bos_eos(m->tokenizer, bos >= 0 ? bos : id_in_config(config, "bos_token_id", n),
                          eos >= 0 ? eos : id_in_config(config, "eos_token_id", n));
}

/* As the settings name it; else one of the two spellings that all families have; else config.json's number. */
static void set_mask(struct model *m, const json_t *settings, const json_t *config)
{
    static const char *const usual[] = { "[MASK]", "<mask>" };
    m->mask_token = m->tokenizer ? id_of_token(m->tokenizer, settings, "mask_token") : -1;
    for (size_t i = 0; m->tokenizer && m->mask_token < 0 && i < sizeof usual / sizeof *usual; i++) {
        int32_t id = tokenizer_find(m->tokenizer, usual[i], strlen(usual[i]));
        m->mask_token = id >= 0 && tokenizer_is_special(m->tokenizer, id) ? id : -1;
    }
    if (m->mask_token < 0)
        m->mask_token = id_in_config(config, "mask_token_id", m->config.d_vocab);
}

static int open_json(struct model *m, const struct source *source, struct err *err)
{
    struct file_map map;
    int rc = source_open(source, "tokenizer.json", &map, err);
    if (rc)
        return rc;
    if (!(rc = tokenizer_open_json(&m->tokenizer, map.data, map.size, map.name, err)) &&
        !(rc = check_size(m, map.name, err)) && !file_sha256(map.data, map.size, m->tokenizer_sha256))
        rc = err_nomem(err, "the tokenizer's hash");
    file_map_close(&map);
    return rc;
}

/* A file of a folder without tokenizer.json; its bytes go to `all`, behind their number. */
static int open_file(const struct source *source, const char *name, struct file_map *map, struct tokenizer_file *file,
                     struct strbuf *all, struct err *err)
{
    int rc = source_open(source, name, map, err);
    if (rc)
        return rc;
    *file = (struct tokenizer_file){ (const char *)map->data, map->name, map->size };
    strbuf_add(all, &map->size, sizeof map->size);
    strbuf_add(all, map->data, map->size);
    return strbuf_failed(all) ? err_nomem(err, "the tokenizer's hash") : 0;
}

/* vocab.txt, or vocab.json and merges.txt. */
static int open_files(struct model *m, const struct source *source, const json_t *settings, const json_t *config,
                      struct err *err)
{
    static const char *const names[] = { "special_tokens_map.json", "added_tokens.json" };
    bool lines = source_has(source, "vocab.txt");
    struct tokenizer_files files = { .config = settings };
    struct file_map vocab = { 0 }, merges = { 0 };
    struct strbuf all = STRBUF_INIT;
    json_t *parsed[2] = { NULL };
    int rc = json_get_string(config, "config.json", "model_type", &files.model_type, err);
    if (!rc)
        rc = open_file(source, lines ? "vocab.txt" : "vocab.json", &vocab, &files.vocab, &all, err);
    if (!rc && !lines)
        rc = open_file(source, "merges.txt", &merges, &files.merges, &all, err);
    for (int i = 0; !rc && i < 2; i++)
        rc = read_settings(source, names[i], &parsed[i], err);
    files.specials = parsed[0];
    files.added = parsed[1];
    if (!rc && !(rc = tokenizer_open_files(&m->tokenizer, &files, err)) && !(rc = check_size(m, vocab.name, err)) &&
        !file_sha256(strbuf_text(&all), all.len, m->tokenizer_sha256))
        rc = err_nomem(err, "the tokenizer's hash");
    strbuf_release(&all);
    json_decref(parsed[0]);
    json_decref(parsed[1]);
    file_map_close(&vocab);
    file_map_close(&merges);
    return rc;
}

int tokens_open_folder(struct model *m, const struct source *source, const json_t *config, struct err *err)
{
    json_t *settings;
    bool whole = source_has(source, "tokenizer.json");
    set_mask(m, NULL, config);
    if (!whole && !source_has(source, "vocab.txt") && !source_has(source, "vocab.json"))
        return 0;
    int rc = read_settings(source, "tokenizer_config.json", &settings, err);
    if (!rc)
        rc = whole ? open_json(m, source, err) : open_files(m, source, settings, config, err);
    if (!rc)
        set_bos_eos(m, settings, config);
    if (!rc)
        set_mask(m, settings, config);
    json_decref(settings);
    return rc;
}
