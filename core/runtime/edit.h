/*
 * Edits: changes to a site while the model runs, as data.
 *
 *     SITE[@POSITIONS[<-KEYS]][#UNITS] OP [VALUE]
 *     blocks.4.attn.hook_z@last#3,7 zero
 *     blocks.0-5.hook_mlp_out@subject scale 0
 *     blocks.10-18.attn.hook_attn_scores@last<-subject block
 *     resid_post:7@subject-last add direction.npy
 *     hook_embed@subject add noise:0.4
 *     resid_post:7@subject-last patch from b
 *     mlp_out:8-29@subject-last freeze
 *
 * SITE: what site_span_parse takes: a full name, a bridge name, a short form
 * (`z:3`, `mlp_out:0-5`), a name with a layer range or `*`; or one head `L4H3`
 * (of hook_z), one neuron `L4N120` (of mlp.hook_post). POSITIONS (default all):
 * last, all, subject, subject-first, subject-last, non-subject, numbers and
 * ranges from 0 (`0,3-5`). On hook_attn_scores and hook_pattern POSITIONS are
 * queries, KEYS (default all) what they look at. UNITS: heads where the site
 * has heads (KV heads for k and v), neurons on mlp sites, as numbers and
 * ranges; default all.
 *
 *     set V, add V     V: a number; FILE.npy or FILE.f32, a vector as long as a row of the site (or as its chosen
 *                      units), or one for each layer of the span; noise:SIGMA[:SEED], Gaussian
 *     scale NUMBER, zero
 *     mean             what the site holds on average over a data set, at the same POSITIONS (probes/site_means.h)
 *     patch [SITE][@POSITIONS] [from RUN]    what another run has: at another site (`attn_out:3`; `:3` for the same
 *                      site in layer 3), at other positions (as many, or one for all); RUN: a name of the scope, or
 *                      `base`, the run of this prompt without these edits. Each part defaults to the edit's own.
 *     freeze           what the base run has there: severs the paths through it
 *     block, uniform   on hook_attn_scores only
 *
 * `block` removes edges before the softmax, so the rest renormalises; a query left without any edge gets a pattern of
 * zeros (as TransformerLens's NaN -> 0). Edges that the causal mask or the window hides stay hidden whatever an edit
 * says. `uniform` makes the chosen edges' scores equal (0), which over all keys flattens attention: every visible key
 * gets the same weight. Edits of one site apply in the order given, before any read of that site.
 *
 *     struct edit_list edits = { 0 };
 *     if (edit_parse(&edits, "z:4@last#3 zero", &m->config, &err)) ...
 *     edit_list_release(&edits);
 */
#ifndef STRATA_RUNTIME_EDIT_H
#define STRATA_RUNTIME_EDIT_H

#include "core/base/json.h"
#include "core/base/ranges.h"
#include "core/runtime/sites.h"

#include <stdint.h>

#define POSITION_KINDS(X)                                                                                              \
    X(ALL, "all")                                                                                                      \
    X(LAST, "last")                                                                                                    \
    X(SUBJECT, "subject")                                                                                              \
    X(SUBJECT_FIRST, "subject-first")                                                                                  \
    X(SUBJECT_LAST, "subject-last")                                                                                    \
    X(NON_SUBJECT, "non-subject")                                                                                      \
    X(NUMBERS, "numbers")
enum position_kind_selector {
#define X(id, text) POSITIONS_##id,
    POSITION_KINDS(X)
#undef X
};

struct positions {
    enum position_kind_selector kind;
    struct range *ranges; /* NUMBERS only; owned */
    size_t n_ranges;
};

#define EDIT_OPS(X)                                                                                                    \
    X(SET, "set", 1)                                                                                                   \
    X(ADD, "add", 1)                                                                                                   \
    X(SCALE, "scale", 1)                                                                                               \
    X(ZERO, "zero", 0)                                                                                                 \
    X(BLOCK, "block", 0)                                                                                               \
    X(UNIFORM, "uniform", 0)
