/* Rows of the architecture table: encoders. */
#include "core/model/arch.h"

const struct arch arch_encoders[] = { { 0 } };

const size_t n_arch_encoders = 0;
