/*
 * Folders without tokenizer.json: vocab.txt, or vocab.json and merges.txt, made from the tokenizers of
 * make_family_references.py, give what the `tokenizers` library makes of the whole; what is wrong in them is named.
 */
#include "core/base/json.h"
#include "core/base/strbuf.h"
#include "tests/golden/tokenizer_cases.h"

/* The files of a folder; NULL or "": absent. */
struct folder {
    const char *vocab, *merges, *config, *specials, *added, *model_type;
};

static json_t *parsed(const char *text)
{
    json_t *json = NULL;
    struct err err = { 0 };
    if (text && json_parse(text, strlen(text), "settings", &json, &err))
        fail_msg("%s", err.msg);
    return json;
}

static int open_folder(struct tokenizer **tok, struct folder folder, struct err *err)
{
    json_t *config = parsed(folder.config), *specials = parsed(folder.specials), *added = parsed(folder.added);
    struct tokenizer_files files = { .config = config, .specials = specials, .added = added };
    files.vocab = (struct tokenizer_file){ folder.vocab, "vocab.txt", strlen(folder.vocab) };
    if (folder.merges)
        files.merges = (struct tokenizer_file){ folder.merges, "merges.txt", strlen(folder.merges) };
    files.model_type = folder.model_type;
    int rc = tokenizer_open_files(tok, &files, err);
    json_decref(config);
    json_decref(specials);
    json_decref(added);
    return rc;
}

static struct tokenizer *open_good(struct folder folder)
{
    struct tokenizer *tok = NULL;
    struct err err = { 0 };
    if (open_folder(&tok, folder, &err))
        fail_msg("%s", err.msg);
    return tok;
}

static void expect(struct folder folder, const char *message)
{
    struct tokenizer *tok = NULL;
    struct err err = { 0 };
    int rc = open_folder(&tok, folder, &err);
    if (!rc)
        fail_msg("opened in spite of: %s", message);
    assert_int_equal(rc, err.code);
    if (!strstr(err.msg, message))
        fail_msg("the message is '%s', not '%s'", err.msg, message);
}

static json_t *model_of(const char *name, json_t **root)
{
    struct file_map map = map_file(name, ".json");
    struct err err = { 0 };
    assert_int_equal(json_parse(map.data, map.size, map.name, root, &err), 0);
    file_map_close(&map);
    return json_object_get(*root, "model");
}

static struct strbuf lines_of(const char *name)
{
    json_t *root, *vocab = json_object_get(model_of(name, &root), "vocab"), *id;
    const char **texts = calloc(json_object_size(vocab), sizeof *texts), *text;
    struct strbuf s = STRBUF_INIT;
    assert_non_null(texts);
    json_object_foreach(vocab, text, id)
    {
        texts[json_integer_value(id)] = text;
    }
    for (size_t i = 0; i < json_object_size(vocab); i++)
        strbuf_addf(&s, "%s\n", texts[i]);
    free(texts);
    json_decref(root);
    return s;
}

static void byte_level_files_of(const char *name, struct strbuf *vocab, struct strbuf *merges)
{
    json_t *root, *model = model_of(name, &root), *list = json_object_get(model, "merges");
    char *text = json_dumps(json_object_get(model, "vocab"), JSON_COMPACT);
    *vocab = *merges = (struct strbuf)STRBUF_INIT;
    strbuf_adds(vocab, text);
    strbuf_adds(merges, "#version: 0.2\n");
    for (size_t i = 0; i < json_array_size(list); i++)
        strbuf_addf(merges, "%s %s\n", json_string_value(json_array_get(json_array_get(list, i), 0)),
                    json_string_value(json_array_get(json_array_get(list, i), 1)));
    free(text);
    json_decref(root);
}

/* Texts that come out otherwise, special tokens around them included. */
static size_t count_differences(const char *name, const struct tokenizer *tok)
{
    struct cases c = cases_open(name);
    struct tokens got = { 0 };
    size_t n = 0;
    for (size_t i = 0; i < c.n; i++) {
        cases_next(&c);
        encode(tok, &c.now, SPECIALS_NONE, &got);
        bool differs = first_difference(&got, &c.now.want) != SIZE_MAX;
        encode(tok, &c.now, SPECIALS_AUTO, &got);
        differs |= got.n != c.n_before + c.now.want.n + c.n_after ||
                   memcmp(got.id, c.before, c.n_before * sizeof *got.id) ||
                   memcmp(got.id + got.n - c.n_after, c.after, c.n_after * sizeof *got.id);
        n += differs;
    }
    tokens_release(&got);
    cases_close(&c);
    return n;
}

