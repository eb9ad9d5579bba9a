/* SHOW: which tables there are, and the small ones. */
#define LOG_MODULE "pg_doorman::admin"
#include "actors/admin.h"

#include "actors/pool.h"
#include "actors/version.h"
#include "runtime/log.h"

#include <stdio.h>
#include <strings.h>

static void show_help(struct admin_run *run)
{
    static const char *const items[] = {
        "SHOW HELP|CONFIG|DATABASES|POOLS|POOLS_EXTENDED|POOLS_MEMORY|POOL_COORDINATOR|"
        "POOL_SCALING|PREPARED_STATEMENTS|INTERNER|CLIENTS|SERVERS|CONNECTIONS|STATS|VERSION|"
        "USERS|AUTH_QUERY|STARTUP_PARAMETERS|LOG_LEVEL|LISTS|SOCKETS",
        "SHOW LISTS",
        "SHOW CONNECTIONS",
        "SHOW STATS",
        "SET log_level = '<filter>'",
        "RELOAD",
        "SHUTDOWN",
        "UPGRADE",
        "PAUSE [db]",
        "RESUME [db]",
        "RECONNECT [db]",
        "RESET INTERNER",
        "FLUSH AUTH_QUERY [db [user]]",
        "SHOW WORKERS",
        "SHOW UPGRADE",
        "SHOW LATENCY",
        "SNAPSHOT [TO '<path>']",
    };

    table_list(&run->out, "item", items, COUNT_OF(items));
}

static void show_version(struct admin_run *run)
{
    static const char *const version[] = {"PgDoorman " DOORMAN_VERSION};

    table_list(&run->out, "version", version, 1);
}

static void show_log_level(struct admin_run *run)
{
    char text[4096];

    log_filter_text(text, sizeof text);
    table_list(&run->out, "log_level", (const char *const[]){text}, 1);
}

/* --- the configuration --- */

struct config_row {
    const char *key;
    const char *value;
    const char *fallback;
    const char *changeable;
};

static const struct column config_columns[] = {
    COLUMN(config_row, CELL_TEXT, key),
    COLUMN(config_row, CELL_TEXT, value),
    COLUMN_AS("default", config_row, CELL_TEXT, fallback),
    COLUMN(config_row, CELL_TEXT, changeable),
};

static void add_setting(void *context, const struct setting_row *setting)
{
    struct config_row row = {setting->key, setting->value, setting->fallback,
                             setting->changeable ? "yes" : "no"};

    table_row(context, &row);
}

/* Scripts look for these: the names in one row, with quotes in the key. */
static void add_users(struct admin_run *run, const struct table *t, const struct pool_config *pool)
{
    const char *names = "";

    for (size_t i = 0; i < pool->user_count; i++)
        names = arena_format(&run->arena, "%s%s%s", names, i == 0 ? "" : ", ",
                             pool->users[i].username);
    table_row(t, &(struct config_row){arena_format(&run->arena, "pools.\"%s\".users", pool->name),
                                      names, "-", "yes"});
}

static void show_config(struct admin_run *run)
{
    struct table t = TABLE(&run->out, config_columns);
    struct config *config = app_config();

    table_head(&t);
    config_visit(config, add_setting, &t);
    for (size_t i = 0; i < config->pool_count; i++)
        add_users(run, &t, &config->pools[i]);
    config_unref(config);
}

/* --- connections --- */

struct connections_row {
    uint64_t total;
    uint64_t errors;
    uint64_t tls;
    uint64_t plain;
    uint64_t cancel;
};

static const struct column connections_columns[] = {
    COLUMN(connections_row, CELL_NUMBER, total),  COLUMN(connections_row, CELL_NUMBER, errors),
    COLUMN(connections_row, CELL_NUMBER, tls),    COLUMN(connections_row, CELL_NUMBER, plain),
    COLUMN(connections_row, CELL_NUMBER, cancel),
};

static void show_connections(struct admin_run *run)
{
    struct table t = TABLE(&run->out, connections_columns);
    struct connections_row row = {
        .total = atomic_load(&app.connections_total),
        .tls = atomic_load(&app.connections_tls),
        .plain = atomic_load(&app.connections_plain),
        .cancel = atomic_load(&app.connections_cancel),
    };
    uint64_t good = row.tls + row.plain + row.cancel;

    row.errors = row.total > good ? row.total - good : 0;
    table_head(&t);
    table_row(&t, &row);
}

/* --- startup parameters --- */

struct parameter_row {
    const char *user;
    const char *database;
    const char *parameter;
    const char *value;
    const char *source;
    const char *state;
};

