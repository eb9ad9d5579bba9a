#include "auth/nfkc.h"

struct decomposition {
    uint32_t code;
    uint16_t offset; /* in decomposed[] */
    uint8_t len;
};
struct composition {
    uint32_t first;
    uint32_t second;
    uint32_t whole;
};
struct combining {
    uint32_t from;
    uint32_t to;
    uint8_t class;
};
#define NFKC_TABLES
#include "auth/saslprep_tables.h"

/* Hangul syllables follow a formula: The Unicode Standard, section 3.12. */
enum {
    HANGUL_S = 0xac00,
    HANGUL_L = 0x1100,
    HANGUL_V = 0x1161,
    HANGUL_T = 0x11a7,
    HANGUL_L_COUNT = 19,
    HANGUL_V_COUNT = 21,
    HANGUL_T_COUNT = 28,
    HANGUL_S_COUNT = HANGUL_L_COUNT * HANGUL_V_COUNT * HANGUL_T_COUNT,
};

static uint8_t combining_class(uint32_t code)
{
    size_t low = 0;
    size_t high = COUNT_OF(combining);

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (code < combining[middle].from)
            high = middle;
        else if (code > combining[middle].to)
            low = middle + 1;
        else
            return combining[middle].class;
    }
    return 0;
}

static const struct decomposition *find_decomposition(uint32_t code)
{
    size_t low = 0;
    size_t high = COUNT_OF(decompositions);

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (code < decompositions[middle].code)
            high = middle;
        else if (code > decompositions[middle].code)
            low = middle + 1;
        else
            return &decompositions[middle];
    }
    return NULL;
}

static size_t decompose_one(uint32_t *out, uint32_t code)
{
    uint32_t s = code - HANGUL_S;

    if (s < HANGUL_S_COUNT) {
        uint32_t t = s % HANGUL_T_COUNT;

        out[0] = HANGUL_L + s / (HANGUL_V_COUNT * HANGUL_T_COUNT);
        out[1] = HANGUL_V + s / HANGUL_T_COUNT % HANGUL_V_COUNT;
        out[2] = HANGUL_T + t;
        return t == 0 ? 2 : 3;
    }

    const struct decomposition *d = find_decomposition(code);
    if (d == NULL) {
        out[0] = code;
        return 1;
    }
    INVARIANT(d->len <= NFKC_EXPANSION);
    memcpy(out, decomposed + d->offset, d->len * sizeof(*out));
    return d->len;
}

/* Marks of one base are sorted by class; equal classes keep their order. */
static void order_marks(uint32_t *text, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        uint32_t code = text[i];
        uint8_t class = combining_class(code);
        size_t at = i;

        if (class == 0)
            continue;
        while (at > 0 && combining_class(text[at - 1]) > class) {
            text[at] = text[at - 1];
            at--;
        }
        text[at] = code;
    }
}

/* The character that the pair composes to, or 0. */
static uint32_t compose_pair(uint32_t first, uint32_t second)
{
    size_t low = 0;
    size_t high = COUNT_OF(compositions);

    if (first - HANGUL_L < HANGUL_L_COUNT && second - HANGUL_V < HANGUL_V_COUNT)
        return HANGUL_S +
               ((first - HANGUL_L) * HANGUL_V_COUNT + second - HANGUL_V) * HANGUL_T_COUNT;
    if (first - HANGUL_S < HANGUL_S_COUNT && (first - HANGUL_S) % HANGUL_T_COUNT == 0 &&
        second > HANGUL_T && second < HANGUL_T + HANGUL_T_COUNT)
        return first + second - HANGUL_T;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct composition *c = &compositions[middle];

        if (first < c->first || (first == c->first && second < c->second))
            high = middle;
        else if (first > c->first || second > c->second)
            low = middle + 1;
        else
            return c->whole;
    }
    return 0;
}

static size_t compose(uint32_t *text, size_t count)
{
    size_t starter = SIZE_MAX;
    size_t used = 0;
    uint8_t last_class = 0; /* of the character before, as far as it stayed */

    for (size_t i = 0; i < count; i++) {
        uint32_t code = text[i];
        uint8_t class = combining_class(code);
        bool adjacent = starter != SIZE_MAX && used == starter + 1;

        if (starter != SIZE_MAX && (adjacent || last_class < class)) {
            uint32_t whole = compose_pair(text[starter], code);

            if (whole != 0) {
                text[starter] = whole;
                continue;
            }
        }
        if (class == 0)
            starter = used;
        last_class = class;
        text[used++] = code;
    }
    return used;
}

size_t nfkc(uint32_t *out, const uint32_t *in, size_t count)
{
    size_t used = 0;

    for (size_t i = 0; i < count; i++)
        used += decompose_one(out + used, in[i]);
    order_marks(out, used);
    return compose(out, used);
}
