/*
 * The tokenizer's pipeline, as in Hugging Face's `tokenizers`: added tokens are cut out of the text, what is left is
 * normalized, cut into pieces by the pre-tokenizers, each piece turned into ids by the model, and special tokens put
 * around by the post-processor. One file per stage; a file's component is found by its type name in the stage's table
 * (components.h). Internal to core/tokenizer.
 */
#ifndef STRATA_TOKENIZER_INTERNAL_H
#define STRATA_TOKENIZER_INTERNAL_H

#include "core/base/strmap.h"
#include "core/tokenizer/regex.h"
#include "core/tokenizer/tokenizer.h"

/* A token's text in the file (byte-level: one letter per byte) and the bytes that it stands for. */
struct token_text {
    const char *text, *bytes; /* NULL: an id that no token has */
    uint32_t len, n_bytes;
    bool added, special;
};

/* Ids may leave gaps, so that the table is sized by the largest; this bounds what a single huge id can cost. */
enum { VOCAB_MOST_GAPS = 1 << 20 };

struct vocab {
    struct token_text *token; /* [n] */
    size_t n, n_used;         /* 1 + the largest id; ids in use */
    size_t capacity, longest; /* of token; bytes of the longest text */
    struct strmap by_text;    /* the model's tokens, as the file spells them */
    struct strmap by_content; /* added tokens */
    char *texts, *bytes;      /* what by_text and token point into */
    size_t texts_len;
};

/* `texts` (one block, taken over also on failure) holds the n entries' text; ids and texts must be unique. */
struct vocab_entry {
    const char *text;
    uint32_t len;
    int32_t id;
};
int vocab_init(struct vocab *v, char *texts, size_t texts_len, const struct vocab_entry *entries, size_t n,
               const char *where, struct err *err);
void vocab_release(struct vocab *v);
/* Grows the table to hold id. */
int vocab_reserve(struct vocab *v, int32_t id, struct err *err);
/*
 * How a token's text in the file spells its bytes: as it is; a letter per byte; U+2581 for a space, and "<0x0A>" for a
 * byte. What
 * is spelt otherwise stands for itself, as it does to the decoders of `tokenizers`.
 */
#define METASPACE "\u2581"
enum spelling { SPELT_PLAIN, SPELT_BYTE_LEVEL, SPELT_METASPACE };
/* Fills in the tokens' bytes. */
int vocab_spell(struct vocab *v, enum spelling spelling, struct err *err);
/* Id of a token of the model whose bytes are these, or -1. */
int32_t vocab_find_bytes(const struct vocab *v, enum spelling spelling, const char *bytes, size_t len);
/* "<0x0A>" */
enum { BYTE_TOKEN_LEN = 6 };
void byte_token(unsigned char byte, char out[BYTE_TOKEN_LEN + 1]);

/* -1: none. By the spelling in the file. */
int32_t vocab_find(const struct vocab *v, const char *text, size_t len);

/* Byte-level letters: GPT-2's map between bytes and printable characters. */
size_t byte_letter(unsigned char byte, char out[4]);
/* Bytes behind n bytes of letters to out (at most n); SIZE_MAX when some character is no letter. */
size_t bytes_of_letters(const char *text, size_t n, char *out);

/* Added tokens of one kind (matched on the raw or on the normalized text), sorted by content. */
struct added_token {
    char *content;       /* owned */
    char *own_pattern;   /* owned; NULL: the content */
    const char *pattern; /* what is looked for: normalized where the token is */
    uint32_t len, pattern_len;
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
};
struct added_set {
    struct added_token *token;
    size_t n, capacity;
    uint32_t first[257]; /* tokens that start with byte b: first[b] .. first[b + 1] */
};
/* Longer contents are refused: matching is at worst text times content. */
enum { ADDED_LONGEST = 4096 };

/* One stretch of the buffer: text still to be cut (id -1) or a finished token. */
struct piece {
    uint32_t begin, end;
    int32_t id;
};
struct pieces {
    struct piece *item;
    size_t n, capacity;
};
/* A buffer of bytes with the bytes of the input that each stands for: origin to origin_end. */
struct buffer {
    char *bytes;
    uint32_t *origin, *origin_end;
    size_t n, most, bytes_capacity, origin_capacity, origin_end_capacity;
};
struct bpe_symbol;
struct bpe_candidate;
struct unigram_node;

