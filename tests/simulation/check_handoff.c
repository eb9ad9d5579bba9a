/* A handoff seen from outside: what each session and each server connection was in the old process
 * it is in the new one, and the places in queues are the same.
 *
 * Nothing here goes through the documents' writer and reader, so that what both forget is missed.
 */
#include "tests/simulation/check.h"
#include "tests/simulation/processes.h"

#include "runtime/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { SEEN_MAX = 256, TEXT_MAX = 6000 };

/* One session or backend, in words. */
struct seen {
    uint64_t number;
    char text[TEXT_MAX];
};

static struct seen sessions[SEEN_MAX];
static struct seen backends[SEEN_MAX];
static struct seen queues[SEEN_MAX]; /* by pool: who waits */
static unsigned session_count;
static unsigned backend_count;
static unsigned queue_count;
static uint64_t *moved; /* numbers of sessions, in the document's order */
static size_t moved_count;
static struct seen now;

/* --- in words --- */

PRINTF_LIKE(2, 3) static void say(struct seen *s, const char *format, ...)
{
    size_t len = strlen(s->text);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(s->text + len, TEXT_MAX - len, format, arguments);
    va_end(arguments);
}

static uint32_t digest(uint32_t hash, const uint8_t *at, size_t len)
{
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ at[i]) * 16777619u;
    return hash;
}

struct bytes_of_conn {
    const struct conn *conn;
    uint32_t hash;
    size_t len;
};

static void add_arrived(void *context, struct message *m)
{
    struct bytes_of_conn *b = context;

    if (m->kind != MESSAGE_RECV || m->io.conn != b->conn || m->io.result <= 0)
        return;
    b->hash = digest(b->hash, m->io.buf->data, (size_t)m->io.result);
    b->len += (size_t)m->io.result;
}

/* `before`, and what lies in the owner's mailbox. */
static void say_input(struct seen *s, const struct actor *owner, const struct conn *c,
                      const uint8_t *before, size_t len)
{
    struct bytes_of_conn b = {c, digest(1, before, len), len};

    mailbox_each(&owner->box, add_arrived, &b);
    say(s, " input %zu %08x", b.len, b.hash);
}

static void say_output(struct seen *s, const struct conn *c)
{
    uint32_t hash = 1;
    size_t len = 0;

    for (const struct output *out = c->out; out != NULL; out = out->next) {
        for (unsigned i = 0; i < out->count; i++) {
            const struct iovec *slice = &out->iov[out->first + i];

            hash = digest(hash, slice->iov_base, slice->iov_len);
            len += slice->iov_len;
        }
    }
    say(s, " output %zu %08x", len, hash);
}

static void say_named(void *context, struct bytes name, struct statement *statement)
{
    say(context, " [%.*s: %.60s]", (int)name.len, (const char *)name.at,
        (const char *)statement->text->tail);
}

static void say_parameters(struct seen *s, const char *what, const struct parameter_set *set)
{
    struct parameter pair;
    uint32_t at = 0;

    say(s, " %s", what);
    while (set != NULL && parameter_set_next(set, &at, &pair))
        say(s, " %.*s=%.*s", (int)pair.name.len, (const char *)pair.name.at, (int)pair.value.len,
            (const char *)pair.value.at);
}

static void describe_session(struct seen *out, const struct session *s)
{
    uint8_t key[SESSION_KEY];
    size_t len = session_key(s, key);

    *out = (struct seen){.number = s->number};
    say(out, "%s of %s@%s as %s, mode %d, key %08x", session_phase_name(s->phase), session_user(s),
        session_database(s), session_application(s), s->mode, digest(1, key, len));
    say(out, " backend %d, BEGIN %d, batches %u", s->backend == NULL ? 0 : s->backend->pid,
        s->begin_owed, s->lease_batches);
    say(out, " did %llu %llu %llu", (unsigned long long)s->transactions,
        (unsigned long long)s->queries, (unsigned long long)s->errors);
    statement_map_each(&s->statements, say_named, out);
    if (s->unnamed != NULL)
        say(out, " unnamed %.60s", (const char *)s->unnamed->text->tail);
    say_parameters(out, "wants", s->wanted);
    if (s->in == NULL)
        say_input(out, &s->actor, &s->conn, NULL, 0);
    else
        say_input(out, &s->actor, &s->conn, session_input(s), session_input_len(s));
    say_output(out, &s->conn);
}

static void describe_backend(struct seen *out, const struct backend *b)
{
    const struct actor *owner = atomic_load(&b->conn.owner);
    const struct session *s = b->state == BACKEND_LEASED
                                  ? CONTAINER_OF(owner, struct session, actor)
                                  : NULL;

    *out = (struct seen){.number = (uint64_t)b->pid};
    say(out, "%s, by session %llu, status %c, uses %llu, key %08x", backend_state_name(b->state),
        s == NULL ? 0 : (unsigned long long)s->number, b->status, (unsigned long long)b->uses,
        digest(1, b->key, b->key_len));
    say(out, " dirt %x undone %x lasting %x setting %x", b->dirt, b->undone, b->lasting,
        b->setting);
    say(out, " parameters %zu %08x", b->parameters.len,
        digest(1, b->parameters.start, b->parameters.len));
    say(out, " copy %d sync %d body %u stash %u", b->copy_in, b->needs_sync, (unsigned)b->body_left,
        b->stash == NULL ? 0 : (unsigned)b->stash_len);
    for (uint32_t at = b->ledger.head; at != b->ledger.tail; at++) {
        const struct ledger_entry *e = &b->ledger.ring[at & (b->ledger.size - 1)];

        say(out, " owes %d to %d %.40s", e->kind, e->whose,
            e->statement == NULL ? "" : (const char *)e->statement->text->tail);
    }
    say_parameters(out, "applied", b->applied);
    say_input(out, owner, &b->conn, NULL, 0);
    say_output(out, &b->conn);
}

