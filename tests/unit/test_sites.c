/* Site names, shapes, filters; near matches and globs under them. */
#include "core/base/glob.h"
#include "core/base/ranges.h"
#include "core/base/suggest.h"
#include "core/runtime/sites.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/must.h"
#include "tests/unit/configs.h"

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static void assert_parses(const char *name, const struct model_config *config, const char *full)
{
    struct site_ref ref;
    struct err err = { 0 };
    char got[SITE_NAME_MAX];
    if (site_parse(name, config, &ref, &err))
        fail_msg("%s: %s", name, err.msg);
    assert_string_equal(site_name(ref, got), full);
}

static void assert_refused(const char *name, const struct model_config *config, const char *words)
{
    struct site_ref ref;
    struct err err = { 0 };
    assert_message(site_parse(name, config, &ref, &err), &err, words);
}

static void assert_filter_refused(const char *filter, const struct model_config *config, const char *words)
{
    struct site_set set;
    struct err err = { 0 };
    assert_int_equal(site_set_init(&set, config, &err), 0);
    assert_message(site_set_add(&set, filter, &err), &err, words);
    site_set_release(&set);
}

static struct site_set make_set(const char *filter, const struct model_config *config)
{
    struct site_set set;
    struct err err = { 0 };
    assert_int_equal(site_set_init(&set, config, &err), 0);
    if (site_set_add(&set, filter, &err))
        fail_msg("%s: %s", filter, err.msg);
    return set;
}

static size_t count(const char *filter, const struct model_config *config)
{
    struct site_set set = make_set(filter, config);
    size_t n = site_set_count(&set);
    site_set_release(&set);
    return n;
}

static void every_name_parses_to_its_site(void **state)
{
    (void)state;
    const struct model_config *configs[] = { &gpt2, &llama };
    for (size_t c = 0; c < 2; c++)
        for (int s = 0; s < N_SITES; s++) {
            struct site_ref ref = { (enum site)s, site_row((enum site)s)->per_layer ? 5 : 0 }, got;
            struct err err = { 0 };
            char name[SITE_NAME_MAX];
            site_name(ref, name);
            const char *reason = site_missing(ref.site, configs[c]);
            int rc = site_parse(name, configs[c], &got, &err);
            if (!site_listed(ref.site, configs[c])) {
                assert_true(reason && (rc || got.site != ref.site)); /* its name is another's */
                continue;
            }
            if (reason) {
                assert_message(rc, &err, reason);
                continue;
            }
            assert_int_equal(rc, 0);
            assert_int_equal(got.site, s);
            assert_int_equal(got.layer, ref.layer);
        }
}

static void bridge_names_parse_and_depend_on_the_gate(void **state)
{
    (void)state;
    assert_parses("embed.hook_out", &gpt2, "hook_embed");
    assert_parses("pos_embed.hook_out", &gpt2, "hook_pos_embed");
    assert_parses("blocks.3.hook_in", &gpt2, "blocks.3.hook_resid_pre");
    assert_parses("blocks.3.hook_out", &gpt2, "blocks.3.hook_resid_post");
    assert_parses("blocks.3.attn.q.hook_out", &gpt2, "blocks.3.attn.hook_q");
    assert_parses("blocks.3.attn.o.hook_in", &gpt2, "blocks.3.attn.hook_z");
    assert_parses("blocks.3.attn.hook_out", &gpt2, "blocks.3.hook_attn_out");
    assert_parses("blocks.3.ln2.hook_in", &gpt2, "blocks.3.hook_resid_mid");
    assert_parses("blocks.3.mlp.out.hook_in", &gpt2, "blocks.3.mlp.hook_post");
    assert_parses("blocks.3.mlp.hook_out", &gpt2, "blocks.3.hook_mlp_out");
    assert_parses("unembed.hook_in", &gpt2, "ln_final.hook_out");
    assert_parses("blocks.3.attn.hook_in", &gpt2, "blocks.3.ln1.hook_out");
    assert_parses("blocks.3.mlp.in.hook_in", &llama, "blocks.3.ln2.hook_out");
    assert_parses("blocks.3.attn.o.hook_out", &gpt2, "blocks.3.hook_attn_out");
    struct model_config gemma2 = llama;
    gemma2.sublayer_norms = true;
    assert_parses("blocks.3.attn.o.hook_out", &gemma2, "blocks.3.attn.hook_out");
    assert_parses("blocks.3.attn.hook_out", &gemma2, "blocks.3.attn.hook_out");
    assert_parses("blocks.3.attn.hook_out", &gpt2, "blocks.3.hook_attn_out");
    struct model_config bert = gpt2;
    bert.block = BLOCK_POST;
    assert_parses("scale4ln1", &bert, "blocks.4.ln1.hook_scale");
    assert_refused("blocks.4.ln2.hook_out", &(struct model_config){ .n_layers = 9, .block = BLOCK_PARALLEL },
                   "no norm before the MLP");
    assert_parses("blocks.4.ln2.hook_out", &bert, "blocks.4.hook_normalized_resid_post");
    assert_parses("unembed.hook_out", &gpt2, "logits");
    assert_parses("blocks.3.mlp.in.hook_out", &gpt2, "blocks.3.mlp.hook_pre");
    assert_parses("blocks.3.mlp.in.hook_out", &llama, "blocks.3.mlp.hook_pre_linear");
    assert_parses("blocks.3.mlp.gate.hook_out", &llama, "blocks.3.mlp.hook_pre");
    assert_refused("blocks.3.mlp.gate.hook_out", &gpt2, "not gated");
}

