#include "core/query/expression.h"

#include "core/base/mem.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *expression_op_text(enum expression_op op)
{
    static const char *const texts[] = {
#define X(id, text) text,
        EXPRESSION_OPS(X)
#undef X
    };
    return texts[op];
}

int expression_fail(const struct expression *e, size_t place, struct err *err, enum err_code code, const char *format,
                    ...)
{
    char what[sizeof(((struct err *)0)->msg)];
    size_t column = 1;
    for (size_t i = 0; i < place && e->text[i]; i++)
        column += ((unsigned char)e->text[i + 1] & 0xc0) != 0x80;
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return err_set(err, code, "column %zu: %.900s", column, what);
}

/* --- tokens --- */

enum token_kind {
    T_END,
    T_NUMBER,
    T_TEXT,
    T_NAME,
    T_OP,
    T_NOT,
    T_IN,
    T_OPEN,
    T_CLOSE,
    T_BRACKET,
    T_UNBRACKET,
    T_COMMA,
    T_COLON
};

struct token {
    enum token_kind kind;
    enum expression_op op;
    size_t begin, end;
    double number;
};

struct parser {
    struct expression *e;
    struct token token; /* the one to be taken next */
    int depth;
    struct err *err;
};

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static const struct {
    const char *text;
    enum token_kind kind;
    enum expression_op op;
} symbols[] = {
    /* longer ones before those that they begin with */
    { "||", T_OP, EXPRESSION_OR },         { "&&", T_OP, EXPRESSION_AND },
    { "==", T_OP, EXPRESSION_EQUAL },      { "!=", T_OP, EXPRESSION_UNEQUAL },
    { "<=", T_OP, EXPRESSION_LESS_EQUAL }, { ">=", T_OP, EXPRESSION_GREATER_EQUAL },
    { "<", T_OP, EXPRESSION_LESS },        { ">", T_OP, EXPRESSION_GREATER },
    { "~", T_OP, EXPRESSION_MATCH },       { "+", T_OP, EXPRESSION_ADD },
    { "-", T_OP, EXPRESSION_SUBTRACT },    { "*", T_OP, EXPRESSION_MULTIPLY },
    { "/", T_OP, EXPRESSION_DIVIDE },      { "!", T_NOT, EXPRESSION_NOT },
    { "(", T_OPEN, EXPRESSION_NUMBER },    { ")", T_CLOSE, EXPRESSION_NUMBER },
    { "[", T_BRACKET, EXPRESSION_NUMBER }, { "]", T_UNBRACKET, EXPRESSION_NUMBER },
    { ",", T_COMMA, EXPRESSION_NUMBER },   { ":", T_COLON, EXPRESSION_NUMBER },
};

static const struct {
    const char *text;
    enum token_kind kind;
    enum expression_op op;
} words[] = {
    { "or", T_OP, EXPRESSION_OR },
    { "and", T_OP, EXPRESSION_AND },
    { "not", T_NOT, EXPRESSION_NOT },
    { "in", T_IN, EXPRESSION_IN },
};

static int lex_text(struct parser *p, struct token *t)
{
    const char *text = p->e->text;
    size_t at = t->begin + 1;
    for (; text[at] && text[at] != text[t->begin]; at++)
        if (text[at] == '\\' && text[at + 1])
            at++;
    if (!text[at])
        return expression_fail(p->e, t->begin, p->err, ERR_ARG, "the text that begins here has no closing %c",
                               text[t->begin]);
    t->kind = T_TEXT;
    t->end = at + 1;
    return 0;
}

static int lex_number(struct parser *p, struct token *t)
{
    const char *text = p->e->text;
    size_t at = t->begin;
    while (is_digit(text[at]))
        at++;
    if (text[at] == '.')
        for (at++; is_digit(text[at]);)
            at++;
    if (text[at] == 'e' || text[at] == 'E') {
        size_t exponent = at + 1 + (text[at + 1] == '+' || text[at + 1] == '-');
        for (at = is_digit(text[exponent]) ? exponent : at; is_digit(text[at]);)
            at++;
    }
    if (is_letter(text[at]) || text[at] == '.')
        return expression_fail(p->e, at, p->err, ERR_ARG, "a number ends in '%c'", text[at]);
    t->kind = T_NUMBER;
    t->end = at;
    t->number = strtod(text + t->begin, NULL);
    return isfinite(t->number) ? 0 : expression_fail(p->e, t->begin, p->err, ERR_ARG, "the number is too large");
}

