/* What a client's names stand for, and which texts it sent without a name. */
#define LOG_MODULE "pg_doorman::client::prepared_statement_cache"
#include "actors/session.h"

#include "runtime/log.h"

/* Of one client. PostgreSQL has no limit, but this memory is everybody's. */
enum { NAMES_MAX = 100000 };

static uint64_t digest_for(const struct backend *b, bool beyond_ascii)
{
    return b->digest[beyond_ascii];
}

static bool beyond_ascii(struct bytes text)
{
    uint8_t all = 0;

    for (size_t i = 0; i < text.len; i++)
        all |= text.at[i];
    return all >= 0x80;
}

struct statement *session_statement(const struct session *s, struct bytes name)
{
    return name.len == 0 ? s->unnamed : statement_map_get(&s->statements, name);
}

static struct statement *get(struct session *s, struct backend *b, struct bytes tail,
                             bool may_exceed)
{
    struct bytes query = {tail.at, strnlen((const char *)tail.at, tail.len)};
    struct statement_key key = statement_key_of(&s->shared->statements,
                                                digest_for(b, beyond_ascii(query)), tail);

    key.may_exceed = may_exceed;
    return statement_get(&key);
}

static struct bytes tail_of(const struct statement *statement)
{
    return (struct bytes){statement->text->tail, statement->text->tail_len};
}

/* --- without a name --- */

static uint32_t seconds(const struct worker *w)
{
    return (uint32_t)(w->now_us / 1000000);
}

static uint32_t anonymous_limit(const struct session *s)
{
    uint32_t limit = atomic_load_explicit(&s->shared->anonymous_limit, memory_order_relaxed);

    return limit == 0 ? UINT32_MAX : limit;
}

static void drop(struct session *s, struct statement *oldest)
{
    log_trace(SESSION_LOG(s) "anonymous LRU evict: %s", SESSION_ID(s), oldest->name);
    statement_set_remove(s->anonymous, oldest);
}

/* Those over the limit, and those that rested for too long. The one in use is not among them. */
static void anonymous_trim(struct worker *w, struct session *s)
{
    uint32_t ttl = atomic_load_explicit(&app.anonymous_ttl_s, memory_order_relaxed);
    uint32_t limit = UNLIKELY(statement_pressed()) ? 1 : anonymous_limit(s);
    struct statement *oldest;
    uint32_t stamp;

    while (statement_set_count(s->anonymous) > limit) {
        oldest = statement_set_oldest(s->anonymous, &stamp);
        s->anonymous_evictions++;
        drop(s, oldest);
    }
    while (ttl > 0 && (oldest = statement_set_oldest(s->anonymous, &stamp)) != NULL &&
           oldest != s->unnamed && seconds(w) - stamp > ttl)
        drop(s, oldest);
}

/* A client that rests keeps nothing for longer than those that do not. */
static void trim_later(struct worker *w, struct session *s)
{
    uint32_t ttl = atomic_load_explicit(&app.anonymous_ttl_s, memory_order_relaxed);

    if (ttl == 0 || s->trim_armed)
        return;
    s->trim_armed = true;
    actor_alarm(w, actor_id_of(&s->actor), w->now_us + (ttl + 1) * UINT64_C(1000000), TRIM_ALARM);
}

void session_trim_statements(struct worker *w, struct session *s)
{
    s->trim_armed = false;
    if (s->anonymous == NULL)
        return;
    anonymous_trim(w, s);
    if (statement_set_count(s->anonymous) > 1) {
        trim_later(w, s);
        return;
    }
    statement_set_free(s->anonymous);
    s->anonymous = NULL;
}

/* A second text: from now on they are remembered. */
static void anonymous_begin(struct worker *w, struct session *s)
{
    s->anonymous = statement_set_new(UINT32_MAX);
    if (s->unnamed != NULL) {
        statement_set_add(s->anonymous, s->unnamed);
        *statement_set_stamp(s->anonymous) = seconds(w);
    }
    trim_later(w, s);
}

/* Takes over the reference. */
static void anonymous_put(struct worker *w, struct session *s, struct statement *statement)
{
    struct statement *before = s->unnamed;

    if (before != NULL && s->anonymous == NULL && before != statement) {
        if (anonymous_limit(s) == 1)
            s->anonymous_evictions++;
        else
            anonymous_begin(w, s);
    }
    s->unnamed = statement;
    if (s->anonymous != NULL) {
        if (!statement_set_has(s->anonymous, statement))
            statement_set_add(s->anonymous, statement);
        *statement_set_stamp(s->anonymous) = seconds(w);
        anonymous_trim(w, s);
    }
    if (before != NULL)
        statement_unref(before);
}

static struct statement *remember_unnamed(struct worker *w, struct session *s, struct bytes tail)
{
    struct statement *found = NULL;

