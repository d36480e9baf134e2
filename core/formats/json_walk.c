#include "core/formats/json_walk.h"

#include "core/base/json.h"

#include <string.h>

static void skip_space(struct json_walk *walk)
{
    while (walk->at < walk->end && memchr(" \t\r\n", *walk->at, 4))
        walk->at++;
}

static int broken(const struct json_walk *walk, const char *wanted, struct err *err)
{
    return err_set(err, ERR_FORMAT, "%s: is no valid JSON: %s expected at byte %zu", walk->where, wanted,
                   (size_t)(walk->at - walk->text));
}

/* Moves past a string; false when its end is missing. */
static bool skip_string(struct json_walk *walk)
{
    for (walk->at++; walk->at < walk->end; walk->at++) {
        if (*walk->at == '\\')
            walk->at++;
        else if (*walk->at == '"') {
            walk->at++;
            return true;
        }
    }
    walk->at = walk->end; /* a final backslash stepped over it */
    return false;
}

/* Moves past any value, without recursion. False when its end is missing. */
static bool skip_value(struct json_walk *walk)
{
    size_t depth = 0;
    while (walk->at < walk->end) {
        char c = *walk->at;
        if (c == '"') {
            if (!skip_string(walk))
                return false;
        } else if (c == '{' || c == '[') {
            depth++;
            walk->at++;
        } else if (c == '}' || c == ']') {
            if (!depth)
                return true;
            depth--;
            walk->at++;
        } else if (depth) {
            walk->at++;
            continue;
        } else {
            while (walk->at < walk->end && !memchr(",]} \t\r\n", *walk->at, 7))
                walk->at++;
        }
        if (!depth)
            return true;
    }
    return false;
}

int json_walk_open(struct json_walk *walk, const char *text, size_t n, const char *where, struct err *err)
{
    *walk = (struct json_walk){ text, text, text + n, where, 0, false };
    skip_space(walk);
    if (walk->at == walk->end || (*walk->at != '{' && *walk->at != '['))
        return broken(walk, "{ or [", err);
    walk->closing = *walk->at++ == '{' ? '}' : ']';
    return 0;
}

int json_walk_next(struct json_walk *walk, struct json_slice *key, struct json_slice *value, struct err *err)
{
    skip_space(walk);
    if (walk->at < walk->end && *walk->at == walk->closing) {
        walk->at++;
        skip_space(walk);
        return walk->at == walk->end ? 0 : broken(walk, "the end", err);
    }
    if (walk->started) {
        if (walk->at == walk->end || *walk->at != ',')
            return broken(walk, walk->closing == '}' ? "',' or '}'" : "',' or ']'", err);
        walk->at++;
        skip_space(walk);
    }
    walk->started = true;
    if (walk->closing == '}') {
        key->text = walk->at;
        if (walk->at == walk->end || *walk->at != '"')
            return broken(walk, "a key in quotes", err);
        if (!skip_string(walk))
            return broken(walk, "the closing quote", err);
        key->n = (size_t)(walk->at - key->text);
        skip_space(walk);
        if (walk->at == walk->end || *walk->at != ':')
            return broken(walk, "':'", err);
        walk->at++;
        skip_space(walk);
    }
    value->text = walk->at;
    if (!skip_value(walk))
        return broken(walk, "the end of a value", err);
    value->n = (size_t)(walk->at - value->text);
    return value->n ? 1 : broken(walk, "a value", err);
}

int json_slice_parse(struct json_slice slice, size_t most, const char *where, const char *what, json_t **out,
                     struct err *err)
{
    if (slice.n > most)
        return err_set(err, ERR_FORMAT, "%s: %s takes %zu bytes, at most %zu are accepted", where, what, slice.n, most);
    int rc = json_parse(slice.text, slice.n, what, out, err);
    if (rc)
        err_prefix(err, "%s: ", where);
    return rc;
}

bool json_slice_is(struct json_slice slice, const char *text)
{
    size_t n = strlen(text);
    return slice.n == n + 2 && slice.text[0] == '"' && !memcmp(slice.text + 1, text, n);
}
