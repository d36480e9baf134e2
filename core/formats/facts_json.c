/* Facts from JSON: one object a line, an array of objects, one object, LRE relation files. */
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/formats/facts_internal.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_TEMPLATES = 1 << 20, MAX_RELATION = 64 << 10 };

static int bad(const char *where, const char *what, struct err *err)
{
    return err_set(err, ERR_FORMAT, "%s: %s", where, what);
}

/* A string, or a whole number as text (numbered relations and ids are common). */
static int text_or_number(const json_t *object, const char *where, const char *key, char number[24], const char **out,
                          struct err *err)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value))
        return json_get_string(object, where, key, out, err);
    snprintf(number, 24, "%lld", (long long)json_integer_value(value));
    *out = number;
    return 0;
}

static int aliases_read(struct facts *f, const json_t *object, const char *where, struct fact *fact, struct err *err)
{
    json_t *array;
    int rc = json_get_array(object, where, "aliases", &array, err);
    size_t n = rc ? 0 : json_array_size(array);
    if (!n)
        return rc;
    if (!mem_grow(&f->aliases, &f->aliases_capacity, n, sizeof *f->aliases))
        return err_nomem(err, "aliases");
    for (size_t i = 0; i < n; i++) {
        const json_t *alias = json_array_get(array, i);
        const char *text = json_string_value(alias);
        if (!text || !*text || strlen(text) != json_string_length(alias))
            return bad(where, "key \"aliases\" must hold strings that are not empty", err);
        f->aliases[i] = text;
    }
    fact->aliases = f->aliases;
    fact->n_aliases = n;
    return 0;
}

static int tokens_read(struct facts *f, const json_t *array, const char *where, struct fact *fact, struct err *err)
{
    size_t n = json_array_size(array);
    if (!n)
        return bad(where, "key \"tokens\" is empty", err);
    if (!mem_grow(&f->tokens, &f->tokens_capacity, n, sizeof *f->tokens))
        return err_nomem(err, "tokens");
    for (size_t i = 0; i < n; i++) {
        const json_t *token = json_array_get(array, i);
        json_int_t id = json_integer_value(token);
        if (!json_is_integer(token) || id < 0 || id > INT32_MAX)
            return bad(where, "key \"tokens\" must hold token ids, whole numbers from 0", err);
        f->tokens[i] = (int32_t)id;
    }
    fact->tokens = f->tokens;
    fact->n_tokens = n;
    return 0;
}

static int prompt_read(struct facts *f, const json_t *object, const char *where, struct fact *fact, struct err *err)
{
    json_t *tokens;
    int rc = json_get_string(object, where, "prompt", &fact->prompt, err);
    if (rc || (rc = json_get_array(object, where, "tokens", &tokens, err)))
        return rc;
    if (!fact->prompt == !tokens)
        return bad(where, tokens ? "has prompt and tokens: give one of them" : "key \"prompt\" is missing", err);
    if (tokens)
        return tokens_read(f, tokens, where, fact, err);
    return *fact->prompt ? 0 : bad(where, "key \"prompt\" is empty", err);
}

/* Under our own names, else under those of the Counterfact family. */
static int answer_read(struct facts *f, const json_t *object, const char *where, struct fact *fact, struct err *err)
{
    const char *attribute;
    int rc = json_get_string(object, where, "answer", &fact->answer, err);
    if (rc || fact->answer || (rc = json_get_string(object, where, "attribute", &attribute, err)) || !attribute)
        return rc;
    rc = facts_copy_stripped(&f->answer, attribute, err);
    fact->answer = strbuf_text(&f->answer);
    return rc;
}

static int names_read(struct facts *f, const json_t *object, const char *where, struct fact *fact, struct err *err)
{
    const char *id = NULL;
    char number[24];
    int rc = text_or_number(object, where, "id", f->number, &id, err);
    if (!rc && !id)
        rc = text_or_number(object, where, "known_id", f->number, &id, err);
    if (!rc && id)
        fact->id = id;
    if (!rc)
        rc = text_or_number(object, where, "relation", number, &fact->relation, err);
    if (!rc && !fact->relation)
        rc = text_or_number(object, where, "relation_id", number, &fact->relation, err);
    if (!rc && fact->relation == number) {
        free(f->relation);
        f->relation = mem_strdup(number);
        fact->relation = f->relation;
        if (!f->relation)
            rc = err_nomem(err, "a relation");
    }
    return rc;
}

static int details_read(const json_t *object, const char *where, struct fact *fact, struct err *err)
{
    const char *occurrence;
    size_t token;
    int rc = json_get_size_or(object, where, "answer_token", 0, INT32_MAX, SIZE_MAX, &token, err);
    if (!rc)
        rc = json_get_string(object, where, "subject_occurrence", &occurrence, err);
    if (rc)
        return rc;
    if (token <= INT32_MAX)
        fact->answer_token = (int32_t)token;
    fact->subject_occurrence_last = occurrence && !strcmp(occurrence, "last");
    if (occurrence && !fact->subject_occurrence_last && strcmp(occurrence, "first"))
        return err_set(err, ERR_FORMAT, "%s: subject_occurrence is \"%.100s\", it must be \"first\" or \"last\"", where,
                       occurrence);
    return 0;
}

