/* Any bytes as text: the first byte chooses the tokenizer and the special tokens. */
#include "core/base/utf8.h"
#include "core/tokenizer/tokenizer.h"
#include "tests/fuzz/fuzz.h"

static const char *const paths[] = {
    "data/tiny/tokenizer.json",           "tests/golden/tokenizers/gpt2.json",   "tests/golden/tokenizers/llama3.json",
    "tests/golden/tokenizers/mixed.json", "tests/golden/tokenizers/llama2.json", "tests/golden/tokenizers/xlmr.json",
    "tests/golden/tokenizers/t5.json",    "tests/golden/tokenizers/albert.json", "tests/golden/tokenizers/deberta.json",
    "tests/golden/tokenizers/bytes.json",
};
/* The first ones change no character, so that their tokens cover the text. */
enum { N_TOKENIZERS = sizeof paths / sizeof *paths, N_COVERING = 3 };

static const struct tokenizer *tokenizer_number(size_t i)
{
    static struct tokenizer *opened[N_TOKENIZERS];
    struct file_map map;
    struct err err = { 0 };
    if (!opened[i]) {
        fuzz_check(!file_map_open(&map, paths[i], &err));
        fuzz_check(!tokenizer_open_json(&opened[i], map.data, map.size, paths[i], &err));
        file_map_close(&map);
    }
    return opened[i];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tokens t = { 0 };
    struct err err = { 0 };
    if (!size)
        return 0;
    size_t number = data[0] % N_TOKENIZERS;
    const struct tokenizer *tok = tokenizer_number(number);
    enum specials specials = data[0] / N_TOKENIZERS % 2 ? SPECIALS_AUTO : SPECIALS_NONE;
    size_t len = size - 1, covered = 0;
    uint8_t *text = fuzz_copy(data + 1, len);
    bool good = fuzz_result(tokenizer_encode(tok, (char *)text, len, specials, &t, &err), &err);
    fuzz_check(good || !utf8_valid((char *)text, len) || err.code != ERR_FORMAT);
    for (size_t i = 0; good && i < t.n; i++) {
        fuzz_check(t.id[i] >= 0 && (size_t)t.id[i] < tokenizer_size(tok));
        fuzz_check(t.begin[i] >= 0 && t.begin[i] <= t.end[i] && (size_t)t.end[i] <= len);
        covered += (size_t)(t.end[i] - t.begin[i]);
    }
    fuzz_check(!good || number >= N_COVERING || t.n_dropped || covered >= len);
    tokens_release(&t);
    free(text);
    return 0;
}
