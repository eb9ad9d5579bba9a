#include "auth/secret.h"

#include "auth/scram_keys.h"

#include <openssl/md5.h>
#include <openssl/mem.h>
#include <stdlib.h>

static bool is_md5_form(const char *stored)
{
    return strlen(stored) == MD5_TEXT && strncmp(stored, "md5", 3) == 0 &&
           strspn(stored + 3, "0123456789abcdef") == MD5_TEXT - 3;
}

enum secret_kind secret_kind(const char *stored)
{
    struct scram_verifier verifier;

    if (stored[0] == '\0')
        return SECRET_EMPTY;
    if (is_md5_form(stored))
        return SECRET_MD5;
    if (strncmp(stored, "jwt-pkey-fpath:", strlen("jwt-pkey-fpath:")) == 0)
        return SECRET_JWT;
    if (scram_verifier_parse(&verifier, stored) == 0) {
        OPENSSL_cleanse(&verifier, sizeof(verifier));
        return SECRET_SCRAM;
    }
    return SECRET_PLAIN;
}

/* The text up to the separator, which is stepped over. False: there is none. */
static bool take_until(const char **at, char separator, struct bytes *out)
{
    const char *end = strchr(*at, separator);

    if (end == NULL)
        return false;
    *out = (struct bytes){(const uint8_t *)*at, (size_t)(end - *at)};
    *at = end + 1;
    return true;
}

int scram_verifier_parse(struct scram_verifier *out, const char *stored)
{
    struct scram_verifier v = {0};
    const char *at = stored;
    struct bytes scheme;
    struct bytes iterations;
    struct bytes salt;
    struct bytes stored_key;
    size_t salt_len = 0;
    int result = -1;

    if (!take_until(&at, '$', &scheme) || !take_until(&at, ':', &iterations) ||
        !take_until(&at, '$', &salt) || !take_until(&at, ':', &stored_key))
        return -1;
    if (bytes_equal(scheme, bytes_of("SCRAM-SHA-256")) &&
        parse_iterations(&v.iterations, iterations, INT32_MAX) == 0 &&
        base64_decode(v.salt, sizeof(v.salt), &salt_len, salt) == 0 && salt_len > 0 &&
        base64_decode_key(v.stored_key, stored_key) == 0 &&
        base64_decode_key(v.server_key, bytes_of(at)) == 0) {
        v.salt_len = (uint32_t)salt_len;
        *out = v;
        result = 0;
    }
    OPENSSL_cleanse(&v, sizeof(v));
    return result;
}

void scram_verifier_derive(struct scram_verifier *out, const char *password, const uint8_t *salt,
                           size_t salt_len, uint32_t iterations)
{
    uint8_t salted[SCRAM_KEY];
    uint8_t client_key[SCRAM_KEY];

    INVARIANT(salt_len > 0 && salt_len <= SCRAM_SALT_MAX && iterations > 0);
    *out = (struct scram_verifier){.iterations = iterations, .salt_len = (uint32_t)salt_len};
    memcpy(out->salt, salt, salt_len);
    scram_salted_password(salted, password, salt, salt_len, iterations);
    scram_derive_key(client_key, salted, "Client Key");
    scram_stored_key(out->stored_key, client_key);
    scram_derive_key(out->server_key, salted, "Server Key");
    OPENSSL_cleanse(salted, sizeof(salted));
    OPENSSL_cleanse(client_key, sizeof(client_key));
}

bool scram_verifier_matches(const struct scram_verifier *verifier, const char *password,
                            uint8_t client_key[SCRAM_KEY])
{
    uint8_t salted[SCRAM_KEY];
    uint8_t stored_key[SCRAM_KEY];

    scram_salted_password(salted, password, verifier->salt, verifier->salt_len,
                          verifier->iterations);
    scram_derive_key(client_key, salted, "Client Key");
    scram_stored_key(stored_key, client_key);
    OPENSSL_cleanse(salted, sizeof(salted));
    bool right = secret_equal(stored_key, SCRAM_KEY, verifier->stored_key, SCRAM_KEY);
    if (!right)
        OPENSSL_cleanse(client_key, SCRAM_KEY);
    return right;
}

static void md5_text(char *out, const void *a, size_t a_len, const void *b, size_t b_len)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t digest[MD5_DIGEST_LENGTH];
    MD5_CTX ctx;

    MD5_Init(&ctx);
    MD5_Update(&ctx, a, a_len);
    MD5_Update(&ctx, b, b_len);
    MD5_Final(digest, &ctx);
    memcpy(out, "md5", 3);
    for (size_t i = 0; i < sizeof(digest); i++) {
        out[3 + 2 * i] = digits[digest[i] >> 4];
        out[4 + 2 * i] = digits[digest[i] & 15];
    }
    out[MD5_TEXT] = '\0';
    OPENSSL_cleanse(&ctx, sizeof(ctx));
    OPENSSL_cleanse(digest, sizeof(digest));
}

void md5_stored(char *out, const char *password, const char *user)
{
    md5_text(out, password, strlen(password), user, strlen(user));
}

void md5_response(char *out, const char *stored, const uint8_t salt[4])
{
    INVARIANT(strlen(stored) == MD5_TEXT);
    md5_text(out, stored + 3, MD5_TEXT - 3, salt, 4);
}

bool secret_equal(const void *a, size_t a_len, const void *b, size_t b_len)
{
    return a_len == b_len && CRYPTO_memcmp(a, b, a_len) == 0;
}
