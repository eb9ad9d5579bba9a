#include "actors/messages.h"

#include <inttypes.h>
#include <stdio.h>

const char *message_kind_name(uint16_t kind)
{
    static const char *const own[] = {"NONE",   "START", "RECV",  "SENT",
                                      "CLOSED", "READY", "ALARM", "VISIT"};
    static const char *const names[] = {
#define X(k, fields) #k,
        MESSAGE_KINDS(X)
#undef X
    };

    if (kind < MESSAGE_KIND_FIRST)
        return own[kind];
    return kind < MESSAGE_KIND_END ? names[kind - MESSAGE_KIND_FIRST] : "?";
}

struct text {
    char *at;
    size_t size;
    size_t len;
};

static void print_number(struct text *t, const char *name, uint64_t value)
{
    int n = snprintf(t->at + t->len, t->size - t->len, " %s=%" PRIu64, name, value);

    t->len = MIN(t->len + (size_t)n, t->size - 1);
}

static void print_bytes(struct text *t, const char *name, struct bytes value)
{
    int n = snprintf(t->at + t->len, t->size - t->len, " %s=[%zu]", name, value.len);

    t->len = MIN(t->len + (size_t)n, t->size - 1);
}

void message_print(const struct message *m, char *out, size_t size)
{
    struct text t = {out, size, 0};
    struct unpacker u = unpacker_of(message_body(m), m->len);

    t.len = MIN((size_t)snprintf(out, size, "%s", message_kind_name(m->kind)), size - 1);
    switch (m->kind) {
#define F_U(n) print_number(&t, #n, unpack_uint(&u));
#define F_B(n) print_bytes(&t, #n, unpack_bytes(&u));
#define X(k, fields) \
    case MSG_##k: fields break;
        MESSAGE_KINDS(X)
    default: break;
    }
}
