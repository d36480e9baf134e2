#include "analyses/cli/edit_setup.h"

#include "analyses/cli/fact_options.h"
#include "core/base/json.h"
#include "probes/site_means.h"

#include <stdlib.h>

static int read_file(struct edit_setup *s, const char *path, const struct model_config *config,
                     const struct edit_scope *scope, struct err *err)
{
    json_t *array;
    int rc = json_parse_file(path, &array, err);
    if (!rc) {
        rc = edit_parse_json_in(&s->edits, array, path, config, scope, err);
        json_decref(array);
    }
    return rc;
}

static int read_edits(struct edit_setup *s, const struct edit_options *o, const struct cli *cli,
                      const struct model_config *config, struct err *err)
{
    static const char *const runs[] = { "other" };
    const struct edit_scope scope = {
        .seed = cli->seed, .runs = runs, .n_runs = o->from != NULL, .default_run = o->from ? 0 : EDIT_OWN_RUN
    };
    int rc = o->path ? read_file(s, o->path, config, &scope, err) : 0;
    for (size_t i = 0; !rc && i < o->edits.n; i++)
        rc = edit_parse_in(&s->edits, o->edits.items[i], config, &scope, err);
    return rc;
}

static int read_other(struct edit_setup *s, const struct edit_options *o, const struct cli *cli,
                      const struct model *model, struct err *err)
{
    const struct fact fact = {
        .id = "other", .prompt = o->from, .subject = o->from_subject, .answer_token = -1, .line = 1
    };
    if (!o->from)
        return o->from_subject ? err_set(err, ERR_ARG, "--from-subject goes with --from PROMPT") : 0;
    int rc = prepare_fact(model, &fact, cli->specials, "--from", &s->other, err);
    if (!rc)
        s->other_prompt = prepared_prompt(&s->other);
    return rc;
}

static int add_facts(struct site_means *means, struct batcher *batcher, struct err *err)
{
    struct batch *batch;
    int rc;
    while ((rc = batcher_next(batcher, &batch, err)) > 0) {
        rc = site_means_add(means, batch->prompts, batch->n, err);
        if (!rc && cli_interrupted())
            rc = err_set(err, ERR_INTERRUPTED, "interrupted while taking means");
        if (rc)
            break;
    }
    return rc;
}

int edits_fill_means(struct edit_list *edits, const char *path, const struct cli *cli, const struct session *session,
                     struct err *err)
{
    struct facts *facts;
    struct batcher *batcher;
    struct site_means *means;
    int rc = facts_open(&facts, path, err);
    if (rc)
        return rc;
    rc = batcher_open(&batcher, session->model, facts, cli->specials, SIZE_MAX, runtime_batch_rows(), err);
    if (!rc) {
        rc = site_means_create(&means, session->runtime, edits, err);
        if (!rc) {
            rc = add_facts(means, batcher, err);
            rc = rc ? rc : site_means_fill(means, edits, err);
            site_means_free(means);
        }
        batcher_close(batcher);
    }
    facts_close(facts);
    return rc;
}

static int fill_means(struct edit_setup *s, const struct edit_options *o, const struct cli *cli,
                      const struct session *session, struct err *err)
{
    size_t n = site_means_count(&s->edits);
    if (n && !o->mean_over)
        return err_set(err, ERR_ARG, "an edit sets a mean: give the data set with --mean-over FACTS");
    if (!n && o->mean_over)
        return err_set(err, ERR_ARG, "--mean-over %.200s: no edit sets a mean", o->mean_over);
    return n ? edits_fill_means(&s->edits, o->mean_over, cli, session, err) : 0;
}

int edit_setup_open(struct edit_setup *s, const struct edit_options *o, const struct cli *cli,
                    const struct session *session, struct err *err)
{
    *s = (struct edit_setup){ 0 };
    int rc = read_other(s, o, cli, session->model, err);
    rc = rc ? rc : read_edits(s, o, cli, &session->model->config, err);
    rc = rc ? rc : edit_runs_init(&s->runs, session->runtime, &s->edits, o->from ? &s->other_prompt : NULL, err);
    if (!rc && o->from && !s->runs.needed)
        rc = err_set(err, ERR_ARG, "--from: no edit patches from it");
    return rc ? rc : fill_means(s, o, cli, session, err);
}

void edit_setup_close(struct edit_setup *s)
{
    edit_list_release(&s->edits);
    edit_runs_release(&s->runs);
    prepared_release(&s->other);
}
