#include "auth/scram.h"

#include "auth/scram_keys.h"

#include <openssl/mem.h>
#include <stdio.h>

static enum scram_verdict malformed(struct failure *why, const char *reason)
{
    fail(why, "malformed SCRAM message: %s", reason);
    return SCRAM_MALFORMED;
}

static enum scram_verdict wrong(struct failure *why, const char *reason)
{
    fail(why, "SCRAM: %s", reason);
    return SCRAM_WRONG;
}

/* The GS2 header: flag, comma, authorization identity, comma. Leaves *text at what follows. */
static const char *take_gs2_header(struct bytes *text, char *flag)
{
    if (text->len < 3)
        return "too short";
    *flag = (char)text->at[0];
    if (*flag == 'p')
        return "channel binding was not offered";
    if ((*flag != 'n' && *flag != 'y') || text->at[1] != ',')
        return "unknown channel binding flag";
    if (text->at[2] != ',')
        return "an authorization identity is not supported";
    text->at += 3;
    text->len -= 3;
    return NULL;
}

/* The user name is ignored, as PostgreSQL does: that of the startup packet counts. */
static const char *take_first_bare(struct bytes text, struct bytes *nonce)
{
    struct bytes name;
    bool more;

    if (text.len > 0 && text.at[0] == 'm')
        return "mandatory extensions are not supported";
    if (scram_take(&text, 'n', &name, &more) != 0 || !more)
        return "user name expected";
    if (scram_take(&text, 'r', nonce, &more) != 0)
        return "nonce expected";
    if (!scram_nonce_ok(*nonce))
        return "nonce is empty, too long or not printable";
    if (more && !scram_extensions_ok(text))
        return "extension not supported";
    return NULL;
}

enum scram_verdict scram_server_first(struct scram_server *s, struct bytes message,
                                      const uint8_t nonce[18], struct failure *why)
{
    char salt_text[(SCRAM_SALT_MAX + 2) / 3 * 4 + 1];
    char nonce_text[25];
    struct bytes bare = message;
    struct bytes client_nonce;
    const char *reason;

    INVARIANT(s->verifier.salt_len > 0 && s->verifier.salt_len <= SCRAM_SALT_MAX);
    if (message.len > 0 && memchr(message.at, 0, message.len) != NULL)
        return malformed(why, "contains a NUL byte");
    reason = take_gs2_header(&bare, &s->gs2_flag);
    if (reason != NULL)
        return malformed(why, reason);
    reason = take_first_bare(bare, &client_nonce);
    if (reason != NULL)
        return malformed(why, reason);
    if (bare.len > sizeof(s->client_first_bare))
        return malformed(why, "too long");
    memcpy(s->client_first_bare, bare.at, bare.len);
    s->client_first_bare_len = (uint16_t)bare.len;

    base64_encode(nonce_text, nonce, 18);
    base64_encode(salt_text, s->verifier.salt, s->verifier.salt_len);
    int len = snprintf(s->server_first, sizeof(s->server_first), "r=%.*s%s,s=%s,i=%u",
                       (int)client_nonce.len, (const char *)client_nonce.at, nonce_text, salt_text,
                       s->verifier.iterations);
    INVARIANT(len > 0 && (size_t)len < sizeof(s->server_first));
    s->server_first_len = (uint16_t)len;
    return SCRAM_OK;
}

struct client_final {
    struct bytes binding;
    struct bytes nonce;
    struct bytes without_proof;
    uint8_t proof[SCRAM_KEY];
};

/* Proof is what stands behind the last comma; everything before that comma is signed. */
static const char *split_client_final(struct client_final *out, struct bytes message)
{
    const uint8_t *last = message.len > 0 ? memrchr(message.at, ',', message.len) : NULL;
    struct bytes proof;
    bool more;

    if (last == NULL)
        return "proof expected";
    out->without_proof = (struct bytes){message.at, (size_t)(last - message.at)};
    proof = (struct bytes){last + 1, message.len - out->without_proof.len - 1};

    struct bytes rest = out->without_proof;
    if (scram_take(&rest, 'c', &out->binding, &more) != 0 || !more)
        return "channel binding expected";
    if (scram_take(&rest, 'r', &out->nonce, &more) != 0)
        return "nonce expected";
    if (more && !scram_extensions_ok(rest))
        return "extension not supported";

    if (proof.len < 2 || proof.at[0] != 'p' || proof.at[1] != '=')
        return "proof expected";
    proof.at += 2;
    proof.len -= 2;
    if (base64_decode_key(out->proof, proof) != 0)
        return "proof is not 32 bytes of base64";
    return NULL;
}

/* Recovers ClientKey from the proof; true when it is the one behind StoredKey. */
static bool recover_client_key(struct scram_server *s, const struct client_final *final)
{
    struct bytes first_bare = {(const uint8_t *)s->client_first_bare, s->client_first_bare_len};
    struct bytes server_first = {(const uint8_t *)s->server_first, s->server_first_len};
    uint8_t signature[SCRAM_KEY];
    uint8_t stored_key[SCRAM_KEY];

    scram_signature(signature, s->verifier.stored_key, first_bare, server_first,
                    final->without_proof);
    scram_xor(s->client_key, final->proof, signature);
    scram_stored_key(stored_key, s->client_key);

    bool right = secret_equal(stored_key, SCRAM_KEY, s->verifier.stored_key, SCRAM_KEY);
    if (!right)
        OPENSSL_cleanse(s->client_key, sizeof(s->client_key));
    return right;
}

enum scram_verdict scram_server_final(struct scram_server *s, struct bytes message, char *out,
                                      struct failure *why)
{
    struct bytes first_bare = {(const uint8_t *)s->client_first_bare, s->client_first_bare_len};
    struct bytes server_first = {(const uint8_t *)s->server_first, s->server_first_len};
    struct bytes left = server_first;
    struct bytes nonce;
    struct client_final final;
    uint8_t signature[SCRAM_KEY];
    bool more;

    out[0] = '\0';
    INVARIANT(scram_take(&left, 'r', &nonce, &more) == 0);
    const char *reason = split_client_final(&final, message);
    if (reason != NULL)
        return malformed(why, reason);
    /* base64 of "n,," and "y,,": three bytes have one encoding only */
    if (!bytes_equal(final.binding, bytes_of(s->gs2_flag == 'n' ? "biws" : "eSws")))
        return wrong(why, "channel binding does not match");
    if (!secret_equal(final.nonce.at, final.nonce.len, nonce.at, nonce.len))
        return wrong(why, "nonce does not match");
    if (!recover_client_key(s, &final))
        return wrong(why, "proof does not match");

    scram_signature(signature, s->verifier.server_key, first_bare, server_first,
                    final.without_proof);
    memcpy(out, "v=", 2);
    base64_encode(out + 2, signature, sizeof(signature));
    OPENSSL_cleanse(final.proof, sizeof(final.proof));
    return SCRAM_OK;
}