    if (s->anonymous != NULL) {
        struct bytes query = {tail.at, strnlen((const char *)tail.at, tail.len)};
        struct statement_key key = statement_key_of(
            &s->shared->statements, digest_for(s->backend, beyond_ascii(query)), tail);

        key.may_exceed = true;
        found = statement_set_find(s->anonymous, &key);
        if (found != NULL && atomic_load_explicit(&found->retired, memory_order_relaxed))
            found = NULL;
        found = found != NULL ? statement_ref(found) : statement_get(&key);
    } else {
        found = get(s, s->backend, tail, true); /* in place of the one that it has */
    }
    if (found != NULL)
        anonymous_put(w, s, found);
    return found;
}

/* --- names --- */

/* By its names alone a client may take half of the memory for texts. When all of it is taken, those
 * that have little are served on; so who is refused has a part in it. */
static struct statement *get_for_name(struct session *s, struct bytes tail)
{
    uint64_t limit = atomic_load_explicit(&statement_bytes_limit, memory_order_relaxed);
    uint64_t held = s->statements.text_bytes;

    if (held > 0 && held + tail.len > limit / 2 && statement_pressed())
        return NULL;
    return get(s, s->backend, tail, held <= limit / 64);
}

struct statement *session_remember(struct worker *w, struct session *s, struct bytes name,
                                   struct bytes tail, const char **refused)
{
    struct statement *known = session_statement(s, name);

    /* A driver that sends the same text again and again needs no look-up. */
    if (known != NULL && known->text->tail_len == tail.len &&
        known->digest == digest_for(s->backend, known->traits & TEXT_BEYOND_ASCII) &&
        !atomic_load_explicit(&known->retired, memory_order_relaxed) &&
        memcmp(known->text->tail, tail.at, tail.len) == 0)
        return known;
    if (known == NULL && s->statements.count >= NAMES_MAX && name.len > 0) {
        *refused = "too many prepared statements";
        return NULL;
    }
    struct statement *statement = name.len == 0 ? remember_unnamed(w, s, tail)
                                                : get_for_name(s, tail);
    if (statement == NULL) {
        *refused = "out of memory for the texts of prepared statements";
        return NULL;
    }
    if (name.len > 0) {
        statement_map_put(&s->statements, name, statement);
        statement_unref(statement); /* the map's reference stays */
    }
    return statement;
}

/* Its plan on backends was out of date, so that it goes under another name from now on. */
struct statement *session_renew(struct worker *w, struct session *s, struct bytes name,
                                struct statement *retired)
{
    struct statement_key key = statement_key_of(retired->cache, retired->digest, tail_of(retired));
    struct statement *statement = statement_get(&key);

    if (statement == NULL)
        return retired;
    if (name.len == 0) {
        anonymous_put(w, s, statement);
        return statement;
    }
    statement_map_put(&s->statements, name, statement);
    statement_unref(statement);
    return statement;
}

struct statement *session_variant(struct session *s, struct bytes name,
                                  const struct statement *statement)
{
    struct statement *variant = get(s, s->backend, tail_of(statement), true);

    if (variant != NULL && statement->digest == STATEMENT_UNREAD && name.len > 0)
        statement_map_put(&s->statements, name, variant);
    return variant;
}

void session_forget(struct session *s, struct bytes name)
{
    if (name.len > 0) {
        statement_map_remove(&s->statements, name);
    } else if (s->unnamed != NULL) {
        statement_unref(s->unnamed);
        s->unnamed = NULL;
    }
}

void session_hide(struct session *s, struct bytes name, struct ledger *l)
{
    struct ledger_entry *entry = ledger_last(l);
    struct statement *statement;
    uint32_t ticket = 0;

    if (name.len > 0) {
        statement = statement_map_hide(&s->statements, name, &ticket);
        if (statement == NULL)
            return;
        ledger_own(l, statement);
        entry->ticket = ticket;
    } else if (s->unnamed != NULL) {
        ledger_own(l, s->unnamed);
        entry->owns |= OWNS_UNNAMED;
        statement_unref(s->unnamed);
        s->unnamed = NULL;
    }
}

void session_settle_name(struct session *s, const struct ledger_entry *entry, bool gone)
{
    if (entry->statement == NULL)
        return;
    if ((entry->owns & OWNS_UNNAMED) == 0)
        statement_map_settle(&s->statements, entry->statement, entry->ticket, gone);
    else if (!gone && s->unnamed == NULL)
        s->unnamed = statement_ref(entry->statement);
}

void session_forget_all(struct session *s)
{
    uint32_t count = s->statements.count + (s->unnamed != NULL);

    if (count > 0)
        log_info(SESSION_LOG(s) "DEALLOCATE ALL: cleared %u entries from client prepared statement "
                                "cache",
                 SESSION_ID(s), count);
    session_statements_free(s);
}

void session_statements_free(struct session *s)
{
    statement_map_clear(&s->statements);
    statement_set_free(s->anonymous);
    s->anonymous = NULL;
    if (s->unnamed != NULL)
        statement_unref(s->unnamed);
    s->unnamed = NULL;
}
