#include "analyses/report/token_text.h"

#include "analyses/plot/plot.h"
#include "core/base/utf8.h"

#include <string.h>

void token_text(struct strbuf *out, const struct model *m, int32_t id)
{
    size_t n = 0;
    const char *bytes = m->tokenizer && id >= 0 ? tokenizer_bytes(m->tokenizer, id, &n) : NULL;
    if (!bytes) {
        strbuf_addf(out, "#%d", (int)id);
        return;
    }
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t k = utf8_decode(bytes + i, n - i, &cp);
        if (!k)
            strbuf_adds(out, "\xef\xbf\xbd");
        else if (!cp)
            strbuf_adds(out, "\xe2\x90\x80");
        else
            strbuf_add(out, bytes + i, k);
        i += k ? k : 1;
    }
}

int token_text_copy(const struct model *m, int32_t id, char **out, struct err *err)
{
    struct strbuf text = STRBUF_INIT;
    strbuf_adds(&text, "");
    token_text(&text, m, id);
    if (strbuf_failed(&text)) {
        strbuf_release(&text);
        return err_nomem(err, "the text of a token");
    }
    *out = text.data;
    return 0;
}

int token_text_label(const struct model *m, int32_t id, char **out, struct err *err)
{
    struct strbuf text = STRBUF_INIT;
    strbuf_adds(&text, "");
    token_text_padded(&text, m, id, 0);
    if (strbuf_failed(&text)) {
        strbuf_release(&text);
        return err_nomem(err, "the text of a token");
    }
    *out = text.data;
    return 0;
}

void token_text_padded(struct strbuf *out, const struct model *m, int32_t id, size_t width)
{
    struct strbuf text = STRBUF_INIT, shown = STRBUF_INIT;
    token_text(&text, m, id);
    plot_show_token(&shown, strbuf_text(&text), width);
    size_t used = plot_width(strbuf_text(&shown));
    strbuf_addf(out, "%s%*s", strbuf_text(&shown), used < width ? (int)(width - used) : 0, "");
    out->failed |= strbuf_failed(&text) || strbuf_failed(&shown);
    strbuf_release(&text);
    strbuf_release(&shown);
}

void token_text_json(struct strbuf *out, const struct model *m, int32_t id)
{
    struct strbuf text = STRBUF_INIT;
    token_text(&text, m, id);
    strbuf_addf(out, "{\"id\":%d,\"text\":", (int)id);
    strbuf_add_json(out, strbuf_text(&text), text.len);
    strbuf_addc(out, '}');
    out->failed |= strbuf_failed(&text);
    strbuf_release(&text);
}
