/* validate_tls.c: TLS modes, and the files that they need. */
#include "config/effective.h"
#include "config/tls_files.h"
#include "config/validate.h"

#include <strings.h>

static const char *const server_tls_modes[] = {
    [SERVER_TLS_DISABLE] = "disable",     [SERVER_TLS_ALLOW] = "allow",
    [SERVER_TLS_PREFER] = "prefer",       [SERVER_TLS_REQUIRE] = "require",
    [SERVER_TLS_VERIFY_CA] = "verify-ca", [SERVER_TLS_VERIFY_FULL] = "verify-full"};
static const char *const client_tls_modes[] = {[CLIENT_TLS_DISABLE] = "disable",
                                               [CLIENT_TLS_ALLOW] = "allow",
                                               [CLIENT_TLS_REQUIRE] = "require",
                                               [CLIENT_TLS_VERIFY_FULL] = "verify-full"};

int server_tls_mode_parse(const char *text)
{
    for (size_t i = 0; i < COUNT_OF(server_tls_modes); i++)
        if (strcasecmp(text, server_tls_modes[i]) == 0)
            return (int)i;
    return -1;
}

static int client_tls_mode_parse(const char *text)
{
    for (size_t i = 0; i < COUNT_OF(client_tls_modes); i++)
        if (strcmp(text, client_tls_modes[i]) == 0)
            return (int)i;
    return -1;
}

static void warn_expiry(struct validator *v, const char *path)
{
    int32_t days = certificate_days_left(path);

    if (days < 0)
        note(v->warnings, "the certificate in %s has expired", path);
    else if (days < 30)
        note(v->warnings, "the certificate in %s expires in %d days", path, days);
}

static int validate_client_mode(struct validator *v)
{
    struct general_config *g = &v->config->general;
    const struct tree *node = node_of(v, "general", "tls_mode", NULL);

    g->tls_mode_value = CLIENT_TLS_ALLOW;
    if (g->tls_mode == NULL)
        return 0;
    int mode = client_tls_mode_parse(g->tls_mode);
    if (mode < 0)
        return refuse(v, node, "Invalid tls_mode: %.100s", g->tls_mode);
    g->tls_mode_value = (enum client_tls_mode)mode;
    if (mode < CLIENT_TLS_REQUIRE)
        return 0;
    if (g->tls_certificate == NULL || g->tls_private_key == NULL)
        return refuse(v, node, "tls_mode is %s but tls_certificate or tls_private_key is not",
                      g->tls_mode);
    if (mode == CLIENT_TLS_VERIFY_FULL && g->tls_ca_cert == NULL)
        return refuse(v, node, "tls_mode is verify-full but tls_ca_cert is not set");
#ifndef __linux__
    if (mode == CLIENT_TLS_VERIFY_FULL)
        return refuse(v, node, "tls_mode verify-full is supported only on linux");
#endif
    return 0;
}

int validate_client_tls(struct validator *v)
{
    const struct general_config *g = &v->config->general;
    struct failure reason;

    if (g->tls_private_key != NULL && g->tls_certificate == NULL)
        return refuse(v, node_of(v, "general", "tls_private_key", NULL),
                      "tls_private_key is set but tls_certificate is not");
    if (g->tls_certificate != NULL && g->tls_private_key == NULL)
        return refuse(v, node_of(v, "general", "tls_certificate", NULL),
                      "tls_certificate is set but tls_private_key is not");
    if (validate_client_mode(v) != 0)
        return -1;
    /* With TLS off the files are not read, so they need not be good either. */
    if (g->tls_certificate == NULL || g->tls_mode_value == CLIENT_TLS_DISABLE)
        return 0;
    if (identity_check(g->tls_certificate, g->tls_private_key, &reason) != 0 ||
        (g->tls_mode_value == CLIENT_TLS_VERIFY_FULL &&
         certificate_bundle_check(g->tls_ca_cert, &reason) != 0))
        return refuse(v, node_of(v, "general", "tls_certificate", NULL),
                      "tls is incorrectly configured: %s", reason.text);
    warn_expiry(v, g->tls_certificate);
    return 0;
}

