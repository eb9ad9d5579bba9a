#include "actors/inspect_internal.h"

#include "runtime/log.h"

#include <inttypes.h>
#include <stdlib.h>

enum { GROUPS_MAX = 128, TEXT_MAX = 64 };

/* How many actors of one type are in one state. */
struct group {
    char type[TEXT_MAX];
    char state[TEXT_MAX];
    uint64_t count;
};

struct summary {
    struct group groups[GROUPS_MAX];
    size_t group_count;
    uint64_t ungrouped;
    const msgpack_object *oldest; /* an actor */
    uint64_t oldest_wait_us;
    const msgpack_object *longest;
    uint64_t longest_queue;
    uint64_t queued;
    uint64_t queues;
};

const msgpack_object *inspect_get(const msgpack_object *map, const char *key)
{
    if (map == NULL || map->type != MSGPACK_OBJECT_MAP)
        return NULL;
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        const msgpack_object *k = &map->via.map.ptr[i].key;

        if (k->type == MSGPACK_OBJECT_STR && k->via.str.size == strlen(key) &&
            memcmp(k->via.str.ptr, key, k->via.str.size) == 0)
            return &map->via.map.ptr[i].val;
    }
    return NULL;
}

/* Text for a comment: one line of plain characters, whatever the document says. */
static const char *comment_text(char *out, size_t size, const msgpack_object *o)
{
    size_t len = 0;

    if (o != NULL && o->type == MSGPACK_OBJECT_POSITIVE_INTEGER) {
        snprintf(out, size, "%" PRIu64, o->via.u64);
        return out;
    }
    if (o != NULL && o->type == MSGPACK_OBJECT_STR) {
        for (; len < o->via.str.size && len < size - 1; len++) {
            char c = o->via.str.ptr[len];

            out[len] = c >= 0x20 && c < 0x7f ? c : '?';
        }
    }
    out[len] = '\0';
    if (len == 0)
        snprintf(out, size, "-");
    return out;
}

static bool get_count(const msgpack_object *map, const char *key, uint64_t *out)
{
    const msgpack_object *o = inspect_get(map, key);

    if (o != NULL && o->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
        *out = o->via.u64;
    else if (o != NULL && o->type == MSGPACK_OBJECT_ARRAY)
        *out = o->via.array.size;
    else
        return false;
    return true;
}

static void count_state(struct summary *s, const msgpack_object *actor)
{
    char type[TEXT_MAX];
    char state[TEXT_MAX];

    comment_text(type, sizeof type, inspect_get(actor, "type"));
    comment_text(state, sizeof state, inspect_get(actor, "state"));
    for (size_t i = 0; i < s->group_count; i++) {
        struct group *g = &s->groups[i];

        if (strcmp(g->type, type) == 0 && strcmp(g->state, state) == 0) {
            g->count++;
            return;
        }
    }
    if (s->group_count == GROUPS_MAX) {
        s->ungrouped++;
        return;
    }
    struct group *g = &s->groups[s->group_count++];
    memcpy(g->type, type, sizeof type);
    memcpy(g->state, state, sizeof state);
    g->count = 1;
}

static void count_waiting(struct summary *s, const msgpack_object *actor)
{
    uint64_t n;

    if (get_count(actor, "wait_us", &n) && n > s->oldest_wait_us) {
        s->oldest_wait_us = n;
        s->oldest = actor;
    }
    if (get_count(actor, "queue", &n)) {
        s->queues++;
        if (s->queued + n >= s->queued)
            s->queued += n;
        if (n > s->longest_queue) {
            s->longest_queue = n;
            s->longest = actor;
        }
    }
}

static int by_type_and_state(const void *a, const void *b)
{
    const struct group *x = a;
    const struct group *y = b;
    int order = strcmp(x->type, y->type);

    return order != 0 ? order : strcmp(x->state, y->state);
}

static void print_actor(FILE *out, const msgpack_object *actor)
{
    static const char *const names[] = {"database", "user", "name"};
    char type[TEXT_MAX];
    char id[TEXT_MAX];

    fprintf(out, "%s %s", comment_text(type, sizeof type, inspect_get(actor, "type")),
            comment_text(id, sizeof id, inspect_get(actor, "id")));
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const msgpack_object *o = inspect_get(actor, names[i]);
        char text[TEXT_MAX];

        if (o != NULL)
            fprintf(out, " %s=%s", names[i], comment_text(text, sizeof text, o));
    }
}

static void print_actors(FILE *out, const msgpack_object *actors)
{
    struct summary *s = calloc(1, sizeof *s);
    char text[32];

    if (s == NULL)
        return;
    for (uint32_t i = 0; i < actors->via.array.size; i++) {
        count_state(s, &actors->via.array.ptr[i]);
        count_waiting(s, &actors->via.array.ptr[i]);
    }
    qsort(s->groups, s->group_count, sizeof s->groups[0], by_type_and_state);
    fprintf(out, "# actors: %u\n", actors->via.array.size);
    for (size_t i = 0; i < s->group_count; i++)
        fprintf(out, "#   %-16s %-16s %" PRIu64 "\n", s->groups[i].type, s->groups[i].state,
                s->groups[i].count);
    if (s->ungrouped > 0)
        fprintf(out, "#   others %" PRIu64 "\n", s->ungrouped);
    if (s->oldest != NULL) {
        fprintf(out, "# oldest waiter: ");
        print_actor(out, s->oldest);
        fprintf(out, ", for %s\n", format_duration(text, sizeof text, s->oldest_wait_us));
    }
    if (s->queues > 0)
        fprintf(out, "# queues: %" PRIu64 ", together %" PRIu64 " waiting\n", s->queues, s->queued);
    if (s->longest != NULL) {
        fprintf(out, "# longest queue: ");
        print_actor(out, s->longest);
        fprintf(out, ", %" PRIu64 " waiting\n", s->longest_queue);
    }
    free(s);
}

static void print_length(FILE *out, const char *what, const msgpack_object *list)
{
    if (list != NULL && list->type == MSGPACK_OBJECT_ARRAY)
        fprintf(out, "# %s: %u\n", what, list->via.array.size);
}

void inspect_emit_summary(FILE *out, const msgpack_object *document)
{
    static const char *const facts[] = {"schema", "version", "taken_at", "pid"};
    const msgpack_object *actors = inspect_get(document, "actors");
    char text[TEXT_MAX];

    if (inspect_get(document, "format") == NULL) {
        fprintf(out, "# a msgpack document, not marked as a snapshot\n");
        return;
    }
    fprintf(out, "# %s\n", comment_text(text, sizeof text, inspect_get(document, "format")));
    for (size_t i = 0; i < COUNT_OF(facts); i++)
        fprintf(out, "# %s: %s\n", facts[i],
                comment_text(text, sizeof text, inspect_get(document, facts[i])));
    print_length(out, "workers", inspect_get(document, "workers"));
    if (actors != NULL && actors->type == MSGPACK_OBJECT_ARRAY)
        print_actors(out, actors);
    print_length(out, "flight records", inspect_get(document, "flight"));
}
