/* Fact files in every format: what is read, and one clear refusal for everything else. */
#include "core/base/file.h"
#include "core/base/strbuf.h"
#include "core/formats/facts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/strata-facts-XXXXXX";

static const char *write_bytes(const char *name, const void *bytes, size_t n)
{
    static char path[256];
    struct err err = { 0 };
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (file_write(path, bytes, n, &err))
        fail_msg("%s", err.msg);
    return path;
}

/* "id|prompt|subject|answer|relation|alias,alias|answer token|first or last|line" of every fact, one a line. */
static int render(const char *path, struct strbuf *out, struct err *err)
{
    struct facts *facts;
    struct fact fact;
    int got = facts_open(&facts, path, err);
    if (got)
        return got;
    while ((got = facts_next(facts, &fact, err)) > 0) {
        strbuf_addf(out, "%s|", fact.id);
        if (fact.prompt)
            strbuf_adds(out, fact.prompt);
        for (size_t i = 0; i < fact.n_tokens; i++)
            strbuf_addf(out, "%s%d", i ? "," : "#", (int)fact.tokens[i]);
        strbuf_addf(out, "|%s|%s|%s|", fact.subject ? fact.subject : "-", fact.answer ? fact.answer : "-",
                    fact.relation ? fact.relation : "-");
        for (size_t i = 0; i < fact.n_aliases; i++)
            strbuf_addf(out, "%s%s", i ? "," : "", fact.aliases[i]);
        strbuf_addf(out, "|%d|%s|%zu\n", (int)fact.answer_token, fact.subject_occurrence_last ? "last" : "first",
                    fact.line);
    }
    facts_close(facts);
    return got;
}

static void assert_reads_bytes(const char *name, const char *bytes, size_t n, const char *wanted)
{
    struct strbuf got = STRBUF_INIT;
    struct err err = { 0 };
    if (render(write_bytes(name, bytes, n), &got, &err))
        fail_msg("%s: %s", name, err.msg);
    assert_string_equal(strbuf_text(&got), wanted);
    strbuf_release(&got);
}

static void assert_reads(const char *name, const char *text, const char *wanted)
{
    assert_reads_bytes(name, text, strlen(text), wanted);
}

static void assert_refused_bytes(const char *name, const char *bytes, size_t n, const char *message)
{
    struct strbuf got = STRBUF_INIT;
    struct err err = { 0 };
    const char *path = write_bytes(name, bytes, n);
    int rc = render(path, &got, &err);
    if (!rc)
        fail_msg("accepted %s, but should say: %s", name, message);
    assert_int_equal(rc, err.code);
    assert_true(!strncmp(err.msg, path, strlen(path)));
    if (!strstr(err.msg, message))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, message);
    strbuf_release(&got);
}

static void assert_refused(const char *name, const char *text, const char *message)
{
    assert_refused_bytes(name, text, strlen(text), message);
}

static void json_lines_have_every_key(void **state)
{
    (void)state;
    assert_reads(
        "a.jsonl",
        "{\"prompt\":\"The Eiffel Tower is in\",\"subject\":\"Eiffel Tower\",\"answer\":\"Paris\",\"id\":\"x1\","
        "\"relation\":\"city\",\"aliases\":[\"Lutetia\",\"Paname\"],\"subject_occurrence\":\"last\","
        "\"unknown\":{\"ignored\":[1]}}\n"
        "\n"
        "{\"tokens\":[1,0,2147483647],\"answer_token\":7}\n"
        "{\"prompt\":\"p\",\"subject\":null,\"answer\":null,\"id\":3,\"relation\":42}",
        "x1|The Eiffel Tower is in|Eiffel Tower|Paris|city|Lutetia,Paname|-1|last|1\n"
        "1|#1,0,2147483647|-|-|-||7|first|3\n"
        "3|p|-|-|42||-1|first|4\n");
}