static void act_names_of_transformer_lens_parse(void **state)
{
    (void)state;
    /* get_act_name's own documentation, and the short names of its tests. */
    assert_parses("k6", &gpt2, "blocks.6.attn.hook_k");
    assert_parses("k6a", &gpt2, "blocks.6.attn.hook_k");
    assert_parses("pre2", &gpt2, "blocks.2.mlp.hook_pre");
    assert_parses("scale4ln1", &gpt2, "blocks.4.ln1.hook_scale");
    assert_parses("normalized11ln2", &gpt2, "blocks.11.ln2.hook_normalized");
    assert_parses("embed", &gpt2, "hook_embed");
    assert_parses("scale", &gpt2, "ln_final.hook_scale");
    assert_parses("attn5", &gpt2, "blocks.5.attn.hook_pattern");
    assert_parses("attn_logits:5", &gpt2, "blocks.5.attn.hook_attn_scores");
    assert_parses("query:5", &gpt2, "blocks.5.attn.hook_q");
    assert_parses("key5", &gpt2, "blocks.5.attn.hook_k");
    assert_parses("value5attn", &gpt2, "blocks.5.attn.hook_v");
    assert_parses("mlp_pre:5", &gpt2, "blocks.5.mlp.hook_pre");
    assert_parses("mlp_post5m", &gpt2, "blocks.5.mlp.hook_post");
    assert_parses("resid_post:7", &gpt2, "blocks.7.hook_resid_post");
    assert_parses("resid_post7", &gpt2, "blocks.7.hook_resid_post");
    assert_parses("scale_ln1:7", &gpt2, "blocks.7.ln1.hook_scale");
    assert_parses("rot_q3", &llama, "blocks.3.attn.hook_rot_q");
}

