#include "runtime/actor.h"

#include "runtime/io.h"

#include <errno.h>
#include <stdlib.h>

/* --- identities ---
 * An index belongs to a piece of memory for ever; the generation counts its lives. */
enum { CHUNK = 4096, CHUNKS = 4096 };

static struct actor **chunks[CHUNKS];
static _Atomic uint32_t index_count;

struct type_slot {
    const struct actor_type *type;
    pthread_mutex_t lock;
    struct actor *free;
    _Atomic uint32_t alive;
};
static struct type_slot slots[ACTOR_TYPES_MAX];
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;

enum { DEPTH_MAX = 4 };

unsigned actor_batch = 64;

void actor_type_register(const struct actor_type *type)
{
    struct type_slot *slot = &slots[type->number];

    INVARIANT(type->number > 0 && type->number < ACTOR_TYPES_MAX);
    if (slot->type == NULL)
        pthread_mutex_init(&slot->lock, NULL);
    slot->type = type;
}

const struct actor_type *actor_type_of(const struct actor *a)
{
    return slots[a->type].type;
}

static struct actor *actor_at(uint32_t index)
{
    if (index >= atomic_load_explicit(&index_count, memory_order_acquire))
        return NULL;
    return chunks[index / CHUNK][index % CHUNK];
}

/* How many actors of one type are carved from one piece of memory: as many as 16 KiB hold. */
static void slab_add(struct type_slot *slot)
{
    size_t size = (slot->type->size + 15) & ~(size_t)15;
    size_t count = MAX((size_t)1, (size_t)16384 / size);
    uint8_t *slab = calloc(count, size);

    INVARIANT(slab != NULL);
    pthread_mutex_lock(&table_lock);
    uint32_t index = atomic_load_explicit(&index_count, memory_order_relaxed);
    for (size_t i = 0; i < count; i++, index++) {
        struct actor *a = (struct actor *)(void *)(slab + i * size);

        INVARIANT(index / CHUNK < CHUNKS);
        if (chunks[index / CHUNK] == NULL) {
            chunks[index / CHUNK] = calloc(CHUNK, sizeof(struct actor *));
            INVARIANT(chunks[index / CHUNK] != NULL);
        }
        atomic_store_explicit(&a->box.word, MAILBOX_CLOSED, memory_order_relaxed);
        a->index = index;
        atomic_store_explicit(&a->generation, 0, memory_order_relaxed);
        a->type = slot->type->number;
        chunks[index / CHUNK][index % CHUNK] = a;
        a->next_run = slot->free;
        slot->free = a;
    }
    /* Release: who sees the count sees the entries. */
    atomic_store_explicit(&index_count, index, memory_order_release);
    pthread_mutex_unlock(&table_lock);
}

/* Word by word: a worker with a late event may look at a connection's epoch and owner in there. */
static void clear(struct actor *a, size_t size)
{
    typedef uintptr_t __attribute__((may_alias)) word;
    word *at = (word *)(void *)(a + 1);
    word *end = (word *)(void *)((uint8_t *)a + ((size + 15) & ~(size_t)15));

    while (at < end)
        __atomic_store_n(at++, 0, __ATOMIC_RELAXED);
}

struct actor *actor_new(const struct actor_type *type, uint16_t home)
{
    struct type_slot *slot = &slots[type->number];

    pthread_mutex_lock(&slot->lock);
    if (slot->free == NULL)
        slab_add(slot);
    struct actor *a = slot->free;
    slot->free = a->next_run;
    pthread_mutex_unlock(&slot->lock);
    atomic_fetch_add_explicit(&slot->alive, 1, memory_order_relaxed);

    /* Nothing behind the header survives a life. */
    if (type->reset != NULL)
        type->reset(a);
    else
        clear(a, type->size);
    a->next_run = NULL;
    a->dying = 0;
    a->home = home;
    atomic_fetch_add_explicit(&a->generation, 1, memory_order_relaxed);
    mailbox_init(&a->box);
    return a;
}

static void drop_messages(struct worker *w, const struct actor_type *type, struct message *m)
{
    while (m != NULL) {
        struct message *next = m->next;

        if ((m->kind == MESSAGE_RECV) && m->io.buf != NULL)
            rbuf_unref(w, m->io.buf);
        if (m->kind == MESSAGE_VISIT)
            visit_missed(m->visit);
        if (type != NULL && type->missed != NULL)
            type->missed(w, m);
        message_free(m);
        m = next;
    }
}

