/* Dump and lens files of unknown origin: what their readers promise holds for any bytes. */
#include "core/store/dump_data.h"
#include "core/store/lens_file.h"
#include "tests/fuzz/fuzz.h"

static void read_dump(const char *path)
{
    struct dump_data d = { 0 };
    struct err err = { 0 };
    if (fuzz_result(dump_data_open(&d, path, &err), &err)) {
        for (size_t i = 0; i < d.n_rows; i++) {
            size_t p = (size_t)d.row_prompt[i];
            fuzz_check(p < d.n_prompts && d.row_position[i] >= 0);
            fuzz_check(d.first_row[p] <= i && i < d.first_row[p + 1]);
        }
        for (size_t i = 0; i < d.n_prompts; i++)
            fuzz_check(d.id[i] && d.text[i]);
        for (size_t i = 0; d.token_offset && i < d.n_prompts; i++)
            fuzz_check(d.token_offset[i] <= d.token_offset[i + 1] && (size_t)d.token_offset[i + 1] <= d.n_tokens);
    }
    dump_data_close(&d);
}

static void read_lens(const char *path)
{
    struct lens_data d = { 0 };
    struct err err = { 0 };
    if (fuzz_result(lens_data_read(&d, path, &err), &err)) {
        size_t items = d.n_rows * d.n_states;
        for (size_t i = 0; i < d.n_rows; i++)
            fuzz_check(d.row_prompt[i] >= 0 && (size_t)d.row_prompt[i] < d.n_prompts && d.row_position[i] >= 0);
        fuzz_check(items && d.rank && d.ties && d.logprob && d.entropy && d.kl_final);
    }
    lens_data_release(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[128];
    fuzz_file("x.h5", data, size, path);
    read_dump(path);
    read_lens(path);
    return 0;
}