static void names_that_are_wrong_are_refused_with_help(void **state)
{
    (void)state;
    assert_refused("blocks.3.attn.hook_y", &gpt2, "blocks.3.attn.hook_y|did you mean|blocks.3.attn.hook_");
    assert_refused("blocks.3.hook_resid_pst", &gpt2, "did you mean blocks.3.hook_resid_post");
    assert_refused("resid_pots:3", &gpt2, "did you mean resid_post");
    assert_refused("attn.hook_z", &gpt2, "inside the blocks|blocks.L.attn.hook_z");
    assert_refused("hook_resid_post", &gpt2, "inside the blocks");
    assert_refused("hook_z", &gpt2, "blocks.*.attn.hook_z");
    assert_refused("nonsense", &gpt2, "strata sites");
    assert_refused("", &gpt2, "names no site");
    assert_refused("blocks.", &gpt2, "names no site");
    assert_refused("blocks.3", &gpt2, "names no site");
    assert_refused("blocks.3.", &gpt2, "names no site");
    assert_refused("blocks..hook_resid_pre", &gpt2, "'' is no layer");
    assert_refused("blocks.x.hook_resid_pre", &gpt2, "'x' is no layer");
    assert_refused("blocks.-1.hook_resid_pre", &gpt2, "'-1' is no layer");
    assert_refused("blocks.12.hook_resid_pre", &gpt2, "no layer 12|12 layers, 0 to 11");
    assert_refused("z:99999999999999999999999", &gpt2, "is no layer");
    assert_refused("k12", &gpt2, "no layer 12");
    assert_refused("z:", &gpt2, "is no layer");
    assert_refused("z:3-5", &gpt2, "one whole site");
    assert_refused("z", &gpt2, "one whole site");
    assert_refused("L3H7", &gpt2, "one whole site");
    assert_refused("scale:4", &gpt2, "outside the blocks");
    assert_refused("logits:0", &gpt2, "outside the blocks");
    assert_refused("blocks.3.attn.hook_rot_q", &gpt2, "hook_rot_q: the model has no rotary position embedding");
    assert_refused("hook_pos_embed", &llama, "hook_pos_embed: the model has no learned position embedding");
    assert_refused("pre_linear:3", &gpt2, "not gated");
}

static void shapes_keep_the_kv_heads(void **state)
{
    (void)state;
    size_t dims[2];
    assert_int_equal(site_shape(SITE_Z, &llama, dims), 2);
    assert_int_equal(dims[0], 9);
    assert_int_equal(dims[1], 64);
    assert_int_equal(site_shape(SITE_K, &llama, dims), 2);
    assert_int_equal(dims[0], 3);
    assert_int_equal(site_shape(SITE_RESULT, &llama, dims), 2);
    assert_int_equal(dims[1], 576);
    assert_int_equal(site_shape(SITE_LN1_SCALE, &llama, dims), 1);
    assert_int_equal(dims[0], 1);
    assert_int_equal(site_shape(SITE_PATTERN, &llama, dims), 0);
    assert_int_equal(site_row_size(SITE_Z, &llama), 9 * 64);
    assert_int_equal(site_row_size(SITE_V, &llama), 3 * 64);
    assert_int_equal(site_row_size(SITE_PATTERN, &llama), 9);
    assert_int_equal(site_row_size(SITE_LOGITS, &llama), 49152);
    assert_int_equal(site_row_size(SITE_MLP_POST, &llama), 1536);
    assert_string_equal(site_row(SITE_Z)->axes_text, "row, n_heads, d_head");
    const char *what;
    assert_int_equal(site_units(SITE_ROT_K, &llama, &what), 3);
    assert_string_equal(what, "KV head");
    assert_int_equal(site_units(SITE_MLP_PRE, &llama, &what), 1536);
    assert_int_equal(site_units(SITE_RESID_PRE, &llama, &what), 0);
}

static void filters_choose_what_they_say(void **state)
{
    (void)state;
    assert_int_equal(count("z", &gpt2), 12);
    assert_int_equal(count("z:3-5", &gpt2), 3);
    assert_int_equal(count("z:3-5,z:4,resid_post:7", &gpt2), 4);
    assert_int_equal(count(" z:3 , logits ", &gpt2), 2);
    assert_int_equal(count("k6,scale4ln1", &gpt2), 2);
    assert_int_equal(count("blocks.*.attn.hook_z", &gpt2), 12);
    assert_int_equal(count("blocks.2-4.attn.hook_z", &gpt2), 3);
    assert_int_equal(count("blocks.?.attn.hook_z", &gpt2), 10);
    assert_int_equal(count("blocks.1?.attn.hook_z", &gpt2), 2);
    assert_int_equal(count("blocks.1*.attn.hook_z", &gpt2), 3);
    assert_int_equal(count("blocks.*.attn.o.hook_in", &gpt2), 12); /* a bridge name, as no full name matches */
    assert_int_equal(count("resid_*", &gpt2), 36);                 /* short names, as neither matches */
    assert_int_equal(count("blocks.*.ln?.hook_scale", &gpt2), 24);
    assert_int_equal(count("*ln_final*", &gpt2), 3);
    size_t in_block = 0, outside = 0, missing = 0;
    for (int s = 0; s < N_SITES; s++) {
        bool exists = !site_missing((enum site)s, &gpt2);
        in_block += exists && site_row((enum site)s)->per_layer;
        outside += exists && !site_row((enum site)s)->per_layer;
        missing += !exists;
    }
    assert_int_equal(missing, N_SITES - 26);
    assert_int_equal(count("blocks.*", &gpt2), 12 * in_block);
    assert_int_equal(count("blocks.3.*", &gpt2), in_block);
    assert_int_equal(count("blocks.3-4.*", &gpt2), 2 * in_block);
    assert_int_equal(count("*", &gpt2), 12 * in_block + outside);
    assert_int_equal(count("blocks.3.attn.hook_*q", &gpt2), 1); /* hook_rot_q is missing */
    assert_int_equal(count("blocks.3.attn.hook_*q", &llama), 2);
}

