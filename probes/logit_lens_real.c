/*
 * The streamed lens, for float and double. A task is a group of rows (about
 * 256 states, so that their GEMM runs near its peak) times a part of the
 * vocabulary; parts are more than one only where groups are too few to keep
 * all threads busy. Sums are kept for each of up to SEGMENTS segments of the
 * vocabulary and merged at the end, so that the number of threads and parts
 * changes no bit of them.
 *
 * Counting the tokens above the answer needs the answer's logit first, and the
 * very bits that the GEMM of its block gives: so each task computes the blocks
 * that hold its rows' answers first, keeps them, and then streams the rest.
 */
#include "core/base/mem.h"
#include "core/runtime/real.h"
#include "probes/logit_lens_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 512, GROUP_STATES = 256, SEGMENTS = 16 };

struct top {
    real logit;
    int32_t token;
};

/* What one worker needs for one task; carved from one allocation per worker. */
struct scratch {
    real *logits;    /* [states, BLOCK] */
    real *stash;     /* [group rows, states, BLOCK]: blocks with answers */
    real *weights;   /* [BLOCK] */
    real *answer;    /* [states] */
    size_t *stashed; /* [group rows] block numbers */
    size_t n_stashed;
};

struct job {
    struct runtime *rt;
    const struct lens_input *in;
    real *inputs; /* [rows, states, width] of the unembedding: the states' own memory where the width is the stream's */
    size_t d, width, n_vocab, n_blocks, group_rows, n_groups, n_parts, n_segments, k;
    struct lens_stats *stats; /* [segments, rows, states] */
    struct top *tops;         /* [segments, rows, states, k] */
    real *answer_logits;      /* [rows, states] */
    char *scratch;
    size_t scratch_bytes;
};

static bool above(real logit, int32_t token, const struct top *t)
{
    return logit > t->logit || (logit == t->logit && token < t->token);
}

static void top_insert(struct top *tops, size_t k, real logit, int32_t token)
{
    if (!k || !above(logit, token, &tops[k - 1]))
        return;
    size_t i = k - 1;
    for (; i && above(logit, token, &tops[i - 1]); i--)
        tops[i] = tops[i - 1];
    tops[i] = (struct top){ logit, token };
}

static size_t block_size(const struct job *j, size_t block)
{
    size_t left = j->n_vocab - block * BLOCK;
    return left < BLOCK ? left : BLOCK;
}

static size_t first_block(const struct job *j, size_t segment)
{
    return j->n_blocks * segment / j->n_segments;
}

/* States of n rows. */
static size_t states_of(const struct job *j, size_t n)
{
    return j->in->same_states ? j->in->n_states : n * j->in->n_states;
}

/* Where state l of row r is among those of its group. */
static size_t state_at(const struct job *j, size_t r, size_t l)
{
    return j->in->same_states ? l : r * j->in->n_states + l;
}

static void compute_block(const struct job *j, size_t first_row, size_t n_rows, size_t block, real *logits, int worker)
{
    const real *inputs = j->inputs + state_at(j, first_row, 0) * j->width;
    runtime_unembed(j->rt, inputs, states_of(j, n_rows), block * BLOCK, block_size(j, block), logits, worker);
}

static real *stashed_block(const struct scratch *s, size_t block, size_t states)
{
    for (size_t i = 0; i < s->n_stashed; i++)
        if (s->stashed[i] == block)
            return s->stash + i * states * BLOCK;
    return NULL;
}

/* Computes the blocks that hold answers and reads the answers' logits out of them. */
static void find_answers(const struct job *j, struct scratch *s, size_t first_row, size_t n_rows, size_t part,
                         int worker)
{
    size_t n_states = j->in->n_states, states = states_of(j, n_rows);
    s->n_stashed = 0;
    for (size_t r = 0; r < n_rows; r++) {
        int32_t answer = j->in->answers ? j->in->answers[first_row + r] : -1;
        real *out = s->answer + r * n_states;
        if (answer < 0) {
            for (size_t l = 0; l < n_states; l++)
                out[l] = (real)NAN;
        } else {
            size_t block = (size_t)answer / BLOCK, n = block_size(j, block);
            real *logits = stashed_block(s, block, states);
            if (!logits) {
                logits = s->stash + s->n_stashed * states * BLOCK;
                s->stashed[s->n_stashed++] = block;
                compute_block(j, first_row, n_rows, block, logits, worker);
            }
            for (size_t l = 0; l < n_states; l++)
                out[l] = logits[state_at(j, r, l) * n + (size_t)answer % BLOCK];
        }
        if (part == 0)
            memcpy(j->answer_logits + (first_row + r) * n_states, out, n_states * sizeof *out);
    }
}

