/*
 * Token ids and byte offsets against the `tokenizers` library (make_tokenizer_references.py,
 * make_family_references.py and make_sentencepiece_references.py): small tokenizers, from tokenizer.json and as GGUF,
 * and the demo model's own; character classes and NFC over all of Unicode.
 */
#include "core/base/json.h"
#include "core/base/utf8.h"
#include "tests/golden/tokenizer_cases.h"
#include "tests/unit/make_gguf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include <cmocka.h>

#define MODEL "data/models/SmolLM2-135M-Instruct.Q4_1.gguf"

static const char *const names[] = { "gpt2",       "smollm", "llama3", "qwen2",      "mixed",  "roberta",
                                     "modernbert", "falcon", "bloom",  "stablelm",   "llama2", "mistral",
                                     "gemma",      "phi3",   "xlmr",   "t5",         "albert", "deberta",
                                     "bytes",      "splits", "bert",   "bert_cased", "words" };
/* Byte-level ones that leave nothing out come first. */
enum { N_NAMES = sizeof names / sizeof *names, N_BYTE_LEVEL = 10 };

/* What was compared, for the table of tokenizers (make families). */
static struct {
    char description[160];
    size_t n_texts, n_different;
} compared[N_NAMES];

static void ids_equal_the_library(void **state)
{
    (void)state;
    struct tokens got = { 0 };
    for (size_t k = 0; k < N_NAMES; k++) {
        struct tokenizer *tok = open_json(names[k]);
        struct cases c = cases_open(names[k]);
        snprintf(compared[k].description, sizeof compared[k].description, "%s", tokenizer_describe(tok));
        for (size_t i = 0; i < c.n; i++) {
            cases_next(&c);
            compared[k].n_texts++;
            compared[k].n_different++; /* until the check has passed */
            check_ids(names[k], tok, &c.now, &got);
            compared[k].n_different--;
        }
        assert_int_equal(c.at, c.map.size);
        cases_close(&c);
        tokenizer_free(tok);
    }
    tokens_release(&got);
}

static void special_tokens_around_equal_the_library(void **state)
{
    (void)state;
    struct tokens got = { 0 };
    size_t n_with = 0;
    for (size_t k = 0; k < N_NAMES; k++) {
        struct tokenizer *tok = open_json(names[k]);
        struct cases c = cases_open(names[k]);
        n_with += c.n_before + c.n_after > 0;
        for (size_t i = 0; i < c.n; i++) {
            cases_next(&c);
            encode(tok, &c.now, SPECIALS_AUTO, &got);
            assert_int_equal(got.n, c.n_before + c.now.want.n + c.n_after);
            for (size_t j = 0; j < c.n_before; j++) {
                assert_int_equal(got.id[j], c.before[j]);
                assert_int_equal(got.begin[j], 0);
                assert_int_equal(got.end[j], 0);
            }
            assert_memory_equal(got.id + c.n_before, c.now.want.id, c.now.want.n * sizeof *got.id);
            for (size_t j = 0; j < c.n_after; j++) {
                assert_int_equal(got.id[c.n_before + c.now.want.n + j], c.after[j]);
                assert_int_equal(got.begin[c.n_before + c.now.want.n + j], c.now.len);
                assert_int_equal(got.end[c.n_before + c.now.want.n + j], c.now.len);
            }
        }
        cases_close(&c);
        tokenizer_free(tok);
    }
    assert_int_equal(n_with, 12);
    tokens_release(&got);
}

static bool continues(const struct one_case *c, int64_t at)
{
    return at < (int64_t)c->len && ((unsigned char)c->text[at] & 0xc0) == 0x80;
}

static bool nfc_changes(const struct one_case *c)
{
    utf8proc_uint8_t *text = NULL;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)c->text, (utf8proc_ssize_t)c->len, &text,
                                      UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    bool changes = n != (utf8proc_ssize_t)c->len || memcmp(text, c->text, c->len) != 0;
    free(text);
    return changes;
}