static const struct column parameter_columns[] = {
    COLUMN(parameter_row, CELL_TEXT, user),      COLUMN(parameter_row, CELL_TEXT, database),
    COLUMN(parameter_row, CELL_TEXT, parameter), COLUMN(parameter_row, CELL_TEXT, value),
    COLUMN(parameter_row, CELL_TEXT, source),    COLUMN(parameter_row, CELL_TEXT, state),
};

static bool list_has(const struct pair_list *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcasecmp(list->items[i].name, name) == 0)
            return true;
    }
    return false;
}

struct parameters {
    struct table table;
    struct config *config;
};

/* Which layer has the last word on it. */
static const char *parameter_source(struct pool_shared *shared, const struct pool_config *pool,
                                    const char *name)
{
    pthread_mutex_lock(&shared->lock);
    bool found = atomic_load(&shared->origin) == ORIGIN_LOOKED_UP && shared->overlay != NULL &&
                 list_has(shared->overlay, name);
    pthread_mutex_unlock(&shared->lock);
    return found ? "auth_query" : list_has(&pool->startup_parameters, name) ? "pool" : "general";
}

static void add_parameters(void *context, struct pool_shared *shared)
{
    const struct parameters *p = context;
    const struct pool_config *pool = config_pool(p->config, shared->database);
    const struct effective *effective = atomic_load(&shared->pool) == 0
                                            ? NULL
                                            : pool_wanted(p->config, shared);

    if (effective == NULL)
        return;
    const struct pair_list *list = &effective->startup_parameters;
    for (size_t i = 0; i < list->count; i++) {
        const struct pair *pair = &list->items[i];
        struct parameter_row row = {shared->user, shared->database, pair->name, pair->value,
                                    NULL,         "applied"};

        row.source = parameter_source(shared, pool, pair->name);
        table_row(&p->table, &row);
    }
}

static void show_startup_parameters(struct admin_run *run)
{
    struct config *config = app_config();
    struct parameters p = {TABLE(&run->out, parameter_columns), config};

    table_head(&p.table);
    directory_each(add_parameters, &p);
    config_unref(config);
}

/* --- the tables --- */

/* In the order of tab completion; hidden ones are not offered there. */
static const struct show {
    const char *name;
    void (*run)(struct admin_run *run);
} shows[] = {
    {"help", show_help},
    {"config", show_config},
    {"databases", show_databases},
    {"pools", show_pools},
    {"pools_extended", show_pools_extended},
    {"pools_memory", show_pools_memory},
    {"pool_coordinator", show_pool_coordinator},
    {"pool_scaling", show_pool_scaling},
    {"prepared_statements", show_prepared_statements},
    {"interner", NULL}, /* takes an argument */
    {"clients", show_clients},
    {"servers", show_servers},
    {"connections", show_connections},
    {"stats", show_stats},
    {"version", show_version},
    {"users", show_users},
    {"auth_query", show_auth_query},
    {"startup_parameters", show_startup_parameters},
    {"log_level", show_log_level},
    {"lists", show_lists},
    {"sockets", show_sockets},
    {"workers", show_workers},
    {"upgrade", show_upgrade},
    {"latency", show_latency},
};

const char *const *admin_show_names(size_t *count)
{
    static const char *names[COUNT_OF(shows)];

    for (size_t i = 0; i < COUNT_OF(shows); i++)
        names[i] = shows[i].name;
    *count = COUNT_OF(shows);
    return names;
}

static const struct show *find(const char *name)
{
    if (strcasecmp(name, "pool_memory") == 0)
        name = "pools_memory";
    for (size_t i = 0; i < COUNT_OF(shows); i++) {
        if (strcasecmp(shows[i].name, name) == 0)
            return &shows[i];
    }
    return NULL;
}

void admin_show(struct admin_run *run, const struct admin_statement *s)
{
    if (s->count < 2) {
        admin_error(run, "58000",
                    "Unsupported query against the admin database, please use SHOW HELP for a "
                    "list of supported subcommands");
        return;
    }
    const struct show *show = find(admin_word(s, 1));
    if (show == NULL && admin_chatter_show(run, s))
        return;
    if (show == NULL) {
        log_warn("unknown SHOW from %s", run->who);
        admin_error(run, "58000", "Unsupported SHOW query against the admin database");
        return;
    }
    if (show->run == NULL)
        show_interner(run, admin_word(s, 2));
    else
        show->run(run);
    write_command_complete(&run->out, "SHOW");
}
