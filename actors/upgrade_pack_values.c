/* From actors to records: values that more than one kind of record has. */
#include "actors/upgrade_packing.h"

#include <stdlib.h>

struct packer *scratch_list(struct scratch *s)
{
    INVARIANT(s->used < COUNT_OF(s->lists));
    struct packer *p = &s->lists[s->used++];
    p->grows = true;
    p->len = 0;
    return p;
}

uint8_t *scratch_bytes(struct scratch *s, size_t len)
{
    INVARIANT(s->bytes_used < COUNT_OF(s->bytes));
    uint8_t *at = malloc(len + 1);
    INVARIANT(at != NULL);
    s->bytes[s->bytes_used++] = at;
    return at;
}

void scratch_clear(struct scratch *s)
{
    while (s->bytes_used > 0)
        free(s->bytes[--s->bytes_used]);
    s->used = 0;
}

void scratch_free(struct scratch *s)
{
    scratch_clear(s);
    for (unsigned i = 0; i < COUNT_OF(s->lists); i++) {
        free(s->lists[i].start);
        s->lists[i] = (struct packer){0};
    }
}

struct bytes packed(const struct packer *p)
{
    INVARIANT(!p->failed);
    return (struct bytes){p->start, p->len};
}

struct bytes text(const char *at)
{
    return at == NULL ? (struct bytes){NULL, 0} : bytes_of(at);
}

struct bytes numbers_list(struct packing *p, const uint64_t *numbers, uint32_t count)
{
    struct packer *list = scratch_list(&p->scratch);

    pack_array(list, count);
    for (uint32_t i = 0; i < count; i++)
        pack_uint(list, numbers[i]);
    return packed(list);
}

uint64_t add_fd(struct packing *p, const struct conn *c)
{
    p->load->fds[p->fds++] = c->fd;
    return p->fds;
}

struct bytes output_of(struct packing *p, const struct conn *c)
{
    if (c->out == NULL)
        return (struct bytes){NULL, 0};
    uint8_t *at = scratch_bytes(&p->scratch, c->out_bytes);
    size_t len = 0;
    for (const struct output *out = c->out; out != NULL; out = out->next) {
        for (unsigned i = 0; i < out->count; i++) {
            const struct iovec *slice = &out->iov[out->first + i];

            memcpy(at + len, slice->iov_base, slice->iov_len);
            len += slice->iov_len;
        }
    }
    INVARIANT(len == c->out_bytes);
    return (struct bytes){at, len};
}

struct arrived {
    const struct conn *conn;
    const struct rbuf *buf;
    size_t len;
};

static void find_arrived(void *context, struct message *m)
{
    struct arrived *a = context;

    if (m->kind == MESSAGE_RECV && m->io.conn == a->conn && m->io.result > 0) {
        a->buf = m->io.buf;
        a->len = (size_t)m->io.result;
    }
}

struct bytes with_arrived(struct packing *p, struct bytes before, const struct actor *owner,
                          const struct conn *c)
{
    struct arrived arrived = {.conn = c};

    mailbox_each(&owner->box, find_arrived, &arrived);
    if (arrived.len == 0)
        return before;
    uint8_t *at = scratch_bytes(&p->scratch, before.len + arrived.len);
    if (before.len > 0)
        memcpy(at, before.at, before.len);
    memcpy(at + before.len, arrived.buf->data, arrived.len);
    return (struct bytes){at, before.len + arrived.len};
}

static void put_pairs(struct packer *list, const struct parameter_set *set)
{
    struct parameter pair;
    uint32_t at = 0;
    uint32_t count = 0;
    size_t mark = pack_array_open(list);

    while (parameter_set_next(set, &at, &pair)) {
        pack_bin(list, pair.name.at, pair.name.len);
        pack_bin(list, pair.value.at, pair.value.len);
        count += 2;
    }
    pack_array_close(list, mark, count);
}

struct bytes set_of_parameters(struct packing *p, struct parameter_set *set)
{
    struct packer *list = scratch_list(&p->scratch);

    if (set == NULL)
        return (struct bytes){NULL, 0};
    pack_array(list, 3);
    if (parameter_set_origin(set) == set)
        pack_nil(list);
    else
        put_pairs(list, parameter_set_origin(set));
    put_pairs(list, set);
    pack_bool(list, atomic_load_explicit(&set->accepted, memory_order_relaxed));
    return packed(list);
}

uint64_t record_of(const struct packing *p, actor_id id)
{
    const struct actor *a = actor_find(id);

    return a == NULL || a->index >= p->load->record_size ? 0 : p->load->record_of[a->index];
}
