#include "core/runtime/replay.h"

#include "core/base/mem.h"
#include "core/runtime/internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    SLICE_ROWS = 1024,    /* active rows in any layer of a slice */
    SLICE_MASKS = 1 << 26 /* bytes of row masks of a slice */
};

struct replay {
    struct runtime *rt;
    const struct replay_plan *plan;
    struct site_set kept;        /* resid_pre, keys and values of every layer, and the plan's sources */
    struct collector base;       /* all rows of `kept` */
    struct collector base_reads; /* wanted rows of the reads */
    unsigned char *wanted;       /* [rows of the base runs] */
    size_t first_read_layer;     /* the first one that a read is of */
    size_t last_layer;           /* the last one that the reads need */
    size_t row_layers;
};

/* --- base runs --- */

struct both {
    struct sink sink; /* first */
    struct replay *replay;
};

static int take_both(struct sink *self, const struct site_view *v, struct err *err)
{
    struct replay *r = ((struct both *)(void *)self)->replay;
    int rc = 0;
    if (site_set_has(&r->kept, v->site, v->layer))
        rc = r->base.sink.take(&r->base.sink, v, err);
    if (!rc && site_set_has(r->plan->reads, v->site, v->layer))
        rc = r->base_reads.sink.take(&r->base_reads.sink, v, err);
    return rc;
}

static int add_all(struct site_set *to, const struct site_set *from)
{
    struct site_ref ref;
    for (size_t cursor = 0; from && site_set_next(from, &cursor, &ref);)
        site_set_add_one(to, ref);
    return 0;
}

static enum site key_site(const struct model_config *c)
{
    return c->position == POSITION_ROTARY ? SITE_ROT_K : SITE_K;
}

static int choose_kept(struct site_set *kept, const struct model_config *c, const struct site_set *sources,
                       struct err *err)
{
    int rc = site_set_init(kept, c, err);
    for (size_t l = 0; !rc && l < c->n_layers; l++) {
        site_set_add_one(kept, (struct site_ref){ SITE_RESID_PRE, l });
        site_set_add_one(kept, (struct site_ref){ key_site(c), l });
        site_set_add_one(kept, (struct site_ref){ SITE_V, l });
    }
    return rc ? rc : add_all(kept, sources);
}

static int mark_wanted(struct replay *r, struct err *err)
{
    const struct replay_plan *plan = r->plan;
    size_t n_rows = 0;
    for (size_t i = 0; i < plan->n_prompts; i++)
        if (!plan->prompts[i].n_tokens || !size_add(n_rows, plan->prompts[i].n_tokens, &n_rows))
            return err_set(err, ERR_ARG, "a prompt has no tokens");
    r->wanted = mem_zeroed(n_rows, 1);
    if (!r->wanted)
        return err_nomem(err, "the base runs");
    unsigned char *mask = r->wanted;
    for (size_t i = 0; i < plan->n_prompts; i++) {
        const struct prompt *p = &plan->prompts[i];
        int rc = positions_resolve(&plan->wanted, p, mask, NULL, err);
        if (rc)
            return err_prefix(err, "prompt %s: ", p->name ? p->name : "?");
        mask += p->n_tokens;
    }
    return 0;
}

/* Whether edits take values from sites that are otherwise computed for wanted rows only. */
static bool keeps_final_sites(const struct site_set *kept)
{
    struct site_ref ref;
    for (size_t cursor = 0; site_set_next(kept, &cursor, &ref);)
        if (!site_row(ref.site)->per_layer && ref.site > SITE_RESID_PRE)
            return true;
    return false;
}

static int run_base(struct replay *r, struct err *err)
{
    const struct replay_plan *plan = r->plan;
    struct site_set reads;
    struct both both = { .sink = { take_both }, .replay = r };
    int rc = site_set_init(&reads, r->kept.config, err);
    if (!rc) {
        add_all(&reads, &r->kept);
        add_all(&reads, plan->reads);
        struct forward f = {
            .prompts = plan->prompts,
            .n_prompts = plan->n_prompts,
            .reads = &reads,
            .prompt_edits = plan->edits,
            .sink = &both.sink,
            .final_rows = keeps_final_sites(&r->kept) ? NULL : r->wanted,
        };
        rc = runtime_forward(r->rt, &f, err);
    }
    site_set_release(&reads);
    return rc;
}

