/* Prompts from the command line; tokens and sites as text. */
#ifndef STRATA_ANALYSES_CLI_TEXT_H
#define STRATA_ANALYSES_CLI_TEXT_H

#include "analyses/cli/cli.h"

/*
 * The command's one argument, or with `-` all of standard input less one newline at its end. UTF-8, free of NUL, at
 * most 16 MiB. *out is the caller's (free).
 */
int cli_text_argument(const struct cli *cli, char **out, struct err *err);
/* Usage error unless there is either a text argument or -i FILE. */
int cli_text_or_input(struct cli *cli, const char *what, struct err *err);

/* "blocks.L.attn.hook_z": a site of every layer. Returns name. */
const char *site_of_layers(enum site site, char name[SITE_NAME_MAX]);

/* A token's bytes as a JSON string; "" for ids without one. Bytes that are no UTF-8 (part of a character) are U+FFFD.
 */
void add_token_text(struct strbuf *out, const struct tokenizer *tok, int32_t id);
/* {"id":5,"text":" Paris"}'s two keys, and "bytes" in hexadecimal where the text alone would lose some. */
void add_token_keys(struct strbuf *out, const struct tokenizer *tok, int32_t id);

#endif