/* A dot belongs to a name where a letter or digit follows it: blocks.7.hook_resid_post. */
static void lex_name(struct parser *p, struct token *t)
{
    const char *text = p->e->text;
    size_t at = t->begin;
    while (is_letter(text[at]) || is_digit(text[at]) ||
           (text[at] == '.' && (is_letter(text[at + 1]) || is_digit(text[at + 1]))))
        at++;
    t->kind = T_NAME;
    t->end = at;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (t->end - t->begin == strlen(words[i].text) && !memcmp(text + t->begin, words[i].text, t->end - t->begin)) {
            t->kind = words[i].kind;
            t->op = words[i].op;
        }
}

static int next_token(struct parser *p)
{
    struct token *t = &p->token;
    const char *text = p->e->text;
    size_t at = t->end;
    while (text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r')
        at++;
    *t = (struct token){ .kind = T_END, .begin = at, .end = at };
    if (!text[at])
        return 0;
    if (text[at] == '"' || text[at] == '\'')
        return lex_text(p, t);
    if (is_digit(text[at]) || (text[at] == '.' && is_digit(text[at + 1])))
        return lex_number(p, t);
    if (is_letter(text[at]))
        return lex_name(p, t), 0;
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++)
        if (!strncmp(text + at, symbols[i].text, strlen(symbols[i].text))) {
            *t = (struct token){ symbols[i].kind, symbols[i].op, at, at + strlen(symbols[i].text), 0 };
            return 0;
        }
    if (text[at] == '=')
        return expression_fail(p->e, at, p->err, ERR_ARG, "'=' alone means nothing here: equality is ==");
    size_t n = 1;
    while (((unsigned char)text[at + n] & 0xc0) == 0x80)
        n++;
    return expression_fail(p->e, at, p->err, ERR_ARG, "'%.*s' means nothing here", (int)(n < 4 ? n : 4), text + at);
}

static bool at_op(const struct parser *p, enum expression_op first, enum expression_op last)
{
    return p->token.kind == T_OP && p->token.op >= first && p->token.op <= last;
}

/* "', but 'x' follows" for messages. */
static int unexpected(struct parser *p, const char *wanted)
{
    const struct token *t = &p->token;
    size_t n = t->end - t->begin;
    if (t->kind == T_END)
        return expression_fail(p->e, t->begin, p->err, ERR_ARG, "%s is expected, but this is the end", wanted);
    return expression_fail(p->e, t->begin, p->err, ERR_ARG, "%s is expected, not '%.*s'", wanted,
                           (int)(n < 60 ? n : 60), p->e->text + t->begin);
}

static int take(struct parser *p, enum token_kind kind, const char *wanted)
{
    return p->token.kind == kind ? next_token(p) : unexpected(p, wanted);
}

/* --- the tree --- */

static int add_node(struct parser *p, struct expression_node node, size_t *out)
{
    struct expression *e = p->e;
    if (e->n_nodes == EXPRESSION_NODES)
        return expression_fail(e, node.begin, p->err, ERR_ARG, "more than %d operators and operands", EXPRESSION_NODES);
    if (!mem_grow(&e->nodes, &e->nodes_capacity, e->n_nodes + 1, sizeof *e->nodes))
        return err_nomem(p->err, "an expression");
    node.sibling = SIZE_MAX;
    if (!node.n_children)
        node.child = SIZE_MAX;
    *out = e->n_nodes;
    e->nodes[e->n_nodes++] = node;
    return 0;
}

/* Bytes of the text, quotes and their backslashes taken off. Room is there: each part of the text is kept once. */
static const char *keep(struct parser *p, size_t begin, size_t end)
{
    struct expression *e = p->e;
    char *to = e->strings + e->strings_used, *start = to;
    bool quoted = e->text[begin] == '"' || e->text[begin] == '\'';
    for (size_t i = begin + quoted; i < end - quoted; i++) {
        if (quoted && e->text[i] == '\\')
            i++;
        *to++ = e->text[i];
    }
    *to++ = '\0';
    e->strings_used += (size_t)(to - start);
    return start;
}

static int add_unary(struct parser *p, enum expression_op op, size_t place, size_t child, size_t *out)
{
    const struct expression_node node = {
        .op = op, .begin = place, .end = p->e->nodes[child].end, .place = place, .child = child, .n_children = 1
    };
    return add_node(p, node, out);
}

static int add_binary(struct parser *p, enum expression_op op, size_t place, size_t a, size_t b, size_t *out)
{
    struct expression_node *nodes = p->e->nodes;
    const struct expression_node node = {
        .op = op, .begin = nodes[a].begin, .end = nodes[b].end, .place = place, .child = a, .n_children = 2
    };
    nodes[a].sibling = b;
    return add_node(p, node, out);
}