static void filters_that_match_nothing_are_refused(void **state)
{
    (void)state;
    assert_filter_refused("", &gpt2, "empty");
    assert_filter_refused("z,,v", &gpt2, "empty");
    assert_filter_refused("z,", &gpt2, "empty");
    assert_filter_refused("z:3,5", &gpt2, "'5'|z:3,z:5");
    assert_filter_refused("blocks.*.hook_resid_pst", &gpt2, "did you mean blocks.*.hook_resid_post");
    assert_filter_refused("blocks.*.attn.hook_rot_*", &gpt2, "no rotary position embedding");
    assert_filter_refused("*pre_linear", &gpt2, "not gated");
    assert_filter_refused("blocks.12.*", &gpt2, "no layer 12|12 layers");
    assert_filter_refused("blocks.3-12.attn.*", &gpt2, "no layer 12");
    assert_filter_refused("*zzz*", &gpt2, "names no site");
    assert_filter_refused("L12H0", &gpt2, "no layer 12");
    assert_filter_refused("L3H12", &gpt2, "no head 12|12, 0 to 11");
    assert_filter_refused("L3N7", &gpt2, "neurons|post:3");
    assert_filter_refused("L3N9999", &gpt2, "no neuron 9999");
}

static void heads_chosen_one_by_one_join_the_whole_site(void **state)
{
    (void)state;
    struct site_set set = make_set("L3H7,L3H2,L5H0", &gpt2);
    assert_int_equal(site_set_count(&set), 2);
    assert_true(site_set_has(&set, SITE_Z, 3));
    assert_true(site_set_has_head(&set, 3, 7));
    assert_true(site_set_has_head(&set, 3, 2));
    assert_false(site_set_has_head(&set, 3, 3));
    assert_false(site_set_has_head(&set, 4, 7));
    site_set_release(&set);
    const char *both[] = { "z:3,L3H7", "L3H7,z:3", "L3H7,blocks.3.*" };
    for (size_t i = 0; i < 3; i++) {
        set = make_set(both[i], &gpt2);
        for (size_t h = 0; h < 12; h++)
            assert_true(site_set_has_head(&set, 3, h));
        site_set_release(&set);
    }
}

static void sets_are_walked_in_forward_order(void **state)
{
    (void)state;
    struct site_set set = make_set("logits,resid_post,z,embed,scale,q:3,pos_embed", &gpt2);
    struct site_ref ref, before = { SITE_EMBED, 0 };
    size_t cursor = 0, n = 0;
    while (site_set_next(&set, &cursor, &ref)) {
        if (!n)
            assert_int_equal(ref.site, SITE_EMBED);
        bool later = !site_row(ref.site)->per_layer || !site_row(before.site)->per_layer ? ref.site > before.site
                     : ref.layer != before.layer                                         ? ref.layer > before.layer
                                                                                         : ref.site > before.site;
        assert_true(!n || later);
        before = ref;
        n++;
    }
    assert_int_equal(ref.site, SITE_LOGITS);
    assert_int_equal(n, site_set_count(&set));
    assert_int_equal(n, 1 + 1 + 12 + 12 + 1 + 1 + 1);
    site_set_release(&set);
}

