/* Datasets of h5.h: writing whole arrays, reading rows of untrusted ones. */
#include "core/base/half.h"
#include "core/base/mem.h"
#include "core/store/h5.h"

#include <stdlib.h>
#include <string.h>

int h5_put_array(const struct h5_file *f, const char *name, enum store_type type, int rank, const hsize_t *dims,
                 const void *data, struct err *err)
{
    hid_t in_file = h5_make_type(type, true), in_memory = h5_make_type(type, false);
    hid_t space = H5Screate_simple(rank, dims, NULL);
    hid_t links = H5Pcreate(H5P_LINK_CREATE), create = H5Pcreate(H5P_DATASET_CREATE), dataset = -1;
    bool ok = in_file >= 0 && in_memory >= 0 && space >= 0 && links >= 0 && create >= 0 &&
              H5Pset_create_intermediate_group(links, 1) >= 0 && H5Pset_obj_track_times(create, 0) >= 0 &&
              (dataset = H5Dcreate2(f->id, name, in_file, space, links, create, H5P_DEFAULT)) >= 0 &&
              (H5Sget_simple_extent_npoints(space) == 0 ||
               H5Dwrite(dataset, in_memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    int rc = h5_end_dataset(f, dataset, name, ok ? 0 : h5_fail(f, err, "write '%s'", name), err);
    H5Pclose(create);
    H5Pclose(links);
    H5Sclose(space);
    H5Tclose(in_memory);
    H5Tclose(in_file);
    H5Eclear2(H5E_DEFAULT);
    return rc;
}

int h5_end_dataset(const struct h5_file *f, hid_t dataset, const char *name, int rc, struct err *err)
{
    bool closed = dataset < 0 || H5Dclose(dataset) >= 0;
    return rc || closed ? rc : h5_fail(f, err, "write '%s'", name);
}

/* --- opening what a stranger may have made --- */

int h5_look(const struct h5_file *f, const char *name, struct err *err)
{
    char prefix[H5_NAME_MAX];
    size_t n = strlen(name);
    if (n >= sizeof prefix)
        return 0;
    memcpy(prefix, name, n + 1);
    for (char *end = prefix; end;) {
        end = strchr(end + 1, '/');
        if (end)
            *end = '\0';
        H5L_info_t info;
        htri_t there = H5Lexists(f->id, prefix, H5P_DEFAULT);
        if (there < 0 || (there && H5Lget_info(f->id, prefix, &info, H5P_DEFAULT) < 0))
            return h5_fail(f, err, "look for '%.200s'", name);
        if (!there || info.type != H5L_TYPE_HARD)
            return 0;
        if (end)
            *end = '/';
    }
    return 1;
}

static int type_of(hid_t type, enum store_type *out)
{
    size_t size = H5Tget_size(type), sign, exponent, exponent_bits, mantissa, mantissa_bits;
    switch (H5Tget_class(type)) {
    case H5T_STRING:
        *out = STORE_TEXT;
        return 0;
    case H5T_INTEGER:
        *out = size < 4 || (size == 4 && H5Tget_sign(type) == H5T_SGN_2) ? STORE_I32 : STORE_I64;
        return size <= 8 && !(size == 8 && H5Tget_sign(type) != H5T_SGN_2) ? 0 : -1;
    case H5T_FLOAT:
        if (H5Tequal(type, H5T_IEEE_F32LE) > 0 || H5Tequal(type, H5T_IEEE_F32BE) > 0)
            return *out = STORE_F32, 0;
        if (H5Tequal(type, H5T_IEEE_F64LE) > 0 || H5Tequal(type, H5T_IEEE_F64BE) > 0)
            return *out = STORE_F64, 0;
        if (size != 2 || H5Tget_order(type) != H5T_ORDER_LE ||
            H5Tget_fields(type, &sign, &exponent, &exponent_bits, &mantissa, &mantissa_bits) < 0 || sign != 15 ||
            mantissa != 0 || exponent != mantissa_bits || exponent_bits + mantissa_bits != 15)
            return -1;
        *out = mantissa_bits == 10 ? STORE_F16 : STORE_BF16;
        return (mantissa_bits == 10 && H5Tget_ebias(type) == 15) || (mantissa_bits == 7 && H5Tget_ebias(type) == 127)
                   ? 0
                   : -1;
    default:
        return -1;
    }
}

/* No filter shrinks data further than deflate does (about 1:1030). */
enum { MOST_BYTES_PER_BYTE = 2048 };

/*
 * Raw data must come from this file, or for a virtual dataset from plain file names beside it; the bytes that
 * the extent claims must be such as the file can hold, so that reading it all is bounded by the file's size.
 */
static int check_storage(const struct h5_dataset *d, size_t claimed, struct err *err)
{
    const char *path = d->file->path;
    hid_t list = H5Dget_create_plist(d->id);
    if (list < 0)
        return h5_fail(d->file, err, "open '%s'", d->name);
    int rc = 0;
    H5D_layout_t layout = H5Pget_layout(list);
    hsize_t file_bytes = 0;
    if (layout != H5D_VIRTUAL &&
        (H5Fget_filesize(d->file->id, &file_bytes) < 0 || claimed / MOST_BYTES_PER_BYTE > file_bytes))
        rc = err_set(err, ERR_FORMAT, "%s: '%s' claims %zu bytes, more than the file can hold", path, d->name, claimed);
    if (!rc && H5Pget_external_count(list) > 0)
        rc = err_set(err, ERR_FORMAT, "%s: '%s' keeps its data in other files: refused", path, d->name);
    if (!rc && layout == H5D_CHUNKED) {
        hsize_t chunk[H5_MAX_RANK];
        size_t bytes = store_type_size(d->type);
        bool ok = H5Pget_chunk(list, H5_MAX_RANK, chunk) == d->rank;
        for (int i = 0; ok && i < d->rank; i++)
            ok = size_mul(bytes, (size_t)chunk[i], &bytes) && bytes <= H5_CHUNK_MAX;
        if (!ok)
            rc = err_set(err, ERR_FORMAT, "%s: the chunks of '%s' are too large", path, d->name);
    }
    size_t sources = 0;
    if (!rc && layout == H5D_VIRTUAL && H5Pget_virtual_count(list, &sources) < 0)
        rc = h5_fail(d->file, err, "open '%s'", d->name);
    for (size_t i = 0; !rc && i < sources; i++) {
        char name[256];
        ssize_t n = H5Pget_virtual_filename(list, i, name, sizeof name);
        if (n <= 0 || (size_t)n >= sizeof name || strchr(name, '/') || !strcmp(name, ".."))
            rc =
                err_set(err, ERR_FORMAT, "%s: '%s' refers to a file outside the file's folder: refused", path, d->name);
    }
    H5Pclose(list);
    return rc;
}

static int open_checked(struct h5_dataset *d, struct err *err)
{
    const char *path = d->file->path;
    int there = h5_look(d->file, d->name, err);
    if (there <= 0)
        return there ? there : err_set(err, ERR_NOTFOUND, "%s: has no '%s'", path, d->name);
    H5O_info_t info;
    if (H5Oget_info_by_name2(d->file->id, d->name, &info, H5O_INFO_BASIC, H5P_DEFAULT) < 0)
        return h5_fail(d->file, err, "open '%s'", d->name);
    if (info.type != H5O_TYPE_DATASET)
        return err_set(err, ERR_FORMAT, "%s: '%s' is no dataset", path, d->name);
    d->id = H5Dopen2(d->file->id, d->name, H5P_DEFAULT);
    hid_t type = d->id < 0 ? -1 : H5Dget_type(d->id), space = d->id < 0 ? -1 : H5Dget_space(d->id);
    int rc = 0;
    if (type < 0 || space < 0)
        rc = h5_fail(d->file, err, "open '%s'", d->name);
    else if (type_of(type, &d->type))
        rc = err_set(err, ERR_FORMAT, "%s: '%s' holds neither numbers nor text", path, d->name);
    else if (H5Sget_simple_extent_type(space) != H5S_SIMPLE || H5Sget_simple_extent_ndims(space) > H5_MAX_RANK)
        rc = err_set(err, ERR_FORMAT, "%s: '%s' is no array of 1 to %d dimensions", path, d->name, H5_MAX_RANK);
    else
        d->rank = H5Sget_simple_extent_dims(space, d->dims, NULL);
    d->row_items = 1;
    size_t all = store_type_size(d->type);
    for (int i = 0; !rc && i < d->rank; i++)
        if (!size_mul(all, (size_t)d->dims[i], &all) ||
            (i && !size_mul(d->row_items, (size_t)d->dims[i], &d->row_items)))
            rc = err_set(err, ERR_FORMAT, "%s: '%s' is larger than memory can address", path, d->name);
    if (space >= 0)
        H5Sclose(space);
    if (type >= 0)
        H5Tclose(type);
    return rc ? rc : check_storage(d, all, err);
}

int h5_dataset_open(struct h5_dataset *d, const struct h5_file *f, const char *name, struct err *err)
{
    *d = (struct h5_dataset){ .id = -1, .file = f, .name = mem_strdup(name) };
    int rc = d->name ? open_checked(d, err) : err_nomem(err, "a dataset's name");
    H5Eclear2(H5E_DEFAULT);
    if (rc)
        h5_dataset_close(d);
    return rc;
}

void h5_dataset_close(struct h5_dataset *d)
{
    if (d->name && d->id >= 0)
        H5Dclose(d->id);
    free(d->name);
    *d = (struct h5_dataset){ .id = -1 };
}

/* --- reading rows --- */

static int select_rows(const struct h5_dataset *d, uint64_t first, uint64_t n, hid_t *in_memory, hid_t *in_file,
                       struct err *err)
{
    if (first > d->dims[0] || n > d->dims[0] - first)
        return err_set(err, ERR_FORMAT, "%s: '%s' has %llu rows, rows %llu to %llu are wanted", d->file->path, d->name,
                       (unsigned long long)d->dims[0], (unsigned long long)first,
                       (unsigned long long)(first + n ? first + n - 1 : 0));
    hsize_t start[H5_MAX_RANK] = { first }, count[H5_MAX_RANK] = { n };
    for (int i = 1; i < d->rank; i++)
        count[i] = d->dims[i];
    *in_memory = H5Screate_simple(d->rank, count, NULL);
    *in_file = H5Dget_space(d->id);
    if (*in_memory >= 0 && *in_file >= 0 &&
        H5Sselect_hyperslab(*in_file, H5S_SELECT_SET, start, NULL, count, NULL) >= 0)
        return 0;
    return h5_fail(d->file, err, "read '%s'", d->name);
}

/* type: how items lie in out, in HDF5's words. */
static int read_rows(const struct h5_dataset *d, uint64_t first, uint64_t n, hid_t type, void *out, struct err *err)
{
    hid_t in_memory = -1, in_file = -1;
    int rc =
        type < 0 ? h5_fail(d->file, err, "read '%s'", d->name) : select_rows(d, first, n, &in_memory, &in_file, err);
    if (!rc && n && d->row_items && H5Dread(d->id, type, in_memory, in_file, H5P_DEFAULT, out) < 0)
        rc = h5_fail(d->file, err, "read '%s'", d->name);
    if (in_memory >= 0)
        H5Sclose(in_memory);
    if (in_file >= 0)
        H5Sclose(in_file);
    H5Eclear2(H5E_DEFAULT);
    return rc;
}

enum { PIECE_ITEMS = 1 << 16 };

/* The library widens halves at 0.05 GB/s; read as they are and widen here. Rows longer than a piece come whole. */
static int read_halves(const struct h5_dataset *d, uint64_t first, uint64_t n, enum store_type as, void *out,
                       struct err *err)
{
    uint64_t step = d->row_items && d->row_items < PIECE_ITEMS ? PIECE_ITEMS / d->row_items : 1;
    uint16_t *halves = mem_array((size_t)step * d->row_items, sizeof *halves);
    float *wide = mem_array((size_t)step * d->row_items, sizeof *wide);
    hid_t type = H5Dget_type(d->id);
    int rc = halves && wide ? 0 : err_nomem(err, "rows of a dataset");
    for (uint64_t at = 0; !rc && at < n; at += step) {
        uint64_t rows = n - at < step ? n - at : step;
        size_t items = (size_t)rows * d->row_items, to = (size_t)at * d->row_items;
        rc = read_rows(d, first + at, rows, type, halves, err);
        if (rc)
            break;
        float *floats = as == STORE_F32 ? (float *)out + to : wide;
        if (d->type == STORE_F16)
            half_to_f32(floats, halves, items);
        else
            bf16_to_f32(floats, halves, items);
        for (size_t i = 0; as == STORE_F64 && i < items; i++)
            ((double *)out)[to + i] = (double)wide[i];
    }
    if (type >= 0)
        H5Tclose(type);
    free(halves);
    free(wide);
    return rc;
}

/* HDF5 would clip what does not fit. */
static int read_narrow_ints(const struct h5_dataset *d, uint64_t first, uint64_t n, int32_t *out, struct err *err)
{
    size_t items = (size_t)n * d->row_items;
    int64_t *wide = mem_array(items, sizeof *wide);
    int rc = wide ? read_rows(d, first, n, H5T_NATIVE_INT64, wide, err) : err_nomem(err, "rows of a dataset");
    for (size_t i = 0; !rc && i < items; i++) {
        if (wide[i] < INT32_MIN || wide[i] > INT32_MAX)
            rc = err_set(err, ERR_FORMAT, "%s: '%s' holds %lld, which is out of range", d->file->path, d->name,
                         (long long)wide[i]);
        out[i] = (int32_t)wide[i];
    }
    free(wide);
    return rc;
}

int h5_dataset_read(const struct h5_dataset *d, uint64_t first, uint64_t n, enum store_type as, void *out,
                    struct err *err)
{
    bool integers = as == STORE_I32 || as == STORE_I64, has = d->type == STORE_I32 || d->type == STORE_I64;
    if (d->type == STORE_TEXT || integers != has)
        return err_set(err, ERR_FORMAT, "%s: '%s' holds %s, not %s", d->file->path, d->name, store_type_name(d->type),
                       integers ? "integers" : "floating-point numbers");
    if (d->type == STORE_F16 || d->type == STORE_BF16)
        return read_halves(d, first, n, as, out, err);
    if (as == STORE_I32 && d->type == STORE_I64)
        return read_narrow_ints(d, first, n, out, err);
    hid_t type = h5_make_type(as, false);
    int rc = read_rows(d, first, n, type, out, err);
    H5Tclose(type);
    return rc;
}

static int copy_text(const void *raw, size_t width, uint64_t n, char **out, struct err *err)
{
    for (uint64_t i = 0; i < n; i++) {
        const char *item = width ? (const char *)raw + i * width : ((char *const *)raw)[i];
        out[i] = !item ? mem_strdup("") : width ? mem_strndup(item, strnlen(item, width)) : mem_strdup(item);
        if (out[i])
            continue;
        while (i)
            free(out[--i]);
        return err_nomem(err, "text of a dataset");
    }
    return 0;
}

int h5_dataset_read_text(const struct h5_dataset *d, uint64_t first, uint64_t n, char **out, struct err *err)
{
    if (d->type != STORE_TEXT || d->rank != 1)
        return err_set(err, ERR_FORMAT, "%s: '%s' is no list of texts", d->file->path, d->name);
    if (first > d->dims[0] || n > d->dims[0] - first)
        return err_set(err, ERR_FORMAT, "%s: '%s' has %llu rows, row %llu is wanted", d->file->path, d->name,
                       (unsigned long long)d->dims[0], (unsigned long long)(first + n - 1));
    hid_t type = H5Dget_type(d->id);
    bool variable = type >= 0 && H5Tis_variable_str(type) > 0;
    size_t width = variable ? 0 : H5Tget_size(type), bytes;
    if (!size_mul((size_t)n, variable ? sizeof(char *) : width, &bytes)) {
        H5Tclose(type);
        return err_nomem(err, "text of a dataset");
    }
    void *raw = mem_zeroed(bytes, 1);
    int rc = raw ? read_rows(d, first, n, type, raw, err) : err_nomem(err, "text of a dataset");
    if (!rc)
        rc = copy_text(raw, width, n, out, err);
    if (variable && raw) {
        hsize_t count = n;
        hid_t space = H5Screate_simple(1, &count, NULL);
        H5Dvlen_reclaim(type, space, H5P_DEFAULT, raw);
        H5Sclose(space);
    }
    free(raw);
    H5Tclose(type);
    H5Eclear2(H5E_DEFAULT);
    return rc;
}

/* The first n of a list that has them; closes it. */
static int take_list(struct h5_dataset *d, enum store_type as, uint64_t n, void **out, struct err *err)
{
    void *data = mem_zeroed((size_t)n, store_type_size(as));
    int rc = !data              ? err_nomem(err, d->name)
             : as == STORE_TEXT ? h5_dataset_read_text(d, 0, n, data, err)
                                : h5_dataset_read(d, 0, n, as, data, err);
    h5_dataset_close(d);
    if (rc)
        free(data);
    else
        *out = data;
    return rc;
}

int h5_get_array(const struct h5_file *f, const char *name, enum store_type as, uint64_t n, void **out, struct err *err)
{
    struct h5_dataset d;
    int rc = h5_dataset_open(&d, f, name, err);
    if (rc)
        return rc;
    if (d.rank == 1 && d.dims[0] == n)
        return take_list(&d, as, n, out, err);
    rc = err_set(err, ERR_FORMAT, "%s: '%s' has %llu items, %llu are expected", f->path, name,
                 (unsigned long long)(d.rank ? d.dims[0] : 0), (unsigned long long)n);
    h5_dataset_close(&d);
    return rc;
}

int h5_get_first(const struct h5_file *f, const char *name, enum store_type as, size_t n, void *out, struct err *err)
{
    struct h5_dataset d;
    int rc = h5_dataset_open(&d, f, name, err);
    if (rc)
        return rc;
    if (d.rank == 1 && d.dims[0] >= n && n)
        return take_list(&d, as, n, out, err);
    h5_dataset_close(&d);
    return err_set(err, ERR_FORMAT, "%s: '%s' is no list of %zu items or more", f->path, name, n);
}

int h5_get_length(const struct h5_file *f, const char *name, size_t *n, struct err *err)
{
    struct h5_dataset d;
    int rc = h5_dataset_open(&d, f, name, err);
    if (rc)
        return rc;
    *n = d.rank == 1 ? (size_t)d.dims[0] : 0;
    if (!*n || *n > INT32_MAX)
        rc = err_set(err, ERR_FORMAT, "%s: '%s' is no list of 1 to %d items", f->path, name, INT32_MAX);
    h5_dataset_close(&d);
    return rc;
}

void h5_free_text(char **text, uint64_t n)
{
    for (uint64_t i = 0; text && i < n; i++)
        free(text[i]);
    free(text);
}