/* The library gives a token that holds part of a character the whole of it; widened so, ours must be the same. */
static void check_spans(const char *name, const struct one_case *c, const struct tokens *got)
{
    for (size_t i = 0; i < got->n; i++) {
        int64_t begin = got->begin[i], end = got->end[i];
        while (begin > 0 && continues(c, begin))
            begin--;
        while (continues(c, end))
            end++;
        /* A space before the text is an empty span here and takes the first character in the library. */
        bool prefix = got->begin[i] == got->end[i] && c->want.begin[i] == got->begin[i];
        if (!prefix && (begin != c->want.begin[i] || end != c->want.end[i]))
            fail_msg("%s: token %zu of '%.*s' spans [%d,%d), the library has [%d,%d)", name, i, (int)c->len, c->text,
                     (int)got->begin[i], (int)got->end[i], (int)c->want.begin[i], (int)c->want.end[i]);
    }
}

/* 1 where the spans follow each other from the first byte to the last. */
static size_t covers(const struct one_case *c, const struct tokens *got)
{
    int32_t at = 0;
    for (size_t i = 0; i < got->n; at = got->end[i++])
        if (got->begin[i] != at)
            return 0;
    return (size_t)at == c->len;
}

static void spans_equal_the_library_and_cover_the_text(void **state)
{
    (void)state;
    struct tokens got = { 0 };
    for (size_t k = 0; k < N_NAMES; k++) {
        struct tokenizer *tok = open_json(names[k]);
        struct cases c = cases_open(names[k]);
        size_t n_changed = 0, n_covered = 0;
        for (size_t i = 0; i < c.n; i++) {
            cases_next(&c);
            encode(tok, &c.now, SPECIALS_NONE, &got);
            check_spans(names[k], &c.now, &got);
            bool changes = tok->n_normalizers && nfc_changes(&c.now); /* a composed mark is left out */
            n_changed += changes;
            n_covered += k >= N_BYTE_LEVEL || changes || covers(&c.now, &got);
        }
        assert_true(k >= N_BYTE_LEVEL || n_changed <= c.n / 3);
        /* But where one added token swallowed spaces that are another's. */
        assert_true(n_covered + 3 >= c.n);
        cases_close(&c);
        tokenizer_free(tok);
    }
    tokens_release(&got);
}

/* As llama.cpp's converter writes a token of WordPiece. */
static const char *phantom(const char *text, char room[64])
{
    size_t n = strlen(text);
    assert_true(n > 0 && n < 60);
    if (text[0] == '[' && text[n - 1] == ']')
        return text;
    if (strncmp(text, "##", 2) == 0)
        return text + 2;
    snprintf(room, 64, "\u2581%s", text);
    return room;
}

/* The same tokenizer as metadata of a GGUF; merges as "a b". */
static struct strbuf gguf_of(const char *name, const char *kind, const char *pre)
{
    struct file_map map = map_file(name, ".json");
    struct gguf_maker g = { .version = 3, .alignment = 32 };
    struct err err = { 0 };
    json_t *root = NULL;
    assert_int_equal(json_parse(map.data, map.size, map.name, &root, &err), 0);
    const json_t *model = json_object_get(root, "model"), *merges = json_object_get(model, "merges"),
                 *added = json_object_get(root, "added_tokens");
    size_t n = json_object_size(json_object_get(model, "vocab")) + json_array_size(added), n_tokens = 0;
    const char **texts = calloc(n, sizeof *texts);
    unsigned char *types = calloc(n + 12, 4);
    assert_true(texts && types);
    const char *text;
    json_t *id;
    json_object_foreach(json_object_get(model, "vocab"), text, id)
    {
        texts[json_integer_value(id)] = text;
        n_tokens++;
    }
    for (size_t i = 0; i < n; i++)
        types[12 + 4 * i] = 1;
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *token = json_array_get(added, i);
        size_t at = (size_t)json_integer_value(json_object_get(token, "id"));
        n_tokens += !texts[at];
        texts[at] = json_string_value(json_object_get(token, "content"));
        types[12 + 4 * at] = json_is_true(json_object_get(token, "special")) ? 3 : 4;
    }
    types[0] = 5; /* int32 */
    memcpy(types + 4, &(uint64_t){ n_tokens }, 8);
    gguf_put_string(&g, "tokenizer.ggml.model", kind);
    gguf_put_string(&g, "tokenizer.ggml.pre", pre);
    char(*room)[64] = calloc(n_tokens, sizeof *room);
    assert_non_null(room);
    for (size_t i = 0; !strcmp(kind, "bert") && i < n_tokens; i++)
        texts[i] = phantom(texts[i], room[i]);
    gguf_put_strings(&g, "tokenizer.ggml.tokens", texts, n_tokens);
    gguf_put(&g, "tokenizer.ggml.token_type", 9, types, 12 + 4 * n_tokens);
    free(room);
    const char **lines = calloc(json_array_size(merges) + 1, sizeof *lines);
    struct strbuf *joined = calloc(json_array_size(merges) + 1, sizeof *joined);
    assert_true(lines && joined);
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const json_t *merge = json_array_get(merges, i);
        if (json_is_array(merge))
            strbuf_addf(&joined[i], "%s %s", json_string_value(json_array_get(merge, 0)),
                        json_string_value(json_array_get(merge, 1)));
        lines[i] = json_is_array(merge) ? strbuf_text(&joined[i]) : json_string_value(merge);
    }
    gguf_put_strings(&g, "tokenizer.ggml.merges", lines, json_array_size(merges));
    if (strcmp(kind, "bert") != 0)
        gguf_put_bool(&g, "tokenizer.ggml.add_bos_token", 0);
    gguf_put_bool(&g, "tokenizer.ggml.add_eos_token", 0);
    for (size_t i = 0; i < json_array_size(merges); i++)
        strbuf_release(&joined[i]);
    free(joined);
    free(lines);
    free(texts);
    free(types);
    json_decref(root);
    file_map_close(&map);
    return gguf_made(&g);
}

