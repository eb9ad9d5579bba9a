/* nfkc.h: Unicode normalization form KC for the characters that SASLprep lets through (those of
 * Unicode 3.2). Pure; for auth/ only. */
#ifndef AUTH_NFKC_H
#define AUTH_NFKC_H

#include "runtime/base.h"

/* One character never becomes more than this many. */
enum { NFKC_EXPANSION = 18 };

/* Normalizes count characters into out, which has room for count * NFKC_EXPANSION. Returns the new
 * count. */
size_t nfkc(uint32_t *out, const uint32_t *in, size_t count);

#endif
