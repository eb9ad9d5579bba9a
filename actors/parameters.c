#include "actors/parameters.h"

#include "actors/statement_internal.h"

#include <pthread.h>
#include <stdlib.h>

enum { CHAINS = 4096, PAIRS_MAX = 128 };

static pthread_mutex_t sets_lock = PTHREAD_MUTEX_INITIALIZER;
static struct parameter_set *sets[CHAINS];
/* Where the sets of those begin who asked for nothing when they logged in. */
static struct parameter_set nothing = {.refs = 1};

static const char *const tracked[PARAMETERS_TRACKED] = {
    "client_encoding",  "DateStyle", "IntervalStyle", "TimeZone", "standard_conforming_strings",
    "application_name",
};

const char *parameter_tracked(size_t i)
{
    return tracked[i];
}

/* --- names --- */

/* What can be RESET as well: each part between dots is an identifier. */
static bool is_name(struct bytes name)
{
    if (name.len == 0 || name.len >= PARAMETER_NAME_MAX || name.at[name.len - 1] == '.')
        return false;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.at[i];
        bool letter = ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c == '_';
        bool begins = i == 0 || name.at[i - 1] == '.';

        if (!letter && (begins || ((c < '0' || c > '9') && c != '.')))
            return false;
    }
    return true;
}

static bool is_one_of(const char *name, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(name, list[i]) == 0)
            return true;
    }
    return false;
}

enum parameter_class parameter_classify(struct bytes name, char canonical[PARAMETER_NAME_MAX])
{
    /* Of the connection, read-only, or of one transaction. */
    static const char *const refused[] = {
        "user",
        "database",
        "replication",
        "options",
        "is_superuser",
        "session_authorization",
        "server_version",
        "server_version_num",
        "server_encoding",
        "integer_datetimes",
        "in_hot_standby",
        "session_user",
        "current_user",
        "block_size",
        "wal_block_size",
        "wal_segment_size",
        "max_index_keys",
        "max_identifier_length",
        "max_function_args",
        "data_checksums",
        "data_directory_mode",
        "lc_collate",
        "lc_ctype",
        "transaction_isolation",
        "transaction_read_only",
        "transaction_deferrable",
    };

    if (!is_name(name))
        return PARAMETER_REFUSED;
    for (size_t i = 0; i < PARAMETERS_TRACKED; i++) {
        if (name.len == strlen(tracked[i]) &&
            strncasecmp((const char *)name.at, tracked[i], name.len) == 0) {
            memcpy(canonical, tracked[i], name.len + 1);
            return PARAMETER_TRACKED;
        }
    }
    for (size_t i = 0; i < name.len; i++)
        canonical[i] = (char)(name.at[i] >= 'A' && name.at[i] <= 'Z' ? name.at[i] | 0x20
                                                                     : name.at[i]);
    canonical[name.len] = '\0';
    return is_one_of(canonical, refused, COUNT_OF(refused)) ? PARAMETER_REFUSED : PARAMETER_OTHER;
}

/* --- one set --- */

bool parameter_set_next(const struct parameter_set *set, uint32_t *at, struct parameter *pair)
{
    if (set == NULL || *at == set->len)
        return false;
    pair->name = bytes_of((const char *)set->text + *at);
    pair->value = bytes_of((const char *)set->text + *at + pair->name.len + 1);
    *at += (uint32_t)(pair->name.len + pair->value.len + 2);
    return true;
}

struct bytes parameter_set_find(const struct parameter_set *set, struct bytes name)
{
    struct parameter pair;
    uint32_t at = 0;

    while (parameter_set_next(set, &at, &pair)) {
        if (bytes_equal(pair.name, name))
            return pair.value;
    }
    return (struct bytes){NULL, 0};
}

struct parameter_set *parameter_set_origin(struct parameter_set *set)
{
    if (set == NULL || set->origin == &nothing)
        return NULL;
    return set->origin != NULL ? set->origin : set;
}

static int by_name(const void *a, const void *b)
{
    const struct parameter *x = a;
    const struct parameter *y = b;

    return strcmp((const char *)x->name.at, (const char *)y->name.at);
}

