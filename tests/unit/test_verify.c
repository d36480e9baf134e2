/*
 * The self-check of models: passes on every golden model, and sees faults between the model and what it checks. The
 * program is linked with --wrap=runtime_forward, so that a fault can change one site on its way to the check.
 */
#include "tests/golden/families.h"
#include "tests/golden/references.h"
#include "tests/shared_pool.h"

#include "probes/verify.h"

#include <math.h>

/* --- faults --- */

enum fault {
    NONE,
    SWAPPED_HEADS,
    LOST_BIAS,
    BROKEN_WEIGHT,
    OPEN_MASK,
    SHIFTED_ROWS,
    SCALED_LOGITS,
    LESS_EXACT,
    INFINITE
};

static struct {
    enum fault fault;
    enum site site;
    size_t layer;
} planted;

/* What the runtime computed, changed, on its way to the sink. */
struct faulty_sink {
    struct sink sink; /* first */
    struct sink *next;
    const struct model *model;
};

static void swap_numbers(float *x, size_t a, size_t b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float held = x[a + i];
        x[a + i] = x[b + i];
        x[b + i] = held;
    }
}

static void spoil(float *x, const struct site_view *v, const struct model *m)
{
    size_t n = v->n_rows * v->row_size, d_head = m->config.d_head;
    switch (planted.fault) {
    case SWAPPED_HEADS:
        for (size_t r = 0; r < v->n_rows; r++)
            swap_numbers(x, r * v->row_size, r * v->row_size + d_head, d_head);
        break;
    case LOST_BIAS:
        for (size_t i = 0; i < n; i++)
            x[i] -= m->layers[v->layer].o_bias[i % v->row_size];
        break;
    case BROKEN_WEIGHT:
        for (size_t r = 0; r < v->n_rows; r++)
            x[r * v->row_size + 2] *= 1.01F;
        break;
    case OPEN_MASK:
        if (v->n_rows > 1)
            x[1] = 1e-7F; /* query 0 looks at key 1 */
        break;
    case SHIFTED_ROWS:
        memmove(x, x + v->row_size, (n - v->row_size) * sizeof *x);
        break;
    case SCALED_LOGITS:
        for (size_t i = 0; i < n; i++)
            x[i] *= 1.0001F;
        break;
    case LESS_EXACT:
        for (size_t i = 0; i < n; i++)
            x[i] = roundf(x[i] * 1024) / 1024;
        break;
    case INFINITE:
        x[0] = INFINITY;
        break;
    case NONE:
        break;
    }
}

static int take(struct sink *self, const struct site_view *v, struct err *err)
{
    struct faulty_sink *s = (struct faulty_sink *)(void *)self;
    if (v->site != planted.site || v->layer != planted.layer || v->precision != PRECISION_F32)
        return s->next->take(s->next, v, err);
    bool edges = site_row(v->site)->axes == AXES_EDGES;
    size_t n = edges ? s->model->config.n_heads * v->n_rows * v->n_rows : v->n_rows * v->row_size;
    float *copy = malloc(n * sizeof *copy);
    struct site_view changed = *v;
    if (!copy)
        return err_nomem(err, "a fault");
    memcpy(copy, v->data, n * sizeof *copy);
    spoil(copy, v, s->model);
    changed.data = copy;
    int rc = s->next->take(s->next, &changed, err);
    free(copy);
    return rc;
}

int __real_runtime_forward(struct runtime *rt, const struct forward *f, struct err *err);
int __wrap_runtime_forward(struct runtime *rt, const struct forward *f, struct err *err);

int __wrap_runtime_forward(struct runtime *rt, const struct forward *f, struct err *err)
{
    struct faulty_sink faulty = { .sink = { take }, .next = f->sink, .model = runtime_model(rt) };
    struct forward changed = *f;
    if (planted.fault != NONE)
        changed.sink = &faulty.sink;
    return __real_runtime_forward(rt, &changed, err);
}

/* --- tests --- */

static void verify(const char *name, struct verify_report *report)
{
    char path[256];
    struct err err = { 0 };
    struct references refs;
    struct model *model;
    references_open(&refs, name);
    if (model_open(&model, references_model_path(name, path), pool, &err) ||
        verify_model(model, pool, refs.prompts, refs.n_prompts, report, &err))
        fail_msg("%s: %s", name, err.msg);
    model_free(model);
    references_close(&refs);
}

static const struct verify_row *row_of(const struct verify_report *r, const char *name)
{
    for (size_t i = 0; i < r->n; i++)
        if (!strcmp(r->rows[i].name, name))
            return &r->rows[i];
    fail_msg("no row '%s'", name);
    return NULL;
}

