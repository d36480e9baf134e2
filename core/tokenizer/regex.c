#include "core/tokenizer/regex.h"

#include "core/base/mem.h"
#include "core/base/strbuf.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* White_Space of Unicode, which is what Oniguruma's \s means. PCRE2's has U+180E in addition. */
#define SPACES "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NOT_SPACES                                                                                                     \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}!-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}"       \
    "\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{d7ff}\\x{e000}-\\x{10ffff}"

enum {
    LONGEST = 16384,           /* bytes of a pattern; real ones have some hundred */
    STEPS_MOST = 20 * 1000000, /* of one match: a second at worst; 1 MB of spaces takes 1,000,000 */
    HEAP_MOST_KIB = 64 * 1024,
    SECONDS_MOST = 3, /* of CPU time on one text: every match may be quick, and all of them a square of the length */
    PLACES = 64,      /* that are tried for a match before the clock is looked at */
    MATCHES_UNTIMED = 64
};

struct regex {
    pcre2_code *code;
    char *pattern;
};

struct regex_room {
    pcre2_match_data *match;
    pcre2_match_context *limits;
    double started;
    unsigned matches;
};

/* What the translation is looking at. */
struct scan {
    const char *at, *end, *where, *pattern;
    struct strbuf out;
};

static int refuse(const struct scan *s, const char *what, size_t n, struct err *err)
{
    return err_set(err, ERR_UNSUPPORTED, "%s: the regular expression %.200s uses %.*s, which is not supported",
                   s->where, s->pattern, (int)n, what);
}

/*
 * Characters newer than PCRE2's Unicode. The `tokenizers` library's Oniguruma is at Unicode 16, PCRE2 10.42 at 14;
 * where PCRE2 knows them they are there twice. (U+1171E alone went over from Mn to Mc.)
 */
