/* Output queues: slices of blocks on their way to a connection's peer. */
#include "runtime/io.h"

#include <stdlib.h>

enum { OUTPUTS_KEPT = 512 };

static struct output *output_take(struct worker *w)
{
    struct output *out = w->outputs;

    if (LIKELY(out != NULL)) {
        w->outputs = out->next;
        w->outputs_free--;
    } else {
        out = malloc(sizeof *out);
        INVARIANT(out != NULL);
    }
    out->next = NULL;
    out->first = 0;
    out->count = 0;
    out->copies = NULL;
    out->copies_used = 0;
    out->in_flight = 0;
    out->quiet_worker = 0;
    out->blocked = false;
    return out;
}

static void output_give(struct worker *w, struct output *out)
{
    if (out->copies != NULL)
        rbuf_unref(w, out->copies);
    if (w->outputs_free >= OUTPUTS_KEPT) {
        free(out);
        return;
    }
    out->next = w->outputs;
    w->outputs = out;
    w->outputs_free++;
}

static struct output *output_room(struct worker *w, struct conn *c)
{
    struct output *last = c->out_last;

    if (last != NULL && last->first + last->count < OUTPUT_SLICES)
        return last;
    struct output *out = output_take(w);
    if (c->out == NULL)
        c->out = out;
    else
        last->next = out;
    c->out_last = out;
    return out;
}

void conn_put(struct worker *w, struct conn *c, struct rbuf *buf, const uint8_t *at, uint32_t len)
{
    DEBUG_CHECK(at >= buf->data && at + len <= buf->data + buf->size);
    if (len == 0)
        return;
    struct output *out = output_room(w, c);
    c->out_bytes += len;
    if (out->count > 0 && (out != c->out || (c->flags & CONN_SENDING) == 0)) {
        unsigned last = out->first + out->count - 1u;
        struct iovec *tail = &out->iov[last];

        if (out->buf[last] == buf && (uint8_t *)tail->iov_base + tail->iov_len == at) {
            tail->iov_len += len;
            return;
        }
    }
    unsigned slot = out->first + out->count++;
    out->iov[slot].iov_base = (void *)(uintptr_t)at;
    out->iov[slot].iov_len = len;
    out->buf[slot] = rbuf_ref(buf);
}

void conn_put_copy(struct worker *w, struct conn *c, const void *at, size_t len)
{
    const uint8_t *from = at;

    while (len > 0) {
        struct output *out = output_room(w, c);

        if (out->copies == NULL || out->copies_used == out->copies->size) {
            if (out->copies != NULL)
                rbuf_unref(w, out->copies);
            out->copies = rbuf_take(w, len > RBUF_SMALL_BYTES ? RBUF_LARGE : RBUF_SMALL);
            out->copies_used = 0;
        }
        uint32_t part = (uint32_t)MIN(len, (size_t)(out->copies->size - out->copies_used));
        uint8_t *to = out->copies->data + out->copies_used;
        memcpy(to, from, part);
        out->copies_used += part;
        conn_put(w, c, out->copies, to, part);
        from += part;
        len -= part;
    }
}

/* Takes `sent` bytes off the front. */
void conn_advance(struct worker *w, struct conn *c, size_t sent)
{
    INVARIANT(sent <= c->out_bytes);
    c->out_bytes -= (uint32_t)sent;
    while (c->out != NULL) {
        struct output *out = c->out;

        while (out->count > 0 && sent >= out->iov[out->first].iov_len) {
            sent -= out->iov[out->first].iov_len;
            rbuf_unref(w, out->buf[out->first]);
            out->first++;
            out->count--;
        }
        if (out->count > 0) {
            struct iovec *head = &out->iov[out->first];

            head->iov_base = (uint8_t *)head->iov_base + sent;
            head->iov_len -= sent;
            return;
        }
        c->out = out->next;
        output_give(w, out);
    }
    c->out_last = NULL;
    INVARIANT(c->out_bytes == 0 && sent == 0);
}

void conn_drop_output(struct worker *w, struct conn *c)
{
    if ((c->flags & CONN_SENDING) == 0 && c->out != NULL)
        conn_advance(w, c, c->out_bytes);
}
