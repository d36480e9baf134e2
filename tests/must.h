/*
 * A call that a test cannot do without: its failure is the test's, with its message.
 *
 *     must(model_open(&m, "data/tiny", pool, &err), &err);
 *
 * Include it after cmocka.h.
 */
#ifndef STRATA_TESTS_MUST_H
#define STRATA_TESTS_MUST_H

#include "core/base/err.h"

#include <stdio.h>
#include <string.h>

static inline void must(int rc, const struct err *err)
{
    if (rc)
        fail_msg("%s", err->msg);
}

/* Fails, and the message has every one of the words (separated by |). */
static inline void assert_message(int rc, const struct err *err, const char *words)
{
    char copy[256], *save = NULL;
    snprintf(copy, sizeof copy, "%s", words);
    if (!rc)
        fail_msg("accepted, but should say: %s", words);
    assert_int_equal(rc, err->code);
    for (char *word = strtok_r(copy, "|", &save); word; word = strtok_r(NULL, "|", &save))
        if (!strstr(err->msg, word))
            fail_msg("\"%s\" does not say \"%s\"", err->msg, word);
}

#endif
