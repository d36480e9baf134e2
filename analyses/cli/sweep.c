#include "analyses/cli/sweep.h"

#include "core/base/file.h"
#include "core/store/journal.h"

#include <string.h>
#include <sys/stat.h>

bool sweep_is_file(const char *path)
{
    struct stat st;
    return strcmp(path, "-") != 0 && !stat(path, &st) && S_ISREG(st.st_mode);
}

static bool can_be_kept(const struct cli *cli, const char *file)
{
    return cli->can_resume && file && sweep_is_file(file) && cli->output && strcmp(cli->output, "-") != 0;
}

int sweep_check(struct cli *cli, struct err *err)
{
    struct stat st;
    if (!cli->resume)
        return 0;
    if (!cli->output || !strcmp(cli->output, "-"))
        return cli_usage(cli, err, "--resume continues a file: give -o");
    if (cli->input && (!strcmp(cli->input, "-") || (!stat(cli->input, &st) && !S_ISREG(st.st_mode))))
        return cli_usage(cli, err, "--resume -i %.200s: only a file can be read again: save it to one", cli->input);
    return 0;
}

int sweep_add_file(const char *name, const char *path, struct strbuf *more, struct err *err)
{
    struct file_map map;
    char hex[65];
    int rc = file_map_open(&map, path, err);
    if (rc)
        return rc;
    rc = file_map_sha256(&map, NULL, hex, err);
    file_map_close(&map);
    if (rc)
        return rc;
    strbuf_addf(more, "%s: %s\n", name, hex);
    return strbuf_failed(more) ? err_nomem(err, "a journal") : 0;
}

int sweep_begin(struct cli *cli, const char *file, const struct provenance *p, const char *more, struct err *err)
{
    struct strbuf key = STRBUF_INIT;
    if (!can_be_kept(cli, file))
        return 0;
    struct provenance named = *p;
    named.format = "strata-journal";
    provenance_key(&named, &key);
    strbuf_addf(&key, "command: %s\n", cli->same_command);
    int rc = sweep_add_file("input", file, &key, err);
    if (more)
        strbuf_adds(&key, more);
    rc = rc || !strbuf_failed(&key) ? rc : err_nomem(err, "a journal");
    rc = rc ? rc : journal_open(&cli->journal, cli->output, strbuf_text(&key), cli->resume, err);
    strbuf_release(&key);
    return rc;
}

int sweep_end(struct cli *cli, int rc, struct err *err)
{
    struct journal *j = cli->journal;
    bool keep = rc == ERR_INTERRUPTED || rc == ERR_IO || rc == ERR_NOMEM;
    if (rc == ERR_INTERRUPTED && journal_pieces(j)) {
        struct err first = *err;
        err_set(err, ERR_INTERRUPTED, "%.400s: %.400s holds what is done: go on with --resume", first.msg,
                journal_path(j));
    }
    cli->journal = NULL;
    journal_close(j, keep);
    return rc;
}
