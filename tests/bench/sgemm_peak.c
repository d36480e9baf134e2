/*
 * What this machine's sgemm reaches: one loop per thread, each with one BLAS
 * thread, on the shape of a batch times a weight matrix. The yardstick of
 * tests/bench/run.sh: the forward pass is judged against it.
 *
 *     sgemm_peak THREADS ROWS OUT IN SECONDS     prints GF/s of all threads together
 */
#define _GNU_SOURCE
#include "core/base/mem.h"

#include <cblas.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct loop {
    int rows, out, in;
    double seconds, gflops;
    pthread_t thread;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *run(void *arg)
{
    struct loop *l = arg;
    size_t rows = (size_t)l->rows, out = (size_t)l->out, in = (size_t)l->in;
    float *x = mem_aligned(rows * in, sizeof *x), *w = mem_aligned(out * in, sizeof *w);
    float *y = mem_aligned(rows * out, sizeof *y);
    if (!x || !w || !y)
        abort();
    for (size_t i = 0; i < rows * in; i++)
        x[i] = (float)(i % 17) * 0.1f;
    for (size_t i = 0; i < out * in; i++)
        w[i] = (float)(i % 13) * 0.1f;
    double begin = now(), flops = 0;
    do {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, l->rows, l->out, l->in, 1, x, l->in, w, l->in, 0, y,
                    l->out);
        flops += 2.0 * l->rows * l->out * l->in;
    } while (now() - begin < l->seconds);
    l->gflops = flops / (now() - begin) * 1e-9;
    free(x);
    free(w);
    free(y);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: sgemm_peak THREADS ROWS OUT IN SECONDS\n");
        return 2;
    }
    int threads = atoi(argv[1]);
    struct loop loops[64];
    double total = 0;
    if (threads < 1 || threads > 64)
        return 2;
    openblas_set_num_threads(1);
    for (int t = 0; t < threads; t++) {
        loops[t] =
            (struct loop){ .rows = atoi(argv[2]), .out = atoi(argv[3]), .in = atoi(argv[4]), .seconds = atof(argv[5]) };
        if (pthread_create(&loops[t].thread, NULL, run, &loops[t]))
            return 1;
    }
    for (int t = 0; t < threads; t++) {
        pthread_join(loops[t].thread, NULL);
        total += loops[t].gflops;
    }
    printf("%.1f\n", total);
    return 0;
}
