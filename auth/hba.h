/* hba.h: host-based access rules: parsed once, asked at each login. Pure.
 *
 * Evaluation follows PostgreSQL's first match, with one relaxation: a password rule that cannot
 * serve the user's kind of secret passes on to further password rules only (spec/auth.md 4.5).
 * With strict off, the evaluation of 3.10 (two probes, spec/auth.md 4.3/4.4) is reproduced.
 */
#ifndef AUTH_HBA_H
#define AUTH_HBA_H

#include "auth/secret.h"

#include <sys/socket.h>

struct hba; /* immutable; shared by reference count */

struct hba_peer {
    bool local; /* Unix socket; address unused */
    bool tls;
    struct sockaddr_storage address; /* IPv4-mapped IPv6 is compared as IPv4 */
};

enum hba_method { HBA_TRUST, HBA_MD5, HBA_SCRAM, HBA_CLEARTEXT, HBA_DENY, HBA_UNUSABLE };

/* Parses rules. On a line that cannot be used: -1 and "pg_hba line N: reason". */
MUST_CHECK int hba_parse(struct hba **out, const char *text, bool strict, struct failure *why);
/* The legacy list of CIDRs (general.hba): no rules but an allow list; Unix sockets always pass;
 * an empty list passes everyone. Never trust. */
MUST_CHECK int hba_from_list(struct hba **out, const char *const *cidrs, size_t count,
                             struct failure *why);
struct hba *hba_ref(struct hba *h); /* thread-safe */
void hba_unref(struct hba *h);

/* Before the user is known: could anything but a reject or no rule answer? (gate 1, F1) */
bool hba_may_enter(const struct hba *h, const struct hba_peer *peer, const char *database,
                   const char *user);
/* How this user with this kind of secret is to prove itself. UNUSABLE: the rule lets it in, but
 * the secret cannot serve it (F9). */
enum hba_method hba_method(const struct hba *h, const struct hba_peer *peer, const char *database,
                           const char *user, enum secret_kind secret);
/* The same for the admin databases (spec/auth.md 5.8 with B11): TRUST only when the rule names
 * the database and the user is the admin. */
enum hba_method hba_admin_method(const struct hba *h, const struct hba_peer *peer,
                                 const char *database, const char *user, const char *admin_user);
/* Rules as text, one per line, for SHOW and the log. malloc'ed. */
char *hba_text(const struct hba *h);

#endif
