/*
 * Fields of CSV records and members of JSON objects: numbers with nine digits,
 * which give a float32 back; one that is not finite is empty there, null here.
 *
 *     csv_number(&out, 0.25);                  // ,0.25
 *     strbuf_addc(&out, '{');
 *     json_text(&out, "id", "a");              // {"id":"a"
 *     json_number(&out, "prob", NAN);          // {"id":"a","prob":null
 *
 * A member begins with a comma where one is missing: not after {, [ or a comma.
 */
#ifndef STRATA_ANALYSES_REPORT_FIELDS_H
#define STRATA_ANALYSES_REPORT_FIELDS_H

#include "core/base/strbuf.h"

#include <stddef.h>

/* A comma and the number. */
void csv_number(struct strbuf *out, double x);
/* The text as a field, without a comma. */
void csv_text(struct strbuf *out, const char *text);

void json_key(struct strbuf *out, const char *key);
void json_text(struct strbuf *out, const char *key, const char *text);
void json_number(struct strbuf *out, const char *key, double x);
void json_numbers(struct strbuf *out, const char *key, const double *x, size_t n);
/* x[rows, columns] as an array of rows. */
void json_matrix(struct strbuf *out, const char *key, const double *x, size_t rows, size_t columns);

#endif