static void parsing_what_a_set_lists_gives_the_set(void **state)
{
    (void)state;
    uint64_t seed = 3;
    for (int round = 0; round < 50; round++) {
        struct site_set set, again;
        struct err err = { 0 };
        assert_int_equal(site_set_init(&set, &llama, &err), 0);
        assert_int_equal(site_set_init(&again, &llama, &err), 0);
        for (int i = 0; i < 20; i++) {
            enum site site = (enum site)(next_random(&seed) % N_SITES);
            size_t layer = site_row(site)->per_layer ? next_random(&seed) % llama.n_layers : 0;
            if (!site_missing(site, &llama))
                site_set_add_one(&set, (struct site_ref){ site, layer });
        }
        struct site_ref ref;
        for (size_t cursor = 0; site_set_next(&set, &cursor, &ref);) {
            char name[SITE_NAME_MAX];
            assert_int_equal(site_set_add(&again, site_name(ref, name), &err), 0);
        }
        assert_memory_equal(set.chosen, again.chosen, N_SITES * llama.n_layers);
        site_set_release(&set);
        site_set_release(&again);
    }
}

static void random_filters_never_crash(void **state)
{
    (void)state;
    static const char *const words[] = { "blocks.", "3", "-", "*", "?",  ".attn", ".hook_z", "z",    ":",   ",",
                                         "L",       "H", "7", " ", "ln", "1",     "scale",   "\xc3", "999", "hook_" };
    uint64_t seed = 11;
    size_t accepted = 0;
    for (int round = 0; round < 20000; round++) {
        char filter[256] = "";
        for (uint64_t n = next_random(&seed) % 12; n; n--)
            strcat(filter, words[next_random(&seed) % (sizeof words / sizeof *words)]);
        struct site_set set;
        struct err err = { 0 };
        assert_int_equal(site_set_init(&set, round % 2 ? &gpt2 : &llama, &err), 0);
        int rc = site_set_add(&set, filter, &err);
        accepted += !rc;
        assert_true(rc ? rc == err.code && *err.msg : site_set_count(&set) > 0);
        site_set_release(&set);
    }
    assert_true(accepted > 100);
}

/* Exponential, but obviously right. */
static bool naive_glob(const char *pattern, const char *text)
{
    if (*pattern == '*')
        return naive_glob(pattern + 1, text) || (*text && naive_glob(pattern, text + 1));
    if (!*pattern || !*text)
        return *pattern == *text;
    return (*pattern == '?' || *pattern == *text) && naive_glob(pattern + 1, text + 1);
}

static void globs_equal_a_naive_matcher(void **state)
{
    (void)state;
    uint64_t seed = 5;
    size_t matched = 0;
    for (int round = 0; round < 50000; round++) {
        char pattern[9] = "", text[11] = "";
        for (size_t i = 0, n = next_random(&seed) % 8; i < n; i++)
            pattern[i] = "ab.*?*"[next_random(&seed) % 6];
        for (size_t i = 0, n = next_random(&seed) % 10; i < n; i++)
            text[i] = "ab."[next_random(&seed) % 3];
        bool got = glob_match(pattern, strlen(pattern), text);
        assert_int_equal(got, naive_glob(pattern, text));
        matched += got;
    }
    assert_in_range(matched, 5000, 45000);
}

static void globs_take_no_exponential_time(void **state)
{
    (void)state;
    enum { STARS = 2000, LETTERS = 4000 };
    static char pattern[2 * STARS + 2], text[LETTERS + 1];
    for (size_t i = 0; i < STARS; i++)
        memcpy(pattern + 2 * i, "*a", 2);
    pattern[(size_t)2 * STARS] = 'b';
    memset(text, 'a', LETTERS);
    assert_false(glob_match(pattern, strlen(pattern), text)); /* would outlive the universe */
}

