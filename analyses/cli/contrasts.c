#include "analyses/cli/contrasts.h"

#include "core/base/mem.h"

#include <stdlib.h>
#include <string.h>

/* The same text for all facts, whose tokens may depend on how the prompt ends. */
static int rival_of_all(struct contrasts *c, const struct known_facts *k, const struct model *m, const char *against,
                        struct err *err)
{
    for (size_t i = 0; i < k->n; i++) {
        int32_t *tokens;
        size_t n;
        bool retokenized;
        int rc = prepare_answer(m, k->facts[i]->text, against, &tokens, &n, &retokenized, err);
        if (rc)
            return err_prefix(err, "--against: ");
        c->owned[c->n_owned++] = tokens;
        if (!n || tokens[0] == k->answers[i])
            return err_set(err, ERR_ARG, "--against %.100s: its first token is the answer's own (prompt %.100s)",
                           against, k->facts[i]->id);
        c->each[i].rivals = tokens;
        c->each[i].n_rivals = 1;
    }
    return 0;
}

/* Distinct answer tokens of one relation among all facts that were given. *out is the caller's. */
static int answers_of_relation(const struct known_facts *k, const char *relation, int32_t **out, size_t *n,
                               struct err *err)
{
    int32_t *tokens = mem_array(k->n_given, sizeof *tokens);
    if (!tokens)
        return err_nomem(err, "rivals");
    *n = 0;
    for (size_t i = 0; i < k->n_given; i++) {
        int32_t token = k->items[i].answer_token;
        bool there = token < 0 || strcmp(k->items[i].relation, relation) != 0;
        for (size_t j = 0; !there && j < *n; j++)
            there = tokens[j] == token;
        if (!there)
            tokens[(*n)++] = token;
    }
    *out = tokens;
    return 0;
}

static int rivals_by_relation(struct contrasts *c, const struct known_facts *k, struct err *err)
{
    for (size_t i = 0; i < k->n; i++) {
        const char *relation = k->facts[i]->relation;
        size_t same = 0, n = 0;
        while (same < i && strcmp(k->facts[same]->relation, relation) != 0)
            same++;
        if (!*relation)
            return err_set(err, ERR_ARG, "--against relation: prompt %.100s has no relation", k->facts[i]->id);
        if (same < i) {
            c->each[i].rivals = c->each[same].rivals;
            c->each[i].n_rivals = c->each[same].n_rivals;
            continue;
        }
        int rc = answers_of_relation(k, relation, &c->owned[c->n_owned], &n, err);
        if (rc)
            return rc;
        c->each[i].rivals = c->owned[c->n_owned++];
        c->each[i].n_rivals = n;
    }
    return 0;
}

/* Takes out facts with no other answer than their own. */
static int leave_out_alone(struct contrasts *c, struct known_facts *k, const struct cli *cli, struct err *err)
{
    size_t kept = 0, n = k->n;
    for (size_t i = 0; i < n; i++) {
        if (c->each[i].n_rivals < 2)
            continue;
        c->each[kept] = c->each[i];
        known_facts_move(k, i, kept++);
    }
    k->n = kept;
    k->n_left_out = n - kept;
    if (k->n_left_out)
        cli_note(cli, "--against relation: %zu facts left out, whose relation has one answer only", k->n_left_out);
    return kept ? 0 : err_set(err, ERR_ARG, "--against relation: no fact's relation has two different answers");
}

int contrasts_choose(struct contrasts *c, struct known_facts *k, const struct cli *cli, const struct model *m,
                     const char *against, struct err *err)
{
    *c = (struct contrasts){ .each = mem_zeroed(k->n, sizeof *c->each), .owned = mem_zeroed(k->n, sizeof *c->owned) };
    if (!c->each || !c->owned)
        return err_nomem(err, "rivals");
    for (size_t i = 0; i < k->n; i++)
        c->each[i].answer = k->answers[i];
    int rc = 0;
    if (!against) {
        strbuf_adds(&c->text, "nothing");
    } else if (!strcmp(against, "relation") && !k->single) {
        strbuf_adds(&c->text, "the mean of its relation's other answers");
        rc = rivals_by_relation(c, k, err);
        rc = rc ? rc : leave_out_alone(c, k, cli, err);
    } else {
        strbuf_addf(&c->text, "that of '%s'", against);
        rc = rival_of_all(c, k, m, against, err);
    }
    return rc || !strbuf_failed(&c->text) ? rc : err_nomem(err, "rivals");
}

void contrasts_release(struct contrasts *c)
{
    for (size_t i = 0; i < c->n_owned; i++)
        free(c->owned[i]);
    free(c->owned);
    free(c->each);
    strbuf_release(&c->text);
    *c = (struct contrasts){ 0 };
}