static const struct {
    const char *category, *ranges;
} newer[] = {
    { "Lu", "\\x{1c89}\\x{a7cb}-\\x{a7cc}\\x{a7da}\\x{a7dc}\\x{10d50}-\\x{10d65}" },
    { "Ll", "\\x{1c8a}\\x{a7cd}\\x{a7db}\\x{10d70}-\\x{10d85}\\x{1df25}-\\x{1df2a}" },
    { "Lm", "\\x{10d4e}\\x{10d6f}\\x{16d40}-\\x{16d42}\\x{16d6b}-\\x{16d6c}\\x{1e030}-\\x{1e06d}\\x{1e4eb}" },
    { "Lo", "\\x{105c0}-\\x{105f3}\\x{10d4a}-\\x{10d4d}\\x{10d4f}\\x{10ec2}-\\x{10ec4}\\x{1123f}-\\x{11240}"
            "\\x{11380}-\\x{11389}\\x{1138b}\\x{1138e}\\x{11390}-\\x{113b5}\\x{113b7}\\x{113d1}\\x{113d3}"
            "\\x{11bc0}-\\x{11be0}\\x{11f02}\\x{11f04}-\\x{11f10}\\x{11f12}-\\x{11f33}\\x{1342f}"
            "\\x{13441}-\\x{13446}\\x{13460}-\\x{143fa}\\x{16100}-\\x{1611d}\\x{16d43}-\\x{16d6a}\\x{18cff}"
            "\\x{1b132}\\x{1b155}\\x{1e4d0}-\\x{1e4ea}\\x{1e5d0}-\\x{1e5ed}\\x{1e5f0}\\x{2b739}"
            "\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}" },
    { "Mn", "\\x{897}\\x{ece}\\x{10d69}-\\x{10d6d}\\x{10efc}-\\x{10eff}\\x{11241}\\x{113bb}-\\x{113c0}"
            "\\x{113ce}\\x{113d0}\\x{113d2}\\x{113e1}-\\x{113e2}\\x{11f00}-\\x{11f01}\\x{11f36}-\\x{11f3a}"
            "\\x{11f40}\\x{11f42}\\x{11f5a}\\x{13440}\\x{13447}-\\x{13455}\\x{1611e}-\\x{16129}"
            "\\x{1612d}-\\x{1612f}\\x{1e08f}\\x{1e4ec}-\\x{1e4ef}\\x{1e5ee}-\\x{1e5ef}" },
    { "Mc", "\\x{cf3}\\x{113b8}-\\x{113ba}\\x{113c2}\\x{113c5}\\x{113c7}-\\x{113ca}\\x{113cc}-\\x{113cd}"
            "\\x{113cf}\\x{1171e}\\x{11f03}\\x{11f34}-\\x{11f35}\\x{11f3e}-\\x{11f3f}\\x{11f41}"
            "\\x{1612a}-\\x{1612c}" },
    { "Nd", "\\x{10d40}-\\x{10d49}\\x{116d0}-\\x{116e3}\\x{11bf0}-\\x{11bf9}\\x{11f50}-\\x{11f59}"
            "\\x{16130}-\\x{16139}\\x{16d70}-\\x{16d79}\\x{1ccf0}-\\x{1ccf9}\\x{1e4f0}-\\x{1e4f9}"
            "\\x{1e5f1}-\\x{1e5fa}" },
    { "No", "\\x{1d2c0}-\\x{1d2d3}" },
    { "Pd", "\\x{10d6e}" },
    { "Po", "\\x{1b4e}-\\x{1b4f}\\x{1b7f}\\x{113d4}-\\x{113d5}\\x{113d7}-\\x{113d8}\\x{11b00}-\\x{11b09}"
            "\\x{11be1}\\x{11f43}-\\x{11f4f}\\x{16d6d}-\\x{16d6f}\\x{1e5ff}" },
    { "Sm", "\\x{10d8e}-\\x{10d8f}" },
    { "So", "\\x{2427}-\\x{2429}\\x{2ffc}-\\x{2fff}\\x{31e4}-\\x{31e5}\\x{31ef}\\x{1cc00}-\\x{1ccef}"
            "\\x{1cd00}-\\x{1ceb3}\\x{1f6dc}\\x{1f774}-\\x{1f776}\\x{1f77b}-\\x{1f77f}\\x{1f7d9}"
            "\\x{1f8b2}-\\x{1f8bb}\\x{1f8c0}-\\x{1f8c1}\\x{1fa75}-\\x{1fa77}\\x{1fa87}-\\x{1fa89}\\x{1fa8f}"
            "\\x{1faad}-\\x{1faaf}\\x{1fabb}-\\x{1fabf}\\x{1fac6}\\x{1face}-\\x{1facf}\\x{1fada}-\\x{1fadc}"
            "\\x{1fadf}\\x{1fae8}-\\x{1fae9}\\x{1faf7}-\\x{1faf8}\\x{1fbcb}-\\x{1fbef}" },
    { "Cf", "\\x{13439}-\\x{1343f}" },
};

static void add_category(struct scan *s, const char *name, size_t n)
{
    strbuf_addf(&s->out, "\\p{%.*s}", (int)n, name);
    for (size_t i = 0; i < sizeof newer / sizeof *newer; i++)
        if (!memcmp(newer[i].category, name, n))
            strbuf_adds(&s->out, newer[i].ranges);
}

/* \p{L}, \p{Lu}, ...: general categories only; PCRE2 reads script names as script extensions. */
static int property(struct scan *s, bool in_class, struct err *err)
{
    static const char *const names[] = { "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N",
                                         "Nd", "Nl", "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po",
                                         "S",  "Sm", "Sc", "Sk", "So", "Z",  "Zs", "Zl", "Zp", "Cc", "Cf" };
    const char *start = s->at, *close = memchr(s->at, '}', (size_t)(s->end - s->at));
    size_t n = close ? (size_t)(close - s->at) : 0;
    bool outside = s->at[1] == 'P';
    for (size_t i = 0; n > 3 && s->at[2] == '{' && !(outside && in_class) && i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == n - 3 && !memcmp(s->at + 3, names[i], n - 3)) {
            if (!in_class)
                strbuf_adds(&s->out, outside ? "[^" : "[");
            add_category(s, names[i], n - 3);
            if (!in_class)
                strbuf_addc(&s->out, ']');
            s->at = close + 1;
            return 0;
        }
    return refuse(s, start, close && n < 40 ? n + 1 : 2, err);
}