static int find_last_layer(struct replay *r, struct err *err)
{
    const struct model_config *c = r->kept.config;
    struct site_ref ref;
    size_t n = 0;
    r->first_read_layer = c->n_layers;
    for (size_t cursor = 0; site_set_next(r->plan->reads, &cursor, &ref); n++) {
        const struct site_row *row = site_row(ref.site);
        if (row->axes == AXES_EDGES)
            return err_set(err, ERR_UNSUPPORTED, "%s cannot be read in a replay: run the prompt with the edits instead",
                           row->name);
        size_t layer = row->per_layer ? ref.layer : ref.site < SITE_RESID_PRE ? 0 : c->n_layers - 1;
        r->first_read_layer = layer < r->first_read_layer ? layer : r->first_read_layer;
        r->last_layer = layer > r->last_layer ? layer : r->last_layer;
    }
    return n ? 0 : err_set(err, ERR_ARG, "a replay that reads nothing does nothing");
}

int replay_create(struct replay **out, struct runtime *rt, const struct replay_plan *plan, struct err *err)
{
    struct replay *r = mem_zeroed(1, sizeof *r);
    if (!r)
        return err_nomem(err, "a replay");
    r->rt = rt;
    r->plan = plan;
    int rc = choose_kept(&r->kept, &rt->model->config, plan->sources, err);
    rc = rc ? rc : find_last_layer(r, err);
    rc = rc ? rc : mark_wanted(r, err);
    rc = rc ? rc : collector_init(&r->base, &r->kept, rt->precision, err);
    rc = rc ? rc : collector_begin(&r->base, plan->prompts, plan->n_prompts, NULL, err);
    rc = rc ? rc : collector_init(&r->base_reads, plan->reads, rt->precision, err);
    rc = rc ? rc : collector_begin(&r->base_reads, plan->prompts, plan->n_prompts, r->wanted, err);
    rc = rc ? rc : run_base(r, err);
    if (rc)
        replay_free(r);
    else
        *out = r;
    return rc;
}

void replay_free(struct replay *r)
{
    if (!r)
        return;
    if (r->base.reads)
        collector_release(&r->base);
    if (r->base_reads.reads)
        collector_release(&r->base_reads);
    site_set_release(&r->kept);
    free(r->wanted);
    free(r);
}

const struct collector *replay_base_reads(const struct replay *r)
{
    return &r->base_reads;
}

const struct collector *replay_base(const struct replay *r)
{
    return &r->base;
}

size_t replay_row_layers(const struct replay *r)
{
    return r->row_layers;
}

size_t replay_memory(const struct model_config *config, enum precision precision, size_t n_rows,
                     const struct site_set *sources)
{
    size_t per_row = (config->d_model + 2 * config->n_kv_heads * config->d_head) * config->n_layers;
    struct site_ref ref;
    for (size_t cursor = 0; sources && site_set_next(sources, &cursor, &ref);)
        per_row += site_row_size(ref.site, config);
    return n_rows * per_row * real_bytes(precision);
}

/* --- what a variant's edits can change --- */

static size_t row_bytes(const struct replay *r, enum site site)
{
    return site_row_size(site, r->kept.config) * real_bytes(r->rt->precision);
}

/* Row of a base run at a kept site; NULL where it is not kept. */
static const char *base_row(const struct replay *r, enum site site, size_t layer, size_t run, size_t token)
{
    const char *rows = collector_rows(&r->base, site, layer);
    return rows ? rows + (r->base.first_row[run] + token) * row_bytes(r, site) : NULL;
}

