#include "core/store/h5.h"

#include "core/base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* --- errors --- */

struct reason {
    char text[sizeof(((struct err *)0)->msg)];
};

static herr_t innermost(unsigned depth, const H5E_error2_t *entry, void *data)
{
    struct reason *reason = data;
    if (depth == 0 && entry->desc)
        snprintf(reason->text, sizeof reason->text, "%s", entry->desc);
    return 0;
}

/* "... error message = 'No space left on device', ..." becomes what stands between the quotes. */
static void shorten(char *text)
{
    const char *mark = "error message = '";
    char *message = strstr(text, mark);
    if (!message)
        return;
    message += strlen(mark);
    size_t n = strcspn(message, "'");
    memmove(text, message, n);
    text[n] = '\0';
}

int h5_fail(const struct h5_file *f, struct err *err, const char *format, ...)
{
    struct reason reason = { "" };
    char what[256];
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, innermost, &reason);
    H5Eclear2(H5E_DEFAULT);
    shorten(reason.text);
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return err_set(err, ERR_IO, "%s: cannot %s%s%.700s", f->path, what, reason.text[0] ? ": " : "", reason.text);
}

/* --- files --- */

static hid_t access_list(void)
{
    /* At exit HDF5 would try again to flush a file that a full disk made it fail to close, and print about it. */
    H5dont_atexit();
    if (H5Eset_auto2(H5E_DEFAULT, NULL, NULL) < 0)
        return -1;
    hid_t list = H5Pcreate(H5P_FILE_ACCESS);
    /* No locks: they fail on some network file systems, and readers may look at a running dump (lock.h guards writers).
     */
    if (list >= 0 && H5Pset_fclose_degree(list, H5F_CLOSE_STRONG) >= 0 &&
        H5Pset_libver_bounds(list, H5F_LIBVER_EARLIEST, H5F_LIBVER_V110) >= 0 && H5Pset_alignment(list, 1, 8) >= 0 &&
        H5Pset_file_locking(list, 0, 1) >= 0)
        return list;
    H5Pclose(list);
    return -1;
}

int h5_create(struct h5_file *f, const char *path, struct err *err)
{
    *f = (struct h5_file){ -1, path };
    hid_t access = access_list(), create = H5Pcreate(H5P_FILE_CREATE);
    /* Times would make two runs of one command differ. */
    if (access >= 0 && create >= 0 && H5Pset_obj_track_times(create, 0) >= 0)
        f->id = H5Fcreate(path, H5F_ACC_TRUNC, create, access);
    int rc = f->id < 0 ? h5_fail(f, err, "create") : 0;
    H5Pclose(create);
    H5Pclose(access);
    return rc;
}

int h5_open(struct h5_file *f, const char *path, bool writable, struct err *err)
{
    struct stat st;
    *f = (struct h5_file){ -1, path };
    if (stat(path, &st))
        return err_errno(err, "%s: cannot open", path);
    if (!S_ISREG(st.st_mode)) /* the library would wait for a FIFO's writer */
        return err_set(err, ERR_IO, "%s: is not a regular file", path);
    hid_t access = access_list();
    if (access >= 0)
        f->id = H5Fopen(path, writable ? H5F_ACC_RDWR : H5F_ACC_RDONLY, access);
    int rc = f->id < 0 ? h5_fail(f, err, "open as HDF5") : 0;
    H5Pclose(access);
    return rc;
}

int h5_close(struct h5_file *f, int rc, struct err *err)
{
    if (f->id < 0)
        return rc;
    herr_t closed = H5Fclose(f->id);
    f->id = -1;
    if (closed < 0 && !rc)
        rc = h5_fail(f, err, "write");
    H5Eclear2(H5E_DEFAULT);
    return rc;
}

/* --- types --- */

static hid_t half_type(size_t exponent_bits, size_t mantissa_bits, size_t bias)
{
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    if (type >= 0 && H5Tset_fields(type, 15, mantissa_bits, exponent_bits, 0, mantissa_bits) >= 0 &&
        H5Tset_size(type, 2) >= 0 && H5Tset_ebias(type, bias) >= 0)
        return type;
    H5Tclose(type);
    return -1;
}

