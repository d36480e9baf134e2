/*
 * The three stages of recalling a fact (Geva et al. 2023): the subject's last
 * token gathers what belongs to the subject (enrichment), the last token learns
 * what is asked (propagation), then takes the answer from the subject
 * (extraction). One place that runs the probes of each stage over facts, keeps
 * a curve over depth per fact and measure, and judges each stage by one number
 * and its control.
 *
 *     struct stages s;
 *     stages_init(&s, rt);
 *     const struct stages_input in = { .prompts = prompts, .answers = answers, .n_facts = n, .window = 5, .seed = 1 };
 *     int rc = stages_add(&s, rt, &in, NULL, &err);             // group by group
 *     struct stages_summary all;
 *     rc = rc ? rc : stages_summarise(&all, &s, NULL, s.n_facts, subjects, 1, &err);
 *     if (all.stage[STAGE_EXTRACTION].finding == STAGE_FOUND) ...
 *     stages_summary_release(&all);
 *     stages_release(&s);
 *
 * Facts are those that the model knows: the caller chooses them. Norm
 * convention `lens` throughout, but for what heads write (`attribution`).
 * Attention is blocked with token 0 spared, which draws attention whatever it
 * is; a fact whose subject is token 0 alone has no number there (NaN).
 */
#ifndef STRATA_PROBES_STAGES_H
#define STRATA_PROBES_STAGES_H

#include "core/base/progress.h"
#include "core/runtime/runtime.h"
#include "probes/attributes.h"

/* Points of a curve: lens states (n_layers + 1), layers, or windows below the layer that enrichment is measured at. */
enum stages_points { STAGES_STATES, STAGES_LAYERS, STAGES_WINDOWS };

/* id, name, points, unit, what */
#define STAGES_CURVES(X)                                                                                               \
    X(RECALL, "recall", STATES, "%", "attributes of the subject among the top 500 tokens at its last token")           \
    X(RECALL_CONTROL, "recall_control", STATES, "%", "the same, attributes of a random other subject")                 \
    X(RECALL_GAIN, "recall_gain", STATES, "points", "recall less its control")                                         \
    X(RATE, "rate", STATES, "%", "attributes rate: share of the first 50 telling tokens that are attributes")          \
    X(RATE_CONTROL, "rate_control", STATES, "%", "the same, attributes of a random other subject")                     \
    X(SUBJECT_RANK, "answer_rank_at_subject", STATES, "log10", "rank of the answer at the subject's last token")       \
    X(WITHOUT_ATTENTION, "recall_without_attention", WINDOWS, "points",                                                \
      "change of recall with attention flattened in a window from this layer on")                                      \
    X(WITHOUT_FFN, "recall_without_ffn", WINDOWS, "points",                                                            \
      "change of recall with FFN neurons off in a window from this layer on")                                          \
    X(SUBJECT, "blocked_subject", LAYERS, "%", "change of p(answer), last token blind to the subject")                 \
    X(REST, "blocked_rest", LAYERS, "%", "change of p(answer), last token blind to the rest of the prompt")            \
    X(LAST, "blocked_last", LAYERS, "%", "change of p(answer), last token blind to itself")                            \
    X(RANDOM, "blocked_random", LAYERS, "%",                                                                           \
      "change of p(answer), last token blind to as many random tokens of the rest as the subject has")                 \
    X(REST_LESS_SUBJECT, "rest_less_subject", LAYERS, "points", "blocked_rest less blocked_subject")                   \
    X(SUBJECT_LESS_RANDOM, "subject_less_random", LAYERS, "points", "blocked_subject less blocked_random")             \
    X(EVENT_ATTENTION, "extraction_attention", LAYERS, "%", "facts whose answer is on top of what attention writes")   \
    X(EVENT_FFN, "extraction_ffn", LAYERS, "%", "facts whose answer is on top of what the FFN writes")
enum stages_curve {
#define X(id, name, points, unit, what) STAGES_##id,
    STAGES_CURVES(X)
#undef X
        STAGES_N_CURVES
};
const char *stages_curve_name(enum stages_curve curve);
const char *stages_curve_unit(enum stages_curve curve);
const char *stages_curve_what(enum stages_curve curve);
enum stages_points stages_curve_points(enum stages_curve curve);

/*
 * Random key sets of a fact: the most, of which a single fact uses all; so many of each of many facts, whose verdict is
 * of their mean; and the fewest that can be a control. Random subjects of a single fact (the least p of n draws is
 * 1 / (1 + n)), and those of them whose extraction events are counted.
 */
enum {
    STAGES_KEY_DRAWS = 19,
    STAGES_FEW_KEY_DRAWS = 5,
    STAGES_LEAST_KEY_DRAWS = 5,
    STAGES_SUBJECT_DRAWS = 19,
    STAGES_EVENT_DRAWS = 5
};

struct stages_input {
    const struct prompt *prompts; /* [n_facts] with subjects */
    const int32_t *answers;       /* [n_facts] */
    size_t n_facts;
    size_t window; /* layers of a knockout (probes/knockout.h) */
    /*
     * Attributes of subjects, or NULL: then the curves of recall and rate are NaN. Per fact: number of its set and of
     * the control's, SIZE_MAX for none.
     */
    const struct attribute_sets *sets;
    const size_t *own, *control;
    size_t key_draws; /* distinct random key sets a fact, at most STAGES_KEY_DRAWS; 0: STAGES_FEW_KEY_DRAWS */
    uint64_t seed;
};

