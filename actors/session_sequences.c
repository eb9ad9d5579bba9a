/* Sequences: what currval() and lastval() of one client must not tell another. nextval() is too
 * common, and too well hidden in INSERTs, to clean up behind it; so nothing is done until somebody
 * asks. From then on, in that pool, a backend that changes hands begins with DISCARD SEQUENCES. */
#define LOG_MODULE "pg_doorman::server"
#include "actors/session.h"

static const char discard[] = "DISCARD SEQUENCES";
static const char name[] = "DOORMAN_sequences";

static void put(struct worker *w, struct backend *b, struct writer *out)
{
    INVARIANT(!out->failed);
    conn_put_copy(w, &b->conn, out->at, out->len);
}

static void put_query(struct worker *w, struct backend *b)
{
    uint8_t storage[64];
    struct writer out;

    writer_init_fixed(&out, storage, sizeof storage);
    write_query(&out, discard);
    put(w, b, &out);
    b->needs_sync = true;
    b->sequences_foreign = false; /* outside of a transaction, or in a healthy one, it succeeds */
}

static void write_close(struct writer *out)
{
    writer_begin(out, 'C');
    writer_u8(out, 'S');
    writer_raw(out, name, sizeof name);
    writer_end(out);
}

/* By a name, as the unnamed statement may be the client's. It is there before only if the Close
 * behind it was left out, when a cancel request struck. */
static void put_extended(struct worker *w, struct session *s)
{
    struct ledger *l = &s->backend->ledger;
    uint8_t storage[192];
    struct writer out;

    writer_init_fixed(&out, storage, sizeof storage);
    ledger_push(l, ASK_CLOSE, FOR_POOLER);
    write_close(&out);
    ledger_push(l, ASK_PARSE, FOR_POOLER);
    writer_begin(&out, 'P');
    writer_raw(&out, name, sizeof name);
    writer_raw(&out, discard, sizeof discard);
    writer_raw(&out, "\0", 2); /* no parameter types */
    writer_end(&out);
    ledger_push(l, ASK_BIND, FOR_POOLER);
    writer_begin(&out, 'B');
    writer_u8(&out, 0); /* the portal */
    writer_raw(&out, name, sizeof name);
    writer_raw(&out, "\0\0\0\0\0", 6); /* no formats, values, formats */
    writer_end(&out);
    ledger_push(l, ASK_EXECUTE, FOR_POOLER);
    writer_begin(&out, 'E');
    writer_raw(&out, "\0\0\0\0", 5); /* the portal; all rows */
    writer_end(&out);
    ledger_push(l, ASK_CLOSE, FOR_POOLER);
    write_close(&out);
    put(w, s->backend, &out);
}

void session_sequences_begin(struct worker *w, struct session *s)
{
    if (!s->backend->effective->cleanup_server_connections)
        return;
    s->query_us = w->now_us;
    ledger_push(&s->backend->ledger, ASK_QUERY, FOR_POOLER);
    put_query(w, s->backend);
}

/* May what this lease has done so far, the last request aside, have used a sequence? Nothing that
 * was sent is undone, so in doubt it may. */
static bool may_have_own(const struct session *s, bool extended)
{
    const struct ledger *l = &s->backend->ledger;

    if (s->lease_batches > 0 || (s->flags & SESSION_FLUSHED))
        return true;
    for (uint32_t i = l->head; i != l->tail - 1; i++) {
        const struct ledger_entry *entry = &l->ring[i & (l->size - 1)];

        if (entry->whose == FOR_POOLER && entry->kind == ASK_QUERY)
            continue;
        /* A Query would end what is under way. */
        if (!extended || entry->kind == ASK_BIND || entry->kind == ASK_EXECUTE ||
            entry->kind == ASK_QUERY || entry->kind == ASK_FUNCTION)
            return true;
    }
    return false;
}

void session_sequences_read(struct worker *w, struct session *s)
{
    struct backend *b = s->backend;
    struct ledger *l = &b->ledger;
    struct ledger_entry asked = *ledger_last(l);
    bool extended = asked.kind == ASK_PARSE || asked.kind == ASK_BIND;

    if (!b->effective->cleanup_server_connections || s->mode != POOL_MODE_TRANSACTION)
        return;
    if (!atomic_load_explicit(&s->shared->sequences_read, memory_order_relaxed))
        atomic_store_explicit(&s->shared->sequences_read, true, memory_order_relaxed);
    if (!b->sequences_foreign || may_have_own(s, extended))
        return;
    /* In front of it, on the wire and in the ledger. */
    l->tail--;
    if (extended) {
        put_extended(w, s);
    } else {
        ledger_push(l, ASK_QUERY, FOR_POOLER);
        put_query(w, b);
    }
    *ledger_push(l, asked.kind, asked.whose) = asked;
}
