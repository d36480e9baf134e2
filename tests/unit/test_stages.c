/*
 * The three stages: curves are those of the probes they come from, groups change nothing, random keys are what is said,
 * and verdicts follow the numbers: planted ones are found, planted fakes are not. On the tiny model in double.
 */
#include "tests/golden/references.h"
#include "tests/must.h"

#include "core/base/mem.h"
#include "probes/knockout.h"
#include "probes/stages.h"

#include <math.h>

enum { N_FACTS = 6, SEED = 7 };

static struct pool *pool;
static struct model *m;
static struct runtime *rt;
static struct tokens tokens[N_FACTS];
static struct prompt prompts[N_FACTS];
static int32_t answers[N_FACTS];
static struct attribute_sets sets;
static size_t own[N_FACTS], control[N_FACTS];
static const char *subjects[N_FACTS];

/* The third has its subject in front, the fourth at token 0 alone. */
static const struct {
    const char *text, *subject, *answer;
} facts[N_FACTS] = { { "The Eiffel Tower is in the city of", "Eiffel Tower", "Paris" },
                     { "The capital of Italy is", "Italy", "Rome" },
                     { "Hamlet was written by", "Hamlet", "Shakespeare" },
                     { "A dolphin is a kind of", "A", "mammal" },
                     { "The big dog is not a", "dog", "cat" },
                     { "The currency of Japan is the", "Japan", "yen" } };

static void find_span(struct prompt *p, const struct tokens *t, const char *text, const char *subject)
{
    int32_t begin = (int32_t)(strstr(text, subject) - text), end = begin + (int32_t)strlen(subject);
    p->subject_begin = p->subject_end = SIZE_MAX;
    for (size_t i = 0; i < t->n; i++)
        if (t->begin[i] < end && t->end[i] > begin) {
            p->subject_begin = p->subject_begin == SIZE_MAX ? i : p->subject_begin;
            p->subject_end = i + 1;
        }
}

static int32_t first_token(const char *answer)
{
    char text[64];
    struct tokens t = { 0 };
    struct err err = { 0 };
    snprintf(text, sizeof text, " %s", answer);
    must(tokenizer_encode(m->tokenizer, text, strlen(text), SPECIALS_NONE, &t, &err), &err);
    int32_t id = t.id[0];
    tokens_release(&t);
    return id;
}

static int set_up(void **state)
{
    struct err err = { 0 };
    (void)state;
    must(pool_create(&pool, 2, &err), &err);
    must(model_open(&m, "data/tiny", pool, &err), &err);
    must(runtime_create(&rt, m, pool, PRECISION_F64, &err), &err);
    must(attribute_sets_init(&sets, m, &err), &err);
    for (size_t i = 0; i < N_FACTS; i++) {
        must(tokenizer_encode(m->tokenizer, facts[i].text, strlen(facts[i].text), SPECIALS_NONE, &tokens[i], &err),
             &err);
        prompts[i] = (struct prompt){ .tokens = tokens[i].id, .n_tokens = tokens[i].n, .name = "x" };
        find_span(&prompts[i], &tokens[i], facts[i].text, facts[i].subject);
        answers[i] = first_token(facts[i].answer);
        subjects[i] = facts[i].subject;
        must(attribute_sets_add(&sets, facts[i].subject, facts[i].answer, &err), &err);
    }
    for (size_t i = 0; i < N_FACTS; i++) {
        own[i] = attribute_sets_find(&sets, facts[i].subject);
        control[i] = attribute_sets_find(&sets, facts[(i + 1) % N_FACTS].subject);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_FACTS; i++)
        tokens_release(&tokens[i]);
    attribute_sets_release(&sets);
    runtime_free(rt);
    model_free(m);
    pool_free(pool);
    return 0;
}

/* Facts [first, first + n). */
static void add(struct stages *s, size_t first, size_t n)
{
    struct err err = { 0 };
    const struct stages_input in = { .prompts = prompts + first,
                                     .answers = answers + first,
                                     .n_facts = n,
                                     .window = 2,
                                     .sets = &sets,
                                     .own = own + first,
                                     .control = control + first,
                                     .seed = SEED };
    must(stages_add(s, rt, &in, NULL, &err), &err);
}

static void measure(struct stages *s)
{
    stages_init(s, rt);
    add(s, 0, N_FACTS);
}

static double *curve(const struct stages *s, enum stages_curve c, size_t fact)
{
    return s->curves[c] + fact * stages_n_points(s, c);
}