static void published_arrays_are_read(void **state)
{
    (void)state;
    /* As known_1000.json; and Counterfact's spaces around the attribute. */
    assert_reads(
        "k.json",
        "[\n  {\n    \"known_id\": 0,\n    \"subject\": \"Vinson Massif\",\n    \"attribute\": \"Antarctica\",\n"
        "    \"template\": \"{} is located in the continent\",\n    \"prediction\": \" of Antarctica.\",\n"
        "    \"prompt\": \"Vinson Massif is located in the continent of\",\n    \"relation_id\": \"P30\"\n  },\n"
        "  {\"known_id\": 17, \"subject\": \"B\", \"attribute\": \" Apple \", \"prompt\": \"B is owned by\"}\n]\n",
        "0|Vinson Massif is located in the continent of|Vinson Massif|Antarctica|P30||-1|first|1\n"
        "17|B is owned by|B|Apple|-||-1|first|2\n");
    assert_reads("e.json", "[]", "");
    assert_reads("e.json", " [ ] \n", "");
    /* Our own names win. */
    assert_reads("o.json", "[{\"prompt\":\"p\",\"answer\":\"a\",\"attribute\":\"b\",\"id\":\"i\",\"known_id\":5}]",
                 "i|p|-|a|-||-1|first|1\n");
    assert_reads("k.csv", "known_id,prompt,attribute,relation_id\n17,p, Apple ,P176\n",
                 "17|p|-|Apple|P176||-1|first|2\n");
    assert_reads("one.json", "{\"prompt\":\"p\",\n \"answer\":\"a\"}", "0|p|-|a|-||-1|first|1\n");
}

static void lre_relations_are_read(void **state)
{
    (void)state;
    assert_reads("l.json",
                 "{\"name\": \"country capital city\", \"prompt_templates\": [\"The capital city of {} is\"],\n"
                 " \"prompt_templates_zs\": [\"The capital of {} is the city of\", \"What?\"],\n"
                 " \"properties\": {\"relation_type\": \"factual\", \"symmetric\": false},\n"
                 " \"samples\": [{\"subject\": \"Canada\", \"object\": \"Ottawa\"},\n"
                 "               {\"subject\": \" Mexico \", \"object\": \"Mexico City \"}]}\n",
                 "0|The capital of Canada is the city of|Canada|Ottawa|country capital city||-1|first|1\n"
                 "1|The capital of Mexico is the city of|Mexico|Mexico City|country capital city||-1|first|2\n");
    assert_reads("l2.json",
                 "{\"samples\": [{\"subject\": \"big\", \"object\": \"small\"}], \"prompt_templates_zs\": [],"
                 " \"prompt_templates\": [\"{}: {} is not\"]}",
                 "0|big: big is not|big|small|-||-1|first|1\n");
}

static void csv_follows_rfc_4180(void **state)
{
    (void)state;
    assert_reads("c.csv",
                 "id,prompt,subject,answer,aliases,answer_token,subject_occurrence,other\r\n"
                 "1,\"Say \"\"hi\"\", then\",then,\"a,b\",x|y,,last,z\r\n"
                 "\r\n"
                 ",\"two\r\nlines\",,,,5,,\r\n",
                 "1|Say \"hi\", then|then|a,b|-|x,y|-1|last|2\n1|two\r\nlines|-|-|-||5|first|4\n");
    assert_reads("t.tsv", "prompt\tanswer\na, b\t\"c\td\"\n", "0|a, b|-|c\td|-||-1|first|2\n");
    assert_reads("s", "answer,prompt\nx,y", "0|y|-|x|-||-1|first|2\n");
    assert_reads("s", "\"prompt\"\tanswer\ny\tx", "0|y|-|x|-||-1|first|2\n");
    assert_reads("empty.csv", "", "");
    assert_reads("h.csv", "prompt\n", "");
}

static void text_is_one_prompt_a_line(void **state)
{
    (void)state;
    assert_reads("t.txt", "The sky is\n\n  \nGrass, however,\r\nlast",
                 "0|The sky is|-|-|-||-1|first|1\n"
                 "1|Grass, however,|-|-|-||-1|first|4\n"
                 "2|last|-|-|-||-1|first|5\n");
    assert_reads("no_extension", "Plain words\n", "0|Plain words|-|-|-||-1|first|1\n");
    assert_reads("no_extension", "[CLS] a\n", "0|[CLS] a|-|-|-||-1|first|1\n");
    assert_reads("t.txt", "{\"prompt\":1}\n", "0|{\"prompt\":1}|-|-|-||-1|first|1\n");
    assert_reads("e.txt", "", "");
}

