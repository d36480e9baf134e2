/* strata dump: the sites of every prompt to HDF5, one file or a folder of shards. */
#include "analyses/cli/fact_options.h"
#include "analyses/cli/input.h"
#include "analyses/cli/output.h"
#include "analyses/cli/progress_bar.h"
#include "analyses/dump_job.h"
#include "core/base/file.h"
#include "core/base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

static const char *sites_text, *positions_text = "all";
static int dtype;
static size_t shard_mib = 2048, flush_seconds = 5;
static bool plan_only;
static struct fact_options given;

static const char *const dtype_names[] = { "f32", "f16", "bf16", "f64", NULL };

static const struct option options[] = {
    { .name = "sites",
      .kind = OPTION_TEXT,
      .value = &sites_text,
      .argument = "GLOB,...",
      .help = "what to store: names, globs, resid_post, z:3-5, L3H7; `strata sites` lists them" },
    { .name = "positions",
      .kind = OPTION_TEXT,
      .value = &positions_text,
      .argument = "WHICH",
      .help = "rows to store: all (default), last (in a masked prompt: the mask), subject, subject-first, "
              "subject-last, non-subject, 0,3-5" },
    { .name = "dtype",
      .kind = OPTION_CHOICE,
      .value = &dtype,
      .choices = dtype_names,
      .help = "of the stored numbers (f32); a value that overflows it is an error" },
    { .name = "shard-size",
      .kind = OPTION_SIZE,
      .value = &shard_mib,
      .argument = "MIB",
      .least = 1,
      .most = (size_t)1 << 30,
      .help = "of a folder: most MiB of site data a shard (2048)" },
    { .name = "flush",
      .kind = OPTION_SIZE,
      .value = &flush_seconds,
      .argument = "SECONDS",
      .most = 86400,
      .help = "between commits to disk (5); 0: after every batch" },
    { .name = "plan", .kind = OPTION_FLAG, .value = &plan_only, .help = "print sizes and stop; with --json as JSON" },
    EDIT_OPTIONS(given),
    OPTIONS_END,
};

/* --- passes --- */

int dump_pass_open(struct dump_job *job, size_t first, struct err *err)
{
    int rc = input_open(job->cli, &job->facts, err);
    rc = rc ? rc
            : batcher_open(&job->batcher, job->session.model, job->facts, job->cli->specials, job->cli->limit,
                           runtime_batch_rows(), err);
    if (!rc && job->at.kind != POSITIONS_LAST)
        batcher_allow_no_mask(job->batcher);
    return rc ? rc : batcher_skip(job->batcher, first, err);
}

int dump_pass_next(struct dump_job *job, struct batch **batch, const unsigned char **keep, struct err *err)
{
    int got = batcher_next(job->batcher, batch, err);
    *keep = NULL;
    if (got <= 0 || job->at.kind == POSITIONS_ALL)
        return got;
    const struct batch *b = *batch;
    if (!mem_grow(&job->keep, &job->keep_capacity, b->n_rows, 1))
        return err_nomem(err, "the rows of a batch");
    for (size_t i = 0; i < b->n; i++) {
        const struct prepared *p = &b->items[i];
        int rc = positions_resolve(&job->at, &b->prompts[i], job->keep + b->row_offset[i], NULL, err);
        if (rc)
            return err_prefix(err, "%s: prompt %zu (%.100s): ", input_name(job->cli), b->first_prompt + i, p->id);
    }
    *keep = job->keep;
    return got;
}

void dump_pass_close(struct dump_job *job)
{
    if (job->batcher)
        job->n_dropped = batcher_dropped(job->batcher);
    batcher_close(job->batcher);
    facts_close(job->facts);
    job->batcher = NULL;
    job->facts = NULL;
}

/* --- survey --- */

static void add_counts(struct dump_counts *to, const struct dump_counts *more)
{
    to->prompts += more->prompts;
    to->tokens += more->tokens;
    to->rows += more->rows;
    to->edges += more->edges;
}

