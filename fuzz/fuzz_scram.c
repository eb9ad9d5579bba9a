/* Any text as the messages of either peer, one per line. Without the key nobody gets in: a final
 * message is accepted only where it signs what the honest one signs. Honest peers always agree.
 * A verifier that parses survives being written and parsed again. */
#include "auth/scram.h"
#include "auth/scram_keys.h"

#include <stdio.h>
#include <stdlib.h>

static const uint8_t random_bytes[18] = "0123456789abcdefg";

static struct bytes take_line(struct bytes *text)
{
    const uint8_t *newline = text->len > 0 ? memchr(text->at, '\n', text->len) : NULL;
    struct bytes line = {text->at, newline != NULL ? (size_t)(newline - text->at) : text->len};
    size_t used = line.len + (newline != NULL);

    text->at += used;
    text->len -= used;
    return line;
}

static void make_keys(struct scram_verifier *v, struct scram_client *c)
{
    scram_verifier_derive(v, "wonderland", random_bytes, 16, 1);
    scram_salted_password(c->server_key, "wonderland", random_bytes, 16, 1);
    scram_derive_key(c->client_key, c->server_key, "Client Key");
    memcpy(c->server_key, v->server_key, SCRAM_KEY);
}

/* A client that sent `first` knows the password and answers the server honestly. */
static void honest_final(const struct scram_server *s, const struct scram_client *keys, char *out,
                         size_t size)
{
    struct bytes bare = {(const uint8_t *)s->client_first_bare, s->client_first_bare_len};
    struct bytes server_first = {(const uint8_t *)s->server_first, s->server_first_len};
    const char *end = memchr(s->server_first, ',', s->server_first_len);
    uint8_t stored[SCRAM_KEY];
    uint8_t proof[SCRAM_KEY];
    char text[SCRAM_KEY_TEXT + 1];

    int len = snprintf(out, size, "c=%s,%.*s", s->gs2_flag == 'n' ? "biws" : "eSws",
                       (int)(end - s->server_first), s->server_first);
    scram_stored_key(stored, keys->client_key);
    scram_signature(proof, stored, bare, server_first, bytes_of(out));
    scram_xor(proof, proof, keys->client_key);
    base64_encode(text, proof, SCRAM_KEY);
    snprintf(out + len, size - (size_t)len, ",p=%s", text);
}

static void as_server(struct bytes first, struct bytes final)
{
    struct scram_server s = {0};
    struct scram_client keys = {0};
    struct failure why;
    char honest[SCRAM_NONCE_MAX + 256];
    char out[64];

    make_keys(&s.verifier, &keys);
    if (scram_server_first(&s, first, random_bytes, &why) != SCRAM_OK)
        return;
    INVARIANT(s.server_first_len < sizeof(s.server_first));
    honest_final(&s, &keys, honest, sizeof(honest));

    size_t signed_len = (size_t)(strrchr(honest, ',') - honest);
    if (scram_server_final(&s, final, out, &why) == SCRAM_OK)
        INVARIANT(final.len > signed_len && memcmp(final.at, honest, signed_len) == 0);
    INVARIANT(scram_server_final(&s, bytes_of(honest), out, &why) == SCRAM_OK);
    INVARIANT(memcmp(s.client_key, keys.client_key, SCRAM_KEY) == 0);
}

static void as_client(struct bytes challenge, struct bytes final)
{
    struct scram_verifier v;
    struct scram_client c = {0};
    struct failure why;
    char out[SCRAM_NONCE_MAX + 256];

    make_keys(&v, &c);
    scram_client_begin(&c, random_bytes, out, sizeof(out));
    if (scram_client_challenge(&c, challenge, out, sizeof(out), &why) != 0)
        return;
    INVARIANT(strlen(out) < sizeof(out) && memcmp(out, "c=biws,r=", 9) == 0);
    INVARIANT(scram_client_verify(&c, final, &why) != 0);
}

static void as_secret(struct bytes text)
{
    char *secret = strndup((const char *)text.at, text.len);
    struct scram_verifier v;
    struct scram_verifier again;

    if (secret == NULL)
        return;
    if (scram_verifier_parse(&v, secret) == 0) {
        char salt[SCRAM_SALT_MAX * 2];
        char keys[2][SCRAM_KEY_TEXT + 1];
        char written[512];

        INVARIANT(secret_kind(secret) == SECRET_SCRAM);
        base64_encode(salt, v.salt, v.salt_len);
        base64_encode(keys[0], v.stored_key, SCRAM_KEY);
        base64_encode(keys[1], v.server_key, SCRAM_KEY);
        snprintf(written, sizeof(written), "SCRAM-SHA-256$%u:%s$%s:%s", v.iterations, salt, keys[0],
                 keys[1]);
        INVARIANT(scram_verifier_parse(&again, written) == 0);
        INVARIANT(memcmp(&v, &again, sizeof(v)) == 0);
    }

    char *prepared = saslprep(secret);
    INVARIANT(prepared != NULL && (prepared[0] == '\0') == (secret[0] == '\0'));
    free(prepared);
    free(secret);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bytes text = {data, len};
    struct bytes first = take_line(&text);

    as_server(first, text);
    as_client(first, text);
    as_secret(first);
    return 0;
}