/* All that one call of tokenizer_encode needs. */
struct work {
    const char *bytes;                   /* the input, or buffer[current] */
    const uint32_t *origin, *origin_end; /* NULL: the input itself */
    struct buffer buffer[2];
    size_t most; /* bytes of a buffer */
    int current;
    struct pieces now, next;
    struct regex_room *regex_room;
    struct bpe_symbol *symbols;
    struct bpe_candidate *heap;
    struct unigram_node *path;
    char *letters;
    size_t symbols_capacity, heap_capacity, heap_n, path_capacity, letters_capacity;
    struct tokens *out;
};
static inline uint32_t work_origin(const struct work *w, size_t at)
{
    return w->origin ? w->origin[at] : (uint32_t)at;
}
/* Where the input of bytes begin to end ends. */
static inline uint32_t work_origin_end(const struct work *w, size_t begin, size_t end)
{
    if (begin == end)
        return work_origin(w, begin);
    return w->origin_end ? w->origin_end[end - 1] : (uint32_t)end;
}
/* A hostile file's normalizers could multiply a text without end; real ones stay below 12. */
enum { GROWTH_MOST = 64 };
/* The text w->bytes as one piece. */
int work_start(struct work *w, size_t len, struct err *err);
/* The piece goes to w->next; an empty one without id is dropped. */
int work_add(struct work *w, size_t begin, size_t end, int32_t id, struct err *err);
void work_swap(struct work *w); /* next becomes now */
/*
 * Building the next buffer: start; bytes of a piece; close the piece (a slot for the origin of its end follows each);
 * use it, which swaps buffers and pieces.
 */
struct buffer *buffer_start(struct work *w);
/* n bytes that stand for the input from origin to origin_end: byte for byte as far as that goes. */
int buffer_add(struct buffer *b, const char *bytes, size_t n, uint32_t origin, uint32_t origin_end, struct err *err);
/* n bytes each of which stands for all of the input from origin to origin_end. */
int buffer_add_whole(struct buffer *b, const char *bytes, size_t n, uint32_t origin, uint32_t origin_end,
                     struct err *err);
/* Bytes begin to end of the present buffer, as they are. */
int buffer_copy(struct buffer *b, const struct work *w, size_t begin, size_t end, struct err *err);
int buffer_close_piece(struct buffer *b, struct work *w, size_t begin, uint32_t origin_end, int32_t id,
                       struct err *err);
void buffer_use(struct work *w);
void work_release(struct work *w);
int tokens_add(struct tokens *t, int32_t id, uint32_t begin, uint32_t end, struct err *err);

/* The pairs that merge: an open-addressing table, keyed by both ids. */
struct merge {
    uint32_t left, right, rank;
    int32_t id; /* -1: free */
};
struct bpe {
    struct merge *merge;
    size_t mask, n;
    uint64_t seed;
    bool byte_level;       /* symbols are bytes at first, else characters */
    int32_t byte_id[256];  /* tokens of bytes, by letter or, for characters without a token, "<0x0A>"; -1: none */
    int32_t ascii_id[128]; /* tokens of characters, where they are symbols; -1: none */
    int32_t unk;           /* -1: none */
    bool fuse_unk, ignore_merges, byte_fallback;
};
int bpe_init(struct bpe *bpe, const struct vocab *v, size_t n_merges, bool byte_level, struct err *err);
/* How many bytes have a token. */
int bpe_n_bytes(const struct bpe *bpe);
void bpe_release(struct bpe *bpe);
/* At most as many as bpe_init was told. */
void bpe_put_merge(struct bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t id);
/* rank rises from call to call; the same pair again takes the later rank, as in `tokenizers`. */
int bpe_add_merge(struct bpe *bpe, const struct vocab *v, const char *left, size_t left_len, const char *right,
                  size_t right_len, uint32_t rank, const char *where, struct err *err);
int bpe_encode(const struct bpe *bpe, const struct vocab *v, struct work *w, const struct piece *piece,
               struct err *err);

/* A character of a text being rewritten, which stands for the next (0), for the next and k more (-k) or was put in (1).
 */
struct rewritten {
    uint32_t cp;
    int32_t change;
};
struct rewriting {
    struct rewritten *item;
    size_t n, capacity;
};
int rewriting_add(struct rewriting *r, uint32_t cp, int32_t change, struct err *err);
/*
 * The present buffer's bytes begin to end as the characters of r, with origins as in `tokenizers`: a character that was
 * put in has those of the one before the place reached, others those of the character there.
 */
int buffer_rewrite(struct buffer *b, const struct work *w, size_t begin, size_t end, const struct rewriting *r,
                   struct err *err);

