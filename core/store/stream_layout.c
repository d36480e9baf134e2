/* What HDF5 does for a stream file: creating it before the run, checking one to resume, marking it complete. */
#include "core/base/mem.h"
#include "core/store/h5_guard.h"
#include "core/store/stream_internal.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PIECE_BYTES = 1 << 20 };

/* SHA-256 over names and digests of the known columns: two runs with the same one have the same input. */
static int input_digest(const struct stream_file *s, char hex[65], struct err *err)
{
    unsigned char digest[32];
    EVP_MD_CTX *all = EVP_MD_CTX_new();
    bool ok = all && EVP_DigestInit_ex(all, EVP_sha256(), NULL);
    for (size_t i = 0; ok && i < s->n_columns; i++) {
        const struct column *c = &s->columns[i];
        if (!c->spec.known)
            continue;
        ok = spool_sha256(&c->spool, digest) && EVP_DigestUpdate(all, c->spec.name, strlen(c->spec.name) + 1) &&
             EVP_DigestUpdate(all, digest, sizeof digest);
    }
    ok = ok && EVP_DigestFinal_ex(all, digest, NULL);
    EVP_MD_CTX_free(all);
    for (size_t i = 0; ok && i < sizeof digest; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    return ok ? 0 : err_nomem(err, "a digest");
}

/* --- creating --- */

static hid_t create_dataset(const struct h5_file *f, const struct column *c)
{
    hsize_t dims[H5_MAX_RANK] = { c->full };
    for (int i = 0; i < c->spec.n_dims; i++)
        dims[i + 1] = c->spec.dims[i];
    hid_t type = h5_make_type(c->spec.type, true), space = H5Screate_simple(1 + c->spec.n_dims, dims, NULL);
    hid_t links = H5Pcreate(H5P_LINK_CREATE), create = H5Pcreate(H5P_DATASET_CREATE), dataset = -1;
    /* Texts need the fill value, so that a failed write leaves no wild references. */
    H5D_fill_time_t fill = c->spec.type == STORE_TEXT ? H5D_FILL_TIME_IFSET : H5D_FILL_TIME_NEVER;
    if (type >= 0 && space >= 0 && links >= 0 && create >= 0 && H5Pset_create_intermediate_group(links, 1) >= 0 &&
        H5Pset_obj_track_times(create, 0) >= 0 && H5Pset_layout(create, H5D_CONTIGUOUS) >= 0 &&
        H5Pset_alloc_time(create, H5D_ALLOC_TIME_EARLY) >= 0 && H5Pset_fill_time(create, fill) >= 0)
        dataset = H5Dcreate2(f->id, c->spec.name, type, space, links, create, H5P_DEFAULT);
    H5Pclose(create);
    H5Pclose(links);
    H5Sclose(space);
    H5Tclose(type);
    return dataset;
}

static bool write_piece(hid_t dataset, hid_t type, hid_t space, hsize_t first, hsize_t n, const void *data)
{
    hid_t memory = H5Screate_simple(1, &n, NULL);
    bool ok = memory >= 0 && H5Sselect_hyperslab(space, H5S_SELECT_SET, &first, NULL, &n, NULL) >= 0 &&
              H5Dwrite(dataset, type, memory, space, H5P_DEFAULT, data) >= 0;
    H5Sclose(memory);
    return ok;
}

static int copy_spool(const struct h5_file *f, struct column *c, hid_t dataset, void *piece, struct err *err)
{
    size_t in_memory = store_type_size(c->spec.type);
    hsize_t step = PIECE_BYTES / in_memory / (c->spec.type == STORE_TEXT ? 64 : 1);
    hid_t type = h5_make_type(c->spec.type, false), space = H5Dget_space(dataset);
    int rc = spool_rewind(&c->spool, err);
    for (hsize_t at = 0; !rc && at < c->full; at += step) {
        hsize_t n = c->full - at < step ? c->full - at : step;
        rc = spool_next(&c->spool, n, piece, err);
        if (rc)
            break;
        if (!write_piece(dataset, type, space, at, n, piece))
            rc = h5_fail(f, err, "write '%s'", c->spec.name);
        for (hsize_t i = 0; c->spec.type == STORE_TEXT && i < n; i++)
            free(((char **)piece)[i]);
    }
    H5Sclose(space);
    H5Tclose(type);
    return rc;
}

static int create_columns(struct stream_file *s, const struct h5_file *f, struct err *err)
{
    void *piece = mem_array(PIECE_BYTES, 1);
    int rc = piece ? 0 : err_nomem(err, "a piece of a dataset");
    for (size_t i = 0; !rc && i < s->n_columns; i++) {
        struct column *c = &s->columns[i];
        hid_t dataset = create_dataset(f, c);
        if (dataset < 0)
            rc = h5_fail(f, err, "create '%s'", c->spec.name);
        else if (c->spec.known)
            rc = copy_spool(f, c, dataset, piece, err);
        rc = h5_end_dataset(f, dataset, c->spec.name, rc, err);
    }
    free(piece);
    return rc;
}

int stream_layout_create(struct stream_file *s, const struct stream_hooks *hooks, struct err *err)
{
    struct h5_file f;
    char digest[65];
    int rc = h5_create(&f, s->starting, err);
    if (rc)
        return rc;
    rc = create_columns(s, &f, err);
    if (!rc)
        rc = input_digest(s, digest, err);
    if (!rc)
        rc = h5_put_text(&f, f.id, "input_sha256", digest, err);
    if (!rc && hooks && hooks->describe)
        rc = hooks->describe(hooks->arg, &f, err);
    if (!rc && !h5_has_attribute(f.id, "complete"))
        rc = h5_put_int(&f, f.id, "complete", 0, err);
    return h5_close(&f, rc, err);
}

/* --- checking --- */

static int other(const struct h5_file *f, struct err *err, const char *what)
{
    return err_set(err, ERR_ARG, "%s: %s: it was begun by another command: repeat that one, or remove the file",
                   f->path, what);
}

/* Also that its bytes lie inside the file, contiguous. */
static int check_column(const struct h5_file *f, const struct column *c, uint64_t *items, struct err *err)
{
    char what[200];
    snprintf(what, sizeof what, "'%.100s' is not what this run writes", c->spec.name);
    struct h5_dataset d;
    int there = h5_look(f, c->spec.name, err);
    if (there <= 0)
        return there ? there : other(f, err, what);
    int rc = h5_dataset_open(&d, f, c->spec.name, err);
    if (rc)
        return rc;
    hid_t list = H5Dget_create_plist(d.id);
    haddr_t at = H5Dget_offset(d.id);
    hsize_t stored = H5Dget_storage_size(d.id), file_bytes = 0;
    bool same = d.type == c->spec.type && d.rank == 1 + c->spec.n_dims && d.dims[0] >= 1 && d.dims[0] <= c->full &&
                list >= 0 && H5Pget_layout(list) == H5D_CONTIGUOUS && stored == c->full * c->item_bytes &&
                at != HADDR_UNDEF && H5Fget_filesize(f->id, &file_bytes) >= 0 && at <= file_bytes &&
                stored <= file_bytes - at;
    for (int i = 0; same && i < c->spec.n_dims; i++)
        same = d.dims[i + 1] == c->spec.dims[i];
    *items = d.dims[0];
    H5Pclose(list);
    h5_dataset_close(&d);
    H5Eclear2(H5E_DEFAULT);
    return same ? 0 : other(f, err, what);
}

static int check_columns(struct stream_file *s, const struct h5_file *f, struct err *err)
{
    s->done = s->lengths[0];
    for (size_t i = 0; i < s->n_columns; i++) {
        uint64_t items = 0;
        int rc = check_column(f, &s->columns[i], &items, err);
        if (rc)
            return rc;
        if (s->columns[i].spec.fence)
            items--;
        if (s->columns[i].spec.axis == 0 && items < s->done)
            s->done = items;
    }
    return 0;
}

static int check_file(struct stream_file *s, const char *path, const struct stream_hooks *hooks, struct err *err)
{
    struct h5_file f;
    char digest[65], *recorded = NULL;
    int64_t complete = 0;
    int rc = h5_open(&f, path, false, err);
    if (rc)
        return rc;
    if (hooks && hooks->check)
        rc = hooks->check(hooks->arg, &f, err);
    if (!rc)
        rc = h5_get_text(&f, f.id, "input_sha256", &recorded, err);
    if (!rc)
        rc = h5_get_int(&f, f.id, "complete", &complete, err);
    if (!rc)
        rc = check_columns(s, &f, err);
    if (!rc)
        rc = input_digest(s, digest, err);
    if (!rc && strcmp(digest, recorded))
        rc = other(&f, err, "the input is not the one it was begun with");
    if (!rc && s->state == STREAM_COMPLETE && (!complete || s->done < s->lengths[0]))
        rc = err_set(err, ERR_FORMAT, "%s: is not complete: remove it", path);
    free(recorded);
    return h5_close(&f, rc, err);
}

struct rehearsal {
    struct stream_file *s;
    const char *path;
    const struct stream_hooks *hooks;
};

static int rehearse(void *arg, struct err *err)
{
    const struct rehearsal *r = arg;
    return check_file(r->s, r->path, r->hooks, err);
}

int stream_layout_check(struct stream_file *s, const char *path, const struct stream_hooks *hooks, struct err *err)
{
    struct rehearsal r = { s, path, hooks };
    int rc = h5_guard(path, rehearse, &r, err);
    return rc ? rc : check_file(s, path, hooks, err);
}

/* --- offsets --- */

static int find_column(const struct h5_file *f, struct column *c, uint64_t *header, uint64_t *rows, struct err *err)
{
    struct h5_dataset d;
    H5O_info_t info = { 0 };
    int rc = h5_dataset_open(&d, f, c->spec.name, err);
    if (rc)
        return rc;
    haddr_t at = H5Dget_offset(d.id);
    if (at == HADDR_UNDEF || H5Oget_info2(d.id, &info, H5O_INFO_BASIC) < 0)
        rc = h5_fail(f, err, "find '%s'", c->spec.name);
    c->data = (off_t)at;
    *header = info.addr;
    *rows = d.dims[0];
    h5_dataset_close(&d);
    return rc;
}

int stream_layout_find(struct stream_file *s, const char *path, struct err *err)
{
    struct h5_file f;
    uint64_t *headers = mem_array(s->n_columns, sizeof *headers), *rows = mem_array(s->n_columns, sizeof *rows);
    int rc = headers && rows ? h5_open(&f, path, false, err) : err_nomem(err, "offsets of datasets");
    if (!rc) {
        for (size_t i = 0; !rc && i < s->n_columns; i++)
            rc = find_column(&f, &s->columns[i], &headers[i], &rows[i], err);
        rc = h5_close(&f, rc, err);
    }
    int fd = rc ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (!rc && fd < 0)
        rc = err_errno(err, "%s: cannot open", path);
    for (size_t i = 0; !rc && i < s->n_columns; i++)
        rc = extent_find(fd, headers[i], rows[i], path, &s->columns[i].extent, err);
    if (fd >= 0)
        close(fd);
    free(headers);
    free(rows);
    return rc;
}

int stream_layout_complete(const char *path, struct err *err)
{
    struct h5_file f;
    int rc = h5_open(&f, path, true, err);
    if (rc)
        return rc;
    rc = h5_set_int(&f, f.id, "complete", 1, err);
    return h5_close(&f, rc, err);
}
