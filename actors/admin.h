/* admin.h: the console: one actor that answers commands with complete wire messages.
 *
 * A session passes the text of a Query on and gets bytes back. The actor works on a borrowed stack,
 * one text at a time: it looks into other actors by visiting them and keeps nothing of theirs. Only
 * RELOAD is answered later, when the daemon has said how it went.
 */
#ifndef ACTORS_ADMIN_H
#define ACTORS_ADMIN_H

#include "actors/pool.h"
#include "config/arena.h"
#include "proto/messages.h"

/* --- admin_parse.c: pure --- */

enum { ADMIN_WORDS = 8 };

/* One command. Words are copies without quotes; further ones are counted, not kept. */
struct admin_statement {
    struct bytes text;  /* as written, from the first word to the last */
    struct bytes value; /* as written, what follows the second word */
    int count;
    const char *words[ADMIN_WORDS];
};
/* Takes the next command off *rest, up to its semicolon; count is 0 for an empty one. False: there
 * is no more. `scratch` backs the words and must have room for admin_scratch_bytes(). */
bool admin_parse(struct bytes *rest, struct admin_statement *out, char *scratch);
static inline size_t admin_scratch_bytes(size_t text_len)
{
    return text_len * 2 + 2;
}
/* The n-th word, "" when there is none. */
const char *admin_word(const struct admin_statement *s, int n);
bool admin_word_is(const struct admin_statement *s, int n, const char *word); /* in any case */
/* What SET assigns: without = or TO in front, blanks, and quotes around. */
struct bytes admin_set_value(struct bytes value);
bool admin_bytes_contain(struct bytes text, const char *part);

/* --- admin_table.c: header and cells from the same table --- */

enum cell {
    CELL_TEXT,          /* const char *; NULL shows as empty */
    CELL_NUMBER,        /* uint64_t, as numeric */
    CELL_INT,           /* uint64_t, as int4 */
    CELL_SIGNED,        /* int64_t, as numeric */
    CELL_NUMBER_TEXT,   /* uint64_t, as text */
    CELL_ZERO,          /* always 0, as numeric */
    CELL_INT_ZERO,      /* the same as int4 */
    CELL_FLAG,          /* bool: 0 or 1, as text */
    CELL_TRUTH,         /* bool: true or false, as text */
    CELL_SECONDS,       /* uint64_t of microseconds, as a decimal fraction */
    CELL_WHOLE_SECONDS, /* of the same */
    CELL_REST_US,       /* what they leave */
    CELL_CLIENT,        /* uint64_t as "#c7" */
    CELL_SERVER,        /* uint32_t as "0x0000002A" */
    CELL_HEX,           /* uint64_t as 0x2a */
};
struct column {
    const char *name;
    enum cell cell;
    size_t offset; /* in the row */
};
struct table {
    struct writer *out;
    const struct column *columns;
    size_t count;
};
#define COLUMN(row, cell, field)                  \
    {                                             \
#field, cell, offsetof(struct row, field) \
    }
#define COLUMN_AS(name, row, cell, field)       \
    {                                           \
        name, cell, offsetof(struct row, field) \
    }
#define COLUMN_ZERO(name)  \
    {                      \
        name, CELL_ZERO, 0 \
    }
#define TABLE(writer_, columns_)                  \
    {                                             \
        (writer_), (columns_), COUNT_OF(columns_) \
    }

void table_head(const struct table *t);
void table_row(const struct table *t, const void *row);
/* A table of one text column. */
void table_list(struct writer *out, const char *column, const char *const *items, size_t count);

/* --- admin.c --- */

enum admin_result { ADMIN_DONE, ADMIN_LATER };

/* One text of commands on its way. */
struct admin_run {
    struct worker *worker;
    struct actor *admin;
    actor_id session;
    struct writer out;
    struct arena arena;
    struct bytes text;
    struct bytes rest;
    char *scratch;
    const char *who;
    bool answered; /* some command was */
    bool failed;   /* the rest is skipped */
    struct admin_run *next;
};
/* An ErrorResponse; what follows in the same text is not run. */
PRINTF_LIKE(3, 4)
void admin_error(struct admin_run *run, const char *sqlstate, const char *format, ...);
/* A row "success", and the command's tag. */
void admin_success(struct admin_run *run, bool success, const char *tag);

/* admin_show.c */
void admin_show(struct admin_run *run, const struct admin_statement *s);
/* The names in their customary order. */
const char *const *admin_show_names(size_t *count);
/* admin_actions.c */
enum admin_result admin_reload(struct admin_run *run, const struct admin_statement *s);
enum admin_result admin_pool_action(struct admin_run *run, const struct admin_statement *s);
enum admin_result admin_shutdown(struct admin_run *run, const struct admin_statement *s);
enum admin_result admin_upgrade(struct admin_run *run, const struct admin_statement *s);
enum admin_result admin_set(struct admin_run *run, const struct admin_statement *s);
enum admin_result admin_flush(struct admin_run *run, const struct admin_statement *s);
enum admin_result admin_reset(struct admin_run *run, const struct admin_statement *s);
enum admin_result admin_snapshot(struct admin_run *run, const struct admin_statement *s);
/* admin_chatter.c: what psql and drivers send by themselves. False: not that. */
bool admin_chatter(struct admin_run *run, const struct admin_statement *s);
bool admin_chatter_show(struct admin_run *run, const struct admin_statement *s);
bool admin_is_session_parameter(const char *name);
/* The whole text, before it is parsed. */
bool admin_completion(struct admin_run *run);