/* Whether an added token stands in the text, as it is or normalized. */
static bool has_added_token(const struct tokenizer *tok, const struct one_case *c)
{
    const struct added_set *sets[2] = { &tok->raw_added, &tok->normalized_added };
    utf8proc_uint8_t *nfc = NULL;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)c->text, (utf8proc_ssize_t)c->len, &nfc,
                                      UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    bool found = false;
    assert_true(n >= 0);
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < sets[k]->n; i++) {
            const struct added_token *t = &sets[k]->token[i];
            found = found || contains(c->text, c->len, t->content, t->len) ||
                    contains((const char *)nfc, (size_t)n, t->pattern, t->pattern_len);
        }
    free(nfc);
    return found;
}

static struct tokenizer *open_as_gguf(const char *name, const char *kind, const char *pre)
{
    struct strbuf bytes = gguf_of(name, kind, pre);
    struct file_map map;
    struct gguf *g = NULL;
    struct tokenizer *tok = NULL;
    struct err err = { 0 };
    assert_int_equal(file_map_memory(&map, "made.gguf", bytes.data, bytes.len, &err), 0);
    if (gguf_open(&g, &map, &err) || tokenizer_open_gguf(&tok, g, &err))
        fail_msg("%s", err.msg);
    gguf_free(g);
    strbuf_release(&bytes); /* the tokenizer has copies */
    return tok;
}

static void ids_from_gguf_equal_the_library(void **state)
{
    (void)state;
    static const struct {
        const char *name, *kind, *pre;
        bool added_match; /* added tokens take nothing beside them */
    } rows[] = {
        { "gpt2", "gpt2", "gpt-2", false },          { "smollm", "gpt2", "smollm", true },
        { "llama3", "gpt2", "llama-bpe", false },    { "qwen2", "gpt2", "qwen2", false },
        { "roberta", "gpt2", "roberta-bpe", false }, { "modernbert", "gpt2", "modern-bert", false },
        { "falcon", "gpt2", "falcon", true },        { "bloom", "gpt2", "bloom", true },
        { "stablelm", "gpt2", "stablelm2", true },   { "bert", "bert", "jina-v2-en", true },
    };
    struct tokens got = { 0 };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        struct tokenizer *tok = open_as_gguf(rows[k].name, rows[k].kind, rows[k].pre);
        struct tokenizer *original = open_json(rows[k].name);
        struct cases c = cases_open(rows[k].name);
        size_t n_compared = 0;
        for (size_t i = 0; i < c.n; i++) {
            cases_next(&c);
            /* A GGUF does not tell how added tokens treat what is around them. */
            if (!rows[k].added_match && has_added_token(original, &c.now))
                continue;
            n_compared++;
            check_ids(rows[k].pre, tok, &c.now, &got);
        }
        assert_true(n_compared > 100);
        cases_close(&c);
        tokenizer_free(original);
        tokenizer_free(tok);
    }
    tokens_release(&got);
}

