#include "actors/snapshot.h"

#include "actors/admin.h"
#include "actors/passing.h"
#include "actors/pool.h"
#include "actors/session.h"
#include "actors/version.h"
#include "runtime/log.h"
#include "runtime/offload.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { SCHEMA = 1 };

static const struct actor_type *const types[] = {
    &daemon_type, &listener_type, &admin_type, &pool_type, &backend_type, &session_type,
};

static void put_number(struct packer *out, const char *name, uint64_t value)
{
    pack_str(out, name);
    pack_uint(out, value);
}

static void put_text(struct packer *out, const char *name, const char *value)
{
    pack_str(out, name);
    pack_str(out, value);
}

/* --- actors --- */

struct view {
    struct packer *out;
    const struct actor_type *type;
    uint64_t now_us;
    size_t mark;
    uint32_t pairs;
};

static void put_head(struct view *v, actor_id id, const char *state)
{
    v->mark = pack_map_open(v->out);
    put_text(v->out, "type", v->type->name);
    put_number(v->out, "id", id);
    put_number(v->out, "generation", id >> 32);
    put_text(v->out, "state", state);
    v->pairs = 4;
}

/* Under the names by which the summary finds who waits. */
static void put_waiting(struct view *v, struct actor *a)
{
    if (v->type == &session_type) {
        const struct session *s = session_of(a);

        if (s->phase != SESSION_WAITING)
            return;
        put_number(v->out, "wait_us", v->now_us - MIN(s->asked_us, v->now_us));
        v->pairs++;
    }
    if (v->type == &pool_type) {
        put_number(v->out, "queue", pool_of(a)->waiting);
        v->pairs++;
    }
}

static void look(struct actor *a, void *context)
{
    struct view *v = context;

    /* A backend's fields belong to its pool and its session as well, which may be at work. */
    PASSING_BEGIN();
    put_head(v, actor_id_of(a), v->type->state_name == NULL ? "-" : v->type->state_name(a));
    if (v->type->pack != NULL)
        v->pairs += v->type->pack(a, v->out);
    put_waiting(v, a);
    pack_map_close(v->out, v->mark, v->pairs);
    PASSING_END();
}

/* False: it has died meanwhile. */
static bool put_actor(struct worker *w, struct packer *out, const struct actor_type *type,
                      actor_id id)
{
    struct view v = {.out = out, .type = type, .now_us = clock_us()};
    int result = actor_visit(w, id, look, &v, v.now_us + VISIT_LIMIT_US);

    if (result == 0)
        return true;
    if (actor_find(id) == NULL)
        return false;
    put_head(&v, id, "busy");
    pack_map_close(out, v.mark, v.pairs);
    return true;
}

static void put_actors(struct worker *w, struct packer *out)
{
    uint32_t shown = 0;

    pack_str(out, "actors");
    size_t mark = pack_array_open(out);
    for (size_t t = 0; t < COUNT_OF(types); t++) {
        size_t count;
        actor_id *list = actor_list(types[t], &count);

        for (size_t i = 0; i < count; i++) {
            shown += put_actor(w, out, types[t], list[i]);
            if (i % VISITS_PER_TURN == VISITS_PER_TURN - 1)
                wait_sleep(w, 0);
        }
        free(list);
    }
    pack_array_close(out, mark, shown);
}

/* --- workers --- */

static void put_worker(struct packer *out, unsigned index)
{
    struct worker *w = runtime_worker(index);
    const struct worker_counters *c = &w->counters;

    pack_map(out, 16);
    put_number(out, "worker", index);
    put_number(out, "loops", PASSING(c->loops));
    put_number(out, "waits", PASSING(c->waits));
    put_number(out, "claims_won", PASSING(c->claims_won));
    put_number(out, "claims_lost", PASSING(c->claims_lost));
    put_number(out, "steals", PASSING(c->steals));
    put_number(out, "wakes_sent", PASSING(c->wakes_sent));
    put_number(out, "submissions", PASSING(c->submissions));
    put_number(out, "messages", PASSING(c->messages));
    put_number(out, "ready", atomic_load_explicit(&w->queue.count, memory_order_relaxed));
    put_number(out, "stacks_in_use", PASSING(w->stacks.in_use));
    put_number(out, "stacks_in_use_max", PASSING(w->stacks.in_use_max));
    put_number(out, "stacks_total", PASSING(w->stacks.total));
    put_number(out, "buffers_free_small", PASSING(w->buffers.count[RBUF_SMALL]));
    put_number(out, "buffers_free_large", PASSING(w->buffers.count[RBUF_LARGE]));
    put_number(out, "messages_free", PASSING(w->messages_free));
}