static void actor_die(struct worker *w, struct actor *a)
{
    struct type_slot *slot = &slots[a->type];

    drop_messages(w, slot->type, mailbox_close(&a->box));
    atomic_fetch_sub_explicit(&slot->alive, 1, memory_order_relaxed);
    pthread_mutex_lock(&slot->lock);
    a->next_run = slot->free;
    slot->free = a;
    pthread_mutex_unlock(&slot->lock);
}

void actor_exit(struct actor *self)
{
    self->dying = 1;
}

void actor_prime(struct actor *a)
{
    struct message *m = message_new(MESSAGE_START);

    m->target = actor_id_of(a);
    INVARIANT(mailbox_push(&a->box, m) == PUSHED);
}

void actor_launch(struct worker *w, struct actor *a)
{
    actor_prime(a);
    worker_schedule(w, a);
}

struct actor *actor_pick(uint64_t number)
{
    uint32_t count = atomic_load_explicit(&index_count, memory_order_acquire);

    return count == 0 ? NULL : actor_at((uint32_t)(number % count));
}

struct actor *actor_find(actor_id id)
{
    struct actor *a = id == 0 ? NULL : actor_at((uint32_t)id);

    if (a == NULL ||
        atomic_load_explicit(&a->generation, memory_order_relaxed) != (uint32_t)(id >> 32) ||
        atomic_load_explicit(&a->box.word, memory_order_relaxed) == MAILBOX_CLOSED)
        return NULL;
    return a;
}

/* --- running --- */

struct blocking_run {
    struct actor *actor;
    struct message *m;
};

static void receive(struct worker *w, struct actor *a, struct message *m)
{
    w->counters.messages++;
    flight_record(w->flight, w->now_us, actor_id_of(a), a->type, m->kind, m->len);
    slots[a->type].type->receive(w, a, m);
}

/* On a borrowed stack. Afterwards the actor goes on with its mailbox from the run queue: this
 * stack may have been left and entered many times, and must not run other messages. */
static void run_blocking(struct coroutine *co, void *argument)
{
    struct worker *w = co->worker;
    struct actor *a = ((struct blocking_run *)argument)->actor;
    struct message *m = ((struct blocking_run *)argument)->m;

    co->actor = a;
    receive(w, a, m);
    message_free(m);
    if (a->dying)
        actor_die(w, a);
    else
        worker_schedule(w, a);
}

static bool is_io(const struct message *m)
{
    return m->kind >= MESSAGE_RECV && m->kind <= MESSAGE_READY;
}

/* True: the message went to a coroutine, which now holds the actor. */
static bool run_one(struct worker *w, struct actor *a, struct message *m)
{
    const struct actor_type *type = slots[a->type].type;

    if (m->kind == MESSAGE_VISIT) {
        visit_run(a, m->visit);
        return false;
    }
    if (is_io(m) && !conn_admit(w, a, m))
        return false;
    if (type->blocks == NULL || !type->blocks(a, m)) {
        receive(w, a, m);
        return false;
    }
    struct blocking_run run = {a, message_new(m->kind)};
    struct message *copy = run.m;
    *copy = *m;
    copy->next = NULL;
    m->len = 0; /* the body is the copy's now */
    coroutine_run(w, run_blocking, &run);
    return true;
}

/* What wants a stack goes through the mailbox, so that the actor is run from the loop. */
void actor_run_message(struct worker *w, struct actor *a, struct message *m)
{
    const struct actor_type *type = slots[a->type].type;

    /* Received bytes are admitted when they are handled: till then the connection must not count
     * as quiet. All else at once: what is left to send must not wait. */
    if (m->kind == MESSAGE_RECV && type->blocks != NULL && type->blocks(a, m)) {
        conn_defer(w, m);
        return;
    }
    if (is_io(m) && !conn_admit(w, a, m))
        return;
    if (LIKELY(type->blocks == NULL || !type->blocks(a, m))) {
        receive(w, a, m);
        return;
    }
    struct message *queued = message_new(m->kind);
    queued->io = m->io;
    queued->flags = m->flags | MESSAGE_ADMITTED;
    queued->target = actor_id_of(a);
    INVARIANT(mailbox_push(&a->box, queued) == PUSHED);
}

void actor_run(struct worker *w, struct actor *a)
{
    for (unsigned i = 0; i < actor_batch; i++) {
        struct message *m = mailbox_pop(&a->box);

        if (m == NULL) {
            if (mailbox_park(&a->box))
                return;
            continue;
        }
        /* A message to an earlier life. */
        if (m->target != actor_id_of(a)) {
            drop_messages(w, slots[a->type].type, m);
            continue;
        }
        bool taken = run_one(w, a, m);
        message_free(m);
        if (taken)
            return;
        if (a->dying) {
            actor_die(w, a);
            return;
        }
    }
    worker_schedule(w, a);
}

