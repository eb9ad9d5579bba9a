/* From records to actors. */
#define LOG_MODULE "pg_doorman::app"
#include "actors/upgrade_build.h"

#include "runtime/log.h"

#include <fcntl.h>
#include <openssl/mem.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Room between the numbers of the two processes, since the other may go on for a while with what
 * could not move at once: connections under way, and texts of its remaining clients. */
enum { CONNECTIONS_APART = 1024, BACKENDS_APART = 1024, STATEMENTS_APART = 1 << 24 };

struct building {
    struct worker *w;
    const struct state_document *d;
    const int *fds;
    struct upgrade_built *built;
    struct statement **statements;
    struct pool_shared **shareds; /* by pool */
    struct pool **pools;
    bool *opens_the_same; /* by pool: its connections are what would be opened now */
    struct backend **backends;
    actor_id *sessions;
    uint64_t late_us; /* since the other process stopped */
};

static struct unpacker values(struct bytes packed)
{
    return unpacker_of(packed.at, packed.len);
}

/* An absent list has no elements. */
static uint32_t list_of(struct unpacker *u, struct bytes packed)
{
    *u = values(packed);
    return packed.len == 0 ? 0 : unpack_array(u);
}

static bool skip_nil(struct unpacker *u)
{
    if (u->at == u->end || *u->at != 0xc0)
        return false;
    unpack_skip(u);
    return true;
}

static char *text_of(struct bytes text)
{
    char *copy = strndup(text.len == 0 ? "" : (const char *)text.at, text.len);

    INVARIANT(copy != NULL);
    return copy;
}

/* --- before the commit --- */

static int check_numbers(struct bytes list, size_t count, struct failure *why)
{
    struct unpacker u;
    uint32_t length = list_of(&u, list);

    for (uint32_t i = 0; i < length; i++) {
        uint64_t number = unpack_uint(&u);

        if (u.bad || (number < 1 && count != SIZE_MAX) || number > count)
            return fail(why, "a list of the state does not fit in");
    }
    return u.bad ? fail(why, "a list of the state does not parse") : 0;
}

static int check_waiters(const struct state_document *d, struct bytes list, struct failure *why)
{
    struct unpacker u;
    uint32_t length = list_of(&u, list);

    for (uint32_t i = 0; i < length; i++) {
        uint32_t fields = unpack_array(&u);
        uint64_t number = unpack_uint(&u);

        for (uint32_t at = 1; at < fields; at++)
            unpack_skip(&u);
        if (u.bad || fields < 3 || number < 1 || number > d->session_count ||
            d->sessions[number - 1].phase != STATE_PHASE_WAITING)
            return fail(why, "a place in a queue does not fit in");
    }
    return u.bad ? fail(why, "a queue of the state does not parse") : 0;
}

static int check_names(struct bytes list, size_t count, struct failure *why)
{
    struct unpacker u;
    uint32_t length = list_of(&u, list);

    for (uint32_t i = 0; i < length; i++) {
        uint32_t fields = unpack_array(&u);

        unpack_bytes(&u);
        uint64_t number = unpack_uint(&u);
        for (uint32_t at = 2; at < fields; at++)
            unpack_skip(&u);
        if (u.bad || fields < 2 || number < 1 || number > count)
            return fail(why, "a prepared statement does not fit in");
    }
    return u.bad ? fail(why, "a list of prepared statements does not parse") : 0;
}

static int check_set(struct bytes list, size_t count, struct failure *why)
{
    struct unpacker u;
    uint32_t length = list_of(&u, list);

    for (uint32_t i = 0; i < length; i++) {
        uint32_t fields = unpack_array(&u);
        uint64_t number = unpack_uint(&u);

        for (uint32_t at = 1; at < fields; at++)
            unpack_uint(&u);
        if (u.bad || fields < 2 || number < 1 || number > count)
            return fail(why, "a prepared statement does not fit in");
    }
    return u.bad ? fail(why, "a list of prepared statements does not parse") : 0;
}

static int check_ledger(struct bytes list, size_t count, struct failure *why)
{
    struct unpacker u;
    uint32_t length = list_of(&u, list);

    for (uint32_t i = 0; i < length; i++) {
        uint32_t fields = unpack_array(&u);

        unpack_uint(&u);
        unpack_uint(&u);
        uint64_t number = unpack_uint(&u);
        unpack_bytes(&u);
        for (uint32_t at = 4; at < fields; at++)
            unpack_uint(&u);
        if (u.bad || fields < 10 || number > count)
            return fail(why, "a request under way does not fit in");
    }
    return u.bad ? fail(why, "requests under way do not parse") : 0;
}

