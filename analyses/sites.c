/* strata sites: every site, as the table of sites has it; with a model, its own sizes. */
#include "analyses/cli/output.h"
#include "analyses/cli/text.h"

#include <stdio.h>
#include <string.h>

/* "row, 9, 64", the axes' names without a model; "9, query, key" for squares of edges. */
static void shape_text(enum site site, const struct model_config *c, char *text, size_t size)
{
    const struct site_row *row = site_row(site);
    size_t dims[2];
    int n = c ? site_shape(site, c, dims) : 0;
    if (!c)
        snprintf(text, size, "%s", row->axes_text);
    else if (row->axes == AXES_EDGES)
        snprintf(text, size, "%zu, query, key", c->n_heads);
    else if (n == 2)
        snprintf(text, size, "row, %zu, %zu", dims[0], dims[1]);
    else
        snprintf(text, size, "row, %zu", dims[0]);
}

static const char *missing(enum site site, const struct model_config *c)
{
    return c ? site_missing(site, c) : NULL;
}

static void add_text(const struct model *m, struct strbuf *out)
{
    const struct model_config *c = m ? &m->config : NULL;
    if (m)
        strbuf_addf(out, "L: layers 0-%zu of %s\n", c->n_layers - 1, m->path);
    strbuf_addf(out, "%-31s %-15s %-20s %s\n", "NAME", "SHORT", "SHAPE", "MEANING");
    for (int s = 0; s < N_SITES; s++) {
        enum site site = (enum site)s;
        const struct site_row *row = site_row(site);
        char name[SITE_NAME_MAX], shape[64], only[64] = "";
        if (!site_listed(site, c))
            continue;
        site_of_layers(site, name);
        shape_text(site, c, shape, sizeof shape);
        if (!c && row->condition != SITE_IF_ALWAYS)
            snprintf(only, sizeof only, " (not in every model)");
        if (missing(site, c))
            strbuf_addf(out, "%-31s %-15s %-20s %s\n", name, row->short_name, "absent", missing(site, c));
        else
            strbuf_addf(out, "%-31s %-15s %-20s %s%s\n", name, row->short_name, shape, row->meaning, only);
    }
}

static void add_key(struct strbuf *out, const char *key, const char *value)
{
    strbuf_addf(out, ",\"%s\":", key);
    if (value)
        strbuf_add_json(out, value, strlen(value));
    else
        strbuf_adds(out, "null");
}

/* "row, 9, 64" as ["row",9,64] */
static void add_axes(struct strbuf *out, const char *key, const char *text)
{
    strbuf_addf(out, ",\"%s\":[", key);
    for (const char *at = text; *at; at += strspn(at, ", ")) {
        size_t n = strcspn(at, ",");
        bool number = strspn(at, "0123456789") == n;
        strbuf_addf(out, "%s%s%.*s%s", at == text ? "" : ",", number ? "" : "\"", (int)n, at, number ? "" : "\"");
        at += n;
    }
    strbuf_addc(out, ']');
}

static void add_json_site(enum site site, const struct model_config *c, struct strbuf *out)
{
    const struct site_row *row = site_row(site);
    char name[SITE_NAME_MAX], shape[64];
    site_of_layers(site, name);
    shape_text(site, c, shape, sizeof shape);
    strbuf_adds(out, "{\"name\":");
    strbuf_add_json(out, name, strlen(name));
    add_key(out, "short", row->short_name);
    add_key(out, "bridge", site_bridge_name(site, c));
    add_axes(out, "axes", row->axes_text);
    if (c && !missing(site, c))
        add_axes(out, "shape", shape);
    strbuf_addf(out, ",\"per_layer\":%s,\"editable\":%s", row->per_layer ? "true" : "false",
                row->editable ? "true" : "false");
    add_key(out, "meaning", row->meaning);
    add_key(out, "missing", missing(site, c));
    strbuf_addc(out, '}');
}

static void add_json(const struct model *m, struct strbuf *out)
{
    strbuf_adds(out, "{\"model\":");
    if (m)
        strbuf_add_json(out, m->path, strlen(m->path));
    else
        strbuf_adds(out, "null");
    if (m)
        strbuf_addf(out, ",\"n_layers\":%zu", m->config.n_layers);
    strbuf_adds(out, ",\"sites\":[");
    const struct model_config *c = m ? &m->config : NULL;
    for (int s = 0; s < N_SITES; s++) {
        if (!site_listed((enum site)s, c))
            continue;
        strbuf_adds(out, s ? ",\n" : "\n");
        add_json_site((enum site)s, c, out);
    }
    strbuf_adds(out, "\n]}\n");
}

static int run(struct cli *cli, struct err *err)
{
    struct model *m = NULL;
    struct strbuf out = STRBUF_INIT;
    int rc = output_format(cli, err);
    if (!rc && cli->model)
        rc = cli_open_header(&m, cli, err);
    if (rc)
        return rc;
    if (cli->json)
        add_json(m, &out);
    else
        add_text(m, &out);
    model_free(m);
    return output_text(cli, &out, 0, err);
}

const struct command command_sites = {
    .name = "sites",
    .arguments = "[-m MODEL]",
    .summary = "every site: name, shape, meaning; for a model, which are absent and why",
    .details = "A row is one token of one prompt. Filters (--sites) take these names as comma-separated globs\n"
               "(blocks.*.attn.hook_z), short forms with layers (resid_post:7, z:3-5) and heads (L3H7).\n"
               "\n"
               "JSON: {\"model\", \"n_layers\", \"sites\": [{\"name\", \"short\", \"bridge\" (TransformerLens bridge\n"
               "name), \"axes\", \"shape\" (with a model), \"per_layer\", \"editable\", \"meaning\", \"missing\" "
               "(reason or null)}]}.\n",
    .common = COMMON_MODEL_PATH | COMMON_OUTPUT | COMMON_JSON,
    .run = run,
};