/* Shards end where batches end, so that a run that starts at any shard makes the same batches. */
static int add_to_shards(struct dump_job *job, const struct dump_counts *more, struct err *err)
{
    struct dump_shard *last = job->n_shards ? &job->shards[job->n_shards - 1] : NULL;
    struct dump_counts together = last ? last->counts : (struct dump_counts){ 0 };
    add_counts(&together, more);
    if (last && dump_bytes(&job->plan, &together) <= job->shard_bytes) {
        last->counts = together;
        return 0;
    }
    if (!mem_grow(&job->shards, &job->shards_capacity, job->n_shards + 1, sizeof *job->shards))
        return err_nomem(err, "shards");
    job->shards[job->n_shards++] = (struct dump_shard){ .counts = *more, .first_prompt = job->counts.prompts };
    return 0;
}

static int survey_batch(struct dump_job *job, const struct batch *batch, const unsigned char *keep, struct err *err)
{
    struct dump_counts more = { 0 };
    dump_count(&job->plan, batch, keep, &more);
    int rc = add_to_shards(job, &more, err);
    add_counts(&job->counts, &more);
    if (batch->n_rows > job->most_rows)
        job->most_rows = batch->n_rows;
    for (size_t i = 0; i < batch->n; i++) {
        const struct prepared *p = &batch->items[i];
        if (p->tokens.n > job->most_tokens)
            job->most_tokens = p->tokens.n;
        job->text_bytes +=
            strlen(p->id) + strlen(p->text) + strlen(p->answer) + strlen(p->subject) + strlen(p->relation);
    }
    return rc;
}

int dump_survey(struct dump_job *job, struct dump_writer *index, struct err *err)
{
    struct batch *batch;
    const unsigned char *keep;
    int rc = dump_pass_open(job, 0, err);
    while (!rc && (rc = dump_pass_next(job, &batch, &keep, err)) > 0) {
        rc = survey_batch(job, batch, keep, err);
        if (!rc && index)
            rc = dump_writer_add(index, batch, keep, err);
        if (!rc && cli_interrupted())
            rc = err_set(err, ERR_INTERRUPTED, "interrupted while reading the facts");
    }
    dump_pass_close(job);
    if (!rc && !job->counts.prompts)
        rc = err_set(err, ERR_FORMAT, "%s: holds no prompts", input_name(job->cli));
    return rc;
}

/* --- the plan --- */

uint64_t dump_bytes_on_disk(const char *path)
{
    struct stat st;
    struct strbuf partial = STRBUF_INIT;
    strbuf_addf(&partial, "%s.partial", path);
    bool there = !stat(path, &st) || !stat(strbuf_text(&partial), &st);
    strbuf_release(&partial);
    return there ? (uint64_t)st.st_blocks * 512 : 0;
}

/* Bytes free for us on the file system where the output will be. */
static bool disk_free(const char *output, uint64_t *bytes)
{
    struct statvfs fs;
    struct strbuf folder = STRBUF_INIT;
    const char *slash = strrchr(output, '/');
    if (slash)
        strbuf_add(&folder, output, (size_t)(slash - output) + 1);
    else
        strbuf_adds(&folder, ".");
    bool known = !statvfs(strbuf_text(&folder), &fs);
    /* A folder that is not there yet: where it will be made. */
    if (!known && folder.len > 1) {
        folder.data[--folder.len] = '\0';
        known = disk_free(strbuf_text(&folder), bytes);
    } else if (known)
        *bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    strbuf_release(&folder);
    return known;
}

static void size_text(double bytes, char text[32])
{
    const char *const units[] = { "bytes", "KB", "MB", "GB", "TB" };
    int u = 0;
    for (; u < 4 && bytes >= 1000; u++)
        bytes /= 1000;
    snprintf(text, 32, u ? "%.3g %s" : "%.0f %s", bytes, units[u]);
}

/* Texts take a reference of 16 bytes and a heap entry of about 24 beside themselves. */
static uint64_t bytes_in_all(const struct dump_job *job)
{
    const struct dump_counts *c = &job->counts;
    return dump_bytes(&job->plan, c) + c->rows * 8 + c->tokens * 60 + c->prompts * 250 + job->text_bytes + (1 << 16);
}

static uint64_t peak_memory(const struct dump_job *job)
{
    return job->session.model->weight_bytes + WRITE_QUEUE_BYTES +
           runtime_memory(job->session.model, job->cli->precision, job->cli->threads, job->most_rows, job->most_tokens,
                          &job->sites);
}

