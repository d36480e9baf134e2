/*
 * Strata as a library: one header for all of it.
 *
 *     #include <stdio.h>
 *     #include <strata.h>
 *
 *     static int take(struct sink *self, const struct site_view *v, struct err *err)
 *     {
 *         (void)self, (void)err;
 *         printf("%zu rows, first number %g\n", v->n_rows, site_view_at(v, 0));
 *         return 0;
 *     }
 *
 *     int main(void)
 *     {
 *         struct err err;
 *         struct pool *pool;
 *         struct model *model;
 *         struct runtime *rt;
 *         struct site_set reads;
 *         struct tokens t = { 0 };
 *         struct sink sink = { take };
 *         if (pool_create(&pool, 2, &err) || model_open(&model, "gpt2", pool, &err) ||
 *             runtime_create(&rt, model, pool, PRECISION_F32, &err) ||
 *             tokenizer_encode(model->tokenizer, "Hello", 5, SPECIALS_AUTO, &t, &err) ||
 *             site_set_init(&reads, &model->config, &err) || site_set_add(&reads, "resid_post:3", &err))
 *             return fprintf(stderr, "%s\n", err.msg), 1;
 *         struct prompt prompt = { .tokens = t.id, .n_tokens = t.n };
 *         struct forward f = { .prompts = &prompt, .n_prompts = 1, .reads = &reads, .sink = &sink };
 *         int rc = runtime_forward(rt, &f, &err);
 *         if (rc)
 *             fprintf(stderr, "%s\n", err.msg);
 *         site_set_release(&reads);
 *         tokens_release(&t);
 *         runtime_free(rt);
 *         model_free(model);
 *         pool_free(pool);
 *         return rc ? 1 : 0;
 *     }
 *
 *     cc example.c $(pkg-config --cflags --libs strata)
 *
 * Nothing in the library prints, exits or keeps global state, but that
 * runtime_create sets OpenBLAS to one thread a call. Each part's contract is in
 * its own header.
 */
#ifndef STRATA_H
#define STRATA_H

#include "core/base/err.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/base/pool.h"
#include "core/base/progress.h"
#include "core/base/random.h"
#include "core/base/strbuf.h"
#include "core/formats/facts.h"
#include "core/formats/gguf.h"
#include "core/formats/safetensors.h"
#include "core/formats/tensor.h"
#include "core/formats/vector_file.h"
#include "core/model/model.h"
#include "core/query/evaluate.h"
#include "core/query/functions.h"
#include "core/runtime/blas_check.h"
#include "core/runtime/collect.h"
#include "core/runtime/edit.h"
#include "core/runtime/edit_runs.h"
#include "core/runtime/experiment.h"
#include "core/runtime/kernel_check.h"
#include "core/runtime/prepare.h"
#include "core/runtime/replay.h"
#include "core/runtime/runtime.h"
#include "core/runtime/sites.h"
#include "core/store/dump_data.h"
#include "core/store/dump_file.h"
#include "core/store/h5.h"
#include "core/store/lens_file.h"
#include "core/store/provenance.h"
#include "core/tokenizer/tokenizer.h"
#include "probes/ablation_run.h"
#include "probes/answer_chain.h"
#include "probes/attributes.h"
#include "probes/causal_summary.h"
#include "probes/causal_trace.h"
#include "probes/direct_attribution.h"
#include "probes/dump_diff.h"
#include "probes/enrichment.h"
#include "probes/extraction.h"
#include "probes/fact_trace.h"
#include "probes/head_ablation.h"
#include "probes/head_attribution.h"
#include "probes/head_map.h"
#include "probes/head_patterns.h"
#include "probes/knockout.h"
#include "probes/lens_batch.h"
#include "probes/lens_curves.h"
#include "probes/logit_direction.h"
#include "probes/logit_lens.h"
#include "probes/neurons.h"
#include "probes/next_token.h"
#include "probes/outcomes.h"
#include "probes/patching.h"
#include "probes/site_means.h"
#include "probes/stages.h"
#include "probes/statistics.h"
#include "probes/verify.h"
#include "probes/windows.h"

#endif
