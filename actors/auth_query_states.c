/* The list of databases that have, or ever had, auth_query. */
#define LOG_MODULE "pg_doorman::auth::auth_query"
#include "actors/auth_query.h"

#include <stdlib.h>

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct auth_query_state *list; /* by name; entries stay */

struct auth_query_state *auth_query_state_of(const char *database)
{
    pthread_mutex_lock(&list_lock);
    struct auth_query_state **at = &list;
    while (*at != NULL && strcmp((*at)->database, database) < 0)
        at = &(*at)->next;
    struct auth_query_state *state = *at;
    if (state == NULL || strcmp(state->database, database) != 0) {
        state = calloc(1, sizeof *state);
        INVARIANT(state != NULL);
        state->database = strdup(database);
        INVARIANT(state->database != NULL);
        state->next = *at;
        *at = state;
    }
    pthread_mutex_unlock(&list_lock);
    return state;
}

struct auth_query_state *auth_query_find(const char *database)
{
    pthread_mutex_lock(&list_lock);
    struct auth_query_state *state = list;
    while (state != NULL && strcmp(state->database, database) != 0)
        state = state->next;
    pthread_mutex_unlock(&list_lock);
    return state != NULL && atomic_load(&state->actor) != 0 ? state : NULL;
}

void auth_query_each(void (*visit)(void *context, struct auth_query_state *state), void *context)
{
    pthread_mutex_lock(&list_lock);
    for (struct auth_query_state *at = list; at != NULL; at = at->next) {
        if (atomic_load(&at->actor) != 0)
            visit(context, at);
    }
    pthread_mutex_unlock(&list_lock);
}

/* Its first message is the one with which it configures itself. */
static void open_actor(struct worker *w, const char *database)
{
    struct auth_query_state *state = auth_query_state_of(database);

    if (atomic_load(&state->actor) != 0)
        return;
    struct auth_query *a = auth_query_of(actor_new(&auth_query_type, w->index));
    actor_id id = actor_id_of(&a->actor);
    a->state = state;
    actor_launch(w, &a->actor);
    atomic_store(&state->actor, id);
}

void auth_queries_configure(struct worker *w, struct config *config)
{
    pthread_mutex_lock(&list_lock);
    for (struct auth_query_state *at = list; at != NULL; at = at->next) {
        actor_id actor = atomic_load(&at->actor);

        if (actor == 0)
            continue;
        const struct pool_config *pool = config_pool(config, at->database);
        if (pool == NULL || pool->auth_query == NULL) /* at once: nobody shall ask it any more */
            atomic_store(&at->actor, 0);
        actor_tell_kind(w, actor, MSG_AUTH_CONFIGURE);
    }
    pthread_mutex_unlock(&list_lock);
    for (size_t i = 0; i < config->pool_count; i++) {
        if (config->pools[i].auth_query != NULL)
            open_actor(w, config->pools[i].name);
    }
}
