/* Vectors of numbers: the first byte chooses .npy or .f32. */
#include "core/formats/vector_file.h"
#include "tests/fuzz/fuzz.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { MOST = 1 << 16 };
    struct err err = { 0 };
    char path[128];
    float *x = NULL;
    size_t n = 0;
    if (!size)
        return 0;
    fuzz_file(data[0] % 2 ? "v.npy" : "v.f32", data + 1, size - 1, path);
    if (fuzz_result(vector_file_read(path, MOST, &x, &n, &err), &err)) {
        fuzz_check(n <= MOST);
        for (size_t i = 0; i < n; i++)
            fuzz_check(isfinite(x[i]));
        free(x);
    }
    return 0;
}