/* A row that an edit sets to what it is anyway as long as nothing before it has changed. */
static bool leaves_row(const struct replay *r, const struct sequence *s, const struct row_edit *row, size_t layer,
                       size_t token)
{
    const struct edit *e = row->edit;
    if (e->op == EDIT_SCALE)
        return e->value == 1;
    if (e->op == EDIT_ADD && e->source == EDIT_FROM_NUMBER)
        return e->value == 0;
    if (e->op != EDIT_SET || e->source != EDIT_FROM_RUN || e->from_site != e->site)
        return false;
    size_t from = e->from_layer == EDIT_SAME_LAYER ? layer : e->from_layer;
    size_t run = e->run == EDIT_OWN_RUN ? s->run : e->run;
    if (from != layer)
        return false;
    if (run == s->run && row->from[token] == token)
        return true;
    const char *own = base_row(r, e->site, layer, s->run, token);
    const char *other = base_row(r, e->site, layer, run, row->from[token]);
    return site_row(e->site)->axes != AXES_EDGES && own && other && !memcmp(own, other, row_bytes(r, e->site));
}

/* Whether an edit of attention edges reaches any edge of this query that the mask lets through. */
static bool reaches_edge(const struct replay *r, const struct row_edit *row, size_t layer, size_t query,
                         size_t n_tokens)
{
    struct range visible = visible_keys(r->rt->model, layer, query, n_tokens);
    for (size_t key = visible.first; key < visible.last; key++)
        if (row->keys[key])
            return true;
    return false;
}

static bool changes_row(const struct replay *r, const struct sequence *s, const struct row_edit *row, size_t layer,
                        size_t token)
{
    if (!row->at[token] || leaves_row(r, s, row, layer, token))
        return false;
    return !row->keys || reaches_edge(r, row, layer, token, s->prompt->n_tokens);
}

/* One variant's part of a schedule: tokens are columns. */
struct plan_rows {
    size_t n_tokens;
    unsigned char *embed, *active; /* [n_tokens], [n_layers, n_tokens] */
};

/*
 * Marks in `entry` the rows that edits change in a layer by themselves; returns the first one whose keys and values
 * change with it, or n_tokens.
 */
static size_t mark_entries(const struct replay *r, const struct sequence *s, size_t layer, unsigned char *entry)
{
    size_t n = s->prompt->n_tokens, first = n, n_layers = r->kept.config->n_layers;
    for (size_t i = s->n_base_edits; i < s->n_edits; i++) {
        const struct row_edit *row = &s->resolved[i];
        const struct edit *e = row->edit;
        bool per_layer = site_row(e->site)->per_layer;
        /* What changes the final norm alone enters with the last layer, which is then computed again. */
        bool here = per_layer ? layer >= e->first_layer && layer <= e->last_layer
                              : e->site > SITE_RESID_PRE && layer + 1 == n_layers;
        for (size_t t = 0; here && t < n; t++) {
            if (!changes_row(r, s, row, layer, t))
                continue;
            entry[t] = 1;
            if (per_layer && site_feeds_keys(e->site) && t < first)
                first = t;
        }
    }
    return first;
}

static void mark_embedding(const struct replay *r, const struct sequence *s, unsigned char *embed)
{
    for (size_t i = s->n_base_edits; i < s->n_edits; i++) {
        const struct row_edit *row = &s->resolved[i];
        for (size_t t = 0; row->edit->site < SITE_RESID_PRE && t < s->prompt->n_tokens; t++)
            embed[t] |= changes_row(r, s, row, 0, t);
    }
}

static size_t first_marked(const unsigned char *mask, size_t n)
{
    const unsigned char *at = memchr(mask, 1, n);
    return at ? (size_t)(at - mask) : n;
}

/* The first row whose next layer differs. */
static size_t first_changed(const unsigned char *active, size_t n, bool both_ways)
{
    size_t first = first_marked(active, n);
    return both_ways && first < n ? 0 : first;
}

/*
 * A row that changes in one layer changes every later query of the next: from its first change on, a variant needs
 * the rows first .. last wanted; in an encoder, every row. In the last layer, rows that are not wanted matter through
 * their keys and values only.
 */
