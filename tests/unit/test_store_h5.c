/* HDF5 glue: values come back, and what a stranger's file may try is refused. */
#include "core/store/h5.h"
#include "core/store/h5_guard.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64], path[96], other[96];

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/strata-test-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/a.h5", folder);
    snprintf(other, sizeof other, "%s/b.h5", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    unlink(other);
    return rmdir(folder); /* fails when anything was left behind */
}

static struct h5_file created(const char *name)
{
    struct h5_file f;
    struct err err = { 0 };
    if (h5_create(&f, name, &err))
        fail_msg("%s", err.msg);
    return f;
}

static struct h5_file opened(const char *name)
{
    struct h5_file f;
    struct err err = { 0 };
    if (h5_open(&f, name, false, &err))
        fail_msg("%s", err.msg);
    return f;
}

static void closed(struct h5_file *f)
{
    struct err err = { 0 };
    if (h5_close(f, 0, &err))
        fail_msg("%s", err.msg);
}

static void attributes_come_back(void **state)
{
    (void)state;
    struct err err;
    char *long_text = malloc(200001), *text;
    memset(long_text, 'x', 200000); /* more than an object header holds */
    long_text[200000] = '\0';
    struct h5_file f = created(path);
    assert_int_equal(h5_put_text(&f, f.id, "text", "M\xc3\xbcnchen", &err), 0);
    assert_int_equal(h5_put_text(&f, f.id, "empty", "", &err), 0);
    assert_int_equal(h5_put_text(&f, f.id, "long", long_text, &err), 0);
    assert_int_equal(h5_put_int(&f, f.id, "number", INT64_MIN, &err), 0);
    assert_int_equal(h5_put_ints(&f, f.id, "list", (const int64_t[]){ 3, 1, 2 }, 3, &err), 0);
    assert_int_equal(h5_set_int(&f, f.id, "number", 7, &err), 0);
    closed(&f);
    f = opened(path);
    const char *const names[] = { "text", "empty", "long" }, *const texts[] = { "M\xc3\xbcnchen", "", long_text };
    for (int i = 0; i < 3; i++) {
        assert_int_equal(h5_get_text(&f, f.id, names[i], &text, &err), 0);
        assert_string_equal(text, texts[i]);
        free(text);
    }
    int64_t number, list[3];
    size_t n;
    assert_int_equal(h5_get_int(&f, f.id, "number", &number, &err), 0);
    assert_int_equal(number, 7);
    assert_int_equal(h5_get_ints(&f, f.id, "list", list, 3, &n, &err), 0);
    assert_true(n == 3 && list[0] == 3 && list[1] == 1 && list[2] == 2);
    /* Absent, of another type, too long. */
    assert_int_equal(h5_get_text(&f, f.id, "none", &text, &err), ERR_FORMAT);
    assert_int_equal(h5_get_text(&f, f.id, "number", &text, &err), ERR_FORMAT);
    assert_int_equal(h5_get_int(&f, f.id, "text", &number, &err), ERR_FORMAT);
    assert_int_equal(h5_get_ints(&f, f.id, "list", list, 2, &n, &err), ERR_FORMAT);
    closed(&f);
    free(long_text);
}