static void assert_same(double a, double b, double tolerance, const char *what)
{
    if (isnan(a) && isnan(b))
        return;
    if (!(fabs(a - b) <= tolerance * fmax(1, fabs(a))))
        fail_msg("%s: %.12g and %.12g", what, a, b);
}

/* --- measuring --- */

static void groups_change_nothing(void **state)
{
    struct stages all, parts;
    (void)state;
    measure(&all);
    stages_init(&parts, rt);
    add(&parts, 0, 1);
    add(&parts, 1, 3);
    add(&parts, 4, 2);
    assert_int_equal(all.n_facts, parts.n_facts);
    assert_int_equal(all.n_spared, parts.n_spared);
    for (size_t c = 0; c < STAGES_N_CURVES; c++)
        for (size_t i = 0; i < N_FACTS * stages_n_points(&all, (enum stages_curve)c); i++)
            /* Percentages of float log probabilities. */
            assert_same(all.curves[c][i], parts.curves[c][i], 1e-4, stages_curve_name((enum stages_curve)c));
    for (size_t i = 0; i < N_FACTS * all.n_heads; i++)
        assert_same(all.head_logit[i], parts.head_logit[i], 1e-9, "head");
    stages_release(&parts);
    stages_release(&all);
}

static void blocked_curves_are_the_knockouts(void **state)
{
    struct stages s;
    struct knockout k;
    struct err err = { 0 };
    const struct knockout_input in = {
        .prompts = prompts, .answers = answers, .n_facts = N_FACTS, .window = 2, .spare_first = true
    };
    (void)state;
    measure(&s);
    must(knockout_run(&k, rt, &in, NULL, &err), &err);
    for (size_t i = 0; i < N_FACTS; i++)
        for (size_t l = 0; l < s.n_layers; l++) {
            const double *change = k.change + i * KNOCKOUT_SETS * s.n_layers;
            if (i != 3) /* whose subject is token 0 */
                assert_same(curve(&s, STAGES_SUBJECT, i)[l], change[KNOCKOUT_SUBJECT * s.n_layers + l], 1e-9,
                            "subject");
            assert_same(curve(&s, STAGES_REST, i)[l], change[KNOCKOUT_NON_SUBJECT * s.n_layers + l], 1e-9, "rest");
            assert_same(curve(&s, STAGES_REST_LESS_SUBJECT, i)[l],
                        curve(&s, STAGES_REST, i)[l] - curve(&s, STAGES_SUBJECT, i)[l], 1e-9, "difference");
        }
    knockout_release(&k);
    stages_release(&s);
}

static void a_subject_of_token_0_alone_is_not_measured(void **state)
{
    struct stages s;
    struct stage verdict[N_STAGES];
    (void)state;
    assert_int_equal(prompts[3].subject_begin, 0);
    assert_int_equal(prompts[3].subject_end, 1);
    stages_init(&s, rt);
    add(&s, 3, 1);
    assert_int_equal(s.n_spared, 1);
    for (size_t l = 0; l < s.n_layers; l++) {
        assert_true(isnan(curve(&s, STAGES_SUBJECT, 0)[l]));
        assert_true(isnan(curve(&s, STAGES_RANDOM, 0)[l]));
        assert_true(isfinite(curve(&s, STAGES_REST, 0)[l]));
    }
    stages_judge_one(&s, NULL, verdict);
    for (int i = 0; i < N_STAGES; i++)
        assert_int_equal(verdict[i].finding, STAGE_NOT_MEASURED);
    stages_release(&s);
}

/* Where the rest has no more tokens than the subject, a random draw of as many is the rest. */
static void random_keys_are_tokens_of_the_rest(void **state)
{
    struct stages s;
    struct prompt p = prompts[0];
    struct err err = { 0 };
    (void)state;
    p.subject_begin = 2;
    p.subject_end = p.n_tokens - 1;
    const struct stages_input in = { .prompts = &p, .answers = answers, .n_facts = 1, .window = 2, .seed = SEED };
    stages_init(&s, rt);
    must(stages_add(&s, rt, &in, NULL, &err), &err);
    for (size_t l = 0; l < s.n_layers; l++) {
        assert_same(curve(&s, STAGES_RANDOM, 0)[l], curve(&s, STAGES_REST, 0)[l], 1e-4, "random");
        assert_true(fabs(curve(&s, STAGES_RANDOM, 0)[l] - curve(&s, STAGES_SUBJECT, 0)[l]) > 1e-3);
    }
    /* That is one set, however many are asked for. */
    size_t deepest = stages_deepest(curve(&s, STAGES_REST, 0), s.n_layers);
    assert_same(s.random_deepest[0], curve(&s, STAGES_REST, 0)[deepest], 1e-4, "deepest");
    for (size_t d = 1; d < STAGES_KEY_DRAWS; d++)
        assert_true(isnan(s.random_deepest[d]));
    stages_release(&s);
}

