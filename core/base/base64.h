/*
 * Base64 (RFC 4648, with padding, nothing else in between).
 *
 *     char *data;
 *     size_t n;
 *     if (base64_decode("aGk=", 4, &data, &n))   // "hi"
 *         free(data);
 */
#ifndef STRATA_BASE_BASE64_H
#define STRATA_BASE_BASE64_H

#include <stdbool.h>
#include <stddef.h>

/* False when the text is no base64 or memory is out. *data is the caller's to free. */
bool base64_decode(const char *text, size_t len, char **data, size_t *n);

#endif