static void schedule_variant(const struct replay *r, const struct sequence *s, struct plan_rows *p)
{
    size_t n = p->n_tokens, end = n;
    const unsigned char *wanted = r->wanted + r->base.first_row[s->run];
    bool both_ways = r->kept.config->bidirectional;
    while (end && !wanted[end - 1] && !both_ways)
        end--;
    memset(p->embed, 0, n);
    memset(p->active, 0, n * r->kept.config->n_layers);
    mark_embedding(r, s, p->embed);
    memset(p->embed + end, 0, n - end);
    size_t changed = first_changed(p->embed, end, both_ways);
    for (size_t l = 0; l <= r->last_layer; l++) {
        unsigned char *active = p->active + l * n;
        size_t keys = mark_entries(r, s, l, active);
        keys = keys < changed ? keys : changed;
        if (both_ways && keys < n)
            keys = 0;
        for (size_t t = 0; t < n; t++) {
            if (t >= keys)
                active[t] = 1;
            if (t >= end || (l == r->last_layer && keys >= end && !wanted[t]))
                active[t] = 0;
        }
        changed = first_changed(active, end, both_ways);
    }
    if (s->split) {
        memset(p->embed, 0, n);
        memset(p->active, 0, s->split * n);
    }
}

/* --- slices --- */

struct slice {
    struct sequence *sequences;
    size_t n, capacity;
    size_t n_rows, longest, first_view_row;
    size_t *rows_in_layer; /* [n_layers] */
    struct schedule schedule;
    unsigned char *masks; /* [n_layers + 2, n_rows] behind the schedule */
    struct shape shape;
};

static size_t count(const unsigned char *mask, size_t n)
{
    size_t marked = 0;
    for (size_t i = 0; i < n; i++)
        marked += mask[i];
    return marked;
}

/* Whether the variant still fits; counts it if so. The first one always does. */
static bool fits(struct slice *slice, const struct plan_rows *p, size_t n_layers)
{
    bool room = (slice->n_rows + p->n_tokens) * (n_layers + 2) <= SLICE_MASKS;
    for (size_t l = 0; l < n_layers; l++)
        room = room && slice->rows_in_layer[l] + count(p->active + l * p->n_tokens, p->n_tokens) <= SLICE_ROWS;
    if (slice->n && !room)
        return false;
    for (size_t l = 0; l < n_layers; l++)
        slice->rows_in_layer[l] += count(p->active + l * p->n_tokens, p->n_tokens);
    return true;
}

/* Takes variants from *next on until the slice is full; their edits are resolved. */
static int fill_slice(struct replay *r, struct pass *pass, const struct variant *variants, size_t n_variants,
                      size_t *next, struct slice *slice, struct plan_rows *scratch, struct err *err)
{
    size_t n_layers = r->kept.config->n_layers;
    for (; *next < n_variants; ++*next) {
        const struct variant *v = &variants[*next];
        if (!mem_grow(&slice->sequences, &slice->capacity, slice->n + 1, sizeof *slice->sequences))
            return err_nomem(err, "a slice of variants");
        struct sequence *s = &slice->sequences[slice->n];
        *s = (struct sequence){ .prompt = &r->plan->prompts[v->run], .run = v->run, .edits = v->edits };
        s->base_edits = r->plan->edits ? r->plan->edits[v->run] : NULL;
        s->first_row = slice->n_rows;
        int rc = pass_resolve_sequence(pass, s, err);
        if (rc) {
            free(s->resolved);
            return rc;
        }
        replay_find_parent(slice->sequences, slice->n, r->first_read_layer, s);
        scratch->n_tokens = s->prompt->n_tokens;
        schedule_variant(r, s, scratch);
        if (!fits(slice, scratch, n_layers)) {
            free(s->resolved);
            return 0;
        }
        slice->n++;
        slice->n_rows += s->prompt->n_tokens;
        slice->longest = s->prompt->n_tokens > slice->longest ? s->prompt->n_tokens : slice->longest;
        pass_shape_edits(&slice->shape, s->edits);
        pass_shape_edits(&slice->shape, s->base_edits);
    }
    return 0;
}

/* The schedule of the whole slice, from those of its variants. */
static int make_schedule(struct replay *r, struct slice *slice, struct plan_rows *scratch, struct err *err)
{
    size_t n_layers = r->kept.config->n_layers, n = slice->n_rows;
    slice->masks = mem_zeroed(n_layers + 2, n);
    if (!slice->masks)
        return err_nomem(err, "a slice of variants");
    unsigned char *wanted = slice->masks + (n_layers + 1) * n;
    slice->schedule = (struct schedule){
        .n_rows = n,
        .embed = slice->masks,
        .active = slice->masks + n,
        .wanted = wanted,
        .base = &r->base,
    };
    for (size_t i = 0; i < slice->n; i++) {
        const struct sequence *s = &slice->sequences[i];
        size_t tokens = scratch->n_tokens = s->prompt->n_tokens;
        schedule_variant(r, s, scratch);
        memcpy(slice->schedule.embed + s->first_row, scratch->embed, tokens);
        for (size_t l = 0; l < n_layers; l++)
            memcpy(slice->schedule.active + l * n + s->first_row, scratch->active + l * tokens, tokens);
        memcpy(wanted + s->first_row, r->wanted + r->base.first_row[s->run], tokens);
    }
    return 0;
}

