/* value.h: the grammars of single values. Pure. */
#ifndef CONFIG_VALUE_H
#define CONFIG_VALUE_H

#include "runtime/base.h"

/* "5s", "100ms", " 1 H ", "250": milliseconds. What does not fit 64 bits is refused. */
MUST_CHECK int duration_parse(uint64_t *out_ms, const char *text, struct failure *why);
/* "5MB", "64 k", "100": bytes. */
MUST_CHECK int bytes_parse(uint64_t *out_bytes, const char *text, struct failure *why);
/* Octal permission bits of general.unix_socket_mode. */
MUST_CHECK int file_mode_parse(uint32_t *out, const char *text, struct failure *why);
/* address/prefix, IPv4 or IPv6; a bare address does not pass. */
bool cidr_valid(const char *text);
/* IPv4 or IPv6 address, brackets around the latter optional. */
bool address_valid(const char *text);

#endif
