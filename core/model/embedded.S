#ifdef __CET__
#include <cet.h> /* says that this object, too, goes with -fcf-protection; one that does not say so turns it off */
#endif
/* The tiny model inside the library: config, weights and tokenizer, byte for byte. */
        .section .rodata
        .macro embed name, path
        .balign 64
        .global \name
        .type \name, %object
\name:
        .incbin "\path"
        .size \name, . - \name
        .global \name\()_end
        .type \name\()_end, %object
\name\()_end:
        .byte 0
        .size \name\()_end, 1
        .endm

        embed strata_tiny_config, data/tiny/config.json
        embed strata_tiny_model, data/tiny/model.safetensors
        embed strata_tiny_tokenizer, data/tiny/tokenizer.json

        .section .note.GNU-stack, "", %progbits
