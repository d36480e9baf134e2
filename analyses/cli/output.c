#include "analyses/cli/output.h"

#include "core/base/file.h"
#include "core/base/mem.h"

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
    for (size_t i = 0; i < sizeof text / sizeof *text; i++)
        if (!strcmp(extension, text[i]))
            return 0;
    if (cli->json)
        return 0;
    return cli_usage(cli, err, "-o %.200s: this command writes .json or .txt", cli->output);
}

/* The folder that path is in, cut out of it. */
static const char *parent_of(char *path)
{
    char *slash = strrchr(path, '/');
    if (!slash)
        return strcpy(path, ".");
    slash[slash == path] = '\0';
    return path;
}

/* In the folder of path, or the nearest one above it that is there. */
static int look_above(char *path, bool make_parents, struct stat *st)
{
    int rc;
    do
        rc = stat(parent_of(path), st);
    while (rc && errno == ENOENT && make_parents && strcmp(path, ".") && strcmp(path, "/"));
    if (!rc && !S_ISDIR(st->st_mode)) {
        errno = ENOTDIR;
        rc = -1;
    }
    return rc ? rc : access(path, W_OK | X_OK);
}

int output_look(const char *path, bool folder, struct err *err)
{
    const char *task = folder ? "make the folder" : "create";
    struct stat st;
    if (!path || !strcmp(path, "-"))
        return 0;
    bool there = !stat(path, &st);
    if (there && folder && !S_ISDIR(st.st_mode))
        return err_set(err, ERR_IO, "%s: is there already and is no folder: choose another output", path);
    if (there && !folder && S_ISDIR(st.st_mode))
        return err_set(err, ERR_IO, "%s: is a folder: choose another output", path);
    if (there && (folder || !S_ISREG(st.st_mode)))
        return access(path, W_OK) ? err_errno(err, "%s: cannot write", path) : 0;
    char *name = mem_strdup(path);
    if (!name)
        return err_nomem(err, "a path");
    for (size_t n = strlen(name); folder && n > 1 && name[n - 1] == '/';)
        name[--n] = '\0';
    int rc = look_above(name, folder, &st) ? err_errno(err, "%s: cannot %s", path, task) : 0;
    free(name);
    return rc;
}

int output_open(struct output *out, const struct cli *cli, struct err *err)
{
    struct stat st;
    *out = (struct output){ .fd = -1, .path = cli->output };
    if (!cli->output || !strcmp(cli->output, "-")) {
        out->path = NULL;
        return 0;
    }
    bool special = !stat(out->path, &st) && !S_ISREG(st.st_mode);
    if (!special) {
        struct strbuf name = STRBUF_INIT;
        strbuf_addf(&name, "%s.partial", out->path);
        if (strbuf_failed(&name)) {
            strbuf_release(&name);
            return err_nomem(err, "a path");
        }
        out->partial = name.data;
    }
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
    for (size_t done = 0; !rc && out->fd >= 0 && done < text->len;) {
        ssize_t n = write(out->fd, text->data + done, text->len - done);
        if (n < 0 && (errno != EINTR || cli_interrupted()))
            rc = err_errno(err, "%s: cannot write", out->path);
        done += n > 0 ? (size_t)n : 0;
    }
    strbuf_reset(text);
    return rc;
}

int output_close(struct output *out, int rc, struct err *err)
{
    if (out->fd >= 0) {
        if (!rc && out->partial && fsync(out->fd))
            rc = err_errno(err, "%s: cannot write", out->path);
        if (close(out->fd) && !rc)
            rc = err_errno(err, "%s: cannot write", out->path);
        if (!rc && out->partial && rename(out->partial, out->path))
            rc = err_errno(err, "%s: cannot rename %s to it", out->path, out->partial);
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
