#include "analyses/cli/output.h"

#include "core/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int output_format(struct cli *cli, struct err *err)
{
    static const char *const text[] = { "", "txt", "tsv" };
    const char *extension = cli->output ? file_extension(cli->output) : "";
    if (!strcmp(extension, "json") || !strcmp(extension, "jsonl"))
        cli->json = true;
    bool fits = cli->json;
    for (size_t i = 0; !fits && i < sizeof text / sizeof *text; i++)
        fits = !strcmp(extension, text[i]);
    if (!fits)
        return cli_usage(cli, err, "-o %.200s: this command writes .json or .txt", cli->output);
    return output_claim(cli, false, err);
}

/* Whether something can be made in the folder of path, or in the nearest one above it that is there. */
static int look_above(const char *path, bool make_parents)
{
    struct stat st;
    char *folder = file_parent(path);
    while (folder && make_parents && stat(folder, &st) && errno == ENOENT && strcmp(folder, ".")) {
        char *above = file_parent(folder);
        free(folder);
        folder = above;
    }
    int rc = folder ? stat(folder, &st) : -1;
    if (!rc && !S_ISDIR(st.st_mode)) {
        errno = ENOTDIR;
        rc = -1;
    }
    rc = rc ? rc : access(folder, W_OK | X_OK);
    int cause = errno;
    free(folder);
    errno = cause;
    return rc;
}

static int look(const char *path, bool folder, struct err *err)
{
    const char *task = folder ? "make the folder" : "create";
    struct stat st;
    bool there = !stat(path, &st);
    if (there && folder && !S_ISDIR(st.st_mode))
        return err_set(err, ERR_IO, "%s: is there already and is no folder: choose another output", path);
    if (there && !folder && S_ISDIR(st.st_mode))
        return err_set(err, ERR_IO, "%s: is a folder: choose another output", path);
    if (there && (folder || !S_ISREG(st.st_mode)))
        return access(path, W_OK) ? err_errno(err, "%s: cannot write", path) : 0;
    char *name = file_beside(path, "");
    if (!name)
        return err_nomem(err, "a path");
    int rc = look_above(name, folder) ? err_errno(err, "%s: cannot %s", path, task) : 0;
    free(name);
    return rc;
}

static bool is_stdout(const char *path)
{
    return !path || !strcmp(path, "-");
}

/* A device or pipe, which several may write to. */
static bool is_special(const char *path)
{
    struct stat st;
    return !stat(path, &st) && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
}

static int make_parents(const char *folder, struct err *err)
{
    char *name = file_beside(folder, ""), *parent = name ? file_parent(name) : NULL;
    int rc = parent ? file_make_folder(parent, err) : err_nomem(err, "a path");
    free(name);
    free(parent);
    return rc;
}

int output_claim(struct cli *cli, bool folder, struct err *err)
{
    const char *path = cli->output;
    if (is_stdout(path) || cli->lock.path)
        return 0;
    int rc = look(path, folder, err);
    if (rc || is_special(path))
        return rc;
    rc = folder ? make_parents(path, err) : 0;
    return rc ? rc : lock_take(&cli->lock, path, err);
}

int output_open(struct output *out, struct cli *cli, struct err *err)
{
    *out = (struct output){ .fd = -1 };
    if (is_stdout(cli->output))
        return 0;
    int rc = output_claim(cli, false, err);
    if (rc)
        return rc;
    out->path = cli->output;
    if (!is_special(out->path) && !(out->partial = file_with_suffix(out->path, ".partial")))
        return err_nomem(err, "a path");
    out->fd = open(out->partial ? out->partial : out->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    return out->fd < 0 ? err_errno(err, "%s: cannot write", out->path) : 0;
}

int output_add(struct output *out, struct strbuf *text, struct err *err)
{
    int rc = 0;
    if (strbuf_failed(text))
        return err_nomem(err, "the output");
    if (out->fd < 0)
        rc = cli_print(text, err);
    else if (!cli_write(out->fd, text))
        rc = err_errno(err, "%s: cannot write", out->path);
    strbuf_reset(text);
    return rc;
}

int output_close(struct output *out, int rc, struct err *err)
{
    if (out->fd >= 0) {
        if (close(out->fd) && !rc)
            rc = err_errno(err, "%s: cannot write", out->path);
        if (!rc && out->partial)
            rc = file_publish(out->partial, out->path, err);
        if (rc && rc != ERR_INTERRUPTED && out->partial)
            remove(out->partial);
    }
    free(out->partial);
    *out = (struct output){ .fd = -1 };
    return rc;
}

int output_text(struct cli *cli, struct strbuf *text, int rc, struct err *err)
{
    struct output out;
    if (!rc) {
        rc = output_open(&out, cli, err);
        rc = rc ? rc : output_add(&out, text, err);
        rc = output_close(&out, rc, err);
    }
    strbuf_release(text);
    return rc;
}
