/* Query expressions as text: the tree that each must mean, where errors are, limits. What trees mean: test_query.c. */
#include "core/base/strbuf.h"
#include "core/query/expression.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/must.h"

/* The tree in prefix form: "(or a (and b c))". */
static void print_tree(const struct expression *e, size_t i, struct strbuf *out)
{
    const struct expression_node *node = &e->nodes[i];
    static const char *const names[] = {
        [EXPRESSION_NOT] = "not", [EXPRESSION_NEGATE] = "neg", [EXPRESSION_IN] = "in"
    };
    switch (node->op) {
    case EXPRESSION_NUMBER:
        strbuf_addf(out, "%g", node->number);
        return;
    case EXPRESSION_TEXT:
        strbuf_addf(out, "'%s'", node->text);
        return;
    case EXPRESSION_FIELD:
        strbuf_addf(out, "%s%s%s", node->file ? node->file : "", node->file ? ":" : "", node->text);
        for (size_t k = 0; k < node->n_indices; k++) {
            const struct expression_index *x = &e->indices[node->index + k];
            strbuf_addf(out, "[%d %lld %lld %s]", (int)x->kind, (long long)x->from, (long long)x->to,
                        x->label ? x->label : "");
        }
        return;
    case EXPRESSION_CALL:
        strbuf_addf(out, "(%s()", node->text);
        break;
    default:
        strbuf_addf(out, "(%s", node->op <= EXPRESSION_IN ? names[node->op] : expression_op_text(node->op));
    }
    for (size_t c = node->child; c != SIZE_MAX; c = e->nodes[c].sibling) {
        assert_true(c < i); /* children before parents */
        strbuf_addc(out, ' ');
        print_tree(e, c, out);
    }
    strbuf_addc(out, ')');
}

static void means(const char *text, const char *tree)
{
    struct expression e;
    struct err err = { 0 };
    struct strbuf out = STRBUF_INIT;
    must(expression_parse(&e, text, 1, &err), &err);
    print_tree(&e, e.roots[0], &out);
    assert_string_equal(strbuf_text(&out), tree);
    strbuf_release(&out);
    expression_release(&e);
}

static void operators_bind_as_documented(void **state)
{
    (void)state;
    means("a or b and c", "(or a (and b c))");
    means("a && b || c", "(or (and a b) c)");
    means("not a == 1 and b", "(and (not (== a 1)) b)");
    means("! a < b", "(not (< a b))");
    means("1 - 2 - 3", "(- (- 1 2) 3)");
    means("1 + 2 * 3 / -4", "(+ 1 (/ (* 2 3) (neg 4)))");
    means("--x", "(neg (neg x))");
    means("a + 1 <= b * 2", "(<= (+ a 1) (* b 2))");
    means("(a or b) and c", "(and (or a b) c)");
    means("r ~ 'x*' or r in (\"a\", 'b')", "(or (~ r 'x*') (in r 'a' 'b'))");
    means("x not in (1, 2+3)", "(not (in x 1 (+ 2 3)))");
    means("first(rank <= 10) >= 20", "(>= (first() (<= rank 10)) 20)");
    means("dot(a, b)", "(dot() a b)");
    means("1.5e2 + .5", "(+ 150 0.5)");
    means("'it\\'s \\\\ \"'", "'it's \\ \"'");
}

static void names_and_indices_are_read(void **state)
{
    (void)state;
    means("blocks.7.hook_resid_post", "blocks.7.hook_resid_post");
    means("heads:rank", "heads:rank");
    means("\"my-file.1\":a.b", "my-file.1:a.b");
    means("z[L17H5]", "z[4 17 0 L17H5][4 5 0 L17H5]");
    means("z[17, -5, :]", "z[0 17 0 ][0 -5 0 ][1 0 0 ]");
    means("r[2:-1]", "r[1 2 -1 ]");
    means("r[\"final_post\"]", "r[2 0 0 final_post]");
    means("p[3, 1, subject]", "p[0 3 0 ][0 1 0 ][3 0 0 ]");
    means("subject == 'x'", "(== subject 'x')");
}

