#include "analyses/report/page.h"

#include "core/base/file.h"

#include <stdio.h>
#include <stdlib.h>

static void add_escaped(struct strbuf *out, const char *text)
{
    for (const char *c = text; *c; c++)
        switch (*c) {
        case '&':
            strbuf_adds(out, "&amp;");
            break;
        case '<':
            strbuf_adds(out, "&lt;");
            break;
        case '>':
            strbuf_adds(out, "&gt;");
            break;
        case '"':
            strbuf_adds(out, "&quot;");
            break;
        default:
            strbuf_addc(out, *c);
        }
}

void page_begin(struct page *p, const char *title, const char *subtitle)
{
    struct strbuf *out = &p->html;
    *out = (struct strbuf)STRBUF_INIT;
    strbuf_adds(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                     "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>");
    add_escaped(out, title);
    strbuf_adds(out,
                "</title>\n<style>\n"
                "body { max-width: 1200px; margin: 2em auto; padding: 0 1em; background: #fff; color: #222;\n"
                "       font: 16px/1.5 'DejaVu Sans', sans-serif; }\n"
                "h1 { margin-bottom: 0; } .about { margin-top: 0; color: #555; }\n"
                "figure { margin: 2em 0; } figure img { display: block; max-width: 100%; }\n"
                "figcaption, .files { color: #555; }\n"
                ".wide { overflow-x: auto; } table { border-collapse: collapse; }\n"
                "th, td { text-align: left; vertical-align: top; padding: 0.3em 0.8em 0.3em 0; min-width: 4.5em; }\n"
                "th { border-bottom: 2px solid #222; } td { border-bottom: 1px solid #ddd; }\n"
                "code { overflow-wrap: anywhere; } h1, p { overflow-wrap: anywhere; }\n"
                "pre { overflow-x: auto; font: 13px/1.3 'DejaVu Sans Mono', monospace; background: #f6f6f6;\n"
                "      padding: 1em; }\n"
                "</style>\n</head>\n<body>\n<h1>");
    add_escaped(out, title);
    strbuf_adds(out, "</h1>\n<p class=\"about\">");
    add_escaped(out, subtitle);
    strbuf_adds(out, "</p>\n");
}

void page_heading(struct page *p, const char *heading)
{
    strbuf_adds(&p->html, "<h2>");
    add_escaped(&p->html, heading);
    strbuf_adds(&p->html, "</h2>\n");
}

void page_paragraph(struct page *p, const char *text)
{
    strbuf_adds(&p->html, "<p>");
    add_escaped(&p->html, text);
    strbuf_adds(&p->html, "</p>\n");
}

static void add_base64(struct strbuf *out, const unsigned char *data, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        unsigned bits = (unsigned)data[i] << 16;
        bits |= i + 1 < n ? (unsigned)data[i + 1] << 8 : 0;
        bits |= i + 2 < n ? data[i + 2] : 0;
        const char text[] = { digits[bits >> 18], digits[bits >> 12 & 63], i + 1 < n ? digits[bits >> 6 & 63] : '=',
                              i + 2 < n ? digits[bits & 63] : '=' };
        strbuf_add(out, text, sizeof text);
    }
}

/* The picture as a data: address, so that the page needs no other file; false where it was not drawn. */
static bool add_picture(struct strbuf *out, const char *folder, const char *name, const char *caption)
{
    struct strbuf path = STRBUF_INIT;
    struct file_map map;
    struct err ignored;
    strbuf_addf(&path, "%s/%s.svg", folder, name);
    bool drawn = !strbuf_failed(&path) && file_exists(path.data) && !file_map_open(&map, path.data, &ignored);
    if (drawn) {
        strbuf_adds(out, "<img src=\"data:image/svg+xml;base64,");
        add_base64(out, map.data, map.size);
        strbuf_adds(out, "\" alt=\"");
        add_escaped(out, caption);
        strbuf_adds(out, "\">\n");
        file_map_close(&map);
    }
    strbuf_release(&path);
    return drawn;
}

void page_figure(struct page *p, const char *folder, const char *name, const char *caption)
{
    struct strbuf *out = &p->html;
    strbuf_adds(out, "<figure>\n");
    if (!add_picture(out, folder, name, caption))
        strbuf_addf(out, "<p>%s: not drawn, `gnuplot %s.gp` in this folder does it.</p>\n", name, name);
    strbuf_adds(out, "<figcaption>");
    add_escaped(out, caption);
    strbuf_addf(out,
                " <a href=\"%s.png\">png</a> <a href=\"%s.dat\">numbers</a> <a href=\"%s.gp\">script</a>"
                "</figcaption>\n</figure>\n",
                name, name, name);
}

void page_table(struct page *p, const char *heading, const char *const *columns)
{
    if (heading)
        page_heading(p, heading);
    strbuf_adds(&p->html, "<div class=\"wide\"><table>\n<tr>");
    for (; *columns; columns++) {
        strbuf_adds(&p->html, "<th>");
        add_escaped(&p->html, *columns);
        strbuf_adds(&p->html, "</th>");
    }
    strbuf_adds(&p->html, "</tr>\n<tr>");
}

void page_cell(struct page *p, const char *text)
{
    strbuf_adds(&p->html, "<td>");
    add_escaped(&p->html, text);
    strbuf_adds(&p->html, "</td>");
}

void page_end_row(struct page *p)
{
    strbuf_adds(&p->html, "</tr>\n<tr>");
}

void page_end_table(struct page *p)
{
    strbuf_adds(&p->html, "</tr>\n</table></div>\n");
}

void page_text(struct page *p, const char *heading, const char *text)
{
    strbuf_adds(&p->html, "<h2>");
    add_escaped(&p->html, heading);
    strbuf_adds(&p->html, "</h2>\n<pre>\n");
    add_escaped(&p->html, text);
    strbuf_adds(&p->html, "</pre>\n");
}

void page_files(struct page *p, const char *const (*files)[2])
{
    strbuf_adds(&p->html, "<ul class=\"files\">\n");
    for (; (*files)[0]; files++) {
        strbuf_addf(&p->html, "<li><a href=\"%s\">%s</a> ", (*files)[0], (*files)[0]);
        add_escaped(&p->html, (*files)[1]);
        strbuf_adds(&p->html, "</li>\n");
    }
    strbuf_adds(&p->html, "</ul>\n");
}

int page_finish(struct page *p, const char *folder, const char *name, struct err *err)
{
    strbuf_adds(&p->html, "</body>\n</html>\n");
    char *path = file_join(folder, name);
    int rc = !path || strbuf_failed(&p->html) ? err_nomem(err, "a report")
                                              : file_write(path, p->html.data, p->html.len, err);
    free(path);
    strbuf_release(&p->html);
    return rc;
}
