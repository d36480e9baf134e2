/* tokenizer.json, and texts through what it describes. */
#include "core/tokenizer/tokenizer.h"
#include "tests/fuzz/fuzz.h"

static void encode(const struct tokenizer *tok, const char *text, enum specials specials)
{
    struct tokens t = { 0 };
    struct err err = { 0 };
    size_t len = strlen(text), n;
    if (fuzz_result(tokenizer_encode(tok, text, len, specials, &t, &err), &err))
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
    struct err err = { 0 };
    uint8_t *copy = fuzz_copy(data, size);
    if (fuzz_result(tokenizer_open_json(&tok, copy, size, "tokenizer.json", &err), &err)) {
        encode(tok, "The Eiffel Tower is in Paris,  1889!\n", SPECIALS_AUTO);
        encode(tok, "e\xcc\x81\xe2\x80\xa8\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x8d\xb3 don't <s></s> \xe4\xbd\xa0",
               SPECIALS_NONE);
        encode(tok, "", SPECIALS_BOS);
    }
    tokenizer_free(tok);
    free(copy);
    return 0;
}
