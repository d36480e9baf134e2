/*
 * SentencePiece tokenizers: from GGUF metadata as from tokenizer.json, against the `tokenizers` library; what tokens
 * stand for; files that are wrong or hostile; time.
 */
#include "core/base/base64.h"
#include "core/base/json.h"
#include "core/base/strbuf.h"
#include "tests/golden/tokenizer_cases.h"
#include "tests/unit/make_gguf.h"

#include <math.h>
#include <time.h>

/* Faults that a GGUF can have. */
struct twist {
    const char *charsmap; /* bytes in place of the file's */
    size_t charsmap_n;
    size_t n_scores; /* this many instead of one per token */
    double score;    /* of the last token */
    const char *pre;
    int no_unk, removes_spaces;
};

static void put_array(struct gguf_maker *g, const char *key, unsigned type, const void *items, size_t n, size_t size)
{
    struct strbuf value = STRBUF_INIT;
    gguf_number(&value, type, 4);
    gguf_number(&value, n, 8);
    strbuf_add(&value, items, n * size);
    gguf_put(g, key, 9, value.data, value.len);
    strbuf_release(&value);
}

/* Texts and scores by id: those of a Unigram's list, or of a BPE's vocabulary, which SentencePiece scores by rank. */
static size_t read_tokens(const json_t *root, const char **texts, float *scores)
{
    const json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    size_t n = json_is_array(vocab) ? json_array_size(vocab) : json_object_size(vocab), most = n, i;
    const char *text;
    json_t *item;
    if (json_is_array(vocab)) {
        json_array_foreach(vocab, i, item)
        {
            texts[i] = json_string_value(json_array_get(item, 0));
            scores[i] = (float)json_number_value(json_array_get(item, 1));
        }
        return n;
    }
    json_object_foreach((json_t *)vocab, text, item)
    {
        size_t id = (size_t)json_integer_value(item);
        size_t first = (size_t)json_integer_value(json_object_get(vocab, "<0xFF>")) + 1;
        texts[id] = text;
        scores[id] = id < first ? 0 : -(float)(id - first);
    }
    json_array_foreach(json_object_get(root, "added_tokens"), i, item)
    {
        size_t id = (size_t)json_integer_value(json_object_get(item, "id"));
        texts[id] = json_string_value(json_object_get(item, "content"));
        most = id + 1 > most ? id + 1 : most;
    }
    return most;
}

static void set_types(const json_t *root, const char *const *texts, uint32_t *types, size_t n)
{
    size_t i;
    json_t *item;
    for (i = 0; i < n; i++)
        types[i] = !strncmp(texts[i], "<0x", 3) ? 6 : 1;
    json_array_foreach(json_object_get(root, "added_tokens"), i, item)
        types[json_integer_value(json_object_get(item, "id"))] = json_is_true(json_object_get(item, "special")) ? 3 : 4;
}

/* The normalizer's map, decoded; NULL without one. */
static struct charsmap_bytes {
    char *data;
    size_t n;
} charsmap_of(const json_t *normalizer)
{
    struct charsmap_bytes map = { 0 };
    const char *text = json_string_value(json_object_get(normalizer, "precompiled_charsmap"));
    const json_t *first = json_array_get(json_object_get(normalizer, "normalizers"), 0);
    if (text)
        assert_true(base64_decode(text, strlen(text), &map.data, &map.n));
    return text || !first ? map : charsmap_of(first);
}