static int check_parameters(struct bytes list, struct failure *why)
{
    struct unpacker u;
    uint32_t fields = list_of(&u, list);

    if (fields == 0 && !u.bad)
        return 0;
    for (int set = skip_nil(&u); set < 2; set++) {
        uint32_t count = unpack_array(&u);

        u.bad |= count % 2 != 0;
        for (uint32_t i = 0; i < count && !u.bad; i++)
            unpack_bytes(&u);
    }
    unpack_bool(&u);
    return u.bad || fields < 3 ? fail(why, "the settings of a client do not parse") : 0;
}

static int check_backend(const struct state_document *d, const struct state_backend *b,
                         struct failure *why)
{
    struct unpacker pairs = values(b->parameters);

    while (pairs.at < pairs.end && !pairs.bad)
        unpack_bytes(&pairs);
    if (pairs.bad || b->key.len > sizeof((struct backend *)0)->key ||
        b->address.len > sizeof(struct sockaddr_storage) || b->temp_owner > d->session_count)
        return fail(why, "a server connection of the state does not fit in");
    if (check_set(b->statements, d->statement_count, why) != 0 ||
        check_numbers(b->text_settings, SIZE_MAX, why) != 0 ||
        check_parameters(b->applied, why) != 0 ||
        check_numbers(b->tracked_before, SIZE_MAX, why) != 0)
        return -1;
    return check_ledger(b->ledger, d->statement_count, why);
}

static int check_session(const struct state_document *d, const struct state_session *s,
                         struct failure *why)
{
    bool pooled = s->phase == STATE_PHASE_IDLE || s->phase == STATE_PHASE_WAITING ||
                  s->phase == STATE_PHASE_ACTIVE;
    bool known = pooled || s->phase == STATE_PHASE_START || s->phase == STATE_PHASE_ADMIN;

    if (!known || s->secret.len < sizeof((struct session *)0)->secret ||
        s->secret.len > SESSION_KEY || (pooled && s->pool == 0) || s->scanned > s->input.len ||
        s->peer.len > sizeof(struct sockaddr_storage))
        return fail(why, "a session of the state does not fit in");
    if (check_parameters(s->wanted, why) != 0 ||
        check_set(s->anonymous, d->statement_count, why) != 0)
        return -1;
    return check_names(s->statements, d->statement_count, why);
}

int upgrade_build_check(const struct state_document *d, struct failure *why)
{
    for (size_t i = 0; i < d->statement_count; i++) {
        if (d->statements[i].pool > d->pool_count)
            return fail(why, "a prepared statement does not fit in");
    }
    for (size_t i = 0; i < d->pool_count; i++) {
        struct unpacker pairs = values(d->pools[i].parameters);

        while (pairs.at < pairs.end && !pairs.bad)
            unpack_bytes(&pairs);
        if (pairs.bad)
            return fail(why, "the parameters of a pool do not parse");
        if (check_numbers(d->pools[i].idle, d->backend_count, why) != 0 ||
            check_waiters(d, d->pools[i].waiters, why) != 0)
            return -1;
    }
    for (size_t i = 0; i < d->backend_count; i++) {
        if (check_backend(d, &d->backends[i], why) != 0)
            return -1;
    }
    for (size_t i = 0; i < d->session_count; i++) {
        if (check_session(d, &d->sessions[i], why) != 0)
            return -1;
    }
    return 0;
}

/* --- statements --- */

static void build_statement(struct building *b, size_t i)
{
    const struct state_statement *record = &b->d->statements[i];
    struct pool_shared *shared = record->pool == 0 ? NULL : b->shareds[record->pool - 1];

    if (shared == NULL)
        return;
    struct statement_key key = statement_key_of(&shared->statements, record->digest, record->tail);
    struct statement *s = b->statements[i] = statement_restore(&key, record->number);
    INVARIANT(s != NULL);
    if (s->number == record->number) {
        atomic_store_explicit(&s->used, record->used, memory_order_relaxed);
        atomic_store_explicit(&s->hits, record->hits, memory_order_relaxed);
        atomic_store_explicit(&s->misses, record->misses, memory_order_relaxed);
    }
    atomic_fetch_or_explicit(&s->kinds, (uint8_t)record->kinds, memory_order_relaxed);
    if (record->retired != 0 && s->number == record->number)
        statement_retire(s);
}

