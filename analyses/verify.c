/* strata verify: does this model, on this machine, compute what it should? */
#include "probes/verify.h"
#include "analyses/cli/output.h"
#include "core/base/mem.h"
#include "core/base/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const texts[] = {
    "The Eiffel Tower is located in the city of",
    "2 + 2 = 4, and \xc3\xa9\xc3\xa0\xc3\xbc are letters with marks;\n\n\tdef f(x): return x ** 2",
    /* Longer than a block of 64 queries, where attention changes its path. */
    "In the middle of the old town there is a market where people sell bread, fish, flowers and books. Every morning "
    "the baker opens the door before the sun is up, and the smell of warm bread goes through the narrow streets. The "
    "fisherman comes later, with two baskets and a dog, and the woman who sells flowers is always the last to arrive. "
    "Nobody knows where the books come from.",
};
enum { N_TEXTS = sizeof texts / sizeof *texts, MOST_TOKENS = 96 };

struct prompts {
    struct tokens tokens[N_TEXTS];
    struct prompt prompts[N_TEXTS];
};

static int random_ids(struct tokens *t, size_t n, size_t d_vocab, struct random_source *random, struct err *err)
{
    t->id = mem_array(n, sizeof *t->id);
    if (!t->id)
        return err_nomem(err, "random tokens");
    for (t->n = 0; t->n < n; t->n++)
        t->id[t->n] = (int32_t)random_below(random, d_vocab);
    return 0;
}

static int make_prompts(struct prompts *p, const struct model *m, const struct cli *cli, struct err *err)
{
    static const size_t lengths[N_TEXTS] = { 1, 17, 80 };
    struct random_source random;
    random_seed(&random, cli->seed);
    *p = (struct prompts){ 0 };
    int rc = 0;
    for (size_t i = 0; !rc && i < N_TEXTS; i++) {
        struct tokens *t = &p->tokens[i];
        size_t most = m->config.n_ctx < MOST_TOKENS ? m->config.n_ctx : MOST_TOKENS;
        if (m->tokenizer)
            rc = tokenizer_encode(m->tokenizer, texts[i], strlen(texts[i]), cli->specials, t, err);
        else
            rc = random_ids(t, lengths[i] < most ? lengths[i] : most, m->config.d_vocab, &random, err);
        p->prompts[i] = (struct prompt){
            .tokens = t->id,
            .n_tokens = t->n < most ? t->n : most,
            .name = "of verify",
        };
    }
    return rc;
}

static void release_prompts(struct prompts *p)
{
    for (size_t i = 0; i < N_TEXTS; i++)
        tokens_release(&p->tokens[i]);
}

static bool row_ok(const struct verify_row *row)
{
    return row->worst <= row->limit;
}

static void add_text(const struct verify_report *r, struct strbuf *out)
{
    strbuf_addf(out, "%-64s %9s %9s %6s  %s\n", "IDENTITY", "WORST", "LIMIT", "LAYER", "");
    for (size_t i = 0; i < r->n; i++) {
        const struct verify_row *row = &r->rows[i];
        if (i && !row->identity && row[-1].identity)
            strbuf_addf(out, "\n%-64s %9s %9s %6s  %s\n", "SITE, FLOAT AGAINST DOUBLE", "WORST", "LIMIT", "LAYER", "");
        strbuf_addf(out, "%-64s %9.1e %9.0e %6zu  %s\n", row->name, row->worst, row->limit, row->layer,
                    row_ok(row) ? "ok" : "OFF");
    }
}

static void add_json(const struct model *m, const struct verify_report *r, struct strbuf *out)
{
    strbuf_adds(out, "{\"model\":");
    strbuf_add_json(out, m->path, strlen(m->path));
    strbuf_addf(out, ",\"ok\":%s,\"n_tokens\":%zu,\"checks\":[", r->ok ? "true" : "false", r->n_tokens);
    for (size_t i = 0; i < r->n; i++) {
        const struct verify_row *row = &r->rows[i];
        strbuf_adds(out, i ? ",\n{\"name\":" : "\n{\"name\":");
        strbuf_add_json(out, row->name, strlen(row->name));
        strbuf_addf(out, ",\"kind\":\"%s\",\"worst\":", row->identity ? "identity" : "precision");
        if (isfinite(row->worst))
            strbuf_addf(out, "%.3e", row->worst);
        else
            strbuf_adds(out, "null");
        strbuf_addf(out, ",\"limit\":%.3e,\"layer\":%zu,\"ok\":%s}", row->limit, row->layer,
                    row_ok(row) ? "true" : "false");
    }
    strbuf_adds(out, "\n]}\n");
}

/* One line that names the first check that is off. */
static int report_failure(const struct model *m, const struct verify_report *r, struct err *err)
{
    size_t n = 0, first = r->n;
    for (size_t i = 0; i < r->n; i++)
        if (!row_ok(&r->rows[i])) {
            first = n++ ? first : i;
        }
    if (!n)
        return 0;
    return err_set(err, ERR_CHECK,
                   "%.300s: %zu of %zu checks are off, first '%s' in layer %zu: do not trust results; `strata doctor` "
                   "tests the BLAS",
                   m->path, n, r->n, r->rows[first].name, r->rows[first].layer);
}

static int verify(struct cli *cli, const struct model *m, struct pool *pool, struct err *err)
{
    struct prompts prompts;
    struct verify_report report = { 0 };
    struct strbuf out = STRBUF_INIT;
    int rc = make_prompts(&prompts, m, cli, err);
    rc = rc ? rc : verify_model(m, pool, prompts.prompts, N_TEXTS, &report, err);
    release_prompts(&prompts);
    if (rc)
        return rc;
    if (cli->json)
        add_json(m, &report, &out);
    else
        add_text(&report, &out);
    rc = output_text(cli, &out, 0, err);
    rc = rc ? rc : report_failure(m, &report, err);
    verify_report_release(&report);
    return rc;
}

static int run(struct cli *cli, struct err *err)
{
    struct session s;
    int rc = cli_model_argument(cli, err);
    rc = rc ? rc : output_format(cli, err);
    if (rc)
        return rc;
    rc = session_open(&s, cli, err);
    if (!rc)
        cli_note(cli, "checking %s ...", s.model->path);
    rc = rc ? rc : verify(cli, s.model, s.pool, err);
    session_close(&s);
    return rc;
}

const struct command command_verify = {
    .name = "verify",
    .arguments = "[MODEL]",
    .summary = "checks a model's arithmetic: identities between sites, float against double",
    .details = "Runs three prompts of its own (random token ids from --seed where there is no tokenizer) and checks\n"
               "at every layer that the residual stream is the sum of its parts, that attention rows sum to 1, that\n"
               "products with the weights are right, that the last layer gives the logits, and every site in float\n"
               "against double. Errors are relative, ||a-b|| / ||b||, of the worst layer. Exit status 1 when one is\n"
               "above its limit.\n"
               "\n"
               "--json: {\"model\", \"ok\", \"n_tokens\", \"checks\": [{\"name\", \"kind\" (identity or precision),\n"
               "\"worst\" (null: infinite), \"limit\", \"layer\", \"ok\"}]}.\n",
    .common = COMMON_MODEL_PATH | COMMON_SPECIALS | COMMON_WEIGHTS | COMMON_SEED | COMMON_OUTPUT | COMMON_JSON,
    .most_arguments = 1,
    .run = run,
};
