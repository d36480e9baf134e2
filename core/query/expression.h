/*
 * Expressions over fields of files, as a tree: `first(rank <= 10) >= 20 and to_subject[L17H5] > 0.3`.
 *
 *     struct expression e;
 *     if (expression_parse(&e, text, 1, &err)) ...        // "column 9: ...", characters counted from 1
 *     for (size_t i = 0; i < e.n_nodes; i++) ...          // children stand before their parents
 *     expression_release(&e);
 *
 * Loosest first: `or` `||`, `and` `&&`, `not` `!`, one comparison (`==` `!=` `<`
 * `<=` `>` `>=` `~` `in (...)` `not in (...)`), `+ -`, `* /`, unary `-`. Atoms:
 * numbers, "texts" or 'texts' (backslash before a quote or a backslash), fields
 * NAME, FILE:NAME or "FILE":NAME with [index, ...], calls, parentheses. An index
 * is a number, `:`, `a:b`, "label", `subject`, or LxHy (two numbers). What a name
 * means is not known here.
 *
 * The text is untrusted: its length, depth and number of nodes are limited.
 */
#ifndef STRATA_QUERY_EXPRESSION_H
#define STRATA_QUERY_EXPRESSION_H

#include "core/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EXPRESSION_LONGEST = 1 << 16, EXPRESSION_DEPTH = 100, EXPRESSION_NODES = 4096, EXPRESSION_ROOTS = 256 };

/* id, as written ("" for what is no operator between two operands) */
#define EXPRESSION_OPS(X)                                                                                              \
    X(NUMBER, "")                                                                                                      \
    X(TEXT, "")                                                                                                        \
    X(FIELD, "")                                                                                                       \
    X(CALL, "")                                                                                                        \
    X(NOT, "")                                                                                                         \
    X(NEGATE, "")                                                                                                      \
    X(IN, "")                                                                                                          \
    X(OR, "or")                                                                                                        \
    X(AND, "and")                                                                                                      \
    X(EQUAL, "==")                                                                                                     \
    X(UNEQUAL, "!=")                                                                                                   \
    X(LESS, "<")                                                                                                       \
    X(LESS_EQUAL, "<=")                                                                                                \
    X(GREATER, ">")                                                                                                    \
    X(GREATER_EQUAL, ">=")                                                                                             \
    X(MATCH, "~")                                                                                                      \
    X(ADD, "+")                                                                                                        \
    X(SUBTRACT, "-")                                                                                                   \
    X(MULTIPLY, "*")                                                                                                   \
    X(DIVIDE, "/")
enum expression_op {
#define X(id, text) EXPRESSION_##id,
    EXPRESSION_OPS(X)
#undef X
};

enum expression_index_kind { INDEX_NUMBER, INDEX_RANGE, INDEX_LABEL, INDEX_SUBJECT, INDEX_UNIT };

struct expression_index {
    enum expression_index_kind kind;
    size_t begin;          /* byte of the expression's text */
    int64_t from, to;      /* NUMBER, UNIT: from; RANGE: half-open, negative from the end */
    bool has_from, has_to; /* RANGE */
    const char *label; /* LABEL: its text; UNIT: "L17H5", of two indices in a row: the layer and its head or neuron */
};

struct expression_node {
    enum expression_op op;
    size_t begin, end; /* bytes of the expression's text; of an operator with two operands: both of them */
    size_t place;      /* byte that an error points at: the operator, the name */
    size_t child, n_children, sibling; /* the first child; the next child of the same parent; SIZE_MAX: none */
    double number;                     /* NUMBER */
    const char *text;                  /* TEXT: without quotes; FIELD, CALL: the name */
    const char *file;                  /* FIELD: what stood before the colon; NULL: nothing */
    size_t index, n_indices;           /* FIELD: in `indices` */
};

struct expression {
    char *text; /* owned copy */
    struct expression_node *nodes;
    struct expression_index *indices;
    size_t n_nodes, n_indices, n_roots;
    size_t roots[EXPRESSION_ROOTS];
    char *strings; /* owned: texts and names */
    size_t nodes_capacity, indices_capacity, strings_used;
};

/* One expression, or up to most_roots of them with commas between. ERR_ARG with the place for wrong syntax. */
int expression_parse(struct expression *out, const char *text, size_t most_roots, struct err *err);
void expression_release(struct expression *e); /* safe on a zeroed struct */
/* Sets "column N: ..." where N is the character at that byte. */
int expression_fail(const struct expression *e, size_t place, struct err *err, enum err_code code, const char *format,
                    ...) ERR_PRINTF(5, 6);
const char *expression_op_text(enum expression_op op);

#endif