static void formats_are_told_by_the_first_bytes(void **state)
{
    (void)state;
    assert_reads("x", "{\"prompt\":\"a\"}\n{\"prompt\":\"b\"}\n", "0|a|-|-|-||-1|first|1\n1|b|-|-|-||-1|first|2\n");
    assert_reads("x", "\n {\"prompt\":\"a\"}\n", "0|a|-|-|-||-1|first|2\n");
    assert_reads("x", "[{\"prompt\":\"a\"}]", "0|a|-|-|-||-1|first|1\n");
    assert_reads("x", "{\n\"prompt\":\"a\"\n}", "0|a|-|-|-||-1|first|1\n");
    assert_reads("x.json", "{\"prompt\":\"a\"}\n{\"prompt\":\"b\"}\n",
                 "0|a|-|-|-||-1|first|1\n1|b|-|-|-||-1|first|2\n");
    assert_reads("x", "{\"samples\":[{\"subject\":\"s\",\"object\":\"o\"}],\"prompt_templates\":[\"{}?\"]}",
                 "0|s?|s|o|-||-1|first|1\n");
}

static void byte_order_marks_and_crlf_are_accepted(void **state)
{
    (void)state;
    assert_reads("b.jsonl", "\xef\xbb\xbf{\"prompt\":\"a\"}\r\n{\"prompt\":\"b\"}\r\n",
                 "0|a|-|-|-||-1|first|1\n1|b|-|-|-||-1|first|2\n");
    assert_reads("b.json", "\xef\xbb\xbf[{\"prompt\":\"a\"}]\r\n", "0|a|-|-|-||-1|first|1\n");
    assert_reads("b.csv", "\xef\xbb\xbfprompt,answer\r\na,b\r\n", "0|a|-|b|-||-1|first|2\n");
    assert_reads("b.txt",
                 "\xef\xbb\xbf"
                 "a\r\n",
                 "0|a|-|-|-||-1|first|1\n");
    assert_refused_bytes("u.txt",
                         "\xff\xfe"
                         "a\0",
                         4, "is UTF-16");
    assert_refused_bytes("u.jsonl", "\xfe\xff\0a", 4, "is UTF-16");
}

static void bad_bytes_are_refused_with_their_line(void **state)
{
    (void)state;
    assert_refused_bytes("n.txt", "a\nb\0c\n", 6, "line 2: holds a NUL byte");
    assert_refused("u.txt", "a\n\xe4\xf6\n", "line 2: is no UTF-8");
    assert_refused("u.jsonl", "{\"prompt\":\"\xff\"}\n", "line 1: is no UTF-8");
    assert_refused("u.csv", "prompt\na\n\xed\xa0\x80\n", "line 3: is no UTF-8");
    assert_refused("u.json", "[\n{\"prompt\":\"\xff\"}]", "line 2: is no UTF-8");
    assert_refused_bytes("n.json", "[\0]", 3, "line 1: holds a NUL byte");
}

static void bad_facts_are_refused_with_their_line(void **state)
{
    (void)state;
    static const char *const lines[][2] = {
        { "{}", "key \"prompt\" is missing" },
        { "[1]", "a fact must be a JSON object" },
        { "{\"prompt\":\"p\"", "is no valid JSON" },
        { "{\"prompt\":\"p\"} x", "is no valid JSON" },
        { "{\"prompt\":\"\"}", "key \"prompt\" is empty" },
        { "{\"prompt\":7}", "key \"prompt\" must be a string" },
        { "{\"prompt\":\"a\\u0000b\"}", "without NUL" },
        { "{\"prompt\":\"p\",\"prompt\":\"q\"}", "is no valid JSON" },
        { "{\"prompt\":\"p\",\"tokens\":[1]}", "has prompt and tokens" },
        { "{\"tokens\":[]}", "key \"tokens\" is empty" },
        { "{\"tokens\":[-1]}", "token ids, whole numbers from 0" },
        { "{\"tokens\":[1.5]}", "token ids, whole numbers from 0" },
        { "{\"tokens\":[2147483648]}", "token ids, whole numbers from 0" },
        { "{\"tokens\":\"x\"}", "key \"tokens\" must be an array" },
        { "{\"prompt\":\"p\",\"answer\":\"\"}", "the answer is empty" },
        { "{\"prompt\":\"p\",\"attribute\":\"  \"}", "the answer is empty" },
        { "{\"prompt\":\"p\",\"answer\":3}", "key \"answer\" must be a string" },
        { "{\"prompt\":\"p\",\"subject\":\"\"}", "the subject is empty" },
        { "{\"prompt\":\"p\",\"subject\":[]}", "key \"subject\" must be a string" },
        { "{\"prompt\":\"p\",\"answer_token\":-1}", "key \"answer_token\" must be a whole number from 0" },
        { "{\"prompt\":\"p\",\"answer_token\":\"1\"}", "key \"answer_token\" must be" },
        { "{\"prompt\":\"p\",\"subject_occurrence\":\"second\"}", "it must be \"first\" or \"last\"" },
        { "{\"prompt\":\"p\",\"aliases\":\"x\"}", "key \"aliases\" must be an array" },
        { "{\"prompt\":\"p\",\"aliases\":[\"\"]}", "strings that are not empty" },
        { "{\"prompt\":\"p\",\"aliases\":[1]}", "strings that are not empty" },
        { "{\"prompt\":\"p\",\"id\":1.5}", "key \"id\" must be a string" },
        { "{\"promt\":\"p\"}", "there is no key \"promt\": did you mean prompt?" },
        { "{\"prompt\":\"p\",\"Answer\":\"a\"}", "there is no key \"Answer\": did you mean answer?" },
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char text[256];
        snprintf(text, sizeof text, "{\"prompt\":\"fine\"}\n%s\n", lines[i][0]);
        assert_refused("x.jsonl", text, lines[i][1]);
        assert_refused("x.jsonl", text, ": line 2: ");
        snprintf(text, sizeof text, "[{\"prompt\":\"fine\"},%s]", lines[i][0]);
        bool unbalanced = i == 2 || i == 3; /* the array itself is broken then */
        assert_refused("x.json", text, unbalanced ? "is no valid JSON" : ": item 2: ");
    }
}

