/* The list of databases that are, or ever were, capped. */
#define LOG_MODULE "pg_doorman::pool"
#include "actors/coordinator.h"

#include <stdlib.h>

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct coordination *list; /* by name; entries stay */

static struct coordination *find(const char *database)
{
    struct coordination *at = list;

    while (at != NULL && strcmp(at->database, database) != 0)
        at = at->next;
    return at;
}

struct coordination *coordination_find(const char *database)
{
    pthread_mutex_lock(&list_lock);
    struct coordination *found = find(database);
    pthread_mutex_unlock(&list_lock);
    return found;
}

static void add(struct coordination *shared)
{
    pthread_mutex_lock(&list_lock);
    struct coordination **at = &list;
    while (*at != NULL && strcmp((*at)->database, shared->database) < 0)
        at = &(*at)->next;
    shared->next = *at;
    *at = shared;
    pthread_mutex_unlock(&list_lock);
}

/* Its first message is the one with which it configures itself. */
static void open_coordinator(struct worker *w, const char *database)
{
    struct coordination *shared = calloc(1, sizeof *shared);
    struct coordinator *c = coordinator_of(actor_new(&coordinator_type, w->index));

    INVARIANT(shared != NULL);
    shared->database = strdup(database);
    INVARIANT(shared->database != NULL);
    shared->actor = actor_id_of(&c->actor);
    c->shared = shared;
    actor_launch(w, &c->actor);
    add(shared);
}

static void tell_each(struct worker *w, uint16_t kind)
{
    pthread_mutex_lock(&list_lock);
    struct coordination *first = list;
    pthread_mutex_unlock(&list_lock);
    for (struct coordination *at = first; at != NULL; at = at->next)
        actor_tell_kind(w, at->actor, kind);
}

void coordinators_configure(struct worker *w, struct config *config)
{
    tell_each(w, MSG_COORDINATOR_CONFIGURE);
    for (size_t i = 0; i < config->pool_count; i++) {
        const struct pool_config *pool = &config->pools[i];

        if (config_caps(pool) && coordination_find(pool->name) == NULL)
            open_coordinator(w, pool->name);
    }
}

void coordinators_tick(struct worker *w)
{
    tell_each(w, MSG_COORDINATOR_TICK);
}

void coordinations_each(void (*visit)(void *context, struct coordination *shared), void *context)
{
    pthread_mutex_lock(&list_lock);
    struct coordination *first = list;
    pthread_mutex_unlock(&list_lock);
    for (struct coordination *at = first; at != NULL; at = at->next) {
        if (atomic_load(&at->max) > 0)
            visit(context, at);
    }
}
