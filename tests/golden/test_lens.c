/*
 * The logit lens at every depth of every golden model that has a head, against fp64 (make_model_references.py, lens.*):
 * ranks and top tokens exactly, log probabilities, entropies and divergences to the precision at hand.
 */
#include "tests/golden/families.h"
#include "tests/golden/references.h"
#include "tests/must.h"
#include "tests/shared_pool.h"

#include "probes/lens_batch.h"

#include <math.h>

enum { TOP = 5, ANSWERS = 2 };

static const char *const models[] = {
#define X(name, bound) name,
    GOLDEN_WITH_HEAD(X)
#undef X
};
enum { N_MODELS = sizeof models / sizeof *models };

/*
 * Logits go to about 30 and are right to 1e-6 of that in float (test_models.c); measured 1.2e-5. Results are floats,
 * whose half last bit up to 64 is 1.9e-6: more double cannot show.
 */
static const double bound[] = { [PRECISION_F32] = 4e-5, [PRECISION_F64] = 2e-6 };

struct errors {
    double worst;
    size_t wrong; /* ranks and top tokens */
};

static void compare(struct errors *e, double got, double wanted)
{
    double error = fabs(got - wanted);
    if (!(error <= e->worst))
        e->worst = error;
}

/* Everything about answer number `which` of every stored row. `shift` misplaces the layers: a planted fault. */
static struct errors run_lens(const char *name, enum precision precision, size_t which, size_t shift)
{
    struct errors e = { 0 };
    struct references refs;
    struct model *m;
    struct runtime *rt;
    struct lens_batch lens;
    struct err err = { 0 };
    char path[256];
    references_open(&refs, name);
    must(model_open(&m, references_model_path(name, path), pool, &err), &err);
    must(runtime_create(&rt, m, pool, precision, &err), &err);
    must(lens_batch_init(&lens, rt, LENS_RESID, TOP, &err), &err);
    const struct tensor *answer = references_find(&refs, "lens.answer"), *rank = references_find(&refs, "lens.rank"),
                        *logprob = references_find(&refs, "lens.logprob"),
                        *entropy = references_find(&refs, "lens.entropy"),
                        *kl = references_find(&refs, "lens.kl_final"), *top = references_find(&refs, "lens.top_token");
    unsigned char *keep = calloc(refs.n_tokens, 1);
    int32_t *answers = calloc(refs.n_rows, sizeof *answers);
    assert_true(keep && answers);
    for (size_t r = 0; r < refs.n_rows; r++) {
        keep[refs.rows[r]] = 1;
        answers[r] = (int32_t)references_number(answer, r * ANSWERS + which);
    }
    must(lens_batch_run(&lens, refs.prompts, refs.n_prompts, keep, answers, NULL, &err), &err);
    assert_int_equal(lens.n_rows, refs.n_rows);
    assert_int_equal(lens.n_states, m->config.n_layers + 1);
    assert_int_equal(rank->n, refs.n_rows * ANSWERS * lens.n_states);
    for (size_t r = 0; r < refs.n_rows; r++)
        for (size_t s = 0; s < lens.n_states; s++) {
            size_t i = r * lens.n_states + (s + shift) % lens.n_states, j = r * lens.n_states + s;
            size_t k = (r * ANSWERS + which) * lens.n_states + s;
            e.wrong += lens.result.rank[i] != (int32_t)references_number(rank, k) || lens.result.ties[i] != 0;
            compare(&e, (double)lens.result.logprob[i], references_number(logprob, k));
            compare(&e, (double)lens.result.entropy[i], references_number(entropy, j));
            compare(&e, (double)lens.result.kl_final[i], references_number(kl, j));
            for (size_t t = 0; t < TOP; t++)
                e.wrong += lens.result.top_token[i * TOP + t] != (int32_t)references_number(top, j * TOP + t);
        }
    free(keep);
    free(answers);
    lens_batch_release(&lens);
    runtime_free(rt);
    model_free(m);
    references_close(&refs);
    return e;
}

static void every_depth_equals_fp64(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++)
        for (enum precision precision = PRECISION_F32; precision <= PRECISION_F64; precision++)
            for (size_t which = 0; which < ANSWERS; which++) {
                struct errors e = run_lens(models[i], precision, which, 0);
                if (e.wrong || !(e.worst <= bound[precision]))
                    fail_msg("%s in %s, answer %zu: %zu ranks or tokens are wrong, numbers differ by up to %.2e",
                             models[i], precision == PRECISION_F64 ? "double" : "float", which, e.wrong, e.worst);
            }
}

static void misplaced_layers_are_seen(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        struct errors e = run_lens(models[i], PRECISION_F32, 1, 1);
        assert_true(e.wrong > 0 && e.worst > 0.1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_depth_equals_fp64),
        cmocka_unit_test(misplaced_layers_are_seen),
    };
    return cmocka_run_group_tests_name("lens", tests, open_pool, close_pool);
}
