/* strata tokenize: ids and byte spans of a text, or of every prompt of a file. */
#include "analyses/cli/output.h"
#include "analyses/cli/text.h"
#include "core/formats/facts.h"

#include <stdlib.h>
#include <string.h>

static void add_text(const struct tokenizer *tok, const struct tokens *t, struct strbuf *out)
{
    for (size_t i = 0; i < t->n; i++) {
        strbuf_addf(out, "%zu\t%d\t%d\t%d\t", i, (int)t->id[i], (int)t->begin[i], (int)t->end[i]);
        add_token_text(out, tok, t->id[i]);
        strbuf_addc(out, '\n');
    }
}

static void add_numbers(struct strbuf *out, const char *key, const int32_t *numbers, size_t n)
{
    strbuf_addf(out, "\"%s\":[", key);
    for (size_t i = 0; i < n; i++)
        strbuf_addf(out, "%s%d", i ? "," : "", (int)numbers[i]);
    strbuf_addc(out, ']');
}

/* "ids":[...],"begin":[...],"end":[...] */
static void add_arrays(const struct tokens *t, struct strbuf *out)
{
    add_numbers(out, "ids", t->id, t->n);
    strbuf_addc(out, ',');
    add_numbers(out, "begin", t->begin, t->n);
    strbuf_addc(out, ',');
    add_numbers(out, "end", t->end, t->n);
}

static void add_json(const struct tokenizer *tok, const char *text, const struct tokens *t, struct strbuf *out)
{
    strbuf_adds(out, "{\"prompt\":");
    strbuf_add_json(out, text, strlen(text));
    strbuf_addc(out, ',');
    add_arrays(t, out);
    strbuf_adds(out, ",\"text\":[");
    for (size_t i = 0; i < t->n; i++) {
        strbuf_adds(out, i ? "," : "");
        add_token_text(out, tok, t->id[i]);
    }
    strbuf_adds(out, "]}\n");
}

static int tokenize_argument(struct cli *cli, const struct tokenizer *tok, struct err *err)
{
    struct tokens tokens = { 0 };
    struct strbuf out = STRBUF_INIT;
    char *text;
    int rc = cli_text_argument(cli, &text, err);
    if (rc)
        return rc;
    rc = tokenizer_encode(tok, text, strlen(text), cli->specials, &tokens, err);
    if (!rc)
        cli_note_dropped(cli, tokens.n_dropped);
    if (!rc && cli->json)
        add_json(tok, text, &tokens, &out);
    else if (!rc)
        add_text(tok, &tokens, &out);
    free(text);
    tokens_release(&tokens);
    return output_text(cli, &out, rc, err);
}

static int tokenize_fact(const struct cli *cli, const struct tokenizer *tok, const struct facts *facts,
                         const struct fact *fact, struct tokens *tokens, struct strbuf *out, struct err *err)
{
    if (!fact->prompt)
        return err_set(err, ERR_UNSUPPORTED, "%s: line %zu: has token ids, no prompt to tokenize", facts_name(facts),
                       fact->line);
    int rc = tokenizer_encode(tok, fact->prompt, strlen(fact->prompt), cli->specials, tokens, err);
    if (rc)
        return err_prefix(err, "%s: line %zu: ", facts_name(facts), fact->line);
    strbuf_addc(out, '{');
    add_arrays(tokens, out);
    strbuf_adds(out, "}\n");
    return 0;
}

static int tokenize_input(const struct cli *cli, const struct tokenizer *tok, struct output *output, struct err *err)
{
    enum { FLUSH = 1 << 16 };
    struct facts *facts;
    struct fact fact;
    struct tokens tokens = { 0 };
    struct strbuf out = STRBUF_INIT;
    int rc = facts_open(&facts, cli->input, err);
    if (rc)
        return rc;
    facts_keep_blank(facts);
    size_t n_dropped = 0;
    for (size_t n = 0; !rc && n < cli->limit && (rc = facts_next(facts, &fact, err)) > 0; n++) {
        rc = tokenize_fact(cli, tok, facts, &fact, &tokens, &out, err);
        n_dropped += tokens.n_dropped;
        if (!rc && cli_interrupted())
            rc = err_set(err, ERR_INTERRUPTED, "interrupted after %zu prompts", n + 1);
        if (out.len >= FLUSH && !rc)
            rc = output_add(output, &out, err);
    }
    cli_note_dropped(cli, n_dropped);
    /* What came before a bad line is good. */
    struct err ignored;
    int written = output_add(output, &out, rc ? &ignored : err);
    facts_close(facts);
    tokens_release(&tokens);
    strbuf_release(&out);
    return rc ? rc : written;
}

static int run(struct cli *cli, struct err *err)
{
    struct model *m;
    struct output output;
    int rc = cli_text_or_input(cli, "a text", err);
    rc = rc ? rc : output_format(cli, err);
    rc = rc ? rc : cli_open_header(&m, cli, err);
    if (rc)
        return rc;
    if (!m->tokenizer)
        rc = err_set(err, ERR_UNSUPPORTED, "%s: has no tokenizer: add its tokenizer.json", m->path);
    else if (!cli->input)
        rc = tokenize_argument(cli, m->tokenizer, err);
    else {
        rc = output_open(&output, cli, err);
        rc = rc ? rc : tokenize_input(cli, m->tokenizer, &output, err);
        rc = output_close(&output, rc, err);
    }
    model_free(m);
    return rc;
}

const struct command command_tokenize = {
    .name = "tokenize",
    .arguments = "[-m MODEL] \"TEXT\" | - | -i FILE",
    .summary = "token ids and byte spans of a text",
    .details =
        "One line a token, tab-separated: index, id, byte begin, byte end, text as a JSON string. Bytes count in the\n"
        "text given; begin = end for special tokens that were added. `-` reads the text from standard input (one\n"
        "newline at its end is not part of it).\n"
        "\n"
        "  strata tokenize -m gpt2 \"The Eiffel Tower\"\n"
        "  strata tokenize -m gpt2 -i prompts.txt > tokens.jsonl\n"
        "\n"
        "--json: {\"prompt\", \"ids\": [], \"begin\": [], \"end\": [], \"text\": []}. With -i one JSON object a line, "
        "of\n"
        "each line of a .txt file (blank ones too) or each fact's prompt: {\"ids\": [], \"begin\": [], \"end\": []}.\n",
    .common = COMMON_MODEL_PATH | COMMON_SPECIALS | COMMON_INPUT | COMMON_OUTPUT | COMMON_JSON,
    .most_arguments = 1,
    .run = run,
};