/* A misspelt key would be a loss in silence; keys that are like none of ours may be there. */
static int keys_check(json_t *object, const char *where, struct err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        const char *meant = facts_meant_key(key);
        if (meant && !json_object_get(object, meant))
            return err_set(err, ERR_FORMAT, "%s: there is no key \"%s\": did you mean %s?", where, key, meant);
    }
    return 0;
}

/* All of *fact from an object, which f->item keeps alive. */
static int fact_read(struct facts *f, json_t *object, const char *where, struct fact *fact, struct err *err)
{
    if (!json_is_object(object))
        return bad(where, "a fact must be a JSON object", err);
    int rc = keys_check(object, where, err);
    if (rc || (rc = prompt_read(f, object, where, fact, err)) ||
        (rc = json_get_string(object, where, "subject", &fact->subject, err)) ||
        (rc = answer_read(f, object, where, fact, err)) || (rc = names_read(f, object, where, fact, err)) ||
        (rc = aliases_read(f, object, where, fact, err)) || (rc = details_read(object, where, fact, err)))
        return rc;
    if (fact->subject && !*fact->subject)
        return bad(where, "the subject is empty: leave it out", err);
    if (fact->answer && !*fact->answer)
        return bad(where, "the answer is empty: leave it out", err);
    return 0;
}

static int item_parse(struct facts *f, struct json_slice slice, const char *where, struct err *err)
{
    json_decref(f->item);
    f->item = NULL;
    if (slice.n > FACTS_MAX_LINE)
        return bad(where, "is longer than 16 MiB", err);
    return json_parse(slice.text, slice.n, where, &f->item, err);
}

int facts_jsonl_next(struct facts *f, struct fact *fact, struct err *err)
{
    char where[FACTS_WHERE];
    int got;
    do {
        got = facts_read_line(f, err);
        if (got <= 0)
            return got;
    } while (facts_is_blank(f->line.data, f->line.len));
    facts_where(f, "line", f->line_number, where);
    fact->line = f->line_number;
    int rc = item_parse(f, (struct json_slice){ f->line.data, f->line.len }, where, err);
    if (!rc)
        rc = fact_read(f, f->item, where, fact, err);
    return rc ? rc : 1;
}

/* The next item of the array, parsed into f->item. */
static int item_next(struct facts *f, struct fact *fact, char where[FACTS_WHERE], struct err *err)
{
    struct json_slice key, value;
    int got = json_walk_next(&f->walk, &key, &value, err);
    if (got <= 0)
        return got;
    fact->line = f->n_facts + 1;
    facts_where(f, "item", fact->line, where);
    int rc = item_parse(f, value, where, err);
    return rc ? rc : 1;
}

int facts_array_next(struct facts *f, struct fact *fact, struct err *err)
{
    char where[FACTS_WHERE];
    int got;
    if (f->format == FACTS_OBJECT) {
        if (f->n_facts)
            return 0;
        fact->line = 1;
        facts_where(f, "item", 1, where);
        got = item_parse(f, (struct json_slice){ f->whole.data, f->whole.len }, where, err);
        got = got ? got : 1;
    } else {
        got = item_next(f, fact, where, err);
    }
    if (got <= 0)
        return got;
    int rc = fact_read(f, f->item, where, fact, err);
    return rc ? rc : 1;
}

/* The template with every {} replaced by the subject, as Python's format() in the LRE code does. */
static int prompt_fill(struct facts *f, struct err *err)
{
    strbuf_reset(&f->prompt);
    const char *at = f->template;
    for (const char *hole; (hole = strstr(at, "{}")) && f->prompt.len <= FACTS_MAX_LINE; at = hole + 2) {
        strbuf_add(&f->prompt, at, (size_t)(hole - at));
        strbuf_add(&f->prompt, f->subject.data, f->subject.len);
    }
    strbuf_adds(&f->prompt, at);
    if (f->prompt.len > FACTS_MAX_LINE)
        return err_set(err, ERR_FORMAT, "%s: a prompt made from its template is longer than 16 MiB", f->name);
    return strbuf_failed(&f->prompt) ? err_nomem(err, "a prompt") : 0;
}