static void bad_tables_are_refused_with_their_line(void **state)
{
    (void)state;
    assert_refused("x.csv", "a,b\n1,2\n", "line 1: the header has no column \"prompt\" (its first is \"a\")");
    assert_refused("x.csv", "prompt,prompt\n", "column prompt is there twice");
    assert_refused("x.csv", "prompt,answer\na\n", "line 2: has 1 fields, the header has 2");
    assert_refused("x.csv", "prompt,answer\na,b,c\n", "line 2: has 3 fields, the header has 2");
    assert_refused("x.csv", "prompt,answer\n,b\n", "line 2: the prompt is empty");
    assert_refused("x.csv", "prompt\n\"a\"b\n", "line 2: text follows a closing quote");
    assert_refused("x.csv", "prompt\n\"a\n\nb", "line 2: the file ends inside a quoted field");
    assert_refused("x.csv", "prompt,answer_token\na,x\n", "line 2: answer_token must be a token id");
    assert_refused("x.csv", "prompt,answer_token\na,99999999999999999999\n", "answer_token must be a token id");
    assert_refused("x.csv", "prompt,aliases\na,x||y\n", "line 2: an alias is empty");
    assert_refused("x.csv", "prompt,answr\na,b\n", "line 1: there is no column \"answr\": did you mean answer?");
    assert_refused("x.csv", "prompt,subject_occurrence\na,both\n", "it must be \"first\" or \"last\"");
}

static void bad_whole_files_are_refused(void **state)
{
    (void)state;
    assert_refused("x.json", "[", "is no valid JSON");
    assert_refused("x.json", "[{\"prompt\":\"p\"},]", "is no valid JSON");
    assert_refused("x.json", "[{\"prompt\":\"p\"}]x", "is no valid JSON");
    assert_refused("x.json", "nonsense", "is no JSON array or object of facts");
    assert_refused("x.json", "[1,2]", "item 1: a fact must be a JSON object");
    assert_refused("l.json", "{\n\"samples\":{},\"prompt_templates\":[\"{}\"]}", "samples must be an array");
    assert_refused("l.json", "{\n\"samples\":[]}", "no prompt_templates");
    assert_refused("l.json", "{\n\"samples\":[],\"prompt_templates\":[\"no hole\"]}",
                   "strings with {} for the subject");
    assert_refused("l.json", "{\n\"samples\":[],\"prompt_templates\":[1]}", "strings with {} for the subject");
    assert_refused("l.json", "{\n\"samples\":[],\"samples\":[],\"prompt_templates\":[\"{}\"]}", "there twice");
    assert_refused("l.json", "{\n\"samples\":[{\"subject\":\"s\"}],\"prompt_templates\":[\"{}\"]}", "item 1: a sample");
    assert_refused("l.json", "{\n\"samples\":[{\"subject\":\" \",\"object\":\"o\"}],\"prompt_templates\":[\"{}\"]}",
                   "subject or object is empty");
    assert_refused("l.json", "{\n\"samples\":[7],\"prompt_templates\":[\"{}\"]}", "item 1: a sample must be an object");
    assert_refused("l.json", "{\n\"name\":1,\"samples\":[],\"prompt_templates\":[\"{}\"]}", "name must be a string");
}

