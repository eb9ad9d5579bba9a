/* equal.c: do two configurations mean the same? Decides what a reload touches. */
#include "auth/hba.h"
#include "config/settings.h"

#include <stdlib.h>

static bool text_equal(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool list_equal(const struct string_list *a, const struct string_list *b)
{
    if (a->count != b->count || (a->items == NULL) != (b->items == NULL))
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->items[i], b->items[i]) != 0)
            return false;
    return true;
}

static bool pairs_equal(const struct pair_list *a, const struct pair_list *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->items[i].name, b->items[i].name) != 0 ||
            strcmp(a->items[i].value, b->items[i].value) != 0)
            return false;
    return true;
}

static bool limits_equal(const struct effective *a, const struct effective *b)
{
    return a->mode == b->mode && a->pool_size == b->pool_size &&
           a->min_pool_size == b->min_pool_size && a->connect_timeout_ms == b->connect_timeout_ms &&
           a->query_wait_timeout_ms == b->query_wait_timeout_ms &&
           a->idle_timeout_ms == b->idle_timeout_ms &&
           a->server_lifetime_ms == b->server_lifetime_ms &&
           a->server_idle_check_timeout_ms == b->server_idle_check_timeout_ms &&
           a->max_concurrent_creates == b->max_concurrent_creates &&
           a->scaling_warm_pool_ratio == b->scaling_warm_pool_ratio &&
           a->scaling_fast_retries == b->scaling_fast_retries &&
           a->scaling_max_parallel_creates == b->scaling_max_parallel_creates &&
           a->max_waiters == b->max_waiters &&
           a->shed_expected_timeouts == b->shed_expected_timeouts;
}

static bool manners_equal(const struct effective *a, const struct effective *b)
{
    return a->server_round_robin == b->server_round_robin &&
           a->sync_server_parameters == b->sync_server_parameters &&
           a->cleanup_server_connections == b->cleanup_server_connections &&
           a->cleanup_verify == b->cleanup_verify &&
           text_equal(a->server_reset_query, b->server_reset_query) &&
           a->log_client_parameter_status_changes == b->log_client_parameter_status_changes &&
           a->prepared_cache_size == b->prepared_cache_size &&
           a->server_prepared_cache_size == b->server_prepared_cache_size &&
           a->client_anonymous_cache_size == b->client_anonymous_cache_size;
}

static bool target_equal(const struct effective *a, const struct effective *b)
{
    return text_equal(a->server_host, b->server_host) && a->server_port == b->server_port &&
           text_equal(a->server_database, b->server_database) &&
           text_equal(a->server_user, b->server_user) &&
           text_equal(a->server_password, b->server_password) &&
           text_equal(a->application_name, b->application_name) &&
           pairs_equal(&a->startup_parameters, &b->startup_parameters);
}

static bool tls_equal(const struct effective *a, const struct effective *b)
{
    return a->server_tls_mode == b->server_tls_mode &&
           text_equal(a->server_tls_ca_cert, b->server_tls_ca_cert) &&
           text_equal(a->server_tls_certificate, b->server_tls_certificate) &&
           text_equal(a->server_tls_private_key, b->server_tls_private_key) &&
           memcmp(a->server_tls_digest, b->server_tls_digest, sizeof a->server_tls_digest) == 0;
}

static bool fallback_equal(const struct effective *a, const struct effective *b)
{
    return list_equal(&a->patroni_api_urls, &b->patroni_api_urls) &&
           a->fallback_cooldown_ms == b->fallback_cooldown_ms &&
           a->patroni_api_timeout_ms == b->patroni_api_timeout_ms &&
           a->fallback_connect_timeout_ms == b->fallback_connect_timeout_ms &&
           a->fallback_lifetime_ms == b->fallback_lifetime_ms;
}

bool effective_equal(const struct effective *a, const struct effective *b)
{
    return limits_equal(a, b) && manners_equal(a, b) && target_equal(a, b) && tls_equal(a, b) &&
           fallback_equal(a, b);
}

