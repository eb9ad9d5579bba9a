/* session_login.h: what the files of the login share. */
#ifndef ACTORS_SESSION_LOGIN_H
#define ACTORS_SESSION_LOGIN_H

#include "actors/auth_query_result.h"
#include "actors/session.h"

/* Decides the method and sends the challenge. True: no proof is needed (trust). Otherwise the phase
 * says what is awaited, or the session was ended. */
bool session_auth_start(struct worker *w, struct session *s, const struct hba_peer *peer);
/* For a user that does not exist: the same, as far as a client can tell. False: let it be refused
 * at once. */
bool session_auth_mock(struct worker *w, struct session *s, const struct hba_peer *peer);
void session_auth_admin(struct worker *w, struct session *s);
/* A message in phase AUTH. True: proven. */
bool session_auth_input(struct worker *w, struct session *s);
/* What a helper thread has found out, in phase DERIVING. True: proven. */
bool session_auth_derived(struct worker *w, struct session *s, const struct message *m);
/* A right proof reveals the ClientKey, with which the pooler logs in as this user: kept if that is
 * what its backends wait for. False: the secret has become another one meanwhile. */
bool session_auth_promote(struct pool_shared *shared, const struct scram_verifier *verifier,
                          const uint8_t client_key[SCRAM_KEY]);
/* Does the answer to the MD5 challenge fit the secret that is in force? */
bool session_auth_response_fits(const struct session *s);
/* session_startup.c: the client is who it says. */
void session_authenticated(struct worker *w, struct session *s);
/* Its names, the peer's address of the login, and a long cancel key if it is to have one. */
void session_set_names(struct session *s, const char *user, const char *database,
                       const char *application);
/* Other names than the client gave; NULL: that one stays. */
void session_rename(struct session *s, const char *user);
struct hba_peer session_peer(const struct session *s);

/* --- session_lookup.c: users that auth_query has to find --- */
/* Asks for the user. The answer leads on to session_auth_start(). */
void session_lookup(struct worker *w, struct session *s, struct auth_query_state *state);
/* It answered an MD5 challenge wrongly: perhaps the secret is another one by now. True: that is so,
 * and the answer fits it. */
MUST_CHECK bool session_lookup_again(struct worker *w, struct session *s);
/* session_migrated.c: what was asked for one that was logged in before. */
void session_migrated_found(struct worker *w, struct session *s, enum lookup_outcome outcome);
/* AUTH_ANSWER came as a message. */
void session_lookup_answered(struct worker *w, struct session *s, const struct message *m);
/* It could not prove itself: it is told, and what is remembered of it is doubted. */
void session_lookup_refused(struct worker *w, struct session *s, const char *why);
/* The client is the user that was found: s->shared is the pool that it will use. False: there is
 * none, and it was told so. */
MUST_CHECK bool session_lookup_admit(struct worker *w, struct session *s);
/* No backend can be had for it: replaces what other clients are told. */
void session_lookup_no_backend(struct worker *w, struct session *s, char *sqlstate,
                               size_t state_size, char *text, size_t text_size);

/* session_derive.c: moves the session to DERIVING; DERIVED_KEYS follows. The text is copied.
 * A verifier for the plain secret of the session's user: */
void session_derive_verifier(struct worker *w, struct session *s, const char *secret);
/* Is this the password behind login->scram.verifier? */
void session_derive_check(struct worker *w, struct session *s, const char *password);
/* text NULL: no such pool. */
void session_login_refused(struct worker *w, struct session *s, const char *sqlstate,
                           const char *text);
/* A message on the console. */
void session_admin_input(struct worker *w, struct session *s);

#endif
