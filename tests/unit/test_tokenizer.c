/* Tokenizers: BPE against a naive oracle, spans under NFC, BOS, look-ups; files and texts that are wrong or hostile. */
#include "core/base/strbuf.h"
#include "core/tokenizer/internal.h"
#include "tests/unit/make_gguf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* A tokenizer.json from its parts; NULL parts are what a plain byte-level BPE has. */
struct parts {
    const char *added, *normalizer, *pre, *post, *decoder, *settings, *vocab, *merges, *top;
};
#define BYTE_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}"
#define ADDED(id, content, flags)                                                                                      \
    "{\"id\":" #id ",\"content\":\"" content "\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false," flags "}"
#define PLAIN "\"normalized\":false,\"special\":false"
#define SPECIAL "\"normalized\":false,\"special\":true"

/* The 256 byte letters as ids 0 to 255, then "he" 256, "ll" 257, "hell" 258, "hello" 259, "Ġw" 260. */
static const char merges_of_hello[] = "\"h e\",[\"l\",\"l\"],\"he ll\",\"hell o\",\"Ġ w\"";

static struct strbuf json_of(struct parts p)
{
    struct strbuf s = STRBUF_INIT;
    strbuf_addf(&s, "{\"version\":\"1.0\",\"added_tokens\":[%s],\"normalizer\":%s,\"pre_tokenizer\":%s,",
                p.added ? p.added : "", p.normalizer ? p.normalizer : "null", p.pre ? p.pre : BYTE_LEVEL);
    strbuf_addf(&s, "\"post_processor\":%s,\"decoder\":%s,%s", p.post ? p.post : "null", p.decoder ? p.decoder : "null",
                p.top ? p.top : "");
    strbuf_addf(&s, "\"model\":{\"type\":\"BPE\",%s\"vocab\":{", p.settings ? p.settings : "");
    for (int byte = 0; byte < 256 && !p.vocab; byte++) {
        char letter[5] = "";
        byte_letter((unsigned char)byte, letter);
        strbuf_add_json(&s, letter, strlen(letter));
        strbuf_addf(&s, ":%d,", byte);
    }
    strbuf_addf(&s, "%s},\"merges\":[%s]}}",
                p.vocab ? p.vocab : "\"he\":256,\"ll\":257,\"hell\":258,\"hello\":259,\"\\u0120w\":260",
                p.merges ? p.merges : merges_of_hello);
    return s;
}

static struct tokenizer *open_good(struct parts p)
{
    struct strbuf s = json_of(p);
    struct tokenizer *tok = NULL;
    struct err err = { 0 };
    if (tokenizer_open_json(&tok, s.data, s.len, "t.json", &err))
        fail_msg("%s", err.msg);
    strbuf_release(&s);
    return tok;
}

/* Opening fails with this in its message, which starts with the file's name. */
static void expect_text(const char *text, size_t n, const char *message)
{
    struct tokenizer *tok = NULL;
    struct err err = { 0 };
    char *copy = malloc(n + !n);
    assert_non_null(copy);
    memcpy(copy, text, n);
    int rc = tokenizer_open_json(&tok, copy, n, "t.json", &err);
    free(copy);
    if (!rc)
        fail_msg("opened in spite of: %s", message);
    assert_int_equal(rc, err.code);
    if (strncmp(err.msg, "t.json: ", 8) || !strstr(err.msg, message))
        fail_msg("the message is '%s', not '%s'", err.msg, message);
}

#define EXPECT_TEXT(text, message) expect_text(text, sizeof text - 1, message)

static void expect(struct parts p, const char *message)
{
    struct strbuf s = json_of(p);
    expect_text(s.data, s.len, message);
    strbuf_release(&s);
}

static void encode(const struct tokenizer *tok, const char *text, enum specials specials, struct tokens *out)
{
    struct err err = { 0 };
    if (tokenizer_encode(tok, text, strlen(text), specials, out, &err))
        fail_msg("%s: %s", text, err.msg);
}

static void check(const struct tokens *t, size_t n, const int32_t want[][3])
{
    assert_int_equal(t->n, n);
    for (size_t i = 0; i < n; i++)
        if (t->id[i] != want[i][0] || t->begin[i] != want[i][1] || t->end[i] != want[i][2])
            fail_msg("token %zu is %d [%d,%d), not %d [%d,%d)", i, (int)t->id[i], (int)t->begin[i], (int)t->end[i],
                     (int)want[i][0], (int)want[i][1], (int)want[i][2]);
}

static void merges_apply_in_both_spellings(void **state)
{
    (void)state;
    struct tokenizer *tok = open_good((struct parts){ 0 });
    struct tokens t = { 0 };
    encode(tok, "hello world", SPECIALS_AUTO, &t);
    check(&t, 6,
          (const int32_t[][3]){
              { 259, 0, 5 }, { 260, 5, 7 }, { 'o', 7, 8 }, { 'r', 8, 9 }, { 'l', 9, 10 }, { 'd', 10, 11 } });
    assert_string_equal(tokenizer_describe(tok), "byte-level BPE, 261 tokens, pre-tokenizer ByteLevel");
    tokens_release(&t);
    tokenizer_free(tok);
}

/* Random merges over a few letters. */
enum { N_LETTERS = 4, N_MERGES = 40, LONGEST = 24 };
struct random_bpe {
    char token[N_LETTERS + N_MERGES][64];
    int left[N_MERGES], right[N_MERGES];
};