static void bert_from_gguf_puts_cls_and_sep_around(void **state)
{
    (void)state;
    struct tokenizer *tok = open_as_gguf("bert", "bert", "default");
    struct cases c = cases_open("bert");
    assert_true(tok->n_before == 1 && c.n_before == 1 && tok->before[0] == c.before[0]);
    assert_true(tok->n_after == 1 && c.n_after == 1 && tok->after[0] == c.after[0]);
    assert_string_equal(tok->description, "WordPiece, 900 tokens, pre-tokenizer bert");
    cases_close(&c);
    tokenizer_free(tok);
}

/* Appended to the file that $FAMILIES_TABLE names. */
static int write_table(void)
{
    const char *path = getenv("FAMILIES_TABLE");
    FILE *f = path ? fopen(path, "a") : NULL;
    if (!f)
        return path != NULL;
    fputs(
        "\n# Tokenizers, as tested\n\n"
        "Each line is a small tokenizer of `tests/golden/tokenizers` in the shape that its family has: how many texts\n"
        "were encoded, and in how many an id or a byte offset differs from the `tokenizers` library's.\n\n"
        "| shape | tokenizer | texts | different |\n|---|---|---:|---:|\n",
        f);
    for (size_t k = 0; k < N_NAMES; k++)
        fprintf(f, "| %s | %s | %zu | %zu |\n", names[k], compared[k].description, compared[k].n_texts,
                compared[k].n_different);
    return fclose(f);
}

/* How many of the texts of `name` come out otherwise with this tokenizer. */
static size_t count_differences(const char *name, const struct tokenizer *tok)
{
    struct tokens got = { 0 };
    struct cases c = cases_open(name);
    size_t n = 0;
    for (size_t i = 0; i < c.n; i++) {
        cases_next(&c);
        encode(tok, &c.now, SPECIALS_NONE, &got);
        n += first_difference(&got, &c.now.want) != SIZE_MAX;
    }
    cases_close(&c);
    tokens_release(&got);
    return n;
}

/* Opens NAME.json with one change of its text. */
static struct tokenizer *open_changed(const char *name, const char *old, const char *new)
{
    struct file_map map = map_file(name, ".json");
    struct strbuf text = STRBUF_INIT;
    struct tokenizer *tok = NULL;
    struct err err = { 0 };
    strbuf_add(&text, map.data, map.size);
    const char *at = strstr(strbuf_text(&text), old);
    assert_non_null(at);
    struct strbuf changed = STRBUF_INIT;
    strbuf_add(&changed, text.data, (size_t)(at - text.data));
    strbuf_adds(&changed, new);
    strbuf_adds(&changed, at + strlen(old));
    if (tokenizer_open_json(&tok, changed.data, changed.len, "changed.json", &err))
        fail_msg("%s", err.msg);
    strbuf_release(&changed);
    strbuf_release(&text);
    file_map_close(&map);
    return tok;
}

static size_t place_of(const json_t *merges, const char *merge)
{
    for (size_t i = 0; i < json_array_size(merges); i++)
        if (!strcmp(json_string_value(json_array_get(merges, i)), merge))
            return i;
    fail_msg("no merge %s", merge);
    return 0;
}

static void swapped_ranks_are_noticed(void **state)
{
    (void)state;
    struct file_map map = map_file("gpt2", ".json");
    struct tokenizer *tok = NULL;
    struct err err = { 0 };
    json_t *root = NULL;
    assert_int_equal(json_parse(map.data, map.size, map.name, &root, &err), 0);
    json_t *merges = json_object_get(json_object_get(root, "model"), "merges");
    size_t i = place_of(merges, "t h"), j = place_of(merges, "h e");
    json_array_set_new(merges, i, json_string("h e"));
    json_array_set_new(merges, j, json_string("t h"));
    char *text = json_dumps(root, 0);
    if (tokenizer_open_json(&tok, text, strlen(text), "swapped.json", &err))
        fail_msg("%s", err.msg);
    assert_true(count_differences("gpt2", tok) > 0);
    tokenizer_free(tok);
    free(text);
    json_decref(root);
    file_map_close(&map);
}