static void plan_json(const struct dump_job *job, bool is_free_known, uint64_t free_bytes, struct strbuf *out)
{
    const struct dump_counts *c = &job->counts;
    struct site_ref ref;
    char name[SITE_NAME_MAX];
    const char *between = "";
    strbuf_adds(out, "{\"sites\": [");
    for (size_t cursor = 0; site_set_next(&job->sites, &cursor, &ref); between = ", ")
        strbuf_addf(out, "%s\"%s\"", between, site_name(ref, name));
    strbuf_addf(out, "], \"dtype\": \"%s\", \"positions\": ", dtype_names[dtype]);
    strbuf_add_json(out, positions_text, strlen(positions_text));
    strbuf_addf(out, ", \"prompts\": %" PRIu64 ", \"tokens\": %" PRIu64 ", \"rows\": %" PRIu64, c->prompts, c->tokens,
                c->rows);
    strbuf_addf(out, ", \"site_bytes\": %" PRIu64 ", \"disk_bytes\": %" PRIu64 ", \"memory_bytes\": %" PRIu64,
                dump_bytes(&job->plan, c), bytes_in_all(job), peak_memory(job));
    strbuf_addf(out, ", \"shards\": %zu, \"disk_free\": ", job->n_shards);
    if (is_free_known)
        strbuf_addf(out, "%" PRIu64 "}\n", free_bytes);
    else
        strbuf_adds(out, "null}\n");
}

static void plan_text(const struct dump_job *job, bool is_free_known, uint64_t free_bytes, struct strbuf *out)
{
    const struct dump_counts *c = &job->counts;
    char disk[32], memory[32], available[32];
    size_text((double)bytes_in_all(job), disk);
    size_text((double)peak_memory(job), memory);
    size_text((double)free_bytes, available);
    strbuf_addf(out, "plan: %zu sites, %" PRIu64 " prompts, %" PRIu64 " tokens, %" PRIu64 " rows, %s",
                site_set_count(&job->sites), c->prompts, c->tokens, c->rows, dtype_names[dtype]);
    if (job->n_shards > 1)
        strbuf_addf(out, ", %zu shards", job->n_shards);
    strbuf_addf(out, "; %s on disk (%s free), %s of memory", disk, is_free_known ? available : "unknown", memory);
}

int dump_check_room(const struct dump_job *job, uint64_t written, struct err *err)
{
    uint64_t free_bytes = 0, need = bytes_in_all(job);
    bool known = disk_free(job->cli->output, &free_bytes);
    struct strbuf text = STRBUF_INIT;
    int rc = 0;
    if (job->cli->json)
        plan_json(job, known, free_bytes, &text);
    else
        plan_text(job, known, free_bytes, &text);
    if (plan_only) {
        if (!job->cli->json)
            strbuf_addc(&text, '\n');
        rc = cli_print(&text, err);
    } else {
        cli_note(job->cli, "%s", strbuf_text(&text));
        char needed[32], available[32];
        need = need > written ? need - written : 0;
        size_text((double)need, needed);
        size_text((double)free_bytes, available);
        if (known && need > free_bytes)
            rc = err_set(err, ERR_IO,
                         "%s: needs %s, the disk has %s free: choose fewer --sites or --positions, --dtype f16, or "
                         "another disk",
                         job->cli->output, needed, available);
    }
    strbuf_release(&text);
    return rc;
}

/* --- running --- */

static int first_pass(struct dump_job *job, struct dump_writer *w, size_t first, size_t n, struct err *err)
{
    struct batch *batch;
    const unsigned char *keep;
    int rc = dump_pass_open(job, first, err);
    while (!rc && (rc = dump_pass_next(job, &batch, &keep, err)) > 0) {
        if (batch->first_prompt >= first + n) {
            rc = 0;
            break;
        }
        rc = dump_writer_add(w, batch, keep, err);
    }
    dump_pass_close(job);
    return rc;
}

static int run_batch(struct dump_job *job, struct dump_writer *w, const struct batch *batch, const unsigned char *keep,
                     struct err *err)
{
    const struct forward forward = { .prompts = batch->prompts,
                                     .n_prompts = batch->n,
                                     .reads = &job->sites,
                                     .edits = job->edits.n ? &job->edits : NULL,
                                     .sink = dump_writer_sink(w),
                                     .final_rows = keep };
    int rc = dump_writer_begin(w, batch, keep, err);
    rc = rc ? rc : runtime_forward(job->session.runtime, &forward, err);
    return rc ? rc : dump_writer_end(w, err);
}

