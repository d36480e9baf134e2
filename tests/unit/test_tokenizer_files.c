/* Tokenizer files that are wrong or hostile: each is refused with a line that says what is wrong, in bounded time. */
#include "core/base/mem.h"
#include "tests/unit/make_tokenizer.h"

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
    expect((struct parts){ .normalizer = "{\"type\":\"Uppercase\"}" },
           "normalizer \"Uppercase\" is not supported; supported are NFC");
    expect((struct parts){ .pre = "{\"type\":\"Whitespaces\"}" }, "pre_tokenizer \"Whitespaces\" is not supported");
    expect((struct parts){ .post = "{\"type\":\"XlmProcessing\"}" }, "post_processor \"XlmProcessing\"");
    expect((struct parts){ .decoder = "{\"type\":\"CTC\"}" }, "decoder \"CTC\" is not supported");
    expect((struct parts){ .normalizer = "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Wave\"}]}" }, "\"Wave\"");
    expect((struct parts){ .normalizer = "{\"type\":\"NFC\",\"twist\":1}" }, "has the key \"twist\"");
    expect((struct parts){ .normalizer = "{\"typ\":\"NFC\"}" }, "a normalizer has no \"type\"");
    expect((struct parts){ .normalizer = "{\"type\":7}" }, "\"type\" must be a string");
    expect((struct parts){ .normalizer = "[]" }, "normalizer must be an object or null");
    expect((struct parts){ .normalizer = "{\"type\":\"Sequence\"}" }, "has no list of components");
    expect((struct parts){ .pre = "null", .decoder = BYTE_LEVEL },
           "decoder ByteLevel: without the pre-tokenizer ByteLevel");
    expect((struct parts){ .pre = "{\"type\":\"ByteLevel\"}" }, "\"add_prefix_space\" must be true or false");
    expect((struct parts){ .pre = "{\"type\":\"Sequence\",\"pretokenizers\":[" BYTE_LEVEL "," BYTE_LEVEL "]}" },
           "a pre-tokenizer ByteLevel or Metaspace after ByteLevel");
    expect((struct parts){ .top = "\"extra\":1," }, "the key \"extra\" is not known");
    expect((struct parts){ .top = "\"normalizer\":null," }, "has the key \"normalizer\" twice");
    expect((struct parts){ .top = "\"version\":\"1.0\"," }, "has the key \"version\" twice");
    EXPECT_TEXT("{\"version\":\"2.0\",\"model\":{}}", "the version must be \"1.0\"");
    EXPECT_TEXT("{\"model\":{\"type\":\"WordLevel\",\"vocab\":[]}}", "model \"WordLevel\" is not supported");
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
    static const char *const parts[] = { "\\w+",     "\\bx",    "a\\h",    "\\R",          "\\X",         "\\K",
                                         "\\p{Han}", "\\p{^L}", "\\pL",    "[a[^b]]",      "[[:alpha:]]", "[a&&b]",
                                         "(?i)a",    "(?m:a)",  "(*UTF)a", "a{,3}",        "a{2,3}+",     "\\1",
                                         "(?R)",     "(?<n>a)", "\\xff",   "[\\P{L}]",     "[]a]",        "\\v",
                                         "\\p{Cn}",  "\\C",     "\\Q",     "[\\s-\u4e00]", "[a-\\s]",     "[\\p{N}-z]",
                                         "(?" };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        expect_split(parts[i], ISOLATED, "which is not supported");
    struct strbuf pre = split_json("[-\\s]+|[^\\s\\p{L}-]+|[+-]|\\u4e00|\\x{4e00}|\\d\\D|\\P{L}", ISOLATED);
    tokenizer_free(open_good((struct parts){ .pre = strbuf_text(&pre) }));
    strbuf_release(&pre);
    expect_split("a(b", ISOLATED, "cannot be compiled: missing closing parenthesis");
    expect_split("[a", ISOLATED, "has a class without its end");
    expect_split("*a", ISOLATED, "cannot be compiled");
    expect_split("", ISOLATED, "that is not empty");
    expect_split("[a-[b]]", ISOLATED, "a range with a class at its end");
    expect_split("[[a]-b]", ISOLATED, "a range with a class at its end");
    expect_split("[a[]]", ISOLATED, "at the start of a class inside a class");
    expect_split("[a[b]", ISOLATED, "has a class without its end");
    expect_split("a", "\"behavior\":\"Reversed\",\"invert\":false", "the behavior must be Isolated, Removed,");
    expect_split("a", "\"invert\":false", "the behavior must be Isolated, Removed,");
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