/* Those that are not to be found any more come first: in their place there may be others. */
static void build_statements(struct building *b)
{
    statement_numbers_begin(b->d->header.next_statement + STATEMENTS_APART);
    for (size_t i = 0; i < b->d->statement_count; i++) {
        if (b->d->statements[i].retired != 0)
            build_statement(b, i);
    }
    for (size_t i = 0; i < b->d->statement_count; i++) {
        if (b->d->statements[i].retired == 0)
            build_statement(b, i);
    }
}

/* Borrowed; NULL: its pool is gone. */
static struct statement *statement_of(const struct building *b, uint64_t number)
{
    return number == 0 ? NULL : b->statements[number - 1];
}

/* Servers know it under the number it had there. */
static bool same_name(const struct building *b, uint64_t number)
{
    const struct statement *s = statement_of(b, number);

    return s != NULL && s->number == b->d->statements[number - 1].number;
}

/* --- pools --- */

static void build_material(struct pool_shared *shared, struct bytes packed)
{
    struct unpacker u;
    uint8_t digest[SHA256_DIGEST_LENGTH];

    if (list_of(&u, packed) < 3)
        return;
    struct bytes secret = unpack_bytes(&u);
    struct bytes client_key = unpack_bytes(&u);
    struct bytes server_key = unpack_bytes(&u);
    pthread_mutex_lock(&shared->lock);
    if (!u.bad && shared->material == MATERIAL_PENDING && secret.len == sizeof digest &&
        client_key.len == SCRAM_KEY && server_key.len == SCRAM_KEY) {
        SHA256((const uint8_t *)shared->secret, strlen(shared->secret), digest);
        if (memcmp(digest, secret.at, sizeof digest) == 0) {
            memcpy(shared->client_key, client_key.at, SCRAM_KEY);
            memcpy(shared->server_key, server_key.at, SCRAM_KEY);
            shared->material = MATERIAL_KEYS;
        }
    }
    pthread_mutex_unlock(&shared->lock);
}

static void build_counters(struct worker *w, struct pool_shared *shared, struct bytes packed)
{
    struct pool_counters *to = counters_of(w, shared);
    uint64_t n[9] = {0};
    struct unpacker u;
    uint32_t count = list_of(&u, packed);

    for (uint32_t i = 0; i < MIN(count, (uint32_t)COUNT_OF(n)); i++)
        n[i] = unpack_uint(&u);
    COUNT(to->transactions, n[0]);
    COUNT(to->queries, n[1]);
    COUNT(to->bytes_received, n[2]);
    COUNT(to->bytes_sent, n[3]);
    COUNT(to->transaction_us, n[4]);
    COUNT(to->query_us, n[5]);
    COUNT(to->wait_us, n[6]);
    COUNT(to->waits, n[7]);
    COUNT(to->errors, n[8]);
    /* They are not of this moment: averages go on from here. */
    COUNT(shared->previous.transactions, n[0]);
    COUNT(shared->previous.queries, n[1]);
    COUNT(shared->previous.bytes_received, n[2]);
    COUNT(shared->previous.bytes_sent, n[3]);
    COUNT(shared->previous.transaction_us, n[4]);
    COUNT(shared->previous.query_us, n[5]);
    COUNT(shared->previous.wait_us, n[6]);
    COUNT(shared->previous.waits, n[7]);
    COUNT(shared->previous.errors, n[8]);
}

static void build_pool(struct building *b, size_t i)
{
    const struct state_pool *record = &b->d->pools[i];
    char *database = text_of(record->database);
    char *user = text_of(record->user);
    struct pool_shared *shared = directory_find(database, user);
    uint8_t fingerprint[POOL_FINGERPRINT];

    free(database);
    free(user);
    b->shareds[i] = shared;
    if (shared == NULL)
        return;
    build_counters(b->w, shared, record->counters);
    if (atomic_load(&shared->ddl_epoch) < record->schema_epoch)
        atomic_store(&shared->ddl_epoch, (uint32_t)record->schema_epoch);
    struct actor *a = actor_find(atomic_load(&shared->pool));
    if (a == NULL)
        return;
    struct pool *p = b->pools[i] = pool_of(a);
    INVARIANT(p->effective != NULL); /* its first message has configured it */
    pool_fingerprint(p->effective, fingerprint);
    b->opens_the_same[i] = bytes_equal(record->fingerprint,
                                       (struct bytes){fingerprint, sizeof fingerprint});
    build_material(shared, record->material);
    if (p->epoch < record->epoch)
        p->epoch = (uint32_t)record->epoch;
    p->paused |= record->paused != 0;
    p->scaling.creations += record->creations;
    pool_adopt_begin(b->w, p);
    if (!p->parameters_known && record->parameters_known != 0 && b->opens_the_same[i]) {
        packer_free(&p->parameters);
        packer_init(&p->parameters);
        pack_raw(&p->parameters, record->parameters.at, record->parameters.len);
        p->parameters_known = true;
    }
}

