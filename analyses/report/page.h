/*
 * A report as one HTML page beside its figures: opens from disk, no script,
 * nothing from elsewhere, figures by relative links.
 *
 *     struct page page;
 *     page_begin(&page, "Rank of the answer", "n = 85 facts");
 *     page_figure(&page, "out", "rank", "Median rank, with quartiles.");    // out/rank.svg where it is there
 *     page_text(&page, "In numbers", table);                                // as it stands in a terminal
 *     int rc = page_finish(&page, "out", &err);                             // writes out/index.html, releases
 *
 * Every text is escaped; it must be shown text (plot_show), free of control characters but newlines.
 */
#ifndef STRATA_ANALYSES_REPORT_PAGE_H
#define STRATA_ANALYSES_REPORT_PAGE_H

#include "core/base/strbuf.h"

struct page {
    struct strbuf html;
};

void page_begin(struct page *p, const char *title, const char *subtitle);
/* FOLDER/NAME.svg with links to its other files; a line that says so where it was not drawn. */
void page_figure(struct page *p, const char *folder, const char *name, const char *caption);
/* Preformatted. */
void page_text(struct page *p, const char *heading, const char *text);
/* A list of files of the folder: name, what it is; NULL ends. */
void page_files(struct page *p, const char *const (*files)[2]);
int page_finish(struct page *p, const char *folder, struct err *err);

#endif
