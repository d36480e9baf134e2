#include "core/base/isa.h"

#include <stdlib.h>
#include <string.h>

static enum isa cpu_level(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi2"))
        return ISA_LEVEL_BASE;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"))
        return ISA_LEVEL_V4;
    return ISA_LEVEL_V3;
#else
    return ISA_LEVEL_BASE;
#endif
}

enum isa isa_level(void)
{
    enum isa level = cpu_level();
    const char *limit = getenv("STRATA_ISA");
    if (limit && !strcmp(limit, "base"))
        return ISA_LEVEL_BASE;
    if (limit && !strcmp(limit, "v3") && level > ISA_LEVEL_V3)
        return ISA_LEVEL_V3;
    return level;
}

const char *isa_level_name(enum isa level)
{
    static const char *const names[] = { "base", "v3", "v4" };
    return names[level];
}
