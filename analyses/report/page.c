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
    strbuf_adds(out, "</title>\n<style>\n"
                     "body { max-width: 1200px; margin: 2em auto; padding: 0 1em; background: #fff; color: #222;\n"
                     "       font: 16px/1.5 'DejaVu Sans', sans-serif; }\n"
                     "h1 { margin-bottom: 0; } .about { margin-top: 0; color: #555; }\n"
                     "figure { margin: 2em 0; } figure img { display: block; max-width: 100%; }\n"
                     "figcaption, .files { color: #555; }\n"
                     "pre { overflow-x: auto; font: 13px/1.3 'DejaVu Sans Mono', monospace; background: #f6f6f6;\n"
                     "      padding: 1em; }\n"
                     "</style>\n</head>\n<body>\n<h1>");
    add_escaped(out, title);
    strbuf_adds(out, "</h1>\n<p class=\"about\">");
    add_escaped(out, subtitle);
    strbuf_adds(out, "</p>\n");
}

static bool is_drawn(const char *folder, const char *name)
{
    struct strbuf path = STRBUF_INIT;
    strbuf_addf(&path, "%s/%s.svg", folder, name);
    bool drawn = !strbuf_failed(&path) && file_exists(path.data);
    strbuf_release(&path);
    return drawn;
}

void page_figure(struct page *p, const char *folder, const char *name, const char *caption)
{
    struct strbuf *out = &p->html;
    strbuf_adds(out, "<figure>\n");
    if (is_drawn(folder, name)) {
        strbuf_addf(out, "<img src=\"%s.svg\" alt=\"", name);
        add_escaped(out, caption);
        strbuf_adds(out, "\">\n");
    } else {
        strbuf_addf(out, "<p>%s: not drawn, `gnuplot %s.gp` in this folder does it.</p>\n", name, name);
    }
    strbuf_adds(out, "<figcaption>");
    add_escaped(out, caption);
    strbuf_addf(out,
                " <a href=\"%s.png\">png</a> <a href=\"%s.dat\">numbers</a> <a href=\"%s.gp\">script</a>"
                "</figcaption>\n</figure>\n",
                name, name, name);
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

int page_finish(struct page *p, const char *folder, struct err *err)
{
    strbuf_adds(&p->html, "</body>\n</html>\n");
    char *path = file_join(folder, "index.html");
    int rc = !path || strbuf_failed(&p->html) ? err_nomem(err, "a report")
                                              : file_write(path, p->html.data, p->html.len, err);
    free(path);
    strbuf_release(&p->html);
    return rc;
}