/* --- admin_census.c: what there is, copied out of the actors --- */

struct pool_row {
    struct pool_shared *shared;
    actor_id id;
    const char *database;
    const char *user;
    const char *mode;
    const char *host;
    const char *server_database;
    uint64_t port;
    uint64_t pool_size;
    uint64_t min_pool_size;
    uint64_t size;
    uint64_t cl_idle;
    uint64_t cl_active;
    uint64_t cl_waiting;
    uint64_t sv_active;
    uint64_t sv_idle;
    uint64_t sv_login;
    uint64_t wait_max_us; /* the largest of any client that is connected */
    uint64_t oldest_active_age_ms;
    struct scaling_counters scaling;
    bool paused;
    bool fallback_active;

    uint64_t total_xact_count;
    uint64_t total_query_count;
    uint64_t total_received;
    uint64_t total_sent;
    uint64_t total_xact_time;
    uint64_t total_query_time;
    uint64_t total_wait_time;
    uint64_t total_errors;
    uint64_t avg_xact_count;
    uint64_t avg_query_count;
    uint64_t avg_recv;
    uint64_t avg_sent;
    uint64_t avg_errors;
    uint64_t avg_xact_time;
    uint64_t avg_query_time;
    uint64_t avg_wait_time;

    uint64_t query_p50; /* these six for POOLS_EXTENDED only */
    uint64_t query_p95;
    uint64_t query_p99;
    uint64_t transaction_p50;
    uint64_t transaction_p95;
    uint64_t transaction_p99;

    uint64_t pool_prepared_count;
    uint64_t pool_prepared_bytes;
    uint64_t client_prepared_count;
    uint64_t client_prepared_bytes;
    uint64_t client_named_count;
    uint64_t client_anonymous_count;
    uint64_t client_anonymous_evictions_alive;
    uint64_t async_clients;
};

struct client_row {
    const struct pool_shared *shared; /* NULL: on the console */
    uint64_t number;
    const char *database;
    const char *user;
    const char *application_name;
    const char *address;
    bool tls;
    const char *state;
    const char *wait;
    uint64_t transactions;
    uint64_t queries;
    uint64_t errors;
    uint64_t age_seconds;
};

struct server_row {
    uint32_t number;
    uint64_t pid;
    const char *database;
    const char *user;
    const char *application_name;
    bool tls;
    const char *state;
    const char *wait;
    uint64_t transactions;
    uint64_t queries;
    uint64_t bytes_sent;
    uint64_t bytes_received;
    uint64_t age_seconds;
    uint64_t created_us;
    uint64_t prepared_hits;
    uint64_t prepared_misses;
    uint64_t prepared_size;
};

struct census {
    struct arena *arena;
    struct pool_row *pools; /* by database and user */
    size_t pool_count;
    size_t pool_room;
    struct client_row *clients; /* by number */
    size_t client_count;
    size_t client_room;
    struct server_row *servers; /* by database, user, age */
    size_t server_count;
    size_t server_room;
};
/* From a coroutine. Actors that cannot be visited within a moment are left out, or shown with what
 * is known without them. Everything lies in the arena. */
void census_take(struct worker *w, struct census *c, struct arena *arena);
/* The pools alone, without looking at clients. */
void census_take_pools(struct worker *w, struct census *c, struct arena *arena);
/* When a visit is given up, and a breath every so many of them. */
enum { VISIT_LIMIT_US = 50000, VISITS_PER_TURN = 256 };

/* --- admin_statistics.c --- */
/* Ends a window: what happened in it becomes the averages that SHOW tells. */
void statistics_tick(void);

/* --- admin_show_*.c --- */
void show_pools(struct admin_run *run);
void show_pools_extended(struct admin_run *run);
void show_pools_memory(struct admin_run *run);
void show_stats(struct admin_run *run);
void show_pool_scaling(struct admin_run *run);
void show_pool_coordinator(struct admin_run *run);
void show_auth_query(struct admin_run *run);
void show_databases(struct admin_run *run);
void show_users(struct admin_run *run);
void show_lists(struct admin_run *run);
void show_clients(struct admin_run *run);
void show_servers(struct admin_run *run);
void show_prepared_statements(struct admin_run *run);
void show_interner(struct admin_run *run, const char *limit);
void show_sockets(struct admin_run *run);
void show_workers(struct admin_run *run);
void show_upgrade(struct admin_run *run);
void show_latency(struct admin_run *run);

#endif
