/* The settings that a client wants, and that its backend has: compared at each checkout, put right
 * when they differ, and followed when they change. */
#define LOG_MODULE "pg_doorman::client"
#include "actors/session.h"

#include "runtime/log.h"

#include <stdio.h>
#include <stdlib.h>

/* --- at login --- */

static bool names(const struct pair_list *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->items[i].name, name) == 0)
            return true;
    }
    return false;
}

/* Is this client's value to reach its backends? */
static bool follows(const struct config *config, const struct pool_config *pool, const char *name,
                    enum parameter_class class)
{
    const struct general_config *general = &config->general;

    if (class == PARAMETER_REFUSED || names(&general->startup_parameters, name) ||
        (pool != NULL && names(&pool->startup_parameters, name)))
        return false;
    if (general->sync_server_parameters)
        return true;
    /* A name that the operator gave to the pool's connections stays. */
    return class == PARAMETER_TRACKED && !(pool != NULL && pool->application_name != NULL &&
                                           strcmp(name, "application_name") == 0);
}

struct wishes {
    struct parameter pairs[64];
    char names[64][PARAMETER_NAME_MAX];
    size_t count;
};

static void wish(struct wishes *all, const struct session *s, const struct pool_config *pool,
                 const struct parameter *pair)
{
    char *name = all->names[all->count];

    if (all->count == COUNT_OF(all->pairs) ||
        !follows(s->login->config, pool, name, parameter_classify(pair->name, name)))
        return;
    all->pairs[all->count++] = (struct parameter){bytes_of(name), pair->value};
}

/* The value that is asked for in `options`; without a NUL behind it in the client's packet. */
static void wish_options(struct wishes *all, const struct session *s,
                         const struct pool_config *pool, struct bytes text, char *scratch)
{
    struct parameter pairs[64];
    int count = read_options(text, scratch, pairs, COUNT_OF(pairs));

    if (count < 0)
        log_warn(SESSION_LOG(s) "startup options that are not settings are ignored: %.*s",
                 SESSION_ID(s), (int)MIN(text.len, (size_t)200), (const char *)text.at);
    for (int i = 0; i < count; i++)
        wish(all, s, pool, &pairs[i]);
}

void session_parameters_asked(struct session *s, const struct pool_config *pool)
{
    const struct session_login *l = s->login;
    struct wishes *all = calloc(1, sizeof *all);
    char *scratch = NULL;

    INVARIANT(all != NULL);
    for (int i = 0; i < l->parameter_count; i++) {
        if (bytes_equal(l->parameters[i].name, bytes_of("options")) && scratch == NULL) {
            scratch = malloc(l->parameters[i].value.len + 1);
            INVARIANT(scratch != NULL);
            wish_options(all, s, pool, l->parameters[i].value, scratch);
        }
    }
    for (int i = 0; i < l->parameter_count; i++)
        wish(all, s, pool, &l->parameters[i]);
    s->wanted = parameter_set_make(all->pairs, all->count, NULL);
    free(scratch);
    free(all);
}

static int by_name(const void *a, const void *b)
{
    const struct parameter *x = a;
    const struct parameter *y = b;

    int order = strncasecmp((const char *)x->name.at, (const char *)y->name.at,
                            MIN(x->name.len, y->name.len));

    return order != 0 ? order : (x->name.len > y->name.len) - (x->name.len < y->name.len);
}

void session_parameters_write(const struct session *s, struct bytes packed, struct writer *out)
{
    struct unpacker u = unpacker_of(packed.at, packed.len);
    struct parameter pairs[128];
    size_t count = 0;
    uint32_t at = 0;

    while (u.at < u.end && !u.bad && count < COUNT_OF(pairs)) {
        pairs[count].name = unpack_bytes(&u);
        pairs[count++].value = unpack_bytes(&u);
    }
    for (struct parameter own; parameter_set_next(s->wanted, &at, &own);) {
        size_t i = 0;

        while (i < count && !bytes_equal(pairs[i].name, own.name))
            i++;
        if (i == COUNT_OF(pairs))
            continue;
        pairs[i] = own;
        count += i == count;
    }
    qsort(pairs, count, sizeof *pairs, by_name);
    for (size_t i = 0; i < count; i++)
        write_parameter_status(out, pairs[i].name, pairs[i].value);
}

/* --- at checkout --- */

/* An SQL string that means these bytes in whatever encoding it is sent. */
static void put_literal(struct writer *out, struct bytes text)
{
    char hex[8];

    writer_raw(out, "E'", 2);
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.at[i];

        if (c >= 0x80 || c < ' ') {
            snprintf(hex, sizeof hex, "\\x%02x", c);
            writer_raw(out, hex, 4);
            continue;
        }
        if (c == '\'' || c == '\\')
            writer_u8(out, c);
        writer_u8(out, c);
    }
    writer_u8(out, '\'');
}