/* The deepest change that blocking single tokens makes, in any window: one of the prompt's controls each. */
static void deepest_of_each_token(struct prompt p, int32_t answer, double *out)
{
    struct knockout k;
    struct err err = { 0 };
    const struct knockout_input in = {
        .prompts = &p, .answers = &answer, .n_facts = 1, .window = 2, .tokens = true, .spare_first = true
    };
    must(knockout_run(&k, rt, &in, NULL, &err), &err);
    for (size_t t = 0; t < p.n_tokens; t++) {
        const double *prob = k.token_prob + t * k.n_layers;
        out[t] = 100 * (prob[stages_deepest(prob, k.n_layers)] / k.base_prob[0] - 1);
    }
    knockout_release(&k);
}

/* One token as subject: every other one but the first and the last is a set, met once each, in its own best window. */
static void random_sets_are_distinct_and_all_there_are(void **state)
{
    struct stages s;
    struct err err = { 0 };
    struct prompt p = prompts[0];
    double of_token[64];
    size_t n_sets = 0;
    (void)state;
    assert_true(p.n_tokens <= 64);
    p.subject_begin = 2;
    p.subject_end = 3;
    const struct stages_input in = {
        .prompts = &p, .answers = answers, .n_facts = 1, .window = 2, .key_draws = STAGES_KEY_DRAWS, .seed = SEED
    };
    stages_init(&s, rt);
    must(stages_add(&s, rt, &in, NULL, &err), &err);
    deepest_of_each_token(p, answers[0], of_token);
    for (size_t t = 1; t + 1 < p.n_tokens; t++) {
        size_t met = 0;
        for (size_t d = 0; d < STAGES_KEY_DRAWS; d++)
            met += fabs(s.random_deepest[d] - of_token[t]) <= 1e-4 * fmax(1, fabs(of_token[t]));
        assert_int_equal(met, t == 2 ? 0 : 1);
        n_sets += met;
    }
    for (size_t d = 0; d < STAGES_KEY_DRAWS; d++)
        assert_int_equal(isnan(s.random_deepest[d]), d >= n_sets);
    stages_release(&s);
}

static void without_attributes_only_the_rank_is_known(void **state)
{
    struct stages with, without;
    struct err err = { 0 };
    const struct stages_input in = { .prompts = prompts, .answers = answers, .n_facts = 1, .window = 2, .seed = SEED };
    (void)state;
    measure(&with);
    stages_init(&without, rt);
    must(stages_add(&without, rt, &in, NULL, &err), &err);
    for (size_t i = 0; i <= with.n_layers; i++) {
        assert_true(isnan(without.curves[STAGES_RECALL][i]) && isfinite(with.curves[STAGES_RECALL][i]));
        assert_same(without.curves[STAGES_SUBJECT_RANK][i], with.curves[STAGES_SUBJECT_RANK][i], 0, "rank");
    }
    stages_release(&with);
    stages_release(&without);
}

static void a_prompt_without_subject_is_refused(void **state)
{
    struct stages s;
    struct prompt p = prompts[0];
    struct err err = { 0 };
    const struct stages_input in = { .prompts = &p, .answers = answers, .n_facts = 1, .window = 2 };
    (void)state;
    p.subject_end = p.subject_begin;
    stages_init(&s, rt);
    assert_int_equal(stages_add(&s, rt, &in, NULL, &err), ERR_ARG);
    assert_non_null(strstr(err.msg, "need the prompt's subject"));
    assert_int_equal(s.n_facts, 0);
    stages_release(&s);
}

