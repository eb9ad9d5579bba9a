#include "runtime/pack.h"

#include <stdlib.h>

void packer_init(struct packer *p)
{
    *p = (struct packer){.grows = true};
}

void packer_init_fixed(struct packer *p, void *storage, size_t size)
{
    *p = (struct packer){.start = storage, .size = size};
}

void packer_free(struct packer *p)
{
    if (p->grows)
        free(p->start);
    *p = (struct packer){0};
}

/* Room for len more bytes; NULL when there is none, and from then on. */
static uint8_t *packer_room(struct packer *p, size_t len)
{
    if (UNLIKELY(p->failed))
        return NULL;
    if (UNLIKELY(p->size - p->len < len)) {
        size_t size = MAX(p->size * 2, p->len + len + 256);
        uint8_t *grown = p->grows ? realloc(p->start, size) : NULL;

        if (grown == NULL) {
            p->failed = true;
            return NULL;
        }
        p->start = grown;
        p->size = size;
    }
    uint8_t *at = p->start + p->len;
    p->len += len;
    return at;
}

static void pack_tagged(struct packer *p, uint8_t tag, uint64_t v, unsigned width)
{
    uint8_t *at = packer_room(p, 1 + width);

    if (at == NULL)
        return;
    *at++ = tag;
    for (unsigned shift = width; shift-- > 0;)
        *at++ = (uint8_t)(v >> (8 * shift));
}

void pack_uint(struct packer *p, uint64_t v)
{
    if (v < 0x80)
        pack_tagged(p, (uint8_t)v, 0, 0);
    else if (v <= UINT8_MAX)
        pack_tagged(p, 0xcc, v, 1);
    else if (v <= UINT16_MAX)
        pack_tagged(p, 0xcd, v, 2);
    else if (v <= UINT32_MAX)
        pack_tagged(p, 0xce, v, 4);
    else
        pack_tagged(p, 0xcf, v, 8);
}

void pack_int(struct packer *p, int64_t v)
{
    if (v >= 0)
        pack_uint(p, (uint64_t)v);
    else if (v >= -32)
        pack_tagged(p, (uint8_t)v, 0, 0);
    else
        pack_tagged(p, 0xd3, (uint64_t)v, 8);
}

void pack_bool(struct packer *p, bool v)
{
    pack_tagged(p, v ? 0xc3 : 0xc2, 0, 0);
}

void pack_nil(struct packer *p)
{
    pack_tagged(p, 0xc0, 0, 0);
}

void pack_raw(struct packer *p, const void *at, size_t len)
{
    uint8_t *room = len > 0 ? packer_room(p, len) : NULL;

    if (room != NULL)
        memcpy(room, at, len);
}

void pack_str_len(struct packer *p, const void *text, size_t len)
{
    if (len < 32)
        pack_tagged(p, (uint8_t)(0xa0 | len), 0, 0);
    else if (len <= UINT8_MAX)
        pack_tagged(p, 0xd9, len, 1);
    else if (len <= UINT16_MAX)
        pack_tagged(p, 0xda, len, 2);
    else
        pack_tagged(p, 0xdb, len, 4);
    pack_raw(p, text, len);
}

void pack_str(struct packer *p, const char *text)
{
    if (text == NULL)
        pack_nil(p);
    else
        pack_str_len(p, text, strlen(text));
}

void pack_bin(struct packer *p, const void *at, size_t len)
{
    if (len <= UINT8_MAX)
        pack_tagged(p, 0xc4, len, 1);
    else if (len <= UINT16_MAX)
        pack_tagged(p, 0xc5, len, 2);
    else
        pack_tagged(p, 0xc6, len, 4);
    pack_raw(p, at, len);
}

void pack_array(struct packer *p, uint32_t count)
{
    if (count < 16)
        pack_tagged(p, (uint8_t)(0x90 | count), 0, 0);
    else
        pack_tagged(p, 0xdd, count, 4);
}

void pack_map(struct packer *p, uint32_t count)
{
    if (count < 16)
        pack_tagged(p, (uint8_t)(0x80 | count), 0, 0);
    else
        pack_tagged(p, 0xdf, count, 4);
}

static size_t pack_open(struct packer *p, uint8_t tag)
{
    size_t mark = p->len;

    pack_tagged(p, tag, 0, 4);
    return mark;
}

static void pack_close(struct packer *p, size_t mark, uint32_t count)
{
    if (!p->failed)
        store_be32(p->start + mark + 1, count);
}

size_t pack_map_open(struct packer *p)
{
    return pack_open(p, 0xdf);
}

void pack_map_close(struct packer *p, size_t mark, uint32_t count)
{
    pack_close(p, mark, count);
}

size_t pack_array_open(struct packer *p)
{
    return pack_open(p, 0xdd);
}

void pack_array_close(struct packer *p, size_t mark, uint32_t count)
{
    pack_close(p, mark, count);
}

static uint64_t unpack_be(struct unpacker *u, unsigned width)
{
    uint64_t v = 0;

    if (u->bad || (size_t)(u->end - u->at) < width) {
        u->bad = true;
        return 0;
    }
    for (unsigned i = 0; i < width; i++)
        v = v << 8 | *u->at++;
    return v;
}

