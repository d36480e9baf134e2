/*
 * Instruction sets. Files in the Makefile's ISA_SRCS are compiled once per
 * level with -DISA=base|v3|v4 (x86-64-v3: AVX2 and FMA; v4: AVX-512) and name
 * their public functions with ISA_NAME; a table chosen at run time calls the
 * best one. Other machines have the plain C level only. The environment
 * variable STRATA_ISA (base, v3, v4) lowers the level, for tests.
 *
 *     float ISA_NAME(vec_max)(const float *x, size_t n);   // vec_max_v3 under -DISA=v3
 */
#ifndef STRATA_BASE_ISA_H
#define STRATA_BASE_ISA_H

#define ISA_PASTE_(name, isa) name##_##isa
#define ISA_PASTE(name, isa) ISA_PASTE_(name, isa)
#define ISA_NAME(name) ISA_PASTE(name, ISA)

enum isa { ISA_LEVEL_BASE, ISA_LEVEL_V3, ISA_LEVEL_V4 };

/* The best level that was compiled in, this CPU has and STRATA_ISA allows. */
enum isa isa_level(void);
const char *isa_level_name(enum isa level);

#endif
