#include "analyses/cli/fact_options.h"

#include "analyses/cli/text.h"
#include "core/base/json.h"

#include <stdlib.h>

int fact_options_check(const struct fact_options *o, struct cli *cli, struct err *err)
{
    if (cli->input && (o->subject || o->answer))
        return cli_usage(cli, err, "--%s goes with a prompt on the command line, not with -i: the facts have their own",
                         o->subject ? "subject" : "answer");
    return 0;
}

int fact_options_prepare(const struct fact_options *o, const struct cli *cli, const struct model *model,
                         struct prepared *out, struct err *err)
{
    struct fact fact = { .id = "0", .subject = o->subject, .answer = o->answer, .answer_token = -1, .line = 1 };
    char *text;
    int rc = cli_text_argument(cli, &text, err);
    if (rc)
        return rc;
    fact.prompt = text;
    rc = prepare_fact(model, &fact, cli->specials, "the prompt", out, err);
    free(text);
    return rc;
}

static int read_file(const char *path, const struct model_config *config, struct edit_list *out, struct err *err)
{
    json_t *array;
    int rc = json_parse_file(path, &array, err);
    if (!rc) {
        rc = edit_parse_json(out, array, path, config, err);
        json_decref(array);
    }
    return rc;
}

/* Other runs and means need more than a list of edits: analyses/cli/edit_setup.h. */
static int refuse_runs(const struct edit_list *edits, struct err *err)
{
    for (size_t i = 0; i < edits->n; i++)
        if (edits->edits[i].source == EDIT_FROM_RUN || edits->edits[i].source == EDIT_FROM_MEAN)
            return err_set(err, ERR_UNSUPPORTED,
                           "edit '%.200s': patch, freeze and mean work in `strata run` and `strata experiment`",
                           edits->edits[i].text);
    return 0;
}

int fact_options_edits(const struct fact_options *o, const struct model_config *config, struct edit_list *out,
                       struct err *err)
{
    int rc = o->edits_path ? read_file(o->edits_path, config, out, err) : 0;
    for (size_t i = 0; !rc && i < o->edits.n; i++)
        rc = edit_parse(out, o->edits.items[i], config, err);
    return rc ? rc : refuse_runs(out, err);
}

void edits_describe(const struct edit_list *edits, struct strbuf *out)
{
    for (size_t i = 0; i < edits->n; i++)
        strbuf_addf(out, "%s%s", i ? "\n" : "", edits->edits[i].text);
    if (!edits->n)
        strbuf_adds(out, "none");
}