static bool setting_equal(const struct setting *s, const void *a, const void *b)
{
    const void *x = setting_at(s, a);
    const void *y = setting_at(s, b);

    if (s->type == SETTING_HBA || s->type == SETTING_SECTION)
        return true; /* compared as rules, and section by section */
    if (setting_is_text(s))
        return text_equal(*(char *const *)x, *(char *const *)y);
    if (setting_is_number(s))
        return *(const uint64_t *)x == *(const uint64_t *)y;
    if (s->type == SETTING_BOOL)
        return *(const bool *)x == *(const bool *)y;
    if (s->type == SETTING_MAP)
        return pairs_equal(x, y);
    return list_equal(x, y);
}

static bool section_equal(enum setting_section section, const void *a, const void *b)
{
    for (size_t i = 0; i < setting_count; i++)
        if (settings[i].section == section && !setting_equal(&settings[i], a, b))
            return false;
    return true;
}

static bool users_equal(const struct pool_config *a, const struct pool_config *b)
{
    if (a->user_count != b->user_count)
        return false;
    for (size_t i = 0; i < a->user_count; i++) {
        const struct user_config *other = config_user(b, a->users[i].username);
        if (other == NULL || !section_equal(SECTION_USER, &a->users[i], other) ||
            !effective_equal(&a->users[i].effective, &other->effective))
            return false;
    }
    return true;
}

static bool auth_query_equal(const struct auth_query_config *a, const struct auth_query_config *b)
{
    if (a == NULL || b == NULL)
        return a == b;
    return section_equal(SECTION_AUTH_QUERY, a, b) && effective_equal(&a->effective, &b->effective);
}

/* Raw settings, and of what they resolve to, what a connection is opened with. */
static bool lookup_equal(const struct auth_query_config *a, const struct auth_query_config *b)
{
    return section_equal(SECTION_AUTH_QUERY, a, b) && target_equal(&a->effective, &b->effective) &&
           tls_equal(&a->effective, &b->effective);
}

bool config_pool_same(const struct pool_config *a, const struct pool_config *b)
{
    if (a == NULL || b == NULL || a->user_count != b->user_count ||
        (a->auth_query == NULL) != (b->auth_query == NULL) || !section_equal(SECTION_POOL, a, b) ||
        (a->auth_query != NULL && !lookup_equal(a->auth_query, b->auth_query)))
        return false;
    for (size_t i = 0; i < a->user_count; i++) {
        const struct user_config *other = config_user(b, a->users[i].username);

        if (other == NULL || !section_equal(SECTION_USER, &a->users[i], other))
            return false;
    }
    return true;
}

static bool hba_equal(const struct config *a, const struct config *b)
{
    /* The rules alone: comments and empty lines do not count. */
    char *x = hba_text(a->hba);
    char *y = hba_text(b->hba);
    bool equal = (a->general.pg_hba == NULL) == (b->general.pg_hba == NULL) && text_equal(x, y);

    free(x);
    free(y);
    return equal;
}

bool config_equal(const struct config *a, const struct config *b)
{
    if (a->pool_count != b->pool_count || a->talos.given != b->talos.given ||
        !section_equal(SECTION_GENERAL, &a->general, &b->general) ||
        !section_equal(SECTION_WEB, &a->web, &b->web) ||
        !section_equal(SECTION_TALOS, &a->talos, &b->talos) || !hba_equal(a, b) ||
        memcmp(a->files_digest, b->files_digest, sizeof a->files_digest) != 0)
        return false;
    for (size_t i = 0; i < a->pool_count; i++) {
        const struct pool_config *p = &a->pools[i];
        const struct pool_config *q = &b->pools[i];
        if (strcmp(p->name, q->name) != 0 || !section_equal(SECTION_POOL, p, q) ||
            !users_equal(p, q) || !auth_query_equal(p->auth_query, q->auth_query))
            return false;
    }
    return true;
}
