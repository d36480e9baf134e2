/* Tokenizers: BPE against a naive oracle, spans under NFC, BOS, look-ups, threads, texts that are no text. */
#include "tests/unit/make_tokenizer.h"

#include <pthread.h>

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
    /* e + U+0301 becomes U+00E9 (2 bytes), which stands for e: as in `tokenizers`, the mark is left out. */
    encode(tok, "ae\u0301b", SPECIALS_AUTO, &t);
    check(&t, 4, (const int32_t[][3]){ { 'a', 0, 1 }, { 0xc3, 1, 2 }, { 0xa9, 1, 2 }, { 'b', 4, 5 } });
    /* U+0958 decomposes for good into two characters of 3 bytes, each of which stands for the whole of it. */
    encode(tok, "\u0958x", SPECIALS_AUTO, &t);
    check(&t, 7,
          (const int32_t[][3]){ { 0xe0, 0, 3 },
                                { 0xa4, 0, 3 },
                                { 0x95, 0, 3 },
                                { 0xe0, 0, 3 },
                                { 0xa4, 0, 3 },
                                { 0xbc, 0, 3 },
                                { 'x', 3, 4 } });
    /* Already normalized text keeps its bytes. */
    encode(tok, "\u00e9", SPECIALS_AUTO, &t);
    check(&t, 2, (const int32_t[][3]){ { 0xc3, 0, 1 }, { 0xa9, 1, 2 } });
    /* Marks are ordered (U+0323 before U+0301) and the base takes the first of them. */
    encode(tok, "q\u0301\u0323", SPECIALS_AUTO, &t);
    check(&t, 5, (const int32_t[][3]){ { 'q', 0, 1 }, { 0xcc, 1, 3 }, { 0xa3, 1, 3 }, { 0xcc, 3, 5 }, { 0x81, 3, 5 } });
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

static void ids_and_bytes_lead_to_each_other(void **state)
{
    (void)state;
    struct tokenizer *tok = open_good((struct parts){ .added = TWO_ADDED });
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

static void bos_is_never_doubled(void **state)
{
    (void)state;
    struct tokenizer *plain = open_good((struct parts){ .added = TWO_ADDED });
    struct tokenizer *adds =
        open_good((struct parts){ .added = TWO_ADDED, .post = TEMPLATE(TOKEN_S "," TEXT_A, "261") });
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

enum { N_THREADS = 4 };
struct thread_job {
    const struct tokenizer *tok;
    struct tokens tokens;
    int rc;
};

static void *encode_in_thread(void *arg)
{
    struct thread_job *job = arg;
    static const char text[] = "hello world, <s> he\u0301llo 'S  wo";
    struct err err = { 0 };
    for (int i = 0; i < 500 && !job->rc; i++)
        job->rc = tokenizer_encode(job->tok, text, sizeof text - 1, SPECIALS_AUTO, &job->tokens, &err);
    return NULL;
}

static void threads_may_share_a_tokenizer(void **state)
{
    (void)state;
    struct tokenizer *tok = open_good((struct parts){ .added = TWO_ADDED, .normalizer = "{\"type\":\"NFC\"}" });
    struct thread_job jobs[N_THREADS] = { { 0 } };
    pthread_t threads[N_THREADS];
    for (int i = 0; i < N_THREADS; i++) {
        jobs[i].tok = tok;
        assert_int_equal(pthread_create(&threads[i], NULL, encode_in_thread, &jobs[i]), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(jobs[i].rc, 0);
        assert_int_equal(jobs[i].tokens.n, jobs[0].tokens.n);
        assert_memory_equal(jobs[i].tokens.id, jobs[0].tokens.id, jobs[0].tokens.n * sizeof *jobs[0].tokens.id);
    }
    for (int i = 0; i < N_THREADS; i++)
        tokens_release(&jobs[i].tokens);
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
        cmocka_unit_test(gguf_says_whether_bos_is_added),
        cmocka_unit_test(unused_gguf_tokens_have_no_bytes),
        cmocka_unit_test(threads_may_share_a_tokenizer),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
