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
/* text NULL: no such pool. */
void session_login_refused(struct worker *w, struct session *s, const char *sqlstate,
                           const char *text);
/* A message on the console. */
void session_admin_input(struct worker *w, struct session *s);

#endif
