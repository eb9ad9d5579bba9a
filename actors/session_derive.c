/* Keys of passwords, which take milliseconds: on a helper thread, while the session waits in phase
 * DERIVING. Either a plain secret gets a verifier, once, so that its clients can be asked for
 * SCRAM; or a password that a client sent is compared with the verifier that is configured. */
#define LOG_MODULE "pg_doorman::auth"
#include "actors/session_login.h"

#include "runtime/log.h"
#include "runtime/offload.h"

#include <openssl/mem.h>
#include <stdlib.h>

enum { SCRAM_ITERATIONS = 4096, AD_HOC_SALT = 16 };

struct derivation {
    struct pool_shared *shared;
    actor_id session;
    bool check;
    bool right;
    char *password;
    struct scram_verifier verifier;
    uint8_t client_key[SCRAM_KEY];
};

static void derive(void *argument)
{
    struct derivation *d = argument;
    uint8_t salt[AD_HOC_SALT];

    if (d->check) {
        d->right = scram_verifier_matches(&d->verifier, d->password, d->client_key);
        return;
    }
    random_secret(salt, sizeof salt);
    scram_verifier_derive(&d->verifier, d->password, salt, sizeof salt, SCRAM_ITERATIONS);
}

/* Whoever came first wins: all exchanges share one salt. The secret may be a new one by now. */
static void keep_verifier(struct derivation *d)
{
    struct pool_shared *shared = d->shared;

    pthread_mutex_lock(&shared->lock);
    if (!shared->verifier_known && shared->secret != NULL &&
        strcmp(shared->secret, d->password) == 0) {
        shared->verifier = d->verifier;
        shared->verifier_known = true;
    }
    pthread_mutex_unlock(&shared->lock);
}

static void derive_and_tell(struct coroutine *co, void *argument)
{
    struct derivation *d = argument;

    if (offload_run(co->worker, derive, d) != 0)
        d->right = false; /* the process ends */
    else if (!d->check)
        keep_verifier(d);
    else if (d->right)
        d->right = session_auth_promote(d->shared, &d->verifier, d->client_key);
    actor_tell(co->worker, d->session, MESSAGE(DERIVED_KEYS, .right = d->right));
    OPENSSL_cleanse(d->password, strlen(d->password));
    free(d->password);
    OPENSSL_cleanse(d, sizeof *d);
    free(d);
}

static struct derivation *derivation_of(struct session *s, const char *password)
{
    struct derivation *d = calloc(1, sizeof *d);

    INVARIANT(d != NULL);
    d->shared = s->shared;
    d->session = actor_id_of(&s->actor);
    d->password = strdup(password);
    INVARIANT(d->password != NULL);
    return d;
}

void session_derive_verifier(struct worker *w, struct session *s, const char *secret)
{
    session_go(s, SESSION_DERIVING);
    worker_spawn(w, derive_and_tell, derivation_of(s, secret));
}

void session_derive_check(struct worker *w, struct session *s, const char *password)
{
    struct derivation *d = derivation_of(s, password);

    d->check = true;
    d->verifier = s->login->scram.verifier;
    session_go(s, SESSION_DERIVING);
    worker_spawn(w, derive_and_tell, d);
}