/* \xHH, \x{H...}, \uHHHH: to \x{H...}. */
static int code_point(struct scan *s, struct err *err)
{
    const char *start = s->at, *digits = s->at + 2;
    bool braces = s->at[1] == 'x' && digits < s->end && *digits == '{';
    size_t least = s->at[1] == 'u' ? 4 : 2, n = 0;
    digits += braces;
    while (digits + n < s->end && n < (braces ? 6 : least) && strchr("0123456789abcdefABCDEF", digits[n]))
        n++;
    bool closed = !braces || (digits + n < s->end && digits[n] == '}');
    /* \x80 and above is a single byte to Oniguruma. */
    if (!closed || !n || (!braces && n < least) || (!braces && s->at[1] == 'x' && digits[0] > '7'))
        return refuse(s, start, 2, err);
    strbuf_addf(&s->out, "\\x{%.*s}", (int)n, digits);
    s->at = digits + n + braces;
    return 0;
}

static int escape(struct scan *s, bool in_class, struct err *err)
{
    char c = s->at + 1 < s->end ? s->at[1] : 0;
    if (c == 'p' || c == 'P')
        return property(s, in_class, err);
    if (c == 'x' || c == 'u')
        return code_point(s, err);
    if (c == 's')
        strbuf_adds(&s->out, in_class ? SPACES : "[" SPACES "]");
    else if (c == 'S')
        strbuf_adds(&s->out, in_class ? NOT_SPACES : "[^" SPACES "]");
    else if (c == 'd' && in_class)
        add_category(s, "Nd", 2);
    else if (c == 'd' || (c == 'D' && !in_class)) {
        strbuf_adds(&s->out, c == 'd' ? "[" : "[^");
        add_category(s, "Nd", 2);
        strbuf_addc(&s->out, ']');
    } else if ((c == 'A' || c == 'z') && !in_class) /* start and end of the text */
        strbuf_add(&s->out, s->at, 2);
    else if (c > ' ' && c < 127 &&
             (strchr("rntf", c) || !strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                           "0123456789",
                                           c)))
        strbuf_add(&s->out, s->at, 2);
    else
        return refuse(s, s->at, 2, err);
    s->at += 2;
    return 0;
}

/* One item of a class: an escape or a character. */
static int class_item(struct scan *s, const char *first, struct err *err)
{
    if (*s->at == '&' && s->at + 1 < s->end && s->at[1] == '&')
        return refuse(s, s->at, 2, err);
    if (*s->at != '\\') {
        strbuf_addc(&s->out, *s->at++);
        return 0;
    }
    /* \s and the like are spelt out as ranges, which a '-' beside them would join. */
    const char *from = s->at;
    bool many = s->at + 1 < s->end && strchr("sdpSDP", s->at[1]), after_dash = from[-1] == '-' && from - 1 > first;
    int rc = escape(s, true, err);
    if (rc)
        return rc;
    if (many && (after_dash || (s->end - s->at > 1 && *s->at == '-' && s->at[1] != ']')))
        return refuse(s, "a range with a class at its end", 31, err);
    return 0;
}

/* A class inside a class adds its items to it, so that its brackets can go. */
static int nested_class(struct scan *s, size_t *depth, struct err *err)
{
    bool opens = *s->at == '[';
    const char *next = s->at + 1;
    if (opens && (next == s->end || strchr("^:]", *next)))
        return refuse(s, "[^, [: or an unescaped ] at the start of a class inside a class", 64, err);
    if (s->at[-1] == '-' || (!opens && next < s->end && *next == '-'))
        return refuse(s, "a range with a class at its end", 31, err);
    *depth = opens ? *depth + 1 : *depth - 1;
    s->at++;
    return 0;
}