static void consume(const struct job *j, struct scratch *s, const struct REAL_NAME(lens_kernels) * kernels,
                    size_t first_row, size_t n_rows, size_t segment, size_t block, const real *logits)
{
    size_t n_states = j->in->n_states, n = block_size(j, block);
    for (size_t r = 0; r < n_rows; r++) {
        size_t row = (segment * j->in->n_rows + first_row + r) * n_states;
        struct lens_stats *stats = j->stats + row;
        const real *reference = logits + state_at(j, r, n_states - 1) * n;
        /* The reference's maximum may rise: its weights, and so every cross sum, move with it. */
        double old = stats[n_states - 1].max, top = (double)kernels->max(reference, n);
        if (top > old) {
            double factor = old > -INFINITY ? exp(old - top) : 0;
            for (size_t l = 0; l < n_states; l++)
                stats[l].cross *= factor;
        }
        if (n_states > 1)
            kernels->weights(reference, n, top > old ? top : old, s->weights);
        for (size_t l = 0; l < n_states; l++) {
            const real *z = logits + state_at(j, r, l) * n;
            struct top *tops = j->tops + (row + l) * j->k;
            real z_top = kernels->max(z, n);
            kernels->add(&stats[l], z, n, z_top, s->answer[r * n_states + l], z == reference ? NULL : reference,
                         s->weights);
            if (j->k && z_top >= tops[j->k - 1].logit)
                for (size_t i = 0; i < n; i++)
                    if (z[i] >= tops[j->k - 1].logit)
                        top_insert(tops, j->k, z[i], (int32_t)(block * BLOCK + i));
        }
    }
}

static struct scratch carve_scratch(const struct job *j, int worker)
{
    size_t states = states_of(j, j->group_rows), answers = j->group_rows * j->in->n_states;
    real *base = (real *)(void *)(j->scratch + (size_t)worker * j->scratch_bytes);
    struct scratch s = { .logits = base };
    s.stash = s.logits + states * BLOCK;
    s.weights = s.stash + j->group_rows * states * BLOCK;
    s.answer = s.weights + BLOCK;
    /* Aligned: every size before it is a multiple of 8 bytes but `answer`, which is padded to even. */
    s.stashed = (size_t *)(void *)(s.answer + (answers + 1) / 2 * 2);
    return s;
}

static size_t scratch_size(const struct job *j)
{
    size_t states = states_of(j, j->group_rows), answers = j->group_rows * j->in->n_states;
    size_t reals = states * BLOCK * (1 + j->group_rows) + BLOCK + (answers + 1) / 2 * 2;
    return (reals * sizeof(real) + j->group_rows * sizeof(size_t) + 63) & ~(size_t)63;
}

static int group_task(void *arg, size_t index, int worker, struct err *err)
{
    (void)err;
    const struct job *j = arg;
    const struct REAL_NAME(lens_kernels) kernels = REAL_NAME(lens_kernels)();
    size_t part = index % j->n_parts, first_row = index / j->n_parts * j->group_rows;
    size_t n_rows = j->in->n_rows - first_row < j->group_rows ? j->in->n_rows - first_row : j->group_rows;
    struct scratch s = carve_scratch(j, worker);
    find_answers(j, &s, first_row, n_rows, part, worker);
    size_t segment = j->n_segments * part / j->n_parts, last_segment = j->n_segments * (part + 1) / j->n_parts;
    for (size_t block = first_block(j, segment); block < first_block(j, last_segment); block++) {
        while (block >= first_block(j, segment + 1))
            segment++;
        const real *logits = stashed_block(&s, block, states_of(j, n_rows));
        if (!logits) {
            compute_block(j, first_row, n_rows, block, s.logits, worker);
            logits = s.logits;
        }
        consume(j, &s, &kernels, first_row, n_rows, segment, block, logits);
    }
    return 0;
}

static void norm_task(void *arg, size_t row, int worker)
{
    const struct job *j = arg;
    size_t first = row * j->in->n_states;
    runtime_head_input(j->rt, (const real *)j->in->states + first * j->d, j->in->n_states, j->inputs + first * j->width,
                       worker);
}

/* Adds a row's segment into its first. */
static void merge_row(const struct job *j, size_t row, size_t segment)
{
    size_t n_states = j->in->n_states;
    struct lens_stats *to = j->stats + row * n_states, *from = j->stats + (segment * j->in->n_rows + row) * n_states;
    double a = to[n_states - 1].max, b = from[n_states - 1].max, m = a > b ? a : b;
    for (size_t l = 0; l < n_states; l++) {
        to[l].cross = to[l].cross * exp(a - m) + from[l].cross * exp(b - m);
        double top = to[l].max > from[l].max ? to[l].max : from[l].max;
        lens_stats_raise(&to[l], top, exp);
        lens_stats_raise(&from[l], top, exp);
        to[l].sum += from[l].sum;
        to[l].weighted += from[l].weighted;
        to[l].greater += from[l].greater;
        to[l].equal += from[l].equal;
        for (size_t i = 0; i < j->k; i++) {
            const struct top *t = &j->tops[((segment * j->in->n_rows + row) * n_states + l) * j->k + i];
            top_insert(&j->tops[(row * n_states + l) * j->k], j->k, t->logit, t->token);
        }
    }
}