enum edit_op {
#define X(id, text, takes_value) EDIT_##id,
    EDIT_OPS(X)
#undef X
};

/* Where set and add take their value from. MEAN: not known yet, site_means_fill makes it a VECTOR; cannot run before.
 */
enum edit_source { EDIT_FROM_NUMBER, EDIT_FROM_VECTOR, EDIT_FROM_NOISE, EDIT_FROM_RUN, EDIT_FROM_MEAN };
#define EDIT_OWN_RUN SIZE_MAX
#define EDIT_SAME_LAYER SIZE_MAX

struct edit {
    enum site site;
    size_t first_layer, last_layer; /* both included; 0, 0 for sites outside blocks */
    struct positions at, keys;      /* keys: EDGES sites only */
    struct range *units;            /* heads or neurons, sorted and disjoint; owned; none = all */
    size_t n_units;
    enum edit_op op;
    enum edit_source source;
    double value;  /* NUMBER; NOISE: its standard deviation */
    uint64_t seed; /* NOISE */
    float *vector; /* VECTOR: [n_vectors, row size], owned; a row for each layer of the span, or one for all */
    size_t n_vectors;
    size_t run;          /* RUN: number of the run, or EDIT_OWN_RUN */
    enum site from_site; /* RUN */
    size_t from_layer;   /* RUN: or EDIT_SAME_LAYER */
    bool from_same;      /* RUN: each token takes from the same position; else from_at */
    struct positions from_at;
    char *text; /* owned; as written, for messages and provenance; may be NULL in lists made by a program */
};

struct edit_list {
    struct edit *edits;
    size_t n, capacity;
};

/* What edits may name beside the model's sites; all borrowed. */
struct edit_scope {
    uint64_t seed;           /* of noise that gives none */
    const char *const *runs; /* [n_runs] names after `from`; the run of that number */
    size_t n_runs;
    size_t default_run; /* of a patch without `from`: a number, or EDIT_OWN_RUN */
};

/*
 * Appends. An expression that names nothing, is out of range or is not editable is an error that says so. scope NULL:
 * seed 1, no runs but `base`.
 */
int edit_parse_in(struct edit_list *list, const char *text, const struct model_config *config,
                  const struct edit_scope *scope, struct err *err);
int edit_parse(struct edit_list *list, const char *text, const struct model_config *config, struct err *err);
/*
 * The same from JSON: an array whose items are such strings or objects
 * {"site": "...", "at": "last", "keys": "subject", "units": [3, 7], "op": "set", "value": 0}.
 * at, keys and units are strings as above, numbers, or arrays of numbers; value is a number, a string as above, or an
 * array of numbers, a vector. A patch has "from": "RUN", or
 * {"prompt": "RUN", "site": "attn_out", "layer": 3, "at": "last"}, each of them optional. Unknown keys are errors.
 */
int edit_parse_json_in(struct edit_list *list, const json_t *array, const char *where,
                       const struct model_config *config, const struct edit_scope *scope, struct err *err);
int edit_parse_json(struct edit_list *list, const json_t *array, const char *where, const struct model_config *config,
                    struct err *err);
void edit_list_release(struct edit_list *list);

/* Adds the sites that patches and freezes take values from; returns whether there are any. */
bool edit_list_sources(const struct edit_list *list, struct site_set *sites);

/* "last", "0,3-5", ...; what --positions and @ take. Caller releases. */
int positions_parse(const char *text, size_t len, struct positions *out, struct err *err);
void positions_release(struct positions *p);
/*
 * Marks the chosen tokens of one prompt in mask[n_tokens] (1 chosen, 0 not). `last` is the token that is read: in a
 * masked prompt the mask. Subject selectors fail where the prompt has no subject. A position beyond the prompt fails,
 * and so does non-subject where the subject is the whole prompt. *n_chosen may be NULL.
 */
struct prompt; /* runtime.h */
int positions_resolve(const struct positions *p, const struct prompt *prompt, unsigned char *mask, size_t *n_chosen,
                      struct err *err);

#endif
