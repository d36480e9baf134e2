/* The tokenizer in a GGUF file's metadata, and texts through it. */
#include "core/tokenizer/tokenizer.h"
#include "tests/fuzz/fuzz.h"

static void encode(const struct tokenizer *tok, const char *text)
{
    struct tokens t = { 0 };
    struct err err = { 0 };
    size_t len = strlen(text), n;
    if (fuzz_result(tokenizer_encode(tok, text, len, SPECIALS_AUTO, &t, &err), &err))
        for (size_t i = 0; i < t.n; i++) {
            fuzz_check(t.id[i] >= 0 && (size_t)t.id[i] < tokenizer_size(tok));
            fuzz_check(t.begin[i] >= 0 && t.begin[i] <= t.end[i] && (size_t)t.end[i] <= len);
            fuzz_check(tokenizer_bytes(tok, t.id[i], &n));
        }
    tokens_release(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tokenizer *tok = NULL;
    struct gguf *g = NULL;
    struct file_map map;
    struct err err = { 0 };
    uint8_t *copy = fuzz_copy(data, size);
    fuzz_check(!file_map_memory(&map, "model.gguf", copy, size, &err));
    if (fuzz_result(gguf_open(&g, &map, &err), &err) && fuzz_result(tokenizer_open_gguf(&tok, g, &err), &err)) {
        encode(tok, "hello  hello,\n <s>\xe4\xbd\xa0 e\xcc\x81");
        encode(tok, "");
    }
    tokenizer_free(tok);
    gguf_free(g);
    free(copy);
    return 0;
}