static void random_subjects_change_the_subject_alone(void **state)
{
    struct stages_subjects a, b;
    struct err err = { 0 };
    (void)state;
    must(stages_random_subjects(&a, rt, &prompts[1], answers[1], 1, &err), &err);
    must(stages_random_subjects(&b, rt, &prompts[1], answers[1], 1, &err), &err);
    assert_int_equal(a.n_draws, STAGES_SUBJECT_DRAWS);
    bool differ = false;
    for (size_t i = 0; i < a.n_draws * a.n_states; i++) {
        assert_true(a.rank[i] == b.rank[i] && a.rank[i] >= 1 && a.rank[i] <= (double)m->config.d_vocab);
        differ |= a.rank[i] != a.rank[i % a.n_states];
    }
    assert_true(differ);
    for (size_t d = 0; d < a.n_draws; d++) {
        struct stages s;
        stages_init(&s, rt);
        double best = INFINITY;
        for (size_t state_number = 0; state_number < stages_enrichment_states(&s); state_number++)
            best = fmin(best, a.rank[d * a.n_states + state_number]);
        assert_true(a.best[d] == best);
    }
    /* Words that a random subject does not see change nothing. */
    struct prompt later = prompts[1];
    int32_t changed[64];
    memcpy(changed, later.tokens, later.n_tokens * sizeof *changed);
    changed[later.n_tokens - 1] = changed[0];
    later.tokens = changed;
    stages_subjects_release(&b);
    must(stages_random_subjects(&b, rt, &later, answers[1], 1, &err), &err);
    assert_memory_equal(a.rank, b.rank, a.n_draws * a.n_states * sizeof *a.rank);
    stages_subjects_release(&a);
    stages_subjects_release(&b);
}

/* --- verdicts on planted numbers --- */

static void plant(struct stages *s, enum stages_curve c, double level, size_t at, double depth)
{
    for (size_t i = 0; i < s->n_facts; i++)
        for (size_t p = 0; p < stages_n_points(s, c); p++)
            curve(s, c, i)[p] = (p == at ? depth : level) + 0.1 * (double)(i % 3);
}

static void plant_all(struct stages *s)
{
    plant(s, STAGES_REST, 0, 1, -50);
    plant(s, STAGES_SUBJECT, 0, 4, -60);
    plant(s, STAGES_RANDOM, 0, 4, -5);
    plant(s, STAGES_RECALL, 0, 3, 40);
    plant(s, STAGES_RECALL_CONTROL, 0, 3, 5);
    for (size_t i = 0; i < s->n_facts; i++) {
        for (size_t l = 0; l < s->n_layers; l++) {
            curve(s, STAGES_REST_LESS_SUBJECT, i)[l] = curve(s, STAGES_REST, i)[l] - curve(s, STAGES_SUBJECT, i)[l];
            curve(s, STAGES_SUBJECT_LESS_RANDOM, i)[l] = curve(s, STAGES_SUBJECT, i)[l] - curve(s, STAGES_RANDOM, i)[l];
        }
        for (size_t p = 0; p <= s->n_layers; p++)
            curve(s, STAGES_RECALL_GAIN, i)[p] = curve(s, STAGES_RECALL, i)[p] - curve(s, STAGES_RECALL_CONTROL, i)[p];
        for (size_t d = 0; d < STAGES_KEY_DRAWS; d++)
            s->random_deepest[i * STAGES_KEY_DRAWS + d] = d < 9 ? -5 - (double)d : (double)NAN;
    }
}

static void summarise(const struct stages *s, struct stages_summary *out)
{
    struct err err = { 0 };
    must(stages_summarise(out, s, NULL, s->n_facts, subjects, SEED, &err), &err);
}

static void planted_stages_are_found(void **state)
{
    struct stages s;
    struct stages_summary a;
    struct stage one[N_STAGES];
    (void)state;
    measure(&s);
    plant_all(&s);
    summarise(&s, &a);
    for (int i = 0; i < N_STAGES; i++)
        assert_int_equal(a.stage[i].finding, STAGE_FOUND);
    assert_int_equal(a.stage[STAGE_ENRICHMENT].layer, 2); /* state 3 is what leaves block 2 */
    assert_int_equal(a.stage[STAGE_PROPAGATION].layer, 1);
    assert_int_equal(a.stage[STAGE_EXTRACTION].layer, 4);
    assert_same(a.stage[STAGE_EXTRACTION].number.mean, -59.9, 1e-9, "mean");
    assert_same(a.stage[STAGE_EXTRACTION].difference.mean, -55, 1e-9, "difference");
    assert_same(a.stage[STAGE_PROPAGATION].late, 0.1, 1e-9, "late");
    stages_judge_one(&s, NULL, one);
    assert_int_equal(one[STAGE_ENRICHMENT].finding, STAGE_NOT_MEASURED);
    assert_int_equal(one[STAGE_PROPAGATION].finding, STAGE_FOUND);
    assert_int_equal(one[STAGE_EXTRACTION].finding, STAGE_FOUND);
    assert_same(one[STAGE_EXTRACTION].control.low, -13, 1e-9, "deepest set");
    assert_int_equal(one[STAGE_EXTRACTION].n_control, 9);
    assert_same(one[STAGE_EXTRACTION].p, 0.1, 1e-12, "p");
    stages_summary_release(&a);
    stages_release(&s);
}