/* Rows at which a site of the reads is computed in this slice. */
static const unsigned char *computed_rows(const struct replay *r, const struct slice *slice, struct site_ref ref)
{
    if (ref.site < SITE_RESID_PRE)
        return slice->schedule.embed;
    size_t layer = site_row(ref.site)->per_layer ? ref.layer : r->kept.config->n_layers - 1;
    return slice->schedule.active + layer * slice->n_rows;
}

/* Hands the sink the wanted rows that no edit of their variant reaches: the base run's. */
static int show_unchanged(const struct replay *r, const struct slice *slice, struct sink *sink, struct err *err)
{
    struct site_ref ref;
    int rc = 0;
    for (size_t cursor = 0; !rc && site_set_next(r->plan->reads, &cursor, &ref);) {
        const unsigned char *computed = computed_rows(r, slice, ref);
        const char *base = collector_rows(&r->base_reads, ref.site, ref.layer);
        struct site_view view = {
            .site = ref.site,
            .layer = ref.layer,
            .precision = r->rt->precision,
            .n_rows = 1,
            .row_size = site_row_size(ref.site, r->kept.config),
        };
        for (size_t i = 0; !rc && i < slice->n; i++) {
            const struct sequence *s = &slice->sequences[i];
            for (size_t t = 0; !rc && t < s->prompt->n_tokens; t++) {
                size_t row = s->first_row + t;
                if (!slice->schedule.wanted[row] || computed[row])
                    continue;
                view.first_row = slice->first_view_row + row;
                view.data = base + r->base_reads.kept[r->base.first_row[s->run] + t] * row_bytes(r, ref.site);
                rc = sink->take(sink, &view, err);
            }
        }
    }
    return rc;
}

/* The rows whose embedding is edited are there before the first layer. */
static void begin_rows(struct pass *p)
{
    p->n_rows = 0;
    for (size_t i = 0; i < p->n_sequences; i++) {
        struct sequence *s = &p->sequences[i];
        s->begin = p->n_rows;
        for (size_t t = 0; t < s->prompt->n_tokens; t++)
            if (p->schedule->embed[s->first_row + t]) {
                p->b.sequence[p->n_rows] = i;
                p->b.token[p->n_rows++] = t;
            }
        s->end = p->n_rows;
    }
}

static int run_slice(struct replay *r, struct pass *p, struct slice *slice, struct err *err)
{
    size_t n_layers = r->kept.config->n_layers, rows = count(slice->schedule.embed, slice->n_rows);
    for (size_t l = 0; l < n_layers; l++) {
        r->row_layers += slice->rows_in_layer[l];
        rows = slice->rows_in_layer[l] > rows ? slice->rows_in_layer[l] : rows;
    }
    int rc = show_unchanged(r, slice, p->sink, err);
    if (rc || !rows)
        return rc;
    slice->shape.rows = rows;
    slice->shape.final_rows = rows;
    slice->shape.longest = p->longest = slice->longest;
    slice->shape.replay = true;
    pass_shape_flags(&slice->shape, r->kept.config, r->plan->reads);
    if ((rc = pass_make_room(p, &slice->shape, err)))
        return rc;
    p->sequences = slice->sequences;
    p->n_sequences = slice->n;
    p->schedule = &slice->schedule;
    p->final_rows = slice->schedule.wanted;
    p->first_view_row = slice->first_view_row;
    pass_plan_reads(p);
    pass_mark_edits(p);
    begin_rows(p);
    return r->rt->precision == PRECISION_F64 ? forward_f64(p, err) : forward_f32(p, err);
}

