/* Blocks of every type: the first byte chooses it, the rest are blocks. Reading whole or in two parts is the same. */
#include "core/base/mem.h"
#include "core/formats/tensor.h"
#include "tests/fuzz/fuzz.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    enum dtype type = (enum dtype)(data[0] % N_DTYPES);
    size_t elements = dtype_block_elements(type), n_blocks = (size - 1) / dtype_block_bytes(type);
    size_t n = n_blocks * elements, half = n_blocks / 2 * elements;
    uint8_t *bytes = fuzz_copy(data + 1, size - 1);
    float *whole = mem_array(n, sizeof *whole), *parts = mem_array(n, sizeof *parts);
    struct tensor t = {
        .name = "w", .dtype = type, .n_dims = 1, .dims = { n }, .n = n, .data = bytes, .bytes = size - 1
    };
    fuzz_check(whole && parts);
    tensor_widen(&t, 0, n, whole);
    tensor_widen(&t, 0, half, parts);
    tensor_widen(&t, half, n - half, parts + half);
    for (size_t i = 0; i < n; i++) /* a NaN may come with another payload: which instructions read it depends on i */
        fuzz_check(!memcmp(&whole[i], &parts[i], sizeof *whole) || (isnan(whole[i]) && isnan(parts[i])));
    free(whole);
    free(parts);
    free(bytes);
    return 0;
}