static int parse_or(struct parser *p, size_t *out);

/* One way in for everything that nests. */
static int parse_inner(struct parser *p, int (*parse)(struct parser *, size_t *), size_t *out)
{
    if (p->depth == EXPRESSION_DEPTH)
        return expression_fail(p->e, p->token.begin, p->err, ERR_ARG, "nested more than %d levels deep",
                               EXPRESSION_DEPTH);
    p->depth++;
    int rc = parse(p, out);
    p->depth--;
    return rc;
}

/* After `(`: a, b, ... and the closing parenthesis. They become siblings after *last (SIZE_MAX: none). */
static int parse_list(struct parser *p, size_t *first, size_t last, size_t *n, size_t *end)
{
    for (bool more = p->token.kind != T_CLOSE; more;) {
        size_t item = SIZE_MAX;
        int rc = parse_inner(p, parse_or, &item);
        if (rc)
            return rc;
        if (last == SIZE_MAX)
            *first = item;
        else
            p->e->nodes[last].sibling = item;
        last = item;
        ++*n;
        more = p->token.kind == T_COMMA;
        if (more && (rc = next_token(p)))
            return rc;
    }
    *end = p->token.end;
    return take(p, T_CLOSE, "a comma or )");
}

/* --- indices --- */

static int add_index(struct parser *p, struct expression_index index)
{
    struct expression *e = p->e;
    if (e->n_indices == EXPRESSION_NODES)
        return expression_fail(e, index.begin, p->err, ERR_ARG, "more than %d indices", EXPRESSION_NODES);
    if (!mem_grow(&e->indices, &e->indices_capacity, e->n_indices + 1, sizeof *e->indices))
        return err_nomem(p->err, "an expression");
    e->indices[e->n_indices++] = index;
    return 0;
}

static int take_whole(struct parser *p, int64_t *out)
{
    bool minus = at_op(p, EXPRESSION_SUBTRACT, EXPRESSION_SUBTRACT);
    int rc = minus ? next_token(p) : 0;
    if (rc)
        return rc;
    const struct token t = p->token;
    if (t.kind != T_NUMBER)
        return unexpected(p, "a whole number, :, \"label\", subject or LxHy");
    if (t.number > INT32_MAX || t.number != floor(t.number))
        return expression_fail(p->e, t.begin, p->err, ERR_ARG, "an index is a whole number");
    *out = minus ? -(int64_t)t.number : (int64_t)t.number;
    return next_token(p);
}

/* "L17H5", "L7N120" or "L17". */
static bool parse_unit(const char *text, size_t n, int64_t number[2], int *parts)
{
    static const char letters[2][3] = { "L", "HN" };
    size_t at = 0;
    for (*parts = 0; *parts < 2 && at < n; ++*parts) {
        if (!strchr(letters[*parts], text[at++]) || at == n || !is_digit(text[at]))
            return false;
        for (number[*parts] = 0; at < n && is_digit(text[at]); at++)
            if ((number[*parts] = number[*parts] * 10 + (text[at] - '0')) > INT32_MAX)
                return false;
    }
    return at == n;
}

static int parse_word_index(struct parser *p)
{
    const struct token t = p->token;
    struct expression_index index = { .begin = t.begin };
    const char *text = p->e->text + t.begin;
    int64_t number[2];
    int parts, rc;
    if (t.end - t.begin == strlen("subject") && !memcmp(text, "subject", t.end - t.begin)) {
        index.kind = INDEX_SUBJECT;
        rc = add_index(p, index);
        return rc ? rc : next_token(p);
    }
    if (!parse_unit(text, t.end - t.begin, number, &parts))
        return unexpected(p, "a whole number, :, \"label\", subject or LxHy");
    index.label = keep(p, t.begin, t.end);
    rc = 0;
    for (int i = 0; !rc && i < parts; i++) {
        index.kind = parts == 2 ? INDEX_UNIT : INDEX_NUMBER;
        index.from = number[i];
        rc = add_index(p, index);
    }
    return rc ? rc : next_token(p);
}

