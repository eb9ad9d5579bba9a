/* From records to actors: values that more than one kind of record has. */
#include "actors/upgrade_building.h"

#include <stdlib.h>

bool skip_nil(struct unpacker *u)
{
    if (u->at == u->end || *u->at != 0xc0)
        return false;
    unpack_skip(u);
    return true;
}

void numbers_of(struct bytes packed, uint64_t *numbers, size_t count)
{
    struct unpacker u;
    uint32_t length = list_of(&u, packed);

    for (size_t i = 0; i < count; i++)
        numbers[i] = i < length ? unpack_uint(&u) : 0;
}

char *text_of(struct bytes text)
{
    char *copy = strndup(text.len == 0 ? "" : (const char *)text.at, text.len);

    INVARIANT(copy != NULL);
    return copy;
}

/* From a list of names and values in turn. `changed`: the client began with `origin` (NULL: with
 * nothing), and not with these. */
static struct parameter_set *build_pairs(struct unpacker *u, bool changed,
                                         struct parameter_set *origin)
{
    uint32_t count = unpack_array(u) / 2;
    struct parameter *pairs = calloc(count + 1, sizeof *pairs);
    char *texts = malloc((size_t)(u->end - u->at) + 2 * (size_t)count + 1);
    size_t used = 0;

    INVARIANT(pairs != NULL && texts != NULL);
    for (uint32_t i = 0; i < 2 * count; i++) {
        struct bytes *to = i % 2 == 0 ? &pairs[i / 2].name : &pairs[i / 2].value;
        struct bytes from = unpack_bytes(u);

        /* Sets take texts with an end. */
        memcpy(texts + used, from.at, from.len);
        texts[used + from.len] = '\0';
        *to = (struct bytes){(uint8_t *)texts + used, from.len};
        used += from.len + 1;
    }
    struct parameter_set *set = NULL;
    if (!changed || origin != NULL)
        set = parameter_set_make(pairs, count, origin);
    for (uint32_t i = 0; i < count && changed && origin == NULL; i++) {
        struct parameter_set *before = set;

        set = parameter_set_with(before, (const char *)pairs[i].name.at, pairs[i].value);
        parameter_set_unref(before);
    }
    free(pairs);
    free(texts);
    return set;
}

struct parameter_set *build_parameters(struct bytes packed)
{
    struct unpacker u;

    if (list_of(&u, packed) < 3)
        return NULL;
    bool changed = !skip_nil(&u);
    struct parameter_set *origin = changed ? build_pairs(&u, false, NULL) : NULL;
    struct parameter_set *set = build_pairs(&u, changed, origin);
    if (unpack_bool(&u) && set != NULL)
        atomic_store_explicit(&set->accepted, true, memory_order_relaxed);
    parameter_set_unref(origin);
    return set;
}

struct rbuf *buffer_of(struct bytes bytes)
{
    struct rbuf *buf = rbuf_take_exact(MAX(bytes.len, (size_t)64));

    memcpy(buf->data, bytes.at, bytes.len);
    return buf;
}

void put_arrived(struct actor *owner, struct conn *c, struct bytes bytes)
{
    if (bytes.len == 0)
        return;
    struct message *m = message_new(MESSAGE_RECV);
    m->flags = MESSAGE_ADMITTED;
    m->target = actor_id_of(owner);
    m->io.conn = c;
    m->io.buf = buffer_of(bytes);
    m->io.conn_epoch = atomic_load_explicit(&c->epoch, memory_order_relaxed);
    m->io.result = (int32_t)bytes.len;
    INVARIANT(mailbox_push(&owner->box, m) == PUSHED);
}
