/* Experiment files against a small model, as far as they are checked before anything runs. */
#include "core/runtime/experiment.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct model *model;
    struct experiment e = { 0 };
    struct err err = { 0 };
    char path[128];
    fuzz_check(model || !model_open_header(&model, "data/tiny", &err));
    fuzz_file("e.json", data, size, path);
    if (fuzz_result(experiment_read(&e, path, model, SPECIALS_AUTO, 1, &err), &err)) {
        for (size_t i = 0; i < e.n_variants; i++)
            fuzz_check(e.variants[i].prompt < e.n_prompts);
        fuzz_result(experiment_check(&e, &err), &err);
    }
    experiment_release(&e);
    return 0;
}
