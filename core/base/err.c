#include "core/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A message is one line, and names from files must not steer the terminal. */
static void make_printable(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

int err_set(struct err *err, enum err_code code, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        vsnprintf(err->msg, sizeof err->msg, format, args);
        va_end(args);
        make_printable(err->msg);
        err->code = code;
    }
    return code;
}

int err_errno(struct err *err, const char *format, ...)
{
    int saved = errno;
    if (err) {
        va_list args;
        va_start(args, format);
        int n = vsnprintf(err->msg, sizeof err->msg, format, args);
        va_end(args);
        if (n >= 0 && (size_t)n < sizeof err->msg)
            snprintf(err->msg + n, sizeof err->msg - (size_t)n, ": %s", strerror(saved));
        make_printable(err->msg);
        err->code = ERR_IO;
    }
    return ERR_IO;
}

int err_prefix(struct err *err, const char *format, ...)
{
    if (!err)
        return ERR_IO;
    char text[sizeof err->msg];
    memcpy(text, err->msg, sizeof text);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->msg, sizeof err->msg, format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof err->msg)
        snprintf(err->msg + n, sizeof err->msg - (size_t)n, "%s", text);
    make_printable(err->msg);
    return err->code;
}

const char *err_code_text(int code)
{
    switch (code) {
#define X(name, value, text)                                                                                           \
    case value:                                                                                                        \
        return text;
        ERR_CODES(X)
#undef X
    }
    return "unknown error";
}
