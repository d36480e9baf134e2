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

/* One tensor to widen, and the pointers to set: dest[i] = its float32 data + offset[i] floats. */
struct load {
    const struct tensor *tensor;
    const float **dest[3];
    size_t offset[3];
    size_t pair_heads; /* heads whose rows go from paired to half-split order; 0: as they are */
    size_t layer;      /* that it is part of; NO_LAYER: of none */
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
    unsigned biased, maybe_biased; /* roles that must, and that may, have a bias */
    struct load *loads;
    size_t n_loads, loads_capacity;
    void *arena; /* widened weights, an anonymous mapping */
    size_t arena_bytes;
    struct stream stream; /* first NULL: every layer is in memory */
};

/* GGUF: divisors of the rotary frequencies, one per pair. */
#define GGUF_ROPE_DIVISORS "rope_freqs.weight"

const struct tensor_set *model_tensors(const struct model *m);

/* --- source.c: where files are --- */

struct source {
    bool folder; /* of a Hugging Face model, or the embedded one; else `path` is a file */
    bool embedded;
    char *path; /* owned; as found */
};

int source_find(struct source *source, const char *where, struct err *err);
void source_release(struct source *source);
/* Files of a folder source. */
bool source_has(const struct source *source, const char *name);
int source_open(const struct source *source, const char *name, struct file_map *map, struct err *err);
/* The same for settings in JSON, which are refused beyond 16 MiB: parsing takes twenty times as much memory. */
int source_open_settings(const struct source *source, const char *name, struct file_map *map, struct err *err);

/* --- config*.c: m->config, m->layers (windows), m->ropes, storage->arch, biased --- */

struct rope_scaling {
    double theta;
    const char *type; /* "none", "linear", "llama3" */
    double factor;
    double low, high, old_context; /* llama3 */
    const float *divisors;         /* [d_head / 2] or NULL: as GGUF gives llama3's; then the four above do not count */
};

int config_from_json(struct model *m, const json_t *config, const char *name, struct err *err);
/* Reads the shape of the embedding too, and rope_freqs.weight. */
int config_from_gguf(struct model *m, const struct gguf *g, struct err *err);
/* After sizes and rope_theta are read: checks heads, fills what follows from them, allocates layers. */
int config_finish(struct model *m, const char *where, const struct rope_scaling *rope, struct err *err);
/* The metadata without arrays as a JSON object; NULL when out of memory. Caller frees. */
char *config_json_of_gguf(const struct gguf *g);

/* --- tokens.c: m->tokenizer, which stays NULL where the files have none, and its hash --- */

int tokens_open_gguf(struct model *m, const struct gguf *g, struct err *err);
int tokens_open_folder(struct model *m, const struct source *source, const json_t *config, struct err *err);

/* --- weights_plan.c, weights_load.c --- */

/* Finds every tensor, checks its shape, fills the layers' sizes, and refuses tensors that nothing reads. */
int weights_plan(struct model *m, struct err *err);
/* Widens what is planned and sets the pointers; meanwhile the pool also hashes the files into m->sha256. */
int weights_load(struct model *m, enum weight_place place, struct pool *pool, struct err *err);

#endif