static void arrays_of_every_type_come_back(void **state)
{
    (void)state;
    struct err err;
    const hsize_t dims[2] = { 2, 2 }, three = 3;
    const float floats[4] = { 1.5f, -2, INFINITY, 0 };
    const double doubles[4] = { 1e300, -2, 3, 4 };
    const uint16_t halves[4] = { 0x3c00, 0x0001, 0xfbff, 0x7c00 }, bf16s[4] = { 0x3f80, 0x0001, 0xff7f, 0x4000 };
    const int32_t ints[4] = { INT32_MIN, 0, 1, INT32_MAX };
    const int64_t longs[4] = { INT64_MIN, 0, 5, INT64_MAX };
    const char *const texts[3] = { "", "a", "\xf0\x9f\x8c\x8d" };
    struct h5_file f = created(path);
    assert_int_equal(h5_put_array(&f, "/g/f32", STORE_F32, 2, dims, floats, &err), 0);
    assert_int_equal(h5_put_array(&f, "/g/f64", STORE_F64, 2, dims, doubles, &err), 0);
    assert_int_equal(h5_put_array(&f, "/g/f16", STORE_F16, 2, dims, halves, &err), 0);
    assert_int_equal(h5_put_array(&f, "/g/bf16", STORE_BF16, 2, dims, bf16s, &err), 0);
    assert_int_equal(h5_put_array(&f, "/g/i32", STORE_I32, 2, dims, ints, &err), 0);
    assert_int_equal(h5_put_array(&f, "/g/i64", STORE_I64, 2, dims, longs, &err), 0);
    assert_int_equal(h5_put_array(&f, "/g/text", STORE_TEXT, 1, &three, texts, &err), 0);
    closed(&f);

    f = opened(path);
    const struct {
        const char *name;
        enum store_type type;
        double values[4];
    } numbers[] = {
        { "/g/f32", STORE_F32, { 1.5, -2, INFINITY, 0 } },
        { "/g/f64", STORE_F64, { 1e300, -2, 3, 4 } },
        { "/g/f16", STORE_F16, { 1, 0x1p-24, -65504, INFINITY } },
        { "/g/bf16", STORE_BF16, { 1, 0x1p-133, -0x1.fep127, 2 } },
    };
    struct h5_dataset d;
    for (size_t k = 0; k < 4; k++) {
        double out[4];
        assert_int_equal(h5_dataset_open(&d, &f, numbers[k].name, &err), 0);
        assert_int_equal(d.type, numbers[k].type);
        assert_true(d.rank == 2 && d.dims[0] == 2 && d.row_items == 2);
        assert_int_equal(h5_dataset_read(&d, 0, 2, STORE_F64, out, &err), 0);
        assert_memory_equal(out, numbers[k].values, sizeof out);
        assert_int_equal(h5_dataset_read(&d, 1, 1, STORE_F64, out, &err), 0);
        assert_true(out[1] == numbers[k].values[3]);
        /* Rows beyond the end, also where the sum overflows; numbers of another kind. */
        assert_int_equal(h5_dataset_read(&d, 1, 2, STORE_F64, out, &err), ERR_FORMAT);
        assert_int_equal(h5_dataset_read(&d, 2, UINT64_MAX, STORE_F64, out, &err), ERR_FORMAT);
        assert_int_equal(h5_dataset_read(&d, 0, 1, STORE_I32, out, &err), ERR_FORMAT);
        h5_dataset_close(&d);
    }
    int32_t narrow[4];
    int64_t wide[4];
    assert_int_equal(h5_dataset_open(&d, &f, "/g/i32", &err), 0);
    assert_int_equal(h5_dataset_read(&d, 0, 2, STORE_I64, wide, &err), 0);
    assert_true(wide[0] == INT32_MIN && wide[3] == INT32_MAX);
    h5_dataset_close(&d);
    assert_int_equal(h5_dataset_open(&d, &f, "/g/i64", &err), 0);
    assert_int_equal(h5_dataset_read(&d, 0, 2, STORE_I32, narrow, &err), ERR_FORMAT); /* never clipped */
    assert_non_null(strstr(err.msg, "out of range"));
    h5_dataset_close(&d);
    char **text;
    assert_int_equal(h5_get_array(&f, "/g/text", STORE_TEXT, 3, (void **)&text, &err), 0);
    for (int i = 0; i < 3; i++)
        assert_string_equal(text[i], texts[i]);
    h5_free_text(text, 3);
    assert_int_equal(h5_get_array(&f, "/g/text", STORE_TEXT, 4, (void **)&text, &err), ERR_FORMAT);
    assert_int_equal(h5_dataset_open(&d, &f, "/g/none", &err), ERR_NOTFOUND);
    assert_int_equal(h5_dataset_open(&d, &f, "/g", &err), ERR_FORMAT);
    assert_non_null(strstr(err.msg, "is no dataset"));
    closed(&f);
}