static int second_pass(struct dump_job *job, struct dump_writer *w, size_t first, size_t n, struct err *err)
{
    struct batch *batch;
    const unsigned char *keep;
    int rc = dump_pass_open(job, first + dump_writer_done(w), err);
    while (!rc && (rc = dump_pass_next(job, &batch, &keep, err)) > 0) {
        if (batch->first_prompt >= first + n) {
            rc = 0;
            break;
        }
        rc = run_batch(job, w, batch, keep, err);
        if (rc)
            break;
        job->n_done += batch->n;
        if (progress_step(job->progress, job->n_done, job->counts.prompts) && job->n_done < job->counts.prompts)
            rc = err_set(err, ERR_INTERRUPTED, "interrupted");
    }
    dump_pass_close(job);
    return rc;
}

/* After a full disk, say: what can be done about it. */
static void hint_at_partial(const char *path, struct err *err)
{
    struct strbuf partial = STRBUF_INIT;
    strbuf_addf(&partial, "%s.partial", path);
    if (!strbuf_failed(&partial) && file_exists(strbuf_text(&partial))) {
        struct err first = *err;
        err_set(err, ERR_IO, "%.900s: what was flushed is whole: make room and go on with --resume", first.msg);
    }
    strbuf_release(&partial);
}

int dump_run_file(struct dump_job *job, const char *path, size_t first, size_t n, struct err *err)
{
    struct dump_writer *w;
    job->plan.first_prompt = first;
    int rc = dump_writer_open(&w, path, &job->plan, job->cli->resume, err);
    if (rc)
        return rc;
    rc = first_pass(job, w, first, n, err);
    rc = rc ? rc : dump_writer_start(w, err);
    if (!rc) {
        size_t done = dump_writer_done(w);
        job->n_done += done;
        if (done) {
            progress_bar_skip(job->progress, job->n_done);
            cli_note(job->cli, "%s: %zu of %zu prompts are there already", path, done, n);
        }
        rc = done < n ? second_pass(job, w, first, n, err) : 0;
        rc = cli_stopped_at(rc, path, job->n_done - first, n, err);
    }
    rc = rc ? rc : dump_writer_finish(w, err);
    bool started = job->n_done > 0;
    dump_writer_close(w);
    if (rc == ERR_IO && started)
        hint_at_partial(path, err);
    return rc;
}

static int run_one_file(struct dump_job *job, struct err *err)
{
    const char *path = job->cli->output;
    int rc = dump_survey(job, NULL, err);
    rc = rc ? rc : dump_check_room(job, dump_bytes_on_disk(path), err);
    return rc || plan_only ? rc : dump_run_file(job, path, 0, (size_t)job->counts.prompts, err);
}

/* --- the command --- */

static bool is_folder_output(const char *path)
{
    size_t n = strlen(path);
    return (n && path[n - 1] == '/') || file_is_folder(path);
}

static int check(struct dump_job *job, struct err *err)
{
    struct cli *cli = job->cli;
    if (!cli->input)
        return cli_usage(cli, err, "give the facts with -i FILE");
    if (!cli->output)
        return cli_usage(cli, err, "give the output with -o OUT.h5, or a folder with -o DIR/");
    if (!sites_text)
        return cli_usage(cli, err, "give the sites with --sites, for example --sites resid_post,z");
    if (cli->json && !plan_only)
        return cli_usage(cli, err, "--json goes with --plan");
    const char *extension = file_extension(cli->output);
    if (!is_folder_output(cli->output) && strcmp(extension, "h5") && strcmp(extension, "hdf5"))
        return cli_usage(cli, err, "-o %.200s: a dump is an .h5 file or, with a / at the end, a folder", cli->output);
    if (positions_parse(positions_text, strlen(positions_text), &job->at, err))
        return cli_usage(cli, err, "--positions: %s", err->msg);
    return 0;
}