static void vocab_txt_equals_the_library(void **state)
{
    (void)state;
    static const struct {
        const char *config, *specials;
        bool equal;
    } settings[] = {
        { NULL, NULL, true },
        { "{\"do_lower_case\":true,\"tokenizer_class\":\"BertTokenizerFast\",\"strip_accents\":null}",
          "{\"unk_token\":\"[UNK]\",\"mask_token\":{\"content\":\"[MASK]\",\"normalized\":false}}", true },
        { "{\"do_lower_case\":false}", NULL, false },
        { "{\"strip_accents\":false}", NULL, false },
        { "{\"tokenize_chinese_chars\":false}", NULL, false },
        { NULL, "{\"mask_token\":\"[UNK]\"}", false },
        { NULL, "{\"sep_token\":\"[CLS]\"}", false },
    };
    struct strbuf vocab = lines_of("bert");
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        struct folder folder = { strbuf_text(&vocab), NULL, settings[i].config, settings[i].specials, NULL, "bert" };
        struct tokenizer *tok = open_good(folder);
        size_t n = count_differences("bert", tok);
        if (settings[i].equal ? n > 0 : !n)
            fail_msg("settings %zu: %zu texts differ", i, n);
        tokenizer_free(tok);
    }
    strbuf_release(&vocab);
}

static void vocab_json_and_merges_txt_equal_the_library(void **state)
{
    (void)state;
    static const struct {
        const char *config;
        bool equal;
    } settings[] = {
        { NULL, true },
        { "{\"tokenizer_class\":\"RobertaTokenizer\",\"add_prefix_space\":false}", true },
        { "{\"add_prefix_space\":true}", false },
        { "{\"mask_token\":{\"content\":\"<mask>\",\"lstrip\":false}}", false },
    };
    struct strbuf vocab, merges;
    byte_level_files_of("roberta", &vocab, &merges);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        struct tokenizer *tok = open_good(
            (struct folder){ strbuf_text(&vocab), strbuf_text(&merges), settings[i].config, NULL, NULL, "roberta" });
        size_t n = count_differences("roberta", tok);
        if (settings[i].equal ? n > 0 : !n)
            fail_msg("settings %zu: %zu texts differ", i, n);
        tokenizer_free(tok);
    }
    strbuf_release(&vocab);
    strbuf_release(&merges);
}

#define WORDS "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nparis\n##s\n"
#define LETTERS "{\"a\":0,\"b\":1,\"ab\":2,\"</s>\":3}"

static void special_and_added_tokens_come_from_the_settings(void **state)
{
    (void)state;
    struct err err = { 0 };
    struct tokens t = { 0 };
    struct tokenizer *tok =
        open_good((struct folder){ LETTERS, "a b\n",
                                   "{\"add_bos_token\":true,\"bos_token\":\"</s>\",\"eos_token\":\"</s>\","
                                   "\"unk_token\":null}",
                                   NULL, "{\"  \":4,\"<x>\":5}", "opt" });
    assert_int_equal(tokenizer_encode(tok, "ab  ab<x>", 9, SPECIALS_AUTO, &t, &err), 0);
    static const int32_t want[] = { 3, 2, 4, 2, 5 };
    assert_int_equal(t.n, 5);
    assert_memory_equal(t.id, want, sizeof want);
    assert_int_equal(tokenizer_bos(tok), 3);
    assert_false(tokenizer_is_special(tok, 5));
    tokenizer_free(tok);

    tok = open_good((struct folder){ WORDS, NULL,
                                     "{\"added_tokens_decoder\":{\"8\":{\"content\":\"<z>\",\"special\":false},"
                                     "\"4\":{\"content\":\"[MASK]\",\"lstrip\":true,\"special\":true},"
                                     "\"7\":{\"content\":\"<y>\",\"special\":true}}}",
                                     "{\"mask_token\":\"paris\"}", NULL, "distilbert" });
    assert_int_equal(tokenizer_encode(tok, "pariss [MASK]<y><z>", 19, SPECIALS_NONE, &t, &err), 0);
    static const int32_t tokens[] = { 5, 6, 4, 7, 8 };
    assert_int_equal(t.n, 5);
    assert_memory_equal(t.id, tokens, sizeof tokens);
    assert_true(tokenizer_is_special(tok, 7));
    tokenizer_free(tok);

    /* Lines that end in CR LF, an empty one, none after the last. */
    tok = open_good(
        (struct folder){ "[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\n\r\n[MASK]\r\nparis", NULL, NULL, NULL, NULL, "bert" });
    assert_int_equal(tokenizer_encode(tok, "paris [MASK]", 12, SPECIALS_NONE, &t, &err), 0);
    assert_true(t.n == 2 && t.id[0] == 6 && t.id[1] == 5);
    tokenizer_free(tok);
    tokens_release(&t);
}