static struct strbuf gguf_of(const char *name, const char *model, struct twist twist)
{
    enum { MOST = 2000 };
    struct file_map map = map_file(name, ".json");
    struct gguf_maker g = { .version = 3, .alignment = 32 };
    struct err err = { 0 };
    json_t *root = NULL;
    const char **texts = calloc(MOST, sizeof *texts);
    float *scores = calloc(MOST, sizeof *scores);
    uint32_t *types = calloc(MOST, sizeof *types), unk = 0;
    assert_true(texts && scores && types);
    assert_int_equal(json_parse(map.data, map.size, map.name, &root, &err), 0);
    size_t n = read_tokens(root, texts, scores);
    assert_true(n < MOST);
    set_types(root, texts, types, n);
    while (strcmp(texts[unk], "<unk>"))
        unk++;
    if (twist.score < 0 || twist.score > 0 || twist.score != twist.score)
        scores[n - 1] = (float)twist.score;
    gguf_put_string(&g, "tokenizer.ggml.model", model);
    gguf_put_string(&g, "tokenizer.ggml.pre", twist.pre ? twist.pre : "default");
    gguf_put_strings(&g, "tokenizer.ggml.tokens", texts, n);
    put_array(&g, "tokenizer.ggml.scores", 6, scores, twist.n_scores ? twist.n_scores : n, 4);
    put_array(&g, "tokenizer.ggml.token_type", 5, types, n, 4);
    if (!twist.no_unk)
        gguf_put_u32(&g, "tokenizer.ggml.unknown_token_id", unk);
    gguf_put_u32(&g, "tokenizer.ggml.bos_token_id", 1);
    gguf_put_u32(&g, "tokenizer.ggml.eos_token_id", 2);
    gguf_put_bool(&g, "tokenizer.ggml.add_space_prefix", strcmp(name, "gemma") != 0);
    gguf_put_bool(&g, "tokenizer.ggml.remove_extra_whitespaces", !strcmp(model, "t5") || twist.removes_spaces);
    struct charsmap_bytes charsmap = charsmap_of(json_object_get(root, "normalizer"));
    if (twist.charsmap)
        put_array(&g, "tokenizer.ggml.precompiled_charsmap", 0, twist.charsmap, twist.charsmap_n, 1);
    else if (charsmap.data)
        put_array(&g, "tokenizer.ggml.precompiled_charsmap", 0, charsmap.data, charsmap.n, 1);
    free(charsmap.data);
    free(texts);
    free(scores);
    free(types);
    json_decref(root);
    file_map_close(&map);
    return gguf_made(&g);
}

static int open_gguf(struct tokenizer **tok, struct strbuf bytes, struct err *err)
{
    struct file_map map;
    struct gguf *g = NULL;
    assert_int_equal(file_map_memory(&map, "made.gguf", bytes.data, bytes.len, err), 0);
    int rc = gguf_open(&g, &map, err);
    if (!rc)
        rc = tokenizer_open_gguf(tok, g, err);
    gguf_free(g);
    strbuf_release(&bytes); /* the tokenizer has copies */
    return rc;
}

/* A GGUF does not tell how added tokens treat what is around them: texts with one stay out. */
static bool has_added_token(const struct tokenizer *tok, const struct one_case *c)
{
    const struct added_set *sets[2] = { &tok->raw_added, &tok->normalized_added };
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < sets[k]->n; i++)
            if (contains(c->text, c->len, sets[k]->token[i].content, sets[k]->token[i].len) ||
                contains(c->text, c->len, sets[k]->token[i].pattern, sets[k]->token[i].pattern_len))
                return true;
    return false;
}

static void ids_from_gguf_equal_the_library(void **state)
{
    (void)state;
    static const struct {
        const char *name, *model;
    } rows[] = { { "llama2", "llama" }, { "phi3", "llama" }, { "gemma", "llama" }, { "xlmr", "t5" } };
    struct tokens got = { 0 };
    struct err err = { 0 };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        struct tokenizer *tok = NULL, *original = open_json(rows[k].name);
        if (open_gguf(&tok, gguf_of(rows[k].name, rows[k].model, (struct twist){ 0 }), &err))
            fail_msg("%s", err.msg);
        struct cases c = cases_open(rows[k].name);
        size_t n_compared = 0;
        for (size_t i = 0; i < c.n; i++) {
            cases_next(&c);
            /* With ignore_merges, which a GGUF does not tell, a text that spells a token is that token. */
            bool whole = original->bpe.ignore_merges && vocab_find(&original->vocab, c.now.text, c.now.len) >= 0;
            if (whole || has_added_token(original, &c.now))
                continue;
            n_compared++;
            check_ids(rows[k].name, tok, &c.now, &got);
        }
        assert_true(n_compared > 100);
        assert_int_equal(tok->n_before, !strcmp(rows[k].model, "llama"));
        assert_int_equal(tok->n_after, !strcmp(rows[k].model, "t5"));
        cases_close(&c);
        tokenizer_free(original);
        tokenizer_free(tok);
    }
    tokens_release(&got);
}