static int character_class(struct scan *s, struct err *err)
{
    const char *start = s->at;
    size_t depth = 0;
    strbuf_addc(&s->out, *s->at++);
    if (s->at < s->end && *s->at == '^')
        strbuf_addc(&s->out, *s->at++);
    const char *first = s->at;
    if (s->at < s->end && *s->at == ']')
        return refuse(s, "an unescaped ] at the start of a class", 38, err);
    while (s->at < s->end && (*s->at != ']' || depth)) {
        int rc = *s->at == '[' || *s->at == ']' ? nested_class(s, &depth, err) : class_item(s, first, err);
        if (rc)
            return rc;
    }
    if (s->at == s->end)
        return err_set(err, ERR_FORMAT, "%s: the regular expression %.200s has a class without its end: %.20s",
                       s->where, s->pattern, start);
    strbuf_addc(&s->out, *s->at++);
    return 0;
}

static int group(struct scan *s, struct err *err)
{
    static const char *const known[] = { "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:" };
    size_t left = (size_t)(s->end - s->at);
    if (left > 1 && s->at[1] != '?' && s->at[1] != '*') {
        strbuf_addc(&s->out, *s->at++);
        return 0;
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t n = strlen(known[i]);
        if (left >= n && !memcmp(s->at, known[i], n)) {
            strbuf_add(&s->out, s->at, n);
            s->at += n;
            return 0;
        }
    }
    return refuse(s, s->at, left < 3 ? left : 3, err);
}

/* {n,m}+ repeats to Oniguruma and is possessive to PCRE2; {,m} counts to the former only. */
static int interval(struct scan *s, struct err *err)
{
    size_t left = (size_t)(s->end - s->at), n = 1;
    while (n < left && strchr("0123456789,", s->at[n]))
        n++;
    if ((left > 1 && s->at[1] == ',') || (n + 1 < left && s->at[n] == '}' && s->at[n + 1] == '+'))
        return refuse(s, s->at, n + 2 < left ? n + 2 : left, err);
    strbuf_addc(&s->out, *s->at++);
    return 0;
}

static int translate(struct scan *s, struct err *err)
{
    int rc = 0;
    while (!rc && s->at < s->end) {
        if (*s->at == '\\')
            rc = escape(s, false, err);
        else if (*s->at == '[')
            rc = character_class(s, err);
        else if (*s->at == '(')
            rc = group(s, err);
        else if (*s->at == '{')
            rc = interval(s, err);
        else
            strbuf_addc(&s->out, *s->at++);
    }
    return rc;
}

static int compile(struct regex *re, const char *translated, const char *where, struct err *err)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context)
        return err_nomem(err, "a regular expression");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    int problem;
    size_t at;
    re->code = pcre2_compile((PCRE2_SPTR)translated, PCRE2_ZERO_TERMINATED,
                             PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT,
                             &problem, &at, context);
    pcre2_compile_context_free(context);
    if (!re->code && problem == PCRE2_ERROR_HEAP_FAILED)
        return err_nomem(err, "a regular expression");
    if (!re->code) {
        char text[128];
        pcre2_get_error_message(problem, (PCRE2_UCHAR *)text, sizeof text);
        return err_set(err, ERR_FORMAT, "%s: the regular expression %.200s cannot be compiled: %s", where, re->pattern,
                       text);
    }
    pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE); /* without JIT it is slower, not wrong */
    return 0;
}

static int open_pattern(struct regex **out, const char *pattern, bool literal, const char *where, struct err *err)
{
    struct scan s = { pattern, pattern + strlen(pattern), where, pattern, STRBUF_INIT };
    if (strlen(pattern) > LONGEST)
        return err_set(err, ERR_FORMAT, "%s: a regular expression has %zu bytes, at most %d are accepted", where,
                       strlen(pattern), LONGEST);
    struct regex *re = calloc(1, sizeof *re);
    int rc = 0;
    if (!re || !(re->pattern = mem_strdup(pattern)))
        rc = err_nomem(err, "a regular expression");
    if (!rc && literal)
        for (const char *c = pattern; *c; c++) {
            if ((unsigned char)*c < 128 && strchr("\\^$.[]|()?*+{}-#", *c))
                strbuf_addc(&s.out, '\\');
            strbuf_addc(&s.out, *c);
        }
    else if (!rc)
        rc = translate(&s, err);
    if (!rc && strbuf_failed(&s.out))
        rc = err_nomem(err, "a regular expression");
    if (!rc)
        rc = compile(re, strbuf_text(&s.out), where, err);
    strbuf_release(&s.out);
    if (rc) {
        regex_free(re);
        return rc;
    }
    *out = re;
    return 0;
}

