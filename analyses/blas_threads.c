/*
 * OpenBLAS starts a thread for each core when it is loaded, before main. Strata's pool owns the threads, so that those
 * would only idle; and where they may not be started (a container's limit of processes), OpenBLAS raises SIGINT, and
 * the program is gone before it can say why. How many is asked of this function, which the program defines first.
 */
int openblas_num_threads_env(void);

int openblas_num_threads_env(void)
{
    return 1;
}
