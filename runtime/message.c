#include "runtime/message.h"

#include "runtime/worker.h"

#include <stdlib.h>

/* Beyond this a worker gives messages back to the allocator. */
enum { MESSAGES_KEPT = 4096 };

struct message *message_new(uint16_t kind)
{
    struct worker *w = worker_self();
    struct message *m = w != NULL ? w->messages : NULL;

    if (m != NULL) {
        w->messages = m->next;
        w->messages_free--;
    } else {
        m = malloc(sizeof *m);
        INVARIANT(m != NULL);
    }
    m->next = NULL;
    m->sender = 0;
    m->target = 0;
    m->reply = NULL;
    m->kind = kind;
    m->flags = 0;
    m->len = 0;
    return m;
}

void message_drop_body(struct message *m)
{
    if (m->len > MESSAGE_INLINE)
        free(m->external);
    m->len = 0;
}

void message_free(struct message *m)
{
    struct worker *w = worker_self();

    message_drop_body(m);
    if (w == NULL || w->messages_free >= MESSAGES_KEPT) {
        free(m);
        return;
    }
    m->next = w->messages;
    w->messages = m;
    w->messages_free++;
}

void message_set_body(struct message *m, const void *body, size_t len)
{
    uint8_t *to = m->body;

    if (len > MESSAGE_INLINE) {
        m->external = malloc(len);
        INVARIANT(m->external != NULL);
        to = m->external;
    }
    memcpy(to, body, len);
    m->len = (uint32_t)len;
}
