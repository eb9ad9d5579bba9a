/* secret.h: what a stored password is, and the two challenge methods built on it.
 *
 * Pure but for random bytes from BoringSSL. Secrets are compared in constant time, and wiped by
 * whoever owns the struct (OPENSSL_cleanse). Nothing here logs.
 */
#ifndef AUTH_SECRET_H
#define AUTH_SECRET_H

#include "runtime/base.h"

enum secret_kind { SECRET_EMPTY, SECRET_PLAIN, SECRET_MD5, SECRET_SCRAM, SECRET_JWT };

enum { SCRAM_KEY = 32, SCRAM_SALT_MAX = 128, SCRAM_NONCE_MAX = 256, MD5_TEXT = 35 };

/* SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>, decoded. */
struct scram_verifier {
    uint32_t iterations;
    uint32_t salt_len;
    uint8_t salt[SCRAM_SALT_MAX];
    uint8_t stored_key[SCRAM_KEY];
    uint8_t server_key[SCRAM_KEY];
};

/* By prefix and full form: exactly "md5" and 32 lower-case hex digits is MD5; a verifier that
 * parses whole is SCRAM; "jwt-pkey-fpath:" is JWT; else PLAIN. */
enum secret_kind secret_kind(const char *stored);
MUST_CHECK int scram_verifier_parse(struct scram_verifier *out, const char *stored);
/* A verifier for a plain password: SASLprep, PBKDF2 (slow: milliseconds; run it on a helper
 * thread). */
void scram_verifier_derive(struct scram_verifier *out, const char *password, const uint8_t *salt,
                           size_t salt_len, uint32_t iterations);
/* Is this the password behind the verifier? As slow. If so, client_key is what a right proof would
 * have revealed; else it is wiped. */
bool scram_verifier_matches(const struct scram_verifier *verifier, const char *password,
                            uint8_t client_key[SCRAM_KEY]);

/* "md5" + hex(MD5(password || user)); out has MD5_TEXT + 1 bytes. */
void md5_stored(char *out, const char *password, const char *user);
/* The answer to AuthenticationMD5Password: "md5" + hex(MD5(hex || salt)), hex being what stands
 * behind "md5" in the stored form. */
void md5_response(char *out, const char *stored, const uint8_t salt[4]);
bool secret_equal(const void *a, size_t a_len, const void *b, size_t b_len); /* constant time */

/* SASLprep (RFC 4013) as libpq applies it: falls back to the raw bytes when the password is not
 * valid UTF-8 or the profile refuses it. Returns malloc'ed text. */
char *saslprep(const char *password);

#endif