int facts_lre_next(struct facts *f, struct fact *fact, struct err *err)
{
    char where[FACTS_WHERE];
    const char *subject = NULL, *object = NULL;
    int got = item_next(f, fact, where, err);
    if (got <= 0)
        return got;
    if (!json_is_object(f->item))
        return bad(where, "a sample must be an object of subject and object", err);
    int rc = json_get_string(f->item, where, "subject", &subject, err);
    if (rc || (rc = json_get_string(f->item, where, "object", &object, err)))
        return rc;
    if (!subject || !object)
        return bad(where, "a sample must have a subject and an object", err);
    if ((rc = facts_copy_stripped(&f->subject, subject, err)) || (rc = facts_copy_stripped(&f->answer, object, err)))
        return rc;
    if (!f->subject.len || !f->answer.len)
        return bad(where, "a sample's subject or object is empty", err);
    if ((rc = prompt_fill(f, err)))
        return rc;
    fact->prompt = strbuf_text(&f->prompt);
    fact->subject = strbuf_text(&f->subject);
    fact->answer = strbuf_text(&f->answer);
    fact->relation = f->relation;
    return 1;
}

enum facts_format facts_json_sniff(const char *text, size_t n)
{
    const char *newline = memchr(text, '\n', n);
    bool cut = !newline && n > FACTS_BUFFER / 2; /* the buffer ends inside a long line */
    size_t line = newline ? (size_t)(newline - text) : n;
    struct json_walk walk;
    struct json_slice key = { "", 0 }, value;
    int got = json_walk_open(&walk, text, line, "", NULL);
    while (!got && (got = json_walk_next(&walk, &key, &value, NULL)) > 0)
        got = json_slice_is(key, "samples") ? -1 : 0;
    /* A value that the line does not finish leaves its key behind. */
    if (json_slice_is(key, "samples"))
        return FACTS_OBJECT;
    return !got || cut ? FACTS_JSONL : FACTS_OBJECT;
}

/* The first string of a slice that is an array of strings; NULL in *out where it is empty. */
static int first_template(struct facts *f, struct json_slice slice, char **out, struct err *err)
{
    json_t *array = NULL;
    if (!slice.text)
        return 0;
    int rc = json_slice_parse(slice, MAX_TEMPLATES, f->name, "the list of prompt templates", &array, err);
    if (rc)
        return rc;
    const json_t *first = json_array_get(array, 0);
    const char *text = json_string_value(first);
    if (!json_is_array(array) || (first && (!text || strlen(text) != json_string_length(first) || !strstr(text, "{}"))))
        rc = bad(f->name, "prompt templates must be strings with {} for the subject", err);
    else if (text && !(*out = mem_strdup(text)))
        rc = err_nomem(err, "a prompt template");
    json_decref(array);
    return rc;
}

static int relation_read(struct facts *f, struct json_slice slice, struct err *err)
{
    json_t *name = NULL;
    if (!slice.text)
        return 0;
    int rc = json_slice_parse(slice, MAX_RELATION, f->name, "the relation's name", &name, err);
    if (rc)
        return rc;
    const char *text = json_string_value(name);
    if (!text || strlen(text) != json_string_length(name))
        rc = bad(f->name, "the relation's name must be a string", err);
    else if (!(f->relation = mem_strdup(text)))
        rc = err_nomem(err, "a relation");
    json_decref(name);
    return rc;
}

/* Slices of the keys of an LRE file; those that are absent stay NULL. */
enum { LRE_SAMPLES, LRE_NAME, LRE_TEMPLATES, LRE_ZERO_SHOT, N_LRE_KEYS };

static int lre_keys(struct facts *f, struct json_slice slices[N_LRE_KEYS], struct err *err)
{
    static const char *const names[N_LRE_KEYS] = { "samples", "name", "prompt_templates", "prompt_templates_zs" };
    struct json_slice key, value;
    int got;
    while ((got = json_walk_next(&f->walk, &key, &value, err)) > 0)
        for (int i = 0; i < N_LRE_KEYS; i++) {
            if (!json_slice_is(key, names[i]))
                continue;
            if (slices[i].text)
                return err_set(err, ERR_FORMAT, "%s: key \"%s\" is there twice", f->name, names[i]);
            slices[i] = value;
        }
    return got;
}

int facts_json_open(struct facts *f, struct err *err)
{
    struct json_slice slices[N_LRE_KEYS] = { 0 };
    int rc = facts_read_whole(f, err);
    if (rc || (rc = json_walk_open(&f->walk, f->whole.data, f->whole.len, f->name, err)))
        return rc;
    f->format = f->walk.closing == ']' ? FACTS_ARRAY : FACTS_OBJECT;
    if (f->format == FACTS_ARRAY || (rc = lre_keys(f, slices, err)) || !slices[LRE_SAMPLES].text)
        return rc;
    f->format = FACTS_LRE;
    if ((rc = relation_read(f, slices[LRE_NAME], err)) ||
        (rc = first_template(f, slices[LRE_ZERO_SHOT], &f->template, err)))
        return rc;
    if (!f->template && (rc = first_template(f, slices[LRE_TEMPLATES], &f->template, err)))
        return rc;
    if (!f->template)
        return bad(f->name, "has samples but no prompt_templates", err);
    if ((rc = json_walk_open(&f->walk, slices[LRE_SAMPLES].text, slices[LRE_SAMPLES].n, f->name, err)))
        return rc;
    return f->walk.closing == ']' ? 0 : bad(f->name, "samples must be an array", err);
}