/* No match takes many steps, but each looks at the rest of the text, in vain or for the place behind it. */
static void quadratic_regexes_end_in_an_error(void **state)
{
    (void)state;
    enum { LENGTH = 2000000 };
    static const char *const patterns[] = { "a*[bc]", "a(?!a*[bc])|a" };
    char *text = mem_array(LENGTH, 1);
    assert_non_null(text);
    memset(text, 'a', LENGTH);
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        struct strbuf pre = split_json(patterns[i], ISOLATED);
        struct tokenizer *tok = open_good((struct parts){ .pre = strbuf_text(&pre) });
        struct tokens t = { 0 };
        struct err err = { 0 };
        assert_int_equal(tokenizer_encode(tok, text, LENGTH, SPECIALS_AUTO, &t, &err), ERR_UNSUPPORTED);
        assert_non_null(strstr(err.msg, "takes too long on this text"));
        tokens_release(&t);
        tokenizer_free(tok);
        strbuf_release(&pre);
    }
    free(text);
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
    const char *added = TWO_ADDED;
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
    static const char *const pairs[] = { "[\"<s>\",7]",    "[\"<s>\",900]", "[\"<s>\",-1]",  "[\"<t>\",261]",
                                         "[\"<s>\",\"\"]", "[\"<s>\"]",     "[261,\"<s>\"]", "null" };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct strbuf post = STRBUF_INIT;
        strbuf_addf(&post, "{\"type\":\"BertProcessing\",\"cls\":[\"<s>\",261],\"sep\":%s}", pairs[i]);
        expect((struct parts){ .added = added, .post = strbuf_text(&post) },
               "post_processor: key \"sep\" must be a token of the vocabulary and its id");
        strbuf_release(&post);
    }
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
    struct strbuf s = json_of((struct parts){ .added = TWO_ADDED, .post = TEMPLATE(TOKEN_S "," TEXT_A, "261") });
    for (size_t n = 0; n < s.len; n += 7)
        expect_text(s.data, n, "");
    strbuf_release(&s);
}

