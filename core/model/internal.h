/*
 * Inside core/model only: how a model is put together.
 *
 *     source_find -> config_from_json | config_from_gguf -> weights_plan -> tokens_open_* -> weights_load
 *
 * Every step fills more of one struct model; model_free releases what is there.
 */
#ifndef STRATA_MODEL_INTERNAL_H
#define STRATA_MODEL_INTERNAL_H

#include "core/base/json.h"
#include "core/formats/gguf.h"
#include "core/formats/tensor.h"
#include "core/model/arch.h"
#include "core/model/model.h"

#include <stdbool.h>
#include <stddef.h>

/* Sizes beyond these are no model that exists; they keep products of two far below SIZE_MAX. */
enum {
    MAX_LAYERS = 1024,
    MAX_WIDTH = 1 << 16, /* d_model, d_head, heads */
    MAX_MLP = 1 << 20,
    MAX_VOCAB = 1 << 24,
    MAX_CONTEXT = 1 << 26
};

/* How the rows of a widened tensor come from those of the file. */
struct row_order {
    enum { ROWS_AS_THEY_ARE, ROWS_PAIRED, ROWS_GROUPED } kind;
    size_t groups;          /* PAIRED: heads, each from paired to half-split order; GROUPED: key/value heads */
    size_t queries, d_head; /* GROUPED: query heads of each; to all of q, all of k, all of v */
};

/* One tensor, or one expert's part of it, to widen; dests[first_dest..] are the pointers to set. */
struct load {
    const struct tensor *tensor;
    size_t first, n; /* elements of the tensor */
    size_t rows;     /* that they make, for row orders and tasks */
    struct row_order order;
    float plus; /* added to each (Gemma's gains) */
    /* Tensors of one head each that make one weight stand together: the first, and those right after it. */
    enum { LOAD_ALONE, LOAD_FIRST, LOAD_NEXT } place;
    size_t number; /* in the order of planning */
    size_t layer;  /* that it is part of; NO_LAYER: of none */
    size_t first_dest, n_dests;
};
/* *to = the load's float32 data + offset floats */
struct load_dest {
    const float **to;
    size_t offset;
};
enum { STREAM_SLOTS = 2 };
static const size_t NO_LAYER = SIZE_MAX;

/* Streamed weights: loads are in the order of their layers, those of none first. */
struct stream {
    struct pool *pool;
    size_t *first;              /* [n_layers + 1] load of each layer */
    char *slots[STREAM_SLOTS];  /* room for any layer, in the arena */
    size_t holds[STREAM_SLOTS]; /* layer, or NO_LAYER */
    size_t used[STREAM_SLOTS];  /* when, counted in uses */
    size_t uses;
};

struct model_storage {
    const struct arch *arch;
    struct gguf *gguf;             /* of a GGUF file; owns its tensors */
    struct tensor_set shards;      /* of safetensors */
    uint64_t biased, maybe_biased; /* roles that must, and that may, have a bias */
    double alibi_most;             /* ALiBi's slopes go down to 2^-alibi_most */
    size_t local_rope;             /* of layers that slide, where the family has other angles for them */
    bool scale_by_layer;           /* attention scores are divided by the layer's number + 1 */
    size_t layer_groups;           /* that layers share weights in; 0: each has its own */
    struct load *loads;
    size_t n_loads, loads_capacity;
    struct load_dest *dests;
    size_t n_dests, dests_capacity;
    struct mlp_weights *experts; /* of all layers, [n_layers * n_experts] */
    void *arena;                 /* widened weights, an anonymous mapping */
    size_t arena_bytes;
    struct stream stream; /* first NULL: every layer is in memory */
};

/* GGUF: divisors of the rotary frequencies, one per pair. */
#define GGUF_ROPE_DIVISORS "rope_freqs.weight"
/* longrope's */
#define GGUF_ROPE_SHORT "rope_factors_short.weight"
#define GGUF_ROPE_LONG "rope_factors_long.weight"

const struct tensor_set *model_tensors(const struct model *m);

/* --- source.c: where files are --- */

struct source {
    bool folder; /* of a Hugging Face model, or the embedded one; else `path` is a file */
    bool embedded;
    char *path; /* owned; as found */
};