enum unicode_form { FORM_NFC, FORM_NFD, FORM_NFKC, FORM_NFKD };
/* A text's characters in a Unicode normal form (annex 15), of the Unicode version that `tokenizers` has. */
int unicode_normalize(enum unicode_form form, const char *text, size_t n, struct rewriting *out, struct err *err);

/* A precompiled_charsmap of SentencePiece: characters and what they become. */
struct charsmap;
int charsmap_open(struct charsmap **out, const char *data, size_t n, const char *where, struct err *err);
void charsmap_free(struct charsmap *map); /* NULL is fine */
/* Where the grapheme cluster at a place ends. */
size_t cluster_end(const char *text, size_t at, size_t n);
/* A text's characters in the form that the map gives them, cluster by cluster. */
int charsmap_normalize(const struct charsmap *map, const char *text, size_t n, struct rewriting *out, struct err *err);

enum normalizer_kind {
    NORMALIZER_NFC = FORM_NFC,
    NORMALIZER_NFD = FORM_NFD,
    NORMALIZER_NFKC = FORM_NFKC,
    NORMALIZER_NFKD = FORM_NFKD,
    NORMALIZER_LOWERCASE,
    NORMALIZER_CHARSMAP,
    NORMALIZER_STRIP_ACCENTS,
    NORMALIZER_BERT_CLEAN,   /* control characters left out, whitespace made spaces */
    NORMALIZER_BERT_CHINESE, /* spaces around Chinese characters */
    NORMALIZER_BERT_ACCENTS, /* nonspacing marks left out */
    NORMALIZER_NMT,
    NORMALIZER_STRIP,
    NORMALIZER_PREPEND,
    NORMALIZER_REPLACE
};
struct normalizer {
    enum normalizer_kind kind;
    struct regex *regex;       /* owned: REPLACE */
    char *content;             /* owned: PREPEND, REPLACE */
    struct charsmap *charsmap; /* owned: CHARSMAP */
    bool left, right;          /* STRIP */
};
/* What *normalizer owns is taken over also on failure. */
int normalizer_add(struct tokenizer *tok, const struct normalizer *normalizer, const char *where, struct err *err);
/* BertNormalizer. */
int normalizer_add_bert(struct tokenizer *tok, bool clean, bool chinese, bool accents, bool lowercase,
                        const char *where, struct err *err);
void normalizer_release(struct normalizer *normalizer);
enum { NORMALIZERS_MOST = 16, PRE_TOKENIZERS_MOST = 16, TEMPLATE_MOST = 64, DESCRIPTION_MAX = 256 };

enum pre_tokenizer_kind { PRE_BYTE_LEVEL, PRE_SPLIT, PRE_METASPACE };
/* What becomes of a match. */
enum split_behavior {
    SPLIT_ISOLATED,
    SPLIT_REMOVED,
    SPLIT_MERGED_WITH_PREVIOUS,
    SPLIT_MERGED_WITH_NEXT,
    SPLIT_CONTIGUOUS
};
/* U+2581 before every piece, before one at the start of the text, before none. */
enum prepend_scheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER };
struct pre_tokenizer {
    enum pre_tokenizer_kind kind;
    struct regex *regex;               /* owned: its matches; or */
    bool (*is_delimiter)(uint32_t cp); /* each such character; or, both NULL, no cutting by matches */
    enum split_behavior behavior;
    bool invert;                 /* PRE_SPLIT: what lies between matches is the match */
    bool sees_letters;           /* ByteLevel came before: letters for bytes */
    bool add_prefix_space;       /* PRE_BYTE_LEVEL */
    bool split;                  /* PRE_METASPACE: before every U+2581 */
    enum prepend_scheme prepend; /* PRE_METASPACE */
};

/* A vocabulary as a trie over bytes. */
struct trie_node {
    uint32_t children; /* index of the first; they lie together, by label */
    int32_t id;        /* -1: no token ends here */
    uint16_t n_children;
    unsigned char label;
};
struct trie {
    struct trie_node *node; /* the first is the root */
};
/* Of the model's tokens; before added ones come. */
int trie_init(struct trie *t, const struct vocab *v, struct err *err);
void trie_release(struct trie *t);
/* The child of a node by its label, or NULL. */
const struct trie_node *trie_child(const struct trie *t, const struct trie_node *node, unsigned char label);