/* --- who moves --- */

static bool moves(uint64_t number)
{
    for (size_t i = 0; i < moved_count; i++) {
        if (moved[i] == number)
            return true;
    }
    return false;
}

static struct pool *each_pool(size_t *at)
{
    size_t count;
    actor_id *list = actor_list(&pool_type, &count);
    struct actor *a = *at < count ? actor_find(list[*at]) : NULL;

    free(list);
    (*at)++;
    return a == NULL ? NULL : pool_of(a);
}

/* Those that have come, in their order. */
static void describe_queue(struct seen *out, const struct pool *p, bool note)
{
    *out = (struct seen){
        .number = digest(digest(1, (const uint8_t *)p->shared->user, strlen(p->shared->user)),
                         (const uint8_t *)p->shared->database, strlen(p->shared->database))};
    for (uint64_t at = p->waiters_head; at != p->waiters_tail; at++) {
        const struct waiter *waiter = &p->waiters[at & (p->waiters_size - 1)];
        struct actor *a = actor_find(waiter->session);

        if (a == NULL || waiter->login || !moves(session_of(a)->number))
            continue;
        say(out, " %llu", (unsigned long long)session_of(a)->number);
        if (note)
            check_queue_moved(p, waiter->session);
    }
}

/* --- before --- */

static void observe_queues(void)
{
    struct pool *p;

    queue_count = 0;
    for (size_t at = 0; (p = each_pool(&at)) != NULL;) {
        INVARIANT(queue_count < SEEN_MAX);
        if (!p->removed)
            describe_queue(&queues[queue_count++], p, false);
    }
}

void handoff_observe(const struct state_document *d)
{
    size_t count;
    actor_id *list = actor_list(&session_type, &count);

    INVARIANT(d->session_count <= SEEN_MAX && d->backend_count <= SEEN_MAX);
    free(moved);
    moved = calloc(d->session_count + 1, sizeof *moved);
    INVARIANT(moved != NULL);
    moved_count = d->session_count;
    for (size_t i = 0; i < moved_count; i++)
        moved[i] = d->sessions[i].number;
    session_count = 0;
    for (size_t i = 0; i < count; i++) {
        const struct session *s = session_of(actor_find(list[i]));

        if (moves(s->number))
            describe_session(&sessions[session_count++], s);
    }
    free(list);
    if (session_count != moved_count)
        sim_fail("%zu sessions are written down, of %u", moved_count, session_count);
    list = actor_list(&backend_type, &count);
    backend_count = 0;
    for (size_t i = 0; i < count; i++) {
        const struct backend *b = backend_find(list[i]);

        for (size_t at = 0; at < d->backend_count; at++) {
            if (d->backends[at].number == b->number)
                describe_backend(&backends[backend_count++], b);
        }
    }
    free(list);
    observe_queues();
}

/* --- after --- */

static void compare(const char *what, const struct seen *before, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (before[i].number != now.number)
            continue;
        if (strcmp(before[i].text, now.text) != 0)
            sim_fail("%s %llu was: %s\n... and has become: %s", what,
                     (unsigned long long)now.number, before[i].text, now.text);
        return;
    }
}

static void compare_sessions(void)
{
    size_t count;
    actor_id *list = actor_list(&session_type, &count);
    unsigned found = 0;

    for (size_t i = 0; i < count; i++) {
        const struct session *s = session_of(actor_find(list[i]));

        if (!moves(s->number))
            continue;
        found++;
        describe_session(&now, s);
        compare("session", sessions, session_count);
        struct bytes secret = {(const uint8_t *)&s->secret, sizeof s->secret};
        if (s->phase != SESSION_START && cancel_find((uint32_t)s->number, secret) != list[i])
            sim_fail("session %llu cannot be cancelled any more", (unsigned long long)s->number);
    }
    free(list);
    if (found != session_count)
        sim_fail("%u sessions were handed over, %u have arrived", session_count, found);
}

static void compare_backends(void)
{
    size_t count;
    actor_id *list = actor_list(&backend_type, &count);
    unsigned found = 0;

    for (size_t i = 0; i < count; i++) {
        const struct backend *b = backend_find(list[i]);

        for (unsigned at = 0; at < backend_count; at++) {
            if (backends[at].number != (uint64_t)b->pid)
                continue;
            found++;
            describe_backend(&now, b);
            compare("backend pid", backends, backend_count);
        }
    }
    free(list);
    if (found != backend_count)
        sim_fail("%u backends were handed over, %u have arrived", backend_count, found);
}

void handoff_compare(void)
{
    struct pool *p;

    compare_sessions();
    compare_backends();
    for (size_t at = 0; (p = each_pool(&at)) != NULL;) {
        if (p->removed) /* it only counts what the other process has */
            continue;
        describe_queue(&now, p, true);
        compare("queue of pool", queues, queue_count);
    }
}
