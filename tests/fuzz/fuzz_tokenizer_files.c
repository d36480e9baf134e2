/*
 * A tokenizer without tokenizer.json. The first byte chooses the model type; parts separated by the byte 0x1e are
 * vocab.txt or vocab.json, merges.txt, tokenizer_config.json, special_tokens_map.json, added_tokens.json.
 */
#include "core/base/json.h"
#include "core/tokenizer/tokenizer.h"
#include "tests/fuzz/fuzz.h"

enum { N_PARTS = 5, SEPARATOR = 0x1e };

struct part {
    uint8_t *data; /* owned copy */
    size_t size;
};

/* Parts that are missing are empty. */
static void split(const uint8_t *data, size_t size, struct part parts[N_PARTS])
{
    for (int i = 0; i < N_PARTS; i++) {
        const uint8_t *end = i + 1 < N_PARTS && size ? memchr(data, SEPARATOR, size) : NULL;
        size_t n = end ? (size_t)(end - data) : size;
        parts[i] = (struct part){ fuzz_copy(data, n), n };
        data += end ? n + 1 : n;
        size -= end ? n + 1 : n;
    }
}

static json_t *parse(const struct part *part)
{
    json_t *value = NULL;
    struct err ignored = { 0 };
    return part->size && !json_parse(part->data, part->size, "settings", &value, &ignored) ? value : NULL;
}

static void encode(const struct tokenizer *tok)
{
    static const char text[] = "The Eiffel  Tower,\n\xe4\xbd\xa0 e\xcc\x81 [MASK]<s>";
    struct tokens t = { 0 };
    struct err err = { 0 };
    fuzz_result(tokenizer_encode(tok, text, sizeof text - 1, SPECIALS_AUTO, &t, &err), &err);
    for (size_t i = 0; i < t.n; i++)
        fuzz_check(t.id[i] >= 0 && (size_t)t.id[i] < tokenizer_size(tok) && t.begin[i] <= t.end[i]);
    tokens_release(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const types[] = {
        "bert", "distilbert", "gpt2", "roberta", "opt", "electra", "mpnet", "gpt_neo"
    };
    struct part parts[N_PARTS];
    struct tokenizer *tok = NULL;
    struct err err = { 0 };
    if (!size)
        return 0;
    split(data + 1, size - 1, parts);
    json_t *config = parse(&parts[2]), *specials = parse(&parts[3]), *added = parse(&parts[4]);
    bool pair = data[0] & 64;
    const struct tokenizer_files files = {
        .vocab = { (char *)parts[0].data, pair ? "vocab.json" : "vocab.txt", parts[0].size },
        .merges = { pair ? (char *)parts[1].data : NULL, pair ? "merges.txt" : NULL, pair ? parts[1].size : 0 },
        .config = config,
        .specials = specials,
        .added = added,
        .model_type = types[data[0] % 8],
    };
    if (fuzz_result(tokenizer_open_files(&tok, &files, &err), &err))
        encode(tok);
    tokenizer_free(tok);
    json_decref(config);
    json_decref(specials);
    json_decref(added);
    for (int i = 0; i < N_PARTS; i++)
        free(parts[i].data);
    return 0;
}
