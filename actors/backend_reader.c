#include "actors/backend_internal.h"

#include <errno.h>
#include <stdlib.h>

enum { REPLY_LIMIT = 1 << 20, NAMES_MAX = 128 };

void reader_free(struct message_reader *r)
{
    free(r->at);
    r->at = NULL;
}

static int reader_fill(struct worker *w, struct message_reader *r, int *error)
{
    struct rbuf *buf;
    int64_t got = conn_read(w, r->conn, &buf, r->deadline_us);

    if (got <= 0) {
        *error = got == 0 ? ECONNRESET : (int)-got;
        return -1;
    }
    if (r->used > 0) {
        memmove(r->at, r->at + r->used, r->len - r->used);
        r->len -= r->used;
        r->used = 0;
    }
    if (r->len + (size_t)got > r->size) {
        r->size = MAX(r->size * 2, r->len + (size_t)got);
        r->at = realloc(r->at, r->size);
        INVARIANT(r->at != NULL);
    }
    memcpy(r->at + r->len, buf->data, (size_t)got);
    r->len += (size_t)got;
    rbuf_unref(w, buf);
    return 0;
}

int reader_next(struct worker *w, struct message_reader *r, struct frame *out, int *error)
{
    for (;;) {
        switch (r->at == NULL ? FRAME_PARTIAL
                              : frame_peek(out, r->at + r->used, r->len - r->used, REPLY_LIMIT)) {
        case FRAME_WHOLE: r->used += FRAME_HEADER + out->body_len; return 0;
        case FRAME_BROKEN: *error = EPROTO; return -1;
        case FRAME_PARTIAL: break;
        }
        if (reader_fill(w, r, error) != 0)
            return -1;
    }
}

/* Pairs are a flat sequence of strings: name, value, name, value. */
struct bytes parameters_find(const struct packer *pairs, const char *name)
{
    struct unpacker u = unpacker_of(pairs->start, pairs->len);
    struct bytes wanted = bytes_of(name);

    while (u.at < u.end && !u.bad) {
        struct bytes found = unpack_bytes(&u);
        struct bytes value = unpack_bytes(&u);

        if (bytes_equal(found, wanted))
            return value;
    }
    return (struct bytes){NULL, 0};
}

void backend_set_parameter(struct backend *b, struct bytes name, struct bytes value)
{
    struct unpacker u = unpacker_of(b->parameters.start, b->parameters.len);
    struct packer pairs;
    bool found = false;
    size_t names = 0;

    packer_init(&pairs);
    while (u.at < u.end && !u.bad) {
        struct bytes old_name = unpack_bytes(&u);
        struct bytes old_value = unpack_bytes(&u);
        bool same = bytes_equal(old_name, name);

        found |= same;
        names++;
        pack_str_len(&pairs, old_name.at, old_name.len);
        pack_str_len(&pairs, same ? value.at : old_value.at, same ? value.len : old_value.len);
    }
    if (!found && names < NAMES_MAX) { /* PostgreSQL reports some fifteen */
        pack_str_len(&pairs, name.at, name.len);
        pack_str_len(&pairs, value.at, value.len);
    }
    packer_free(&b->parameters);
    b->parameters = pairs;
}
