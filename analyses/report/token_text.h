/*
 * Tokens as text that may stand in CSV, labels and terminals.
 *
 *     struct strbuf text = STRBUF_INIT;
 *     token_text(&text, model, 7042);          // " Paris"
 *     token_text_padded(&text, model, 7042, 14) // "␣Paris        "
 */
#ifndef STRATA_ANALYSES_REPORT_TOKEN_TEXT_H
#define STRATA_ANALYSES_REPORT_TOKEN_TEXT_H

#include "core/base/strbuf.h"
#include "core/model/model.h"

/*
 * Appends the token's bytes as valid UTF-8: U+FFFD for bytes that are none by themselves, U+2400 for NUL; "#5" where
 * the model has no tokenizer or the id no text. Control characters stay.
 */
void token_text(struct strbuf *out, const struct model *m, int32_t id);
/* The same on its own. *out is the caller's (free). */
int token_text_copy(const struct model *m, int32_t id, char **out, struct err *err);
/* As plot_show_token shows it, cut or filled with blanks to `width` columns. */
void token_text_padded(struct strbuf *out, const struct model *m, int32_t id, size_t width);
/* The same, whole, on its own: a label of a figure. *out is the caller's (free). */
int token_text_label(const struct model *m, int32_t id, char **out, struct err *err);
/* {"id":7042,"text":" Paris"} */
void token_text_json(struct strbuf *out, const struct model *m, int32_t id);

#endif