static int report_row(const struct job *j, size_t row, struct lens_result *out, struct err *err)
{
    size_t n_states = j->in->n_states;
    const struct lens_stats *stats = j->stats + row * n_states, *final = &stats[n_states - 1];
    bool answered = j->in->answers && j->in->answers[row] >= 0;
    double final_lse = final->max + log(final->sum);
    for (size_t l = 0; l < n_states; l++) {
        size_t i = row * n_states + l;
        const struct lens_stats *s = &stats[l];
        double lse = s->max + log(s->sum);
        double kl = l + 1 == n_states ? 0 : s->cross / final->sum - final_lse + lse;
        if (!isfinite(lse) || !isfinite(kl))
            return err_set(err, ERR_NUMERIC, "logit lens: NaN or infinite logits at state %zu of row %zu", l, row);
        out->rank[i] = answered ? (int32_t)(1 + s->greater) : 0;
        out->ties[i] = answered ? (int32_t)(s->equal - 1) : 0;
        out->answer_logit[i] = (float)j->answer_logits[i];
        out->logprob[i] = (float)((double)j->answer_logits[i] - lse);
        out->entropy[i] = (float)(log(s->sum) - s->weighted / s->sum);
        out->kl_final[i] = (float)(kl > 0 ? kl : 0); /* rounding may leave -1e-8 */
        for (size_t t = 0; t < j->k; t++) {
            const struct top *top = &j->tops[i * j->k + t];
            out->top_token[i * j->k + t] = top->token;
            out->top_logprob[i * j->k + t] = (float)((double)top->logit - lse);
        }
    }
    return 0;
}

int REAL_NAME(lens_run)(struct runtime *rt, const struct lens_input *in, struct lens_result *out, struct err *err)
{
    const struct model_config *c = &runtime_model(rt)->config;
    size_t threads = (size_t)pool_threads(runtime_pool(rt));
    struct job j = { .rt = rt, .in = in, .d = c->d_model, .width = c->d_embed, .n_vocab = c->d_vocab };
    if (in->normed && j.width != j.d)
        return err_set(
            err, ERR_UNSUPPORTED,
            "states of the stream's width %zu cannot go to the unembedding as they are: it reads %zu numbers", j.d,
            j.width);
    j.k = in->top_k < c->d_vocab ? in->top_k : c->d_vocab;
    j.n_blocks = (j.n_vocab + BLOCK - 1) / BLOCK;
    j.group_rows = GROUP_STATES / in->n_states ? GROUP_STATES / in->n_states : 1;
    j.group_rows = j.group_rows < in->n_rows ? j.group_rows : in->n_rows;
    j.n_groups = (in->n_rows + j.group_rows - 1) / j.group_rows;
    j.n_segments = j.n_blocks < SEGMENTS ? j.n_blocks : SEGMENTS;
    j.n_parts = j.n_groups >= 2 * threads ? 1 : threads < j.n_segments ? threads : j.n_segments;
    size_t n = j.n_segments * in->n_rows * in->n_states;
    j.scratch_bytes = scratch_size(&j);
    j.stats = mem_array(n, sizeof *j.stats);
    j.tops = mem_array(n * j.k, sizeof *j.tops);
    j.answer_logits = mem_array(in->n_rows * in->n_states, sizeof *j.answer_logits);
    j.scratch = mem_aligned(threads, j.scratch_bytes);
    int rc = 0;
    bool own = j.width != j.d;
    j.inputs = own ? mem_array(states_of(&j, in->n_rows) * j.width, sizeof *j.inputs) : in->states;
    if (!j.inputs || !j.stats || !j.tops || !j.answer_logits || !j.scratch)
        rc = err_nomem(err, "the logit lens");
    if (!rc) {
        for (size_t i = 0; i < n; i++)
            j.stats[i] = (struct lens_stats){ .max = -INFINITY };
        for (size_t i = 0; i < n * j.k; i++)
            j.tops[i] = (struct top){ -(real)INFINITY, INT32_MAX };
        if (!in->normed)
            pool_run(runtime_pool(rt), in->same_states ? 1 : in->n_rows, norm_task, &j);
        rc = pool_try(runtime_pool(rt), j.n_groups * j.n_parts, group_task, &j, err);
    }
    for (size_t row = 0; !rc && row < in->n_rows; row++) {
        for (size_t segment = 1; segment < j.n_segments; segment++)
            merge_row(&j, row, segment);
        rc = report_row(&j, row, out, err);
    }
    if (own)
        free(j.inputs);
    free(j.stats);
    free(j.tops);
    free(j.answer_logits);
    free(j.scratch);
    return rc;
}
