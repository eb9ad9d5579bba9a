#include "auth/scram_keys.h"

#include "auth/scram.h"

#include <openssl/base64.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/mem.h>
#include <openssl/sha.h>
#include <stdlib.h>

enum { MOCK_SALT = 16, MOCK_ITERATIONS = 4096 }; /* PostgreSQL's own */

void scram_salted_password(uint8_t out[SCRAM_KEY], const char *password, const uint8_t *salt,
                           size_t salt_len, uint32_t iterations)
{
    char *prepared = saslprep(password);
    /* Without memory the raw bytes give a key that at worst does not fit: the login fails. */
    const char *used = prepared != NULL ? prepared : password;

    INVARIANT(PKCS5_PBKDF2_HMAC(used, strlen(used), salt, salt_len, iterations, EVP_sha256(),
                                SCRAM_KEY, out) == 1);
    if (prepared != NULL) {
        OPENSSL_cleanse(prepared, strlen(prepared));
        free(prepared);
    }
}

void scram_derive_key(uint8_t out[SCRAM_KEY], const uint8_t salted[SCRAM_KEY], const char *label)
{
    INVARIANT(HMAC(EVP_sha256(), salted, SCRAM_KEY, (const uint8_t *)label, strlen(label), out,
                   NULL) != NULL);
}

void scram_stored_key(uint8_t out[SCRAM_KEY], const uint8_t client_key[SCRAM_KEY])
{
    SHA256(client_key, SCRAM_KEY, out);
}

void scram_signature(uint8_t out[SCRAM_KEY], const uint8_t key[SCRAM_KEY], struct bytes first_bare,
                     struct bytes server_first, struct bytes without_proof)
{
    static const uint8_t comma[] = {','};
    HMAC_CTX ctx;
    bool ok;

    HMAC_CTX_init(&ctx);
    ok = HMAC_Init_ex(&ctx, key, SCRAM_KEY, EVP_sha256(), NULL) == 1 &&
         HMAC_Update(&ctx, first_bare.at, first_bare.len) == 1 &&
         HMAC_Update(&ctx, comma, 1) == 1 &&
         HMAC_Update(&ctx, server_first.at, server_first.len) == 1 &&
         HMAC_Update(&ctx, comma, 1) == 1 &&
         HMAC_Update(&ctx, without_proof.at, without_proof.len) == 1 &&
         HMAC_Final(&ctx, out, NULL) == 1;
    HMAC_CTX_cleanup(&ctx);
    INVARIANT(ok);
}

int base64_decode(uint8_t *out, size_t max, size_t *len, struct bytes text)
{
    uint8_t room[SCRAM_SALT_MAX + 3]; /* the decoder wants room for the padding too */
    size_t decoded;
    int result = -1;

    if (text.len / 4 * 3 > sizeof(room))
        return -1;
    if (EVP_DecodeBase64(room, &decoded, sizeof(room), text.at, text.len) == 1 && decoded <= max) {
        memcpy(out, room, decoded);
        *len = decoded;
        result = 0;
    }
    OPENSSL_cleanse(room, sizeof(room));
    return result;
}

int base64_decode_key(uint8_t out[SCRAM_KEY], struct bytes text)
{
    size_t len;

    if (text.len != SCRAM_KEY_TEXT || base64_decode(out, SCRAM_KEY, &len, text) != 0)
        return -1;
    return len == SCRAM_KEY ? 0 : -1;
}

void base64_encode(char *out, const uint8_t *in, size_t len)
{
    EVP_EncodeBlock((uint8_t *)out, in, len);
}

int parse_iterations(uint32_t *out, struct bytes text, uint32_t limit)
{
    uint64_t v = 0;

    if (text.len == 0)
        return -1;
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] < '0' || text.at[i] > '9')
            return -1;
        v = v * 10 + (uint64_t)(text.at[i] - '0');
        if (v > limit)
            return -1;
    }
    if (v == 0)
        return -1;
    *out = (uint32_t)v;
    return 0;
}

int scram_take(struct bytes *text, char name, struct bytes *value, bool *more)
{
    const uint8_t *comma;

    if (text->len < 2 || text->at[0] != (uint8_t)name || text->at[1] != '=')
        return -1;
    comma = memchr(text->at, ',', text->len);
    *more = comma != NULL;
    value->at = text->at + 2;
    value->len = (comma != NULL ? (size_t)(comma - text->at) : text->len) - 2;

    size_t used = 2 + value->len + (comma != NULL);
    text->at += used;
    text->len -= used;
    return 0;
}

bool scram_extensions_ok(struct bytes text)
{
    bool more = true;

    while (more) {
        struct bytes value;
        uint8_t name = text.len > 0 ? text.at[0] : 0;
        bool letter = (name >= 'a' && name <= 'z') || (name >= 'A' && name <= 'Z');

        if (!letter || name == 'm' || scram_take(&text, (char)name, &value, &more) != 0 ||
            value.len == 0)
            return false;
    }
    return true;
}

bool scram_nonce_ok(struct bytes nonce)
{
    if (nonce.len == 0 || nonce.len > SCRAM_NONCE_MAX)
        return false;
    for (size_t i = 0; i < nonce.len; i++)
        if (nonce.at[i] < 0x21 || nonce.at[i] > 0x7e || nonce.at[i] == ',')
            return false;
    return true;
}

void scram_mock_salt(struct scram_verifier *out, const uint8_t secret[SCRAM_KEY],
                     const char *database, const char *user)
{
    static const char label[] = "mock-salt"; /* with its NUL */
    uint8_t digest[SHA256_DIGEST_LENGTH];
    HMAC_CTX ctx;
    bool ok;

    HMAC_CTX_init(&ctx);
    ok = HMAC_Init_ex(&ctx, secret, SCRAM_KEY, EVP_sha256(), NULL) == 1 &&
         HMAC_Update(&ctx, (const uint8_t *)label, sizeof label) == 1 &&
         HMAC_Update(&ctx, (const uint8_t *)database, strlen(database) + 1) == 1 &&
         HMAC_Update(&ctx, (const uint8_t *)user, strlen(user)) == 1 &&
         HMAC_Final(&ctx, digest, NULL) == 1;
    HMAC_CTX_cleanup(&ctx);
    INVARIANT(ok);
    out->iterations = MOCK_ITERATIONS;
    out->salt_len = MOCK_SALT;
    memcpy(out->salt, digest, MOCK_SALT);
}
