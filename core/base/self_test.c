#include "core/base/self_test.h"

int self_test(struct self_test *t, struct err *err)
{
    pthread_mutex_lock(&t->lock);
    if (!t->known)
        t->check(&t->result);
    t->known = true;
    pthread_mutex_unlock(&t->lock);
    if (t->result.code && err)
        *err = t->result;
    return t->result.code;
}

/* Knuth's MMIX generator: its upper bits. */
float self_test_number(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)(*state >> 40) * 0x1p-23F - 1;
}
