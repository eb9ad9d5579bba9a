#include "proto/messages.h"

#include <stdlib.h>

enum { WRITER_FIRST_BYTES = 256 };

void writer_init(struct writer *w)
{
    *w = (struct writer){0};
}

void writer_init_fixed(struct writer *w, void *storage, size_t size)
{
    *w = (struct writer){.at = storage, .size = size, .fixed = true};
}

void writer_free(struct writer *w)
{
    if (!w->fixed)
        free(w->at);
    *w = (struct writer){0};
}

/* Room for n more bytes, or NULL and failed. The length grows at once. */
static uint8_t *writer_room(struct writer *w, size_t n)
{
    if (w->failed)
        return NULL;
    if (n > w->size - w->len) {
        size_t size = MAX(w->size, (size_t)WRITER_FIRST_BYTES);

        if (w->fixed || n > SIZE_MAX / 4 || w->len > SIZE_MAX / 4)
            goto no_room;
        while (size - w->len < n)
            size *= 2;

        uint8_t *grown = realloc(w->at, size);
        if (grown == NULL)
            goto no_room;
        w->at = grown;
        w->size = size;
    }
    w->len += n;
    return w->at + w->len - n;

no_room:
    w->failed = true;
    return NULL;
}

void writer_u8(struct writer *w, uint8_t v)
{
    uint8_t *p = writer_room(w, 1);

    if (p != NULL)
        *p = v;
}

void writer_u16(struct writer *w, uint16_t v)
{
    uint8_t *p = writer_room(w, 2);

    if (p != NULL)
        store_be16(p, v);
}

void writer_u32(struct writer *w, uint32_t v)
{
    uint8_t *p = writer_room(w, 4);

    if (p != NULL)
        store_be32(p, v);
}

void writer_raw(struct writer *w, const void *from, size_t len)
{
    if (len == 0)
        return;

    uint8_t *p = writer_room(w, len);
    if (p != NULL)
        memcpy(p, from, len);
}

void writer_string(struct writer *w, const char *text)
{
    writer_raw(w, text, strlen(text) + 1);
}

void writer_string_bytes(struct writer *w, struct bytes text)
{
    /* A NUL inside would end the string early and let the rest pose as further fields. */
    if (text.len > 0 && memchr(text.at, 0, text.len) != NULL) {
        w->failed = true;
        return;
    }
    writer_raw(w, text.at, text.len);
    writer_u8(w, 0);
}

/* Type 0: a startup-phase packet, which has none. */
void writer_begin(struct writer *w, char type)
{
    DEBUG_CHECK(w->open == 0 || w->failed);
    if (type != 0)
        writer_u8(w, (uint8_t)type);
    if (w->failed)
        return;
    w->open = w->len + 1;
    writer_u32(w, 0);
}

void writer_end(struct writer *w)
{
    if (w->failed)
        return;
    INVARIANT(w->open != 0);

    size_t start = w->open - 1;
    size_t len = w->len - start;

    w->open = 0;
    if (len > INT32_MAX) {
        w->failed = true;
        return;
    }
    store_be32(w->at + start, (uint32_t)len);
}
