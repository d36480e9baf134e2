/* Text of users and models, made safe for gnuplot and readable in a picture. */
#include "analyses/plot/fonts.h"
#include "analyses/plot/plot.h"
#include "core/base/utf8.h"

#include <math.h>
#include <string.h>
#include <utf8proc.h>

#define ELLIPSIS "\xe2\x80\xa6"
#define OPEN_BOX "\xe2\x90\xa3"
#define REPLACEMENT "\xef\xbf\xbd"
#define NO_GLYPH "\xe2\x96\xaf" /* U+25AF */

/* One character as it is shown: its bytes and its columns. */
struct glyph {
    char bytes[8];
    size_t len, width, consumed;
};

static struct glyph glyph_of(const char *bytes, size_t width, size_t consumed)
{
    struct glyph g = { .len = strlen(bytes), .width = width, .consumed = consumed };
    memcpy(g.bytes, bytes, g.len);
    return g;
}

/* These reorder or hide what stands beside them, also outside their own label. */
static bool is_direction_control(uint32_t cp)
{
    return cp == 0x061c || cp == 0x200e || cp == 0x200f || (cp >= 0x202a && cp <= 0x202e) ||
           (cp >= 0x2066 && cp <= 0x2069);
}

static struct glyph next_glyph(const char *text, size_t n)
{
    uint32_t cp;
    size_t len = utf8_decode(text, n, &cp);
    if (len == 0)
        return glyph_of(REPLACEMENT, 1, 1);
    switch (cp) {
    case '\n':
        return glyph_of("\xe2\x86\xb5", 1, len); /* U+21B5 */
    case '\t':
        return glyph_of("\xe2\x87\xa5", 1, len); /* U+21E5 */
    case 0xa0:                                   /* no-break space: looks like a space, is another token */
        return glyph_of("\\xa0", 4, len);
    default:
        break;
    }
    if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0)) {
        static const char digits[] = "0123456789abcdef";
        char hex[] = { '\\', 'x', digits[cp >> 4], digits[cp & 15], '\0' };
        return glyph_of(hex, 4, len);
    }
    /* U+xxFFFE and U+xxFFFF may not stand in XML, so not in SVG. */
    if (is_direction_control(cp) || (cp & 0xfffe) == 0xfffe || cp == 0x2028 || cp == 0x2029)
        return glyph_of(REPLACEMENT, 1, len);
    struct glyph g = { .len = len, .consumed = len };
    memcpy(g.bytes, text, len);
    int width = utf8proc_charwidth((utf8proc_int32_t)cp);
    g.width = width < 0 ? 0 : (size_t)width;
    return g;
}

/* Appends shown text. Zero-width characters are bounded too, or a label could grow without a column. */
static void show(struct strbuf *out, const char *text, size_t n, size_t max_width, bool token)
{
    size_t width = 0, count = 0;
    size_t fits_len = out->len; /* where to cut so that the ellipsis has room */

    for (size_t at = 0; at < n; count++) {
        struct glyph g = next_glyph(text + at, n - at);
        if (token && text[at] == ' ' && (at == 0 || at == n - 1))
            g = glyph_of(OPEN_BOX, 1, 1);
        if (max_width && (width + g.width > max_width || count > 4 * max_width)) {
            if (out->len > fits_len) {
                out->len = fits_len;
                out->data[fits_len] = '\0';
            }
            strbuf_adds(out, ELLIPSIS);
            return;
        }
        /* "]]>" may not stand in XML text and gnuplot leaves '>' as it is: a zero-width space breaks it up. */
        if (g.bytes[0] == '>' && out->len >= 2 && memcmp(out->data + out->len - 2, "]]", 2) == 0)
            strbuf_adds(out, "\xe2\x80\x8b");
        strbuf_add(out, g.bytes, g.len);
        at += g.consumed;
        width += g.width;
        if (width < max_width || !max_width)
            fits_len = out->len;
    }
}

void plot_show(struct strbuf *out, const char *text, size_t max_width)
{
    show(out, text, strlen(text), max_width, false);
}

void plot_show_token(struct strbuf *out, const char *token, size_t max_width)
{
    show(out, token, strlen(token), max_width, true);
}

size_t plot_width(const char *shown)
{
    size_t width = 0;
    for (size_t at = 0, n = strlen(shown); at < n;) {
        struct glyph g = next_glyph(shown + at, n - at);
        width += g.width;
        at += g.consumed;
    }
    return width;
}

void plot_show_drawn(struct strbuf *out, const char *shown)
{
    for (size_t at = 0, n = strlen(shown); at < n;) {
        uint32_t cp;
        size_t len = utf8_decode(shown + at, n - at, &cp);
        if (len && fonts_have(cp))
            strbuf_add(out, shown + at, len);
        else
            strbuf_adds(out, NO_GLYPH);
        at += len ? len : 1;
    }
}

static void add_quoted(struct strbuf *out, const char *text, size_t max_width, bool drawn, char quote,
                       const char *doubled)
{
    struct strbuf whole = STRBUF_INIT, shown = STRBUF_INIT;
    plot_show(drawn ? &whole : &shown, text, max_width);
    if (drawn)
        plot_show_drawn(&shown, strbuf_text(&whole));
    out->failed |= strbuf_failed(&whole);
    strbuf_release(&whole);
    if (strbuf_failed(&shown))
        out->failed = true;
    strbuf_addc(out, quote);
    for (const char *c = strbuf_text(&shown); *c; c++) {
        if (*c == '"' && quote == '"')
            strbuf_addc(out, '\\');
        else if (strchr(doubled, *c))
            strbuf_addc(out, *c);
        strbuf_addc(out, *c);
    }
    strbuf_addc(out, quote);
    strbuf_release(&shown);
}

/* Single quotes: gnuplot interprets nothing inside them, not even backslash or backquote; a quote is doubled. */
void plot_add_string(struct plot *p, const char *text, size_t max_width)
{
    add_quoted(&p->script, text, max_width, true, '\'', "'");
}

/* Tick labels are formats of the tick's number as well. */
void plot_add_tick(struct plot *p, const char *text, size_t max_width)
{
    add_quoted(&p->script, text, max_width, true, '\'', "'%");
}

/* In data files backslash escapes are read inside double quotes; nothing else is. */
void plot_add_field(struct plot *p, const char *text, size_t max_width)
{
    strbuf_addc(&p->data, ' ');
    add_quoted(&p->data, text, max_width, false, '"', "\\");
}

void plot_add_number(struct plot *p, double x)
{
    if (isfinite(x))
        strbuf_addf(&p->data, " %.9g", x);
    else
        strbuf_adds(&p->data, " NaN");
}
