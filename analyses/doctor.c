/* strata doctor: is everything that Strata stands on there, and does it work? */
#include "analyses/cli/output.h"
#include "analyses/plot/gnuplot.h"
#include "core/base/file.h"
#include "core/base/isa.h"
#include "core/base/mem.h"
#include "core/runtime/blas_check.h"
#include "core/runtime/kernel_check.h"
#include "core/store/h5.h"
#include "probes/lens_check.h"

#include <dirent.h>
#include <errno.h>
#include <hdf5.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum status { STATUS_OK, STATUS_WARN, STATUS_FAIL };
static const char *const status_names[] = { "ok", "warn", "fail" };

struct doctor {
    struct strbuf out;
    bool json;
    size_t n, n_failed;
    const char *failed; /* name of the first */
    char folder[512];   /* temporary; "" where none could be made */
};

/* advice: what to do, "" where nothing. */
static void report(struct doctor *d, const char *name, enum status status, const char *advice, const char *format, ...)
    ERR_PRINTF(5, 6);

static void report(struct doctor *d, const char *name, enum status status, const char *advice, const char *format, ...)
{
    char text[1400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (status == STATUS_FAIL && !d->n_failed++)
        d->failed = name;
    if (d->json) {
        strbuf_addf(&d->out, "%s\n{\"name\":\"%s\",\"status\":\"%s\",\"text\":", d->n ? "," : "", name,
                    status_names[status]);
        strbuf_add_json(&d->out, text, strlen(text));
        strbuf_adds(&d->out, ",\"advice\":");
        strbuf_add_json(&d->out, advice, strlen(advice));
        strbuf_addc(&d->out, '}');
    } else
        strbuf_addf(&d->out, "%-4s  %-16s %s%s%s\n", status_names[status], name, text, *advice ? ": " : "", advice);
    d->n++;
}

/* --- processor --- */

static void check_isa(struct doctor *d)
{
    const char *lowered = getenv("STRATA_ISA");
    report(d, "instruction set", STATUS_OK, "", "%s%s%s", isa_level_name(isa_level()),
           lowered && *lowered ? ", as $STRATA_ISA says: " : "", lowered ? lowered : "");
}

static void check_blas(struct doctor *d)
{
    struct err err = { 0 };
    if (blas_check(&err))
        report(d, "BLAS", STATUS_FAIL, "", "%s", err.msg);
    else
        report(d, "BLAS", STATUS_OK, "", "%s, core type %s, self-test passed", blas_config(), blas_core_name());
}

static void check_kernels(struct doctor *d)
{
    struct err err = { 0 };
    if (kernel_check(&err) || lens_check(&err))
        report(d, "kernels", STATUS_FAIL, "", "%s", err.msg);
    else
        report(d, "kernels", STATUS_OK, "", "self-test passed: %s, the lens", kernel_check_names());
}

static void check_threads(struct doctor *d, const struct cli *cli)
{
    report(d, "threads", STATUS_OK, "", "%d cores for this process, %d threads used", pool_default_threads(),
           cli->threads);
}

/* --- room --- */

static void check_memory(struct doctor *d)
{
    static const double gib = 1 << 30;
    double free_bytes = mem_available();
    if (free_bytes <= 0)
        report(d, "memory", STATUS_WARN, "compare `strata info MODEL` with what is free",
               "cannot tell how much is free");
    else if (free_bytes < gib)
        report(d, "memory", STATUS_WARN, "the demo model needs about 1 GiB", "%.2f GiB available", free_bytes / gib);
    else
        report(d, "memory", STATUS_OK, "", "%.1f GiB available", free_bytes / gib);
}

static void check_disk(struct doctor *d)
{
    static const double gib = 1 << 30;
    struct statvfs fs;
    if (statvfs(".", &fs)) {
        report(d, "disk", STATUS_WARN, "", "cannot tell how much is free here: %s", strerror(errno));
        return;
    }
    double free_bytes = (double)fs.f_bavail * (double)fs.f_frsize;
    bool writable = !access(".", W_OK);
    if (!writable)
        report(d, "disk", STATUS_WARN, "give -o a path elsewhere", "this folder cannot be written");
    else if (free_bytes < gib)
        report(d, "disk", STATUS_WARN, "dumps need room", "%.2f GiB free in this folder", free_bytes / gib);
    else
        report(d, "disk", STATUS_OK, "", "%.1f GiB free in this folder", free_bytes / gib);
}

/* --- files, plots --- */

static void make_folder(struct doctor *d)
{
    const char *base = getenv("TMPDIR");
    int n = snprintf(d->folder, sizeof d->folder, "%s/strata-doctor-XXXXXX", base && *base ? base : "/tmp");
    if (n < 0 || (size_t)n >= sizeof d->folder || !mkdtemp(d->folder))
        d->folder[0] = '\0';
    if (!*d->folder)
        report(d, "temporary files", STATUS_FAIL, "set TMPDIR to a folder that can be written",
               "none can be made in %s", base && *base ? base : "/tmp");
}

/* "FOLDER/NAME" in text, which it returns. */
static const char *in_folder(const struct doctor *d, const char *name, char text[600])
{
    snprintf(text, 600, "%s/%s", d->folder, name);
    return text;
}

static int write_and_read(const char *path, struct err *err)
{
    static const float numbers[3] = { 1, -2.5F, 0x1p-149F };
    struct h5_file f;
    hsize_t dims[1] = { 3 };
    void *back = NULL;
    int rc = h5_create(&f, path, err);
    rc = rc ? rc : h5_put_array(&f, "/numbers", STORE_F32, 1, dims, numbers, err);
    rc = h5_close(&f, rc, err);
    if (rc || (rc = h5_open(&f, path, false, err)))
        return rc;
    rc = h5_get_array(&f, "/numbers", STORE_F32, 3, &back, err);
    rc = h5_close(&f, rc, err);
    /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison,cert-exp42-c,cert-flp37-c): bit by bit */
    if (!rc && memcmp(back, numbers, sizeof numbers))
        rc = err_set(err, ERR_CHECK, "%s: other numbers came back than were written", path);
    free(back);
    return rc;
}