static void put_workers(struct packer *out)
{
    pack_str(out, "workers");
    pack_array(out, runtime_workers());
    PASSING_BEGIN();
    for (unsigned i = 0; i < runtime_workers(); i++)
        put_worker(out, i);
    PASSING_END();
}

/* --- the last messages --- */

struct records {
    struct packer *out;
    uint32_t count;
};

static const char *type_name(uint8_t number)
{
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        if (types[i]->number == number)
            return types[i]->name;
    }
    return "?";
}

static void put_record(void *context, const struct flight_record *r)
{
    struct records *records = context;

    pack_map(records->out, 6);
    put_number(records->out, "worker", r->worker);
    put_number(records->out, "at_us", r->at_us);
    put_text(records->out, "type", type_name(r->type));
    put_number(records->out, "actor", r->actor);
    put_text(records->out, "kind", message_kind_name(r->kind));
    put_number(records->out, "detail", r->detail);
    records->count++;
}

static void put_flight(struct packer *out)
{
    struct records records = {out, 0};

    pack_str(out, "flight");
    size_t mark = pack_array_open(out);
    for (unsigned i = 0; i < runtime_workers(); i++)
        flight_each(runtime_worker(i)->flight, put_record, &records);
    pack_array_close(out, mark, records.count);
}

/* --- the rest --- */

struct settings_view {
    struct packer *out;
    uint32_t count;
};

static void put_setting(void *context, const struct setting_row *row)
{
    struct settings_view *v = context;

    put_text(v->out, row->key, row->value); /* secrets come masked */
    v->count++;
}

static void put_config(struct packer *out)
{
    struct settings_view v = {out, 0};
    struct config *config = app_config();

    pack_str(out, "config");
    size_t mark = pack_map_open(out);
    config_visit(config, put_setting, &v);
    pack_map_close(out, mark, v.count);
    config_unref(config);
}

static void put_counts(struct packer *out)
{
    uint64_t statements;
    uint64_t bytes;

    statement_totals(&statements, &bytes);
    pack_str(out, "counts");
    pack_map(out, 13);
    put_number(out, "clients", atomic_load(&app.clients));
    put_number(out, "in_transaction", app_leases());
    put_number(out, "input_held", (uint64_t)atomic_load(&app.input_held));
    put_number(out, "connections_total", atomic_load(&app.connections_total));
    put_number(out, "connections_plain", atomic_load(&app.connections_plain));
    put_number(out, "connections_tls", atomic_load(&app.connections_tls));
    put_number(out, "connections_cancel", atomic_load(&app.connections_cancel));
    put_number(out, "connections_error", atomic_load(&app.connections_error));
    put_number(out, "buffers", rbuf_total());
    put_number(out, "statements", statements);
    put_number(out, "statement_bytes", bytes);
    put_number(out, "helper_threads", offload_threads());
    put_number(out, "helper_queue", offload_queued());
}

static void put_facts(struct packer *out)
{
    char taken_at[32];
    char levels[1024];
    time_t now = time(NULL);
    struct tm utc;

    strftime(taken_at, sizeof taken_at, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    log_filter_text(levels, sizeof levels);
    put_text(out, "format", "pg_doorman snapshot");
    put_number(out, "schema", SCHEMA);
    put_text(out, "version", DOORMAN_VERSION);
    put_text(out, "taken_at", taken_at);
    put_number(out, "now_us", clock_us());
    put_number(out, "pid", (uint64_t)getpid());
    put_number(out, "started_at", app.started_at);
    put_text(out, "engine", runtime_engine_name());
    put_text(out, "log_level", levels);
    pack_str(out, "draining");
    pack_bool(out, atomic_load(&app.draining));
}

void snapshot_build(struct worker *w, struct packer *out)
{
    pack_map(out, 15);
    put_facts(out); /* ten of them */
    put_counts(out);
    put_config(out);
    put_workers(out);
    put_actors(w, out);
    put_flight(out);
}