/* Each fake breaks one control; only its stage may fall. */
static void planted_fakes_are_not_found(void **state)
{
    (void)state;
    for (int fake = 0; fake < 5; fake++) {
        struct stages s;
        struct stages_summary a;
        static const int falls[] = { STAGE_ENRICHMENT, STAGE_ENRICHMENT, STAGE_PROPAGATION, STAGE_PROPAGATION,
                                     STAGE_EXTRACTION };
        measure(&s);
        plant_all(&s);
        if (fake == 0) /* another subject's attributes come up as well */
            plant(&s, STAGES_RECALL_GAIN, 0, 3, 2);
        if (fake == 1) /* all of it is in the embedding */
            plant(&s, STAGES_RECALL_GAIN, 35, 3, 36);
        if (fake == 2) /* after the subject counts */
            plant(&s, STAGES_REST, 0, 5, -50), plant(&s, STAGES_REST_LESS_SUBJECT, 0, 5, -50);
        if (fake == 3) /* the subject counts as much */
            plant(&s, STAGES_REST_LESS_SUBJECT, 0, 1, 3);
        if (fake == 4) /* random tokens count as much */
            plant(&s, STAGES_SUBJECT_LESS_RANDOM, 0, 4, -4);
        summarise(&s, &a);
        for (int i = 0; i < N_STAGES; i++)
            if ((a.stage[i].finding == STAGE_FOUND) != (i != falls[fake]))
                fail_msg("fake %d: %s is %s", fake, stage_name(i), stage_finding_name(a.stage[i].finding));
        assert_true(*a.stage[falls[fake]].reason);
        stages_summary_release(&a);
        stages_release(&s);
    }
}

static void noise_between_subjects_is_not_found(void **state)
{
    struct stages s;
    struct stages_summary a;
    (void)state;
    measure(&s);
    plant_all(&s);
    for (size_t i = 0; i < N_FACTS; i++) /* the mean is -50, of one subject */
        curve(&s, STAGES_SUBJECT, i)[4] = i ? 10 : -350, curve(&s, STAGES_SUBJECT_LESS_RANDOM, i)[4] = i ? 10 : -350;
    summarise(&s, &a);
    assert_int_equal(a.stage[STAGE_EXTRACTION].finding, STAGE_NOT_FOUND);
    stages_summary_release(&a);
    stages_release(&s);
}

static void a_random_subject_that_is_as_good_spoils_enrichment(void **state)
{
    struct stages s;
    struct stages_subjects random;
    struct stage one[N_STAGES];
    struct err err = { 0 };
    (void)state;
    measure(&s);
    must(stages_random_subjects(&random, rt, &prompts[0], answers[0], 1, &err), &err);
    plant(&s, STAGES_SUBJECT_RANK, 2, 3, 1);
    for (size_t d = 0; d < random.n_draws; d++)
        random.best[d] = 20 + (double)d;
    stages_judge_one(&s, &random, one);
    assert_int_equal(one[STAGE_ENRICHMENT].finding, STAGE_FOUND);
    assert_int_equal(one[STAGE_ENRICHMENT].layer, 2);
    assert_same(one[STAGE_ENRICHMENT].p, 0.05, 1e-12, "p");
    assert_same(one[STAGE_ENRICHMENT].number.mean, 10, 1e-9, "rank");
    assert_same(one[STAGE_ENRICHMENT].control.mean, 29, 1e-9, "median");
    random.best[4] = 19; /* not twice as far down */
    stages_judge_one(&s, &random, one);
    assert_int_equal(one[STAGE_ENRICHMENT].finding, STAGE_NOT_FOUND);
    random.best[4] = 10;
    stages_judge_one(&s, &random, one);
    assert_int_equal(one[STAGE_ENRICHMENT].finding, STAGE_NOT_FOUND);
    assert_same(one[STAGE_ENRICHMENT].p, 0.1, 1e-12, "p");
    stages_subjects_release(&random);
    stages_release(&s);
}