static void put_text(struct writer *out, const char *text)
{
    writer_raw(out, text, strlen(text));
}

static bool is_tracked(struct bytes name)
{
    for (size_t i = 0; i < PARAMETERS_TRACKED; i++) {
        if (bytes_equal(name, bytes_of(parameter_tracked(i))))
            return true;
    }
    return false;
}

/* What it has, as far as known; {NULL, 0}: its own default, or unknown. */
static struct bytes present_value(const struct backend *b, struct bytes name)
{
    if (is_tracked(name))
        return parameters_find(&b->parameters, (const char *)name.at);
    return parameter_set_find(b->applied, name);
}

static void put_resets(struct writer *out, const struct session *s)
{
    struct parameter pair;
    uint32_t at = 0;

    while (parameter_set_next(s->backend->applied, &at, &pair)) {
        if (parameter_set_find(s->wanted, pair.name).at != NULL)
            continue;
        put_text(out, "RESET \"");
        for (size_t i = 0; i < pair.name.len; i++) {
            if (pair.name.at[i] == '.')
                put_text(out, "\".\"");
            else
                writer_u8(out, pair.name.at[i]);
        }
        put_text(out, "\";");
    }
}

static void put_settings(struct writer *out, const struct session *s)
{
    const char *before = "SELECT pg_catalog.set_config(";
    struct parameter pair;
    uint32_t at = 0;

    while (parameter_set_next(s->wanted, &at, &pair)) {
        struct bytes has = present_value(s->backend, pair.name);

        if (has.at != NULL && bytes_equal(has, pair.value))
            continue;
        put_text(out, before);
        before = ",pg_catalog.set_config(";
        put_literal(out, pair.name);
        writer_u8(out, ',');
        put_literal(out, pair.value);
        put_text(out, ",false)");
    }
}

static void applied(struct backend *b, struct parameter_set *set)
{
    parameter_set_ref(set);
    parameter_set_unref(b->applied);
    b->applied = set;
    b->applied_stale = false;
}

void session_sync(struct worker *w, struct session *s)
{
    struct backend *b = s->backend;
    struct writer out;

    writer_init(&out);
    writer_begin(&out, 'Q');
    size_t empty = out.len;
    put_resets(&out, s);
    put_settings(&out, s);
    if (out.len == empty) {
        writer_free(&out);
        applied(b, s->wanted);
        return;
    }
    writer_u8(&out, 0);
    writer_end(&out);
    INVARIANT(!out.failed);
    conn_put_copy(w, &b->conn, out.at, out.len);
    writer_free(&out);
    ledger_push(&b->ledger, ASK_QUERY, FOR_POOLER);
    b->needs_sync = true;
    s->syncing = true;
    s->sync_failed = false;
    /* Nothing may run under settings that the server refuses. Reported ones that it took once it
     * takes again; of others, such as a role, nobody knows. And a cancel request of before may
     * strike this. */
    s->sync_alone = b->cancels_sent > 0 ||
                    (s->wanted != NULL &&
                     !(s->wanted->tracked_only &&
                       atomic_load_explicit(&s->wanted->accepted, memory_order_relaxed)));
}

static void tell_parameter(struct worker *w, struct session *s, const char *name,
                           struct bytes value)
{
    struct writer out;

    if (!session_client_listens(s))
        return;
    writer_init(&out);
    write_parameter_status(&out, bytes_of(name), value);
    INVARIANT(!out.failed);
    conn_put_copy(w, &s->conn, out.at, out.len);
    writer_free(&out);
}

static void want(struct session *s, const char *name, struct bytes value)
{
    struct parameter_set *changed = parameter_set_with(s->wanted, name, value);

    parameter_set_unref(s->wanted);
    s->wanted = changed;
}

/* The server may spell what it took in its own way: the client gets to know that. */
static void adopt_spelling(struct worker *w, struct session *s)
{
    for (size_t i = 0; i < PARAMETERS_TRACKED; i++) {
        const char *name = parameter_tracked(i);
        struct bytes has = parameters_find(&s->backend->parameters, name);
        struct bytes wanted = parameter_set_find(s->wanted, bytes_of(name));

        if (wanted.at == NULL || has.at == NULL || bytes_equal(wanted, has))
            continue;
        want(s, name, has);
        tell_parameter(w, s, name, has);
    }
}

