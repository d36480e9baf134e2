#include "core/query/evaluate.h"

#include "core/base/glob.h"
#include "core/base/mem.h"
#include "core/base/suggest.h"
#include "core/query/functions.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* All vectors of a query together; each needs its longest length in memory. */
enum { MOST_ITEMS = 1 << 25 };

struct slot {
    struct query_type type;
    struct query_view view;                /* FIELD */
    const struct query_function *function; /* CALL */
    double number;
    double *items; /* owned; VECTOR */
    size_t n;
    const char *text;
};

struct query {
    const struct expression *e;
    struct query_columns *columns;
    struct slot *slots; /* [e->n_nodes] */
    size_t items;       /* of all vectors */
};

/* --- types --- */

static const char *kind_text(enum query_kind kind)
{
    return kind == QUERY_TEXT ? "a text" : kind == QUERY_VECTOR ? "a vector" : "a number";
}

static bool same_length(const struct query_type *a, const struct query_type *b)
{
    return a->length == b->length && (a->length == QUERY_LENGTH_FIXED ? a->n == b->n : a->file == b->file);
}

static int wrong_lengths(const struct query *q, const struct expression_node *node, const struct query_type *a,
                         const struct query_type *b, struct err *err)
{
    if (a->length == QUERY_LENGTH_FIXED && b->length == QUERY_LENGTH_FIXED)
        return expression_fail(q->e, node->place, err, ERR_ARG, "vectors of %zu and %zu numbers do not go together",
                               a->n, b->n);
    return expression_fail(q->e, node->place, err, ERR_ARG, "vectors over different tokens do not go together");
}

/* The wider of two types of numbers. */
static int join_types(const struct query *q, const struct expression_node *node, const struct query_type *a,
                      const struct query_type *b, struct query_type *out, struct err *err)
{
    if (a->kind == QUERY_VECTOR && b->kind == QUERY_VECTOR && !same_length(a, b))
        return wrong_lengths(q, node, a, b, err);
    *out = a->kind == QUERY_VECTOR ? *a : *b;
    return 0;
}

static int type_binary(const struct query *q, const struct expression_node *node, struct query_type *out,
                       struct err *err)
{
    const struct expression_node *right = &q->e->nodes[q->e->nodes[node->child].sibling];
    const struct query_type *a = &q->slots[node->child].type, *b = &q->slots[right - q->e->nodes].type;
    bool compares = node->op >= EXPRESSION_EQUAL && node->op <= EXPRESSION_GREATER_EQUAL;
    const char *op = expression_op_text(node->op);
    if (node->op == EXPRESSION_MATCH) {
        if (a->kind != QUERY_TEXT || b->kind != QUERY_TEXT)
            return expression_fail(q->e, node->place, err, ERR_ARG, "~ compares texts, not %s with %s",
                                   kind_text(a->kind), kind_text(b->kind));
        return 0;
    }
    if (a->kind == QUERY_TEXT && b->kind == QUERY_TEXT && compares)
        return 0;
    if (a->kind == QUERY_TEXT || b->kind == QUERY_TEXT)
        return expression_fail(q->e, node->place, err, ERR_ARG, "%s does not work on %s and %s", op, kind_text(a->kind),
                               kind_text(b->kind));
    return join_types(q, node, a, b, out, err);
}

static int type_in(const struct query *q, const struct expression_node *node, struct query_type *out, struct err *err)
{
    const struct query_type *left = &q->slots[node->child].type;
    for (size_t c = q->e->nodes[node->child].sibling; c != SIZE_MAX; c = q->e->nodes[c].sibling) {
        enum query_kind kind = q->slots[c].type.kind;
        if (kind == QUERY_VECTOR || (kind == QUERY_TEXT) != (left->kind == QUERY_TEXT))
            return expression_fail(q->e, q->e->nodes[c].begin, err, ERR_ARG, "%s cannot be in a list with %s",
                                   kind_text(left->kind), kind_text(kind));
    }
    if (left->kind == QUERY_VECTOR)
        *out = *left;
    return 0;
}

static int unknown_function(const struct query *q, const struct expression_node *node, struct err *err)
{
    struct suggest s;
    char hint[SUGGEST_TEXT_MAX];
    suggest_init(&s, node->text, strlen(node->text));
    for (size_t i = 0; query_function_at(i); i++)
        suggest_consider(&s, query_function_at(i)->name);
    return expression_fail(q->e, node->place, err, ERR_NOTFOUND, "no function '%.100s'%s", node->text,
                           suggest_text(&s, "", hint));
}

