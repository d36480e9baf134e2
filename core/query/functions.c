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

#define REDUCE(name, function, meaning)                                                                                \
    {                                                                                                                  \
        name, FUNCTION_REDUCE, function, NULL, NULL, meaning                                                           \
    }
#define PAIR(name, function, meaning)                                                                                  \
    {                                                                                                                  \
        name, FUNCTION_PAIR, NULL, function, NULL, meaning                                                             \
    }
#define MAP(name, function, meaning)                                                                                   \
    {                                                                                                                  \
        name, FUNCTION_MAP, NULL, NULL, function, meaning                                                              \
    }

static const struct query_function functions[] = {
    REDUCE("first", first, "index of the first true item"),
    REDUCE("last", last, "index of the last true item"),
    REDUCE("any", any, "whether an item is true"),
    REDUCE("all", all, "whether every item is true"),
    REDUCE("count", count, "how many are true"),
    REDUCE("sum", sum, "sum"),
    REDUCE("mean", mean, "mean"),
    REDUCE("min", smallest, "smallest item"),
    REDUCE("max", largest, "largest item"),
    REDUCE("argmin", argmin, "index of the smallest"),
    REDUCE("argmax", argmax, "index of the largest"),
    REDUCE("norm", norm, "Euclidean norm"),
    PAIR("dot", dot, "sum of products"),
    PAIR("cosine", cosine, "cosine of the angle between two vectors"),
    MAP("abs", fabs, "without its sign"),
    MAP("sqrt", sqrt, "square root"),
    MAP("log", log, "natural logarithm"),
    MAP("exp", exp, "e to the power of it"),
    { "missing", FUNCTION_MISSING, NULL, NULL, missing, "whether there is no number, or the text is empty" },
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