void session_sync_ended(struct worker *w, struct session *s)
{
    s->syncing = false;
    if (UNLIKELY(s->sync_struck)) {
        s->sync_struck = false;
        session_sync(w, s);
        return;
    }
    if (s->sync_failed) {
        s->backend->applied_stale = true;
        return;
    }
    adopt_spelling(w, s);
    if (s->wanted != NULL)
        atomic_store_explicit(&s->wanted->accepted, true, memory_order_relaxed);
    applied(s->backend, s->wanted);
}

void session_sync_refused(struct worker *w, struct session *s, struct bytes sqlstate,
                          struct bytes text)
{
    char state[6];
    struct writer out;

    /* Meant for a statement of before: once more. */
    if (s->backend->cancels_sent > 0 && bytes_equal(sqlstate, bytes_of("57014"))) {
        s->sync_struck = true;
        return;
    }
    s->sync_failed = true;
    if (!session_client_listens(s))
        return;
    snprintf(state, sizeof state, "%.*s", (int)sqlstate.len, (const char *)sqlstate.at);
    char *message = strndup((const char *)text.at, text.len);
    INVARIANT(message != NULL);
    writer_init(&out);
    write_error(&out, "FATAL", state, message);
    conn_put_copy(w, &s->conn, out.at, out.len);
    writer_free(&out);
    s->flags |= SESSION_FATAL_SEEN; /* should the backend end now, that is no further news */
    log_warn(SESSION_LOG(s) "settings of the client were refused: %s (%s)", SESSION_ID(s), message,
             state);
    free(message);
}

/* --- as they change --- */

static uint32_t value_hash(struct bytes value)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < value.len; i++)
        hash = (hash ^ value.at[i]) * 16777619u;
    return hash;
}

/* Called with each ParameterStatus of a client's exchange, before it is noted: what the lease began
 * with is kept, so that its end can tell what is different. */
void session_parameter_changes(struct backend *b)
{
    if (b->reported)
        return;
    b->reported = true;
    for (size_t i = 0; i < PARAMETERS_TRACKED; i++)
        b->tracked_before[i] = value_hash(parameters_find(&b->parameters, parameter_tracked(i)));
}

/* What the client has changed for good is its wish from now on, and to be cleaned for others,
 * whether a statement that was understood did it or a function. */
static void note_changes(struct session *s)
{
    struct backend *b = s->backend;

    for (size_t i = 0; i < PARAMETERS_TRACKED; i++) {
        const char *name = parameter_tracked(i);
        struct bytes has = parameters_find(&b->parameters, name);

        if (has.at == NULL || value_hash(has) == b->tracked_before[i])
            continue;
        b->dirt |= SCAN_SET;
        b->applied_stale = true;
        want(s, name, has);
    }
}

/* RESET ALL and DISCARD ALL bring back what the session began with: for the backend its own
 * beginning, for the client what it asked for when it logged in. */
static void restore(struct worker *w, struct session *s)
{
    struct parameter_set *origin = parameter_set_ref(parameter_set_origin(s->wanted));
    struct parameter pair;
    uint32_t at = 0;

    parameter_set_unref(s->wanted);
    s->wanted = origin;
    while (parameter_set_next(origin, &at, &pair)) {
        struct bytes told = parameters_find(&s->backend->parameters, (const char *)pair.name.at);

        if (told.at != NULL && !bytes_equal(told, pair.value))
            tell_parameter(w, s, (const char *)pair.name.at, pair.value);
    }
}

/* The backend is as it began, unless the client has SET something since. */
static void has_been_reset(struct worker *w, struct session *s)
{
    struct backend *b = s->backend;

    if ((b->dirt & SCAN_SET) == 0)
        applied(b, NULL);
    else
        b->applied_stale = true;
    restore(w, s);
}

void session_parameters_released(struct worker *w, struct session *s)
{
    struct backend *b = s->backend;

    if (b->all_reset)
        has_been_reset(w, s);
    else if (b->reported)
        note_changes(s);
    if (b->applied_touched && b->applied != NULL && !b->applied->tracked_only) {
        b->dirt |= SCAN_SET;
        b->applied_stale = true;
    }
    b->reported = b->all_reset = b->applied_touched = false;
}

void session_parameters_restored(struct worker *w, struct session *s)
{
    struct backend *b = s->backend;

    if (!ledger_empty(&b->ledger) || b->status != 'I' || b->needs_sync)
        return;
    has_been_reset(w, s);
    b->reported = b->all_reset = false;
    if (b->applied != s->wanted || b->applied_stale)
        session_sync(w, s);
    text_settings_apply(b, s->wanted);
}
