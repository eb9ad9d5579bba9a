#include "actors/inspect_internal.h"

struct scan {
    const uint8_t *at;
    const uint8_t *end;
    size_t depth;
    uint64_t left[INSPECT_DEPTH_MAX]; /* values still to come, per open container */
};

enum verdict { SCAN_OK, SCAN_SHORT, SCAN_INVALID, SCAN_DEEP };

static enum verdict take_number(struct scan *s, size_t bytes, uint64_t *out)
{
    *out = 0;
    if ((size_t)(s->end - s->at) < bytes)
        return SCAN_SHORT;
    while (bytes-- > 0)
        *out = *out << 8 | *s->at++;
    return SCAN_OK;
}

static enum verdict skip(struct scan *s, uint64_t bytes)
{
    if ((uint64_t)(s->end - s->at) < bytes)
        return SCAN_SHORT;
    s->at += bytes;
    return SCAN_OK;
}

/* A length of `bytes` bytes, then that many bytes and `extra` more. */
static enum verdict skip_sized(struct scan *s, size_t bytes, size_t extra)
{
    uint64_t len;
    enum verdict v = take_number(s, bytes, &len);

    return v != SCAN_OK ? v : skip(s, len + extra);
}

static enum verdict open_container(struct scan *s, uint64_t values)
{
    if (values > (uint64_t)(s->end - s->at))
        return SCAN_SHORT;
    if (values == 0)
        return SCAN_OK;
    if (s->depth == INSPECT_DEPTH_MAX)
        return SCAN_DEEP;
    s->left[s->depth++] = values;
    return SCAN_OK;
}

static enum verdict open_sized(struct scan *s, size_t bytes, unsigned values_each)
{
    uint64_t count;
    enum verdict v = take_number(s, bytes, &count);

    return v != SCAN_OK ? v : open_container(s, count * values_each);
}

static enum verdict take_value(struct scan *s)
{
    uint64_t type;

    if (take_number(s, 1, &type) != SCAN_OK)
        return SCAN_SHORT;
    if (type <= 0x7f || type >= 0xe0)
        return SCAN_OK; /* small integers */
    if (type <= 0x8f)
        return open_container(s, (type & 0x0f) * 2);
    if (type <= 0x9f)
        return open_container(s, type & 0x0f);
    if (type <= 0xbf)
        return skip(s, type & 0x1f);
    switch (type) {
    case 0xc0: /* nil, false, true */
    case 0xc2:
    case 0xc3: return SCAN_OK;
    case 0xc4: return skip_sized(s, 1, 0); /* bin */
    case 0xc5: return skip_sized(s, 2, 0);
    case 0xc6: return skip_sized(s, 4, 0);
    case 0xc7: return skip_sized(s, 1, 1); /* ext: its type is one byte more */
    case 0xc8: return skip_sized(s, 2, 1);
    case 0xc9: return skip_sized(s, 4, 1);
    case 0xca: return skip(s, 4); /* floats */
    case 0xcb: return skip(s, 8);
    case 0xcc: /* integers */
    case 0xcd:
    case 0xce:
    case 0xcf: return skip(s, 1u << (type - 0xcc));
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3: return skip(s, 1u << (type - 0xd0));
    case 0xd4: /* fixed ext */
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8: return skip(s, (1u << (type - 0xd4)) + 1);
    case 0xd9: return skip_sized(s, 1, 0); /* str */
    case 0xda: return skip_sized(s, 2, 0);
    case 0xdb: return skip_sized(s, 4, 0);
    case 0xdc: return open_sized(s, 2, 1);
    case 0xdd: return open_sized(s, 4, 1);
    case 0xde: return open_sized(s, 2, 2);
    case 0xdf: return open_sized(s, 4, 2);
    default: return SCAN_INVALID; /* 0xc1 is never used */
    }
}

static enum verdict take_document(struct scan *s)
{
    enum verdict v = take_value(s);

    while (v == SCAN_OK && s->depth > 0) {
        if (s->left[s->depth - 1] == 0) {
            s->depth--;
            continue;
        }
        s->left[s->depth - 1]--;
        v = take_value(s);
    }
    return v;
}

int inspect_check(const uint8_t *at, size_t len, struct failure *why)
{
    struct scan s = {.at = at, .end = at + len};

    if (len == 0)
        return fail(why, "the file is empty");
    switch (take_document(&s)) {
    case SCAN_OK: break;
    case SCAN_SHORT: return fail(why, "the document is cut off: %zu bytes are not enough", len);
    case SCAN_INVALID:
        return fail(why, "not msgpack: the byte at %zu means nothing", (size_t)(s.at - at) - 1);
    case SCAN_DEEP:
        return fail(why, "nested deeper than %d at byte %zu", INSPECT_DEPTH_MAX,
                    (size_t)(s.at - at));
    }
    if (s.at != s.end)
        return fail(why, "%zu bytes follow the document's end at %zu", (size_t)(s.end - s.at),
                    (size_t)(s.at - at));
    return 0;
}