/* --- connections --- */

static struct rbuf *buffer_of(struct bytes bytes)
{
    struct rbuf *buf = rbuf_take_exact(MAX(bytes.len, (size_t)64));

    memcpy(buf->data, bytes.at, bytes.len);
    return buf;
}

/* What lay in the mailbox over there lies in the mailbox here. */
static void put_arrived(struct actor *owner, struct conn *c, struct bytes bytes)
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

/* --- backends --- */

static void build_set(struct building *b, struct statement_set *to, struct bytes packed,
                      bool on_server)
{
    struct unpacker u;
    uint32_t count = list_of(&u, packed);

    for (uint32_t i = 0; i < count; i++) {
        uint32_t fields = unpack_array(&u);
        uint64_t number = unpack_uint(&u);
        uint64_t stamp = unpack_uint(&u);
        struct statement *s = statement_of(b, number);

        for (uint32_t at = 2; at < fields; at++)
            unpack_skip(&u);
        /* Under another name here than there: whoever needs it has it prepared under that. */
        if (s == NULL || (on_server && !same_name(b, number)) || statement_set_has(to, s))
            continue;
        statement_set_restore_stamped(to, s, (uint32_t)stamp);
    }
}

static void build_ledger(struct building *b, struct backend *to, struct bytes packed)
{
    struct unpacker u;
    uint32_t count = list_of(&u, packed);
    struct ledger *l = &to->ledger;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t fields = unpack_array(&u);
        enum ledger_kind kind = (enum ledger_kind)unpack_uint(&u);
        enum ledger_for whose = (enum ledger_for)unpack_uint(&u);
        struct ledger_entry *e = ledger_push(l, kind, whose);
        struct statement *statement = statement_of(b, unpack_uint(&u));
        struct bytes missing = unpack_bytes(&u);

        e->effect.leaves = (uint16_t)unpack_uint(&u);
        e->effect.clears = (uint16_t)unpack_uint(&u);
        e->effect.seen = (uint16_t)unpack_uint(&u);
        e->effect.setting = (uint32_t)unpack_uint(&u);
        uint64_t owns = unpack_uint(&u);
        e->marks = (uint8_t)(unpack_uint(&u) & ~(uint64_t)ENTRY_FIRST); /* not to be sent again */
        if (statement != NULL) {
            e->statement = statement_ref(statement);
            e->owns |= OWNS_STATEMENT;
        }
        if (owns & OWNS_TEXT) {
            e->missing = text_of(missing);
            e->owns |= OWNS_TEXT;
        }
        if (owns & OWNS_UNSURE)
            ledger_doubt(l, (owns & OWNS_HOLD) != 0);
        for (uint32_t at = 10; at < fields; at++)
            unpack_skip(&u);
    }
}

static void build_text_settings(struct backend *to, struct bytes packed)
{
    struct unpacker u;
    uint32_t count = list_of(&u, packed);
    uint64_t values[3 + TEXT_SETTINGS] = {0};

    for (uint32_t i = 0; i < MIN(count, (uint32_t)COUNT_OF(values)); i++)
        values[i] = unpack_uint(&u);
    to->digest[0] = values[0];
    to->digest[1] = values[1];
    to->digest_client = values[2];
    memcpy(to->text_base, values + 3, sizeof to->text_base);
}

