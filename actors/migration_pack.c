/* From a session that rests to a client as PgDoorman 3.10 describes it. */
#include "actors/upgrade_legacy.h"

#include "actors/parameters.h"

#include <openssl/mem.h>
#include <stdlib.h>

/* Behind the last colon stands the port; "unix:" has none. */
static void put_peer(const struct session *s, struct migration_client *c)
{
    const char *address = session_address(s);
    const char *colon = strrchr(address, ':');

    if ((s->flags & SESSION_LOCAL) || colon == NULL) {
        c->address = bytes_of("127.0.0.1");
        return;
    }
    bool brackets = address[0] == '[' && colon > address + 1;
    c->address = (struct bytes){(const uint8_t *)address + brackets,
                                (size_t)(colon - address) - 2u * brackets};
    c->port = (uint16_t)strtoul(colon + 1, NULL, 10);
}

static int put_parameter(struct writer *out, struct migration_client *c,
                         const struct parameter *parameter, struct failure *why)
{
    if (!migration_put_parameter(out, parameter))
        return fail(why, "one of its settings is too long");
    c->parameter_count++;
    return 0;
}

static int put_parameters(const struct session *s, struct writer *out, struct migration_client *c,
                          struct failure *why)
{
    struct parameter pair = {bytes_of("application_name"), bytes_of(session_application(s))};
    uint32_t at = 0;

    if (parameter_set_find(s->wanted, pair.name).at == NULL &&
        put_parameter(out, c, &pair, why) != 0)
        return -1;
    while (parameter_set_next(s->wanted, &at, &pair)) {
        if (put_parameter(out, c, &pair, why) != 0)
            return -1;
    }
    return 0;
}

/* --- prepared statements --- */

struct entry_list {
    struct writer *out;
    const struct statement *last; /* the one without a name that was used last */
    uint64_t text_bytes;
    uint32_t count;
    bool failed;
};

static void put_entry(struct entry_list *list, const struct statement *s, bool anonymous,
                      struct bytes name)
{
    const struct statement_text *t = s->text;
    size_t types_at = (size_t)t->query_len + 1 + 2;
    struct migration_entry entry = {
        .anonymous = anonymous,
        .name = name,
        .anonymous_key = s->hash,
        .hash = s->hash,
        .query = {t->tail, t->query_len},
        .type_count = (uint16_t)((t->tail_len - types_at) / 4),
        .types = {t->tail + types_at, t->tail_len - types_at},
    };

    list->text_bytes += t->query_len;
    list->count++;
    list->failed |= !migration_put_entry(list->out, &entry);
}

static void put_named(void *context, struct bytes name, struct statement *s)
{
    put_entry(context, s, false, name);
}

static void put_anonymous(void *context, struct statement *s)
{
    struct entry_list *list = context;

    if (s != list->last)
        put_entry(list, s, true, (struct bytes){NULL, 0});
}

static int put_entries(const struct session *s, struct writer *out, struct migration_client *c,
                       struct failure *why)
{
    struct entry_list list = {.out = out, .last = s->unnamed};

    statement_map_each(&s->statements, put_named, &list);
    if (s->unnamed != NULL)
        put_entry(&list, s->unnamed, true, (struct bytes){NULL, 0});
    if (s->anonymous != NULL)
        statement_set_each(s->anonymous, put_anonymous, &list);
    c->entry_count = list.count;
    if (list.failed || list.text_bytes > MIGRATION_TEXT_BYTES)
        return fail(why, "its prepared statements are too large");
    return 0;
}

/* Sessions know it only while they have a backend. */
static bool prepares(void)
{
    struct config *config = app_config();
    bool result = config->general.prepared_statements;

    config_unref(config);
    return result;
}

/* --- the whole --- */

/* With what servers are logged in to, where only a client's proof has shown it. */
static void put_auth(struct pool_shared *shared, uint8_t key[SCRAM_KEY], struct migration_client *c)
{
    pthread_mutex_lock(&shared->lock);
    if (shared->material == MATERIAL_KEYS) {
        memcpy(key, shared->client_key, SCRAM_KEY);
        c->auth = MIGRATION_AUTH_KEY;
        c->auth_value = (struct bytes){key, SCRAM_KEY};
    }
    pthread_mutex_unlock(&shared->lock);
}

int migration_of_session(struct session *s, struct writer *out, struct failure *why)
{
    struct writer parameters;
    struct writer entries;
    uint8_t key[SCRAM_KEY];
    struct migration_client c = {
        .id = s->number,
        .secret = load_be32((const uint8_t *)&s->secret),
        .transaction_mode = s->mode == POOL_MODE_TRANSACTION,
        .database = bytes_of(session_database(s)),
        .user = bytes_of(session_user(s)),
        .prepared = s->mode == POOL_MODE_TRANSACTION && prepares(),
        .async = (s->flags & SESSION_ASYNC) != 0,
    };
    int result = -1;

    writer_init(&parameters);
    writer_init(&entries);
    put_peer(s, &c);
    put_auth(s->shared, key, &c);
    if (put_parameters(s, &parameters, &c, why) == 0 && put_entries(s, &entries, &c, why) == 0) {
        c.parameters = (struct bytes){parameters.at, parameters.len};
        c.entries = (struct bytes){entries.at, entries.len};
        result = migration_write(&c, out, why);
    }
    if (result == 0 && (parameters.failed || entries.failed || out->failed))
        result = fail(why, "there is no memory for it");
    writer_free(&parameters);
    writer_free(&entries);
    OPENSSL_cleanse(key, sizeof key);
    return result;
}