static void faults_of_gguf_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *name, *model;
        struct twist twist;
        const char *message;
    } bad[] = {
        { "llama2", "llama", { .n_scores = 7 }, "tokens but 7 scores" },
        { "llama2", "llama", { .score = NAN }, "is not a finite number" },
        { "xlmr", "t5", { .score = -INFINITY }, "is not a finite number" },
        { "llama2", "llama", { .pre = "llama-bpe" }, "the pre-tokenizer 'llama-bpe'" },
        { "llama2", "llama", { .removes_spaces = 1 }, "remove_extra_whitespaces is not supported" },
        { "llama2",
          "llama",
          { .charsmap = "\4\0\0\0\0\0\0\0", .charsmap_n = 8 },
          "precompiled_charsmap is not supported" },
        { "xlmr", "t5", { .charsmap = "\4\0\0", .charsmap_n = 3 }, "is cut off or damaged" },
        { "xlmr", "t5", { .charsmap = "\4\0\0\0\0\0\0", .charsmap_n = 7 }, "is cut off or damaged" },
        { "xlmr", "t5", { .charsmap = "\0\0\0\0ab", .charsmap_n = 6 }, "is cut off or damaged" },
        { "xlmr", "t5", { .charsmap = "\4\0\0\0\0\0\0\0\xff", .charsmap_n = 9 }, "not valid UTF-8" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct tokenizer *tok = NULL;
        struct err err = { 0 };
        if (!open_gguf(&tok, gguf_of(bad[i].name, bad[i].model, bad[i].twist), &err))
            fail_msg("opened in spite of: %s", bad[i].message);
        if (strncmp(err.msg, "made.gguf: ", 11) || !strstr(err.msg, bad[i].message))
            fail_msg("the message is '%s', not '%s'", err.msg, bad[i].message);
    }
}

static int open_text(struct tokenizer **tok, const char *model, const char *normalizer, const char *pre,
                     struct err *err)
{
    struct strbuf s = STRBUF_INIT;
    strbuf_addf(&s, "{\"version\":\"1.0\",\"normalizer\":%s,\"pre_tokenizer\":%s,\"model\":{%s}}", normalizer, pre,
                model);
    int rc = tokenizer_open_json(tok, s.data, s.len, "t.json", err);
    strbuf_release(&s);
    return rc;
}

static struct tokenizer *open_good(const char *model, const char *normalizer, const char *pre)
{
    struct tokenizer *tok = NULL;
    struct err err = { 0 };
    if (open_text(&tok, model, normalizer, pre, &err))
        fail_msg("%s", err.msg);
    return tok;
}

#define UNIGRAM(unk, vocab) "\"type\":\"Unigram\",\"unk_id\":" unk ",\"vocab\":[" vocab "]"
#define NORMALIZER(type, rest) "{\"type\":\"" type "\"" rest "}"

static void faults_of_json_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *model, *normalizer, *pre, *message;
    } bad[] = {
        { UNIGRAM("1", "[\"a\",-1]"), "null", "null", "unk_id" },
        { UNIGRAM("-1", "[\"a\",-1]"), "null", "null", "unk_id" },
        { UNIGRAM("0", ""), "null", "null", "the model's vocab is empty" },
        { UNIGRAM("0", "[\"a\",-1],[\"a\",-2]"), "null", "null", "'a' is given twice" },
        { UNIGRAM("0", "[\"a\"]"), "null", "null", "entry 0 of the model's vocab is not valid" },
        { UNIGRAM("0", "[\"a\",-1,2]"), "null", "null", "entry 0" },
        { UNIGRAM("0", "[\"a\",1e999]"), "null", "null", "entry 0" },
        { UNIGRAM("0", "[\"a\",NaN]"), "null", "null", "entry 0" },
        { UNIGRAM("0", "[\"a\",\"-1\"]"), "null", "null", "entry 0" },
        { UNIGRAM("0", "[\"a\",.5]"), "null", "null", "entry 0" },
        { UNIGRAM("0", "[1,-1]"), "null", "null", "entry 0" },
        { UNIGRAM("0", "[\"a\",-1]") ",\"merges\":[]", "null", "null", "the key \"merges\", which is not known" },
        { UNIGRAM("0", "[\"a\",-1]") ",\"alpha\":1", "null", "null", "the key \"alpha\", which is not known" },
        { UNIGRAM("0", "[\"a\",-1]") ",\"byte_fallback\":true", "null", "null", "no token <0x00>" },
        { UNIGRAM("0", "[\"a\",-1]"), NORMALIZER("Precompiled", ""), "null", "must be base64" },
        { UNIGRAM("0", "[\"a\",-1]"), NORMALIZER("Precompiled", ",\"precompiled_charsmap\":\"BAAAAA=\""), "null",
          "must be base64" },
        { UNIGRAM("0", "[\"a\",-1]"), NORMALIZER("Precompiled", ",\"precompiled_charsmap\":\"BAAAAAA=\""), "null",
          "cut off or damaged" },
        { UNIGRAM("0", "[\"a\",-1]"), NORMALIZER("Replace", ",\"pattern\":\"a\",\"content\":\"b\""), "null",
          "the pattern must be an object" },
        { UNIGRAM("0", "[\"a\",-1]"), NORMALIZER("Replace", ",\"pattern\":{\"String\":\"a\"}"), "null",
          "has no \"content\"" },
        { UNIGRAM("0", "[\"a\",-1]"), NORMALIZER("Prepend", ""), "null", "has no \"prepend\"" },
        { UNIGRAM("0", "[\"a\",-1]"), "null", NORMALIZER("Metaspace", ",\"replacement\":\"_\""),
          "only the replacement" },
        { UNIGRAM("0", "[\"a\",-1]"), "null",
          NORMALIZER("Metaspace", ",\"replacement\":\"\u2581\",\"prepend_scheme\":\"last\""),
          "must be always, first or never" },
        { UNIGRAM("0", "[\"a\",-1]"), "null",
          NORMALIZER("Metaspace",
                     ",\"replacement\":\"\u2581\",\"prepend_scheme\":\"first\",\"add_prefix_space\":false"),
          "contradict each other" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct tokenizer *tok = NULL;
        struct err err = { 0 };
        if (!open_text(&tok, bad[i].model, bad[i].normalizer, bad[i].pre, &err))
            fail_msg("case %zu opened in spite of: %s", i, bad[i].message);
        if (strncmp(err.msg, "t.json: ", 8) || !strstr(err.msg, bad[i].message))
            fail_msg("the message is '%s', not '%s'", err.msg, bad[i].message);
    }
}

