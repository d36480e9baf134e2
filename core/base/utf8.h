/*
 * UTF-8 decoding, encoding and validation (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF).
 *
 *     uint32_t cp;
 *     size_t n = utf8_decode(text, len, &cp);   // 0 when the bytes are no valid character
 */
#ifndef STRATA_BASE_UTF8_H
#define STRATA_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

size_t utf8_decode(const char *text, size_t n, uint32_t *code_point);
/* Writes 1-4 bytes to out and returns how many; cp must be a Unicode scalar value. */
size_t utf8_encode(uint32_t code_point, char out[4]);
bool utf8_valid(const char *text, size_t n);
/* Offset of the first invalid byte, or n. */
size_t utf8_valid_prefix(const char *text, size_t n);

#endif
