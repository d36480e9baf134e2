/*
 * Included before every file that a static analyser reads (tests/analyse.sh): what it cannot see through a variadic
 * function of another file, that reporting an error returns a negative code.
 */
#ifndef STRATA_TESTS_ANALYSER_H
#define STRATA_TESTS_ANALYSER_H

#include "core/base/err.h"

static inline int known_negative(int code)
{
    if (code >= 0)
        __builtin_unreachable();
    return code;
}
#define err_set(...) known_negative(err_set(__VA_ARGS__))
#define err_nomem(...) known_negative(err_nomem(__VA_ARGS__))
#define err_errno(...) known_negative(err_errno(__VA_ARGS__))

#endif