static void build_backend_counters(struct backend *to, struct bytes packed)
{
    uint64_t *fields[] = {&to->transactions,   &to->queries,       &to->bytes_sent,
                          &to->bytes_received, &to->prepared_hits, &to->prepared_misses};
    struct unpacker u;
    uint32_t count = list_of(&u, packed);

    for (uint32_t i = 0; i < MIN(count, (uint32_t)COUNT_OF(fields)); i++)
        *fields[i] = unpack_uint(&u);
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

static struct parameter_set *build_parameters(struct bytes packed)
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

static void build_tracked(struct backend *to, struct bytes packed)
{
    struct unpacker u;
    uint32_t count = list_of(&u, packed);

    for (uint32_t i = 0; i < MIN(count, (uint32_t)PARAMETERS_TRACKED); i++)
        to->tracked_before[i] = (uint32_t)unpack_uint(&u);
}

static void build_transport(struct building *b, struct backend *to,
                            const struct state_backend *record)
{
    to->status = record->status == 0 ? 'I' : (char)record->status;
    to->broken = record->flags & STATE_BACKEND_BROKEN;
    to->copy_in = record->flags & STATE_BACKEND_COPY_IN;
    to->needs_sync = record->flags & STATE_BACKEND_NEEDS_SYNC;
    to->body_swallowed = record->flags & STATE_BACKEND_SWALLOWED;
    to->body_left = record->body_left;
    if (record->stash.len > 0) {
        to->stash = buffer_of(record->stash);
        to->stash_len = (uint32_t)record->stash.len;
    }
    to->dirt = (uint16_t)record->dirt;
    to->sequences_foreign = true; /* as far as is known here */
    to->undone = (uint16_t)record->undone;
    to->lasting = (uint16_t)record->lasting;
    to->setting = (uint32_t)record->setting;
    if (record->flags & STATE_BACKEND_REMAPS) {
        uint64_t bound = MIN(to->effective->server_prepared_cache_size, (uint64_t)UINT32_MAX);

        to->statements = statement_set_new((uint32_t)bound);
        build_set(b, to->statements, record->statements, true);
    }
    to->applied = build_parameters(record->applied);
    to->applied_stale = record->flags & STATE_BACKEND_APPLIED_STALE;
    to->applied_touched = record->flags & STATE_BACKEND_APPLIED_TOUCHED;
    to->all_reset = record->flags & STATE_BACKEND_ALL_RESET;
    to->reported = record->flags & STATE_BACKEND_REPORTED;
    to->cancel_unsure = record->flags & STATE_BACKEND_CANCEL_UNSURE;
    to->cancels_sent = to->cancels_done = (uint32_t)record->cancels;
    build_tracked(to, record->tracked_before);
    build_ledger(b, to, record->ledger);
    to->replaced = record->flags & STATE_BACKEND_REPLACED;
    to->visible = record->flags & STATE_BACKEND_VISIBLE;
    to->unnamed_used = record->flags & STATE_BACKEND_UNNAMED_USED;
    to->schema_changed = record->flags & STATE_BACKEND_SCHEMA_CHANGED;
    to->trouble_us = record->trouble_us;
    to->traits = (uint8_t)record->traits;
    build_text_settings(to, record->text_settings);
}

/* Without a pool there is nothing to do with it but to let go of it. */
static void drop_backend(const struct building *b, const struct state_backend *record)
{
    close(b->fds[record->fd - 1]);
}

static void build_backend(struct building *b, size_t i)
{
    const struct state_backend *record = &b->d->backends[i];
    struct pool *p = b->pools[record->pool - 1];

    if (p == NULL) {
        drop_backend(b, record);
        return;
    }
    struct backend *to = backend_new(b->w, p->shared, actor_id_of(&p->actor), p->config,
                                     p->effective);
    b->backends[i] = to;
    to->number = (uint32_t)record->number;
    to->pid = (int32_t)record->pid;
    memcpy(to->key, record->key.at, record->key.len);
    to->key_len = (uint8_t)record->key.len;
    memcpy(&to->address, record->address.at, record->address.len);
    to->address_len = (socklen_t)record->address.len;
    to->created_us = record->created_us;
    to->lifetime_us = record->lifetime_us;
    to->idle_limit_us = record->idle_limit_us;
    to->replace_at_us = record->replace_at_us;
    pack_raw(&to->parameters, record->parameters.at, record->parameters.len);
    build_transport(b, to, record);
    /* One that would be opened otherwise now serves whom it serves, and then no more. */
    to->epoch = b->opens_the_same[record->pool - 1] ? (uint32_t)record->epoch : p->epoch - 1;
    to->idle_since_us = record->idle_since_us;
    to->leased_since_us = record->leased_since_us;
    to->uses = record->uses;
    build_backend_counters(to, record->counters);
    snprintf(to->application_name, sizeof to->application_name, "%.*s",
             (int)record->application_name.len, (const char *)record->application_name.at);
    conn_open(&to->conn, b->fds[record->fd - 1], &to->actor);
    conn_put_copy(b->w, &to->conn, record->output.at, record->output.len);
    b->built->backends++;
}

static void place_one(struct building *b, uint64_t number)
{
    const struct state_backend *record = &b->d->backends[number - 1];
    struct backend *to = b->backends[number - 1];

    if (to != NULL && record->session == 0 && to->state != BACKEND_IDLE)
        pool_adopt_backend(b->pools[record->pool - 1], to, false);
}

/* In the order in which they stood, and behind them what stood nowhere. */
static void place_idle(struct building *b)
{
    for (size_t i = 0; i < b->d->pool_count; i++) {
        struct unpacker u;
        uint32_t count = list_of(&u, b->d->pools[i].idle);

        for (uint32_t at = 0; at < count; at++)
            place_one(b, unpack_uint(&u));
    }
    for (uint64_t number = 1; number <= b->d->backend_count; number++)
        place_one(b, number);
}

/* --- sessions --- */

static void build_names(struct session *s, const struct state_session *record)
{
    struct bytes parts[] = {record->user, record->database, record->application_name,
                            record->address};
    uint16_t *places[] = {NULL, &s->database_at, &s->application_at, &s->address_at};
    size_t total = 0;

    for (size_t i = 0; i < COUNT_OF(parts); i++)
        total += parts[i].len + 1;
    s->key_more = (uint8_t)(record->secret.len - sizeof s->secret);
    s->name = calloc(1, total + s->key_more);
    INVARIANT(s->name != NULL && total < UINT16_MAX);
    size_t at = 0;
    for (size_t i = 0; i < COUNT_OF(parts); i++) {
        if (parts[i].len > 0)
            memcpy(s->name + at, parts[i].at, parts[i].len);
        if (places[i] != NULL)
            *places[i] = (uint16_t)at;
        at += parts[i].len + 1;
    }
    memcpy(s->name + total, record->secret.at + sizeof s->secret, s->key_more);
}

static void build_statement_names(struct building *b, struct session *s, struct bytes packed)
{
    struct unpacker u;
    uint32_t count = list_of(&u, packed);

    for (uint32_t i = 0; i < count; i++) {
        uint32_t fields = unpack_array(&u);
        struct bytes name = unpack_bytes(&u);
        uint64_t number = unpack_uint(&u);

        if (statement_of(b, number) != NULL)
            statement_map_put(&s->statements, name, statement_of(b, number));
        for (uint32_t at = 2; at < fields; at++)
            unpack_skip(&u);
    }
}

static void build_session_counters(struct session *s, struct bytes packed)
{
    uint64_t *fields[] = {&s->transactions, &s->queries, &s->errors, &s->wait_max_us};
    struct unpacker u;
    uint32_t count = list_of(&u, packed);

    for (uint32_t i = 0; i < MIN(count, (uint32_t)COUNT_OF(fields)); i++)
        *fields[i] = unpack_uint(&u);
}

/* One that has not said anything yet begins as if it had just come. */
static void build_start(struct building *b, struct session *s, const struct state_session *record)
{
    s->login = calloc(1, sizeof *s->login);
    INVARIANT(s->login != NULL);
    s->login->config = app_config();
    memcpy(&s->login->peer, record->peer.at, record->peer.len);
    login_enter(&s->login->entry, actor_id_of(&s->actor), b->w->now_us);
}

static enum session_phase phase_of(const struct state_session *record)
{
    switch ((enum state_phase)record->phase) {
    case STATE_PHASE_START: return SESSION_START;
    case STATE_PHASE_WAITING: return SESSION_WAITING;
    case STATE_PHASE_ACTIVE: return SESSION_BOUND;
    case STATE_PHASE_ADMIN: return SESSION_ADMIN;
    case STATE_PHASE_IDLE: break;
    }
    return SESSION_IDLE;
}

static void attach_backend(struct building *b, struct session *s,
                           const struct state_session *record)
{
    struct backend *to = b->backends[record->backend - 1];
    const struct state_backend *backend = &b->d->backends[record->backend - 1];

    s->backend = to;
    pool_adopt_backend(pool_of(actor_find(to->pool)), to, true);
    atomic_store_explicit(&to->conn.owner, &s->actor, memory_order_release);
    app_count_lease(b->w, 1);
    put_arrived(&s->actor, &to->conn, backend->input);
    b->built->in_transaction++;
}

/* Its name is gone from the configuration: it is told so at its next word. One that holds a server
 * connection has lost it. */
static void without_pool(struct building *b, struct session *s)
{
    static const char words[] = "No pool configured for database: %s, user: %s";
    char text[256];
    struct writer out;

    snprintf(text, sizeof text, words, session_database(s), session_user(s));
    writer_init(&out);
    write_error(&out, "FATAL", "3D000", text);
    conn_put_copy(b->w, &s->conn, out.at, out.len);
    writer_free(&out);
    s->phase = SESSION_CLOSED;
    s->client = CLIENT_TOLD;
    actor_alarm(b->w, actor_id_of(&s->actor), b->w->now_us + 1000000, ++s->alarm);
    b->built->without_pool++;
}

static void build_session(struct building *b, size_t i)
{
    const struct state_session *record = &b->d->sessions[i];
    struct pool *p = record->pool == 0 ? NULL : b->pools[record->pool - 1];
    uint16_t home = (uint16_t)(i % runtime_workers());
    struct session *s = session_of(actor_new(&session_type, home));

    b->sessions[i] = actor_id_of(&s->actor);
    s->number = record->number;
    memcpy(&s->secret, record->secret.at, sizeof s->secret);
    s->mode = (uint8_t)record->mode;
    s->phase = (uint8_t)phase_of(record);
    s->begin_owed = record->begin_owed != 0;
    s->cancel_wanted = record->cancel_wanted != 0;
    s->flags = (uint16_t)(SESSION_COUNTED | session_flags_unpack(record->flags) |
                          (record->transport == 1 ? SESSION_LOCAL : 0));
    s->terminated = (record->flags & STATE_TERMINATED) != 0;
    s->syncing = (record->flags & STATE_SYNCING) != 0;
    s->sync_alone = (record->flags & STATE_SYNC_ALONE) != 0;
    s->sync_failed = (record->flags & STATE_SYNC_FAILED) != 0;
    s->sync_struck = (record->flags & STATE_SYNC_STRUCK) != 0;
    s->batch_synced = (record->flags & STATE_BATCH_SYNCED) != 0;
    s->copy_synced = (record->flags & STATE_COPY_SYNCED) != 0;
    s->cancel_due = (record->flags & STATE_CANCEL_DUE) != 0;
    s->skip_to_sync = (record->flags & STATE_SKIPS_TO_SYNC) != 0;
    s->skip_parameters = (record->flags & STATE_SKIP_PARAMETERS) != 0;
    s->wanted = build_parameters(record->wanted);
    s->body_left = record->body_left;
    s->connected_us = record->connected_us;
    s->query_us = record->query_us + b->late_us;
    s->leased_us = record->leased_us;
    s->lease_batches = (uint32_t)record->lease_batches;
    build_names(s, record);
    build_session_counters(s, record->counters);
    build_statement_names(b, s, record->statements);
    if (statement_of(b, record->unnamed) != NULL)
        s->unnamed = statement_ref(statement_of(b, record->unnamed));
    if (record->anonymous.len > 0) {
        s->anonymous = statement_set_new(UINT32_MAX);
        build_set(b, s->anonymous, record->anonymous, false);
    }
    s->anonymous_evictions = (uint32_t)record->anonymous_evictions;
    if (record->input.len > 0) {
        s->in = buffer_of(record->input);
        s->in_end = (uint32_t)record->input.len;
        s->in_scanned = (uint32_t)record->scanned;
    }
    atomic_fetch_add(&app.clients, 1);
    conn_open(&s->conn, b->fds[record->fd - 1], &s->actor);
    conn_put_copy(b->w, &s->conn, record->output.at, record->output.len);
    struct message *begin = message_new(MESSAGE_START);
    begin->target = b->sessions[i];
    INVARIANT(mailbox_push(&s->actor.box, begin) == PUSHED);
    if (s->phase == SESSION_START) {
        build_start(b, s, record);
    } else {
        s->flags |= SESSION_LOGGED_IN;
        cancel_register((uint32_t)s->number, b->sessions[i]);
    }
    if (p != NULL)
        s->shared = p->shared;
    bool lost = record->backend != 0 && b->backends[record->backend - 1] == NULL;
    if ((record->pool != 0 && p == NULL) || lost)
        without_pool(b, s);
    else if (record->backend != 0)
        attach_backend(b, s, record);
    worker_schedule(runtime_worker(home), &s->actor);
    b->built->sessions++;
}

/* In the order of the queue, behind who waits here already. */
static void place_waiters(struct building *b)
{
    for (size_t i = 0; i < b->d->pool_count; i++) {
        struct pool *p = b->pools[i];
        struct unpacker u;
        uint32_t count = p == NULL ? 0 : list_of(&u, b->d->pools[i].waiters);

        for (uint32_t at = 0; at < count; at++) {
            uint32_t fields = unpack_array(&u);
            uint64_t number = unpack_uint(&u);
            uint64_t since_us = unpack_uint(&u);
            uint64_t deadline_us = unpack_uint(&u);
            struct session *s = session_of(actor_find(b->sessions[number - 1]));

            for (uint32_t rest = 3; rest < fields; rest++)
                unpack_skip(&u);
            s->ticket = 1;
            s->asked_us = since_us;
            s->flags |= SESSION_ASKED;
            p->mixed_deadlines = true;
            pool_append_waiter(p, (struct waiter){.session = b->sessions[number - 1],
                                                  .ticket = s->ticket,
                                                  .since_us = since_us,
                                                  .deadline_us = deadline_us + b->late_us});
            b->built->waiters++;
        }
    }
}

/* --- all of it --- */

static void build_totals(const struct state_header *h)
{
    _Atomic uint64_t *totals[] = {
        &app.connections_total,  &app.connections_plain, &app.connections_tls,
        &app.connections_cancel, &app.connections_error, &app.check_backend,
        &app.check_cache,
    };
    struct unpacker u;
    uint32_t count = list_of(&u, h->totals);

    for (uint32_t i = 0; i < MIN(count, (uint32_t)COUNT_OF(totals)) && h->round == 1; i++)
        atomic_fetch_add(totals[i], unpack_uint(&u));
}

static void build_numbers(const struct state_header *h)
{
    uint64_t next = h->next_connection + CONNECTIONS_APART;

    if (atomic_load(&app.connection_number) < next)
        atomic_store(&app.connection_number, next);
    backend_numbers_begin((uint32_t)h->next_backend + BACKENDS_APART);
}

/* Backends are handed out, their ends are watched, and pools look at what they have now. */
static void wake_pools(struct building *b)
{
    for (size_t i = 0; i < b->d->backend_count; i++) {
        struct backend *to = b->backends[i];

        if (to == NULL)
            continue;
        uint64_t temp_owner = b->d->backends[i].temp_owner;
        if (temp_owner != 0)
            to->temp_owner = b->sessions[temp_owner - 1];
        watch_hangup(to->conn.fd, actor_id_of(&to->actor));
        actor_release(b->w, &to->actor);
    }
    for (size_t i = 0; i < b->d->pool_count; i++) {
        if (b->pools[i] != NULL)
            actor_tell_kind(b->w, actor_id_of(&b->pools[i]->actor), MSG_POOL_CONFIGURE);
    }
}

void upgrade_build(struct worker *w, const struct state_document *d, const int *fds,
                   struct upgrade_built *out)
{
    uint64_t now_us = clock_us();
    struct building b = {
        .w = w,
        .d = d,
        .fds = fds,
        .built = out,
        .statements = calloc(d->statement_count + 1, sizeof(struct statement *)),
        .shareds = calloc(d->pool_count + 1, sizeof(struct pool_shared *)),
        .pools = calloc(d->pool_count + 1, sizeof(struct pool *)),
        .opens_the_same = calloc(d->pool_count + 1, sizeof(bool)),
        .backends = calloc(d->backend_count + 1, sizeof(struct backend *)),
        .sessions = calloc(d->session_count + 1, sizeof(actor_id)),
        .late_us = now_us - MIN(d->header.frozen_us, now_us),
    };

    INVARIANT(b.statements != NULL && b.shareds != NULL && b.pools != NULL &&
              b.opens_the_same != NULL && b.backends != NULL && b.sessions != NULL);
    *out = (struct upgrade_built){0};
    build_numbers(&d->header);
    build_totals(&d->header);
    for (size_t i = 0; i < d->pool_count; i++)
        build_pool(&b, i);
    build_statements(&b);
    for (size_t i = 0; i < d->backend_count; i++)
        build_backend(&b, i);
    place_idle(&b);
    for (size_t i = 0; i < d->session_count; i++)
        build_session(&b, i);
    place_waiters(&b);
    wake_pools(&b);
    for (size_t i = 0; i < d->statement_count; i++) {
        if (b.statements[i] != NULL)
            statement_unref(b.statements[i]);
    }
    free(b.statements);
    free(b.shareds);
    free(b.pools);
    free(b.opens_the_same);
    free(b.backends);
    free(b.sessions);
}
