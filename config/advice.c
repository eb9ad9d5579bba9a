/* advice.c: what to say about a setting that does not exist. */
#include "config/settings.h"

#include <stdio.h>

/* Names that earlier releases knew. A trailing * matches any rest. */
static const struct {
    const char *name;
    const char *advice;
} obsolete[] = {
    {"server_tls", "use server_tls_mode: \"disable\" for false, \"require\" for true"},
    {"verify_server_certificate", "use server_tls_mode = \"verify-full\""},
    {"scaling_cooldown_sleep", "see scaling_warm_pool_ratio and scaling_fast_retries"},
    {"clock_resolution_statistics", "statistics need no clock setting"},
    {"virtual_pool_count", "locks are sized by worker_threads"},
    {"default_pool_size", "use auth_query.pool_size"},
    {"patroni_discovery_urls", "use patroni_api_urls"},
    {"failover_*", "see patroni_api_urls and the fallback_* settings"},
};

static const char *advice_obsolete(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(obsolete); i++) {
        size_t len = strlen(obsolete[i].name);
        bool prefix = obsolete[i].name[len - 1] == '*';
        if (prefix ? strncmp(name, obsolete[i].name, len - 1) == 0
                   : strcmp(name, obsolete[i].name) == 0)
            return obsolete[i].advice;
    }
    return NULL;
}

enum { NAME_MAX_BYTES = 64 };

/* Edits (insert, delete, replace, swap of neighbours) between two names. */
static unsigned distance(const char *a, const char *b)
{
    unsigned rows[3][NAME_MAX_BYTES + 1];
    size_t a_len = strlen(a);
    size_t b_len = strlen(b);

    if (a_len > NAME_MAX_BYTES || b_len > NAME_MAX_BYTES)
        return NAME_MAX_BYTES;
    for (size_t j = 0; j <= b_len; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= a_len; i++) {
        unsigned *row = rows[i % 3];
        const unsigned *above = rows[(i - 1) % 3];
        const unsigned *before = rows[(i + 1) % 3]; /* two above */
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned best = above[j - 1] + (a[i - 1] != b[j - 1]);
            best = MIN(best, MIN(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = MIN(best, before[j - 2] + 1);
            row[j] = best;
        }
    }
    return rows[a_len % 3][b_len];
}

static const struct setting *setting_nearest(enum setting_section section, const char *name,
                                             unsigned *how_far)
{
    const struct setting *nearest = NULL;

    *how_far = NAME_MAX_BYTES;
    for (size_t i = 0; i < setting_count; i++) {
        if (settings[i].section != section)
            continue;
        unsigned far = distance(name, settings[i].name);
        if (far < *how_far) {
            *how_far = far;
            nearest = &settings[i];
        }
    }
    return nearest;
}

static const struct setting *setting_elsewhere(const char *name)
{
    for (size_t i = 0; i < setting_count; i++)
        if (strcmp(settings[i].name, name) == 0)
            return &settings[i];
    return NULL;
}

const char *setting_advice(enum setting_section section, const char *name, char *out, size_t size)
{
    const char *old = advice_obsolete(name);
    unsigned far;

    if (old != NULL) {
        snprintf(out, size, "ignored: no longer used, %s", old);
        return out;
    }
    const struct setting *nearest = setting_nearest(section, name, &far);
    bool likely = nearest != NULL && far <= MAX(2u, (unsigned)strlen(name) / 4);
    const struct setting *home = setting_elsewhere(name);
    if (home != NULL && !likely)
        snprintf(out, size, "ignored: it belongs to [%s]", setting_section_name(home->section));
    else if (nearest != NULL)
        snprintf(out, size, likely ? "ignored; did you mean `%s`?" : "ignored; nearest name: `%s`",
                 nearest->name);
    else
        snprintf(out, size, "ignored");
    return out;
}
