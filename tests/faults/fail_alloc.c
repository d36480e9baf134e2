/*
 * An allocator to be preloaded: it counts what strata allocates, fails the call it is told to, and reports at exit what
 * was never freed. tests/faults/faults.py runs the program under it.
 *
 *     LD_PRELOAD=fail_alloc.so FAIL_ALLOC_LOG=log FAIL_ALLOC_AT=17 strata info MODEL
 *
 * FAIL_ALLOC_AT     number of the call that fails, from 1; absent: none
 * FAIL_ALLOC_REST   1: that one and all later ones
 * FAIL_ALLOC_SCOPE  own (calls in the program's own code; the default) or all (also those of the libraries it calls)
 * FAIL_ALLOC_LOG    the report: lines "calls OWN ALL", "site ID OBJECT COUNT FIRST_OWN FIRST_ALL ADDRESS...",
 *                   "failed CALL ID", "leak ID BLOCKS BYTES"
 *
 * Two calls are of one site where the same functions of the program lie above them; ADDRESS counts from the program's
 * start, for addr2line. OBJECT is what called: "own" or a library. Programs that strata starts run without it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <execinfo.h>
#include <link.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the C library's own. */
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void *memalign(size_t, size_t);
void __libc_free(void *);
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */

enum {
    SELF = 2,
    DEPTH = 48,
    FRAMES = 6,
    MOST_SITES = 1 << 15,
    MOST_BLOCKS = 1 << 20,
    BUCKETS = 1 << 16,
    MOST_OBJECTS = 128
};

struct object {
    uintptr_t begin, end;
    const char *name;
};

struct site {
    uintptr_t frames[FRAMES]; /* of the program, innermost first */
    const struct object *object;
    size_t count, first_own, first_all, live, live_bytes;
};

struct block {
    void *address;
    struct block *next;
    size_t bytes, site;
};

static struct object objects[MOST_OBJECTS];
static size_t n_objects;
static uintptr_t base, text_begin, text_end, entry;
static struct site sites[MOST_SITES];
static size_t n_sites;
static struct block blocks[MOST_BLOCKS], *buckets[BUCKETS], *unused;
static size_t n_blocks;
static size_t own_calls, all_calls, fail_at, failed_call, failed_site;
static bool fail_rest, fail_all, ready;
static const char *log_path;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static __thread bool inside __attribute__((tls_model("initial-exec")));

static int add_object(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t begin = info->dlpi_addr + p->p_vaddr;
        if (p->p_type != PT_LOAD || !(p->p_flags & PF_X) || n_objects == MOST_OBJECTS)
            continue;
        const char *slash = strrchr(info->dlpi_name, '/');
        objects[n_objects++] = (struct object){ begin, begin + p->p_memsz, slash ? slash + 1 : info->dlpi_name };
        if (n_objects == 1) { /* the program comes first */
            objects[0].name = "own";
            base = info->dlpi_addr;
            text_begin = begin;
            text_end = begin + p->p_memsz;
        }
    }
    return 0;
}

static const struct object *object_of(uintptr_t address)
{
    static const struct object unknown = { 0, 0, "?" };
    for (size_t i = 0; i < n_objects; i++)
        if (address >= objects[i].begin && address < objects[i].end)
            return &objects[i];
    return &unknown;
}

/* _start, which is above all that runs before and after main. */
static bool is_entry(uintptr_t address)
{
    return address >= entry && address < entry + 64;
}

/* Of the caller; false where main is not above it. */
static bool find_caller(uintptr_t from, struct site *s)
{
    void *stack[DEPTH];
    int n = backtrace(stack, DEPTH), kept = 0;
    memset(s, 0, sizeof *s);
    s->object = object_of(from);
    for (int i = 0; i < n && kept < FRAMES; i++) {
        uintptr_t at = (uintptr_t)stack[i];
        if (at >= text_begin && at < text_end && !is_entry(at))
            s->frames[kept++] = at - base;
        else if (!kept && s->object != &objects[0] && i > SELF)
            s->object = object_of(at); /* the library that the program has called, not one that this one has */
    }
    return kept > 0;
}

/* With the lock held. */
static size_t site_number(const struct site *s)
{
    static uint32_t index[MOST_SITES * 2];
    uint64_t hash = (uintptr_t)s->object >> 4;
    for (int i = 0; i < FRAMES; i++)
        hash = (hash ^ s->frames[i]) * 0x9e3779b97f4a7c15u;
    for (size_t at = hash >> 48;; at++) {
        uint32_t *slot = &index[at % (MOST_SITES * 2)];
        if (!*slot) {
            if (n_sites == MOST_SITES)
                abort();
            sites[n_sites] = *s;
            sites[n_sites].first_own = own_calls;
            sites[n_sites].first_all = all_calls;
            *slot = (uint32_t)++n_sites;
        }
        const struct site *there = &sites[*slot - 1];
        if (there->object == s->object && !memcmp(there->frames, s->frames, sizeof s->frames))
            return *slot - 1;
    }
}

static struct block **bucket_of(const void *address)
{
    return &buckets[((uintptr_t)address >> 4) * 0x9e3779b97f4a7c15u >> 48 & (BUCKETS - 1)];
}