static void faults_are_noticed(void **state)
{
    (void)state;
    static const struct {
        const char *name, *old, *new;
    } faults[] = {
        { "gpt2", "\"use_regex\":true", "\"use_regex\":false" },
        { "gpt2", "\"single_word\":true", "\"single_word\":false" },
        { "gpt2", "\"lstrip\":true", "\"lstrip\":false" },
        { "gpt2", "\"rstrip\":true", "\"rstrip\":false" },
        { "smollm", "\"individual_digits\":true", "\"individual_digits\":false" },
        { "llama3", "\"ignore_merges\":true", "\"ignore_merges\":false" },
        { "llama3", "\\\\p{N}{1,3}", "\\\\p{N}" },
        { "llama3", "(?i:", "(?:" },
        { "qwen2", "{\"type\":\"NFC\"}", "null" },
        { "qwen2", "\\\\s+(?!\\\\S)|", "" },
        { "mixed", "\"fuse_unk\":true", "\"fuse_unk\":false" },
        { "mixed", "\"add_prefix_space\":true", "\"add_prefix_space\":false" },
        { "falcon", "{\"type\":\"Digits\",\"individual_digits\":false},", "" },
        { "falcon", "[0-9][0-9][0-9]", "[0-9][0-9]" },
        { "falcon", "\"behavior\":\"Contiguous\"", "\"behavior\":\"Isolated\"" },
        { "bloom", "|[.", "|[" },
        { "modernbert", "{\"type\":\"NFC\"}", "null" },
        { "roberta", "\"lstrip\":true", "\"lstrip\":false" },
        { "splits", "\"MergedWithNext\",\"invert\":false", "\"Isolated\",\"invert\":false" },
        { "splits", "\"MergedWithPrevious\",\"invert\":false", "\"Isolated\",\"invert\":false" },
        { "splits", "\"MergedWithNext\",\"invert\":true", "\"MergedWithNext\",\"invert\":false" },
        { "splits", "\"Contiguous\",\"invert\":true", "\"Isolated\",\"invert\":true" },
        { "splits", "{\"type\":\"CharDelimiterSplit\",\"delimiter\":\"_\"},", "" },
        { "splits", "\"individual_digits\":true", "\"individual_digits\":false" },
        { "bert", "\"clean_text\":true", "\"clean_text\":false" },
        { "bert", "\"handle_chinese_chars\":true", "\"handle_chinese_chars\":false" },
        { "bert", "\"strip_accents\":null", "\"strip_accents\":false" },
        { "bert", "\"lowercase\":true", "\"lowercase\":false" },
        { "bert", "\"max_input_chars_per_word\":100", "\"max_input_chars_per_word\":99" },
        { "bert_cased", "\"max_input_chars_per_word\":12", "\"max_input_chars_per_word\":13" },
        { "bert_cased", "\"strip_accents\":null", "\"strip_accents\":true" },
        { "words", "\"continuing_subword_prefix\":\"@\"", "\"continuing_subword_prefix\":\"\"" },
        { "words", "{\"type\":\"Whitespace\"}", "{\"type\":\"WhitespaceSplit\"}" },
        { "llama2", "{\"type\":\"Prepend\",\"prepend\":\"▁\"},", "" },
        { "llama2", "\"byte_fallback\":true", "\"byte_fallback\":false" },
        { "mistral", "\"prepend_scheme\":\"first\"", "\"prepend_scheme\":\"always\"" },
        { "mistral", "\"prepend_scheme\":\"first\"", "\"prepend_scheme\":\"never\"" },
        { "gemma", "\"ignore_merges\":true", "\"ignore_merges\":false" },
        { "phi3", "\"rstrip\":true", "\"rstrip\":false" },
        { "xlmr", "\"strip_right\":true", "\"strip_right\":false" },
        { "xlmr", "{2,}", "{3,}" },
        { "t5", "{\"type\":\"WhitespaceSplit\"},", "" },
        { "albert", "{\"type\":\"NFKD\"},", "" },
        { "albert", "{\"type\":\"StripAccents\"},", "" },
        { "albert", "{\"type\":\"Lowercase\"},", "" },
        { "deberta", "\"strip_left\":true", "\"strip_left\":false" },
        { "deberta", "{\"type\":\"Nmt\"},", "" },
        { "deberta", "{\"type\":\"NFKC\"},", "" },
        { "bytes", "{\"type\":\"NFD\"},", "" },
        { "bytes", "\"byte_fallback\":true", "\"byte_fallback\":false" },
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct tokenizer *tok = open_changed(faults[i].name, faults[i].old, faults[i].new);
        if (!count_differences(faults[i].name, tok))
            fail_msg("%s with %s instead of %s: no text shows it", faults[i].name, faults[i].new, faults[i].old);
        tokenizer_free(tok);
    }
}