static int open_job(struct dump_job *job, struct err *err)
{
    struct cli *cli = job->cli;
    int rc = input_keep(cli, err);
    rc = rc ? rc : session_open(&job->session, cli, err);
    if (rc)
        return rc;
    const struct model_config *config = &job->session.model->config;
    rc = site_set_init(&job->sites, config, err);
    rc = rc ? rc : site_set_add(&job->sites, sites_text, err);
    rc = rc ? rc : fact_options_edits(&given, config, &job->edits, err);
    if (rc)
        return rc;
    edits_describe(&job->edits, &job->edits_text);
    enum store_type type = STORE_F32;
    store_type_parse(dtype_names[dtype], &type);
    job->provenance = (struct provenance){ .command = cli->command_line,
                                           .model = job->session.model,
                                           .specials = cli->specials,
                                           .precision = cli->precision,
                                           .dtype = type,
                                           .threads = cli->threads,
                                           .seed = cli->seed,
                                           .edits = strbuf_text(&job->edits_text) };
    job->plan = (struct dump_plan){ .provenance = &job->provenance,
                                    .sites = &job->sites,
                                    .positions = positions_text,
                                    .pool = job->session.pool,
                                    .flush_seconds = (double)flush_seconds };
    return strbuf_failed(&job->edits_text) ? err_nomem(err, "edits") : 0;
}

static void close_job(struct dump_job *job)
{
    for (size_t i = 0; i < job->n_shards; i++)
        free(job->shards[i].name);
    free(job->shards);
    free(job->keep);
    site_set_release(&job->sites);
    positions_release(&job->at);
    edit_list_release(&job->edits);
    strbuf_release(&job->edits_text);
    session_close(&job->session);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void report(const struct dump_job *job, double seconds)
{
    char size[32];
    size_text((double)dump_bytes(&job->plan, &job->counts), size);
    cli_note(job->cli, "%s: %" PRIu64 " prompts, %" PRIu64 " rows of %zu sites, %s, in %.1f s", job->cli->output,
             job->counts.prompts, job->counts.rows, site_set_count(&job->sites), size, seconds);
    cli_note_dropped(job->cli, job->n_dropped);
}

static int run(struct cli *cli, struct err *err)
{
    struct dump_job job = { .cli = cli, .shard_bytes = UINT64_MAX };
    struct progress_bar bar;
    double start = now();
    int rc = check(&job, err);
    bool folder = !rc && is_folder_output(cli->output);
    if (folder)
        job.shard_bytes = (uint64_t)shard_mib << 20;
    /* Before the model is loaded. */
    if (!rc && !plan_only)
        rc = output_claim(cli, folder, err);
    if (!rc && !folder && !plan_only)
        rc = stream_look(cli->output, cli->resume, err);
    rc = rc ? rc : open_job(&job, err);
    if (!rc) {
        job.progress = progress_bar_start(&bar, cli, "dump", "prompts");
        rc = folder ? dump_run_folder(&job, plan_only, err) : run_one_file(&job, err);
        progress_bar_end(&bar);
    }
    if (!rc && !plan_only)
        report(&job, now() - start);
    close_job(&job);
    return rc;
}

const struct command command_dump = {
    .name = "dump",
    .arguments = "[-m MODEL] -i FACTS -o OUT.h5|DIR/ --sites GLOB,...",
    .summary = "the sites of every prompt to HDF5",
    .details =
        "Runs every prompt and stores the chosen sites, row by row, without padding: /activations/NAME has one row\n"
        "for each entry of /rows/prompt and /rows/position (format strata-dump, version 1; h5py and h5dump read it).\n"
        "\n"
        "  strata dump -i facts.jsonl -o facts.h5 --sites resid_post,z\n"
        "  strata dump -i facts.jsonl -o facts.h5 --sites 'blocks.*.hook_mlp_out' --positions last --dtype f16\n"
        "  strata dump -i facts.jsonl -o big/ --sites 'blocks.*' --shard-size 512\n"
        "  strata dump -i facts.jsonl -o facts.h5 --sites '*' --plan --json\n"
        "\n"
        "The plan (rows, bytes on disk, memory) comes first; a disk without the room is an error before anything "
        "runs.\n"
        "The file is OUT.h5.partial until it is complete. Interrupted or killed at any moment, it opens with any HDF5\n"
        "reader and holds what was flushed; the same command with --resume continues to the same bytes as a run that\n"
        "was never interrupted. hook_pattern and hook_attn_scores are stored whole, [n_heads, T, T] of every prompt,\n"
        "whatever --positions says. L3H7 stores that head of hook_z only: [rows, chosen heads, d_head], attribute "
        "heads.\n"
        "\n"
        "A folder gets shard-00000.h5, ..., each a dump of its own, manifest.json, and index.h5 with all of them as\n"
        "one (virtual datasets).\n",
    .common = COMMON_MODEL | COMMON_INPUT | COMMON_OUTPUT | COMMON_JSON | COMMON_RESUME,
    .options = options,
    .run = run,
};
