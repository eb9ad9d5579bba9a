/* pack.h: the msgpack that the hot path speaks (https://github.com/msgpack/msgpack, spec.md).
 *
 * A packer appends to fixed storage, or to memory that it grows; it goes bad once and stays bad.
 * An unpacker reads the same way. Message bodies are a flat sequence of values; documents
 * (snapshot, state) are maps. Nothing here allocates for fixed storage, and an unpacked string is
 * borrowed from the input. Whoever wants a tree uses msgpack-c on the same bytes.
 */
#ifndef RUNTIME_PACK_H
#define RUNTIME_PACK_H

#include "runtime/base.h"

struct packer {
    uint8_t *start;
    size_t len;
    size_t size;
    bool grows;
    bool failed;
};
void packer_init(struct packer *p);                                   /* grows; packer_free */
void packer_init_fixed(struct packer *p, void *storage, size_t size); /* never allocates */
void packer_free(struct packer *p);

void pack_uint(struct packer *p, uint64_t v);
void pack_int(struct packer *p, int64_t v);
void pack_bool(struct packer *p, bool v);
void pack_nil(struct packer *p);
void pack_str(struct packer *p, const char *text); /* NULL packs nil */
void pack_str_len(struct packer *p, const void *text, size_t len);
void pack_bin(struct packer *p, const void *at, size_t len);
void pack_array(struct packer *p, uint32_t count);
void pack_map(struct packer *p, uint32_t count);
void pack_raw(struct packer *p, const void *at, size_t len); /* packed already */

/* A map whose size is known at its end only: open, put keys and values, close with the count. */
size_t pack_map_open(struct packer *p);
void pack_map_close(struct packer *p, size_t mark, uint32_t count);
size_t pack_array_open(struct packer *p);
void pack_array_close(struct packer *p, size_t mark, uint32_t count);

struct unpacker {
    const uint8_t *at;
    const uint8_t *end;
    bool bad;
};
static inline struct unpacker unpacker_of(const void *at, size_t len)
{
    return (struct unpacker){at, len == 0 ? at : (const uint8_t *)at + len, false};
}
uint64_t unpack_uint(struct unpacker *u);
int64_t unpack_int(struct unpacker *u);
bool unpack_bool(struct unpacker *u);
struct bytes unpack_bytes(struct unpacker *u); /* str or bin; borrowed */
/* How many values, or pairs of them, follow. Never more than there are bytes left. */
uint32_t unpack_array(struct unpacker *u);
uint32_t unpack_map(struct unpacker *u);
/* Steps over one value, whatever it is; returns its bytes, borrowed. */
struct bytes unpack_skip(struct unpacker *u);

#endif