/* As characters.bin numbers them. */
enum bit { DIGITS, WORD, STRIP, FIRST_REGEX, NFC_CHANGES = 12, NFC_ORDERS };
static const char *const regexes[] = { "\\s+",    "\\d+",    "\\p{L}+", "\\p{Lu}+", "\\p{Ll}+",
                                       "\\p{M}+", "\\p{N}+", "\\p{P}+", "\\p{S}+" };

static void set_regex_bits(uint16_t *bits, const char *all, const uint32_t *place, size_t len)
{
    struct err err = { 0 };
    struct regex_room *room = regex_room();
    for (size_t k = 0; k < sizeof regexes / sizeof *regexes; k++) {
        struct regex *re = NULL;
        struct regex_at at = { 0, 0, false };
        size_t begin, end;
        int got;
        assert_int_equal(regex_open(&re, regexes[k], "test", &err), 0);
        while ((got = regex_next(re, room, all, len, &at, &begin, &end, &err)) > 0)
            for (size_t i = begin; i < end; i++)
                bits[place[i]] |= (uint16_t)(1u << (FIRST_REGEX + k));
        assert_int_equal(got, 0);
        regex_free(re);
    }
    regex_room_free(room);
}

/* NFC of "|" c U+0334 for every character c of a block, in one text; '|' composes with nothing. */
static void set_nfc_bits(uint16_t *bits, uint32_t first, uint32_t end)
{
    struct tokenizer tok = { .normalizers = { { .kind = NORMALIZER_NFC } }, .n_normalizers = 1 };
    for (int with_mark = 0; with_mark < 2; with_mark++) {
        struct strbuf text = STRBUF_INIT;
        struct err err = { 0 };
        for (uint32_t cp = first; cp < end; cp++) {
            char c[4];
            strbuf_addc(&text, '|');
            strbuf_add(&text, c, utf8_encode(cp, c));
            strbuf_adds(&text, with_mark ? "\u0334" : "");
        }
        strbuf_addc(&text, '|');
        struct work w = { .bytes = text.data };
        assert_int_equal(work_start(&w, text.len, &err), 0);
        assert_int_equal(normalize(&tok, &w, &err), 0);
        const char *at = w.bytes + w.now.item[0].begin;
        for (uint32_t cp = first; cp < end; cp++) {
            char c[8];
            size_t n = utf8_encode(cp, c);
            at++;
            const char *stop = cp == '|' ? at + 1 + 2 * with_mark : memchr(at, '|', SIZE_MAX / 4);
            if (!with_mark && ((size_t)(stop - at) != n || memcmp(at, c, n)))
                bits[cp] |= 1u << NFC_CHANGES;
            if (with_mark && !(bits[cp] >> NFC_CHANGES & 1) && cp != 0x334 && !memcmp(at, "\u0334", 2))
                bits[cp] |= 1u << NFC_ORDERS;
            at = stop;
        }
        work_release(&w);
        strbuf_release(&text);
    }
}

static uint16_t *bits_of_all_characters(void)
{
    enum { N = 0x110000 };
    uint16_t *bits = calloc(N, sizeof *bits);
    char *all = malloc(4 * N);
    uint32_t *place = malloc(4 * N * sizeof *place);
    size_t len = 0;
    assert_true(bits && all && place);
    for (uint32_t cp = 0; cp < N; cp++) {
        if (cp >= 0xd800 && cp < 0xe000)
            continue;
        bits[cp] = (uint16_t)(char_is_numeric(cp) << DIGITS | char_is_word(cp) << WORD | char_is_space(cp) << STRIP);
        size_t n = utf8_encode(cp, all + len);
        for (size_t i = 0; i < n; i++)
            place[len++] = cp;
    }
    set_regex_bits(bits, all, place, len);
    set_nfc_bits(bits, 0, 0xd800);
    set_nfc_bits(bits, 0xe000, N);
    free(all);
    free(place);
    return bits;
}

static void expect_bits(const char *name, const uint16_t *bits)
{
    struct file_map map = map_file(name, ".bin");
    assert_memory_equal(map.data, "STRCHARS", 8);
    size_t n_runs = (map.size - 8) / 6;
    assert_int_equal(map.size, 8 + 6 * n_runs);
    assert_true(n_runs > 3000);
    for (size_t r = 0; r < n_runs; r++) {
        uint32_t first, end = 0x110000;
        uint16_t want;
        memcpy(&first, map.data + 8 + 6 * r, 4);
        memcpy(&want, map.data + 12 + 6 * r, 2);
        if (r + 1 < n_runs)
            memcpy(&end, map.data + 14 + 6 * r, 4);
        for (uint32_t cp = first; cp < end; cp++)
            if (bits[cp] != want && !(cp >= 0xd800 && cp < 0xe000))
                fail_msg("U+%04X: bits %04x, the library has %04x", (unsigned)cp, bits[cp], want);
    }
    file_map_close(&map);
}

