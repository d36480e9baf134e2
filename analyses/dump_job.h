/* Shared by dump.c (the command, one file) and dump_folder.c (shards). */
#ifndef STRATA_ANALYSES_DUMP_JOB_H
#define STRATA_ANALYSES_DUMP_JOB_H

#include "analyses/cli/cli.h"
#include "core/base/progress.h"
#include "core/store/dump_file.h"

struct dump_job {
    struct cli *cli;
    struct session session;
    struct site_set sites;
    struct positions at;
    struct edit_list edits;
    struct strbuf edits_text;
    struct provenance provenance;
    struct dump_plan plan;
    struct progress *progress;

    /* One pass over the facts. */
    struct facts *facts;
    struct batcher *batcher;
    size_t n_dropped;    /* bytes of the prompts without a token */
    unsigned char *keep; /* [rows of the batch]; unused where all are kept */
    size_t keep_capacity;

    /* What the survey found. */
    struct dump_counts counts;
    size_t most_rows, most_tokens; /* of a batch, of a prompt */
    uint64_t text_bytes;
    uint64_t shard_bytes;      /* UINT64_MAX: one file */
    struct dump_shard *shards; /* [n_shards] first_prompt and counts as planned; names where a folder is written */
    size_t n_shards, shards_capacity;

    size_t n_done; /* prompts whose rows were handed to a writer, earlier runs included */
};

/* A pass over the facts from prompt `first` on. The batch is valid until the next call. */
int dump_pass_open(struct dump_job *job, size_t first, struct err *err);
/* As batcher_next; *keep: NULL where every row is kept. */
int dump_pass_next(struct dump_job *job, struct batch **batch, const unsigned char **keep, struct err *err);
void dump_pass_close(struct dump_job *job);

/* The first pass: counts, shards; also into an index, which may be NULL. */
int dump_survey(struct dump_job *job, struct dump_writer *index, struct err *err);
/* Prompts [first, first + n) into one file. */
int dump_run_file(struct dump_job *job, const char *path, size_t first, size_t n, struct err *err);

/* The plan on stderr (or stdout with --plan), and an error where the disk lacks the room. written: bytes there already.
 */
int dump_check_room(const struct dump_job *job, uint64_t written, struct err *err);
/* Bytes that path (or path.partial) takes on disk; 0 where there is none. */
uint64_t dump_bytes_on_disk(const char *path);

/* Everything, into a folder. plan_only: stops after the plan. */
int dump_run_folder(struct dump_job *job, bool plan_only, struct err *err);

#endif
