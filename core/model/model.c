#include "core/model/model.h"

#include "core/base/mem.h"
#include "core/base/strbuf.h"
#include "core/formats/safetensors.h"
#include "core/model/internal.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { LONG_LOAD = 1 << 30 }; /* bytes of weights: about a second */

static const char weights_name[] = "model.safetensors", index_name[] = "model.safetensors.index.json";

const struct tensor_set *model_tensors(const struct model *m)
{
    return m->storage->gguf ? gguf_tensors(m->storage->gguf) : &m->storage->shards;
}

/* "Q4_1 210, F32 61, Q8_0 1", the most frequent first. NULL when out of memory. */
static char *count_types(const struct tensor_set *set)
{
    size_t count[N_DTYPES] = { 0 };
    for (size_t i = 0; i < set->n; i++)
        count[set->tensors[i].dtype]++;
    struct strbuf text = STRBUF_INIT;
    for (;;) {
        size_t most = 0;
        for (size_t t = 1; t < N_DTYPES; t++)
            most = count[t] > count[most] ? t : most;
        if (!count[most])
            break;
        strbuf_addf(&text, "%s%s %zu", text.len ? ", " : "", dtype_name((enum dtype)most), count[most]);
        count[most] = 0;
    }
    strbuf_adds(&text, "");
    if (strbuf_failed(&text))
        strbuf_release(&text);
    return text.data;
}

static int open_gguf(struct model *m, struct err *err)
{
    struct file_map map;
    int rc = file_map_open(&map, m->path, err);
    if (rc)
        return rc;
    if (!gguf_is(&map)) {
        file_map_close(&map);
        return err_set(err, ERR_FORMAT,
                       "%s: is no GGUF file: give one, or the folder that holds config.json and the safetensors",
                       m->path);
    }
    if ((rc = gguf_open(&m->storage->gguf, &map, err)))
        return rc;
    const struct gguf *g = m->storage->gguf;
    struct strbuf format = STRBUF_INIT;
    strbuf_addf(&format, "GGUF v%u", (unsigned)gguf_tensors(g)->files[0].data[4]);
    m->file_format = format.data;
    m->config_json = config_json_of_gguf(g);
    if (!m->file_format || !m->config_json)
        return err_nomem(err, "the model's metadata");
    rc = config_from_gguf(m, g, err);
    return rc ? rc : weights_plan(m, err);
}

static int open_shard(void *ctx, const char *name, struct file_map *map, struct err *err)
{
    return source_open(ctx, name, map, err);
}

static int open_safetensors(struct model *m, struct source *source, struct err *err)
{
    struct file_map map;
    bool whole = source_has(source, weights_name);
    if (!whole && !source_has(source, index_name))
        return err_set(err, ERR_NOTFOUND, "%s: has neither %s nor %s%s", m->path, weights_name, index_name,
                       source_has(source, "pytorch_model.bin") ? ": convert pytorch_model.bin to safetensors" : "");
    int rc = source_open(source, whole ? weights_name : index_name, &map, err);
    if (rc)
        return rc;
    if (whole)
        return safetensors_add(&m->storage->shards, &map, err);
    rc = safetensors_add_index(&m->storage->shards, &map, open_shard, source, err);
    file_map_close(&map);
    return rc;
}

/* *config is the caller's, also after a failure. */
static int open_folder(struct model *m, struct source *source, json_t **config, struct err *err)
{
    struct file_map map;
    if (!source_has(source, "config.json"))
        return err_set(err, ERR_NOTFOUND,
                       "%s: has no config.json: give a folder with config.json and %s, or a GGUF file", m->path,
                       weights_name);
    int rc = source_open_settings(source, "config.json", &map, err);
    if (rc)
        return rc;
    m->file_format = mem_strdup("safetensors");
    m->config_json = mem_strndup((const char *)map.data, map.size);
    if (!m->file_format || !m->config_json)
        rc = err_nomem(err, "config.json");
    else if (!(rc = json_parse(map.data, map.size, map.name, config, err)) &&
             !(rc = config_from_json(m, *config, map.name, err)) && !(rc = open_safetensors(m, source, err)))
        rc = weights_plan(m, err);
    file_map_close(&map);
    return rc;
}

