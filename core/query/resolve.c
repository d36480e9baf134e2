#include "core/query/resolve.h"

#include "core/base/strbuf.h"
#include "core/base/suggest.h"

#include <string.h>

/* What describes a prompt or fact, wherever else a dataset has such a name (tokens.id, tokens.text). */
static bool is_identity(const struct query_field *field, const char *name)
{
    static const char *const names[] = { "id", "text", "prompt", "answer", "answer_token", "subject", "relation" };
    bool described = !strncmp(field->path, "/prompts/", 9) || !strncmp(field->path, "/facts/", 7);
    for (size_t i = 0; described && i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i]) && !strcmp(field->leaf, name))
            return true;
    return false;
}

struct search {
    const struct query_file *file;
    const struct expression *e;
    const struct expression_node *node;
    size_t taken;
    struct err *err;
};

static const char *shown_name(const struct query_field *field)
{
    return field->site ? field->leaf : field->name;
}

static int ambiguous(const struct search *s)
{
    struct strbuf names = STRBUF_INIT;
    size_t n = 0;
    for (size_t i = 0; i < s->file->n_fields; i++)
        if (s->file->fields[i].layout != QUERY_OTHER && query_field_is_named(&s->file->fields[i], s->node->text) &&
            n++ < 12)
            strbuf_addf(&names, "%s%s", n > 1 ? ", " : "", shown_name(&s->file->fields[i]));
    int rc =
        expression_fail(s->e, s->node->place, s->err, ERR_ARG, "'%.100s' could be %s%s in %s: write more of the name",
                        s->node->text, strbuf_text(&names), n > 12 ? ", ..." : "", s->file->path);
    strbuf_release(&names);
    return rc;
}

/* --- sites of layers: the first index is the layer --- */

static bool is_of_layers(const struct search *s, const struct query_field *field)
{
    return field->layout != QUERY_OTHER && query_field_is_of_layers(field, s->node->text);
}

static void add_layers(const struct search *s, struct strbuf *out)
{
    const char *separator = "";
    for (size_t i = 0; i < s->file->n_fields && out->len < 200; i++)
        if (is_of_layers(s, &s->file->fields[i])) {
            strbuf_addf(out, "%s%zu", separator, s->file->fields[i].layer);
            separator = ", ";
        }
}

static int no_layer(const struct search *s, size_t place, const char *what)
{
    struct strbuf layers = STRBUF_INIT;
    add_layers(s, &layers);
    int rc = expression_fail(s->e, place, s->err, ERR_NOTFOUND, "%s: '%.100s' of %s is stored of layers %s", what,
                             s->node->text, s->file->path, strbuf_text(&layers));
    strbuf_release(&layers);
    return rc;
}

/* 0 and NULL where the name is none of a site of layers. */
static int find_layer(struct search *s, const struct query_field **out)
{
    const struct query_field *any = NULL;
    size_t last = 0;
    for (size_t i = 0; i < s->file->n_fields; i++) {
        const struct query_field *field = &s->file->fields[i];
        if (!is_of_layers(s, field))
            continue;
        if (any && strcmp(any->site, field->site) != 0)
            return ambiguous(s);
        any = field;
        last = field->layer > last ? field->layer : last;
    }
    if (!any)
        return 0;
    if (!s->node->n_indices)
        return no_layer(s, s->node->end, "the layer is missing: write NAME[layer]");
    const struct expression_index *index = &s->e->indices[s->node->index];
    if (index->kind != INDEX_NUMBER && index->kind != INDEX_UNIT)
        return no_layer(s, index->begin, "the first index is the layer, one number");
    int64_t layer = index->from < 0 ? index->from + (int64_t)last + 1 : index->from;
    for (size_t i = 0; i < s->file->n_fields; i++)
        if (is_of_layers(s, &s->file->fields[i]) && (int64_t)s->file->fields[i].layer == layer) {
            s->taken = 1;
            *out = &s->file->fields[i];
            return 0;
        }
    return no_layer(s, index->begin, "no such layer");
}

/* --- one file --- */