static int type_call(const struct query *q, const struct expression_node *node, struct slot *slot, struct err *err)
{
    const struct query_function *f = query_function_find(node->text);
    if (!f)
        return unknown_function(q, node, err);
    size_t wanted = f->kind == FUNCTION_PAIR ? 2 : 1;
    if (node->n_children != wanted)
        return expression_fail(q->e, node->place, err, ERR_ARG, "%s() takes %s, not %zu", f->name,
                               wanted == 2 ? "two vectors" : "one value", node->n_children);
    bool reduces = f->kind == FUNCTION_REDUCE || f->kind == FUNCTION_PAIR;
    for (size_t c = node->child; c != SIZE_MAX; c = q->e->nodes[c].sibling) {
        enum query_kind kind = q->slots[c].type.kind;
        if ((reduces && kind != QUERY_VECTOR) || (f->kind == FUNCTION_MAP && kind == QUERY_TEXT))
            return expression_fail(q->e, q->e->nodes[c].begin, err, ERR_ARG, "%s() takes %s, not %s", f->name,
                                   reduces ? "a vector" : "a number or a vector", kind_text(kind));
    }
    slot->function = f;
    const struct query_type *a = &q->slots[node->child].type;
    if (!reduces && a->kind == QUERY_VECTOR)
        slot->type = *a;
    if (f->kind == FUNCTION_PAIR) {
        const struct query_type *b = &q->slots[q->e->nodes[node->child].sibling].type;
        if (!same_length(a, b))
            return wrong_lengths(q, node, a, b, err);
    }
    return 0;
}

static int type_unary(const struct query *q, const struct expression_node *node, struct query_type *out,
                      struct err *err)
{
    const struct query_type *a = &q->slots[node->child].type;
    if (a->kind == QUERY_TEXT)
        return expression_fail(q->e, node->place, err, ERR_ARG, "%s does not work on a text",
                               node->op == EXPRESSION_NOT ? "not" : "-");
    *out = *a;
    return 0;
}

static int bind_node(struct query *q, size_t i, struct err *err)
{
    const struct expression_node *node = &q->e->nodes[i];
    struct slot *slot = &q->slots[i];
    int rc = 0;
    switch (node->op) {
    case EXPRESSION_NUMBER:
        slot->number = node->number;
        break;
    case EXPRESSION_TEXT:
        slot->type.kind = QUERY_TEXT;
        slot->text = node->text;
        break;
    case EXPRESSION_FIELD:
        rc = query_columns_bind(q->columns, q->e, node, &slot->view, err);
        slot->type = slot->view.type;
        break;
    case EXPRESSION_CALL:
        rc = type_call(q, node, slot, err);
        break;
    case EXPRESSION_NOT:
    case EXPRESSION_NEGATE:
        rc = type_unary(q, node, &slot->type, err);
        break;
    case EXPRESSION_IN:
        rc = type_in(q, node, &slot->type, err);
        break;
    default:
        rc = type_binary(q, node, &slot->type, err);
    }
    if (rc || slot->type.kind != QUERY_VECTOR)
        return rc;
    q->items += slot->type.n;
    if (q->items > MOST_ITEMS)
        return expression_fail(q->e, node->place, err, ERR_ARG, "the vectors together have more than %d numbers",
                               MOST_ITEMS);
    slot->items = mem_array(slot->type.n, sizeof *slot->items);
    return slot->items ? 0 : err_nomem(err, "a vector");
}

int query_bind(struct query **out, struct query_columns *columns, const struct expression *e, struct err *err)
{
    struct query *q = mem_zeroed(1, sizeof *q);
    *out = NULL;
    if (!q)
        return err_nomem(err, "a query");
    q->e = e;
    q->columns = columns;
    q->slots = mem_zeroed(e->n_nodes, sizeof *q->slots);
    int rc = q->slots ? 0 : err_nomem(err, "a query");
    for (size_t i = 0; !rc && i < e->n_nodes; i++)
        rc = bind_node(q, i, err);
    if (rc)
        query_free(q);
    else
        *out = q;
    return rc;
}

void query_free(struct query *q)
{
    if (!q)
        return;
    for (size_t i = 0; q->slots && i < q->e->n_nodes; i++)
        free(q->slots[i].items);
    free(q->slots);
    free(q);
}

struct query_type query_node_type(const struct query *q, size_t node)
{
    return q->slots[node].type;
}

struct query_type query_root_type(const struct query *q, size_t root)
{
    return q->slots[q->e->roots[root]].type;
}

int query_check_condition(const struct query *q, size_t root, struct err *err)
{
    const struct expression_node *node = &q->e->nodes[q->e->roots[root]];
    switch (query_root_type(q, root).kind) {
    case QUERY_VECTOR:
        return expression_fail(q->e, node->place, err, ERR_ARG,
                               "the condition is a vector: any(), all() or first() makes one answer of it");
    case QUERY_TEXT:
        return expression_fail(q->e, node->place, err, ERR_ARG, "the condition is a text: compare it with something");
    default:
        return 0;
    }
}

/* --- values --- */