static int encode_text(const struct tokenizer *tok, const char *text, struct tokens *out, struct err *err)
{
    return tokenizer_encode(tok, text, strlen(text), SPECIALS_NONE, out, err);
}

static void a_character_without_token_and_unk_is_an_error(void **state)
{
    (void)state;
    struct tokenizer *tok = open_good(UNIGRAM("null", "[\"a\",-1],[\"ab\",-9]"), "null", "null");
    struct tokens t = { 0 };
    struct err err = { 0 };
    assert_int_equal(encode_text(tok, "aaba", &t, &err), 0); /* b alone has no token, but a path around it */
    assert_int_equal(t.n, 3);
    assert_int_equal(encode_text(tok, "b", &t, &err), ERR_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "no unk token"));
    tokens_release(&t);
    tokenizer_free(tok);
}

static void a_list_without_type_is_unigram(void **state)
{
    (void)state;
    struct tokenizer *tok = open_good("\"unk_id\":0,\"vocab\":[[\"a\",-1],[\"ab\",-1.5]]", "null", "null");
    struct tokens t = { 0 };
    struct err err = { 0 };
    assert_string_equal(tokenizer_describe(tok), "Unigram, 2 tokens");
    assert_int_equal(encode_text(tok, "aab", &t, &err), 0);
    assert_int_equal(t.n, 2);
    assert_int_equal(t.id[1], 1);
    tokens_release(&t);
    tokenizer_free(tok);
}

/* A map of one entry, 'a' to a place in the texts "x\0": units 0 (root), then the one reached by 'a', then its leaf. */
static int encode_by_map(uint32_t place, uint32_t leaf_offset, const char *text, struct tokens *out, struct err *err)
{
    enum { N = 256 };
    struct tokenizer tok = { .n_normalizers = 1, .model = MODEL_UNIGRAM };
    uint32_t unit[N] = { [0] = 0 };
    struct strbuf s = STRBUF_INIT;
    unit['a'] = 'a' | 1u << 8 | leaf_offset << 10;
    unit['a' ^ 2] = place;
    gguf_number(&s, sizeof unit, 4);
    for (int i = 0; i < N; i++)
        gguf_number(&s, unit[i], 4);
    strbuf_add(&s, "x\0", 2);
    tok.normalizers[0].kind = NORMALIZER_CHARSMAP;
    assert_int_equal(charsmap_open(&tok.normalizers[0].charsmap, s.data, s.len, "map", err), 0);
    struct work w = { .bytes = text };
    assert_int_equal(work_start(&w, strlen(text), err), 0);
    int rc = normalize(&tok, &w, err);
    if (!rc) {
        tokens_clear(out);
        assert_int_equal(tokens_add(out, w.bytes[w.now.item[0].begin], 0, 0, err), 0);
    }
    work_release(&w);
    charsmap_free(tok.normalizers[0].charsmap);
    strbuf_release(&s);
    return rc;
}

