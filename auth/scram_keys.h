/* scram_keys.h: the arithmetic shared by both roles of SCRAM-SHA-256. Pure; for auth/ only. */
#ifndef AUTH_SCRAM_KEYS_H
#define AUTH_SCRAM_KEYS_H

#include "auth/secret.h"

enum { SCRAM_KEY_TEXT = 44, SCRAM_ITERATIONS_LIMIT = 10000000 };

/* SaltedPassword of RFC 5802: PBKDF2 over the prepared password. Slow. */
void scram_salted_password(uint8_t out[SCRAM_KEY], const char *password, const uint8_t *salt,
                           size_t salt_len, uint32_t iterations);
/* HMAC(salted, label): label is "Client Key" or "Server Key". */
void scram_derive_key(uint8_t out[SCRAM_KEY], const uint8_t salted[SCRAM_KEY], const char *label);
void scram_stored_key(uint8_t out[SCRAM_KEY], const uint8_t client_key[SCRAM_KEY]);
/* HMAC over client-first-bare, server-first and client-final-without-proof, joined by commas. */
void scram_signature(uint8_t out[SCRAM_KEY], const uint8_t key[SCRAM_KEY], struct bytes first_bare,
                     struct bytes server_first, struct bytes without_proof);
static inline void scram_xor(uint8_t out[SCRAM_KEY], const uint8_t a[SCRAM_KEY],
                             const uint8_t b[SCRAM_KEY])
{
    for (size_t i = 0; i < SCRAM_KEY; i++)
        out[i] = a[i] ^ b[i];
}

/* Standard base64 with padding. Decoding fails when more than max bytes would come out. The
 * encoder writes a NUL; out has (len + 2) / 3 * 4 + 1 bytes. */
MUST_CHECK int base64_decode(uint8_t *out, size_t max, size_t *len, struct bytes text);
MUST_CHECK int base64_decode_key(uint8_t out[SCRAM_KEY], struct bytes text);
void base64_encode(char *out, const uint8_t *in, size_t len);
/* Decimal digits only, 1..limit. */
MUST_CHECK int parse_iterations(uint32_t *out, struct bytes text, uint32_t limit);

/* Takes "<name>=<value>" off the front of *text, and the comma behind it. *more says whether there
 * was a comma. -1 when the front is something else. */
MUST_CHECK int scram_take(struct bytes *text, char name, struct bytes *value, bool *more);
/* Are these "<letter>=<value>" pairs, none of them the mandatory extension "m"? */
bool scram_extensions_ok(struct bytes text);
/* Printable ASCII without comma, 1..SCRAM_NONCE_MAX. */
bool scram_nonce_ok(struct bytes nonce);

#endif
