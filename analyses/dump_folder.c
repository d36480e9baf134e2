/* strata dump into a folder: bounded shards, a manifest, an index over them. */
#include "analyses/dump_job.h"
#include "core/base/file.h"
#include "core/base/mem.h"
#include "core/store/dump_manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int name_shards(struct dump_job *job, struct err *err)
{
    for (size_t i = 0; i < job->n_shards; i++) {
        char name[40];
        snprintf(name, sizeof name, "shard-%05zu.h5", i);
        job->shards[i].name = mem_strdup(name);
        if (!job->shards[i].name)
            return err_nomem(err, "names of shards");
    }
    return 0;
}

static uint64_t written_so_far(const struct dump_job *job)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < job->n_shards; i++) {
        char *path = file_join(job->cli->output, job->shards[i].name);
        bytes += path ? dump_bytes_on_disk(path) : 0;
        free(path);
    }
    return bytes;
}

static int write_manifest(const struct dump_job *job, size_t n_finished, bool complete, struct err *err)
{
    char *path = file_join(job->cli->output, "manifest.json");
    int rc = path ? dump_manifest_write(path, &job->plan, &job->counts, job->shards, n_finished, complete, err)
                  : err_nomem(err, "a path");
    free(path);
    return rc;
}

static int run_shard(struct dump_job *job, size_t i, struct err *err)
{
    struct dump_shard *shard = &job->shards[i];
    char *path = file_join(job->cli->output, shard->name);
    if (!path)
        return err_nomem(err, "a path");
    int rc = dump_run_file(job, path, (size_t)shard->first_prompt, (size_t)shard->counts.prompts, err);
    struct stat st;
    if (!rc && stat(path, &st))
        rc = err_errno(err, "%s: cannot look at it", path);
    if (!rc)
        shard->file_bytes = (uint64_t)st.st_size;
    free(path);
    return rc ? rc : write_manifest(job, i + 1, false, err);
}

static int run_shards(struct dump_job *job, struct dump_writer *index, struct err *err)
{
    int rc = write_manifest(job, 0, false, err);
    for (size_t i = 0; !rc && i < job->n_shards; i++)
        rc = run_shard(job, i, err);
    job->plan.first_prompt = 0;
    rc = rc ? rc : dump_writer_index(index, job->shards, job->n_shards, err);
    return rc ? rc : write_manifest(job, job->n_shards, true, err);
}

/* What an earlier run left is only touched with --resume. */
static int look(const struct dump_job *job, const char *index_path, struct err *err)
{
    char *manifest = file_join(job->cli->output, "manifest.json");
    int rc = manifest ? stream_look(index_path, job->cli->resume, err) : err_nomem(err, "a path");
    if (!rc && !job->cli->resume && file_exists(manifest))
        rc = err_set(err, ERR_ARG, "%s: an interrupted run left shards: continue it with --resume, or remove them",
                     job->cli->output);
    free(manifest);
    return rc;
}

static int run_into(struct dump_job *job, const char *index_path, struct err *err)
{
    struct dump_writer *index;
    int rc = look(job, index_path, err);
    rc = rc ? rc : file_make_folder(job->cli->output, err);
    rc = rc ? rc : dump_writer_open(&index, index_path, &job->plan, job->cli->resume, err);
    if (rc)
        return rc;
    rc = dump_survey(job, index, err);
    rc = rc ? rc : name_shards(job, err);
    rc = rc ? rc : dump_check_room(job, written_so_far(job), err);
    rc = rc ? rc : run_shards(job, index, err);
    dump_writer_close(index);
    return rc;
}

int dump_run_folder(struct dump_job *job, bool plan_only, struct err *err)
{
    if (plan_only) {
        int rc = dump_survey(job, NULL, err);
        return rc ? rc : dump_check_room(job, 0, err);
    }
    char *index_path = file_join(job->cli->output, "index.h5");
    int rc = index_path ? run_into(job, index_path, err) : err_nomem(err, "a path");
    free(index_path);
    return rc;
}
