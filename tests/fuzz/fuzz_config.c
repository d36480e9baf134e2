/* config.json of a folder whose weights are those of the embedded model: sizes, keys, and shapes against them. */
#include "core/model/model.h"
#include "tests/fuzz/fuzz.h"

static void link_weights(void)
{
    static bool done;
    char from[4096], to[128];
    fuzz_check(getcwd(from, sizeof from - 64));
    snprintf(to, sizeof to, "%s/model.safetensors", fuzz_folder());
    strcat(from, "/tests/golden/models/llama_a/model.safetensors");
    fuzz_check(done || !symlink(from, to));
    done = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model *m = NULL;
    struct err err = { 0 };
    char path[128];
    link_weights();
    fuzz_file("config.json", data, size, path);
    if (fuzz_result(model_open_header(&m, fuzz_folder(), &err), &err)) {
        const struct model_config *c = &m->config;
        fuzz_check(c->n_layers && c->n_heads && c->n_kv_heads && c->d_model && c->d_head && c->d_vocab);
        fuzz_check(c->n_heads % c->n_kv_heads == 0);
        fuzz_check(c->rotary_dims <= c->d_head);
    }
    model_free(m);
    return 0;
}