struct stages {
    size_t n_facts, n_layers, n_heads;        /* heads of all layers */
    size_t measured, n_windows, window_below; /* of WITHOUT_*: windows below this layer, and how many layers each */
    double *curves[STAGES_N_CURVES];          /* [n_facts, points] NaN where a fact has no such number */
    /* [n_facts, STAGES_KEY_DRAWS] the deepest change of each random key set, in percent; NaN after the last one. */
    double *random_deepest;
    double *head_logit, *head_subject; /* [n_facts, n_heads] share of the logit; attention on the subject */
    int32_t *answers;                  /* [n_facts] */
    int32_t *tops;                     /* [n_facts, 2 (attention, FFN), n_layers] top token of what is written */
    double *base_prob;                 /* [n_facts] */
    int32_t *base_rank;
    size_t n_spared; /* facts whose subject has token 0, which was not blocked */
    size_t row_layers;
    size_t capacity;
};

void stages_init(struct stages *s, struct runtime *rt);
/*
 * Appends a group, at most about runtime_batch_rows rows. Draws depend on a fact's number in s, not on its group.
 * progress counts variants of one probe after another: good for interruption alone, after which s is as before. A group
 * is one piece of its journal.
 */
int stages_add(struct stages *s, struct runtime *rt, const struct stages_input *in, struct progress *progress,
               struct err *err);
void stages_release(struct stages *s); /* also of a zeroed struct */

static inline size_t stages_n_points(const struct stages *s, enum stages_curve curve)
{
    enum stages_points points = stages_curve_points(curve);
    return points == STAGES_STATES ? s->n_layers + 1 : points == STAGES_LAYERS ? s->n_layers : s->n_windows;
}

/*
 * The control of a single fact: the same prompt with random words for its subject, the answer as it was. Ranks of the
 * answer at the subject's last token; whether a sublayer at the last token has it on top anywhere.
 */
struct stages_subjects {
    size_t n_draws, n_states;          /* those that enrichment is looked for in */
    double *rank;                      /* [n_draws, n_states] */
    double best[STAGES_SUBJECT_DRAWS]; /* over the states */
    size_t n_events;                   /* draws that have an event[], the first ones */
    bool event[2][STAGES_EVENT_DRAWS]; /* attention, FFN */
};
int stages_random_subjects(struct stages_subjects *out, struct runtime *rt, const struct prompt *prompt, int32_t answer,
                           uint64_t seed, struct err *err);
void stages_subjects_release(struct stages_subjects *r); /* also of a zeroed struct */

/* --- verdicts --- */

enum { STAGE_ENRICHMENT, STAGE_PROPAGATION, STAGE_EXTRACTION, N_STAGES };
enum stage_finding { STAGE_NOT_MEASURED, STAGE_NOT_FOUND, STAGE_FOUND };
const char *stage_name(int stage);
const char *stage_finding_name(enum stage_finding finding); /* "found", "not found", "not measured" */

/*
 * Least sizes of what counts as found. One fact: the change of p(answer), in percent, by its deepest window; the level
 * of the test against random subjects; and how many times the control: the rank that the best random subject leaves the
 * answer at, the change of log p(answer) that blocking the control makes, in the control's own deepest window. Many:
 * means over facts, whose 95 % bands must also exclude 0.
 */
enum { STAGES_ONE_DROP = 20, STAGES_ONE_RATIO = 2, STAGES_MEAN_DROP = 10, STAGES_MEAN_GAIN = 5 };
#define STAGES_LEVEL 0.05

struct stages_estimate {
    double mean, low, high; /* 95 % band over subjects; NaN for one fact */
};

/*
 * What carries a verdict. Enrichment, up to the layer that it is measured at (later the subject's last token turns to
 * the token after it): of many facts recall and its control after the layer of the largest gain; of one the answer's
 * best rank and the median of random subjects'. Propagation: the rest blocked around its deepest layer,
 * control the subject blocked there (one fact: in the deepest window up to there), `late` the rest blocked where the
 * subject counts most. Extraction: the subject blocked around its deepest layer, control random tokens blocked there
 * (one fact: each set in its own deepest window; mean, least and greatest of the sets).
 */
struct stage {
    enum stage_finding finding;
    const char *reason; /* why it is not found or not measured; "" */
    size_t n;           /* facts */
    size_t layer;       /* the state's or the window's; SIZE_MAX: what enters the first block */
    struct stages_estimate number, control, difference;
    double late;      /* PROPAGATION */
    double p;         /* ENRICHMENT, EXTRACTION of one fact: the share of controls as good, itself among them */
    size_t n_control; /* the same: how many controls */
};

struct stages_band {
    size_t n, n_subjects;      /* facts that have the curve */
    double *mean, *low, *high; /* [points]; NaN where n is 0 */
};

struct stages_summary {
    size_t n_facts, n_subjects;
    struct stages_band curves[STAGES_N_CURVES];
    /* Share of facts, in percent, with an event in any layer; by chance, with the answers of other facts. */
    struct stages_estimate events[2];
    double events_chance[2];
    struct stage stage[N_STAGES];
};

/* facts: [n] numbers of facts, NULL: the first n. subjects: [s->n_facts] labels for the bootstrap. Of many facts. */
int stages_summarise(struct stages_summary *out, const struct stages *s, const size_t *facts, size_t n,
                     const char *const *subjects, uint64_t seed, struct err *err);
void stages_summary_release(struct stages_summary *s); /* also of a zeroed struct */
/* The verdicts of fact 0 alone; random may be NULL (enrichment is not measured then). */
void stages_judge_one(const struct stages *s, const struct stages_subjects *random, struct stage out[N_STAGES]);

/* States that enrichment is looked for in: from what enters the first block to what leaves `measured`. */
static inline size_t stages_enrichment_states(const struct stages *s)
{
    return s->measured + 2 < s->n_layers + 1 ? s->measured + 2 : s->n_layers + 1;
}
/* The point of the least number of a curve, NaN left out; SIZE_MAX where there is none. */
size_t stages_deepest(const double *curve, size_t n);

#endif
