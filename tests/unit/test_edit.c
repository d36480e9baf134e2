/* Edits and positions: the grammar, its JSON form, refusals, resolution. */
#include "core/runtime/runtime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/must.h"
#include "tests/unit/configs.h"

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static void assert_refused(const char *text, const char *words)
{
    struct edit_list list = { 0 };
    struct err err = { 0 };
    assert_message(edit_parse(&list, text, &llama, &err), &err, words);
    assert_int_equal(list.n, 0);
    char start[40];
    snprintf(start, sizeof start, "edit '%.20s", text);
    assert_true(!strncmp(err.msg, start, strlen(start)));
    edit_list_release(&list);
}

static struct edit_list parse(const char *text)
{
    struct edit_list list = { 0 };
    struct err err = { 0 };
    if (edit_parse(&list, text, &llama, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(list.n, 1);
    return list;
}

static void examples_of_the_design_parse(void **state)
{
    (void)state;
    struct edit_list list = parse("blocks.4.attn.hook_z@last#3,7 zero");
    const struct edit *e = list.edits;
    assert_int_equal(e->site, SITE_Z);
    assert_int_equal(e->first_layer, 4);
    assert_int_equal(e->last_layer, 4);
    assert_int_equal(e->at.kind, POSITIONS_LAST);
    assert_int_equal(e->n_units, 2);
    assert_int_equal(e->units[0].first, 3);
    assert_int_equal(e->units[1].last, 7);
    assert_int_equal(e->op, EDIT_ZERO);
    assert_string_equal(e->text, "blocks.4.attn.hook_z@last#3,7 zero");
    edit_list_release(&list);

    list = parse("blocks.0-5.hook_mlp_out@subject scale 0");
    e = list.edits;
    assert_int_equal(e->site, SITE_MLP_OUT);
    assert_int_equal(e->first_layer, 0);
    assert_int_equal(e->last_layer, 5);
    assert_int_equal(e->at.kind, POSITIONS_SUBJECT);
    assert_int_equal(e->op, EDIT_SCALE);
    assert_true(e->value == 0);
    edit_list_release(&list);

    list = parse("blocks.10-18.attn.hook_attn_scores@last<-subject block");
    e = list.edits;
    assert_int_equal(e->site, SITE_SCORES);
    assert_int_equal(e->keys.kind, POSITIONS_SUBJECT);
    assert_int_equal(e->op, EDIT_BLOCK);
    edit_list_release(&list);

    list = parse("  resid_post:7@subject-last   add\t0.5 ");
    e = list.edits;
    assert_int_equal(e->site, SITE_RESID_POST);
    assert_int_equal(e->at.kind, POSITIONS_SUBJECT_LAST);
    assert_int_equal(e->op, EDIT_ADD);
    assert_true(e->value == 0.5);
    edit_list_release(&list);
}

static void sites_are_named_in_every_form(void **state)
{
    (void)state;
    struct edit_list list = parse("blocks.*.hook_mlp_out zero");
    assert_int_equal(list.edits->last_layer, 29);
    assert_int_equal(list.edits->at.kind, POSITIONS_ALL);
    edit_list_release(&list);
    list = parse("mlp_out zero");
    assert_int_equal(list.edits->last_layer, 29);
    edit_list_release(&list);
    list = parse("z:3-5@0,3-5#0-2,8 set -1e-3");
    assert_int_equal(list.edits->first_layer, 3);
    assert_int_equal(list.edits->at.n_ranges, 2);
    assert_int_equal(list.edits->n_units, 2);
    assert_true(list.edits->value == -1e-3);
    edit_list_release(&list);
    list = parse("blocks.3.attn.o.hook_in zero");
    assert_int_equal(list.edits->site, SITE_Z);
    edit_list_release(&list);
    list = parse("logits@last add 1");
    assert_int_equal(list.edits->last_layer, 0);
    edit_list_release(&list);
    list = parse("L4H3@last zero");
    assert_int_equal(list.edits->site, SITE_Z);
    assert_int_equal(list.edits->units[0].first, 3);
    edit_list_release(&list);
    list = parse("L4N1535 zero");
    assert_int_equal(list.edits->site, SITE_MLP_POST);
    assert_int_equal(list.edits->units[0].last, 1535);
    edit_list_release(&list);
}

static void overlapping_units_count_once(void **state)
{
    (void)state;
    struct edit_list list = parse("z:3#5,3,4-6,5 add 1");
    assert_int_equal(list.edits->n_units, 1);
    assert_int_equal(list.edits->units[0].first, 3);
    assert_int_equal(list.edits->units[0].last, 6);
    edit_list_release(&list);
}

static void wrong_edits_are_refused_with_the_place(void **state)
{
    (void)state;
    assert_refused("", "empty|SITE[@POSITIONS");
    assert_refused("   ", "empty");
    assert_refused("z:3", "operation is missing");
    assert_refused("@last zero", "site is missing");
    assert_refused("blocks.3.attn.hook_zz zero", "did you mean blocks.3.attn.hook_z");
    assert_refused("z:30 zero", "no layer 30|30 layers, 0 to 29");
    assert_refused("blocks.28-30.attn.hook_z zero", "no layer 30");
    assert_refused("z:5-3 zero", "'5-3' is no layer");
    assert_refused("hook_pos_embed zero", "no learned position embedding");
    assert_refused("z:3 zeroo", "'zeroo' is no operation: did you mean zero?");
    assert_refused("z:3 frobnicate", "'frobnicate'|set, add, scale, zero, mean, patch, freeze, block or uniform");
    assert_refused("z:3@lats zero", "'lats'|did you mean last?");
    assert_refused("z:3@subject_last zero", "did you mean subject-last");
    assert_refused("z:3@ zero", "position ''");
    assert_refused("z:3@-1 zero", "'-1'|`last`");
    assert_refused("z:3@last,subject zero", "cannot be combined");
    assert_refused("z:3@5-3 zero", "'5-3' runs backwards|3-5");
    assert_refused("z:3@1,x zero", "'x' is neither");
    assert_refused("z:3#9 zero", "'#9'|no head 9|9, 0 to 8");
    assert_refused("v:3#3 zero", "no KV head 3|3, 0 to 2");
    assert_refused("post:3#1536 zero", "no neuron 1536");
    assert_refused("z:3#x zero", "'#x'|'x' is neither");
    assert_refused("z:3# zero", "'#'|a number is missing");
    assert_refused("z:3#3@last zero", "'3@last' is neither");
    assert_refused("resid_post:3#3 zero", "'#3'|neither heads nor neurons");
    assert_refused("L4H3#3 zero", "already names its head");
    assert_refused("L4H9 zero", "no head 9");
    assert_refused("z:3@last<-subject zero", "'<-subject'|no keys|hook_attn_scores");
    assert_refused("attn_scores:3@last<-subjct block", "'subjct'|did you mean subject?");
    assert_refused("attn_scores:3@last<subject block", "'last<subject'");
    assert_refused("attn_scores:3@last <- subject block", "one word too many");
    assert_refused("pattern:3@last<-subject block", "hook_attn_scores only|hook_pattern");
    assert_refused("z:3 block", "hook_attn_scores only");
    assert_refused("z:3 zero 1", "takes no value|'1'");
    assert_refused("attn_scores:3 block 1", "takes no value");
    assert_refused("z:3 set", "needs a value");
    assert_refused("z:3 scale nan", "'nan' is no finite");
    assert_refused("z:3 scale inf", "'inf'");
    assert_refused("z:3 scale 1e39", "'1e39' is no finite float32");
    assert_refused("z:3 scale 1x", "'1x'");
    assert_refused("z:3 scale 1 2", "'2' is one word too many");
}

static void messages_stay_whole_for_endless_expressions(void **state)
{
    (void)state;
    static char text[100001];
    memset(text, 'x', sizeof text - 1);
    memcpy(text, "z:3 scale ", 10);
    struct edit_list list = { 0 };
    struct err err = { 0 };
    assert_message(edit_parse(&list, text, &llama, &err), &err, "is no finite float32 number");
    edit_list_release(&list);
}

/* --- JSON --- */

static int parse_json(struct edit_list *list, const char *text, struct err *err)
{
    json_t *array;
    assert_int_equal(json_parse(text, strlen(text), "edits.json", &array, err), 0);
    int rc = edit_parse_json(list, array, "edits.json", &llama, err);
    json_decref(array);
    return rc;
}

static void assert_json_refused(const char *text, const char *words)
{
    struct edit_list list = { 0 };
    struct err err = { 0 };
    assert_message(parse_json(&list, text, &err), &err, words);
    assert_true(!strncmp(err.msg, "edits.json: ", 12));
    edit_list_release(&list);
}

static void json_says_the_same_as_text(void **state)
{
    (void)state;
    struct edit_list list = { 0 };
    struct err err = { 0 };
    const char *text = "[\"z:4@last#3 zero\","
                       "{\"site\": \"z:4\", \"at\": \"last\", \"units\": [3, 7], \"op\": \"scale\", \"value\": 0.1},"
                       "{\"site\": \"attn_scores:4\", \"at\": 5, \"keys\": \"subject\", \"units\": \"0-2\", "
                       "\"op\": \"block\", \"value\": null},"
                       "{\"op\": \"add\", \"value\": -2, \"site\": \"resid_post:0-3\", \"at\": [0, 4]}]";
    if (parse_json(&list, text, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(list.n, 4);
    assert_string_equal(list.edits[0].text, "z:4@last#3 zero");
    assert_string_equal(list.edits[1].text, "z:4@last#3,7 scale 0.10000000000000001");
    assert_true(list.edits[1].value == 0.1);
    assert_int_equal(list.edits[1].n_units, 2);
    assert_string_equal(list.edits[2].text, "attn_scores:4@5<-subject#0-2 block");
    assert_int_equal(list.edits[2].keys.kind, POSITIONS_SUBJECT);
    assert_string_equal(list.edits[3].text, "resid_post:0-3@0,4 add -2");
    assert_int_equal(list.edits[3].at.n_ranges, 2);
    edit_list_release(&list);
}

static void wrong_json_is_refused_with_the_item(void **state)
{
    (void)state;
    assert_json_refused("{}", "must be an array");
    assert_json_refused("[3]", "item 1|string");
    assert_json_refused("[\"z:3 zero\", \"z:3 zer\"]", "item 2|did you mean zero?");
    assert_json_refused("[{}]", "site is missing");
    assert_json_refused("[{\"site\": \"z:3\"}]", "operation is missing");
    assert_json_refused("[{\"site\": 3, \"op\": \"zero\"}]", "\"site\" must be a string");
    assert_json_refused("[{\"site\": \"z:3\", \"op\": \"zero\", \"position\": \"last\"}]", "\"position\" is unknown");
    assert_json_refused("[{\"site\": \"z:3\", \"op\": \"zero\", \"unit\": 3}]",
                        "\"unit\" is unknown: did you mean units?");
    assert_json_refused("[{\"site\": \"z:3\", \"op\": \"scale\", \"value\": true}]", "\"value\" must be|a number");
    assert_json_refused("[{\"site\": \"z:3\", \"op\": \"scale\", \"value\": \"x\"}]", "'x' is no finite");
    assert_json_refused("[{\"site\": \"z:3\", \"op\": \"scale\", \"value\": 1e300}]", "no finite float32");
    assert_json_refused("[{\"site\": \"z:3\", \"op\": \"zero\", \"units\": []}]", "array is empty");
    assert_json_refused("[{\"site\": \"z:3\", \"op\": \"zero\", \"units\": [0.5]}]", "whole numbers");
    assert_json_refused("[{\"site\": \"z:3\", \"op\": \"zero\", \"units\": [-1]}]", "'-1'");
    assert_json_refused("[{\"site\": \"z:3\", \"op\": \"zero\", \"at\": true}]", "\"at\" must be");
    assert_json_refused("[{\"site\": \"z:3\", \"op\": \"zero\", \"at\": \"last#3\"}]", "position 'last#3'");
    assert_json_refused("[{\"site\": \"z:3@last\", \"op\": \"zero\"}]", "is no layer");
    assert_json_refused("[\"z:3\\u0000 zero\"]", "NUL");
}

/* --- properties --- */

static void print_ranges(char *text, const char *before, const struct range *ranges, size_t n)
{
    text += strlen(text);
    for (size_t i = 0; i < n; i++)
        text += sprintf(text, "%s%zu-%zu", i ? "," : before, ranges[i].first, ranges[i].last);
}

static void print_positions(char *text, const char *before, const struct positions *p)
{
    static const char *const names[] = {
#define X(id, name) name,
        POSITION_KINDS(X)
#undef X
    };
    if (p->kind == POSITIONS_NUMBERS)
        print_ranges(text, before, p->ranges, p->n_ranges);
    else
        sprintf(text + strlen(text), "%s%s", before, names[p->kind]);
}

static void print_edit(const struct edit *e, char *text)
{
    static const char *const ops[] = {
#define X(id, name, takes_value) name,
        EDIT_OPS(X)
#undef X
    };
    const struct site_row *row = site_row(e->site);
    *text = '\0';
    if (row->per_layer)
        sprintf(text, "blocks.%zu-%zu.", e->first_layer, e->last_layer);
    strcat(text, row->name);
    print_positions(text, "@", &e->at);
    if (row->axes == AXES_EDGES)
        print_positions(text, "<-", &e->keys);
    print_ranges(text, "#", e->units, e->n_units);
    sprintf(text + strlen(text), " %s", ops[e->op]);
    if (e->op <= EDIT_SCALE)
        sprintf(text + strlen(text), " %.17g", e->value);
}

static void random_positions(char *text, uint64_t *seed)
{
    static const char *const some[] = { "last", "all", "subject", "subject-first", "subject-last", "non-subject" };
    if (next_random(seed) % 2) {
        strcat(text, some[next_random(seed) % 6]);
        return;
    }
    for (size_t i = 0, n = next_random(seed) % 3; i <= n; i++) {
        size_t first = next_random(seed) % 20;
        sprintf(text + strlen(text), "%s%zu-%zu", i ? "," : "", first, first + next_random(seed) % 3);
    }
}

static void parsing_a_printed_edit_gives_the_edit(void **state)
{
    (void)state;
    uint64_t seed = 17;
    size_t edges = 0, with_units = 0;
    for (int round = 0; round < 5000; round++) {
        enum site site = (enum site)(next_random(&seed) % N_SITES);
        const struct site_row *row = site_row(site);
        if (site_missing(site, &llama))
            continue;
        char text[512] = "", printed[512], again[512];
        const char *what;
        size_t layer = next_random(&seed) % 25, n_units = site_units(site, &llama, &what);
        if (row->per_layer)
            sprintf(text, "blocks.%zu-%zu.", layer, layer + next_random(&seed) % 5);
        strcat(text, row->name);
        strcat(text, "@");
        random_positions(text, &seed);
        if (row->axes == AXES_EDGES) {
            strcat(text, "<-");
            random_positions(text, &seed);
            edges++;
        }
        if (n_units && next_random(&seed) % 2) {
            sprintf(text + strlen(text), "#%zu,%zu", (size_t)next_random(&seed) % n_units,
                    (size_t)next_random(&seed) % n_units);
            with_units++;
        }
        if (site == SITE_SCORES && next_random(&seed) % 2)
            strcat(text, " block");
        else
            sprintf(text + strlen(text), " scale %.17g", (double)next_random(&seed) / 1e9);
        struct edit_list first = parse(text);
        print_edit(first.edits, printed);
        struct edit_list second = parse(printed);
        print_edit(second.edits, again);
        assert_string_equal(printed, again);
        assert_int_equal(second.edits->site, site);
        assert_true(first.edits->value == second.edits->value);
        edit_list_release(&first);
        edit_list_release(&second);
    }
    assert_true(edges > 50 && with_units > 500);
}

static void random_edits_never_crash(void **state)
{
    (void)state;
    static const char *const words[] = { "z",       ":3",  "attn_scores", "blocks.", "*",    "@", "last",
                                         "subject", "<-",  "#",           "0-5",     ",",    " ", "zero",
                                         "block",   "set", "1e9",         "-",       "\xff", "<" };
    uint64_t seed = 23;
    size_t accepted = 0;
    struct edit_list list = { 0 };
    for (int round = 0; round < 50000; round++) {
        char text[256] = "";
        strcpy(text, next_random(&seed) % 2 ? "z:3" : "");
        for (uint64_t n = next_random(&seed) % 10; n; n--)
            strcat(text, words[next_random(&seed) % (sizeof words / sizeof *words)]);
        strcat(text, next_random(&seed) % 2 ? " zero" : "");
        struct err err = { 0 };
        size_t before = list.n;
        int rc = edit_parse(&list, text, &llama, &err);
        assert_int_equal(list.n, before + !rc);
        assert_true(!rc || (rc == err.code && *err.msg));
    }
    accepted = list.n;
    assert_true(accepted > 100);
    edit_list_release(&list);
}

/* --- positions --- */

static const char *resolve(const char *text, size_t n_tokens, size_t begin, size_t end, struct err *err)
{
    static char shown[32];
    unsigned char mask[32];
    struct positions p;
    size_t chosen = 0, n = 0;
    assert_int_equal(positions_parse(text, strlen(text), &p, err), 0);
    memset(mask, 7, sizeof mask);
    const struct prompt prompt = { .n_tokens = n_tokens, .subject_begin = begin, .subject_end = end };
    int rc = positions_resolve(&p, &prompt, mask, &chosen, err);
    for (size_t i = 0; i < n_tokens; i++) {
        shown[i] = mask[i] ? 'x' : '.';
        n += mask[i];
    }
    shown[n_tokens] = '\0';
    assert_int_equal(mask[n_tokens], 7);
    positions_release(&p);
    if (rc)
        return NULL;
    assert_int_equal(chosen, n);
    return shown;
}

static void positions_mark_what_they_say(void **state)
{
    (void)state;
    struct err err = { 0 };
    assert_string_equal(resolve("all", 5, 1, 3, &err), "xxxxx");
    assert_string_equal(resolve("last", 5, 1, 3, &err), "....x");
    assert_string_equal(resolve("subject", 5, 1, 3, &err), ".xx..");
    assert_string_equal(resolve("subject-first", 5, 1, 3, &err), ".x...");
    assert_string_equal(resolve("subject-last", 5, 1, 3, &err), "..x..");
    assert_string_equal(resolve("non-subject", 5, 1, 3, &err), "x..xx");
    assert_string_equal(resolve("4,0-1,1", 5, 0, 0, &err), "xx..x");
    assert_string_equal(resolve("last", 1, 0, 0, &err), "x");
}

static void positions_that_are_not_there_fail(void **state)
{
    (void)state;
    struct err err = { 0 };
    assert_null(resolve("5", 5, 0, 0, &err));
    assert_message(err.code, &err, "no position 5|5 tokens");
    assert_null(resolve("3-18446744073709551614", 5, 0, 0, &err));
    assert_null(resolve("subject", 5, 2, 2, &err));
    assert_message(err.code, &err, "'subject'|no subject");
    assert_null(resolve("non-subject", 5, 0, 0, &err));
    assert_null(resolve("non-subject", 5, 0, 5, &err));
    assert_message(err.code, &err, "whole prompt");
    assert_null(resolve("subject", 5, 4, 6, &err)); /* a span beyond the prompt */
    assert_null(resolve("last", 0, 0, 0, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_of_the_design_parse),
        cmocka_unit_test(sites_are_named_in_every_form),
        cmocka_unit_test(overlapping_units_count_once),
        cmocka_unit_test(wrong_edits_are_refused_with_the_place),
        cmocka_unit_test(messages_stay_whole_for_endless_expressions),
        cmocka_unit_test(json_says_the_same_as_text),
        cmocka_unit_test(wrong_json_is_refused_with_the_item),
        cmocka_unit_test(parsing_a_printed_edit_gives_the_edit),
        cmocka_unit_test(random_edits_never_crash),
        cmocka_unit_test(positions_mark_what_they_say),
        cmocka_unit_test(positions_that_are_not_there_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