static double apply(enum expression_op op, double a, double b)
{
    bool there = !isnan(a) && !isnan(b);
    switch (op) {
    case EXPRESSION_OR:
        return query_is_true(a) || query_is_true(b);
    case EXPRESSION_AND:
        return query_is_true(a) && query_is_true(b);
    case EXPRESSION_EQUAL:
        return there && a == b;
    case EXPRESSION_UNEQUAL:
        return there && a != b;
    case EXPRESSION_LESS:
        return there && a < b;
    case EXPRESSION_LESS_EQUAL:
        return there && a <= b;
    case EXPRESSION_GREATER:
        return there && a > b;
    case EXPRESSION_GREATER_EQUAL:
        return there && a >= b;
    case EXPRESSION_ADD:
        return a + b;
    case EXPRESSION_SUBTRACT:
        return a - b;
    case EXPRESSION_MULTIPLY:
        return a * b;
    case EXPRESSION_DIVIDE:
        return a / b;
    case EXPRESSION_NOT:
        return !query_is_true(a);
    case EXPRESSION_NEGATE:
        return -a;
    default:
        return NAN;
    }
}

/* Items of a vector, or the same number each time. */
static double at(const struct slot *s, size_t i)
{
    return s->type.kind == QUERY_VECTOR ? s->items[i] : s->number;
}

static double compare_texts(enum expression_op op, const char *a, const char *b)
{
    if (op == EXPRESSION_MATCH)
        return glob_match(b, strlen(b), a);
    int order = strcmp(a, b);
    return apply(op, (double)((order > 0) - (order < 0)), 0);
}

static void evaluate_operator(const struct query *q, const struct expression_node *node, struct slot *out)
{
    const struct slot *a = &q->slots[node->child];
    size_t right = q->e->nodes[node->child].sibling;
    const struct slot *b = node->n_children == 2 ? &q->slots[right] : a;
    if (a->type.kind == QUERY_TEXT)
        out->number = compare_texts(node->op, a->text, b->text);
    else if (out->type.kind == QUERY_VECTOR) {
        out->n = a->type.kind == QUERY_VECTOR ? a->n : b->n;
        for (size_t i = 0; i < out->n; i++)
            out->items[i] = apply(node->op, at(a, i), at(b, i));
    } else
        out->number = apply(node->op, a->number, b->number);
}

static double is_in(const struct query *q, const struct slot *left, size_t item, size_t first)
{
    for (size_t c = first; c != SIZE_MAX; c = q->e->nodes[c].sibling) {
        const struct slot *s = &q->slots[c];
        if (left->type.kind == QUERY_TEXT ? !strcmp(left->text, s->text)
                                          : query_is_true(apply(EXPRESSION_EQUAL, at(left, item), s->number)))
            return 1;
    }
    return 0;
}

static void evaluate_in(const struct query *q, const struct expression_node *node, struct slot *out)
{
    const struct slot *left = &q->slots[node->child];
    size_t first = q->e->nodes[node->child].sibling;
    if (out->type.kind != QUERY_VECTOR) {
        out->number = is_in(q, left, 0, first);
        return;
    }
    out->n = left->n;
    for (size_t i = 0; i < out->n; i++)
        out->items[i] = is_in(q, left, i, first);
}

static void evaluate_call(const struct query *q, const struct expression_node *node, struct slot *out)
{
    const struct query_function *f = out->function;
    const struct slot *a = &q->slots[node->child];
    if (f->kind == FUNCTION_REDUCE)
        out->number = f->reduce(a->items, a->n);
    else if (f->kind == FUNCTION_PAIR)
        out->number = f->pair(a->items, q->slots[q->e->nodes[node->child].sibling].items, a->n);
    else if (a->type.kind == QUERY_TEXT)
        out->number = !*a->text;
    else if (a->type.kind == QUERY_NUMBER)
        out->number = f->map(a->number);
    else {
        out->n = a->n;
        for (size_t i = 0; i < a->n; i++)
            out->items[i] = f->map(a->items[i]);
    }
}

static int read_field(struct query *q, struct slot *out, const struct query_place *places, struct err *err)
{
    const struct query_place *place = &places[out->view.file];
    size_t n;
    if (out->type.kind == QUERY_TEXT)
        return query_view_text(q->columns, &out->view, place, &out->text, err);
    if (out->type.kind == QUERY_VECTOR)
        return query_view_numbers(q->columns, &out->view, place, out->items, &out->n, err);
    return query_view_numbers(q->columns, &out->view, place, &out->number, &n, err);
}

/* Children stand before their parents, so that one pass from the left is enough. */
int query_evaluate(struct query *q, const struct query_place *places, struct err *err)
{
    for (size_t i = 0; i < q->e->n_nodes; i++) {
        const struct expression_node *node = &q->e->nodes[i];
        int rc = 0;
        switch (node->op) {
        case EXPRESSION_NUMBER:
        case EXPRESSION_TEXT:
            break;
        case EXPRESSION_FIELD:
            rc = read_field(q, &q->slots[i], places, err);
            break;
        case EXPRESSION_CALL:
            evaluate_call(q, node, &q->slots[i]);
            break;
        case EXPRESSION_IN:
            evaluate_in(q, node, &q->slots[i]);
            break;
        default:
            evaluate_operator(q, node, &q->slots[i]);
        }
        if (rc)
            return rc;
    }
    return 0;
}

struct query_value query_value(const struct query *q, size_t root)
{
    const struct slot *s = &q->slots[q->e->roots[root]];
    return (struct query_value){ s->type.kind, s->number, s->items, s->n, s->text };
}
