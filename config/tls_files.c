#include "config/tls_files.h"

#include "config/include.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <time.h>

/* Without this the library would ask for a passphrase on the terminal. */
static int no_passphrase(char *buffer, int size, int writing, void *context)
{
    (void)buffer, (void)size, (void)writing, (void)context;
    return 0;
}

static int fail_read(const char *path, const struct failure *reason, struct failure *why)
{
    return fail(why, "%s: %s", path, reason->text);
}

/* The file as a BIO, whose text lives in the arena. */
static BIO *pem_open(struct arena *arena, const char *path, struct failure *why)
{
    struct bytes text;
    struct failure reason;

    if (file_read(&text, arena, path, &reason) != FILE_OK) {
        fail_read(path, &reason, why);
        return NULL;
    }
    BIO *bio = BIO_new_mem_buf(text.at, (int)text.len);
    INVARIANT(bio != NULL);
    return bio;
}

static EVP_PKEY *private_key_read(const char *path, struct failure *why)
{
    struct arena arena = {0};
    BIO *bio = pem_open(&arena, path, why);
    EVP_PKEY *key = NULL;

    if (bio != NULL) {
        key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
        if (key == NULL)
            fail(why, "%s: not a PEM private key without passphrase (PKCS#8, PKCS#1 or SEC1)",
                 path);
        BIO_free(bio);
    }
    ERR_clear_error();
    arena_free(&arena);
    return key;
}

static X509 *certificate_read(const char *path, struct failure *why)
{
    struct arena arena = {0};
    BIO *bio = pem_open(&arena, path, why);
    X509 *certificate = NULL;

    if (bio != NULL) {
        certificate = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);
        if (certificate == NULL)
            fail(why, "%s: not a PEM certificate", path);
        BIO_free(bio);
    }
    ERR_clear_error();
    arena_free(&arena);
    return certificate;
}

int public_key_check(const char *path, struct failure *why)
{
    struct arena arena = {0};
    BIO *bio = pem_open(&arena, path, why);
    EVP_PKEY *key = NULL;

    if (bio != NULL) {
        key = PEM_read_bio_PUBKEY(bio, NULL, no_passphrase, NULL);
        if (key == NULL)
            fail(why, "%s: not a PEM public key", path);
        BIO_free(bio);
    }
    ERR_clear_error();
    arena_free(&arena);
    EVP_PKEY_free(key);
    return key == NULL ? -1 : 0;
}

int private_key_check(const char *path, struct failure *why)
{
    EVP_PKEY *key = private_key_read(path, why);

    EVP_PKEY_free(key);
    return key == NULL ? -1 : 0;
}

static bool certificate_parses(const char *begin, const char *end)
{
    BIO *bio = BIO_new_mem_buf(begin, (int)(end - begin));
    INVARIANT(bio != NULL);
    X509 *certificate = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);

    BIO_free(bio);
    ERR_clear_error();
    X509_free(certificate);
    return certificate != NULL;
}

static int bundle_check(const char *path, const char *text, struct failure *why)
{
    static const char begin_mark[] = "-----BEGIN CERTIFICATE-----";
    static const char end_mark[] = "-----END CERTIFICATE-----";
    int number = 0;

    for (const char *begin = text; (begin = strstr(begin, begin_mark)) != NULL;) {
        const char *end = strstr(begin, end_mark);
        if (end == NULL)
            return fail(why, "Unterminated PEM block in %s: found BEGIN without END", path);
        end += sizeof end_mark - 1;
        number++;
        if (!certificate_parses(begin, end))
            return fail(why, "Failed to parse certificate #%d in %s: not a valid certificate",
                        number, path);
        begin = end;
    }
    return number > 0 ? 0 : fail(why, "No certificates found in %s", path);
}

int certificate_bundle_check(const char *path, struct failure *why)
{
    struct arena arena = {0};
    struct failure reason;
    struct bytes text;
    int result = -1;

    if (file_read(&text, &arena, path, &reason) != FILE_OK)
        fail(why, "Failed to read certificate file %s: %s", path, reason.text);
    else
        result = bundle_check(path, (const char *)text.at, why);
    arena_free(&arena);
    return result;
}

int identity_check(const char *certificate_path, const char *key_path, struct failure *why)
{
    int result = -1;
    X509 *certificate = certificate_read(certificate_path, why);
    if (certificate == NULL)
        return -1;
    EVP_PKEY *key = private_key_read(key_path, why);
    if (key == NULL)
        goto free_certificate;

    if (X509_check_private_key(certificate, key) == 1)
        result = 0;
    else
        fail(why, "the private key %s does not belong to the certificate %s", key_path,
             certificate_path);
    ERR_clear_error();
    EVP_PKEY_free(key);
free_certificate:
    X509_free(certificate);
    return result;
}

int32_t certificate_days_left(const char *path)
{
    X509 *certificate = certificate_read(path, NULL);
    int days = INT32_MAX;
    int seconds = 0;

    if (certificate == NULL)
        return INT32_MAX;
    if (ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(certificate)) != 1)
        days = INT32_MAX;
    else if (days == 0 && seconds < 0)
        days = -1;
    X509_free(certificate);
    return days;
}

void files_digest(uint8_t digest[32], const char *const *paths, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct arena arena = {0};
        struct bytes text = {NULL, 0};
        SHA256_CTX sha;
        uint64_t len;
        if (paths[i] != NULL && file_read(&text, &arena, paths[i], NULL) != FILE_OK)
            text = (struct bytes){NULL, 0};
        len = text.len;
        SHA256_Init(&sha);
        SHA256_Update(&sha, digest, 32);
        SHA256_Update(&sha, &len, sizeof len);
        if (text.len > 0)
            SHA256_Update(&sha, text.at, text.len);
        SHA256_Final(digest, &sha);
        arena_free(&arena);
    }
}
