/* Fact files: the first byte chooses the extension. What is read must be as facts.h promises. */
#include "core/base/utf8.h"
#include "core/formats/facts.h"
#include "tests/fuzz/fuzz.h"

static void check_text(const char *text)
{
    fuzz_check(!text || utf8_valid(text, strlen(text)));
}

static void check_fact(const struct fact *f)
{
    fuzz_check(f->id && (f->prompt || f->tokens));
    const char *const texts[] = { f->id, f->prompt, f->subject, f->answer, f->relation };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        check_text(texts[i]);
    for (size_t i = 0; i < f->n_aliases; i++)
        check_text(f->aliases[i]);
    for (size_t i = 0; i < f->n_tokens; i++)
        fuzz_check(f->tokens[i] >= 0);
    fuzz_check(f->answer_token >= -1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = { "f.jsonl", "f.json", "f.csv", "f.tsv", "f.txt", "f" };
    struct facts *facts = NULL;
    struct fact fact;
    struct err err = { 0 };
    char path[128];
    if (!size)
        return 0;
    fuzz_file(names[data[0] % 6], data + 1, size - 1, path);
    if (fuzz_result(facts_open(&facts, path, &err), &err)) {
        int got;
        if (data[0] & 64)
            facts_keep_blank(facts);
        while ((got = facts_next(facts, &fact, &err)) > 0)
            check_fact(&fact);
        fuzz_result(got, &err);
        facts_close(facts);
    }
    return 0;
}
