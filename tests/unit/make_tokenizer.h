/*
 * Small tokenizers for tests, right or wrong, as tokenizer.json and as GGUF.
 *
 *     struct strbuf s = json_of((struct parts){ .normalizer = "{\"type\":\"NFC\"}" });
 */
#ifndef STRATA_TESTS_UNIT_MAKE_TOKENIZER_H
#define STRATA_TESTS_UNIT_MAKE_TOKENIZER_H

#include "core/base/strbuf.h"
#include "core/tokenizer/internal.h"
#include "tests/unit/make_gguf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* A tokenizer.json from its parts; NULL parts are what a plain byte-level BPE has. */
struct parts {
    const char *added, *normalizer, *pre, *post, *decoder, *settings, *vocab, *merges, *top;
};
#define BYTE_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}"
#define ADDED(id, content, flags)                                                                                      \
    "{\"id\":" #id ",\"content\":\"" content "\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false," flags "}"
#define PLAIN "\"normalized\":false,\"special\":false"
#define SPECIAL "\"normalized\":false,\"special\":true"

/* The 256 byte letters as ids 0 to 255, then "he" 256, "ll" 257, "hell" 258, "hello" 259, "Ġw" 260. */
#define MERGES_OF_HELLO "\"h e\",[\"l\",\"l\"],\"he ll\",\"hell o\",\"Ġ w\""

static inline struct strbuf json_of(struct parts p)
{
    struct strbuf s = STRBUF_INIT;
    strbuf_addf(&s, "{\"version\":\"1.0\",\"added_tokens\":[%s],\"normalizer\":%s,\"pre_tokenizer\":%s,",
                p.added ? p.added : "", p.normalizer ? p.normalizer : "null", p.pre ? p.pre : BYTE_LEVEL);
    strbuf_addf(&s, "\"post_processor\":%s,\"decoder\":%s,%s", p.post ? p.post : "null", p.decoder ? p.decoder : "null",
                p.top ? p.top : "");
    strbuf_addf(&s, "\"model\":{\"type\":\"BPE\",%s\"vocab\":{", p.settings ? p.settings : "");
    for (int byte = 0; byte < 256 && !p.vocab; byte++) {
        char letter[5] = "";
        byte_letter((unsigned char)byte, letter);
        strbuf_add_json(&s, letter, strlen(letter));
        strbuf_addf(&s, ":%d,", byte);
    }
    strbuf_addf(&s, "%s},\"merges\":[%s]}}",
                p.vocab ? p.vocab : "\"he\":256,\"ll\":257,\"hell\":258,\"hello\":259,\"\\u0120w\":260",
                p.merges ? p.merges : MERGES_OF_HELLO);
    return s;
}

static inline struct tokenizer *open_good(struct parts p)
{
    struct strbuf s = json_of(p);
    struct tokenizer *tok = NULL;
    struct err err = { 0 };
    if (tokenizer_open_json(&tok, s.data, s.len, "t.json", &err))
        fail_msg("%s", err.msg);
    strbuf_release(&s);
    return tok;
}

#define TWO_ADDED ADDED(261, "<s>", SPECIAL) "," ADDED(262, "é ", PLAIN)

#define TEMPLATE(single, ids)                                                                                          \
    "{\"type\":\"TemplateProcessing\",\"single\":[" single                                                             \
    "],\"pair\":[],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\","                                                       \
    "\"ids\":[" ids "],\"tokens\":[\"<s>\"]}}}"
#define TOKEN_S "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}}"
#define TEXT_A "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}"

static inline unsigned next_random(unsigned *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Of CPU time, so that a busy machine changes nothing. */
static inline double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A GGUF with byte letters a, b, their merge, <s>; what is NULL or -1 stays out. */
struct gguf_parts {
    const char *model, *pre, *merge;
    int bos, add_bos, n_types, type;
};

static inline int open_gguf(struct tokenizer **tok, struct gguf_parts p, struct err *err)
{
    static const char *const texts[] = { "a", "b", "ab", "<s>" };
    struct gguf_maker g = { .version = 3, .alignment = 32 };
    struct strbuf types = STRBUF_INIT;
    if (p.model)
        gguf_put_string(&g, "tokenizer.ggml.model", p.model);
    if (p.pre)
        gguf_put_string(&g, "tokenizer.ggml.pre", p.pre);
    gguf_put_strings(&g, "tokenizer.ggml.tokens", texts, 4);
    gguf_number(&types, 5, 4);
    gguf_number(&types, (uint64_t)p.n_types, 8);
    for (int i = 0; i < p.n_types; i++)
        gguf_number(&types, i == 3 ? (uint64_t)p.type : 1, 4);
    gguf_put(&g, "tokenizer.ggml.token_type", 9, types.data, types.len);
    gguf_put_strings(&g, "tokenizer.ggml.merges", &p.merge, p.merge != NULL);
    if (p.bos >= 0)
        gguf_put_u32(&g, "tokenizer.ggml.bos_token_id", (uint32_t)p.bos);
    if (p.add_bos >= 0)
        gguf_put_bool(&g, "tokenizer.ggml.add_bos_token", (unsigned char)p.add_bos);
    struct strbuf bytes = gguf_made(&g);
    struct file_map map;
    struct gguf *file = NULL;
    assert_int_equal(file_map_memory(&map, "t.gguf", bytes.data, bytes.len, err), 0);
    assert_int_equal(gguf_open(&file, &map, err), 0);
    int rc = tokenizer_open_gguf(tok, file, err);
    gguf_free(file);
    strbuf_release(&bytes);
    strbuf_release(&types);
    return rc;
}

#endif
