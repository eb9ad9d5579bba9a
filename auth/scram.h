/* scram.h: SCRAM-SHA-256 (RFC 5802, RFC 7677), both roles. Pure; no allocation.
 *
 * Server role (client -> pooler):   first -> writes server-first;  final -> writes server-final.
 * Client role (pooler -> server):   begin -> client-first; challenge -> client-final; verify.
 * Text is bounded; a message that does not fit or parse is a failure with a reason for the log.
 */
#ifndef AUTH_SCRAM_H
#define AUTH_SCRAM_H

#include "auth/secret.h"

struct scram_server {
    struct scram_verifier verifier;
    uint8_t client_key[SCRAM_KEY]; /* recovered from a right proof: good for pass-through */
    char gs2_flag;                 /* 'n' or 'y' */
    uint16_t client_first_bare_len;
    uint16_t server_first_len;
    char client_first_bare[SCRAM_NONCE_MAX + 128];
    char server_first[SCRAM_NONCE_MAX + 256];
};

/* Salt and iterations that a user who does not exist would have: always the same for one name, as
 * far as one secret of 32 bytes goes (RFC 5802 asks for that in section 9; PostgreSQL does
 * likewise). The keys are left alone. */
void scram_mock_salt(struct scram_verifier *out, const uint8_t secret[SCRAM_KEY],
                     const char *database, const char *user);

enum scram_verdict { SCRAM_OK, SCRAM_MALFORMED, SCRAM_WRONG };

/* Handles SASLInitialResponse's data (client-first-message). `nonce` is 18 random bytes of the
 * caller (so that tests are repeatable). On OK server_first holds the reply. */
enum scram_verdict scram_server_first(struct scram_server *s, struct bytes message,
                                      const uint8_t nonce[18], struct failure *why);
/* Handles client-final-message; writes server-final ("v=...") to out (at least 64 bytes) and sets
 * client_key. WRONG: proof, nonce or channel binding does not hold. */
enum scram_verdict scram_server_final(struct scram_server *s, struct bytes message, char *out,
                                      struct failure *why);

/* What the pooler proves itself with: a plain password, or keys recovered from a client. */
struct scram_client {
    const char *password; /* borrowed; NULL: use the keys */
    uint8_t client_key[SCRAM_KEY];
    uint8_t server_key[SCRAM_KEY];
    uint8_t server_signature[SCRAM_KEY];
    bool proved; /* a challenge was answered: server_signature is known */
    char nonce[32];
    char client_first_bare[64];
};
/* Writes client-first-message to out (128 bytes are enough). */
void scram_client_begin(struct scram_client *c, const uint8_t random[18], char *out, size_t size);
/* Answers server-first with client-final in out (SCRAM_NONCE_MAX + 256). With a password this
 * derives keys (slow: PBKDF2; call it on a helper thread). Iterations above 10,000,000 are
 * refused. */
MUST_CHECK int scram_client_challenge(struct scram_client *c, struct bytes server_first, char *out,
                                      size_t size, struct failure *why);
/* Checks server-final's signature, always; fails if no challenge was answered before. */
MUST_CHECK int scram_client_verify(struct scram_client *c, struct bytes server_final,
                                   struct failure *why);

#endif
