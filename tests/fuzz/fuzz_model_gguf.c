/* A GGUF file as a model: metadata, tokenizer, shapes, weights. */
#include "core/model/model.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct pool *pool;
    struct model *m = NULL;
    struct err err = { 0 };
    char path[128];
    fuzz_check(pool || !pool_create(&pool, 1, &err));
    fuzz_file("model.gguf", data, size, path);
    if (fuzz_result(model_open(&m, path, pool, &err), &err) && m->tokenizer) {
        struct tokens t = { 0 };
        fuzz_check(tokenizer_size(m->tokenizer) <= m->config.d_vocab);
        fuzz_result(tokenizer_encode(m->tokenizer, "The Eiffel", 10, SPECIALS_AUTO, &t, &err), &err);
        for (size_t i = 0; i < t.n; i++)
            fuzz_check(t.id[i] >= 0 && (size_t)t.id[i] < m->config.d_vocab);
        tokens_release(&t);
    }
    model_free(m);
    return 0;
}