static void what_is_wrong_is_named(void **state)
{
    (void)state;
    const char *type = "bert";
    expect((struct folder){ WORDS, NULL, NULL, NULL, NULL, "bloom" }, "of type \"bloom\" needs a tokenizer.json");
    expect((struct folder){ WORDS, NULL, NULL, NULL, NULL, NULL }, "of type \"\" needs a tokenizer.json");
    expect((struct folder){ LETTERS, "a b\n", NULL, NULL, NULL, type }, "has a vocab.txt, not a vocab.json");
    expect((struct folder){ LETTERS, NULL, NULL, NULL, NULL, "gpt2" }, "has a vocab.json and a merges.txt");
    expect((struct folder){ WORDS, NULL, "{\"tokenizer_class\":\"BertJapaneseTokenizer\"}", NULL, NULL, type },
           "\"BertJapaneseTokenizer\", without a tokenizer.json only BertTokenizer");
    expect((struct folder){ WORDS, NULL, "{\"do_basic_tokenize\":false}", NULL, NULL, type },
           "\"do_basic_tokenize\": false");
    expect((struct folder){ WORDS, NULL, "{\"never_split\":[\"a\"]}", NULL, NULL, type }, "\"never_split\"");
    expect((struct folder){ WORDS, NULL, "{\"do_lower_case\":1}", NULL, NULL, type }, "\"do_lower_case\" must be true");
    expect((struct folder){ WORDS, NULL, "{\"add_bos_token\":true}", NULL, NULL, type }, "or BOS or EOS in addition");
    expect((struct folder){ WORDS, NULL, "{\"cls_token\":null}", NULL, NULL, type }, "puts no cls_token and sep_token");
    expect((struct folder){ WORDS, NULL, "{\"cls_token\":7}", NULL, NULL, type },
           "\"cls_token\" in its settings is no token");
    expect((struct folder){ WORDS, NULL, "{\"unk_token\":\"<u>\"}", NULL, NULL, type },
           "unk_token '<u>' is not in the voc");
    expect((struct folder){ WORDS "paris\n", NULL, NULL, NULL, NULL, type },
           "token 'paris' is given twice, as 5 and as 7");
    expect((struct folder){ WORDS "\xff\n", NULL, NULL, NULL, NULL, type }, "line 8 is not valid UTF-8");
    expect((struct folder){ "", NULL, NULL, NULL, NULL, type }, "unk_token '[UNK]' is not in the vocabulary");
    expect((struct folder){ LETTERS, "a b\na\n", NULL, NULL, NULL, "gpt2" }, "merges.txt: line 2 is not two tokens");
    expect((struct folder){ LETTERS, "a b c\n", NULL, NULL, NULL, "gpt2" }, "merges.txt: line 1 is not two tokens");
    expect((struct folder){ LETTERS, "b a\n", NULL, NULL, NULL, "gpt2" },
           "merges.txt: merge 0, 'b' with 'a': the result");
    expect((struct folder){ "{\"a\":0,", "a b\n", NULL, NULL, NULL, "gpt2" }, "vocab.txt: ");
    expect((struct folder){ LETTERS, "a b\n", NULL, NULL, "{\"<x>\":9}", "gpt2" },
           "has id 9 where 4 is the next free one");
    expect((struct folder){ LETTERS, "a b\n", NULL, NULL, "{\"<x>\":\"9\"}", "gpt2" },
           "\"<x>\" in its settings has no id");
    expect((struct folder){ LETTERS, "a b\n", "{\"added_tokens_decoder\":{\"x\":{\"content\":\"<x>\"}}}", NULL, NULL,
                            "gpt2" },
           "\"x\" in its settings has no id");
}

/* No file may be read beyond its end, whatever is in it. */
static void damaged_files_do_no_harm(void **state)
{
    (void)state;
    struct strbuf words = lines_of("bert");
    unsigned seed = 7;
    for (int round = 0; round < 300; round++) {
        struct tokenizer *tok = NULL;
        struct err err = { 0 };
        char *copy = strdup(strbuf_text(&words));
        assert_non_null(copy);
        for (int k = 0; k < 3; k++) {
            seed = seed * 1664525u + 1013904223u;
            copy[(seed >> 8) % words.len] = (char)(seed >> 4 & 0xff);
        }
        if (!open_folder(&tok, (struct folder){ copy, NULL, NULL, NULL, NULL, "bert" }, &err))
            tokenizer_free(tok);
        else
            assert_true(err.msg[0]);
        free(copy);
    }
    strbuf_release(&words);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vocab_txt_equals_the_library),
        cmocka_unit_test(vocab_json_and_merges_txt_equal_the_library),
        cmocka_unit_test(special_and_added_tokens_come_from_the_settings),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(damaged_files_do_no_harm),
    };
    return cmocka_run_group_tests_name("tokenizer_folders", tests, NULL, NULL);
}
