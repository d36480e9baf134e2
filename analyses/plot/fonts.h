/*
 * Which characters the installed fonts have. gnuplot's cairo terminals paint a
 * character that no font has across the whole picture (seen with 5.4), so
 * figures show U+25AF in its place.
 *
 *     if (!fonts_have(0x6771)) ...       // no CJK font: asks fontconfig (`fc-list`), once, in about 20 ms
 *
 * Latin, Greek and Cyrillic letters and the signs that figures use themselves
 * are taken to be there. Without fc-list only these are. What fc-list said is
 * kept for the life of the process; not thread-safe.
 */
#ifndef STRATA_ANALYSES_PLOT_FONTS_H
#define STRATA_ANALYSES_PLOT_FONTS_H

#include <stdbool.h>
#include <stdint.h>

bool fonts_have(uint32_t code_point);

#endif