static void check_hdf5(struct doctor *d)
{
    char path[600];
    struct err err = { 0 };
    unsigned major, minor, release;
    H5get_libversion(&major, &minor, &release);
    if (major != H5_VERS_MAJOR || minor != H5_VERS_MINOR)
        report(d, "HDF5", STATUS_FAIL, "build Strata again", "built for %d.%d.%d, running with %u.%u.%u", H5_VERS_MAJOR,
               H5_VERS_MINOR, H5_VERS_RELEASE, major, minor, release);
    else if (*d->folder && write_and_read(in_folder(d, "doctor.h5", path), &err))
        report(d, "HDF5", STATUS_FAIL, "", "%s", err.msg);
    else
        report(d, "HDF5", STATUS_OK, "", "%u.%u.%u, a file was written and read back", major, minor, release);
    if (*d->folder)
        remove(in_folder(d, "doctor.h5", path));
}

static void check_gnuplot(struct doctor *d)
{
    static const char script[] = "set terminal pngcairo size 320,240\n"
                                 "set output 'doctor.png'\n"
                                 "plot sin(x) title 'text'\n";
    static const char install[] = "figures are left as .gp and .dat files; install the package gnuplot-nox";
    char path[600];
    struct stat st;
    struct err err = { 0 };
    if (!*d->folder)
        return;
    int rc = file_write(in_folder(d, "doctor.gp", path), script, sizeof script - 1, &err);
    rc = rc ? rc : gnuplot_run(d->folder, "doctor.gp", 30, &err);
    if (rc == ERR_NOTFOUND)
        report(d, "gnuplot", STATUS_WARN, install, "not found");
    else if (rc)
        report(d, "gnuplot", STATUS_WARN, install, "%s", err.msg);
    else if (stat(in_folder(d, "doctor.png", path), &st) || !st.st_size)
        report(d, "gnuplot", STATUS_WARN, install, "made no PNG file");
    else
        report(d, "gnuplot", STATUS_OK, "", "made a PNG file");
    remove(in_folder(d, "doctor.gp", path));
    remove(in_folder(d, "doctor.png", path));
}

