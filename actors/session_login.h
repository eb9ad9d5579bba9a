/* session_login.h: what the files of the login share. */
#ifndef ACTORS_SESSION_LOGIN_H
#define ACTORS_SESSION_LOGIN_H

#include "actors/session.h"

/* Decides the method and sends the challenge. True: no proof is needed (trust). Otherwise the phase
 * says what is awaited, or the session was ended. */
bool session_auth_start(struct worker *w, struct session *s, const struct hba_peer *peer);
void session_auth_admin(struct worker *w, struct session *s);
/* A message in phase AUTH. True: proven. */
bool session_auth_input(struct worker *w, struct session *s);
/* What a helper thread has found out, in phase DERIVING. True: proven. */
bool session_auth_derived(struct worker *w, struct session *s, const struct message *m);
/* A right proof reveals the ClientKey, with which the pooler logs in as this user: kept if that is
 * what its backends wait for. False: the secret has become another one meanwhile. */
bool session_auth_promote(struct pool_shared *shared, const struct scram_verifier *verifier,
                          const uint8_t client_key[SCRAM_KEY]);
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
