#include "analyses/report/fields.h"

#include <math.h>
#include <string.h>

void csv_number(struct strbuf *out, double x)
{
    strbuf_addc(out, ',');
    if (isfinite(x))
        strbuf_addf(out, "%.9g", x);
}

void csv_text(struct strbuf *out, const char *text)
{
    strbuf_add_csv(out, text, strlen(text));
}

void json_key(struct strbuf *out, const char *key)
{
    char last = out->len ? out->data[out->len - 1] : '{';
    strbuf_addf(out, "%s\"%s\":", strchr("{[,", last) ? "" : ",", key);
}

void json_text(struct strbuf *out, const char *key, const char *text)
{
    json_key(out, key);
    strbuf_add_json(out, text, strlen(text));
}

static void add_number(struct strbuf *out, double x)
{
    if (isfinite(x))
        strbuf_addf(out, "%.9g", x);
    else
        strbuf_adds(out, "null");
}

static void add_array(struct strbuf *out, const double *x, size_t n)
{
    strbuf_addc(out, '[');
    for (size_t i = 0; i < n; i++) {
        strbuf_adds(out, i ? "," : "");
        add_number(out, x[i]);
    }
    strbuf_addc(out, ']');
}

void json_number(struct strbuf *out, const char *key, double x)
{
    json_key(out, key);
    add_number(out, x);
}

void json_numbers(struct strbuf *out, const char *key, const double *x, size_t n)
{
    json_key(out, key);
    add_array(out, x, n);
}

void json_matrix(struct strbuf *out, const char *key, const double *x, size_t rows, size_t columns)
{
    json_key(out, key);
    strbuf_addc(out, '[');
    for (size_t r = 0; r < rows; r++) {
        strbuf_adds(out, r ? "," : "");
        add_array(out, x + r * columns, columns);
    }
    strbuf_addc(out, ']');
}