hid_t h5_make_type(enum store_type type, bool in_file)
{
    switch (type) {
    case STORE_F32:
        return H5Tcopy(in_file ? H5T_IEEE_F32LE : H5T_NATIVE_FLOAT);
    case STORE_F64:
        return H5Tcopy(in_file ? H5T_IEEE_F64LE : H5T_NATIVE_DOUBLE);
    case STORE_F16:
        return half_type(5, 10, 15);
    case STORE_BF16:
        return half_type(8, 7, 127);
    case STORE_I32:
        return H5Tcopy(in_file ? H5T_STD_I32LE : H5T_NATIVE_INT32);
    case STORE_I64:
        return H5Tcopy(in_file ? H5T_STD_I64LE : H5T_NATIVE_INT64);
    case STORE_TEXT:
        break;
    }
    hid_t text = H5Tcopy(H5T_C_S1);
    if (text >= 0 && H5Tset_size(text, H5T_VARIABLE) >= 0 && H5Tset_cset(text, H5T_CSET_UTF8) >= 0)
        return text;
    H5Tclose(text);
    return -1;
}

/* --- attributes --- */

static int put_attribute(const struct h5_file *f, hid_t object, const char *name, enum store_type type, size_t n,
                         const void *data, struct err *err)
{
    hsize_t dims = n;
    hid_t in_file = h5_make_type(type, true), in_memory = h5_make_type(type, false);
    hid_t space = n ? H5Screate_simple(1, &dims, NULL) : H5Screate(H5S_SCALAR), attribute = -1;
    bool ok = in_file >= 0 && in_memory >= 0 && space >= 0 &&
              (attribute = H5Acreate2(object, name, in_file, space, H5P_DEFAULT, H5P_DEFAULT)) >= 0 &&
              H5Awrite(attribute, in_memory, data) >= 0;
    bool closed = attribute < 0 || H5Aclose(attribute) >= 0;
    int rc = ok && closed ? 0 : h5_fail(f, err, "write attribute '%s'", name);
    H5Sclose(space);
    H5Tclose(in_memory);
    H5Tclose(in_file);
    H5Eclear2(H5E_DEFAULT);
    return rc;
}

int h5_put_text(const struct h5_file *f, hid_t object, const char *name, const char *text, struct err *err)
{
    return put_attribute(f, object, name, STORE_TEXT, 0, &text, err);
}

int h5_put_int(const struct h5_file *f, hid_t object, const char *name, int64_t value, struct err *err)
{
    return put_attribute(f, object, name, STORE_I64, 0, &value, err);
}

int h5_put_settings(const struct h5_file *f, const struct h5_setting *settings, size_t n, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < n; i++)
        rc = settings[i].text ? h5_put_text(f, f->id, settings[i].name, settings[i].text, err)
                              : h5_put_int(f, f->id, settings[i].name, settings[i].value, err);
    return rc;
}

int h5_put_ints(const struct h5_file *f, hid_t object, const char *name, const int64_t *values, size_t n,
                struct err *err)
{
    return put_attribute(f, object, name, STORE_I64, n, values, err);
}

int h5_set_int(const struct h5_file *f, hid_t object, const char *name, int64_t value, struct err *err)
{
    hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
    int rc = 0;
    if (attribute < 0 || H5Awrite(attribute, H5T_NATIVE_INT64, &value) < 0)
        rc = h5_fail(f, err, "change attribute '%s'", name);
    if (attribute >= 0 && H5Aclose(attribute) < 0 && !rc)
        rc = h5_fail(f, err, "change attribute '%s'", name);
    return rc;
}

bool h5_has_attribute(hid_t object, const char *name)
{
    bool has = H5Aexists(object, name) > 0;
    H5Eclear2(H5E_DEFAULT);
    return has;
}

