/* From actors to records. */
#include "actors/upgrade_build.h"

#include "actors/version.h"

#include <openssl/sha.h>
#include <stdlib.h>
#include <unistd.h>

/* What is packed for one record and borrowed by it until the record is written. */
struct scratch {
    struct packer lists[12];
    unsigned used;
    uint8_t *bytes[4];
    unsigned bytes_used;
};

static struct packer *scratch_list(struct scratch *s)
{
    INVARIANT(s->used < COUNT_OF(s->lists));
    struct packer *p = &s->lists[s->used++];
    p->grows = true;
    p->len = 0;
    return p;
}

static uint8_t *scratch_bytes(struct scratch *s, size_t len)
{
    INVARIANT(s->bytes_used < COUNT_OF(s->bytes));
    uint8_t *at = malloc(len + 1);
    INVARIANT(at != NULL);
    s->bytes[s->bytes_used++] = at;
    return at;
}

static void scratch_clear(struct scratch *s)
{
    while (s->bytes_used > 0)
        free(s->bytes[--s->bytes_used]);
    s->used = 0;
}

static void scratch_free(struct scratch *s)
{
    scratch_clear(s);
    for (unsigned i = 0; i < COUNT_OF(s->lists); i++) {
        free(s->lists[i].start);
        s->lists[i] = (struct packer){0};
    }
}

static struct bytes packed(const struct packer *p)
{
    INVARIANT(!p->failed);
    return (struct bytes){p->start, p->len};
}

static struct bytes text(const char *at)
{
    return at == NULL ? (struct bytes){NULL, 0} : bytes_of(at);
}

struct packing {
    struct upgrade_load *load;
    struct state_writer *out;
    struct scratch scratch;
    struct statement_slot *slots; /* which statement has which record */
    size_t slot_count;            /* power of two */
    size_t fds;
};

/* --- statements: numbered as they are met --- */

struct statement_slot {
    struct statement *statement;
    size_t number;
};

static struct statement_slot *slot_of(const struct packing *p, const struct statement *s)
{
    size_t at = (size_t)s->hash & (p->slot_count - 1);

    while (p->slots[at].statement != NULL && p->slots[at].statement != s)
        at = (at + 1) & (p->slot_count - 1);
    return &p->slots[at];
}

static void slots_grow(struct packing *p)
{
    struct statement_slot *before = p->slots;
    size_t count = p->slot_count;

    p->slot_count = MAX(count * 2, (size_t)1024);
    p->slots = calloc(p->slot_count, sizeof *p->slots);
    p->load->statements = realloc(p->load->statements, p->slot_count * sizeof(struct statement *));
    INVARIANT(p->slots != NULL && p->load->statements != NULL);
    for (size_t i = 0; i < count; i++) {
        if (before[i].statement != NULL)
            *slot_of(p, before[i].statement) = before[i];
    }
    free(before);
}

static size_t statement_number(struct packing *p, struct statement *s)
{
    if (s == NULL)
        return 0;
    if ((p->load->statement_count + 1) * 2 > p->slot_count)
        slots_grow(p);
    struct statement_slot *slot = slot_of(p, s);
    if (slot->statement == NULL) {
        p->load->statements[p->load->statement_count++] = s;
        *slot = (struct statement_slot){s, p->load->statement_count};
    }
    return slot->number;
}

static uint64_t pool_of_cache(const struct packing *p, const struct statement_cache *cache)
{
    for (size_t i = 0; i < p->load->pool_count; i++) {
        if (&p->load->pools[i]->shared->statements == cache)
            return i + 1;
    }
    return 0;
}

static void put_statements(struct packing *p)
{
    state_section_begin(p->out, STATE_STATEMENTS, true);
    for (size_t i = 0; i < p->load->statement_count; i++) {
        struct statement *s = p->load->statements[i];
        struct state_statement record = {
            .id = i + 1,
            .number = s->number,
            .used = atomic_load_explicit(&s->used, memory_order_relaxed),
            .tail = {s->text->tail, s->text->tail_len},
            .pool = pool_of_cache(p, s->cache),
            .digest = s->digest,
            .retired = atomic_load_explicit(&s->retired, memory_order_relaxed),
            .kinds = atomic_load_explicit(&s->kinds, memory_order_relaxed),
            .hits = atomic_load_explicit(&s->hits, memory_order_relaxed),
            .misses = atomic_load_explicit(&s->misses, memory_order_relaxed),
        };

        state_put_statement(p->out, &record);
    }
    state_section_end(p->out);
}