static void empty_slice(struct slice *slice, size_t n_layers)
{
    for (size_t i = 0; i < slice->n; i++)
        free(slice->sequences[i].resolved);
    free(slice->masks);
    memset(slice->rows_in_layer, 0, n_layers * sizeof *slice->rows_in_layer);
    slice->masks = NULL;
    slice->first_view_row += slice->n_rows;
    slice->n = slice->n_rows = slice->longest = 0;
    slice->shape = (struct shape){ 0 };
}

static int next_slice(struct replay *r, const struct variant *variants, size_t n_variants, size_t *next,
                      struct slice *slice, struct plan_rows *scratch, struct sink *sink, struct err *err)
{
    struct pass p = {
        .rt = r->rt,
        .model = r->rt->model,
        .reads = r->plan->reads,
        .sink = sink,
        .source = &r->base,
        .source_prompts = r->plan->prompts,
    };
    int rc = fill_slice(r, &p, variants, n_variants, next, slice, scratch, err);
    rc = rc ? rc : make_schedule(r, slice, scratch, err);
    rc = rc ? rc : run_slice(r, &p, slice, err);
    empty_slice(slice, r->kept.config->n_layers);
    return rc;
}

static int check_variants(const struct replay *r, const struct variant *variants, size_t n, struct err *err)
{
    for (size_t i = 0; i < n; i++)
        if (variants[i].run >= r->plan->n_prompts)
            return err_set(err, ERR_ARG, "variant %zu is of run %zu, but there are %zu", i, variants[i].run,
                           r->plan->n_prompts);
    return 0;
}

int replay_run(struct replay *r, const struct variant *variants, size_t n_variants, struct sink *sink,
               struct progress *progress, struct err *err)
{
    size_t n_layers = r->kept.config->n_layers, longest = 0, size, next = 0;
    int rc = check_variants(r, variants, n_variants, err);
    for (size_t i = 0; i < r->plan->n_prompts; i++)
        longest = r->plan->prompts[i].n_tokens > longest ? r->plan->prompts[i].n_tokens : longest;
    if (rc || !size_mul(longest, n_layers + 1, &size))
        return rc ? rc : err_nomem(err, "a replay");
    struct slice slice = { .rows_in_layer = mem_zeroed(n_layers, sizeof(size_t)) };
    struct plan_rows scratch = { .embed = mem_array(size, 1) };
    if (slice.rows_in_layer && scratch.embed)
        scratch.active = scratch.embed + longest;
    else
        rc = err_nomem(err, "a replay");
    r->row_layers = 0;
    while (!rc && next < n_variants) {
        rc = next_slice(r, variants, n_variants, &next, &slice, &scratch, sink, err);
        if (!rc && progress_step(progress, next, n_variants))
            rc = err_set(err, ERR_INTERRUPTED, "interrupted after %zu of %zu variants", next, n_variants);
    }
    free(slice.sequences);
    free(slice.rows_in_layer);
    free(scratch.embed);
    return rc;
}

int replay_collect(struct replay *r, const struct variant *variants, size_t n_variants, struct collector *c,
                   struct progress *progress, struct err *err)
{
    size_t n_rows = 0;
    int rc = check_variants(r, variants, n_variants, err);
    for (size_t i = 0; !rc && i < n_variants; i++)
        if (!size_add(n_rows, r->plan->prompts[variants[i].run].n_tokens, &n_rows))
            rc = err_nomem(err, "a replay");
    if (rc)
        return rc;
    struct prompt *prompts = mem_array(n_variants, sizeof *prompts);
    unsigned char *keep = mem_array(n_rows, 1);
    if (!prompts || !keep)
        rc = err_nomem(err, "a replay");
    n_rows = 0;
    for (size_t i = 0; !rc && i < n_variants; i++) {
        prompts[i] = r->plan->prompts[variants[i].run];
        memcpy(keep + n_rows, r->wanted + r->base.first_row[variants[i].run], prompts[i].n_tokens);
        n_rows += prompts[i].n_tokens;
    }
    rc = rc ? rc : collector_begin(c, prompts, n_variants, keep, err);
    rc = rc ? rc : replay_run(r, variants, n_variants, &c->sink, progress, err);
    free(prompts);
    free(keep);
    return rc;
}
