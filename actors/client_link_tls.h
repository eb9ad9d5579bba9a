/* client_link_tls.h: TLS for actors/client_link.c: BoringSSL on the blocking socket itself. */
#ifndef ACTORS_CLIENT_LINK_TLS_H
#define ACTORS_CLIENT_LINK_TLS_H

#include "runtime/base.h"

#include <sys/types.h>

struct link_tls;

/* Shakes hands and verifies: an authority of the system (or of the file named by SSL_CERT_FILE)
 * must have signed the certificate, and it must be for this host. */
MUST_CHECK int link_tls_begin(struct link_tls **out, int fd, const char *host, struct failure *why);
/* As recv() and send(), errno included. */
ssize_t link_tls_read(struct link_tls *tls, void *at, size_t len);
ssize_t link_tls_write(struct link_tls *tls, const void *at, size_t len);
void link_tls_end(struct link_tls *tls); /* NULL is fine; the socket stays open */

#endif