/* --- connections --- */

static uint64_t add_fd(struct packing *p, const struct conn *c)
{
    p->load->fds[p->fds++] = c->fd;
    return p->fds;
}

/* All slices in one piece. */
static struct bytes output_of(struct packing *p, const struct conn *c)
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

/* `before`, and what lies in the owner's mailbox behind it. (An end or an error that lies there the
 * socket will tell again.) */
static struct bytes with_arrived(struct packing *p, struct bytes before, const struct actor *owner,
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

/* --- pools --- */

static void hash_text(SHA256_CTX *sha, const char *at)
{
    static const char nothing[] = "\1";

    SHA256_Update(sha, at == NULL ? nothing : at, at == NULL ? 2 : strlen(at) + 1);
}

void pool_fingerprint(const struct effective *e, uint8_t out[POOL_FINGERPRINT])
{
    SHA256_CTX sha;
    uint32_t numbers[3] = {e->server_port, (uint32_t)e->server_tls_mode, (uint32_t)e->mode};

    SHA256_Init(&sha);
    SHA256_Update(&sha, numbers, sizeof numbers);
    hash_text(&sha, e->server_host);
    hash_text(&sha, e->server_database);
    hash_text(&sha, e->server_user);
    hash_text(&sha, e->server_password);
    hash_text(&sha, e->application_name);
    for (size_t i = 0; i < e->startup_parameters.count; i++) {
        hash_text(&sha, e->startup_parameters.items[i].name);
        hash_text(&sha, e->startup_parameters.items[i].value);
    }
    SHA256_Final(out, &sha);
}

/* Keys that a client has proved, so that the successor can open connections before one has. */
static struct bytes material_of(struct packing *p, struct pool_shared *shared)
{
    struct packer *list = scratch_list(&p->scratch);
    uint8_t secret[SHA256_DIGEST_LENGTH];

    pthread_mutex_lock(&shared->lock);
    if (shared->material == MATERIAL_KEYS && shared->secret != NULL) {
        SHA256((const uint8_t *)shared->secret, strlen(shared->secret), secret);
        pack_array(list, 3);
        pack_bin(list, secret, sizeof secret);
        pack_bin(list, shared->client_key, sizeof shared->client_key);
        pack_bin(list, shared->server_key, sizeof shared->server_key);
    }
    pthread_mutex_unlock(&shared->lock);
    return packed(list);
}

static struct bytes idle_of(struct packing *p, const struct pool *pool)
{
    struct packer *list = scratch_list(&p->scratch);
    uint32_t count = 0;
    size_t mark = pack_array_open(list);

    for (uint32_t i = 0; i < pool->idle_count; i++) {
        const struct backend *b = pool->idle[(pool->idle_head + i) & (pool->idle_size - 1)];
        uint32_t number = p->load->record_of[b->actor.index];

        if (number == 0)
            continue;
        pack_uint(list, number);
        count++;
    }
    pack_array_close(list, mark, count);
    return packed(list);
}

static struct bytes waiters_of(struct packing *p, const struct pool *pool)
{
    struct packer *list = scratch_list(&p->scratch);
    uint32_t count = 0;
    size_t mark = pack_array_open(list);

    for (uint64_t at = pool->waiters_head; at != pool->waiters_tail; at++) {
        const struct waiter *waiter = &pool->waiters[at & (pool->waiters_size - 1)];
        const struct actor *a = actor_find(waiter->session);
        uint32_t number = a == NULL ? 0 : p->load->record_of[a->index];

        if (number == 0)
            continue;
        pack_array(list, 3);
        pack_uint(list, number);
        pack_uint(list, waiter->since_us);
        pack_uint(list, waiter->deadline_us);
        count++;
    }
    pack_array_close(list, mark, count);
    return packed(list);
}

static struct bytes counters_list(struct packing *p, struct pool_shared *shared)
{
    struct packer *list = scratch_list(&p->scratch);
    struct pool_counters now = pool_counters_sum(shared);
    struct pool_counters *told = &shared->handed_over;

    pack_array(list, 9);
    pack_uint(list, now.transactions - told->transactions);
    pack_uint(list, now.queries - told->queries);
    pack_uint(list, now.bytes_received - told->bytes_received);
    pack_uint(list, now.bytes_sent - told->bytes_sent);
    pack_uint(list, now.transaction_us - told->transaction_us);
    pack_uint(list, now.query_us - told->query_us);
    pack_uint(list, now.wait_us - told->wait_us);
    pack_uint(list, now.waits - told->waits);
    pack_uint(list, now.errors - told->errors);
    return packed(list);
}

static void put_pools(struct packing *p)
{
    state_section_begin(p->out, STATE_POOLS, true);
    for (size_t i = 0; i < p->load->pool_count; i++) {
        struct pool *pool = p->load->pools[i];
        uint8_t fingerprint[POOL_FINGERPRINT] = {0};

        if (!pool->removed)
            pool_fingerprint(pool->effective, fingerprint);
        struct state_pool record = {
            .id = i + 1,
            .database = text(pool->shared->database),
            .user = text(pool->shared->user),
            .fingerprint = {fingerprint, sizeof fingerprint},
            .epoch = pool->epoch,
            .paused = pool->paused,
            .parameters = {pool->parameters.start, pool->parameters.len},
            .parameters_known = pool->parameters_known,
            .material = material_of(p, pool->shared),
            .idle = idle_of(p, pool),
            .waiters = waiters_of(p, pool),
            .failures = pool->failures,
            .creations = pool->scaling.creations,
            .schema_epoch = atomic_load(&pool->shared->ddl_epoch),
        };
        if (atomic_load(&pool->shared->pool) == actor_id_of(&pool->actor))
            record.counters = counters_list(p, pool->shared);
        state_put_pool(p->out, &record);
        scratch_clear(&p->scratch);
    }
    state_section_end(p->out);
}

/* --- backends --- */

struct statement_list {
    struct packing *p;
    struct packer *out;
    uint32_t count;
};

static void put_stamped(void *context, struct statement *s, uint32_t stamp)
{
    struct statement_list *list = context;

    pack_array(list->out, 2);
    pack_uint(list->out, statement_number(list->p, s));
    pack_uint(list->out, stamp);
    list->count++;
}

static struct bytes set_of(struct packing *p, const struct statement_set *set)
{
    struct statement_list list = {p, scratch_list(&p->scratch), 0};

    if (set == NULL)
        return (struct bytes){NULL, 0};
    size_t mark = pack_array_open(list.out);
    statement_set_each_stamped(set, put_stamped, &list);
    pack_array_close(list.out, mark, list.count);
    return packed(list.out);
}

static struct bytes ledger_of(struct packing *p, const struct ledger *l)
{
    struct packer *list = scratch_list(&p->scratch);

    if (ledger_empty(l))
        return (struct bytes){NULL, 0};
    pack_array(list, ledger_count(l));
    for (uint32_t at = l->head; at != l->tail; at++) {
        const struct ledger_entry *e = &l->ring[at & (l->size - 1)];

        pack_array(list, 10);
        pack_uint(list, e->kind);
        pack_uint(list, e->whose);
        pack_uint(list, statement_number(p, e->statement));
        pack_bin(list, e->missing, e->missing == NULL ? 0 : strlen(e->missing));
        pack_uint(list, e->effect.leaves);
        pack_uint(list, e->effect.clears);
        pack_uint(list, e->effect.seen);
        pack_uint(list, e->effect.setting);
        pack_uint(list, e->owns);
        pack_uint(list, e->marks);
    }
    return packed(list);
}

static struct bytes backend_counters(struct packing *p, const struct backend *b)
{
    struct packer *list = scratch_list(&p->scratch);

    pack_array(list, 6);
    pack_uint(list, b->transactions);
    pack_uint(list, b->queries);
    pack_uint(list, b->bytes_sent);
    pack_uint(list, b->bytes_received);
    pack_uint(list, b->prepared_hits);
    pack_uint(list, b->prepared_misses);
    return packed(list);
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

/* What the client began with (nil: the same), what it wants now, and whether a server took that. */
static struct bytes set_of_parameters(struct packing *p, struct parameter_set *set)
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

static struct bytes tracked_before(struct packing *p, const struct backend *b)
{
    struct packer *list = scratch_list(&p->scratch);

    if (!b->reported)
        return (struct bytes){NULL, 0};
    pack_array(list, PARAMETERS_TRACKED);
    for (size_t i = 0; i < PARAMETERS_TRACKED; i++)
        pack_uint(list, b->tracked_before[i]);
    return packed(list);
}

/* Hashes with the key of the process, which both have. */
static struct bytes text_settings(struct packing *p, const struct backend *b)
{
    struct packer *list = scratch_list(&p->scratch);

    pack_array(list, 3 + TEXT_SETTINGS);
    pack_uint(list, b->digest[0]);
    pack_uint(list, b->digest[1]);
    pack_uint(list, b->digest_client);
    for (size_t i = 0; i < TEXT_SETTINGS; i++)
        pack_uint(list, b->text_base[i]);
    return packed(list);
}

static uint64_t backend_flags(const struct backend *b)
{
    return (b->broken ? STATE_BACKEND_BROKEN : 0) | (b->copy_in ? STATE_BACKEND_COPY_IN : 0) |
           (b->needs_sync ? STATE_BACKEND_NEEDS_SYNC : 0) |
           (b->body_swallowed ? STATE_BACKEND_SWALLOWED : 0) |
           (b->statements != NULL ? STATE_BACKEND_REMAPS : 0) |
           (b->applied_stale ? STATE_BACKEND_APPLIED_STALE : 0) |
           (b->applied_touched ? STATE_BACKEND_APPLIED_TOUCHED : 0) |
           (b->all_reset ? STATE_BACKEND_ALL_RESET : 0) |
           (b->reported ? STATE_BACKEND_REPORTED : 0) |
           (b->cancel_unsure ? STATE_BACKEND_CANCEL_UNSURE : 0) |
           (b->replaced ? STATE_BACKEND_REPLACED : 0) | (b->visible ? STATE_BACKEND_VISIBLE : 0) |
           (b->unnamed_used ? STATE_BACKEND_UNNAMED_USED : 0) |
           (b->schema_changed ? STATE_BACKEND_SCHEMA_CHANGED : 0);
}

/* The record of the actor with that identity, if it moves. */
static uint64_t record_of(const struct packing *p, actor_id id)
{
    const struct actor *a = actor_find(id);

    return a == NULL || a->index >= p->load->record_size ? 0 : p->load->record_of[a->index];
}

static void put_backend(struct packing *p, size_t id, struct backend *b)
{
    const struct actor *owner = atomic_load_explicit(&b->conn.owner, memory_order_relaxed);
    bool leased = b->state == BACKEND_LEASED;
    struct state_backend record = {
        .id = id,
        .pool = record_of(p, b->pool),
        .fd = add_fd(p, &b->conn),
        .pid = (uint32_t)b->pid,
        .key = {b->key, b->key_len},
        .parameters = {b->parameters.start, b->parameters.len},
        .status = (uint8_t)b->status,
        .created_us = b->created_us,
        .lifetime_us = b->lifetime_us,
        .idle_limit_us = b->idle_limit_us,
        .idle_since_us = b->idle_since_us,
        .uses = b->uses,
        .epoch = b->epoch,
        .statements = set_of(p, b->statements),
        .flags = backend_flags(b),
        .input = with_arrived(p, (struct bytes){NULL, 0}, owner, &b->conn),
        .output = output_of(p, &b->conn),
        .session = leased ? p->load->record_of[owner->index] : 0,
        .counters = backend_counters(p, b),
        .application_name = text(b->application_name),
        .address = {(const uint8_t *)&b->address, b->address_len},
        .number = b->number,
        .body_left = b->body_left,
        .ledger = ledger_of(p, &b->ledger),
        .dirt = b->dirt,
        .undone = b->undone,
        .lasting = b->lasting,
        .setting = b->setting,
        .temp_owner = record_of(p, b->temp_owner),
        .leased_since_us = b->leased_since_us,
        .applied = set_of_parameters(p, b->applied),
        .tracked_before = tracked_before(p, b),
        .cancels = b->cancels_sent,
        .replace_at_us = b->replace_at_us,
        .text_settings = text_settings(p, b),
        .trouble_us = b->trouble_us,
        .traits = b->traits,
    };

    if (b->stash != NULL)
        record.stash = (struct bytes){b->stash->data, b->stash_len};
    state_put_backend(p->out, &record);
    scratch_clear(&p->scratch);
}

/* --- sessions --- */

static const struct {
    uint32_t here;
    uint32_t there;
} session_flags[] = {
    {SESSION_REMAP, STATE_REMAP},     {SESSION_FATAL_SEEN, STATE_FATAL_SEEN},
    {SESSION_COPY_IN, STATE_COPY_IN}, {SESSION_SKIP_TO_SYNC, STATE_SKIP_TO_SYNC},
    {SESSION_FLUSHED, STATE_FLUSHED}, {SESSION_DISCARD, STATE_DISCARD},
    {SESSION_ASYNC, STATE_ASYNC},     {SESSION_BAD_BACKEND, STATE_BAD_BACKEND},
    {SESSION_BATCH, STATE_BATCH},
};

uint64_t session_flags_pack(uint32_t flags)
{
    uint64_t out = 0;

    for (size_t i = 0; i < COUNT_OF(session_flags); i++)
        out |= flags & session_flags[i].here ? session_flags[i].there : 0;
    return out;
}

uint32_t session_flags_unpack(uint64_t flags)
{
    uint32_t out = 0;

    for (size_t i = 0; i < COUNT_OF(session_flags); i++)
        out |= flags & session_flags[i].there ? session_flags[i].here : 0;
    return out;
}

static enum state_phase phase_of(const struct session *s)
{
    switch ((enum session_phase)s->phase) {
    case SESSION_START: return STATE_PHASE_START;
    case SESSION_WAITING: return STATE_PHASE_WAITING;
    case SESSION_BOUND: return STATE_PHASE_ACTIVE;
    case SESSION_ADMIN: return STATE_PHASE_ADMIN;
    default: INVARIANT(s->phase == SESSION_IDLE); return STATE_PHASE_IDLE;
    }
}

static void put_named(void *context, struct bytes name, struct statement *s)
{
    struct statement_list *list = context;

    pack_array(list->out, 2);
    pack_bin(list->out, name.at, name.len);
    pack_uint(list->out, statement_number(list->p, s));
    list->count++;
}

static struct bytes names_of(struct packing *p, const struct statement_map *map)
{
    struct statement_list list = {p, scratch_list(&p->scratch), 0};

    if (map->count == 0)
        return (struct bytes){NULL, 0};
    size_t mark = pack_array_open(list.out);
    statement_map_each(map, put_named, &list);
    pack_array_close(list.out, mark, list.count);
    return packed(list.out);
}

static struct bytes wait_of(struct packing *p, const struct session *s)
{
    struct packer *list = scratch_list(&p->scratch);

    if (s->phase != SESSION_WAITING)
        return (struct bytes){NULL, 0};
    pack_array(list, 1);
    pack_uint(list, s->asked_us);
    return packed(list);
}

static struct bytes session_counters(struct packing *p, const struct session *s)
{
    struct packer *list = scratch_list(&p->scratch);

    pack_array(list, 4);
    pack_uint(list, s->transactions);
    pack_uint(list, s->queries);
    pack_uint(list, s->errors);
    pack_uint(list, s->wait_max_us);
    return packed(list);
}

static struct bytes input_of(struct packing *p, const struct session *s)
{
    struct bytes waits = {NULL, 0};

    if (s->in != NULL)
        waits = (struct bytes){session_input(s), session_input_len(s)};
    return with_arrived(p, waits, &s->actor, &s->conn);
}

/* By database and user: the pool actor itself may have been replaced. */
static uint64_t pool_record(const struct packing *p, const struct session *s)
{
    return s->shared == NULL ? 0 : record_of(p, atomic_load(&s->shared->pool));
}

static uint64_t sync_flags(const struct session *s)
{
    return (s->terminated ? STATE_TERMINATED : 0) | (s->syncing ? STATE_SYNCING : 0) |
           (s->sync_alone ? STATE_SYNC_ALONE : 0) | (s->sync_failed ? STATE_SYNC_FAILED : 0) |
           (s->batch_synced ? STATE_BATCH_SYNCED : 0) |
           (s->skip_parameters ? STATE_SKIP_PARAMETERS : 0) |
           (s->skip_to_sync ? STATE_SKIPS_TO_SYNC : 0) | (s->cancel_due ? STATE_CANCEL_DUE : 0) |
           (s->copy_synced ? STATE_COPY_SYNCED : 0) | (s->sync_struck ? STATE_SYNC_STRUCK : 0);
}

static void put_session(struct packing *p, size_t id, struct session *s)
{
    uint8_t key[SESSION_KEY];
    struct state_session record = {
        .id = id,
        .number = s->number,
        .secret = {key, session_key(s, key)},
        .fd = add_fd(p, &s->conn),
        .transport = s->flags & SESSION_LOCAL ? 1 : 0,
        .phase = phase_of(s),
        .pool = pool_record(p, s),
        .database = text(session_database(s)),
        .user = text(session_user(s)),
        .mode = s->mode,
        .statements = names_of(p, &s->statements),
        .unnamed = statement_number(p, s->unnamed),
        .anonymous = set_of(p, s->anonymous),
        .anonymous_evictions = s->anonymous_evictions,
        .input = input_of(p, s),
        .output = output_of(p, &s->conn),
        .begin_owed = s->begin_owed,
        .backend = s->backend == NULL ? 0 : p->load->record_of[s->backend->actor.index],
        .wait = wait_of(p, s),
        .connected_us = s->connected_us,
        .query_us = s->query_us,
        .leased_us = s->leased_us,
        .flags = session_flags_pack(s->flags) | sync_flags(s),
        .wanted = set_of_parameters(p, s->wanted),
        .body_left = s->body_left,
        .counters = session_counters(p, s),
        .application_name = text(session_application(s)),
        .address = text(session_address(s)),
        .scanned = s->in_scanned,
        .cancel_wanted = s->cancel_wanted,
        .lease_batches = s->lease_batches,
    };

    if (s->login != NULL)
        record.peer = (struct bytes){(const uint8_t *)&s->login->peer, sizeof s->login->peer};
    state_put_session(p->out, &record);
    scratch_clear(&p->scratch);
}

/* --- the document --- */

static void put_totals(struct packer *list)
{
    pack_array(list, 7);
    pack_uint(list, atomic_load(&app.connections_total));
    pack_uint(list, atomic_load(&app.connections_plain));
    pack_uint(list, atomic_load(&app.connections_tls));
    pack_uint(list, atomic_load(&app.connections_cancel));
    pack_uint(list, atomic_load(&app.connections_error));
    pack_uint(list, atomic_load(&app.check_backend));
    pack_uint(list, atomic_load(&app.check_cache));
}

void upgrade_load_write(struct upgrade_load *load, struct state_writer *out,
                        struct state_header *header)
{
    struct packing p = {.load = load, .out = out};

    /* Statements are numbered while the others are written, and read before them; descriptors and
     * counts are known at the end. So the header comes last here: readers take any order. */
    slots_grow(&p);
    state_section_begin(out, STATE_BACKENDS, true);
    for (size_t i = 0; i < load->backend_count; i++)
        put_backend(&p, i + 1, load->backends[i]);
    state_section_end(out);
    state_section_begin(out, STATE_SESSIONS, true);
    for (size_t i = 0; i < load->session_count; i++)
        put_session(&p, i + 1, load->sessions[i]);
    state_section_end(out);
    put_pools(&p);
    put_statements(&p);
    load->fd_count = p.fds;

    struct packer *totals = scratch_list(&p.scratch);
    put_totals(totals);
    header->totals = packed(totals);
    header->version = text(DOORMAN_VERSION);
    header->pid = (uint64_t)getpid();
    header->fds = load->fd_count;
    header->sessions = load->session_count;
    header->backends = load->backend_count;
    header->pools = load->pool_count;
    header->statements = load->statement_count;
    header->next_connection = atomic_load(&app.connection_number);
    header->next_statement = statement_numbers_next();
    header->next_backend = backend_numbers_next();
    state_section_begin(out, STATE_HEADER, true);
    state_put_header(out, header);
    state_section_end(out);
    scratch_free(&p.scratch);
    free(p.slots);
}
