#include "auth/hba.h"
#include "config/derive.h"
#include "config/effective.h"
#include "config/tls_files.h"
#include "config/validate.h"

#include <stdlib.h>

/* A configuration and the memory of everything in it. */
struct loaded {
    struct config config;
    struct arena arena;
};

/* Files that others read later: their contents are part of what the configuration means. */
static void digest_files(struct config *c)
{
    static const char jwt[] = "jwt-pkey-fpath:";
    const struct general_config *g = &c->general;
    const char *files[] = {g->tls_certificate, g->tls_private_key, g->tls_ca_cert,
                           c->web.sso_public_key_file};

    files_digest(c->files_digest, files, COUNT_OF(files));
    files_digest(c->files_digest, (const char *const *)c->talos.keys.items, c->talos.keys.count);
    for (size_t i = 0; i < c->pool_count; i++) {
        for (size_t j = 0; j < c->pools[i].user_count; j++) {
            const char *password = c->pools[i].users[j].password;
            const char *path = password + sizeof jwt - 1;
            if (strncmp(password, jwt, sizeof jwt - 1) == 0)
                files_digest(c->files_digest, &path, 1);
        }
    }
}

static int load_into(struct loaded *l, struct arena *scratch, const char *path, struct failure *why)
{
    struct config *c = &l->config;
    struct notes warnings = {.arena = &l->arena, .list = &c->warnings};
    struct notes remarks = {.arena = &l->arena, .list = &c->remarks};
    struct decoder decoder = {.arena = &l->arena, .warnings = &warnings};
    struct failure reason;
    struct tree *root;

    decoder.why = &reason;
    if (document_read(&root, scratch, path, &warnings, &remarks, &reason) != 0 ||
        config_decode(&decoder, c, root) != 0)
        return fail(why, "Configuration error: %s", reason.text);
    c->path = arena_text(&l->arena, path);
    struct validator validator = {
        .config = c, .root = root, .arena = scratch, .warnings = &warnings, .why = why};
    if (config_validate(&validator) != 0)
        return -1;
    config_resolve(c, &l->arena);
    digest_files(c);
    return 0;
}

int config_load(struct config **out, const char *path, struct failure *why)
{
    struct loaded *l = calloc(1, sizeof *l);
    struct arena scratch = {0};

    INVARIANT(l != NULL);
    l->config.references_ = 1;
    int result = load_into(l, &scratch, path, why);
    arena_free(&scratch);
    if (result == 0)
        *out = &l->config;
    else
        config_unref(&l->config);
    return result;
}

struct config *config_ref(struct config *c)
{
    __atomic_add_fetch(&c->references_, 1, __ATOMIC_RELAXED);
    return c;
}

void config_unref(struct config *c)
{
    if (c == NULL || __atomic_sub_fetch(&c->references_, 1, __ATOMIC_ACQ_REL) != 0)
        return;

    struct loaded *l = CONTAINER_OF(c, struct loaded, config);
    if (c->hba != NULL)
        hba_unref(c->hba);
    derived_free(c->derived_);
    arena_free(&l->arena);
    free(l);
}

static int pool_compare(const void *name, const void *pool)
{
    return strcmp(name, ((const struct pool_config *)pool)->name);
}

const struct pool_config *config_pool(const struct config *c, const char *database)
{
    if (c->pool_count == 0)
        return NULL;
    return bsearch(database, c->pools, c->pool_count, sizeof *c->pools, pool_compare);
}

const struct user_config *config_user(const struct pool_config *pool, const char *user)
{
    for (size_t i = 0; i < pool->user_count; i++)
        if (strcmp(pool->users[i].username, user) == 0)
            return &pool->users[i];
    return NULL;
}