/* 0 and NULL where the file has no such field. */
static int find_in(struct search *s, const struct query_field **out)
{
    const char *name = s->node->text;
    *out = NULL;
    for (size_t i = 0; i < s->file->n_fields; i++) {
        const struct query_field *field = &s->file->fields[i];
        if (field->layout != QUERY_OTHER && (!strcmp(field->name, name) || is_identity(field, name))) {
            *out = field;
            return 0;
        }
    }
    int rc = find_layer(s, out);
    for (size_t i = 0; !rc && !s->taken && i < s->file->n_fields; i++) {
        const struct query_field *field = &s->file->fields[i];
        if (field->layout == QUERY_OTHER || !query_field_is_named(field, name))
            continue;
        if (*out)
            return ambiguous(s);
        *out = field;
    }
    return rc;
}

/* --- all files --- */

static int no_file(const struct query_files *q, const struct expression *e, const struct expression_node *node,
                   struct err *err)
{
    struct suggest s;
    struct strbuf all = STRBUF_INIT;
    char hint[SUGGEST_TEXT_MAX];
    suggest_init(&s, node->file, strlen(node->file));
    for (size_t i = 0; i < q->n; i++) {
        suggest_consider(&s, q->files[i].stem);
        strbuf_addf(&all, "%s%.60s", i ? ", " : "", q->files[i].stem);
    }
    int rc = expression_fail(e, node->begin, err, ERR_NOTFOUND, "no file '%.100s'%s (the files are %.300s)", node->file,
                             suggest_text(&s, "", hint), strbuf_text(&all));
    strbuf_release(&all);
    return rc;
}

/* Near matches are found among leaves ("rank") and whole names, and shown in full ("lens.rank"). */
static void suggest_fields(const struct query_file *file, struct suggest *s)
{
    for (size_t i = 0; i < file->n_fields; i++) {
        const struct query_field *field = &file->fields[i];
        if (field->layout == QUERY_OTHER)
            continue;
        suggest_consider_as(s, field->leaf, field->name);
        suggest_consider(s, field->name);
    }
}

static int no_field(const struct query_files *q, const struct expression *e, const struct expression_node *node,
                    struct err *err)
{
    struct suggest s;
    char hint[SUGGEST_TEXT_MAX];
    struct strbuf where = STRBUF_INIT;
    suggest_init(&s, node->text, strlen(node->text));
    for (size_t i = 0; i < q->n; i++) {
        const struct query_file *file = &q->files[i];
        if (node->file && strcmp(node->file, file->stem) != 0)
            continue;
        strbuf_addf(&where, "%s%.100s", where.len ? ", " : "", file->path);
        for (size_t f = 0; f < file->n_fields; f++)
            if (query_field_is_named(&file->fields[f], node->text)) {
                strbuf_release(&where);
                return expression_fail(e, node->place, err, ERR_NOTFOUND,
                                       "%s of %s is not kept for each row, prompt or fact", file->fields[f].name,
                                       file->path);
            }
        suggest_fields(file, &s);
    }
    const char *advice = s.n ? suggest_text(&s, "", hint) : ": --fields lists what is there";
    int rc = expression_fail(e, node->place, err, ERR_NOTFOUND, "no field '%.100s' in %.300s%s", node->text,
                             strbuf_text(&where), advice);
    strbuf_release(&where);
    return rc;
}

int query_resolve(const struct query_files *q, const struct expression *e, const struct expression_node *node,
                  size_t *file, const struct query_field **field, size_t *taken, struct err *err)
{
    bool named = false;
    for (size_t i = 0; i < q->n; i++) {
        struct search s = { .file = &q->files[i], .e = e, .node = node, .err = err };
        if (node->file && strcmp(node->file, q->files[i].stem) != 0)
            continue;
        named = true;
        int rc = find_in(&s, field);
        if (rc)
            return rc;
        if (*field) {
            *file = i;
            *taken = s.taken;
            return 0;
        }
    }
    return named ? no_field(q, e, node, err) : no_file(q, e, node, err);
}