static void near_matches_are_the_nearest(void **state)
{
    (void)state;
    assert_int_equal(suggest_distance("kitten", 6, "sitting", 7), 3);
    assert_int_equal(suggest_distance("", 0, "abc", 3), 3);
    assert_int_equal(suggest_distance("abc", 3, "acb", 3), 1); /* a swap is one edit */
    assert_int_equal(suggest_distance("Last", 4, "last", 4), 0);
    char longest[SUGGEST_LONGEST + 1];
    memset(longest, 'x', sizeof longest);
    assert_true(suggest_distance(longest, sizeof longest, "x", 1) == SIZE_MAX);
    static const char *const names[] = { "tokenise", "tokenize", "trace", "query", "diff", "--precision" };
    struct suggest s;
    char text[SUGGEST_TEXT_MAX];
    suggest_init(&s, "tokeniz", 7);
    for (size_t i = 0; i < 6; i++)
        suggest_consider(&s, names[i]);
    assert_string_equal(suggest_text(&s, "", text), ": did you mean tokenize or tokenise?");
    suggest_init(&s, "precis", 6);
    for (size_t i = 0; i < 6; i++)
        suggest_consider(&s, names[i]);
    suggest_consider(&s, "--precision");
    assert_string_equal(suggest_text(&s, "strata ", text), ": did you mean strata --precision?");
    suggest_init(&s, "zzz", 3);
    for (size_t i = 0; i < 6; i++)
        suggest_consider(&s, names[i]);
    assert_string_equal(suggest_text(&s, "", text), "");
}

static void at_most_three_near_matches_stay(void **state)
{
    (void)state;
    static const char *const names[] = { "aaxxaa", "aaxaaa", "aaaxxa", "aaaaax", "aaaaaa", "xaaaaa" };
    struct suggest s;
    char text[SUGGEST_TEXT_MAX];
    suggest_init(&s, "aaaaaa", 6);
    for (size_t i = 0; i < 6; i++)
        suggest_consider(&s, names[i]);
    assert_string_equal(suggest_text(&s, "", text), ": did you mean aaaaaa, aaxaaa or aaaaax?");
}

static void ranges_parse_merge_and_refuse(void **state)
{
    (void)state;
    struct range *ranges;
    struct err err = { 0 };
    size_t n;
    assert_int_equal(ranges_parse("7,0-2,2,3-5,9", 13, &ranges, &n, &err), 0);
    assert_int_equal(n, 5);
    ranges_merge(ranges, &n);
    assert_int_equal(n, 3);
    assert_int_equal(ranges[0].first, 0);
    assert_int_equal(ranges[0].last, 5);
    assert_int_equal(ranges[1].first, 7);
    assert_int_equal(ranges[2].last, 9);
    free(ranges);
    static const char *const wrong[] = {
        "", ",", "1,", "a", "1-", "-1", "5-3", "1--2", "1 ", "0x1", "+1", "18446744073709551615", "99999999999999999999"
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_message(ranges_parse(wrong[i], strlen(wrong[i]), &ranges, &n, &err), &err, "");
    assert_message(ranges_parse("0,5-3", 5, &ranges, &n, &err), &err, "'5-3' runs backwards|3-5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name_parses_to_its_site),
        cmocka_unit_test(bridge_names_parse_and_depend_on_the_gate),
        cmocka_unit_test(act_names_of_transformer_lens_parse),
        cmocka_unit_test(names_that_are_wrong_are_refused_with_help),
        cmocka_unit_test(shapes_keep_the_kv_heads),
        cmocka_unit_test(filters_choose_what_they_say),
        cmocka_unit_test(filters_that_match_nothing_are_refused),
        cmocka_unit_test(heads_chosen_one_by_one_join_the_whole_site),
        cmocka_unit_test(sets_are_walked_in_forward_order),
        cmocka_unit_test(parsing_what_a_set_lists_gives_the_set),
        cmocka_unit_test(random_filters_never_crash),
        cmocka_unit_test(globs_equal_a_naive_matcher),
        cmocka_unit_test(globs_take_no_exponential_time),
        cmocka_unit_test(near_matches_are_the_nearest),
        cmocka_unit_test(at_most_three_near_matches_stay),
        cmocka_unit_test(ranges_parse_merge_and_refuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
