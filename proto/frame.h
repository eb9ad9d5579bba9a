/* frame.h: finding messages in a byte stream. Pure: no I/O, no allocation, no copy, nothing kept.
 *
 * A message is a type byte and a length that counts itself but not the type byte (PostgreSQL
 * documentation, "Message Formats"). A startup-phase packet has no type byte.
 */
#ifndef PROTO_FRAME_H
#define PROTO_FRAME_H

#include "runtime/base.h"

enum { FRAME_HEADER = 5, FRAME_LIMIT = 256 << 20 };

enum frame_result { FRAME_PARTIAL, FRAME_WHOLE, FRAME_BROKEN };

struct frame {
    uint8_t type;
    const uint8_t *body;
    uint32_t body_len; /* announced */
    uint32_t have;     /* how much of it is in the buffer */
};

/* Looks at the message at p. PARTIAL: header or body not complete (with a complete header, type,
 * body_len and have are set; without one, body is NULL). BROKEN: length below 4 or body over
 * limit. */
enum frame_result frame_peek(struct frame *out, const uint8_t *p, size_t len, uint32_t limit);

/* The packet that opens a connection: int32 length (8..limit, counting itself), int32 code, body.
 * On WHOLE, code is in *code and body/body_len are what follows it. */
enum frame_result packet_peek(struct frame *out, uint32_t *code, const uint8_t *p, size_t len,
                              uint32_t limit);

/* Reads the fields of one body. Goes bad once and stays bad, so callers check at the end. */
struct cursor {
    const uint8_t *at;
    const uint8_t *end;
    bool bad;
};
static inline struct cursor cursor_of(const uint8_t *p, size_t len)
{
    return (struct cursor){p, p + len, false};
}
uint8_t cursor_u8(struct cursor *c);
uint16_t cursor_u16(struct cursor *c);
uint32_t cursor_u32(struct cursor *c);
/* A NUL-terminated string without its NUL; borrowed from the body. Bad: {NULL, 0}. */
struct bytes cursor_string(struct cursor *c);
struct bytes cursor_bytes(struct cursor *c, size_t len);
static inline size_t cursor_left(const struct cursor *c)
{
    return (size_t)(c->end - c->at);
}

#endif
