/*
 * A report as one HTML page: opens from disk, on a phone too; no script, nothing
 * from elsewhere, the pictures inside it.
 *
 *     struct page page;
 *     page_begin(&page, "Rank of the answer", "n = 85 facts");
 *     page_figure(&page, "out", "rank", "Median rank, with quartiles.");    // out/rank.svg where it is there
 *     page_text(&page, "In numbers", table);                                // as it stands in a terminal
 *     page_table(&page, "Heads", columns);
 *     page_cell(&page, "L3H7"), page_cell(&page, "+1.5"), page_end_row(&page), page_end_table(&page);
 *     int rc = page_finish(&page, "out", "index.html", &err);               // writes out/index.html, releases
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
void page_heading(struct page *p, const char *heading);
void page_paragraph(struct page *p, const char *text);
/* FOLDER/NAME.svg, copied into the page, with links to its other files; a line that says so where it was not drawn. */
void page_figure(struct page *p, const char *folder, const char *name, const char *caption);
/* Preformatted. */
void page_text(struct page *p, const char *heading, const char *text);
/* columns: names, NULL ends; heading may be NULL. Then the cells of each row. A wide table scrolls by itself. */
void page_table(struct page *p, const char *heading, const char *const *columns);
void page_cell(struct page *p, const char *text);
void page_end_row(struct page *p);
void page_end_table(struct page *p);
/* A list of files of the folder: name, what it is; NULL ends. */
void page_files(struct page *p, const char *const (*files)[2]);
int page_finish(struct page *p, const char *folder, const char *name, struct err *err);

#endif
