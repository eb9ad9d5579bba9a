#include "proto/frame.h"

enum frame_result frame_peek(struct frame *out, const uint8_t *p, size_t len, uint32_t limit)
{
    *out = (struct frame){0};
    if (len < FRAME_HEADER)
        return FRAME_PARTIAL;

    uint32_t n = load_be32(p + 1); /* counts itself, not the type byte */
    if (n < 4 || n - 4 > limit)
        return FRAME_BROKEN;

    out->type = p[0];
    out->body = p + FRAME_HEADER;
    out->body_len = n - 4;
    out->have = (uint32_t)MIN(len - FRAME_HEADER, (size_t)out->body_len);
    return out->have == out->body_len ? FRAME_WHOLE : FRAME_PARTIAL;
}

enum frame_result packet_peek(struct frame *out, uint32_t *code, const uint8_t *p, size_t len,
                              uint32_t limit)
{
    *out = (struct frame){0};
    *code = 0;
    if (len < 4)
        return FRAME_PARTIAL;

    uint32_t n = load_be32(p); /* a stranger's length is judged before its body is waited for */
    if (n < 8 || n > limit)
        return FRAME_BROKEN;
    if (len < 8)
        return FRAME_PARTIAL;

    *code = load_be32(p + 4);
    out->body = p + 8;
    out->body_len = n - 8;
    out->have = (uint32_t)MIN(len - 8, (size_t)out->body_len);
    return out->have == out->body_len ? FRAME_WHOLE : FRAME_PARTIAL;
}

/* Takes n bytes, or goes bad and takes none. */
static const uint8_t *cursor_take(struct cursor *c, size_t n)
{
    const uint8_t *p = c->at;

    if (c->bad || cursor_left(c) < n) {
        c->bad = true;
        return NULL;
    }
    c->at += n;
    return p;
}

uint8_t cursor_u8(struct cursor *c)
{
    const uint8_t *p = cursor_take(c, 1);

    return p == NULL ? 0 : *p;
}

uint16_t cursor_u16(struct cursor *c)
{
    const uint8_t *p = cursor_take(c, 2);

    return p == NULL ? 0 : load_be16(p);
}

uint32_t cursor_u32(struct cursor *c)
{
    const uint8_t *p = cursor_take(c, 4);

    return p == NULL ? 0 : load_be32(p);
}

struct bytes cursor_string(struct cursor *c)
{
    size_t left = cursor_left(c);
    const uint8_t *start = c->at;
    const uint8_t *nul = c->bad || left == 0 ? NULL : memchr(start, 0, left);

    if (nul == NULL) {
        c->bad = true;
        return (struct bytes){NULL, 0};
    }
    c->at = nul + 1;
    return (struct bytes){start, (size_t)(nul - start)};
}

struct bytes cursor_bytes(struct cursor *c, size_t len)
{
    const uint8_t *p = cursor_take(c, len);

    return p == NULL ? (struct bytes){NULL, 0} : (struct bytes){p, len};
}