static void remember(void *address, size_t bytes, size_t site)
{
    struct block *b = unused, **bucket = bucket_of(address);
    if (b)
        unused = b->next;
    else if (n_blocks < MOST_BLOCKS)
        b = &blocks[n_blocks++];
    else
        abort();
    *b = (struct block){ address, *bucket, bytes, site };
    *bucket = b;
    sites[site].live++;
    sites[site].live_bytes += bytes;
}

static void forget(const void *address)
{
    for (struct block **at = bucket_of(address); *at; at = &(*at)->next) {
        struct block *b = *at;
        if (b->address != address)
            continue;
        *at = b->next;
        sites[b->site].live--;
        sites[b->site].live_bytes -= b->bytes;
        b->next = unused;
        unused = b;
        return;
    }
}

/* Counts the call; *site gets its number, or MOST_SITES where it is not the program's. False: it is to fail. */
static bool allow(uintptr_t from, size_t *site)
{
    struct site s;
    bool fine = true;
    *site = MOST_SITES;
    if (!ready || inside)
        return true;
    inside = true;
    if (find_caller(from, &s)) {
        bool own = from >= text_begin && from < text_end;
        pthread_mutex_lock(&mutex);
        all_calls++;
        own_calls += own;
        *site = site_number(&s);
        sites[*site].count++;
        size_t call = fail_all ? all_calls : own_calls;
        if ((own || fail_all) && fail_at && (call == fail_at || (fail_rest && call > fail_at))) {
            fine = false;
            if (!failed_call) {
                failed_call = call;
                failed_site = *site;
            }
        }
        pthread_mutex_unlock(&mutex);
    }
    inside = false;
    if (!fine)
        errno = ENOMEM;
    return fine;
}

/* The block, known by its site. */
static void *keep(void *address, size_t bytes, size_t site)
{
    if (!address || site == MOST_SITES)
        return address;
    pthread_mutex_lock(&mutex);
    remember(address, bytes, site);
    pthread_mutex_unlock(&mutex);
    return address;
}

static void drop(const void *address)
{
    if (!address || !ready)
        return;
    pthread_mutex_lock(&mutex);
    forget(address);
    pthread_mutex_unlock(&mutex);
}

#define CALLER (uintptr_t) __builtin_return_address(0)

void *malloc(size_t bytes)
{
    size_t site;
    return allow(CALLER, &site) ? keep(__libc_malloc(bytes), bytes, site) : NULL;
}

void *calloc(size_t n, size_t size)
{
    size_t site;
    return allow(CALLER, &site) ? keep(__libc_calloc(n, size), n * size, site) : NULL;
}

void *realloc(void *old, size_t bytes)
{
    size_t site;
    if (!allow(CALLER, &site))
        return NULL;
    /* First, since another thread may get the old address at once. */
    drop(old);
    void *grown = __libc_realloc(old, bytes);
    return keep(grown, bytes, site);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    size_t site;
    return allow(CALLER, &site) ? keep(__libc_memalign(alignment, bytes), bytes, site) : NULL;
}

void *memalign(size_t alignment, size_t bytes)
{
    size_t site;
    return allow(CALLER, &site) ? keep(__libc_memalign(alignment, bytes), bytes, site) : NULL;
}

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    size_t site;
    void *address = allow(CALLER, &site) ? keep(__libc_memalign(alignment, bytes), bytes, site) : NULL;
    if (address)
        *out = address;
    return address ? 0 : ENOMEM;
}

void free(void *address)
{
    drop(address);
    int saved = errno;
    __libc_free(address);
    errno = saved;
}

static size_t number_of(const char *name)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : 0;
}

__attribute__((constructor)) static void begin(void)
{
    void *warm[2];
    const char *scope = getenv("FAIL_ALLOC_SCOPE");
    log_path = getenv("FAIL_ALLOC_LOG");
    log_path = log_path ? strdup(log_path) : NULL;
    fail_at = number_of("FAIL_ALLOC_AT");
    fail_rest = number_of("FAIL_ALLOC_REST");
    fail_all = scope && !strcmp(scope, "all");
    entry = getauxval(AT_ENTRY);
    dl_iterate_phdr(add_object, NULL);
    backtrace(warm, 2); /* loads its library */
    unsetenv("LD_PRELOAD");
    ready = true;
}

__attribute__((destructor)) static void end(void)
{
    ready = false;
    FILE *out = log_path ? fopen(log_path, "w") : NULL;
    if (!out)
        return;
    fprintf(out, "calls %zu %zu\n", own_calls, all_calls);
    for (size_t i = 0; i < n_sites; i++) {
        const struct site *s = &sites[i];
        fprintf(out, "site %zu %s %zu %zu %zu", i, s->object->name, s->count, s->first_own, s->first_all);
        for (int f = 0; f < FRAMES && s->frames[f]; f++)
            fprintf(out, " %#zx", (size_t)s->frames[f]);
        fputc('\n', out);
    }
    if (failed_call)
        fprintf(out, "failed %zu %zu\n", failed_call, failed_site);
    for (size_t i = 0; i < n_sites; i++)
        if (sites[i].live)
            fprintf(out, "leak %zu %zu %zu\n", i, sites[i].live, sites[i].live_bytes);
    fclose(out);
}