static void fails_at(const char *text, const char *words)
{
    struct expression e;
    struct err err = { 0 };
    assert_message(expression_parse(&e, text, 1, &err), &err, words);
    assert_null(e.nodes);
}

static void wrong_syntax_is_placed(void **state)
{
    (void)state;
    fails_at("", "column 1: |this is the end");
    fails_at("a +", "column 4: |this is the end");
    fails_at("a = 1", "column 3: |==");
    fails_at("a b", "column 3: |'b'");
    fails_at("a, b", "column 2: |','");
    fails_at("(a", "column 3: |)");
    fails_at("f(a b)", "column 5: |a comma or )");
    fails_at("a < b < c", "column 7: |and");
    fails_at("a == not b", "column 6: |'not'");
    fails_at("x in ()", "column 7: |a value");
    fails_at("x in 3", "column 6: |(");
    fails_at("a[", "column 3: |whole number");
    fails_at("a[1.5]", "column 3: |whole number");
    fails_at("a[x]", "column 3: |LxHy");
    fails_at("a[L1H]", "column 3: |LxHy");
    fails_at("a[1", "column 4: |]");
    fails_at("h:3", "column 3: |name of a field");
    fails_at("12ab", "column 3: |'a'");
    fails_at("1e999", "column 1: |too large");
    fails_at("'abc", "column 1: |closing");
    fails_at("a @ b", "column 3: |'@'");
    /* characters, not bytes */
    fails_at("'\xc3\xa4\xc3\xa4' == \xe2\x82\xac", "column 9: |'\xe2\x82\xac'");
}

static char *repeat(const char *before, const char *middle, const char *after, size_t n)
{
    struct strbuf s = STRBUF_INIT;
    for (size_t i = 0; i < n; i++)
        strbuf_adds(&s, before);
    strbuf_adds(&s, middle);
    for (size_t i = 0; i < n; i++)
        strbuf_adds(&s, after);
    return s.data;
}

static void size_and_depth_are_limited(void **state)
{
    (void)state;
    struct err err = { 0 };
    struct expression e;
    static const struct {
        const char *before, *middle, *after, *words;
        size_t n, fine;
    } cases[] = {
        { "(", "a", ")", "levels deep", EXPRESSION_DEPTH, EXPRESSION_DEPTH - 1 },
        { "-", "a", "", "levels deep", EXPRESSION_DEPTH, EXPRESSION_DEPTH - 1 },
        { "not ", "a", "", "levels deep", EXPRESSION_DEPTH, EXPRESSION_DEPTH - 1 },
        { "f(", "a", ")", "levels deep", EXPRESSION_DEPTH, EXPRESSION_DEPTH - 1 },
        { "1+", "a", "", "operators and operands", EXPRESSION_NODES, EXPRESSION_NODES / 2 - 1 },
        { " ", "a", "", "bytes", EXPRESSION_LONGEST, EXPRESSION_LONGEST - 1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *bad = repeat(cases[i].before, cases[i].middle, cases[i].after, cases[i].n);
        char *good = repeat(cases[i].before, cases[i].middle, cases[i].after, cases[i].fine);
        assert_message(expression_parse(&e, bad, 1, &err), &err, cases[i].words);
        must(expression_parse(&e, good, 1, &err), &err);
        expression_release(&e);
        free(bad);
        free(good);
    }
}

static void lists_have_several_roots(void **state)
{
    (void)state;
    struct err err = { 0 };
    struct expression e;
    must(expression_parse(&e, "id, dot(a, b), x[1, 2] ", EXPRESSION_ROOTS, &err), &err);
    assert_int_equal(e.n_roots, 3);
    assert_int_equal(e.nodes[e.roots[1]].begin, 4);
    assert_int_equal(e.nodes[e.roots[1]].end, 13);
    assert_int_equal(e.nodes[e.roots[2]].end, 22);
    expression_release(&e);
    assert_message(expression_parse(&e, "a,", EXPRESSION_ROOTS, &err), &err, "column 3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operators_bind_as_documented), cmocka_unit_test(names_and_indices_are_read),
        cmocka_unit_test(wrong_syntax_is_placed),       cmocka_unit_test(size_and_depth_are_limited),
        cmocka_unit_test(lists_have_several_roots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
