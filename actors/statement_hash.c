#include "actors/statement_internal.h"

#include "runtime/worker.h"

#include <pthread.h>

static uint64_t process_key[2];
static pthread_once_t process_key_once = PTHREAD_ONCE_INIT;
uint64_t statement_hash_bits = UINT64_MAX;

struct sip {
    uint64_t a, b, c, d;
};

static inline uint64_t rotate(uint64_t v, unsigned bits)
{
    return v << bits | v >> (64 - bits);
}

static inline void sip_round(struct sip *s)
{
    s->a += s->b;
    s->b = rotate(s->b, 13) ^ s->a;
    s->a = rotate(s->a, 32);
    s->c += s->d;
    s->d = rotate(s->d, 16) ^ s->c;
    s->a += s->d;
    s->d = rotate(s->d, 21) ^ s->a;
    s->c += s->b;
    s->b = rotate(s->b, 17) ^ s->c;
    s->c = rotate(s->c, 32);
}

static inline void sip_word(struct sip *s, uint64_t word)
{
    s->d ^= word;
    sip_round(s);
    s->a ^= word;
}

static inline uint64_t load_le64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

uint64_t statement_siphash(const uint64_t key[2], struct bytes text)
{
    struct sip s = {
        key[0] ^ 0x736f6d6570736575,
        key[1] ^ 0x646f72616e646f6d,
        key[0] ^ 0x6c7967656e657261,
        key[1] ^ 0x7465646279746573,
    };
    size_t whole = text.len & ~(size_t)7;
    uint64_t last = (uint64_t)text.len << 56;

    for (size_t i = 0; i < whole; i += 8)
        sip_word(&s, load_le64(text.at + i));
    for (size_t i = whole; i < text.len; i++)
        last |= (uint64_t)text.at[i] << (8 * (i - whole));
    sip_word(&s, last);

    s.c ^= 0xff;
    sip_round(&s);
    sip_round(&s);
    sip_round(&s);
    return s.a ^ s.b ^ s.c ^ s.d;
}

static bool process_key_given;

static void draw_process_key(void)
{
    if (!process_key_given)
        random_secret(process_key, sizeof process_key);
}

void statement_hash_key_get(uint8_t out[STATEMENT_KEY_BYTES])
{
    pthread_once(&process_key_once, draw_process_key);
    memcpy(out, process_key, sizeof process_key);
}

void statement_hash_key_set(const uint8_t key[STATEMENT_KEY_BYTES])
{
    memcpy(process_key, key, sizeof process_key);
    process_key_given = true;
    pthread_once(&process_key_once, draw_process_key);
}

uint64_t statement_hash(struct bytes text)
{
    pthread_once(&process_key_once, draw_process_key);
    return statement_siphash(process_key, text) & statement_hash_bits;
}
