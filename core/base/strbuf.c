#include "core/base/strbuf.h"

#include "core/base/mem.h"
#include "core/base/utf8.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool reserve(struct strbuf *s, size_t extra)
{
    size_t need;
    if (s->failed)
        return false;
    if (!size_add(s->len, extra, &need) || !size_add(need, 1, &need) || !mem_grow(&s->data, &s->capacity, need, 1))
        s->failed = true;
    return !s->failed;
}

void strbuf_add(struct strbuf *s, const void *bytes, size_t n)
{
    if (!reserve(s, n))
        return;
    memcpy(s->data + s->len, bytes, n);
    s->len += n;
    s->data[s->len] = '\0';
}

void strbuf_adds(struct strbuf *s, const char *text)
{
    strbuf_add(s, text, strlen(text));
}

void strbuf_addc(struct strbuf *s, char c)
{
    strbuf_add(s, &c, 1);
}

void strbuf_addf(struct strbuf *s, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0)
        s->failed = true;
    else if (reserve(s, (size_t)n)) {
        vsnprintf(s->data + s->len, (size_t)n + 1, format, again);
        s->len += (size_t)n;
    }
    va_end(again);
}

void strbuf_add_json(struct strbuf *s, const char *text, size_t n)
{
    strbuf_addc(s, '"');
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t k = utf8_decode(text + i, n - i, &cp);
        if (!k) {
            strbuf_adds(s, "\xef\xbf\xbd");
            i++;
            continue;
        }
        if (cp == '"' || cp == '\\')
            strbuf_addf(s, "\\%c", (char)cp);
        else if (cp == '\n')
            strbuf_adds(s, "\\n");
        else if (cp == '\t')
            strbuf_adds(s, "\\t");
        else if (cp < 0x20 || cp == 0x7f)
            strbuf_addf(s, "\\u%04x", (unsigned)cp);
        else
            strbuf_add(s, text + i, k);
        i += k;
    }
    strbuf_addc(s, '"');
}

void strbuf_add_csv(struct strbuf *s, const char *text, size_t n)
{
    bool quote = n && (text[0] == ' ' || text[n - 1] == ' ');
    for (size_t i = 0; i < n && !quote; i++)
        quote = text[i] == ',' || text[i] == '"' || text[i] == '\n' || text[i] == '\r';
    if (!quote) {
        strbuf_add(s, text, n);
        return;
    }
    strbuf_addc(s, '"');
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '"')
            strbuf_addc(s, '"');
        strbuf_addc(s, text[i]);
    }
    strbuf_addc(s, '"');
}

const char *strbuf_text(const struct strbuf *s)
{
    return s->data ? s->data : "";
}

void strbuf_reset(struct strbuf *s)
{
    s->len = 0;
    if (s->data)
        s->data[0] = '\0';
}

void strbuf_release(struct strbuf *s)
{
    free(s->data);
    *s = (struct strbuf)STRBUF_INIT;
}