/* A model on the way: everything but its weights and its tokenizer. */
struct header {
    struct model *m;
    struct source source;
    json_t *config; /* of a folder */
};

static void release_header(struct header *h)
{
    source_release(&h->source);
    json_decref(h->config);
}

static int begin(struct header *h, const char *where, struct err *err)
{
    *h = (struct header){ .m = mem_zeroed(1, sizeof *h->m) };
    if (!h->m || !(h->m->storage = mem_zeroed(1, sizeof *h->m->storage))) {
        free(h->m);
        return err_nomem(err, "a model");
    }
    struct model *m = h->m;
    tensor_set_init(&m->storage->shards);
    int rc = source_find(&h->source, where, err);
    if (!rc && !(m->path = mem_strdup(h->source.path)))
        rc = err_nomem(err, "a path");
    if (!rc)
        rc = h->source.folder ? open_folder(m, &h->source, &h->config, err) : open_gguf(m, err);
    if (!rc && !(m->weight_types = count_types(model_tensors(m))))
        rc = err_nomem(err, "a model");
    if (rc) {
        release_header(h);
        model_free(m);
    }
    return rc;
}

static int open_tokens(const struct header *h, struct err *err)
{
    return h->source.folder ? tokens_open_folder(h->m, &h->source, h->config, err)
                            : tokens_open_gguf(h->m, h->m->storage->gguf, err);
}

static int finish(struct header *h, int rc, struct model **out)
{
    release_header(h);
    if (rc)
        model_free(h->m);
    else
        *out = h->m;
    return rc;
}

int model_open_header(struct model **out, const char *where, struct err *err)
{
    struct header h;
    int rc = begin(&h, where, err);
    return rc ? rc : finish(&h, open_tokens(&h, err), out);
}

struct tokens_task {
    const struct header *header;
    struct err err;
    int rc;
};

static void *tokens_main(void *arg)
{
    struct tokens_task *task = arg;
    task->rc = open_tokens(task->header, &task->err);
    return NULL;
}

/* The tokenizer, on a thread of its own, while the weights are loaded. Its error goes first. */
static int open_both(const struct header *h, enum weight_place place, struct pool *pool, struct err *err)
{
    struct tokens_task task = { .header = h };
    pthread_t thread;
    /* Signals belong to the main thread. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    bool apart = !pthread_create(&thread, NULL, tokens_main, &task);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!apart)
        tokens_main(&task);
    int rc = weights_load(h->m, place, pool, err);
    if (apart)
        pthread_join(thread, NULL);
    if (task.rc && err)
        *err = task.err;
    return task.rc ? task.rc : rc;
}

int model_open(struct model **out, const char *where, struct pool *pool, struct err *err)
{
    return model_open_at(out, where, WEIGHTS_AUTO, pool, err);
}

int model_open_at(struct model **out, const char *where, enum weight_place place, struct pool *pool, struct err *err)
{
    struct header h;
    int rc = begin(&h, where, err);
    if (rc)
        return rc;
    /* Where loading takes seconds, a tokenizer's error should not wait for it. */
    if (pool_threads(pool) > 1 && model_planned_bytes(h.m) < LONG_LOAD)
        rc = open_both(&h, place, pool, err);
    else if (!(rc = open_tokens(&h, err)))
        rc = weights_load(h.m, place, pool, err);
    return finish(&h, rc, out);
}

void model_free(struct model *m)
{
    if (!m)
        return;
    struct model_storage *s = m->storage;
    if (s->arena)
        munmap(s->arena, s->arena_bytes);
    free(s->loads);
    free(s->dests);
    free(s->experts);
    free(s->stream.first);
    gguf_free(s->gguf);
    tensor_set_release(&s->shards);
    free(s);
    tokenizer_free(m->tokenizer);
    free(m->layers);
    for (size_t i = 0; i < m->n_ropes; i++)
        free(m->ropes[i].frequency);
    free(m->alibi);
    free(m->path);
    free(m->file_format);
    free(m->weight_types);
    free(m->config_json);
    free(m);
}