/* Where a key of the pool stands: in its own section, or in general. */
static const struct tree *inherited_node(const struct validator *v, const struct pool_config *pool,
                                         const char *key)
{
    const struct tree *table = pool == NULL ? NULL
                                            : tree_get(tree_get(v->root, "pools"), pool->name);
    const struct tree *own = tree_get(table, key);

    return own != NULL ? own : node_of(v, "general", key, NULL);
}

static int check_server_files(struct validator *v, const struct pool_config *pool,
                              const struct server_tls *tls, const char *scope)
{
    struct failure reason;

    if (tls->mode == SERVER_TLS_DISABLE)
        return 0;
    if (tls->ca_cert != NULL && certificate_bundle_check(tls->ca_cert, &reason) != 0)
        return refuse(v, inherited_node(v, pool, "server_tls_ca_cert"), "%s%s", scope, reason.text);
    if (tls->certificate == NULL)
        return 0;
    if (identity_check(tls->certificate, tls->private_key, &reason) != 0)
        return refuse(v, inherited_node(v, pool, "server_tls_certificate"),
                      "%sFailed to load server TLS client identity from %s and %s: %s", scope,
                      tls->certificate, tls->private_key, reason.text);
    warn_expiry(v, tls->certificate);
    return 0;
}

static int validate_general_server_tls(struct validator *v)
{
    const struct general_config *g = &v->config->general;
    int mode = server_tls_mode_parse(g->server_tls_mode);
    const struct tree *node = node_of(v, "general", "server_tls_mode", NULL);

    if (mode < 0)
        return refuse(v, node, "invalid server_tls_mode: %.100s", g->server_tls_mode);
    if (mode >= SERVER_TLS_VERIFY_CA && g->server_tls_ca_cert == NULL)
        return refuse(v, node, "server_tls_mode is '%s' but server_tls_ca_cert is not set",
                      server_tls_modes[mode]);
    if (g->server_tls_certificate != NULL && g->server_tls_private_key == NULL)
        return refuse(v, node_of(v, "general", "server_tls_certificate", NULL),
                      "server_tls_certificate is set but server_tls_private_key is not");
    if (g->server_tls_certificate == NULL && g->server_tls_private_key != NULL)
        return refuse(v, node_of(v, "general", "server_tls_private_key", NULL),
                      "server_tls_private_key is set but server_tls_certificate is not");

    struct server_tls tls = server_tls_resolve(g, NULL);
    return check_server_files(v, NULL, &tls, "");
}

static int validate_pool_server_tls(struct validator *v, const struct pool_config *pool)
{
    const struct tree *mode_node = inherited_node(v, pool, "server_tls_mode");

    if (pool->server_tls_mode != NULL && server_tls_mode_parse(pool->server_tls_mode) < 0)
        return refuse(v, mode_node, "pool '%s': invalid server_tls_mode '%.60s'", pool->name,
                      pool->server_tls_mode);
    struct server_tls tls = server_tls_resolve(&v->config->general, pool);
    if (tls.mode >= SERVER_TLS_VERIFY_CA && tls.ca_cert == NULL)
        return refuse(v, mode_node, "pool '%s': server_tls_mode is '%s' but no server_tls_ca_cert",
                      pool->name, server_tls_modes[tls.mode]);
    if (tls.certificate != NULL && tls.private_key == NULL)
        return refuse(v, inherited_node(v, pool, "server_tls_certificate"),
                      "pool '%s': server_tls_certificate without server_tls_private_key",
                      pool->name);
    if (tls.certificate == NULL && tls.private_key != NULL)
        return refuse(v, inherited_node(v, pool, "server_tls_private_key"),
                      "pool '%s': server_tls_private_key without server_tls_certificate",
                      pool->name);

    bool own = pool->server_tls_mode != NULL || pool->server_tls_ca_cert != NULL ||
               pool->server_tls_certificate != NULL || pool->server_tls_private_key != NULL;
    if (!own)
        return 0; /* the same files as general's, checked already */
    return check_server_files(v, pool, &tls, arena_format(v->arena, "pool '%s': ", pool->name));
}

int validate_server_tls(struct validator *v)
{
    if (validate_general_server_tls(v) != 0)
        return -1;
    for (size_t i = 0; i < v->config->pool_count; i++)
        if (validate_pool_server_tls(v, &v->config->pools[i]) != 0)
            return -1;
    return 0;
}
