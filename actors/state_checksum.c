/* CRC-32C, as the sections of a state carry it. */
#include "actors/state.h"

#include <pthread.h>

/* Eight bytes at a time (M. Kounavis, F. Berry: A systematic approach to building high performance
 * software-based CRC generators, 2005); polynomial 0x1edc6f41, reflected. */
static uint32_t crc_tables[8][256];
static pthread_once_t crc_once = PTHREAD_ONCE_INIT;

static void crc_make_tables(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;

        for (int bit = 0; bit < 8; bit++)
            value = value & 1 ? value >> 1 ^ 0x82f63b78u : value >> 1;
        crc_tables[0][i] = value;
    }
    for (uint32_t i = 0; i < 256; i++) {
        for (int t = 1; t < 8; t++)
            crc_tables[t][i] = crc_tables[t - 1][i] >> 8 ^
                               crc_tables[0][crc_tables[t - 1][i] & 0xff];
    }
}

static uint32_t load_le32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

uint32_t state_crc32c(const uint8_t *at, size_t len)
{
    uint32_t crc = UINT32_MAX;

    pthread_once(&crc_once, crc_make_tables);
    for (; len >= 8; at += 8, len -= 8) {
        uint32_t low = crc ^ load_le32(at);
        uint32_t high = load_le32(at + 4);

        crc = crc_tables[7][low & 0xff] ^ crc_tables[6][low >> 8 & 0xff] ^
              crc_tables[5][low >> 16 & 0xff] ^ crc_tables[4][low >> 24] ^
              crc_tables[3][high & 0xff] ^ crc_tables[2][high >> 8 & 0xff] ^
              crc_tables[1][high >> 16 & 0xff] ^ crc_tables[0][high >> 24];
    }
    for (; len > 0; at++, len--)
        crc = crc >> 8 ^ crc_tables[0][(crc ^ *at) & 0xff];
    return ~crc;
}