/* Lines of 17 MiB, nesting without end, a million empty items: refused, in bounded memory and time. */
static void bombs_are_refused(void **state)
{
    (void)state;
    enum { N = 17 << 20 };
    char *bomb = malloc(N);
    assert_non_null(bomb);
    memset(bomb, 'x', N);
    assert_refused_bytes("b.txt", bomb, N, "line 1: is longer than 16 MiB");
    assert_refused_bytes("b.jsonl", bomb, N, "line 1: is longer than 16 MiB");
    assert_refused_bytes("b.csv", bomb, N, "line 1: is longer than 16 MiB");
    memset(bomb, '\n', N);
    memcpy(bomb, "prompt\n\"", 8);
    assert_refused_bytes("b.csv", bomb, N, "line 2: a record is longer than 16 MiB");
    memset(bomb, '[', N);
    assert_refused_bytes("b.json", bomb, N, "is no valid JSON");
    assert_refused_bytes("b.jsonl", bomb, 100000, "line 1: is no valid JSON");
    memset(bomb, ' ', N);
    assert_reads_bytes("blank.txt", bomb, 1 << 20, "");
    /* 40,000 holes for a subject of 1,000 bytes. */
    struct strbuf text = STRBUF_INIT;
    strbuf_adds(&text, "{\n\"prompt_templates\":[\"");
    for (size_t i = 0; i < 40000; i++)
        strbuf_adds(&text, "{}");
    strbuf_addf(&text, "\"],\"samples\":[{\"object\":\"o\",\"subject\":\"%01000d\"}]}", 1);
    assert_refused("b.json", strbuf_text(&text), "longer than 16 MiB");
    strbuf_release(&text);
    free(bomb);
}

static void what_is_no_file_is_refused(void **state)
{
    (void)state;
    struct facts *facts = NULL;
    struct err err = { 0 };
    assert_int_equal(facts_open(&facts, folder, &err), ERR_IO);
    assert_non_null(strstr(err.msg, "is a folder"));
    assert_int_equal(facts_open(&facts, "/nonexistent/facts.jsonl", &err), ERR_IO);
    assert_non_null(strstr(err.msg, "/nonexistent/facts.jsonl: cannot open: No such file"));
    assert_null(facts);
    facts_close(NULL);
}

/* The buffer is 64 KiB: lines, records and marks that straddle its end are the same as others. */
static void buffers_are_joined(void **state)
{
    (void)state;
    for (size_t pad = 65530; pad < 65540; pad++) {
        struct strbuf text = STRBUF_INIT, got = STRBUF_INIT;
        struct err err = { 0 };
        for (size_t i = 0; i < pad; i++)
            strbuf_addc(&text, 'p');
        strbuf_adds(&text, "\r\nsecond \xc3\xa9\xe2\x82\xac\r\nthird");
        if (render(write_bytes("long.txt", text.data, text.len), &got, &err))
            fail_msg("%s", err.msg);
        assert_int_equal(strchr(got.data, '\n') - got.data, (ptrdiff_t)(pad + strlen("0||-|-|-||-1|first|1")));
        assert_non_null(
            strstr(got.data, "\n1|second \xc3\xa9\xe2\x82\xac|-|-|-||-1|first|2\n2|third|-|-|-||-1|first|3\n"));
        strbuf_release(&text);
        strbuf_release(&got);
    }
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_lines_have_every_key),
        cmocka_unit_test(published_arrays_are_read),
        cmocka_unit_test(lre_relations_are_read),
        cmocka_unit_test(csv_follows_rfc_4180),
        cmocka_unit_test(text_is_one_prompt_a_line),
        cmocka_unit_test(formats_are_told_by_the_first_bytes),
        cmocka_unit_test(byte_order_marks_and_crlf_are_accepted),
        cmocka_unit_test(bad_bytes_are_refused_with_their_line),
        cmocka_unit_test(bad_facts_are_refused_with_their_line),
        cmocka_unit_test(bad_tables_are_refused_with_their_line),
        cmocka_unit_test(bad_whole_files_are_refused),
        cmocka_unit_test(bombs_are_refused),
        cmocka_unit_test(what_is_no_file_is_refused),
        cmocka_unit_test(buffers_are_joined),
    };
    return cmocka_run_group_tests_name("facts", tests, make_folder, remove_folder);
}
