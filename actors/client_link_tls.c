#include "actors/client_link_tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <unistd.h>

struct link_tls {
    SSL_CTX *context;
    SSL *ssl;
};

static const char *authorities(void)
{
    static const char *const places[] = {"/etc/ssl/certs/ca-certificates.crt", /* Debian */
                                         "/etc/pki/tls/certs/ca-bundle.crt",   /* Red Hat */
                                         "/etc/ssl/ca-bundle.pem",             /* SUSE */
                                         "/etc/ssl/cert.pem"};
    const char *named = getenv("SSL_CERT_FILE");

    if (named != NULL && *named != '\0')
        return named;
    for (size_t i = 0; i < COUNT_OF(places); i++)
        if (access(places[i], R_OK) == 0)
            return places[i];
    return places[0];
}

static bool expect_host(SSL *ssl, const char *host)
{
    X509_VERIFY_PARAM *wanted = SSL_get0_param(ssl);
    struct in6_addr binary;

    if (inet_pton(AF_INET, host, &binary) == 1 || inet_pton(AF_INET6, host, &binary) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(wanted, host) == 1;
    return X509_VERIFY_PARAM_set1_host(wanted, host, 0) == 1 &&
           SSL_set_tlsext_host_name(ssl, host) == 1;
}

static const char *reason_of(const struct link_tls *tls, char *scratch, size_t size)
{
    long verdict = tls->ssl == NULL ? X509_V_OK : SSL_get_verify_result(tls->ssl);
    uint32_t error = ERR_get_error();

    if (verdict != X509_V_OK)
        return X509_verify_cert_error_string(verdict);
    if (error == 0)
        return "the connection was closed";
    ERR_error_string_n(error, scratch, size);
    return scratch;
}

int link_tls_begin(struct link_tls **out, int fd, const char *host, struct failure *why)
{
    struct link_tls *tls = calloc(1, sizeof *tls);
    const char *roots = authorities();
    char scratch[256];

    if (tls == NULL)
        return fail(why, "out of memory");
    tls->context = SSL_CTX_new(TLS_method());
    if (tls->context != NULL && SSL_CTX_load_verify_locations(tls->context, roots, NULL) != 1) {
        fail(why, "error performing TLS handshake: no certificates in %s", roots);
        link_tls_end(tls);
        return -1;
    }
    if (tls->context != NULL) {
        SSL_CTX_set_min_proto_version(tls->context, TLS1_2_VERSION);
        SSL_CTX_set_verify(tls->context, SSL_VERIFY_PEER, NULL);
        tls->ssl = SSL_new(tls->context);
    }
    if (tls->ssl == NULL || !expect_host(tls->ssl, host) || SSL_set_fd(tls->ssl, fd) != 1 ||
        SSL_connect(tls->ssl) != 1) {
        fail(why, "error performing TLS handshake: %s", reason_of(tls, scratch, sizeof scratch));
        link_tls_end(tls);
        return -1;
    }
    *out = tls;
    return 0;
}

static ssize_t result_of(struct link_tls *tls, int n)
{
    if (n > 0)
        return n;
    switch (SSL_get_error(tls->ssl, n)) {
    case SSL_ERROR_ZERO_RETURN: return 0;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: errno = EAGAIN; return -1;
    case SSL_ERROR_SYSCALL: return n == 0 || errno == 0 ? 0 : -1;
    default: errno = EPROTO; return -1;
    }
}

ssize_t link_tls_read(struct link_tls *tls, void *at, size_t len)
{
    errno = 0;
    return result_of(tls, SSL_read(tls->ssl, at, (int)MIN(len, (size_t)INT_MAX)));
}

ssize_t link_tls_write(struct link_tls *tls, const void *at, size_t len)
{
    errno = 0;
    return result_of(tls, SSL_write(tls->ssl, at, (int)MIN(len, (size_t)INT_MAX)));
}

void link_tls_end(struct link_tls *tls)
{
    if (tls == NULL)
        return;
    SSL_free(tls->ssl);
    SSL_CTX_free(tls->context);
    free(tls);
}