static int open_attribute(const struct h5_file *f, hid_t object, const char *name, H5T_class_t wanted, hid_t *attribute,
                          hid_t *type, hssize_t *n, struct err *err)
{
    if (!h5_has_attribute(object, name))
        return err_set(err, ERR_FORMAT, "%s: attribute '%s' is missing", f->path, name);
    *attribute = H5Aopen(object, name, H5P_DEFAULT);
    *type = *attribute < 0 ? -1 : H5Aget_type(*attribute);
    hid_t space = *attribute < 0 ? -1 : H5Aget_space(*attribute);
    *n = space < 0 ? -1 : H5Sget_simple_extent_npoints(space);
    int rc = 0;
    if (*type < 0 || *n < 0)
        rc = h5_fail(f, err, "read attribute '%s'", name);
    else if (H5Tget_class(*type) != wanted)
        rc = err_set(err, ERR_FORMAT, "%s: attribute '%s' has the wrong type", f->path, name);
    if (space >= 0)
        H5Sclose(space);
    return rc;
}

static void close_attribute(hid_t attribute, hid_t type)
{
    if (type >= 0)
        H5Tclose(type);
    if (attribute >= 0)
        H5Aclose(attribute);
    H5Eclear2(H5E_DEFAULT);
}

static int read_text(const struct h5_file *f, hid_t attribute, hid_t type, const char *name, char **out,
                     struct err *err)
{
    if (H5Tis_variable_str(type) > 0) {
        char *text = NULL;
        hid_t memory = H5Tcopy(type);
        int rc = memory < 0 || H5Aread(attribute, memory, &text) < 0 ? h5_fail(f, err, "read attribute '%s'", name) : 0;
        if (!rc && !(*out = mem_strdup(text ? text : "")))
            rc = err_nomem(err, "an attribute");
        if (text)
            H5free_memory(text);
        H5Tclose(memory);
        return rc;
    }
    size_t size = H5Tget_size(type);
    char *text = mem_zeroed(size + 1, 1);
    if (!text)
        return err_nomem(err, "an attribute");
    if (H5Aread(attribute, type, text) < 0) {
        free(text);
        return h5_fail(f, err, "read attribute '%s'", name);
    }
    *out = text;
    return 0;
}

int h5_get_text(const struct h5_file *f, hid_t object, const char *name, char **out, struct err *err)
{
    hid_t attribute = -1, type = -1;
    hssize_t n = 0;
    int rc = open_attribute(f, object, name, H5T_STRING, &attribute, &type, &n, err);
    if (!rc && n != 1)
        rc = err_set(err, ERR_FORMAT, "%s: attribute '%s' is not one text", f->path, name);
    if (!rc)
        rc = read_text(f, attribute, type, name, out, err);
    close_attribute(attribute, type);
    return rc;
}

int h5_get_ints(const struct h5_file *f, hid_t object, const char *name, int64_t *out, size_t capacity, size_t *n,
                struct err *err)
{
    hid_t attribute = -1, type = -1;
    hssize_t count = 0;
    int rc = open_attribute(f, object, name, H5T_INTEGER, &attribute, &type, &count, err);
    if (!rc && (size_t)count > capacity)
        rc = err_set(err, ERR_FORMAT, "%s: attribute '%s' holds %lld numbers, at most %zu are possible", f->path, name,
                     (long long)count, capacity);
    if (!rc && count && H5Aread(attribute, H5T_NATIVE_INT64, out) < 0)
        rc = h5_fail(f, err, "read attribute '%s'", name);
    *n = rc ? 0 : (size_t)count;
    close_attribute(attribute, type);
    return rc;
}

int h5_get_int(const struct h5_file *f, hid_t object, const char *name, int64_t *out, struct err *err)
{
    size_t n;
    int rc = h5_get_ints(f, object, name, out, 1, &n, err);
    return rc || n == 1 ? rc : err_set(err, ERR_FORMAT, "%s: attribute '%s' is empty", f->path, name);
}
