#include "core/store/dump_manifest.h"

#include "core/base/file.h"
#include "core/base/strbuf.h"

#include <inttypes.h>
#include <string.h>

static void add_text(struct strbuf *out, const char *key, const char *text)
{
    strbuf_addf(out, "  \"%s\": ", key);
    strbuf_add_json(out, text, strlen(text));
    strbuf_adds(out, ",\n");
}

static void add_sites(struct strbuf *out, const struct site_set *sites)
{
    struct site_ref ref;
    char name[SITE_NAME_MAX];
    const char *between = "";
    strbuf_adds(out, "  \"sites\": [");
    for (size_t cursor = 0; site_set_next(sites, &cursor, &ref); between = ", ")
        strbuf_addf(out, "%s\"%s\"", between, site_name(ref, name));
    strbuf_adds(out, "],\n");
}

static void add_shards(struct strbuf *out, const struct dump_shard *shards, size_t n)
{
    strbuf_adds(out, "  \"shards\": [");
    for (size_t i = 0; i < n; i++) {
        const struct dump_shard *s = &shards[i];
        strbuf_addf(out, "%s\n    {\"file\": \"%s\", \"first_prompt\": %" PRIu64 ", \"prompts\": %" PRIu64 ", ",
                    i ? "," : "", s->name, s->first_prompt, s->counts.prompts);
        strbuf_addf(out, "\"tokens\": %" PRIu64 ", \"rows\": %" PRIu64 ", \"bytes\": %" PRIu64 "}", s->counts.tokens,
                    s->counts.rows, s->file_bytes);
    }
    strbuf_adds(out, n ? "\n  ]\n" : "]\n");
}

int dump_manifest_write(const char *path, const struct dump_plan *plan, const struct dump_counts *counts,
                        const struct dump_shard *shards, size_t n_shards, bool complete, struct err *err)
{
    const struct provenance *p = plan->provenance;
    struct strbuf text = STRBUF_INIT;
    strbuf_adds(&text, "{\n  \"format\": \"strata-dump-folder\",\n  \"version\": 1,\n");
    add_text(&text, "strata_version", STRATA_VERSION);
    add_text(&text, "command", p->command);
    add_text(&text, "model_path", p->model->path);
    add_text(&text, "model_sha256", p->model->sha256);
    add_text(&text, "dtype", store_type_name(p->dtype));
    add_text(&text, "positions", plan->positions);
    add_sites(&text, plan->sites);
    strbuf_addf(&text, "  \"complete\": %s,\n", complete ? "true" : "false");
    strbuf_addf(&text, "  \"prompts\": %" PRIu64 ",\n  \"tokens\": %" PRIu64 ",\n  \"rows\": %" PRIu64 ",\n",
                counts->prompts, counts->tokens, counts->rows);
    strbuf_addf(&text, "  \"index\": %s,\n", complete ? "\"index.h5\"" : "null");
    add_shards(&text, shards, n_shards);
    strbuf_adds(&text, "}\n");
    int rc = strbuf_failed(&text) ? err_nomem(err, "a manifest") : file_write(path, strbuf_text(&text), text.len, err);
    strbuf_release(&text);
    return rc;
}