static void every_golden_model_passes(void **state)
{
#define X(name, bound) name,
    static const char *const models[] = { GOLDEN_ALL(X) };
#undef X
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct verify_report r;
        verify(models[i], &r);
        for (size_t k = 0; k < r.n; k++)
            if (!(r.rows[k].worst <= r.rows[k].limit))
                fail_msg("%s: %s: %g in layer %zu", models[i], r.rows[k].name, r.rows[k].worst, r.rows[k].layer);
        assert_true(r.ok);
        assert_true(r.n > 30);
        verify_report_release(&r);
    }
}

static void a_fault_fails_the_checks_it_breaks(void **state)
{
    static const struct {
        enum fault fault;
        enum site site;
        size_t layer;
        const char *broken[3]; /* rows that must be off, at that layer */
    } cases[] = {
        { SWAPPED_HEADS, SITE_Z, 1, { "pattern v = z", "z W_O + b_O = attn_out", "blocks.L.attn.hook_z" } },
        { LOST_BIAS,
          SITE_ATTN_OUT,
          1,
          { "z W_O + b_O = attn_out", "sum of hook_result + b_O = attn_out", "resid_pre + attn_out = resid_mid" } },
        { BROKEN_WEIGHT,
          SITE_MLP_OUT,
          0,
          { "post W_out + b_out = mlp_out", "resid_mid + mlp_out = resid_post", "blocks.L.hook_mlp_out" } },
        { OPEN_MASK, SITE_PATTERN, 1, { "pattern rows sum to 1, masked edges are 0" } },
        { SHIFTED_ROWS, SITE_RESID_MID, 1, { "resid_pre + attn_out = resid_mid", "blocks.L.hook_resid_mid" } },
        { SHIFTED_ROWS, SITE_EMBED, 0, { "embed + pos_embed = first resid_pre", "hook_embed" } },
        { SCALED_LOGITS, SITE_LOGITS, 0, { "logits" } },
        { LESS_EXACT, SITE_Q, 1, { "blocks.L.attn.hook_q" } },
        { INFINITE, SITE_MLP_PRE, 1, { "blocks.L.mlp.hook_pre" } },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct verify_report r;
        planted.fault = cases[i].fault;
        planted.site = cases[i].site;
        planted.layer = cases[i].layer;
        verify("gpt2", &r);
        planted.fault = NONE;
        assert_false(r.ok);
        for (size_t k = 0; k < 3 && cases[i].broken[k]; k++) {
            const struct verify_row *row = row_of(&r, cases[i].broken[k]);
            if (row->worst <= row->limit || row->layer != cases[i].layer)
                fail_msg("fault %zu: %s: %g in layer %zu", i, row->name, row->worst, row->layer);
        }
        verify_report_release(&r);
    }
}

/* A writable copy of a matrix, rows one after another. */
static float *own_copy(struct matrix *w)
{
    float *copy = malloc(w->n_out * w->n_in * sizeof *copy);
    assert_non_null(copy);
    for (size_t o = 0; o < w->n_out; o++)
        memcpy(copy + o * w->n_in, w->data + o * w->stride, w->n_in * sizeof *copy);
    w->data = copy;
    w->stride = w->n_in;
    return copy;
}

/* Neurons 0 and 1 are equal but for rounding and their large outputs cancel: fp32 cannot be right. */
static void cancelling_weights_are_seen(void **state)
{
    struct references refs;
    struct model *model;
    struct verify_report r;
    struct err err = { 0 };
    char path[256];
    (void)state;
    references_open(&refs, "llama_a");
    if (model_open(&model, references_model_path("llama_a", path), pool, &err))
        fail_msg("%s", err.msg);
    struct layer *l = &model->layers[1];
    size_t d = model->config.d_model;
    float *up = own_copy(&l->mlp.up), *gate = own_copy(&l->mlp.gate), *down = own_copy(&l->mlp.down);
    memcpy(up + d, up, d * sizeof *up);
    memcpy(gate + d, gate, d * sizeof *gate);
    l->mlp.up_bias = l->mlp.gate_bias = NULL;
    for (size_t o = 0; o < d; o++) {
        down[o * l->mlp.down.n_in] = 1e6F;
        down[o * l->mlp.down.n_in + 1] = -1e6F * 1.000001F;
    }
    if (verify_model(model, pool, refs.prompts, refs.n_prompts, &r, &err))
        fail_msg("%s", err.msg);
    assert_false(r.ok);
    assert_true(row_of(&r, "blocks.L.hook_mlp_out")->worst > 1e-5);
    verify_report_release(&r);
    model_free(model);
    free(up);
    free(gate);
    free(down);
    references_close(&refs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_golden_model_passes),
        cmocka_unit_test(a_fault_fails_the_checks_it_breaks),
        cmocka_unit_test(cancelling_weights_are_seen),
    };
    return cmocka_run_group_tests_name("verify", tests, open_pool, close_pool);
}
