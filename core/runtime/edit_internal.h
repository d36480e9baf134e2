/* What the parts of the edit parser share: edit.c (text), edit_json.c, edit_values.c. Nobody else includes this. */
#ifndef STRATA_RUNTIME_EDIT_INTERNAL_H
#define STRATA_RUNTIME_EDIT_INTERNAL_H

#include "core/runtime/edit.h"

#define EDIT_GRAMMAR "write SITE[@POSITIONS[<-KEYS]][#UNITS] OP [VALUE]"

/* The parts of an edit, their keys in JSON (from FROM_SITE on: keys of "from") and what stands before
 * them in an expression. */
#define EDIT_PARTS(X)                                                                                                  \
    X(SITE, "site", "")                                                                                                \
    X(AT, "at", "@")                                                                                                   \
    X(KEYS, "keys", "<-")                                                                                              \
    X(UNITS, "units", "#")                                                                                             \
    X(OP, "op", " ")                                                                                                   \
    X(VALUE, "value", " ")                                                                                             \
    X(FROM_SITE, "site", " ")                                                                                          \
    X(FROM_AT, "at", "@")                                                                                              \
    X(FROM_RUN, "prompt", " from ")
enum edit_part {
#define X(id, key, before) PART_##id,
    EDIT_PARTS(X)
#undef X
        N_PARTS
};

struct piece {
    const char *text; /* NULL: absent */
    size_t len;
};

/* An edit taken apart; all borrowed. */
struct edit_text {
    struct piece part[N_PARTS];
    struct piece whole;    /* for messages, and what is kept */
    const json_t *numbers; /* value as an array; or NULL */
};

struct edit_context {
    const struct model_config *config;
    const struct edit_scope *scope;
};

static inline int shown(struct piece p)
{
    return p.len < 120 ? (int)p.len : 120;
}

static inline bool is_word(struct piece p, const char *word)
{
    size_t n = 0;
    while (word[n])
        n++;
    if (p.len != n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (p.text[i] != word[i])
            return false;
    return true;
}

/* Appends what the parts say. */
int edit_append(struct edit_list *list, const struct edit_text *t, const struct edit_context *c, struct err *err);
/* Fills e->source and what belongs to it; site, layers, units and op are there. */
int edit_fill_value(struct edit *e, const struct edit_text *t, const char *op, const struct edit_context *c,
                    struct err *err);
int edit_fill_patch(struct edit *e, const struct edit_text *t, const struct edit_context *c, struct err *err);

#endif
