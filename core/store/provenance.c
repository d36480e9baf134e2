#include "core/store/provenance.h"

#include "core/base/isa.h"
#include "core/runtime/blas_check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Text attributes: name, value, whether a resumed run must have the same. */
#define TEXTS(X)                                                                                                       \
    X("format", p->format, 1)                                                                                          \
    X("strata_version", STRATA_VERSION, 1)                                                                             \
    X("command", p->command, 0)                                                                                        \
    X("model_path", p->model->path, 0)                                                                                 \
    X("model_sha256", p->model->sha256, 1)                                                                             \
    X("architecture", p->model->architecture, 1)                                                                       \
    X("config", p->model->config_json, 1)                                                                              \
    X("tokenizer_sha256", p->model->tokenizer_sha256, 1)                                                               \
    X("specials", specials_name(p->specials), 1)                                                                       \
    X("precision", p->precision == PRECISION_F64 ? "f64" : "f32", 1)                                                   \
    X("dtype", store_type_name(p->dtype), 1)                                                                           \
    X("blas", blas, 1)                                                                                                 \
    X("isa", isa_level_name(isa_level()), 1)                                                                           \
    X("edits", p->edits ? p->edits : "none", 1)

#define INTEGERS(X)                                                                                                    \
    X("version", p->version)                                                                                           \
    X("threads", p->threads)                                                                                           \
    X("seed", (int64_t)p->seed)

static const char *specials_name(enum specials specials)
{
    return specials == SPECIALS_NONE ? "none" : specials == SPECIALS_BOS ? "bos" : "auto";
}

/* "2026-01-31T12:00:00Z"; reproducible builds set SOURCE_DATE_EPOCH (reproducible-builds.org/specs). */
static int created(char text[32], struct err *err)
{
    const char *fixed = getenv("SOURCE_DATE_EPOCH");
    time_t now = time(NULL);
    if (fixed && *fixed) {
        char *end;
        errno = 0;
        long long seconds = strtoll(fixed, &end, 10);
        if (errno || *end || seconds < 0)
            return err_set(err, ERR_ARG, "SOURCE_DATE_EPOCH is '%s', not a number of seconds", fixed);
        now = (time_t)seconds;
    }
    struct tm utc;
    if (!gmtime_r(&now, &utc) || !strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &utc))
        return err_set(err, ERR_ARG, "the time is out of range: check SOURCE_DATE_EPOCH");
    return 0;
}

static void blas_text(struct strbuf *out)
{
    strbuf_addf(out, "%s; %s", blas_core_name(), blas_config());
}

int provenance_write(const struct h5_file *f, const struct provenance *p, bool complete, struct err *err)
{
    char time[32];
    struct strbuf blas_buffer = STRBUF_INIT;
    blas_text(&blas_buffer);
    const char *blas = strbuf_text(&blas_buffer);
    int rc = strbuf_failed(&blas_buffer) ? err_nomem(err, "a file's origin") : created(time, err);
#define X(name, value, same)                                                                                           \
    if (!rc)                                                                                                           \
        rc = h5_put_text(f, f->id, name, value, err);
    TEXTS(X)
#undef X
#define X(name, value)                                                                                                 \
    if (!rc)                                                                                                           \
        rc = h5_put_int(f, f->id, name, value, err);
    INTEGERS(X)
#undef X
    if (!rc)
        rc = h5_put_text(f, f->id, "created", time, err);
    if (!rc)
        rc = h5_put_int(f, f->id, "complete", complete, err);
    strbuf_release(&blas_buffer);
    return rc;
}

static int differs(const struct h5_file *f, const char *name, const char *recorded, const char *now, struct err *err)
{
    return err_set(err, ERR_ARG, "%s: was begun with %s '%.200s', now '%.200s': repeat the same command, or remove it",
                   f->path, name, recorded, now);
}

static int same_text(const struct h5_file *f, const char *name, const char *now, struct err *err)
{
    char *recorded = NULL;
    int rc = h5_get_text(f, f->id, name, &recorded, err);
    if (!rc && strcmp(recorded, now))
        rc = differs(f, name, recorded, now, err);
    free(recorded);
    return rc;
}

static int same_int(const struct h5_file *f, const char *name, int64_t now, struct err *err)
{
    int64_t recorded;
    int rc = h5_get_int(f, f->id, name, &recorded, err);
    if (rc || recorded == now)
        return rc;
    char a[32], b[32];
    snprintf(a, sizeof a, "%" PRId64, recorded);
    snprintf(b, sizeof b, "%" PRId64, now);
    return differs(f, name, a, b, err);
}

int provenance_check(const struct h5_file *f, const struct provenance *p, struct err *err)
{
    struct strbuf blas_buffer = STRBUF_INIT;
    blas_text(&blas_buffer);
    const char *blas = strbuf_text(&blas_buffer);
    int rc = strbuf_failed(&blas_buffer) ? err_nomem(err, "a file's origin") : 0;
#define X(name, value, same)                                                                                           \
    if (!rc && same)                                                                                                   \
        rc = same_text(f, name, value, err);
    TEXTS(X)
#undef X
#define X(name, value)                                                                                                 \
    if (!rc)                                                                                                           \
        rc = same_int(f, name, value, err);
    INTEGERS(X)
#undef X
    strbuf_release(&blas_buffer);
    return rc;
}

void provenance_key(const struct provenance *p, struct strbuf *out)
{
    struct strbuf blas_buffer = STRBUF_INIT;
    blas_text(&blas_buffer);
    const char *blas = strbuf_text(&blas_buffer);
#define X(name, value, same)                                                                                           \
    if (same)                                                                                                          \
        strbuf_addf(out, "%s: %s\n", name, value);
    TEXTS(X)
#undef X
#define X(name, value) strbuf_addf(out, "%s: %" PRId64 "\n", name, (int64_t)(value));
    INTEGERS(X)
#undef X
    out->failed |= blas_buffer.failed;
    strbuf_release(&blas_buffer);
}