/* Of one fact: each fake breaks one control of the verdict that falls. */
static void planted_fakes_of_one_fact_are_not_found(void **state)
{
    (void)state;
    for (int fake = 0; fake < 8; fake++) {
        struct stages s;
        struct stage one[N_STAGES];
        int falls = fake < 5 ? STAGE_PROPAGATION : STAGE_EXTRACTION;
        measure(&s);
        plant_all(&s);
        if (fake == 0) /* too little */
            plant(&s, STAGES_REST, 0, 1, -19);
        if (fake == 1) /* the subject counts there */
            curve(&s, STAGES_SUBJECT, 0)[1] = -30;
        if (fake == 2) /* after the subject */
            plant(&s, STAGES_REST, 0, 5, -50);
        if (fake == 3) /* the subject counts in a window before: log(0.7) is more than half of log(0.5) */
            curve(&s, STAGES_SUBJECT, 0)[0] = -30;
        if (fake == 4) /* the rest counts after the subject */
            curve(&s, STAGES_REST, 0)[5] = -40;
        if (fake == 5) /* one set of other tokens counts as much, somewhere */
            s.random_deepest[2] = -61;
        if (fake == 6) /* half as much, in log p */
            s.random_deepest[2] = -38;
        if (fake == 7) /* too few sets */
            s.random_deepest[STAGES_LEAST_KEY_DRAWS - 1] = NAN;
        stages_judge_one(&s, NULL, one);
        for (int i = STAGE_PROPAGATION; i < N_STAGES; i++)
            if ((one[i].finding == STAGE_FOUND) != (i != falls))
                fail_msg("fake %d: %s is %s", fake, stage_name(i), stage_finding_name(one[i].finding));
        assert_int_equal(one[STAGE_EXTRACTION].finding == STAGE_NOT_MEASURED, fake == 7);
        stages_release(&s);
    }
}

/* A subject that hardly counts is neither extracted nor what the rest comes before. */
static void without_extraction_nothing_comes_before_it(void **state)
{
    struct stages s;
    struct stage one[N_STAGES];
    (void)state;
    measure(&s);
    plant_all(&s);
    plant(&s, STAGES_SUBJECT, 0, 4, -19);
    stages_judge_one(&s, NULL, one);
    assert_int_equal(one[STAGE_PROPAGATION].finding, STAGE_NOT_FOUND);
    assert_string_equal(one[STAGE_PROPAGATION].reason, "not before the subject counts");
    assert_int_equal(one[STAGE_EXTRACTION].finding, STAGE_NOT_FOUND);
    stages_release(&s);
}

static void subsets_are_averaged_alone(void **state)
{
    struct stages s;
    struct stages_summary a;
    struct err err = { 0 };
    static const size_t two[] = { 1, 4 }, one[] = { 2 };
    (void)state;
    measure(&s);
    must(stages_summarise(&a, &s, two, 2, subjects, SEED, &err), &err);
    assert_int_equal(a.n_facts, 2);
    for (size_t l = 0; l < s.n_layers; l++)
        assert_same(a.curves[STAGES_REST].mean[l], (curve(&s, STAGES_REST, 1)[l] + curve(&s, STAGES_REST, 4)[l]) / 2,
                    1e-9, "mean");
    stages_summary_release(&a);
    must(stages_summarise(&a, &s, one, 1, subjects, SEED, &err), &err);
    for (int i = 0; i < N_STAGES; i++) /* one subject has no band */
        assert_int_not_equal(a.stage[i].finding, STAGE_FOUND);
    stages_summary_release(&a);
    assert_int_equal(stages_summarise(&a, &s, NULL, 0, subjects, SEED, &err), ERR_ARG);
    stages_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_change_nothing),
        cmocka_unit_test(blocked_curves_are_the_knockouts),
        cmocka_unit_test(a_subject_of_token_0_alone_is_not_measured),
        cmocka_unit_test(random_keys_are_tokens_of_the_rest),
        cmocka_unit_test(random_sets_are_distinct_and_all_there_are),
        cmocka_unit_test(without_attributes_only_the_rank_is_known),
        cmocka_unit_test(a_prompt_without_subject_is_refused),
        cmocka_unit_test(random_subjects_change_the_subject_alone),
        cmocka_unit_test(planted_stages_are_found),
        cmocka_unit_test(planted_fakes_are_not_found),
        cmocka_unit_test(noise_between_subjects_is_not_found),
        cmocka_unit_test(a_random_subject_that_is_as_good_spoils_enrichment),
        cmocka_unit_test(planted_fakes_of_one_fact_are_not_found),
        cmocka_unit_test(without_extraction_nothing_comes_before_it),
        cmocka_unit_test(subsets_are_averaged_alone),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
