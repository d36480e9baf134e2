/*
 * Where a result came from: root attributes of every HDF5 file that Strata
 * writes (design section 5), so that a file explains itself.
 *
 *     const struct provenance p = { .format = "strata-lens", .version = 1, .command = cli->command_line,
 *                                   .model = model, .specials = cli->specials, .precision = cli->precision,
 *                                   .dtype = STORE_F32, .threads = cli->threads, .seed = cli->seed };
 *     int rc = provenance_write(&f, &p, true, &err);
 *
 * Attributes: format, version, strata_version, command, model_path,
 * model_sha256, architecture, config (JSON), tokenizer_sha256, specials,
 * precision, dtype, threads, blas, isa, seed, edits, created (UTC; of
 * SOURCE_DATE_EPOCH where that is set), complete.
 */
#ifndef STRATA_STORE_PROVENANCE_H
#define STRATA_STORE_PROVENANCE_H

#include "core/base/strbuf.h"
#include "core/model/model.h"
#include "core/runtime/runtime.h"
#include "core/store/h5.h"

/* All borrowed. */
struct provenance {
    const char *format; /* "strata-dump" */
    int version;
    const char *command; /* as the user would type it */
    const struct model *model;
    enum specials specials;
    enum precision precision;
    enum store_type dtype; /* of the stored numbers */
    int threads;
    uint64_t seed;
    const char *edits; /* what was changed while the model ran; NULL: "none" */
};

/* `complete`: 0 for a file that grows (stream_file.h sets it in the end), 1 for one that is written whole. */
int provenance_write(const struct h5_file *f, const struct provenance *p, bool complete, struct err *err);
/*
 * Whether a run with these settings continues what the file holds to the same bytes: everything above but command,
 * model_path, created and complete must be equal. ERR_ARG names the first that is not, with both values.
 */
int provenance_check(const struct h5_file *f, const struct provenance *p, struct err *err);
/* Adds the same values as text, a line each, for what is not HDF5 (journal.h). */
void provenance_key(const struct provenance *p, struct strbuf *out);

#endif