static void maps_that_point_outside_are_refused(void **state)
{
    (void)state;
    struct tokens t = { 0 };
    struct err err = { 0 };
    assert_int_equal(encode_by_map(0, 2, "a", &t, &err), 0);
    assert_int_equal(t.id[0], 'x');
    assert_int_equal(encode_by_map(0, 2, "b", &t, &err), 0);
    assert_int_equal(t.id[0], 'b');
    assert_int_equal(encode_by_map(3, 2, "a", &t, &err), ERR_FORMAT);
    assert_int_equal(encode_by_map(0x7fffffff, 2, "a", &t, &err), ERR_FORMAT);
    assert_int_equal(encode_by_map(0, 0x3fff, "a", &t, &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "points outside of itself"));
    tokens_release(&t);
}

/* Eight times "aaaaaaaa" for every "a" would be 16 MB for one byte. */
static void normalizers_cannot_multiply_a_text_without_end(void **state)
{
    (void)state;
    static const char replace[] = NORMALIZER("Replace", ",\"pattern\":{\"String\":\"a\"},\"content\":\"aaaaaaaa\"");
    struct strbuf normalizer = STRBUF_INIT;
    struct tokens t = { 0 };
    struct err err = { 0 };
    strbuf_addf(&normalizer, "{\"type\":\"Sequence\",\"normalizers\":[%s", replace);
    for (int i = 0; i < 7; i++)
        strbuf_addf(&normalizer, ",%s", replace);
    strbuf_adds(&normalizer, "]}");
    struct tokenizer *tok = open_good(UNIGRAM("0", "[\"a\",-1]"), strbuf_text(&normalizer), "null");
    assert_int_equal(encode_text(tok, "b", &t, &err), 0);
    assert_int_equal(encode_text(tok, "a", &t, &err), ERR_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "more than 64 times as long"));
    tokens_release(&t);
    tokenizer_free(tok);
    strbuf_release(&normalizer);
}

/* Bytes of the map changed at random: an error or any ids, in bounds. */
static void damaged_maps_do_no_harm(void **state)
{
    (void)state;
    struct file_map map = map_file("t5", ".json");
    struct strbuf text = STRBUF_INIT;
    struct tokens t = { 0 };
    unsigned seed = 7;
    strbuf_add(&text, map.data, map.size);
    char *begin = strstr(text.data, "\"precompiled_charsmap\":\"");
    assert_non_null(begin);
    begin += strlen("\"precompiled_charsmap\":\"");
    size_t n = strcspn(begin, "\"") - 4, n_opened = 0;
    for (int i = 0; i < 300; i++) {
        struct tokenizer *tok = NULL;
        struct err err = { 0 };
        char kept[4];
        size_t at[4];
        for (int k = 0; k < 4; k++) {
            seed = seed * 1664525u + 1013904223u;
            at[k] = (seed >> 8) % (i % 2 ? n : 200);
            kept[k] = begin[at[k]];
            begin[at[k]] = "AZaz09+/"[seed >> 24 & 7];
        }
        if (!tokenizer_open_json(&tok, text.data, text.len, "t.json", &err)) {
            n_opened++;
            encode_text(tok, "\u00e9\ufb01 \u2122\u00a0A\u030a\u3042\u2460\uac00", &t, &err);
        }
        tokenizer_free(tok);
        for (int k = 3; k >= 0; k--)
            begin[at[k]] = kept[k];
    }
    assert_true(n_opened > 100);
    tokens_release(&t);
    strbuf_release(&text);
    file_map_close(&map);
}

static void tokens_and_bytes_lead_to_each_other(void **state)
{
    (void)state;
    struct tokenizer *tok = open_json("llama2");
    size_t len;
    const char *bytes;
    for (int byte = 0; byte < 256; byte++) {
        int32_t id = tokenizer_find(tok, (const char[]){ (char)byte }, 1);
        assert_true(id >= 0);
        bytes = tokenizer_bytes(tok, id, &len);
        assert_int_equal(len, 1);
        assert_int_equal((unsigned char)*bytes, byte);
    }
    int32_t id = tokenizer_find(tok, " th", 3);
    assert_true(id >= 0);
    assert_int_equal(tok->vocab.token[id].len, 5);
    assert_memory_equal(tok->vocab.token[id].text, "\u2581th", 5);
    bytes = tokenizer_bytes(tok, id, &len);
    assert_int_equal(len, 3);
    assert_memory_equal(bytes, " th", 3);
    assert_int_equal(tokenizer_find(tok, "\u2581th", 5), -1); /* a spelling, not bytes */
    bytes = tokenizer_bytes(tok, tokenizer_find(tok, "<s>", 3), &len);
    assert_memory_equal(bytes, "<s>", 3);
    tokenizer_free(tok);
}

