/*
 * Errors: a negative code and one whole sentence for the user.
 *
 *     int thing_load(const char *path, struct err *err)
 *     {
 *         if (size > LIMIT)
 *             return err_set(err, ERR_FORMAT, "%s: header is too large (%zu bytes)", path, size);
 *         return 0;
 *     }
 *
 * Library functions return 0 or a negative code and fill *err; they never
 * print or exit. On success *err is untouched, so calls chain with ||.
 * A message reads "FILE: what is wrong: what to do", one line: control
 * characters that a name from a file brings become '?'. Thread-safe as long as
 * each thread has its own struct err.
 */
#ifndef STRATA_BASE_ERR_H
#define STRATA_BASE_ERR_H

#define ERR_CODES(X)                                                                                                   \
    X(OK, 0, "no error")                                                                                               \
    X(NOMEM, -1, "out of memory")                                                                                      \
    X(IO, -2, "the operating system refused a file operation")                                                         \
    X(FORMAT, -3, "a file does not follow its format")                                                                 \
    X(SHAPE, -4, "a tensor has an unexpected shape")                                                                   \
    X(UNSUPPORTED, -5, "a valid input asks for what is not there")                                                     \
    X(NOTFOUND, -6, "a name matches nothing")                                                                          \
    X(ARG, -7, "an option or argument cannot be used")                                                                 \
    X(NUMERIC, -8, "a number is NaN, infinite or out of range")                                                        \
    X(INTERRUPTED, -9, "stopped by a signal after a clean flush")                                                      \
    X(CHECK, -10, "a check ran and failed")

enum err_code {
#define X(name, value, text) ERR_##name = value,
    ERR_CODES(X)
#undef X
};

struct err {
    int code;
    char msg[1024];
};

#if defined(__GNUC__)
#define ERR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define ERR_PRINTF(fmt, args)
#endif

/* Each returns the code, so that `return err_set(...)` reads well. err may be NULL. */
int err_set(struct err *err, enum err_code code, const char *format, ...) ERR_PRINTF(3, 4);
/* Appends ": " and the text of errno; the code is ERR_IO. Call it first: later calls change errno. */
int err_errno(struct err *err, const char *format, ...) ERR_PRINTF(2, 3);
/* Puts a prefix such as "model.gguf: " before a message that a lower layer wrote. Returns err's code. */
int err_prefix(struct err *err, const char *format, ...) ERR_PRINTF(2, 3);
/* Inline, so that static analysers see that it never returns 0. */
static inline int err_nomem(struct err *err, const char *what)
{
    err_set(err, ERR_NOMEM, "out of memory for %s", what);
    return ERR_NOMEM;
}

/* One line that says what a code means. */
const char *err_code_text(int code);

#endif
