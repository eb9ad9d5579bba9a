#include "auth/scram.h"

#include "auth/scram_keys.h"

#include <openssl/mem.h>
#include <stdio.h>

void scram_client_begin(struct scram_client *c, const uint8_t random[18], char *out, size_t size)
{
    c->proved = false;
    base64_encode(c->nonce, random, 18);
    /* The server takes the user name from the startup packet. */
    snprintf(c->client_first_bare, sizeof(c->client_first_bare), "n=,r=%s", c->nonce);
    int len = snprintf(out, size, "n,,%s", c->client_first_bare);
    INVARIANT(len > 0 && (size_t)len < size);
}

struct server_first {
    struct bytes nonce;
    uint8_t salt[SCRAM_SALT_MAX];
    size_t salt_len;
    uint32_t iterations;
};

/* Exactly r, s and i. The nonce must continue ours, or an old answer could be replayed. */
static int parse_server_first(struct server_first *out, struct bytes text, const char *own_nonce,
                              struct failure *why)
{
    struct bytes own = bytes_of(own_nonce);
    struct bytes salt;
    struct bytes iterations;
    bool more;

    if (scram_take(&text, 'r', &out->nonce, &more) != 0 || !more ||
        scram_take(&text, 's', &salt, &more) != 0 || !more ||
        scram_take(&text, 'i', &iterations, &more) != 0 || more)
        return fail(why, "malformed SCRAM challenge of the server");
    if (!scram_nonce_ok(out->nonce) || out->nonce.len <= own.len ||
        memcmp(out->nonce.at, own.at, own.len) != 0)
        return fail(why, "nonce of the server's SCRAM challenge does not continue ours");
    if (base64_decode(out->salt, sizeof(out->salt), &out->salt_len, salt) != 0 ||
        out->salt_len == 0)
        return fail(why, "salt of the server's SCRAM challenge is not usable");
    if (parse_iterations(&out->iterations, iterations, SCRAM_ITERATIONS_LIMIT) != 0)
        return fail(why, "iteration count of the server's SCRAM challenge is not within 1..%d",
                    SCRAM_ITERATIONS_LIMIT);
    return 0;
}

static void client_keys(const struct scram_client *c, const struct server_first *challenge,
                        uint8_t client_key[SCRAM_KEY], uint8_t server_key[SCRAM_KEY])
{
    uint8_t salted[SCRAM_KEY];

    if (c->password == NULL) {
        memcpy(client_key, c->client_key, SCRAM_KEY);
        memcpy(server_key, c->server_key, SCRAM_KEY);
        return;
    }
    scram_salted_password(salted, c->password, challenge->salt, challenge->salt_len,
                          challenge->iterations);
    scram_derive_key(client_key, salted, "Client Key");
    scram_derive_key(server_key, salted, "Server Key");
    OPENSSL_cleanse(salted, sizeof(salted));
}

/* Writes the base64 of the proof, and notes the signature that the server must show. */
static void client_prove(struct scram_client *c, const struct server_first *challenge,
                         struct bytes server_first, struct bytes without_proof,
                         char proof_text[SCRAM_KEY_TEXT + 1])
{
    uint8_t client_key[SCRAM_KEY];
    uint8_t server_key[SCRAM_KEY];
    uint8_t stored_key[SCRAM_KEY];
    uint8_t signature[SCRAM_KEY];
    uint8_t proof[SCRAM_KEY];
    struct bytes first_bare = bytes_of(c->client_first_bare);

    client_keys(c, challenge, client_key, server_key);
    scram_stored_key(stored_key, client_key);
    scram_signature(signature, stored_key, first_bare, server_first, without_proof);
    scram_xor(proof, client_key, signature);
    base64_encode(proof_text, proof, sizeof(proof));
    scram_signature(c->server_signature, server_key, first_bare, server_first, without_proof);
    OPENSSL_cleanse(client_key, sizeof(client_key));
    OPENSSL_cleanse(server_key, sizeof(server_key));
    OPENSSL_cleanse(signature, sizeof(signature));
}

int scram_client_challenge(struct scram_client *c, struct bytes server_first, char *out,
                           size_t size, struct failure *why)
{
    struct server_first challenge;
    char proof_text[SCRAM_KEY_TEXT + 1];

    if (parse_server_first(&challenge, server_first, c->nonce, why) != 0)
        return -1;

    int len = snprintf(out, size, "c=biws,r=%.*s", (int)challenge.nonce.len,
                       (const char *)challenge.nonce.at);
    if (len < 0 || (size_t)len + strlen(",p=") + sizeof(proof_text) > size)
        return fail(why, "no room for the SCRAM answer");
    client_prove(c, &challenge, server_first, (struct bytes){(const uint8_t *)out, (size_t)len},
                 proof_text);
    snprintf(out + len, size - (size_t)len, ",p=%s", proof_text);
    c->proved = true;
    return 0;
}

int scram_client_verify(struct scram_client *c, struct bytes server_final, struct failure *why)
{
    uint8_t signature[SCRAM_KEY];
    struct bytes value;
    bool more;

    if (scram_take(&server_final, 'e', &value, &more) == 0)
        return fail(why, "server refused SCRAM: %.*s", (int)MIN(value.len, (size_t)100),
                    (const char *)value.at);
    if (scram_take(&server_final, 'v', &value, &more) != 0 ||
        base64_decode_key(signature, value) != 0 || (more && !scram_extensions_ok(server_final)))
        return fail(why, "malformed last SCRAM message of the server");
    /* Without a challenge there is no signature to compare with, but 32 bytes that are known. */
    if (!c->proved || !secret_equal(signature, SCRAM_KEY, c->server_signature, SCRAM_KEY))
        return fail(why, "signature of the server does not match: it does not know the password");
    return 0;
}
