/* Scratch memory of one call: the buffer with its origins, the pieces, the tokens. */
#include "core/tokenizer/internal.h"

#include "core/base/mem.h"
#include "core/base/utf8.h"

#include <stdlib.h>
#include <string.h>

int work_start(struct work *w, size_t len, struct err *err)
{
    w->most = len * GROWTH_MOST + (1 << 16);
    w->regex_room = regex_room();
    if (!w->regex_room)
        return err_nomem(err, "a text's pieces");
    int rc = work_add(w, 0, len, -1, err);
    work_swap(w);
    return rc;
}

int work_add(struct work *w, size_t begin, size_t end, int32_t id, struct err *err)
{
    if (begin == end && id < 0)
        return 0;
    if (!mem_grow(&w->next.item, &w->next.capacity, w->next.n + 1, sizeof *w->next.item))
        return err_nomem(err, "pieces of a text");
    w->next.item[w->next.n++] = (struct piece){ (uint32_t)begin, (uint32_t)end, id };
    return 0;
}

void work_swap(struct work *w)
{
    struct pieces done = w->now;
    w->now = w->next;
    w->next = done;
    w->next.n = 0;
}

struct buffer *buffer_start(struct work *w)
{
    struct buffer *b = &w->buffer[!w->current];
    b->n = 0;
    b->most = w->most;
    return b;
}

static int make_room(struct buffer *b, size_t n, struct err *err)
{
    if (b->n + n > INT32_MAX)
        return err_set(err, ERR_UNSUPPORTED, "a text of more than 2 GiB cannot be encoded in one piece");
    if (b->n + n > b->most)
        return err_set(err, ERR_UNSUPPORTED, "the tokenizer's normalizers make the text more than %d times as long",
                       (int)GROWTH_MOST);
    if (!mem_grow(&b->bytes, &b->bytes_capacity, b->n + n, 1) ||
        !mem_grow(&b->origin, &b->origin_capacity, b->n + n, sizeof *b->origin) ||
        !mem_grow(&b->origin_end, &b->origin_end_capacity, b->n + n, sizeof *b->origin_end))
        return err_nomem(err, "a text");
    return 0;
}

int buffer_add(struct buffer *b, const char *bytes, size_t n, uint32_t origin, uint32_t origin_end, struct err *err)
{
    int rc = make_room(b, n, err);
    if (rc || !n)
        return rc;
    memcpy(b->bytes + b->n, bytes, n);
    for (size_t i = 0; i < n; i++) {
        b->origin[b->n + i] = i < origin_end - origin ? origin + (uint32_t)i : origin_end;
        b->origin_end[b->n + i] = i + 1 < origin_end - origin ? origin + (uint32_t)i + 1 : origin_end;
    }
    b->n += n;
    b->origin_end[b->n - 1] = origin_end;
    return 0;
}

int buffer_add_whole(struct buffer *b, const char *bytes, size_t n, uint32_t origin, uint32_t origin_end,
                     struct err *err)
{
    int rc = make_room(b, n, err);
    for (size_t i = 0; !rc && i < n; i++) {
        b->bytes[b->n] = bytes[i];
        b->origin[b->n] = origin;
        b->origin_end[b->n++] = origin_end;
    }
    return rc;
}

int buffer_copy(struct buffer *b, const struct work *w, size_t begin, size_t end, struct err *err)
{
    int rc = make_room(b, end - begin, err);
    if (rc || begin == end)
        return rc;
    memcpy(b->bytes + b->n, w->bytes + begin, end - begin);
    for (size_t i = begin; i < end; i++) {
        b->origin[b->n] = work_origin(w, i);
        b->origin_end[b->n++] = work_origin_end(w, i, i + 1);
    }
    return 0;
}

int rewriting_add(struct rewriting *r, uint32_t cp, int32_t change, struct err *err)
{
    if (r->n == r->capacity && !mem_grow(&r->item, &r->capacity, r->n + 1, sizeof *r->item))
        return err_nomem(err, "a text");
    r->item[r->n++] = (struct rewritten){ cp, change };
    return 0;
}

static size_t next_character(const struct work *w, size_t at, size_t end)
{
    for (at += at < end; at < end && ((unsigned char)w->bytes[at] & 0xc0) == 0x80; at++)
        ;
    return at;
}

int buffer_rewrite(struct buffer *b, const struct work *w, size_t begin, size_t end, const struct rewriting *r,
                   struct err *err)
{
    size_t before = begin, at = begin; /* the character before the place reached, and that place */
    int rc = 0;
    for (size_t i = 0; !rc && i < r->n; i++) {
        char bytes[4];
        size_t n = utf8_encode(r->item[i].cp, bytes);
        if (r->item[i].change > 0 || at == end) {
            rc = buffer_add_whole(b, bytes, n, work_origin(w, before), work_origin_end(w, before, at), err);
            continue;
        }
        size_t next = next_character(w, at, end);
        if (next - at == n && !memcmp(w->bytes + at, bytes, n))
            rc = buffer_copy(b, w, at, next, err);
        else
            rc = buffer_add_whole(b, bytes, n, work_origin(w, at), work_origin_end(w, at, next), err);
        for (int32_t k = r->item[i].change; k <= 0 && at < end; k++) {
            before = at;
            at = next_character(w, at, end);
        }
    }
    return rc;
}

int buffer_close_piece(struct buffer *b, struct work *w, size_t begin, uint32_t origin_end, int32_t id, struct err *err)
{
    int rc = work_add(w, begin, b->n, id, err);
    return rc ? rc : buffer_add(b, "", 1, origin_end, origin_end, err);
}

void buffer_use(struct work *w)
{
    w->current = !w->current;
    w->bytes = w->buffer[w->current].bytes;
    w->origin = w->buffer[w->current].origin;
    w->origin_end = w->buffer[w->current].origin_end;
    work_swap(w);
}

void work_release(struct work *w)
{
    for (int i = 0; i < 2; i++) {
        free(w->buffer[i].bytes);
        free(w->buffer[i].origin);
        free(w->buffer[i].origin_end);
    }
    free(w->now.item);
    free(w->next.item);
    free(w->symbols);
    free(w->heap);
    free(w->path);
    free(w->letters);
    regex_room_free(w->regex_room);
}

int tokens_add(struct tokens *t, int32_t id, uint32_t begin, uint32_t end, struct err *err)
{
    if (t->n == t->capacity) {
        size_t capacity[3] = { t->capacity, t->capacity, t->capacity };
        if (!mem_grow(&t->id, &capacity[0], t->n + 1, sizeof *t->id) ||
            !mem_grow(&t->begin, &capacity[1], t->n + 1, sizeof *t->begin) ||
            !mem_grow(&t->end, &capacity[2], t->n + 1, sizeof *t->end))
            return err_nomem(err, "tokens");
        t->capacity = capacity[0];
    }
    t->id[t->n] = id;
    t->begin[t->n] = (int32_t)begin;
    t->end[t->n++] = (int32_t)end;
    return 0;
}