/* Sorted, and each name once: the last value that it had. */
static size_t arrange(const struct parameter *pairs, size_t count, struct parameter *out)
{
    size_t kept = 0;

    for (size_t i = 0; i < count && kept < PAIRS_MAX; i++) {
        size_t at = 0;

        while (at < kept && !bytes_equal(out[at].name, pairs[i].name))
            at++;
        out[at] = pairs[i];
        kept += at == kept;
    }
    qsort(out, kept, sizeof *out, by_name);
    return kept;
}

static struct parameter_set *build(const struct parameter *pairs, size_t count)
{
    size_t len = 0;

    for (size_t i = 0; i < count; i++)
        len += pairs[i].name.len + pairs[i].value.len + 2;
    struct parameter_set *set = calloc(1, sizeof *set + len);
    INVARIANT(set != NULL && len < UINT32_MAX);
    uint8_t *at = set->text;
    set->tracked_only = true;
    for (size_t i = 0; i < count; i++) {
        char canonical[PARAMETER_NAME_MAX];

        at = (uint8_t *)memcpy(at, pairs[i].name.at, pairs[i].name.len) + pairs[i].name.len + 1;
        at = (uint8_t *)memcpy(at, pairs[i].value.at, pairs[i].value.len) + pairs[i].value.len + 1;
        if (parameter_classify(pairs[i].name, canonical) != PARAMETER_TRACKED)
            set->tracked_only = false;
    }
    set->len = (uint32_t)len;
    return set;
}

/* --- each once --- */

struct parameter_set *parameter_set_ref(struct parameter_set *set)
{
    if (set != NULL)
        atomic_fetch_add_explicit(&set->refs, 1, memory_order_relaxed);
    return set;
}

struct parameter_set *parameter_set_make(const struct parameter *pairs, size_t count,
                                         struct parameter_set *origin)
{
    struct parameter arranged[PAIRS_MAX];

    count = arrange(pairs, count, arranged);
    if (count == 0)
        return NULL;
    struct parameter_set *made = build(arranged, count);
    made->hash = statement_hash((struct bytes){made->text, made->len});
    struct parameter_set **chain = &sets[made->hash % CHAINS];
    pthread_mutex_lock(&sets_lock);
    struct parameter_set *found = *chain;
    while (found != NULL &&
           (found->hash != made->hash || found->len != made->len || found->origin != origin ||
            memcmp(found->text, made->text, made->len) != 0))
        found = found->next;
    if (found == NULL) {
        found = made;
        made->origin = parameter_set_ref(origin);
        made->next = *chain;
        *chain = made;
        made = NULL;
    }
    parameter_set_ref(found);
    pthread_mutex_unlock(&sets_lock);
    free(made);
    return found;
}

/* The last reference goes under the lock, so that nobody can find the set meanwhile. */
void parameter_set_unref(struct parameter_set *set)
{
    while (set != NULL) {
        uint32_t refs = atomic_load_explicit(&set->refs, memory_order_relaxed);

        if (refs > 1) {
            if (atomic_compare_exchange_weak(&set->refs, &refs, refs - 1))
                return;
            continue;
        }
        pthread_mutex_lock(&sets_lock);
        bool last = atomic_fetch_sub(&set->refs, 1) == 1;
        if (last) {
            struct parameter_set **at = &sets[set->hash % CHAINS];

            while (*at != set)
                at = &(*at)->next;
            *at = set->next;
        }
        pthread_mutex_unlock(&sets_lock);
        if (!last)
            return;
        struct parameter_set *origin = set->origin;
        free(set);
        set = origin;
    }
}

struct parameter_set *parameter_set_with(struct parameter_set *set, const char *name,
                                         struct bytes value)
{
    struct parameter pairs[PAIRS_MAX + 1];
    size_t count = 0;
    uint32_t at = 0;

    while (count < PAIRS_MAX && parameter_set_next(set, &at, &pairs[count]))
        count++;
    pairs[count++] = (struct parameter){bytes_of(name), value};
    struct parameter_set *origin = parameter_set_origin(set);
    /* Back at where it began: that one, not another of the same content. */
    struct parameter_set *made = parameter_set_make(pairs, count,
                                                    origin != NULL ? origin : &nothing);
    if (origin != NULL && made->len == origin->len &&
        memcmp(made->text, origin->text, made->len) == 0) {
        parameter_set_unref(made);
        return parameter_set_ref(origin);
    }
    return made;
}