int regex_open(struct regex **out, const char *pattern, const char *where, struct err *err)
{
    return open_pattern(out, pattern, false, where, err);
}

int regex_open_literal(struct regex **out, const char *text, const char *where, struct err *err)
{
    return open_pattern(out, text, true, where, err);
}

void regex_free(struct regex *re)
{
    if (!re)
        return;
    pcre2_code_free(re->code);
    free(re->pattern);
    free(re);
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct regex_room *regex_room(void)
{
    struct regex_room *room = mem_zeroed(1, sizeof *room);
    if (!room)
        return NULL;
    room->match = pcre2_match_data_create(1, NULL);
    room->limits = pcre2_match_context_create(NULL);
    if (!room->match || !room->limits) {
        regex_room_free(room);
        return NULL;
    }
    pcre2_set_match_limit(room->limits, STEPS_MOST);
    pcre2_set_heap_limit(room->limits, HEAP_MOST_KIB);
    room->started = cpu_seconds();
    return room;
}

void regex_room_free(struct regex_room *room)
{
    if (!room)
        return;
    pcre2_match_data_free(room->match);
    pcre2_match_context_free(room->limits);
    free(room);
}

static int too_long(const struct regex *re, size_t from, const char *why, struct err *err)
{
    return err_set(err, ERR_UNSUPPORTED,
                   "the tokenizer's regular expression %.200s takes too long on this text (byte %zu of a piece): %s",
                   re->pattern, from, why);
}

static int match_failed(const struct regex *re, int code, size_t from, struct err *err)
{
    char text[128];
    if (code == PCRE2_ERROR_NOMEMORY)
        return err_nomem(err, "matching a regular expression");
    pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
    return too_long(re, from, text, err);
}

/* A match that begins in [from, last]: PCRE2's code. */
static int match_within(const struct regex *re, struct regex_room *room, const char *text, size_t len, size_t from,
                        size_t last)
{
    pcre2_set_offset_limit(room->limits, last);
    int got = pcre2_match(re->code, (PCRE2_SPTR)text, len, from, PCRE2_NO_UTF_CHECK, room->match, room->limits);
    if (got == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its state on the heap */
        got = pcre2_match(re->code, (PCRE2_SPTR)text, len, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, room->match,
                          room->limits);
    return got;
}

/* The next character's first byte from `at` on. */
static size_t character_from(const char *text, size_t len, size_t at)
{
    while (at < len && ((unsigned char)text[at] & 0xc0) == 0x80)
        at++;
    return at;
}

/* 1: a match at or after `from`; 0: none; negative: error. */
static int find(const struct regex *re, struct regex_room *room, const char *text, size_t len, size_t from,
                struct err *err)
{
    for (;;) {
        size_t last = len - from > PLACES ? from + PLACES : len;
        int got = match_within(re, room, text, len, from, last);
        if (got != PCRE2_ERROR_NOMATCH && got < 0)
            return match_failed(re, got, from, err);
        bool found = got >= 0;
        bool timed = !found || ++room->matches % MATCHES_UNTIMED == 0;
        if (timed && cpu_seconds() - room->started > SECONDS_MOST)
            return too_long(re, from, "time limit exceeded", err);
        if (found || last == len)
            return found;
        from = character_from(text, len, last + 1);
    }
}

int regex_next(const struct regex *re, struct regex_room *room, const char *text, size_t len, struct regex_at *at,
               size_t *begin, size_t *end, struct err *err)
{
    while (at->from <= len) {
        int found = find(re, room, text, len, at->from, err);
        if (found <= 0)
            return found;
        const size_t *range = pcre2_get_ovector_pointer(room->match);
        *begin = range[0], *end = range[1];
        if (*begin != *end || !at->matched || at->last_end != *end) {
            at->from = at->last_end = *end;
            at->matched = true;
            return 1;
        }
        /* An empty match where the last one ended: one character further. */
        at->from = character_from(text, len, at->from + 1);
    }
    return 0;
}