int source_find(struct source *source, const char *where, struct err *err);
void source_release(struct source *source);
/* Files of a folder source. False only where there is no such file: what else is wrong with it, source_open tells. */
bool source_has(const struct source *source, const char *name);
int source_open(const struct source *source, const char *name, struct file_map *map, struct err *err);
/* The same for settings in JSON, which are refused beyond 16 MiB: parsing takes twenty times as much memory. */
int source_open_settings(const struct source *source, const char *name, struct file_map *map, struct err *err);

/* --- config*.c, rope.c: m->config, m->layers but for weights, m->ropes, storage->arch, biased --- */

struct rope_scaling {
    double theta;
    const char *type; /* "none", "linear", "llama3", "yarn", "longrope" */
    enum { ROPE_PLAIN, ROPE_LLAMA3, ROPE_YARN, ROPE_DIVISORS, ROPE_LONG } kind;
    double factor, scale;
    double low, high, old_context; /* llama3: factors; yarn: beta_slow, beta_fast */
    bool whole_ramp;               /* yarn: the ramp begins and ends at whole pairs */
    const float *divisors;         /* DIVISORS, LONG: [rotary_dims / 2] */
};

/* Before anything is read: what the row says. */
int config_begin(struct model *m, const struct arch *arch, struct err *err);
/* Once sizes are read, before properties: 1 / sqrt(d_head) where the family scales scores at all. */
void config_scale_scores(struct model *m);
/* After sizes and properties are read: checks them, fills what follows from them, allocates layers. */
int config_finish(struct model *m, const char *where, struct err *err);
/* Another set of rotary angles, m->ropes[m->n_ropes++]. */
int rope_add(struct model *m, const char *where, const struct rope_scaling *rope, struct err *err);
/* Two, longrope's: divisors [rotary_dims / 2] of prompts within rope->old_context, and of those beyond it. */
int rope_add_long(struct model *m, const char *where, struct rope_scaling *rope, const float *brief, const float *wide,
                  struct err *err);
/* What YaRN multiplies cosines and sines with; mscale is 1 in the paper. */
double rope_yarn_scale(double factor, double mscale);

int config_from_json(struct model *m, const json_t *config, const char *name, struct err *err);
/* Reads the shape of the embedding too, and the factors of rotary frequencies. */
int config_from_gguf(struct model *m, const struct gguf *g, struct err *err);
/* The metadata without arrays as a JSON object; NULL when out of memory. Caller frees. */
char *config_json_of_gguf(const struct gguf *g);

/* What the parts of the config readers share. */
struct config_reader {
    struct model *m;
    const struct arch *arch;
    const json_t *json; /* NULL: a GGUF's metadata */
    const char *name;   /* of the file */
    struct err *err;
};
/* The object and the key that one of the spellings "a|b.c" stands for; the first where none is there. */
struct config_place {
    const json_t *object;
    char key[TENSOR_NAME_MAX];
};
struct config_place config_find(const struct config_reader *r, const char *spellings);
int config_read_ropes(const struct config_reader *r);
int config_read_windows(const struct config_reader *r);
/* Errors that name the key. */
int config_not_supported(const struct config_reader *r, const char *key);
int config_wrong_number(const struct config_reader *r, const char *key, double x);
/* *out = x, which must be a whole number in [0, most]. */
int config_take_size(const struct config_reader *r, const char *key, double x, double most, size_t *out);
/* A property has the value that `key` says; sizes must be known, and layers for what is said of single ones. */
int config_set_number(const struct config_reader *r, enum property property, const char *key, double x);
int config_set_flag(const struct config_reader *r, enum property property, const char *key, bool is);
/* All layers but every period-th one slide. */
void config_slide_by_period(struct model *m, size_t period, size_t window);
/* Rotary angles of layers that slide and of those that do not, where the family has others or none. */
void config_ropes_of_windows(struct model *m);

/* --- tokens.c: m->tokenizer, which stays NULL where the files have none, and its hash --- */

int tokens_open_gguf(struct model *m, const struct gguf *g, struct err *err);
int tokens_open_folder(struct model *m, const struct source *source, const json_t *config, struct err *err);

/* --- weights_plan.c, weights_load.c --- */

/* Finds every tensor, checks its shape, fills the layers' sizes, and refuses tensors that nothing reads. */
int weights_plan(struct model *m, struct err *err);
/* Widens what is planned and sets the pointers; meanwhile the pool also hashes the files into m->sha256. */
int weights_load(struct model *m, enum weight_place place, struct pool *pool, struct err *err);

#endif