/* Outline fonts in a folder and its subfolders. */
static bool has_fonts(const char *path, int depth)
{
    bool found = false;
    DIR *dir = depth ? opendir(path) : NULL;
    for (struct dirent *e; dir && !found && (e = readdir(dir));) {
        char below[1024];
        const char *extension = file_extension(e->d_name);
        int n = snprintf(below, sizeof below, "%s/%s", path, e->d_name);
        if (e->d_name[0] == '.' || n < 0 || (size_t)n >= sizeof below)
            continue;
        found = !strcasecmp(extension, "ttf") || !strcasecmp(extension, "otf") || !strcasecmp(extension, "ttc") ||
                (file_is_folder(below) && has_fonts(below, depth - 1));
    }
    if (dir)
        closedir(dir);
    return found;
}

static void check_fonts(struct doctor *d)
{
    static const char *const places[] = { "/usr/share/fonts", "/usr/local/share/fonts" };
    char home[600] = "";
    const char *user = getenv("HOME");
    bool found = has_fonts(places[0], 5) || has_fonts(places[1], 5);
    if (!found && user) {
        snprintf(home, sizeof home, "%.500s/.local/share/fonts", user);
        found = has_fonts(home, 5);
    }
    if (found)
        report(d, "fonts", STATUS_OK, "", "there are outline fonts for figures");
    else
        report(d, "fonts", STATUS_WARN, "install the package fonts-dejavu-core", "none found: figures would lack text");
}

static void check_model(struct doctor *d, const struct cli *cli)
{
    struct err err = { 0 };
    struct model *m;
    if (model_open_header(&m, cli->model, &err)) {
        report(d, "model", STATUS_FAIL, "", "%s", err.msg);
        return;
    }
    report(d, "model", STATUS_OK, "", "%s (%s, %zu layers)", m->path, m->architecture, m->config.n_layers);
    model_free(m);
}

static int run(struct cli *cli, struct err *err)
{
    struct doctor d = { .out = STRBUF_INIT };
    int rc = output_format(cli, err);
    if (rc)
        return rc;
    d.json = cli->json;
    strbuf_adds(&d.out, d.json ? "{\"checks\":[" : "");
    check_isa(&d);
    check_blas(&d);
    check_kernels(&d);
    check_threads(&d, cli);
    check_memory(&d);
    check_disk(&d);
    make_folder(&d);
    check_hdf5(&d);
    check_gnuplot(&d);
    check_fonts(&d);
    check_model(&d, cli);
    if (*d.folder)
        rmdir(d.folder);
    if (d.json)
        strbuf_addf(&d.out, "\n],\"ok\":%s}\n", d.n_failed ? "false" : "true");
    rc = output_text(cli, &d.out, 0, err);
    if (!rc && d.n_failed)
        rc = err_set(err, ERR_CHECK, "%s: does not work%s: see the lines that say fail", d.failed,
                     d.n_failed > 1 ? ", and more" : "");
    return rc;
}

const struct command command_doctor = {
    .name = "doctor",
    .arguments = "",
    .summary = "tests BLAS, kernels, HDF5, gnuplot, fonts, threads, memory, disk, default model",
    .details = "One line a check: ok, warn (something will be missing) or fail (do not go on). Exit status 1 when one\n"
               "fails. --json: {\"checks\": [{\"name\", \"status\", \"text\", \"advice\"}], \"ok\"}.\n",
    .common = COMMON_MODEL_PATH | COMMON_OUTPUT | COMMON_JSON,
    .run = run,
};