void actor_release(struct worker *w, struct actor *a)
{
    if (a->dying)
        actor_die(w, a);
    else if (!mailbox_park(&a->box))
        worker_schedule(w, a);
}

/* --- speaking --- */

static bool push(struct worker *w, struct actor *a, struct message *m)
{
    switch (mailbox_push(&a->box, m)) {
    case PUSHED: return true;
    case PUSHED_TO_IDLE: worker_schedule(w, a); return true;
    case PUSH_REFUSED: break;
    }
    drop_messages(w, NULL, m); /* the caller is told */
    return false;
}

bool actor_tell(struct worker *w, actor_id to, struct message *m)
{
    struct actor *a = actor_find(to);

    m->target = to;
    if (a == NULL) {
        m->next = NULL;
        drop_messages(w, NULL, m);
        return false;
    }
    return push(w, a, m);
}

bool actor_tell_kind(struct worker *w, actor_id to, uint16_t kind)
{
    return actor_tell(w, to, message_new(kind));
}

enum ask_result actor_ask(struct worker *w, struct actor *self, actor_id to,
                          struct message *request, struct message *reply)
{
    struct actor *a = actor_find(to);

    if (a == NULL)
        return ASK_DEAD;
    /* Upward only, so that no cycle of waiting can form; see anchors on inline delivery. */
    INVARIANT(slots[self->type].type->rank < slots[a->type].type->rank);
    request->sender = actor_id_of(self);
    request->target = to;
    reply->kind = MESSAGE_NONE;
    reply->len = 0;
    if (LIKELY(w->inline_depth < DEPTH_MAX && mailbox_claim(&a->box))) {
        if (UNLIKELY(actor_id_of(a) != to)) {
            actor_release(w, a);
            return ASK_DEAD;
        }
        request->reply = reply;
        DEBUG_CHECK(slots[a->type].type->blocks == NULL ||
                    !slots[a->type].type->blocks(a, request));
        w->inline_depth++;
        w->counters.claims_won++;
        receive(w, a, request);
        w->inline_depth--;
        request->reply = NULL;
        actor_release(w, a);
        return reply->kind != MESSAGE_NONE ? ASK_ANSWERED : ASK_QUEUED;
    }
    w->counters.claims_lost++;
    struct message *queued = message_new(request->kind);
    queued->sender = request->sender;
    queued->target = to;
    message_set_body(queued, message_body(request), request->len);
    return push(w, a, queued) ? ASK_QUEUED : ASK_DEAD;
}

void actor_reply(struct worker *w, struct actor *self, const struct message *m,
                 const struct message *answer)
{
    struct message *reply = m->reply;

    if (reply != NULL) {
        reply->kind = answer->kind;
        reply->sender = actor_id_of(self);
        message_set_body(reply, message_body(answer), answer->len);
        return;
    }
    if (m->sender == 0)
        return;
    reply = message_new(answer->kind);
    reply->sender = actor_id_of(self);
    message_set_body(reply, message_body(answer), answer->len);
    actor_tell(w, m->sender, reply);
}

/* --- alarms --- */

struct alarm {
    struct timer timer;
    actor_id to;
    uint64_t token;
};

static void alarm_fire(struct worker *w, struct timer *timer)
{
    struct alarm *alarm = CONTAINER_OF(timer, struct alarm, timer);
    struct message *m = message_new(MESSAGE_ALARM);

    m->alarm.token = alarm->token;
    actor_tell(w, alarm->to, m);
    free(alarm);
}

void actor_alarm(struct worker *w, actor_id to, uint64_t at_us, uint64_t token)
{
    struct alarm *alarm = calloc(1, sizeof *alarm);

    INVARIANT(alarm != NULL);
    alarm->timer.fire = alarm_fire;
    alarm->to = to;
    alarm->token = token;
    timer_arm(&w->timers, &alarm->timer, at_us);
}

actor_id *actor_list(const struct actor_type *type, size_t *count)
{
    uint32_t indexes = atomic_load_explicit(&index_count, memory_order_acquire);
    size_t room = ((size_t)actor_count(type) + 64) * 2;
    actor_id *list = malloc(room * sizeof *list);
    size_t found = 0;

    INVARIANT(list != NULL);
    for (uint32_t index = 0; index < indexes && found < room; index++) {
        struct actor *a = actor_at(index);

        if (a->type == type->number &&
            atomic_load_explicit(&a->box.word, memory_order_relaxed) != MAILBOX_CLOSED)
            list[found++] = actor_id_of(a);
    }
    *count = found;
    return list;
}

uint32_t actor_count(const struct actor_type *type)
{
    return atomic_load_explicit(&slots[type->number].alive, memory_order_relaxed);
}