static void spans_lead_through_spaces_and_bytes(void **state)
{
    (void)state;
    struct tokenizer *tok = open_json("llama2");
    struct tokens t = { 0 };
    struct err err = { 0 };
    /* The space before the text is an empty span where it is a token, else part of the first word. */
    assert_int_equal(encode_text(tok, "\U0001f3f0", &t, &err), 0);
    assert_int_equal(t.n, 5);
    assert_true(t.begin[0] == 0 && t.end[0] == 0);
    for (int i = 1; i < 5; i++)
        assert_true(t.begin[i] == i - 1 && t.end[i] == i);
    assert_int_equal(encode_text(tok, "the the", &t, &err), 0);
    assert_int_equal(t.begin[0], 0);
    assert_int_equal(t.end[t.n - 1], 7);
    tokens_release(&t);
    tokenizer_free(tok);
}

static void metaspace_cuts_before_every_mark(void **state)
{
    (void)state;
    static const char vocab[] = "\"type\":\"BPE\",\"vocab\":{\"a\":0,\"\u2581\":1,\"a\u2581\":2,\"\u2581\u2581\":3},"
                                "\"merges\":[[\"a\",\"\u2581\"],[\"\u2581\",\"\u2581\"]]";
    static const int32_t whole[] = { 2, 1, 2, 0 }, cut[] = { 0, 1, 1, 0, 1, 0 };
    struct tokens t = { 0 };
    struct err err = { 0 };
    for (int split = 0; split < 2; split++) {
        struct tokenizer *tok =
            open_good(vocab, "null",
                      split ? NORMALIZER("Metaspace", ",\"replacement\":\"\u2581\",\"prepend_scheme\":\"never\"")
                            : NORMALIZER("Metaspace", ",\"replacement\":\"\u2581\",\"prepend_scheme\":\"never\","
                                                      "\"split\":false"));
        assert_int_equal(encode_text(tok, "a  a a", &t, &err), 0);
        assert_int_equal(t.n, split ? 6 : 4);
        assert_memory_equal(t.id, split ? cut : whole, t.n * sizeof *t.id);
        tokenizer_free(tok);
    }
    tokens_release(&t);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void long_words_take_no_quadratic_time(void **state)
{
    (void)state;
    static const char *const names[] = { "llama2", "gemma", "xlmr", "t5", "albert", "bytes" };
    enum { N = 1 << 20 };
    char *text = malloc(N);
    struct tokens t = { 0 };
    struct err err = { 0 };
    assert_non_null(text);
    for (int i = 0; i < N; i++)
        text[i] = "abca"[(i * 7 + i / 13) & 3];
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        struct tokenizer *tok = open_json(names[k]);
        double start = seconds();
        assert_int_equal(tokenizer_encode(tok, text, N, SPECIALS_NONE, &t, &err), 0);
        assert_true(seconds() - start < 20); /* .2 s without sanitizers */
        assert_int_equal(t.end[t.n - 1], N);
        tokenizer_free(tok);
    }
    free(text);
    tokens_release(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_from_gguf_equal_the_library),
        cmocka_unit_test(faults_of_gguf_are_named),
        cmocka_unit_test(faults_of_json_are_named),
        cmocka_unit_test(a_character_without_token_and_unk_is_an_error),
        cmocka_unit_test(a_list_without_type_is_unigram),
        cmocka_unit_test(maps_that_point_outside_are_refused),
        cmocka_unit_test(normalizers_cannot_multiply_a_text_without_end),
        cmocka_unit_test(damaged_maps_do_no_harm),
        cmocka_unit_test(tokens_and_bytes_lead_to_each_other),
        cmocka_unit_test(spans_lead_through_spaces_and_bytes),
        cmocka_unit_test(metaspace_cuts_before_every_mark),
        cmocka_unit_test(long_words_take_no_quadratic_time),
    };
    return cmocka_run_group_tests_name("sentencepiece", tests, NULL, NULL);
}
