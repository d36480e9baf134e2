#include "probes/lens_batch.h"

#include "core/base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *lens_source_name(enum lens_source source)
{
    static const char *const names[] = {
#define X(id, name) name,
        LENS_SOURCES(X)
#undef X
    };
    return names[source];
}

/* States that each layer gives. */
static size_t states_per_layer(enum lens_source source, const struct model_config *config)
{
    return source == LENS_HEADS ? config->n_heads : 1;
}

size_t lens_states(enum lens_source source, const struct model_config *config)
{
    return config->n_layers * states_per_layer(source, config) + 1;
}

char *lens_label(enum lens_source source, const struct model_config *config, size_t state, char *label)
{
    if (state + 1 == lens_states(source, config))
        snprintf(label, LENS_LABEL_MAX, "final_post");
    else if (source == LENS_HEADS)
        snprintf(label, LENS_LABEL_MAX, "L%zuH%zu", state / config->n_heads, state % config->n_heads);
    else
        snprintf(label, LENS_LABEL_MAX, "%zu_%s", state, source == LENS_RESID ? "pre" : lens_source_name(source));
    return label;
}

static enum site source_site(enum lens_source source)
{
    switch (source) {
    case LENS_ATTN_OUT:
        return SITE_ATTN_OUT;
    case LENS_MLP_OUT:
        return SITE_MLP_OUT;
    case LENS_HEADS:
        return SITE_RESULT;
    case LENS_RESID:
        break;
    }
    return SITE_RESID_PRE;
}

static size_t real_bytes(enum precision precision)
{
    return precision == PRECISION_F64 ? sizeof(double) : sizeof(float);
}

int lens_batch_init(struct lens_batch *b, struct runtime *rt, enum lens_source source, size_t top_k, struct err *err)
{
    const struct model_config *config = &runtime_model(rt)->config;
    *b = (struct lens_batch){ .rt = rt, .source = source, .top_k = top_k };
    b->n_states = lens_states(source, config);
    int rc = site_set_init(&b->reads, config, err);
    if (rc)
        return rc;
    for (size_t l = 0; l < config->n_layers; l++)
        site_set_add_one(&b->reads, (struct site_ref){ source_site(source), l });
    site_set_add_one(&b->reads, (struct site_ref){ site_leaving_block(config), config->n_layers - 1 });
    rc = collector_init(&b->collector, &b->reads, runtime_precision(rt), err);
    if (rc)
        lens_batch_release(b);
    return rc;
}

static int make_room(struct lens_batch *b, size_t n_rows, struct err *err)
{
    size_t n;
    if (n_rows <= b->capacity)
        return 0;
    free(b->states);
    lens_result_release(&b->result);
    b->states = NULL;
    b->capacity = 0;
    if (size_mul(n_rows, b->n_states, &n) && size_mul(n, runtime_model(b->rt)->config.d_model, &n))
        b->states = mem_aligned(n, real_bytes(b->collector.precision));
    if (!b->states)
        return err_nomem(err, "the states of a batch");
    int rc = lens_result_create(&b->result, n_rows, b->n_states, b->top_k, err);
    if (!rc)
        b->capacity = n_rows;
    return rc;
}

/* From site-major, as collected, to row-major, as measured. */
static void gather(struct lens_batch *b)
{
    const struct model_config *config = &runtime_model(b->rt)->config;
    size_t state = config->d_model * real_bytes(b->collector.precision);
    size_t per_layer = states_per_layer(b->source, config);
    for (size_t row = 0; row < b->n_rows; row++) {
        char *to = (char *)b->states + row * b->n_states * state;
        for (size_t l = 0; l < config->n_layers; l++) {
            const char *from = collector_rows(&b->collector, source_site(b->source), l);
            memcpy(to + l * per_layer * state, from + row * per_layer * state, per_layer * state);
        }
        const char *final = collector_rows(&b->collector, site_leaving_block(config), config->n_layers - 1);
        memcpy(to + (b->n_states - 1) * state, final + row * state, state);
    }
}

int lens_batch_run(struct lens_batch *b, const struct prompt *prompts, size_t n_prompts, const unsigned char *keep,
                   const int32_t *answers, const struct edit_list *edits, struct err *err)
{
    struct forward f = {
        .prompts = prompts,
        .n_prompts = n_prompts,
        .reads = &b->reads,
        .edits = edits,
        .sink = &b->collector.sink,
        .read_rows = keep,
    };
    int rc = collector_begin(&b->collector, prompts, n_prompts, keep, err);
    if (rc || (rc = make_room(b, b->collector.n_kept, err)) || (rc = runtime_forward(b->rt, &f, err)))
        return rc;
    b->n_rows = b->collector.n_kept;
    gather(b);
    struct lens_input in = {
        .states = b->states,
        .n_rows = b->n_rows,
        .n_states = b->n_states,
        .answers = answers,
        .top_k = b->top_k,
    };
    return logit_lens(b->rt, &in, &b->result, err);
}

size_t lens_batch_memory(enum lens_source source, const struct model_config *config, enum precision precision,
                         size_t n_rows)
{
    /* Collected once by site and once by row; statistics are small beside them. */
    return 2 * n_rows * lens_states(source, config) * config->d_model * real_bytes(precision);
}

void lens_batch_release(struct lens_batch *b)
{
    if (b->collector.reads)
        collector_release(&b->collector);
    site_set_release(&b->reads);
    free(b->states);
    lens_result_release(&b->result);
    *b = (struct lens_batch){ 0 };
}