static void refused(const char *name, const char *says)
{
    struct h5_file f = opened(path);
    struct h5_dataset d;
    struct err err = { 0 };
    int rc = h5_dataset_open(&d, &f, name, &err);
    if (!rc || !strstr(err.msg, says))
        fail_msg("%s: result %d, '%s' does not say '%s'", name, rc, err.msg, says);
    closed(&f);
}

/* The dataset of a stranger: create list and type as given. */
static void put_raw(const struct h5_file *f, const char *name, hid_t type, int rank, const hsize_t *dims, hid_t create)
{
    hid_t space = H5Screate_simple(rank, dims, NULL);
    hid_t d = H5Dcreate2(f->id, name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
    assert_true(d >= 0);
    H5Dclose(d);
    H5Sclose(space);
}

static void data_in_other_files_is_refused(void **state)
{
    (void)state;
    struct err err;
    const hsize_t one = 1;
    const float number = 1;
    struct h5_file f = created(other);
    assert_int_equal(h5_put_array(&f, "/x", STORE_F32, 1, &one, &number, &err), 0);
    closed(&f);

    f = created(path);
    hid_t external = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(external, "/etc/hostname", 0, 4);
    put_raw(&f, "raw", H5T_NATIVE_FLOAT, 1, &one, external);
    H5Pclose(external);
    assert_true(H5Lcreate_external(other, "/x", f.id, "link", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    assert_true(H5Lcreate_soft("/raw", f.id, "soft", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    const char *const sources[] = { "/etc/hostname", "../b.h5", ".." }, *const names[] = { "v0", "v1", "v2" };
    for (int i = 0; i < 3; i++) {
        hid_t source = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(1, &one, NULL);
        assert_true(H5Pset_virtual(source, space, sources[i], "/x", space) >= 0);
        put_raw(&f, names[i], H5T_NATIVE_FLOAT, 1, &one, source);
        H5Sclose(space);
        H5Pclose(source);
    }
    hid_t beside = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(1, &one, NULL);
    assert_true(H5Pset_virtual(beside, space, "b.h5", "/x", space) >= 0);
    put_raw(&f, "beside", H5T_NATIVE_FLOAT, 1, &one, beside);
    H5Sclose(space);
    H5Pclose(beside);
    closed(&f);

    refused("/raw", "keeps its data in other files");
    refused("/link", "has no '/link'");
    refused("/soft", "has no '/soft'");
    for (int i = 0; i < 3; i++)
        refused(names[i], "outside the file's folder");
    /* What stands beside the file is what index.h5 is made of. */
    f = opened(path);
    struct h5_dataset d;
    float out = 0;
    assert_int_equal(h5_dataset_open(&d, &f, "/beside", &err), 0);
    assert_int_equal(h5_dataset_read(&d, 0, 1, STORE_F32, &out, &err), 0);
    assert_true(out == 1);
    h5_dataset_close(&d);
    closed(&f);
}

static void claims_beyond_the_file_and_odd_types_are_refused(void **state)
{
    (void)state;
    const hsize_t huge[2] = { (hsize_t)1 << 40, 1 << 10 }, beyond[2] = { (hsize_t)1 << 52, 1 << 10 };
    const hsize_t five[5] = { 1, 1, 1, 1, 1 }, chunk[2] = { 1 << 17, 1 << 10 }, one = 1;
    struct h5_file f = created(path);
    hid_t chunked = H5Pcreate(H5P_DATASET_CREATE), large = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(chunked, 2, (const hsize_t[]){ 1024, 1024 });
    H5Pset_chunk(large, 2, chunk);
    put_raw(&f, "huge", H5T_NATIVE_FLOAT, 2, huge, chunked);
    put_raw(&f, "beyond", H5T_NATIVE_DOUBLE, 2, beyond, chunked);
    const hsize_t small[2] = { 2, 2 }, unlimited[2] = { H5S_UNLIMITED, H5S_UNLIMITED };
    hid_t growing = H5Screate_simple(2, small, unlimited);
    H5Dclose(H5Dcreate2(f.id, "chunks", H5T_NATIVE_FLOAT, growing, H5P_DEFAULT, large, H5P_DEFAULT));
    H5Sclose(growing);
    put_raw(&f, "deep", H5T_NATIVE_FLOAT, 5, five, H5P_DEFAULT);
    hid_t pair = H5Tcreate(H5T_COMPOUND, 8);
    H5Tinsert(pair, "x", 0, H5T_NATIVE_FLOAT);
    put_raw(&f, "pair", pair, 1, &one, H5P_DEFAULT);
    H5Tclose(pair);
    H5Pclose(chunked);
    H5Pclose(large);
    hid_t scalar = H5Screate(H5S_SCALAR);
    H5Dclose(H5Dcreate2(f.id, "scalar", H5T_NATIVE_FLOAT, scalar, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Sclose(scalar);
    closed(&f);
    refused("/huge", "more than the file can hold");
    refused("/beyond", "larger than memory can address");
    refused("/chunks", "chunks of '/chunks' are too large");
    refused("/deep", "no array of 1 to 4 dimensions");
    refused("/pair", "neither numbers nor text");
    refused("/scalar", "no array of 1 to 4 dimensions");
}

static int crash(void *arg, struct err *err)
{
    (void)arg;
    (void)err;
    raise(SIGSEGV);
    return 0;
}

static int spin(void *arg, struct err *err)
{
    volatile unsigned n = 0;
    (void)arg;
    (void)err;
    for (;;)
        n++;
    return 0;
}

static int refuse(void *arg, struct err *err)
{
    return err_set(err, ERR_SHAPE, "%s: is wrong", (const char *)arg);
}

static int accept(void *arg, struct err *err)
{
    (void)err;
    *(int *)arg = 1; /* in the child only */
    return 0;
}

static void the_guard_survives_crashes_and_loops(void **state)
{
    (void)state;
    struct err err = { 0 };
    int touched = 0;
    assert_int_equal(h5_guard("f.h5", crash, NULL, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "f.h5: is damaged: the HDF5 library crashes on it");
    assert_int_equal(h5_guard("f.h5", spin, NULL, &err), ERR_FORMAT);
    assert_string_equal(err.msg, "f.h5: is damaged: the HDF5 library does not come to an end on it");
    assert_int_equal(h5_guard("f.h5", refuse, (void *)(uintptr_t) "f.h5", &err), ERR_SHAPE);
    assert_string_equal(err.msg, "f.h5: is wrong");
    assert_int_equal(h5_guard("f.h5", accept, &touched, &err), 0);
    assert_int_equal(touched, 0);
}

static void files_that_are_no_hdf5_say_so(void **state)
{
    (void)state;
    struct h5_file f;
    struct err err = { 0 };
    FILE *file = fopen(path, "wb");
    fputs("no HDF5", file);
    fclose(file);
    const char *const names[] = { path, "/dev/null", folder, "/tmp/strata/none.h5" };
    const char *const says[] = { "cannot open as HDF5", "is not a regular file", "is not a regular file",
                                 "cannot open: No" };
    for (int i = 0; i < 4; i++) {
        assert_int_equal(h5_open(&f, names[i], false, &err), ERR_IO);
        assert_int_equal(f.id, -1);
        assert_non_null(strstr(err.msg, says[i]));
        assert_null(strchr(err.msg, '\n'));
    }
    assert_int_equal(h5_create(&f, "/proc/none.h5", &err), ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(attributes_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(arrays_of_every_type_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(data_in_other_files_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(claims_beyond_the_file_and_odd_types_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_guard_survives_crashes_and_loops, set_up, tear_down),
        cmocka_unit_test_setup_teardown(files_that_are_no_hdf5_say_so, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("store_h5", tests, NULL, NULL);
}
