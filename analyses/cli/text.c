#include "analyses/cli/text.h"

#include "core/base/mem.h"
#include "core/base/utf8.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MOST_BYTES = 16 << 20 };

static int check_text(const char *name, const char *text, size_t n, struct err *err)
{
    if (memchr(text, '\0', n))
        return err_set(err, ERR_FORMAT, "%s: holds a NUL byte: only text can be read", name);
    size_t valid = utf8_valid_prefix(text, n);
    if (valid < n)
        return err_set(err, ERR_FORMAT, "%s: is no UTF-8 at byte %zu: give UTF-8 text", name, valid);
    return 0;
}

static int read_stdin(struct strbuf *text, struct err *err)
{
    char block[1 << 16];
    ssize_t n;
    strbuf_adds(text, "");
    while ((n = read(STDIN_FILENO, block, sizeof block))) {
        if (n < 0)
            return err_errno(err, "standard input: cannot read");
        if (text->len + (size_t)n > MOST_BYTES)
            return err_set(err, ERR_FORMAT, "standard input: is longer than %d MiB: give many prompts with -i",
                           MOST_BYTES >> 20);
        strbuf_add(text, block, (size_t)n);
    }
    if (strbuf_failed(text))
        return err_nomem(err, "the prompt");
    if (text->len && text->data[text->len - 1] == '\n')
        text->data[--text->len] = '\0';
    if (text->len && text->data[text->len - 1] == '\r')
        text->data[--text->len] = '\0';
    return check_text("standard input", text->data, text->len, err);
}

int cli_text_argument(const struct cli *cli, char **out, struct err *err)
{
    const char *argument = cli->arguments[0];
    if (strcmp(argument, "-")) {
        int rc = check_text("the prompt", argument, strlen(argument), err);
        *out = rc ? NULL : mem_strdup(argument);
        return rc || *out ? rc : err_nomem(err, "the prompt");
    }
    struct strbuf text = STRBUF_INIT;
    int rc = read_stdin(&text, err);
    if (rc)
        strbuf_release(&text);
    *out = text.data;
    return rc;
}

int cli_text_or_input(struct cli *cli, const char *what, struct err *err)
{
    if (cli->n_arguments && cli->input)
        return cli_usage(cli, err, "give either %s or -i FILE, not both", what);
    if (!cli->n_arguments && !cli->input)
        return cli_usage(cli, err, "give %s, or -i FILE", what);
    return 0;
}

const char *site_of_layers(enum site site, char name[SITE_NAME_MAX])
{
    const struct site_row *row = site_row(site);
    snprintf(name, SITE_NAME_MAX, "%s%s", row->per_layer ? "blocks.L." : "", row->name);
    return name;
}

void add_token_text(struct strbuf *out, const struct tokenizer *tok, int32_t id)
{
    size_t n = 0;
    const char *bytes = tok ? tokenizer_bytes(tok, id, &n) : NULL;
    strbuf_add_json(out, bytes ? bytes : "", bytes ? n : 0);
}

void add_token_keys(struct strbuf *out, const struct tokenizer *tok, int32_t id)
{
    size_t n = 0;
    const char *bytes = tok ? tokenizer_bytes(tok, id, &n) : NULL;
    strbuf_addf(out, "\"id\":%d,\"text\":", (int)id);
    add_token_text(out, tok, id);
    if (!bytes || utf8_valid(bytes, n))
        return;
    strbuf_adds(out, ",\"bytes\":\"");
    for (size_t i = 0; i < n; i++)
        strbuf_addf(out, "%02x", (unsigned)(unsigned char)bytes[i]);
    strbuf_addc(out, '"');
}
