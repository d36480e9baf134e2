#include "core/base/json.h"

#include "core/base/file.h"

#include <string.h>

/*
 * Jansson takes 225 bytes for "{}" and up to 50 for any other value of two bytes: with these limits less than 1 GiB in
 * all. Brackets inside strings count as well, which costs nothing that anybody needs.
 */
enum { MOST_BRACKETS = 3000000, MOST_FILE = 32 << 20 };

static bool too_many_brackets(const char *text, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < size; i++)
        n += text[i] == '{' || text[i] == '[';
    return n > MOST_BRACKETS;
}

int json_parse(const void *data, size_t size, const char *where, json_t **out, struct err *err)
{
    json_error_t problem;
    if (size > MOST_BRACKETS && too_many_brackets(data, size))
        return err_set(err, ERR_FORMAT, "%s: holds more than %d objects and lists: split it", where, MOST_BRACKETS);
    json_t *value = json_loadb(data, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &problem);
    if (!value && (!*problem.text || json_error_code(&problem) == json_error_out_of_memory))
        return err_nomem(err, "JSON");
    if (!value)
        return err_set(err, ERR_FORMAT, "%s: is no valid JSON: line %d column %d: %s", where, problem.line,
                       problem.column, problem.text);
    *out = value;
    return 0;
}

int json_parse_file(const char *path, json_t **out, struct err *err)
{
    struct file_map map;
    int rc = file_map_open(&map, path, err);
    if (rc)
        return rc;
    if (map.size > MOST_FILE)
        rc = err_set(err, ERR_FORMAT, "%s: has %zu bytes, more than %d MiB: split it", path, map.size, MOST_FILE >> 20);
    else
        rc = json_parse(map.data, map.size, path, out, err);
    file_map_close(&map);
    return rc;
}

static const json_t *present(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return value && !json_is_null(value) ? value : NULL;
}

static int wrong(const char *where, const char *key, const char *wanted, struct err *err)
{
    return err_set(err, ERR_FORMAT, "%s: key \"%s\" must be %s", where, key, wanted);
}

int json_get_size_or(const json_t *object, const char *where, const char *key, size_t least, size_t most,
                     size_t otherwise, size_t *out, struct err *err)
{
    const json_t *value = present(object, key);
    if (!value) {
        *out = otherwise;
        return 0;
    }
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < 0 || (size_t)n < least || (size_t)n > most)
        return err_set(err, ERR_FORMAT, "%s: key \"%s\" must be a whole number from %zu to %zu", where, key, least,
                       most);
    *out = (size_t)n;
    return 0;
}

int json_get_size(const json_t *object, const char *where, const char *key, size_t least, size_t most, size_t *out,
                  struct err *err)
{
    if (!present(object, key))
        return err_set(err, ERR_FORMAT, "%s: key \"%s\" is missing", where, key);
    return json_get_size_or(object, where, key, least, most, least, out, err);
}

int json_get_number_or(const json_t *object, const char *where, const char *key, double otherwise, double *out,
                       struct err *err)
{
    const json_t *value = present(object, key);
    if (value && !json_is_number(value))
        return wrong(where, key, "a number", err);
    *out = value ? json_number_value(value) : otherwise;
    return 0;
}

int json_get_bool_or(const json_t *object, const char *where, const char *key, bool otherwise, bool *out,
                     struct err *err)
{
    const json_t *value = present(object, key);
    if (value && !json_is_boolean(value))
        return wrong(where, key, "true or false", err);
    *out = value ? json_is_true(value) : otherwise;
    return 0;
}

int json_get_string(const json_t *object, const char *where, const char *key, const char **out, struct err *err)
{
    const json_t *value = present(object, key);
    if (value && !json_is_string(value))
        return wrong(where, key, "a string", err);
    if (value && strlen(json_string_value(value)) != json_string_length(value))
        return wrong(where, key, "a string without NUL bytes", err);
    *out = json_string_value(value);
    return 0;
}

int json_get_object(const json_t *object, const char *where, const char *key, json_t **out, struct err *err)
{
    const json_t *value = present(object, key);
    if (value && !json_is_object(value))
        return wrong(where, key, "an object", err);
    *out = value ? json_object_get(object, key) : NULL;
    return 0;
}

int json_get_array(const json_t *object, const char *where, const char *key, json_t **out, struct err *err)
{
    const json_t *value = present(object, key);
    if (value && !json_is_array(value))
        return wrong(where, key, "an array", err);
    *out = value ? json_object_get(object, key) : NULL;
    return 0;
}
