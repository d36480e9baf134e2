#include "core/model/arch.h"

#include <stdio.h>
#include <string.h>

const struct arch *arch_row(size_t i)
{
    const struct {
        const struct arch *rows;
        size_t n;
    } tables[] = { { arch_llama, n_arch_llama }, { arch_gpt, n_arch_gpt }, { arch_encoders, n_arch_encoders } };
    for (size_t t = 0; t < sizeof tables / sizeof *tables; i -= tables[t++].n)
        if (i < tables[t].n)
            return &tables[t].rows[i];
    return NULL;
}

const char *model_known_families(void)
{
    static char text[1024];
    size_t used = 0;
    const struct arch *arch;
    if (text[0])
        return text;
    for (size_t i = 0; (arch = arch_row(i)) && used < sizeof text; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", i ? ", " : "", arch->name);
    return text;
}

const struct arch *arch_of_model_type(const char *model_type)
{
    const struct arch *arch;
    for (size_t i = 0; (arch = arch_row(i)); i++)
        if (!strcmp(arch->name, model_type))
            break;
    return arch;
}

const struct property_key *arch_property(const struct arch *arch, enum property property)
{
    for (size_t i = 0; property != PROPERTY_NONE && i < MOST_PROPERTY_KEYS; i++)
        if (arch->properties[i].property == property)
            return &arch->properties[i];
    return NULL;
}

const struct arch *arch_of_gguf(const char *architecture, size_t len, bool experts, bool slides)
{
    const struct arch *arch, *best = NULL;
    int best_fit = -1;
    for (size_t i = 0; (arch = arch_row(i)); i++) {
        if (!arch->gguf || strlen(arch->gguf) != len || memcmp(arch->gguf, architecture, len) != 0)
            continue;
        int fit = 2 * (experts == (arch_property(arch, PROPERTY_EXPERTS) != NULL)) +
                  (slides == (arch->window.kind == WINDOW_EVERY_LAYER));
        if (fit > best_fit) {
            best = arch;
            best_fit = fit;
        }
    }
    return best;
}

const char *role_gguf_name(const struct arch *arch, enum role role)
{
    static const char *const names[N_ROLES] = {
#define X(id, gguf) [ROLE_##id] = gguf,
        ROLES(X)
#undef X
    };
    if (role == ROLE_LN1 && arch->gguf_ln1)
        return arch->gguf_ln1;
    return role == ROLE_LN2 && arch->gguf_ln2 ? arch->gguf_ln2 : names[role];
}

bool activation_of_name(const char *name, enum activation *out)
{
    /* The four tanh forms differ in rounding only, gelu_fast by 4e-12 in a constant. */
    static const struct {
        const char *name;
        enum activation activation;
    } known[] = {
#define X(id, spelled) { spelled, ACTIVATION_##id },
        ACTIVATIONS(X)
#undef X
            { "gelu_pytorch_tanh", ACTIVATION_GELU_TANH },
        { "gelu_python_tanh", ACTIVATION_GELU_TANH },
        { "gelu_accurate", ACTIVATION_GELU_TANH },
        { "gelu_fast", ACTIVATION_GELU_TANH },
        { "gelu_python", ACTIVATION_GELU_ERF },
        { "swish", ACTIVATION_SILU },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].name, name)) {
            *out = known[i].activation;
            return true;
        }
    return false;
}

void tensor_name(char out[TENSOR_NAME_MAX], const char *prefix, const char *pattern, size_t layer, size_t expert,
                 const char *suffix)
{
    size_t numbers[] = { layer, expert }, n = 0;
    int used = snprintf(out, TENSOR_NAME_MAX, "%s", prefix);
    for (; *pattern && used < TENSOR_NAME_MAX; pattern++)
        if (*pattern == '*' && n < 2)
            used += snprintf(out + used, (size_t)(TENSOR_NAME_MAX - used), "%zu", numbers[n++]);
        else
            used += snprintf(out + used, (size_t)(TENSOR_NAME_MAX - used), "%c", *pattern);
    if (used < TENSOR_NAME_MAX)
        snprintf(out + used, (size_t)(TENSOR_NAME_MAX - used), "%s", suffix);
}

bool next_spelling(const char **cursor, char out[TENSOR_NAME_MAX])
{
    size_t n = strcspn(*cursor, "|");
    if (!n && !**cursor)
        return false;
    snprintf(out, TENSOR_NAME_MAX, "%.*s", (int)n, *cursor);
    *cursor += n + ((*cursor)[n] == '|');
    return true;
}

bool tensor_name_matches(const char *name, const char *pattern)
{
    for (; *pattern; pattern++) {
        if (*pattern == '*') {
            size_t digits = strspn(name, "0123456789");
            if (!digits)
                return false;
            name += digits;
        } else if (*name++ != *pattern)
            return false;
    }
    return !*name;
}