/* Single bytes changed at random: opens or fails cleanly, and what opens encodes or fails cleanly. */
static void damaged_files_do_no_harm(void **state)
{
    (void)state;
    struct strbuf s = json_of((struct parts){ .added = TWO_ADDED, .normalizer = "{\"type\":\"NFC\"}" });
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

static void gguf_faults_are_named(void **state)
{
    (void)state;
    static const struct {
        struct gguf_parts parts;
        const char *message;
    } bad[] = {
        { { NULL, "gpt-2", "a b", 3, 0, 4, 3 }, "key tokenizer.ggml.model is missing" },
        { { "rwkv", "gpt-2", "a b", 3, 0, 4, 3 }, "tokenizer.ggml.model is 'rwkv'; supported in GGUF files are gpt2" },
        { { "bert", "gpt-2", "a b", 3, 0, 4, 3 }, "'gpt-2' (tokenizer.ggml.pre) is not known for the model bert" },
        { { "bert", NULL, NULL, 3, 0, 4, 3 },
          "has neither the key tokenizer.ggml.unknown_token_id nor a token '[UNK]'" },
        { { "gpt2", NULL, "a b", 3, 0, 4, 3 }, "key tokenizer.ggml.pre is missing" },
        { { "gpt2", "default", "a b", 3, 0, 4, 3 },
          "'default' (tokenizer.ggml.pre) is not known; known are gpt-2, phi-2, olmo, mpt" },
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

/* Every name that llama.cpp's converter gives to one of the families' tokenizers. */
static void gguf_pre_tokenizers_are_known(void **state)
{
    (void)state;
    static const char *const names[] = {
        "gpt-2",     "phi-2",  "olmo",   "mpt",       "roberta-bpe", "modern-bert", "smollm",
        "starcoder", "refact", "falcon", "command-r", "bloom",       "llama3",      "llama-bpe",
        "smaug-bpe", "dbrx",   "tekken", "gpt-4o",    "qwen2",       "stablelm2",   "deepseek-r1-qwen"
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct tokenizer *tok = NULL;
        struct err err = { 0 };
        int rc = open_gguf(&tok, (struct gguf_parts){ "gpt2", names[i], "a b", 3, 0, 0, 3 }, &err);
        /* Encoders put EOS behind a text, which this file lacks. */
        if (rc && !strstr(err.msg, "the tokenizer adds EOS, but key tokenizer.ggml.eos_token_id is missing"))
            fail_msg("%s: %s", names[i], err.msg);
        tokenizer_free(tok);
    }
}

/* A GGUF of the model bert; lowercase: -1 stays out. */
static int open_gguf_bert(struct tokenizer **tok, const char *const texts[], size_t n, int lowercase, struct err *err)
{
    struct gguf_maker g = { .version = 3, .alignment = 32 };
    gguf_put_string(&g, "tokenizer.ggml.model", "bert");
    gguf_put_strings(&g, "tokenizer.ggml.tokens", texts, n);
    if (lowercase >= 0)
        gguf_put_bool(&g, "tokenizer.ggml.normalizer.lowercase", (unsigned char)lowercase);
    struct strbuf bytes = gguf_made(&g);
    struct file_map map;
    struct gguf *file = NULL;
    assert_int_equal(file_map_memory(&map, "t.gguf", bytes.data, bytes.len, err), 0);
    assert_int_equal(gguf_open(&file, &map, err), 0);
    int rc = tokenizer_open_gguf(tok, file, err);
    gguf_free(file);
    strbuf_release(&bytes);
    return rc;
}

static void gguf_bert_says_whether_case_is_kept(void **state)
{
    (void)state;
    static const char *const texts[] = { "[UNK]", "[CLS]", "[SEP]", "\u2581Paris", "\u2581paris", "", "s" };
    struct tokenizer *tok = NULL;
    struct tokens t = { 0 };
    struct err err = { 0 };
    assert_int_not_equal(open_gguf_bert(&tok, texts, 7, -1, &err), 0);
    assert_non_null(strstr(err.msg, "has the token 'Paris', but does not say whether text is put into lower case"));
    for (int lowercase = 0; lowercase < 2; lowercase++) {
        assert_int_equal(open_gguf_bert(&tok, texts, 7, lowercase, &err), 0);
        assert_int_equal(tokenizer_encode(tok, "Pariss", 6, SPECIALS_AUTO, &t, &err), 0);
        assert_int_equal(t.n, 4);
        assert_true(t.id[0] == 1 && t.id[1] == 3 + lowercase && t.id[2] == 6 && t.id[3] == 2);
        tokenizer_free(tok);
    }
    assert_int_not_equal(open_gguf_bert(&tok, texts, 2, 1, &err), 0);
    assert_non_null(strstr(err.msg, "nor a token '[SEP]'"));
    tokens_release(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vocabularies_that_are_wrong_are_refused),
        cmocka_unit_test(merges_that_are_wrong_are_refused),
        cmocka_unit_test(settings_that_change_the_result_are_refused),
        cmocka_unit_test(components_that_are_unknown_are_named),
        cmocka_unit_test(regexes_that_engines_read_differently_are_refused),
        cmocka_unit_test(catastrophic_regexes_end_in_an_error),
        cmocka_unit_test(quadratic_regexes_end_in_an_error),
        cmocka_unit_test(added_tokens_that_are_wrong_are_refused),
        cmocka_unit_test(templates_that_are_wrong_are_refused),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(truncated_files_are_refused),
        cmocka_unit_test(damaged_files_do_no_harm),
        cmocka_unit_test(gguf_faults_are_named),
        cmocka_unit_test(gguf_pre_tokenizers_are_known),
        cmocka_unit_test(gguf_bert_says_whether_case_is_kept),
    };
    return cmocka_run_group_tests_name("tokenizer_files", tests, NULL, NULL);
}