uint64_t unpack_uint(struct unpacker *u)
{
    uint8_t tag = (uint8_t)unpack_be(u, 1);

    if (tag < 0x80)
        return tag;
    switch (tag) {
    case 0xcc: return unpack_be(u, 1);
    case 0xcd: return unpack_be(u, 2);
    case 0xce: return unpack_be(u, 4);
    case 0xcf: return unpack_be(u, 8);
    }
    u->bad = true;
    return 0;
}

struct bytes unpack_bytes(struct unpacker *u)
{
    uint8_t tag = (uint8_t)unpack_be(u, 1);
    uint64_t len = 0;

    if ((tag & 0xe0) == 0xa0)
        len = tag & 0x1f;
    else if (tag == 0xd9 || tag == 0xc4)
        len = unpack_be(u, 1);
    else if (tag == 0xda || tag == 0xc5)
        len = unpack_be(u, 2);
    else if (tag == 0xdb || tag == 0xc6)
        len = unpack_be(u, 4);
    else
        u->bad = true;
    if (u->bad || (size_t)(u->end - u->at) < len) {
        u->bad = true;
        return (struct bytes){NULL, 0};
    }
    struct bytes out = {u->at, (size_t)len};
    u->at += len;
    return out;
}

int64_t unpack_int(struct unpacker *u)
{
    uint8_t tag = u->at < u->end ? *u->at : 0;

    if (tag < 0xe0 && (tag < 0xd0 || tag > 0xd3))
        return (int64_t)unpack_uint(u);
    u->at++;
    switch (tag) {
    case 0xd0: return (int8_t)unpack_be(u, 1);
    case 0xd1: return (int16_t)unpack_be(u, 2);
    case 0xd2: return (int32_t)unpack_be(u, 4);
    case 0xd3: return (int64_t)unpack_be(u, 8);
    default: return (int8_t)tag;
    }
}

bool unpack_bool(struct unpacker *u)
{
    uint8_t tag = (uint8_t)unpack_be(u, 1);

    if (tag != 0xc2 && tag != 0xc3)
        u->bad = true;
    return tag == 0xc3 && !u->bad;
}

static uint32_t unpack_count(struct unpacker *u, uint8_t fixed, uint8_t two, size_t each)
{
    uint8_t tag = (uint8_t)unpack_be(u, 1);
    uint64_t count = 0;

    if ((tag & 0xf0) == fixed)
        count = tag & 0x0f;
    else if (tag == two)
        count = unpack_be(u, 2);
    else if (tag == two + 1)
        count = unpack_be(u, 4);
    else
        u->bad = true;
    if (u->bad || count * each > (size_t)(u->end - u->at)) {
        u->bad = true;
        return 0;
    }
    return (uint32_t)count;
}

uint32_t unpack_array(struct unpacker *u)
{
    return unpack_count(u, 0x90, 0xdc, 1);
}

uint32_t unpack_map(struct unpacker *u)
{
    return unpack_count(u, 0x80, 0xde, 2);
}

/* How many bytes of fixed width follow the tag; -1: another kind of value. */
static int width_of(uint8_t tag)
{
    static const int8_t widths[] = {
        [0x00] = 0, [0x02] = 0, [0x03] = 0,                         /* nil, false, true */
        [0x0a] = 4, [0x0b] = 8,                                     /* floats */
        [0x0c] = 1, [0x0d] = 2, [0x0e] = 4, [0x0f] = 8,             /* unsigned */
        [0x10] = 1, [0x11] = 2, [0x12] = 4, [0x13] = 8,             /* signed */
        [0x14] = 2, [0x15] = 3, [0x16] = 5, [0x17] = 9, [0x18] = 17 /* ext of fixed size */
    };

    if (tag < 0x80 || tag >= 0xe0)
        return 0;
    bool fixed = tag == 0xc0 || tag == 0xc2 || tag == 0xc3 || (tag >= 0xca && tag <= 0xd8);
    return fixed ? widths[tag - 0xc0] : -1;
}

/* No recursion: what is left to step over is counted. Each element takes a byte at least, so the
 * count stays within the input. */
struct bytes unpack_skip(struct unpacker *u)
{
    const uint8_t *start = u->at;
    uint64_t left = 1;

    while (left > 0 && !u->bad) {
        uint8_t tag = u->at < u->end ? *u->at : 0xc1;
        int width = width_of(tag);

        left--;
        if (width >= 0) {
            u->at++;
            unpack_be(u, 0);
            if ((size_t)(u->end - u->at) < (size_t)width)
                u->bad = true;
            else
                u->at += width;
        } else if ((tag & 0xf0) == 0x80 || tag == 0xde || tag == 0xdf) {
            left += 2 * (uint64_t)unpack_map(u);
        } else if ((tag & 0xf0) == 0x90 || tag == 0xdc || tag == 0xdd) {
            left += unpack_array(u);
        } else if (tag >= 0xc7 && tag <= 0xc9) {
            u->at++;
            uint64_t len = unpack_be(u, 1u << (tag - 0xc7)) + 1;

            if (u->bad || (size_t)(u->end - u->at) < len)
                u->bad = true;
            else
                u->at += len;
        } else {
            unpack_bytes(u);
        }
    }
    return u->bad ? (struct bytes){NULL, 0} : (struct bytes){start, (size_t)(u->at - start)};
}