static int parse_index(struct parser *p)
{
    struct expression_index index = { .kind = INDEX_RANGE, .begin = p->token.begin };
    int rc = 0;
    if (p->token.kind == T_NAME)
        return parse_word_index(p);
    if (p->token.kind == T_TEXT) {
        index.kind = INDEX_LABEL;
        index.label = keep(p, p->token.begin, p->token.end);
        rc = next_token(p);
        return rc ? rc : add_index(p, index);
    }
    if (p->token.kind != T_COLON) {
        index.has_from = true;
        rc = take_whole(p, &index.from);
    }
    if (!rc && p->token.kind == T_COLON) {
        rc = next_token(p);
        if (!rc && p->token.kind != T_COMMA && p->token.kind != T_UNBRACKET) {
            index.has_to = true;
            rc = take_whole(p, &index.to);
        }
    } else
        index.kind = INDEX_NUMBER;
    return rc ? rc : add_index(p, index);
}

static int parse_indices(struct parser *p, struct expression_node *node)
{
    int rc = next_token(p);
    node->index = p->e->n_indices;
    for (bool more = !rc; more;) {
        rc = parse_index(p);
        more = !rc && p->token.kind == T_COMMA;
        if (more && (rc = next_token(p)))
            more = false;
    }
    node->n_indices = p->e->n_indices - node->index;
    node->end = p->token.end;
    return rc ? rc : take(p, T_UNBRACKET, "a comma or ]");
}

/* --- operands --- */

/* The token is a name, or a text that a colon followed. */
static int parse_field(struct parser *p, struct expression_node *node, size_t *out)
{
    node->op = EXPRESSION_FIELD;
    int rc = next_token(p);
    if (!rc && p->token.kind == T_COLON) {
        node->file = keep(p, node->begin, node->end);
        rc = next_token(p);
        if (!rc && p->token.kind != T_NAME)
            return unexpected(p, "the name of a field");
        node->place = p->token.begin;
        node->end = p->token.end;
        rc = rc ? rc : next_token(p);
    }
    if (rc)
        return rc;
    node->text = keep(p, node->place, node->end);
    if (p->token.kind == T_OPEN && !node->file) {
        size_t first = SIZE_MAX;
        node->op = EXPRESSION_CALL;
        rc = next_token(p);
        rc = rc ? rc : parse_list(p, &first, SIZE_MAX, &node->n_children, &node->end);
        node->child = first;
    } else if (p->token.kind == T_BRACKET)
        rc = parse_indices(p, node);
    return rc ? rc : add_node(p, *node, out);
}

static int parse_atom(struct parser *p, size_t *out)
{
    const struct token t = p->token;
    struct expression_node node = { .begin = t.begin, .end = t.end, .place = t.begin };
    int rc;
    switch (t.kind) {
    case T_NUMBER:
        node.op = EXPRESSION_NUMBER;
        node.number = t.number;
        rc = next_token(p);
        return rc ? rc : add_node(p, node, out);
    case T_TEXT:
        if (p->e->text[t.end] == ':')
            return parse_field(p, &node, out);
        node.op = EXPRESSION_TEXT;
        node.text = keep(p, t.begin, t.end);
        rc = next_token(p);
        return rc ? rc : add_node(p, node, out);
    case T_NAME:
        return parse_field(p, &node, out);
    case T_OPEN:
        rc = next_token(p);
        rc = rc ? rc : parse_inner(p, parse_or, out);
        if (rc)
            return rc;
        p->e->nodes[*out].begin = t.begin;
        p->e->nodes[*out].end = p->token.end;
        return take(p, T_CLOSE, ")");
    default:
        return unexpected(p, "a field, a number, a \"text\" or (");
    }
}

/* --- operators, tightest first --- */

static int parse_unary(struct parser *p, size_t *out)
{
    size_t place = p->token.begin;
    if (!at_op(p, EXPRESSION_SUBTRACT, EXPRESSION_SUBTRACT))
        return parse_atom(p, out);
    int rc = next_token(p);
    rc = rc ? rc : parse_inner(p, parse_unary, out);
    return rc ? rc : add_unary(p, EXPRESSION_NEGATE, place, *out, out);
}

static int parse_left(struct parser *p, int (*operand)(struct parser *, size_t *), enum expression_op first,
                      enum expression_op last, size_t *out)
{
    int rc = operand(p, out);
    while (!rc && at_op(p, first, last)) {
        const struct token t = p->token;
        size_t right = SIZE_MAX;
        rc = next_token(p);
        rc = rc ? rc : operand(p, &right);
        rc = rc ? rc : add_binary(p, t.op, t.begin, *out, right, out);
    }
    return rc;
}

static int parse_product(struct parser *p, size_t *out)
{
    return parse_left(p, parse_unary, EXPRESSION_MULTIPLY, EXPRESSION_DIVIDE, out);
}