static unsigned next_random(unsigned *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static struct tokenizer *open_random(struct random_bpe *r, unsigned *seed)
{
    struct strbuf vocab = STRBUF_INIT, merges = STRBUF_INIT;
    int n = 0;
    for (; n < N_LETTERS; n++) {
        snprintf(r->token[n], sizeof *r->token, "%c", 'a' + n);
        strbuf_addf(&vocab, "%s\"%s\":%d", n ? "," : "", r->token[n], n);
    }
    for (int m = 0; m < N_MERGES; m++) {
        for (bool again = true; again;) {
            r->left[m] = (int)(next_random(seed) % (unsigned)n);
            r->right[m] = (int)(next_random(seed) % (unsigned)n);
            char joined[128];
            snprintf(joined, sizeof joined, "%s%s", r->token[r->left[m]], r->token[r->right[m]]);
            again = strlen(joined) >= sizeof *r->token;
            for (int i = 0; i < n; i++)
                again = again || !strcmp(r->token[i], joined);
            if (!again)
                memcpy(r->token[n], joined, strlen(joined) + 1);
        }
        strbuf_addf(&vocab, ",\"%s\":%d", r->token[n], n);
        strbuf_addf(&merges, "%s\"%s %s\"", m ? "," : "", r->token[r->left[m]], r->token[r->right[m]]);
        n++;
    }
    struct tokenizer *tok = open_good((struct parts){ .vocab = strbuf_text(&vocab), .merges = strbuf_text(&merges) });
    strbuf_release(&vocab);
    strbuf_release(&merges);
    return tok;
}

/* Lowest rank first, leftmost of equal ones, one at a time. */
static size_t naive_bpe(const struct random_bpe *r, int *ids, size_t n)
{
    for (int m = 0; m < N_MERGES; m++)
        for (size_t i = 0; i + 1 < n; i++)
            if (ids[i] == r->left[m] && ids[i + 1] == r->right[m]) {
                ids[i] = N_LETTERS + m;
                memmove(ids + i + 1, ids + i + 2, (n - i - 2) * sizeof *ids);
                n--;
                m = -1; /* a new pair may have a lower rank */
                break;
            }
    return n;
}

/* Texts on which tokenizer and oracle differ. */
static int count_differences(const struct tokenizer *tok, const struct random_bpe *r, unsigned *seed)
{
    struct tokens t = { 0 };
    int n_different = 0;
    for (int k = 0; k < 200; k++) {
        char text[LONGEST + 1] = "";
        int ids[LONGEST];
        size_t n = 1 + next_random(seed) % LONGEST;
        for (size_t i = 0; i < n; i++) {
            ids[i] = (int)(next_random(seed) % N_LETTERS);
            text[i] = (char)('a' + ids[i]);
        }
        n = naive_bpe(r, ids, n);
        encode(tok, text, SPECIALS_NONE, &t);
        bool same = t.n == n;
        for (size_t i = 0; same && i < n; i++)
            same = t.id[i] == ids[i];
        n_different += !same;
    }
    tokens_release(&t);
    return n_different;
}

static void bpe_equals_the_naive_oracle(void **state)
{
    (void)state;
    for (unsigned seed = 1, round = 0; round < 50; round++) {
        struct random_bpe r;
        struct tokenizer *tok = open_random(&r, &seed);
        assert_int_equal(count_differences(tok, &r, &seed), 0);
        /* The fault that must be seen: two merges in the wrong order. */
        int left = r.left[0], right = r.right[0];
        if (round == 0) {
            r.left[0] = r.left[1], r.right[0] = r.right[1];
            r.left[1] = left, r.right[1] = right;
            assert_true(count_differences(tok, &r, &seed) > 0);
        }
        tokenizer_free(tok);
    }
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
    enum { N = 1 << 20 };
    struct tokenizer *tok = open_good((struct parts){ 0 });
    struct tokens t = { 0 };
    struct err err = { 0 };
    char *text = malloc(N);
    assert_non_null(text);
    for (int kind = 0; kind < 3; kind++) {
        for (size_t i = 0; i < N; i++)
            text[i] = kind == 0 ? "hello"[i % 5] : kind == 1 ? ' ' : "e\xcc\x81\xcc\xa3"[i ? 1 + (i - 1) % 4 : 0];
        size_t n = kind == 2 ? N - 3 : N;
        double start = seconds();
        assert_int_equal(tokenizer_encode(tok, text, n, SPECIALS_AUTO, &t, &err), 0);
        assert_true(seconds() - start < 20); /* .1 s without sanitizers; the naive way takes minutes */
        assert_int_equal(t.end[t.n - 1], n);
    }
    free(text);
    tokens_release(&t);
    tokenizer_free(tok);
}

static void spans_lead_through_nfc_to_the_input(void **state)
{
    (void)state;
    struct tokenizer *tok = open_good((struct parts){ .normalizer = "{\"type\":\"NFC\"}" });
    struct tokens t = { 0 };
    /* e + U+0301 becomes U+00E9 (2 bytes): the first takes e, the second the two bytes of the mark. */
    encode(tok, "ae\u0301b", SPECIALS_AUTO, &t);
    check(&t, 4, (const int32_t[][3]){ { 'a', 0, 1 }, { 0xc3, 1, 2 }, { 0xa9, 2, 4 }, { 'b', 4, 5 } });
    /* U+0958 decomposes for good into two characters of 3 bytes; the later ones have no input of their own. */
    encode(tok, "\u0958x", SPECIALS_AUTO, &t);
    check(&t, 7,
          (const int32_t[][3]){ { 0xe0, 0, 1 },
                                { 0xa4, 1, 2 },
                                { 0x95, 2, 3 },
                                { 0xe0, 3, 3 },
                                { 0xa4, 3, 3 },
                                { 0xbc, 3, 3 },
                                { 'x', 3, 4 } });
    /* Already normalized text keeps its bytes. */
    encode(tok, "\u00e9", SPECIALS_AUTO, &t);
    check(&t, 2, (const int32_t[][3]){ { 0xc3, 0, 1 }, { 0xa9, 1, 2 } });
    /* Marks are ordered (U+0323 before U+0301) and the base takes the first of them. */
    encode(tok, "q\u0301\u0323", SPECIALS_AUTO, &t);
    check(&t, 5, (const int32_t[][3]){ { 'q', 0, 1 }, { 0xcc, 1, 2 }, { 0xa3, 2, 3 }, { 0xcc, 3, 4 }, { 0x81, 4, 5 } });
    tokens_release(&t);
    tokenizer_free(tok);
}

static void a_prefixed_space_is_an_empty_span(void **state)
{
    (void)state;
    struct tokenizer *tok =
        open_good((struct parts){ .pre = "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true}" });
    struct tokens t = { 0 };
    encode(tok, "wo", SPECIALS_AUTO, &t);
    check(&t, 2, (const int32_t[][3]){ { 260, 0, 1 }, { 'o', 1, 2 } });
    encode(tok, "o", SPECIALS_AUTO, &t);
    check(&t, 2, (const int32_t[][3]){ { ' ', 0, 0 }, { 'o', 0, 1 } });
    tokens_release(&t);
    tokenizer_free(tok);
}

static const char two_added[] = ADDED(261, "<s>", SPECIAL) "," ADDED(262, "é ", PLAIN);

static void ids_and_bytes_lead_to_each_other(void **state)
{
    (void)state;
    struct tokenizer *tok = open_good((struct parts){ .added = two_added });
    size_t len;
    assert_int_equal(tokenizer_size(tok), 263);
    for (int32_t id = 0; id < 263; id++) {
        const char *bytes = tokenizer_bytes(tok, id, &len);
        assert_non_null(bytes);
        assert_int_equal(tokenizer_find(tok, bytes, len), id);
        if (id < 256) {
            assert_int_equal(len, 1);
            assert_int_equal((unsigned char)bytes[0], id);
        }
    }
    assert_memory_equal(tokenizer_bytes(tok, 260, &len), " w", 2);
    assert_int_equal(tokenizer_find(tok, "é ", 3), 262);
    assert_int_equal(tokenizer_find(tok, "nothing", 7), -1);
    assert_int_equal(tokenizer_find(tok, "Ġw", 3), -1); /* a spelling, not bytes */
    assert_null(tokenizer_bytes(tok, 263, &len));
    assert_null(tokenizer_bytes(tok, -1, &len));
    assert_int_equal(len, 0);
    assert_true(tokenizer_is_special(tok, 261));
    assert_false(tokenizer_is_special(tok, 262));
    assert_false(tokenizer_is_special(tok, 'a'));
    assert_false(tokenizer_is_special(tok, 100000));
    tokenizer_free(tok);
}

#define TEMPLATE(single, ids)                                                                                          \
    "{\"type\":\"TemplateProcessing\",\"single\":[" single                                                             \
    "],\"pair\":[],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\","                                                       \
    "\"ids\":[" ids "],\"tokens\":[\"<s>\"]}}}"
#define TOKEN_S "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}}"
#define TEXT_A "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}"

static void bos_is_never_doubled(void **state)
{
    (void)state;
    struct tokenizer *plain = open_good((struct parts){ .added = two_added });
    struct tokenizer *adds =
        open_good((struct parts){ .added = two_added, .post = TEMPLATE(TOKEN_S "," TEXT_A, "261") });
    struct tokens t = { 0 };
    struct err err = { 0 };
    assert_int_equal(tokenizer_encode(plain, "a", 1, SPECIALS_BOS, &t, &err), ERR_UNSUPPORTED);
    assert_int_equal(tokenizer_bos(plain), -1);
    tokenizer_set_bos_eos(plain, 261, -1);
    tokenizer_set_bos_eos(adds, 261, 262);
    tokenizer_set_bos_eos(adds, -1, -1);
    assert_int_equal(tokenizer_bos(adds), 261);
    assert_int_equal(tokenizer_eos(adds), 262);
    encode(plain, "a", SPECIALS_AUTO, &t);
    check(&t, 1, (const int32_t[][3]){ { 'a', 0, 1 } });
    encode(plain, "a", SPECIALS_BOS, &t);
    check(&t, 2, (const int32_t[][3]){ { 261, 0, 0 }, { 'a', 0, 1 } });
    encode(plain, "", SPECIALS_BOS, &t);
    check(&t, 1, (const int32_t[][3]){ { 261, 0, 0 } });
    encode(plain, "<s>a", SPECIALS_BOS, &t);
    check(&t, 2, (const int32_t[][3]){ { 261, 0, 3 }, { 'a', 3, 4 } });
    encode(adds, "a", SPECIALS_AUTO, &t);
    check(&t, 2, (const int32_t[][3]){ { 261, 0, 0 }, { 'a', 0, 1 } });
    encode(adds, "a", SPECIALS_BOS, &t);
    check(&t, 2, (const int32_t[][3]){ { 261, 0, 0 }, { 'a', 0, 1 } });
    encode(adds, "a", SPECIALS_NONE, &t);
    check(&t, 1, (const int32_t[][3]){ { 'a', 0, 1 } });
    tokens_release(&t);
    tokenizer_free(plain);
    tokenizer_free(adds);
}

static void bytes_without_a_token_are_counted(void **state)
{
    (void)state;
    struct tokenizer *tok = open_good((struct parts){ .vocab = "\"a\":0,\"b\":1", .merges = "" });
    struct tokens t = { 0 };
    encode(tok, "axxb", SPECIALS_AUTO, &t);
    check(&t, 2, (const int32_t[][3]){ { 0, 0, 1 }, { 1, 3, 4 } });
    assert_int_equal(t.n_dropped, 2);
    encode(tok, "xx", SPECIALS_AUTO, &t);
    assert_int_equal(t.n, 0);
    encode(tok, "ab", SPECIALS_AUTO, &t);
    assert_int_equal(t.n_dropped, 0);
    tokens_release(&t);
    tokenizer_free(tok);
    tok = open_good((struct parts){
        .vocab = "\"a\":0,\"b\":1,\"?\":2", .merges = "", .settings = "\"unk_token\":\"?\",\"fuse_unk\":true," });
    encode(tok, "axxb", SPECIALS_AUTO, &t);
    check(&t, 3, (const int32_t[][3]){ { 0, 0, 1 }, { 2, 1, 3 }, { 1, 3, 4 } });
    assert_int_equal(t.n_dropped, 0);
    tokens_release(&t);
    tokenizer_free(tok);
}

static void texts_that_are_no_utf8_are_refused(void **state)
{
    (void)state;
    struct tokenizer *tok = open_good((struct parts){ 0 });
    struct tokens t = { 0 };
    static const struct {
        const char *text, *message;
    } bad[] = {
        { "abc\xff", "byte 3 (0xff)" },          { "\xc3", "byte 0 (0xc3)" },
        { "é\xed\xa0\x80", "byte 2 (0xed)" },    { "a\xc0\x80", "byte 1 (0xc0)" },
        { "\xf4\x90\x80\x80", "byte 0 (0xf4)" }, { "ab\xe2\x82", "byte 2 (0xe2)" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err err = { 0 };
        assert_int_equal(tokenizer_encode(tok, bad[i].text, strlen(bad[i].text), SPECIALS_AUTO, &t, &err), ERR_FORMAT);
        if (!strstr(err.msg, bad[i].message))
            fail_msg("the message is '%s', not '%s'", err.msg, bad[i].message);
        assert_int_equal(t.n, 0);
    }
    struct err err = { 0 };
    assert_int_equal(tokenizer_encode(tok, "a\0b", 3, SPECIALS_AUTO, &t, &err), 0); /* NUL is a character */
    assert_int_equal(t.n, 3);
    assert_int_equal(t.id[1], 0);
    tokens_release(&t);
    tokenizer_free(tok);
}

static void vocabularies_that_are_wrong_are_refused(void **state)
{
    (void)state;
    expect((struct parts){ .vocab = "\"a\":0,\"b\":0", .merges = "" }, "tokens 'a' and 'b' have the same id 0");
    expect((struct parts){ .vocab = "\"a\":0,\"a\":1", .merges = "" }, "token 'a' is given twice, as 0 and as 1");
    expect((struct parts){ .vocab = "\"a\":0,\"b\":2000000000", .merges = "" }, "id 2000000000 is too large");
    expect((struct parts){ .vocab = "\"a\":99999999999999999999", .merges = "" }, "entry 0 of the model's vocab");
    expect((struct parts){ .vocab = "\"a\":-1", .merges = "" }, "not valid: -1");
    expect((struct parts){ .vocab = "\"a\":1.5", .merges = "" }, "not valid: 1.5");
    expect((struct parts){ .vocab = "\"a\":\"0\"", .merges = "" }, "not valid: \"0\"");
    expect((struct parts){ .vocab = "\"\\ud800\":1", .merges = "" }, "not valid: \"\\ud800\"");
    expect((struct parts){ .vocab = "\"\xff\":1", .merges = "" }, "entry 0 of the model's vocab");
    expect((struct parts){ .vocab = "\"a\\q\":1", .merges = "" }, "entry 0 of the model's vocab");
    expect((struct parts){ .vocab = "\"a\":0,", .merges = "" }, "a key in quotes expected");
    /* A gap of moderate size is no fault. */
    struct tokenizer *tok = open_good((struct parts){ .vocab = "\"a\":0,\"b\":1000", .merges = "" });
    size_t len;
    assert_int_equal(tokenizer_size(tok), 1001);
    assert_null(tokenizer_bytes(tok, 500, &len));
    tokenizer_free(tok);
    /* Nor are a token that spells a NUL or one that is made of no letters. */
    tok = open_good((struct parts){ .vocab = "\"a\\u0000b\":0,\"\\ud83d\\ude00\":1", .merges = "" });
    assert_memory_equal(tokenizer_bytes(tok, 0, &len), "a\0b", 3);
    assert_int_equal(tokenizer_find(tok, "\U0001f600", 4), 1);
    tokenizer_free(tok);
}

static void merges_that_are_wrong_are_refused(void **state)
{
    (void)state;
    expect((struct parts){ .merges = "\"h e\",\"x yz\"" },
           "merge 1, 'x' with 'yz': the second is not in the vocabulary");
    expect((struct parts){ .merges = "\"xy z\"" }, "the first is not in the vocabulary");
    expect((struct parts){ .merges = "[\"x\",\"y\"]" }, "the result is not in the vocabulary");
    expect((struct parts){ .merges = "\"hello\"" }, "entry 0 of the model's merges is not valid: \"hello\"");
    expect((struct parts){ .merges = "\"h e l\"" }, "entry 0 of the model's merges");
    expect((struct parts){ .merges = "[\"h\"]" }, "entry 0 of the model's merges");
    expect((struct parts){ .merges = "[\"h\",\"e\",\"l\"]" }, "entry 0 of the model's merges");
    expect((struct parts){ .merges = "[1,2]" }, "entry 0 of the model's merges");
    expect((struct parts){ .merges = "7" }, "entry 0 of the model's merges");
    expect((struct parts){ .merges = "\" \"" }, "the first is not in the vocabulary");
    struct tokenizer *tok = open_good((struct parts){ .merges = "\"#version: 0.2\",\"h e\"" });
    tokenizer_free(tok);
}

static void settings_that_change_the_result_are_refused(void **state)
{
    (void)state;
    expect((struct parts){ .settings = "\"dropout\":0.1," }, "BPE with dropout is not supported");
    expect((struct parts){ .settings = "\"end_of_word_suffix\":\"</w>\"," }, "an end_of_word_suffix");
    expect((struct parts){ .settings = "\"continuing_subword_prefix\":\"##\"," }, "a continuing_subword_prefix");
    expect((struct parts){ .settings = "\"fuse_unk\":1," }, "\"fuse_unk\" must be true or false");
    expect((struct parts){ .settings = "\"surprise\":1," }, "\"surprise\", which is not known");
    expect((struct parts){ .settings = "\"fuse_unk\":true,\"fuse_unk\":true," }, "has the key \"fuse_unk\" twice");
    expect((struct parts){ .settings = "\"vocab\":{}," }, "has the key \"vocab\" twice");
    expect((struct parts){ .vocab = "\"a\":0", .merges = "", .settings = "\"byte_fallback\":true," }, "byte_fallback");
    expect((struct parts){ .vocab = "\"a\":0", .merges = "", .settings = "\"unk_token\":\"?\"," },
           "unk_token '?' is not in the vocabulary");
    struct tokenizer *tok = open_good((struct parts){
        .settings = "\"dropout\":0.0,\"unk_token\":null,\"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":\"\","
                    "\"byte_fallback\":true,\"ignore_merges\":null," });
    tokenizer_free(tok);
}

static void components_that_are_unknown_are_named(void **state)
{
    (void)state;
    expect((struct parts){ .normalizer = "{\"type\":\"Lowercase\"}" },
           "normalizer \"Lowercase\" is not supported; supported are NFC, Sequence");
    expect((struct parts){ .pre = "{\"type\":\"Whitespace\"}" }, "pre_tokenizer \"Whitespace\" is not supported");
    expect((struct parts){ .post = "{\"type\":\"BertProcessing\"}" }, "post_processor \"BertProcessing\"");
    expect((struct parts){ .decoder = "{\"type\":\"Fuse\"}" }, "decoder \"Fuse\" is not supported");
    expect((struct parts){ .normalizer = "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Strip\"}]}" },
           "\"Strip\"");
    expect((struct parts){ .normalizer = "{\"type\":\"NFC\",\"twist\":1}" }, "has the key \"twist\"");
    expect((struct parts){ .normalizer = "{\"typ\":\"NFC\"}" }, "a normalizer has no \"type\"");
    expect((struct parts){ .normalizer = "{\"type\":7}" }, "\"type\" must be a string");
    expect((struct parts){ .normalizer = "[]" }, "normalizer must be an object or null");
    expect((struct parts){ .normalizer = "{\"type\":\"Sequence\"}" }, "has no list of components");
    expect((struct parts){ .pre = "null" }, "BPE without the pre-tokenizer ByteLevel is not supported");
    expect((struct parts){ .pre = "{\"type\":\"ByteLevel\"}" }, "\"add_prefix_space\" must be true or false");
    expect((struct parts){ .pre = "{\"type\":\"Sequence\",\"pretokenizers\":[" BYTE_LEVEL "," BYTE_LEVEL "]}" },
           "a pre-tokenizer after ByteLevel");
    expect((struct parts){ .top = "\"extra\":1," }, "the key \"extra\" is not known");
    expect((struct parts){ .top = "\"normalizer\":null," }, "has the key \"normalizer\" twice");
    expect((struct parts){ .top = "\"version\":\"1.0\"," }, "has the key \"version\" twice");
    EXPECT_TEXT("{\"version\":\"2.0\",\"model\":{}}", "the version must be \"1.0\"");
    EXPECT_TEXT("{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", "model \"Unigram\" is not supported");
    EXPECT_TEXT("{\"model\":{\"type\":\"BPE\",\"vocab\":{}}}", "the model has no \"merges\"");
    EXPECT_TEXT("{\"model\":{\"type\":\"BPE\",\"vocab\":[],\"merges\":[]}}", "vocab must be an object");
    EXPECT_TEXT("{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":{}}}", "merges must be a list");
    EXPECT_TEXT("{}", "has no \"model\"");
    EXPECT_TEXT("", "is no valid JSON");
    EXPECT_TEXT("[]", "must be a JSON object");
    EXPECT_TEXT("{\"model\":", "is no valid JSON");
}

static struct strbuf split_json(const char *pattern, const char *rest)
{
    struct strbuf s = STRBUF_INIT;
    strbuf_adds(&s, "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":");
    strbuf_add_json(&s, pattern, strlen(pattern));
    strbuf_addf(&s, "},%s}," BYTE_LEVEL "]}", rest);
    return s;
}

static void expect_split(const char *pattern, const char *rest, const char *message)
{
    struct strbuf pre = split_json(pattern, rest);
    expect((struct parts){ .pre = strbuf_text(&pre) }, message);
    strbuf_release(&pre);
}
#define ISOLATED "\"behavior\":\"Isolated\",\"invert\":false"

static void regexes_that_engines_read_differently_are_refused(void **state)
{
    (void)state;
    static const char *const parts[] = { "\\w+",     "\\bx",  "a\\h",    "\\R",         "\\X",    "\\K",     "\\p{Han}",
                                         "\\p{^L}",  "\\pL",  "[a[b]]",  "[[:alpha:]]", "[a&&b]", "(?i)a",   "(?m:a)",
                                         "(*UTF)a",  "a{,3}", "a{2,3}+", "\\1",         "(?R)",   "(?<n>a)", "\\xff",
                                         "[\\P{L}]", "[]a]",  "\\v",     "\\p{Cn}",     "\\C",    "\\Q",     "(?" };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        expect_split(parts[i], ISOLATED, "which is not supported");
    expect_split("a(b", ISOLATED, "cannot be compiled: missing closing parenthesis");
    expect_split("[a", ISOLATED, "has a class without its end");
    expect_split("*a", ISOLATED, "cannot be compiled");
    expect_split("", ISOLATED, "that is not empty");
    expect_split("a", "\"behavior\":\"Removed\",\"invert\":false", "only the behavior Isolated");
    expect_split("a", "\"behavior\":\"Isolated\",\"invert\":true", "invert is not supported");
    expect_split("a", "\"behavior\":\"Isolated\"", "\"invert\" must be true or false");
    char *nested = calloc(1, 2001), *large = calloc(1, 20001);
    assert_true(nested && large);
    memset(nested, '(', 1000);
    memset(nested + 1000, ')', 1000);
    memset(large, 'a', 20000);
    expect_split(nested, ISOLATED, "cannot be compiled");
    expect_split(large, ISOLATED, "at most 16384 are accepted");
    free(nested);
    free(large);
}

static void catastrophic_regexes_end_in_an_error(void **state)
{
    (void)state;
    static const char *const patterns[] = { "(a+)+[bc]", "(?:a|a)+[bc]", "(?:(?:a*)*)*[bc]", "(?:a?){40}[bc]" };
    char text[201] = "";
    memset(text, 'a', 200);
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        struct strbuf pre = split_json(patterns[i], ISOLATED);
        struct tokenizer *tok = open_good((struct parts){ .pre = strbuf_text(&pre) });
        struct tokens t = { 0 };
        struct err err = { 0 };
        double start = seconds();
        int rc = tokenizer_encode(tok, text, strlen(text), SPECIALS_AUTO, &t, &err);
        assert_true(seconds() - start < 20);
        if (rc) {
            assert_int_equal(rc, ERR_UNSUPPORTED);
            assert_non_null(strstr(err.msg, "takes too long on this text"));
        }
        assert_true(rc || i > 0); /* the engine may see through the later ones */
        tokens_release(&t);
        tokenizer_free(tok);
        strbuf_release(&pre);
    }
}

static void added_tokens_that_are_wrong_are_refused(void **state)
{
    (void)state;
    expect((struct parts){ .added = "7" }, "added_tokens must hold objects");
    expect((struct parts){ .added = ADDED(261, "", PLAIN) }, "from 1 to 4096 are accepted");
    expect((struct parts){ .added = ADDED(0, "<s>", PLAIN) }, "has id 0 where 261 is the next free one");
    expect((struct parts){ .added = ADDED(300, "<s>", PLAIN) }, "has id 300 where 261");
    expect((struct parts){ .added = ADDED(4, "he", PLAIN) }, "has id 4, but the vocabulary gives it 256");
    expect((struct parts){ .added = ADDED(261, "<s>", PLAIN) "," ADDED(262, "<s>", PLAIN) }, "'<s>' is given twice");
    expect((struct parts){ .added = ADDED(256, "he", PLAIN) "," ADDED(256, "he", PLAIN) },
           "has the id 256 of another token");
    expect((struct parts){ .added = ADDED(-1, "<s>", PLAIN) }, "\"id\" must be a whole number");
    expect((struct parts){ .added = ADDED(261, "<s>", "\"normalized\":1,\"special\":true") },
           "\"normalized\" must be true");
    expect((struct parts){ .added = ADDED(261, "<s>", "\"normalized\":true") }, "\"special\" must be true or false");
    expect((struct parts){ .added = ADDED(261, "a\\u0000", PLAIN) }, "without NUL bytes");
    expect((struct parts){ .normalizer = "{\"type\":\"NFC\"}",
                           .added = ADDED(261, "\\u014d", "\"normalized\":true,\"special\":false") "," ADDED(
                               262, "o\\u0304", "\"normalized\":true,\"special\":false") },
           "are the same when normalized");
}

static void templates_that_are_wrong_are_refused(void **state)
{
    (void)state;
    const char *added = two_added;
    expect((struct parts){ .added = added, .post = TEMPLATE(TOKEN_S "," TEXT_A, "7") },
           "an id that is not its token's");
    expect((struct parts){ .added = added, .post = TEMPLATE(TOKEN_S "," TEXT_A, "900") },
           "an id that is not its token's");
    expect((struct parts){ .added = added, .post = TEMPLATE(TOKEN_S "," TEXT_A, "\"x\"") }, "an id that is not");
    expect((struct parts){ .added = added, .post = TEMPLATE(TOKEN_S "," TEXT_A, "") }, "has not as many ids as tokens");
    expect((struct parts){ .added = added, .post = TEMPLATE(TOKEN_S, "261") }, "must hold Sequence A once");
    expect((struct parts){ .added = added, .post = TEMPLATE(TEXT_A "," TEXT_A, "261") }, "must hold Sequence A once");
    expect((struct parts){ .added = added, .post = TEMPLATE("{\"Sequence\":{\"id\":\"B\"}}", "261") },
           "Sequence A only");
    expect((struct parts){ .added = added, .post = TEMPLATE("7", "261") }, "Sequence A only");
    expect((struct parts){ .added = added, .post = TEMPLATE("{\"SpecialToken\":{\"id\":\"<t>\"}}," TEXT_A, "261") },
           "\"<t>\" is not in special_tokens");
}

static void deep_nesting_is_refused(void **state)
{
    (void)state;
    struct strbuf s = STRBUF_INIT;
    for (int i = 0; i < 20; i++)
        strbuf_adds(&s, "{\"type\":\"Sequence\",\"normalizers\":[");
    for (int i = 0; i < 20; i++)
        strbuf_adds(&s, "]}");
    expect((struct parts){ .normalizer = strbuf_text(&s) }, "Sequences are nested too deeply");
    strbuf_reset(&s);
    for (int i = 0; i < 100000; i++)
        strbuf_addc(&s, '[');
    expect((struct parts){ .normalizer = strbuf_text(&s) }, "is no valid JSON");
    for (int i = 0; i < 100000; i++)
        strbuf_addc(&s, ']');
    expect((struct parts){ .normalizer = strbuf_text(&s) }, "maximum parsing depth");
    strbuf_release(&s);
}

/* No prefix of a file may be read beyond its end, or leak. */
static void truncated_files_are_refused(void **state)
{
    (void)state;
    struct strbuf s = json_of((struct parts){ .added = two_added, .post = TEMPLATE(TOKEN_S "," TEXT_A, "261") });
    for (size_t n = 0; n < s.len; n += 7)
        expect_text(s.data, n, "");
    strbuf_release(&s);
}

/* Single bytes changed at random: opens or fails cleanly, and what opens encodes or fails cleanly. */
static void damaged_files_do_no_harm(void **state)
{
    (void)state;
    struct strbuf s = json_of((struct parts){ .added = two_added, .normalizer = "{\"type\":\"NFC\"}" });
    struct tokens t = { 0 };
    unsigned seed = 5;
    for (int k = 0; k < 3000; k++) {
        size_t at = next_random(&seed) % s.len;
        char was = s.data[at];
        struct tokenizer *tok = NULL;
        struct err err = { 0 };
        s.data[at] = (char)(k % 2 ? next_random(&seed) : (unsigned)"\"{}[],:0"[next_random(&seed) % 8]);
        if (!tokenizer_open_json(&tok, s.data, s.len, "t.json", &err)) {
            tokenizer_encode(tok, "hello <s> we\u0301 é  w", 19, SPECIALS_AUTO, &t, &err);
            tokenizer_free(tok);
        }
        s.data[at] = was;
    }
    tokens_release(&t);
    strbuf_release(&s);
}

/* A GGUF with byte letters a, b, their merge, <s>; what is NULL or -1 stays out. */
struct gguf_parts {
    const char *model, *pre, *merge;
    int bos, add_bos, n_types, type;
};

static int open_gguf(struct tokenizer **tok, struct gguf_parts p, struct err *err)
{
    static const char *const texts[] = { "a", "b", "ab", "<s>" };
    struct gguf_maker g = { .version = 3, .alignment = 32 };
    struct strbuf types = STRBUF_INIT;
    if (p.model)
        gguf_put_string(&g, "tokenizer.ggml.model", p.model);
    if (p.pre)
        gguf_put_string(&g, "tokenizer.ggml.pre", p.pre);
    gguf_put_strings(&g, "tokenizer.ggml.tokens", texts, 4);
    gguf_number(&types, 5, 4);
    gguf_number(&types, (uint64_t)p.n_types, 8);
    for (int i = 0; i < p.n_types; i++)
        gguf_number(&types, i == 3 ? (uint64_t)p.type : 1, 4);
    gguf_put(&g, "tokenizer.ggml.token_type", 9, types.data, types.len);
    gguf_put_strings(&g, "tokenizer.ggml.merges", &p.merge, p.merge != NULL);
    if (p.bos >= 0)
        gguf_put_u32(&g, "tokenizer.ggml.bos_token_id", (uint32_t)p.bos);
    if (p.add_bos >= 0)
        gguf_put_bool(&g, "tokenizer.ggml.add_bos_token", (unsigned char)p.add_bos);
    struct strbuf bytes = gguf_made(&g);
    struct file_map map;
    struct gguf *file = NULL;
    assert_int_equal(file_map_memory(&map, "t.gguf", bytes.data, bytes.len, err), 0);
    assert_int_equal(gguf_open(&file, &map, err), 0);
    int rc = tokenizer_open_gguf(tok, file, err);
    gguf_free(file);
    strbuf_release(&bytes);
    strbuf_release(&types);
    return rc;
}

static void gguf_faults_are_named(void **state)
{
    (void)state;
    static const struct {
        struct gguf_parts parts;
        const char *message;
    } bad[] = {
        { { NULL, "gpt-2", "a b", 3, 0, 4, 3 }, "key tokenizer.ggml.model is missing" },
        { { "llama", "gpt-2", "a b", 3, 0, 4, 3 }, "tokenizer.ggml.model is 'llama'; only gpt2" },
        { { "bert", "gpt-2", "a b", 3, 0, 4, 3 }, "tokenizer.ggml.model is 'bert'" },
        { { "gpt2", NULL, "a b", 3, 0, 4, 3 }, "key tokenizer.ggml.pre is missing" },
        { { "gpt2", "default", "a b", 3, 0, 4, 3 },
          "'default' (tokenizer.ggml.pre) is not known; known are gpt-2, smollm" },
        { { "gpt2", "gpt-2", NULL, 3, 0, 4, 3 }, "tokenizer.ggml.merges is missing or empty" },
        { { "gpt2", "gpt-2", "ab", 3, 0, 4, 3 }, "merge 0, 'ab', is not two tokens" },
        { { "gpt2", "gpt-2", "b a", 3, 0, 4, 3 }, "the result is not in the vocabulary" },
        { { "gpt2", "gpt-2", "a b", 4, 0, 4, 3 }, "bos_token_id is 4, it must be from 0 to 3" },
        { { "gpt2", "gpt-2", "a b", -1, 1, 4, 3 }, "adds BOS, but key tokenizer.ggml.bos_token_id is missing" },
        { { "gpt2", "llama-bpe", "a b", -1, -1, 4, 3 }, "adds BOS" },
        { { "gpt2", "gpt-2", "a b", 3, 0, 3, 3 }, "has 4 tokens but 3 token types" },
        { { "gpt2", "gpt-2", "a b", 3, 0, 4, 9 }, "token_type[3] is 9" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct tokenizer *tok = NULL;
        struct err err = { 0 };
        if (!open_gguf(&tok, bad[i].parts, &err))
            fail_msg("opened in spite of: %s", bad[i].message);
        if (strncmp(err.msg, "t.gguf: ", 8) || !strstr(err.msg, bad[i].message))
            fail_msg("the message is '%s', not '%s'", err.msg, bad[i].message);
    }
}

static void gguf_says_whether_bos_is_added(void **state)
{
    (void)state;
    static const struct {
        const char *pre;
        int add_bos;
        bool added;
    } cases[] = { { "gpt-2", -1, false },    { "gpt-2", 1, true },   { "llama-bpe", -1, true },
                  { "llama-bpe", 0, false }, { "qwen2", -1, false }, { "smollm", -1, false } };
    struct tokens t = { 0 };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tokenizer *tok = NULL;
        struct err err = { 0 };
        if (open_gguf(&tok, (struct gguf_parts){ "gpt2", cases[i].pre, "a b", 3, cases[i].add_bos, 4, 3 }, &err))
            fail_msg("%s", err.msg);
        encode(tok, "ab<s>", SPECIALS_AUTO, &t);
        size_t at = cases[i].added;
        assert_int_equal(t.n, 2 + at);
        assert_int_equal(t.id[0], at ? 3 : 2);
        assert_int_equal(t.id[at], 2);
        assert_int_equal(t.id[at + 1], 3);
        assert_true(tokenizer_is_special(tok, 3));
        assert_int_equal(tokenizer_bos(tok), 3);
        tokenizer_free(tok);
    }
    tokens_release(&t);
}

static void unused_gguf_tokens_have_no_bytes(void **state)
{
    (void)state;
    struct tokenizer *tok = NULL;
    struct err err = { 0 };
    size_t len;
    if (open_gguf(&tok, (struct gguf_parts){ "gpt2", "gpt-2", "a b", -1, -1, 4, 5 }, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(tokenizer_size(tok), 3);
    assert_null(tokenizer_bytes(tok, 3, &len));
    assert_int_equal(tokenizer_find(tok, "<s>", 3), -1);
    tokenizer_free(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_apply_in_both_spellings),
        cmocka_unit_test(bpe_equals_the_naive_oracle),
        cmocka_unit_test(long_words_take_no_quadratic_time),
        cmocka_unit_test(spans_lead_through_nfc_to_the_input),
        cmocka_unit_test(a_prefixed_space_is_an_empty_span),
        cmocka_unit_test(ids_and_bytes_lead_to_each_other),
        cmocka_unit_test(bos_is_never_doubled),
        cmocka_unit_test(bytes_without_a_token_are_counted),
        cmocka_unit_test(texts_that_are_no_utf8_are_refused),
        cmocka_unit_test(vocabularies_that_are_wrong_are_refused),
        cmocka_unit_test(merges_that_are_wrong_are_refused),
        cmocka_unit_test(settings_that_change_the_result_are_refused),
        cmocka_unit_test(components_that_are_unknown_are_named),
        cmocka_unit_test(regexes_that_engines_read_differently_are_refused),
        cmocka_unit_test(catastrophic_regexes_end_in_an_error),
        cmocka_unit_test(added_tokens_that_are_wrong_are_refused),
        cmocka_unit_test(templates_that_are_wrong_are_refused),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(truncated_files_are_refused),
        cmocka_unit_test(damaged_files_do_no_harm),
        cmocka_unit_test(gguf_faults_are_named),
        cmocka_unit_test(gguf_says_whether_bos_is_added),
        cmocka_unit_test(unused_gguf_tokens_have_no_bytes),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
