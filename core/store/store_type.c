#include "core/store/store_type.h"

#include "core/base/err.h"

#include <string.h>

const char *store_type_name(enum store_type type)
{
    switch (type) {
#define X(id, name, bytes)                                                                                             \
    case STORE_##id:                                                                                                   \
        return name;
        STORE_TYPES(X)
#undef X
    }
    return "?";
}

size_t store_type_size(enum store_type type)
{
    switch (type) {
#define X(id, name, bytes)                                                                                             \
    case STORE_##id:                                                                                                   \
        return bytes;
        STORE_TYPES(X)
#undef X
    }
    return 0;
}

int store_type_parse(const char *name, enum store_type *out)
{
    for (enum store_type type = STORE_F32; type <= STORE_F64; type++)
        if (!strcmp(name, store_type_name(type))) {
            *out = type;
            return 0;
        }
    return ERR_NOTFOUND;
}