static void every_character_is_classed_as_in_the_library(void **state)
{
    (void)state;
    uint16_t *bits = bits_of_all_characters();
    expect_bits("characters", bits);
    free(bits);
}

/* Whether nothing is left of a character without its nonspacing marks, decomposed. */
static bool is_accent(uint32_t cp)
{
    struct rewriting parts = { 0 };
    struct err err = { 0 };
    char c[4];
    bool all = true;
    assert_int_equal(unicode_normalize(FORM_NFD, c, utf8_encode(cp, c), &parts, &err), 0);
    for (size_t i = 0; i < parts.n; i++)
        all = all && char_is_nonspacing(parts.item[i].cp);
    free(parts.item);
    return all;
}

static unsigned hash_of_lower(uint32_t cp)
{
    uint32_t lower = char_lower(cp), hash = lower % 1021;
    if (cp == 0x130)
        hash = (hash * 31 + 0x307) % 1021;
    return lower == cp ? 0 : hash + 1;
}

static void every_character_is_treated_as_in_bert(void **state)
{
    (void)state;
    enum { N = 0x110000 };
    uint16_t *bits = calloc(N, sizeof *bits);
    assert_non_null(bits);
    for (uint32_t cp = 0; cp < N; cp++) {
        if (cp == 0xd800)
            cp = 0xe000;
        bool kept = cp == '\t' || cp == '\n' || cp == '\r', out = cp == 0xfffd || (char_is_control(cp) && !kept);
        unsigned flags[] = { char_is_punctuation(cp), out,           char_is_space(cp) && !out,
                             char_is_chinese(cp),     is_accent(cp), char_is_old_mark(cp) };
        for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
            bits[cp] |= (uint16_t)(flags[i] << i);
        bits[cp] |= (uint16_t)(hash_of_lower(cp) << 6);
    }
    expect_bits("bert_characters", bits);
    free(bits);
}

static void demo_model_equals_the_library(void **state)
{
    (void)state;
    struct file_map map;
    struct gguf *g = NULL;
    struct tokenizer *tok = NULL;
    struct tokens got = { 0 };
    struct err err = { 0 };
    if (!file_exists(MODEL)) {
        print_message("# %s has not been fetched\n", MODEL);
        skip();
    }
    if (file_map_open(&map, MODEL, &err) || gguf_open(&g, &map, &err) || tokenizer_open_gguf(&tok, g, &err))
        fail_msg("%s", err.msg);
    gguf_free(g);
    struct cases c = cases_open("smollm2");
    for (size_t i = 0; i < c.n; i++) {
        cases_next(&c);
        check_ids("smollm2", tok, &c.now, &got);
        if (!got.n_dropped) /* the library's offsets are off by the bytes it leaves out */
            check_spans("smollm2", &c.now, &got);
    }
    assert_string_equal(tokenizer_describe(tok), "byte-level BPE, 49152 tokens, pre-tokenizer smollm");
    assert_int_equal(tokenizer_bos(tok), 1);
    assert_int_equal(tokenizer_eos(tok), 2);
    cases_close(&c);
    tokens_release(&got);
    tokenizer_free(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_equal_the_library),
        cmocka_unit_test(special_tokens_around_equal_the_library),
        cmocka_unit_test(spans_equal_the_library_and_cover_the_text),
        cmocka_unit_test(ids_from_gguf_equal_the_library),
        cmocka_unit_test(bert_from_gguf_puts_cls_and_sep_around),
        cmocka_unit_test(swapped_ranks_are_noticed),
        cmocka_unit_test(faults_are_noticed),
        cmocka_unit_test(every_character_is_classed_as_in_the_library),
        cmocka_unit_test(every_character_is_treated_as_in_bert),
        cmocka_unit_test(demo_model_equals_the_library),
    };
    int failed = cmocka_run_group_tests_name("tokenizers", tests, NULL, NULL);
    return failed ? failed : write_table();
}
