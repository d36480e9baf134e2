/* What a model's name on the command line stands for: a file, a folder, an id in the Hugging Face cache, a default. */
#include "core/base/mem.h"
#include "core/model/internal.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEMO_MODEL "data/models/SmolLM2-135M-Instruct.Q4_1.gguf"

/* embedded.S */
extern const unsigned char strata_tiny_config[], strata_tiny_config_end[];
extern const unsigned char strata_tiny_model[], strata_tiny_model_end[];
extern const unsigned char strata_tiny_tokenizer[], strata_tiny_tokenizer_end[];

static const struct {
    const char *name;
    const unsigned char *data, *end;
} embedded_files[] = {
    { "config.json", strata_tiny_config, strata_tiny_config_end },
    { "model.safetensors", strata_tiny_model, strata_tiny_model_end },
    { "tokenizer.json", strata_tiny_tokenizer, strata_tiny_tokenizer_end },
};
enum { N_EMBEDDED = sizeof embedded_files / sizeof *embedded_files };

/* NULL where it is out of memory. */
static char *join3(const char *a, const char *b, const char *c)
{
    char *ab = file_join(a, b), *abc = ab ? file_join(ab, c) : NULL;
    free(ab);
    return abc;
}

/* As huggingface_hub finds it. *out may be NULL: no home. */
static int cache_folder(char **out, struct err *err)
{
    static const struct {
        const char *variable, *rest;
    } places[] = {
        { "HF_HUB_CACHE", "" },
        { "HF_HOME", "hub" },
        { "XDG_CACHE_HOME", "huggingface/hub" },
        { "HOME", ".cache/huggingface/hub" },
    };
    *out = NULL;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *value = getenv(places[i].variable);
        if (!value || !*value)
            continue;
        *out = *places[i].rest ? file_join(value, places[i].rest) : mem_strdup(value);
        return *out ? 0 : err_nomem(err, "a path");
    }
    return 0;
}

/* "name" or "org/name" of letters, digits, '-', '_' and single dots. */
static bool is_model_id(const char *id)
{
    size_t n = strlen(id), slashes = 0;
    if (!n || n > 200 || strstr(id, "..") || strstr(id, "--"))
        return false;
    for (size_t i = 0; i < n; i++) {
        bool edge = !i || i + 1 == n || id[i - 1] == '/' || id[i + 1] == '/';
        if (id[i] == '/' ? edge || ++slashes > 1 : edge && (id[i] == '.' || id[i] == '-'))
            return false;
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./", id[i]))
            return false;
    }
    return true;
}

/* The commit that refs/main names, NUL-terminated. */
static int read_ref(const char *model, char commit[65], struct err *err)
{
    struct file_map map;
    char *path = join3(model, "refs", "main");
    if (!path)
        return err_nomem(err, "a path");
    int rc = file_map_open(&map, path, err);
    if (!rc) {
        size_t n = 0;
        while (n < map.size && n < 64 && map.data[n] && strchr("0123456789abcdef", map.data[n]))
            n++;
        memcpy(commit, map.data, n);
        commit[n] = '\0';
        bool whole = n == map.size || map.data[n] == '\n';
        if (!n || !whole)
            rc = err_set(err, ERR_FORMAT, "%s: holds no commit: download the model again", path);
        file_map_close(&map);
    }
    free(path);
    return rc;
}

/* *path stays NULL where the cache has no such model. */
static int find_in_cache(const char *id, const char *cache, char **path, struct err *err)
{
    char name[256], commit[65];
    const char *slash = strchr(id, '/');
    if (slash)
        snprintf(name, sizeof name, "models--%.*s--%s", (int)(slash - id), id, slash + 1);
    else
        snprintf(name, sizeof name, "models--%s", id);
    char *model = file_join(cache, name);
    if (!model)
        return err_nomem(err, "a path");
    int rc = 0;
    if (file_is_folder(model) && !(rc = read_ref(model, commit, err))) {
        *path = join3(model, "snapshots", commit);
        if (!*path)
            rc = err_nomem(err, "a path");
    }
    free(model);
    return rc;
}

static int find_id(struct source *source, const char *where, struct err *err)
{
    char *cache;
    int rc = cache_folder(&cache, err);
    if (rc)
        return rc;
    if (cache && is_model_id(where))
        rc = find_in_cache(where, cache, &source->path, err);
    if (!rc && !source->path)
        rc = err_set(err, ERR_NOTFOUND,
                     "%.300s: is no file, no folder and no model in the Hugging Face cache (%.300s): "
                     "give a GGUF file, or a folder with config.json and model.safetensors",
                     where, cache ? cache : "none: HOME is not set");
    free(cache);
    source->folder = true;
    return rc;
}

static int use_path(struct source *source, const char *path, struct err *err)
{
    source->folder = file_is_folder(path);
    source->path = mem_strdup(path);
    return source->path ? 0 : err_nomem(err, "a path");
}

/* The demo model in this folder or in one of the two above (the repository's own subfolders), else the tiny one. */
static int use_default(struct source *source, struct err *err)
{
    static const char *const places[] = { DEMO_MODEL, "../" DEMO_MODEL, "../../" DEMO_MODEL };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (file_exists(places[i]))
            return use_path(source, places[i], err);
    int rc = use_path(source, "embedded tiny model", err);
    source->folder = source->embedded = true;
    return rc;
}

int source_find(struct source *source, const char *where, struct err *err)
{
    *source = (struct source){ 0 };
    if (!where) {
        where = getenv("STRATA_MODEL");
        if (!where || !*where)
            return use_default(source, err);
    }
    /* What cannot be looked at is no id; opening it says why. */
    return file_look(where, NULL) ? use_path(source, where, err) : find_id(source, where, err);
}

void source_release(struct source *source)
{
    free(source->path);
    *source = (struct source){ 0 };
}

bool source_has(const struct source *source, const char *name)
{
    for (size_t i = 0; source->embedded && i < N_EMBEDDED; i++)
        if (!strcmp(embedded_files[i].name, name))
            return true;
    if (source->embedded)
        return false;
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%s/%s", source->path, name) >= (int)sizeof path || file_look(path, NULL);
}

int source_open(const struct source *source, const char *name, struct file_map *map, struct err *err)
{
    for (size_t i = 0; source->embedded && i < N_EMBEDDED; i++)
        if (!strcmp(embedded_files[i].name, name))
            return file_map_memory(map, name, embedded_files[i].data,
                                   (size_t)(embedded_files[i].end - embedded_files[i].data), err);
    char *path = file_join(source->path, name);
    if (!path)
        return err_nomem(err, "a path");
    int rc = file_map_open(map, path, err);
    free(path);
    return rc;
}

int source_open_settings(const struct source *source, const char *name, struct file_map *map, struct err *err)
{
    enum { MOST = 16 << 20 };
    int rc = source_open(source, name, map, err);
    if (rc || map->size <= MOST)
        return rc;
    rc = err_set(err, ERR_FORMAT, "%s: has %zu bytes, more than %d MiB: settings are smaller", map->name, map->size,
                 MOST >> 20);
    file_map_close(map);
    return rc;
}
