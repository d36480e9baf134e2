#include "probes/logit_lens.h"

#include "core/base/mem.h"
#include "probes/lens_check.h"
#include "probes/logit_lens_internal.h"

#include <stdlib.h>

int lens_result_create(struct lens_result *r, size_t n_rows, size_t n_states, size_t top_k, struct err *err)
{
    size_t n, n_top;
    *r = (struct lens_result){ 0 };
    if (!size_mul(n_rows, n_states, &n) || !size_mul(n, top_k, &n_top))
        return err_nomem(err, "lens results");
    r->rank = mem_array(n, sizeof *r->rank);
    r->ties = mem_array(n, sizeof *r->ties);
    r->logprob = mem_array(n, sizeof *r->logprob);
    r->answer_logit = mem_array(n, sizeof *r->answer_logit);
    r->entropy = mem_array(n, sizeof *r->entropy);
    r->kl_final = mem_array(n, sizeof *r->kl_final);
    r->top_token = mem_array(n_top, sizeof *r->top_token);
    r->top_logprob = mem_array(n_top, sizeof *r->top_logprob);
    if (r->rank && r->ties && r->logprob && r->answer_logit && r->entropy && r->kl_final && r->top_token &&
        r->top_logprob)
        return 0;
    lens_result_release(r);
    return err_nomem(err, "lens results");
}

void lens_result_release(struct lens_result *r)
{
    free(r->rank);
    free(r->ties);
    free(r->logprob);
    free(r->answer_logit);
    free(r->entropy);
    free(r->kl_final);
    free(r->top_token);
    free(r->top_logprob);
    *r = (struct lens_result){ 0 };
}

int logit_lens(struct runtime *rt, const struct lens_input *in, struct lens_result *out, struct err *err)
{
    size_t n_vocab = runtime_model(rt)->config.d_vocab;
    if (in->top_k > LENS_MAX_TOP || in->top_k > n_vocab)
        return err_set(err, ERR_ARG, "the lens keeps at most %d top tokens (and no more than the vocabulary), not %zu",
                       LENS_MAX_TOP, in->top_k);
    for (size_t i = 0; in->answers && i < in->n_rows; i++)
        if (in->answers[i] >= 0 && (size_t)in->answers[i] >= n_vocab)
            return err_set(err, ERR_ARG, "answer token %d is outside the vocabulary of %zu", (int)in->answers[i],
                           n_vocab);
    if (!in->n_rows || !in->n_states)
        return 0;
    if (runtime_precision(rt) == PRECISION_F64)
        return lens_run_f64(rt, in, out, err);
    int rc = lens_check(err);
    return rc ? rc : lens_run_f32(rt, in, out, err);
}