static int parse_sum(struct parser *p, size_t *out)
{
    return parse_left(p, parse_product, EXPRESSION_ADD, EXPRESSION_SUBTRACT, out);
}

/* `in` or `not in` is the token. */
static int parse_in(struct parser *p, size_t *out)
{
    bool negated = p->token.kind == T_NOT;
    struct expression_node node = { .op = EXPRESSION_IN, .place = p->token.begin, .child = *out, .n_children = 1 };
    node.begin = p->e->nodes[*out].begin;
    int rc = negated ? next_token(p) : 0;
    rc = rc ? rc : take(p, T_IN, "in");
    rc = rc ? rc : take(p, T_OPEN, "( and a list of values");
    if (!rc && p->token.kind == T_CLOSE)
        rc = unexpected(p, "a value");
    rc = rc ? rc : parse_list(p, NULL, *out, &node.n_children, &node.end);
    rc = rc ? rc : add_node(p, node, out);
    if (rc || !negated)
        return rc;
    size_t begin = node.begin;
    rc = add_unary(p, EXPRESSION_NOT, node.place, *out, out);
    if (!rc)
        p->e->nodes[*out].begin = begin;
    return rc;
}

static bool at_comparison(const struct parser *p)
{
    return p->token.kind == T_IN || p->token.kind == T_NOT || at_op(p, EXPRESSION_EQUAL, EXPRESSION_MATCH);
}

static int parse_comparison(struct parser *p, size_t *out)
{
    int rc = parse_sum(p, out);
    if (rc || !at_comparison(p))
        return rc;
    const struct token t = p->token;
    if (t.kind != T_OP)
        rc = parse_in(p, out);
    else {
        size_t right = SIZE_MAX;
        rc = next_token(p);
        rc = rc ? rc : parse_sum(p, &right);
        rc = rc ? rc : add_binary(p, t.op, t.begin, *out, right, out);
    }
    if (!rc && at_comparison(p))
        return expression_fail(p->e, p->token.begin, p->err, ERR_ARG,
                               "comparisons do not follow one another: join two of them with `and`");
    return rc;
}

static int parse_not(struct parser *p, size_t *out)
{
    size_t place = p->token.begin;
    if (p->token.kind != T_NOT)
        return parse_comparison(p, out);
    int rc = next_token(p);
    rc = rc ? rc : parse_inner(p, parse_not, out);
    return rc ? rc : add_unary(p, EXPRESSION_NOT, place, *out, out);
}

static int parse_and(struct parser *p, size_t *out)
{
    return parse_left(p, parse_not, EXPRESSION_AND, EXPRESSION_AND, out);
}

static int parse_or(struct parser *p, size_t *out)
{
    return parse_left(p, parse_and, EXPRESSION_OR, EXPRESSION_OR, out);
}

static int parse_roots(struct parser *p, size_t most, struct expression *e)
{
    int rc = next_token(p);
    for (bool more = !rc; more;) {
        if (e->n_roots == most)
            return expression_fail(e, p->token.begin, p->err, ERR_ARG, "more than %zu expressions", most);
        rc = parse_inner(p, parse_or, &e->roots[e->n_roots]);
        e->n_roots += !rc;
        more = !rc && most > 1 && p->token.kind == T_COMMA;
        if (more && (rc = next_token(p)))
            more = false;
    }
    return rc || p->token.kind == T_END
               ? rc
               : unexpected(p, most > 1 ? "an operator, a comma or the end" : "an operator or the end");
}

int expression_parse(struct expression *out, const char *text, size_t most_roots, struct err *err)
{
    *out = (struct expression){ 0 };
    size_t n = strnlen(text, EXPRESSION_LONGEST + 1);
    if (n > EXPRESSION_LONGEST)
        return err_set(err, ERR_ARG, "column %d: the expression is longer than %d bytes", EXPRESSION_LONGEST + 1,
                       EXPRESSION_LONGEST);
    out->text = mem_strdup(text);
    out->strings = mem_array(2 * n + 2, 1); /* every byte once, and a NUL after each part of at least one */
    struct parser p = { .e = out, .err = err };
    int rc = out->text && out->strings
                 ? parse_roots(&p, most_roots < EXPRESSION_ROOTS ? most_roots : EXPRESSION_ROOTS, out)
                 : err_nomem(err, "an expression");
    if (rc)
        expression_release(out);
    return rc;
}

void expression_release(struct expression *e)
{
    free(e->text);
    free(e->strings);
    free(e->nodes);
    free(e->indices);
    *e = (struct expression){ 0 };
}