/* Unigram: a vocabulary with log-probabilities. */
struct unigram {
    struct trie trie;
    double *score; /* by id */
    double unk_score;
    int32_t unk;          /* -1: none */
    int32_t byte_id[256]; /* "<0x0A>"; -1: none */
    bool byte_fallback;
};
/* scores has one for each id of the vocabulary; taken over also on failure. unk is -1 or an id. */
int unigram_init(struct unigram *u, const struct vocab *v, double *scores, int32_t unk, struct err *err);
void unigram_release(struct unigram *u);
int unigram_encode(const struct unigram *u, const struct vocab *v, struct work *w, const struct piece *piece,
                   struct err *err);

struct wordpiece {
    struct trie trie;
    const struct trie_node *continuing; /* the node of the prefix; NULL: no token has it */
    int32_t unk;
    size_t most_characters; /* of a word */
};
/* unk is an id. */
int wordpiece_init(struct wordpiece *wp, const struct vocab *v, const char *prefix, int32_t unk, size_t most_characters,
                   struct err *err);
void wordpiece_release(struct wordpiece *wp);
int wordpiece_encode(const struct wordpiece *wp, struct work *w, const struct piece *piece, struct err *err);

enum model { MODEL_BPE, MODEL_UNIGRAM, MODEL_WORDPIECE };

struct tokenizer {
    enum model model;
    enum spelling spelling;
    struct vocab vocab;
    struct bpe bpe;
    struct unigram unigram;
    struct wordpiece wordpiece;
    struct added_set raw_added, normalized_added;
    struct normalizer normalizers[NORMALIZERS_MOST];
    struct pre_tokenizer pre_tokenizers[PRE_TOKENIZERS_MOST];
    size_t n_normalizers, n_pre_tokenizers;
    bool byte_level;
    int32_t before[TEMPLATE_MOST], after[TEMPLATE_MOST]; /* what the post-processor puts around a text */
    size_t n_before, n_after;
    int32_t bos, eos;
    char description[DESCRIPTION_MAX];
};

struct tokenizer *tokenizer_new(void);
/* Fills in what follows from the rest: the tokens' bytes, the description. pre names the pre-tokenizers. */
int tokenizer_finish(struct tokenizer *tok, const char *pre, struct err *err);

/* token->content is taken over also on failure. Refuses a content or id that another added token has. */
int added_put(struct tokenizer *tok, struct added_token *token, const char *where, struct err *err);
int added_finish(struct tokenizer *tok, const char *where, struct err *err);
void added_release(struct added_set *set);
/* Cuts the added tokens out of every text piece. */
int added_split(const struct added_set *set, struct work *w, struct err *err);

int normalize(const struct tokenizer *tok, struct work *w, struct err *err);
int pre_tokenize(const struct tokenizer *tok, struct work *w, struct err *err);
/* What pre owns is taken over also on failure. */
int pre_add(struct tokenizer *tok, struct pre_tokenizer pre, const char *where, struct err *err);
int pre_add_split(struct tokenizer *tok, const char *pattern, bool literal, enum split_behavior behavior, bool invert,
                  const char *where, struct err *err);
int pre_add_class(struct tokenizer *tok, bool (*is_delimiter)(uint32_t cp), enum split_behavior behavior,
                  const char *where, struct err *err);
int pre_add_bert(struct tokenizer *tok, const char *where, struct err *err);
int pre_add_byte_level(struct tokenizer *tok, bool add_prefix_space, bool use_regex, const char *where,
                       struct err *err);

/* Character classes of Rust's standard and regex libraries, which `tokenizers` uses outside its regexes. */
bool char_is_space(uint32_t cp);   /* White_Space */
bool char_is_word(uint32_t cp);    /* \w: Alphabetic, M, Nd, Pc, Join_Control */
bool char_is_numeric(uint32_t cp); /* N */
/* M of Unicode 9, which the library's normalizers have. */
bool char_is_old_mark(uint32_t cp);
/* Those of Unicode 8, which its BERT components have. */
bool char_is_punctuation(uint32_t cp); /* P, and the symbols of ASCII */
bool char_is_control(uint32_t cp);     /* Cc, Cf, Co */
bool char_is_nonspacing(uint32_t cp);  /* Mn */
bool char_is_chinese(uint32_t cp);     /* BERT's blocks */
/* Simple lower case; of U+0130 alone, the full one has U+0307 after it. */
uint32_t char_lower(uint32_t cp);
/* Ranges of first and last, rising. */
bool char_in_ranges(uint32_t cp, const uint32_t (*ranges)[2], size_t n);

#endif
