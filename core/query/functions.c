#include "core/query/functions.h"

#include <math.h>
#include <string.h>

bool query_is_true(double x)
{
    return x != 0 && !isnan(x);
}

static double index_or_missing(size_t i, size_t n)
{
    return i < n ? (double)i : NAN;
}

static double first(const double *v, size_t n)
{
    size_t i = 0;
    while (i < n && !query_is_true(v[i]))
        i++;
    return index_or_missing(i, n);
}

static double last(const double *v, size_t n)
{
    size_t i = n;
    while (i && !query_is_true(v[i - 1]))
        i--;
    return i ? (double)(i - 1) : NAN;
}

static double count(const double *v, size_t n)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++)
        found += query_is_true(v[i]);
    return (double)found;
}

static double any(const double *v, size_t n)
{
    return !isnan(first(v, n));
}

static double all(const double *v, size_t n)
{
    size_t i = 0;
    while (i < n && query_is_true(v[i]))
        i++;
    return i == n;
}

static double sum(const double *v, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++)
        s += isnan(v[i]) ? 0 : v[i];
    return s;
}

static double mean(const double *v, size_t n)
{
    size_t there = 0;
    for (size_t i = 0; i < n; i++)
        there += isnan(v[i]) ? 0 : 1;
    return there ? sum(v, n) / (double)there : NAN;
}

/* The first of the largest of sign * v; n where all are missing. */
static size_t extreme(const double *v, size_t n, double sign)
{
    size_t best = n;
    for (size_t i = 0; i < n; i++)
        if (!isnan(v[i]) && (best == n || sign * v[i] > sign * v[best]))
            best = i;
    return best;
}

static double argmin(const double *v, size_t n)
{
    return index_or_missing(extreme(v, n, -1), n);
}

static double argmax(const double *v, size_t n)
{
    return index_or_missing(extreme(v, n, 1), n);
}

static double smallest(const double *v, size_t n)
{
    size_t i = extreme(v, n, -1);
    return i < n ? v[i] : NAN;
}

static double largest(const double *v, size_t n)
{
    size_t i = extreme(v, n, 1);
    return i < n ? v[i] : NAN;
}

static double norm(const double *v, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++)
        s += isnan(v[i]) ? 0 : v[i] * v[i];
    return sqrt(s);
}

static double dot(const double *a, const double *b, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++)
        s += a[i] * b[i];
    return s;
}

/* 0 / 0, which is missing, where one is all zeros. */
static double cosine(const double *a, const double *b, size_t n)
{
    return dot(a, b, n) / sqrt(dot(a, a, n) * dot(b, b, n));
}

static double missing(double x)
{
    return isnan(x);
}

static const struct query_function functions[] = {
    { "first", FUNCTION_REDUCE, .reduce = first },
    { "last", FUNCTION_REDUCE, .reduce = last },
    { "any", FUNCTION_REDUCE, .reduce = any },
    { "all", FUNCTION_REDUCE, .reduce = all },
    { "count", FUNCTION_REDUCE, .reduce = count },
    { "sum", FUNCTION_REDUCE, .reduce = sum },
    { "mean", FUNCTION_REDUCE, .reduce = mean },
    { "min", FUNCTION_REDUCE, .reduce = smallest },
    { "max", FUNCTION_REDUCE, .reduce = largest },
    { "argmin", FUNCTION_REDUCE, .reduce = argmin },
    { "argmax", FUNCTION_REDUCE, .reduce = argmax },
    { "norm", FUNCTION_REDUCE, .reduce = norm },
    { "dot", FUNCTION_PAIR, .pair = dot },
    { "cosine", FUNCTION_PAIR, .pair = cosine },
    { "abs", FUNCTION_MAP, .map = fabs },
    { "sqrt", FUNCTION_MAP, .map = sqrt },
    { "log", FUNCTION_MAP, .map = log },
    { "exp", FUNCTION_MAP, .map = exp },
    { "missing", FUNCTION_MISSING, .map = missing },
};

const struct query_function *query_function_at(size_t i)
{
    return i < sizeof functions / sizeof *functions ? &functions[i] : NULL;
}

const struct query_function *query_function_find(const char *name)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (!strcmp(functions[i].name, name))
            return &functions[i];
    return NULL;
}
