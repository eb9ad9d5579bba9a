#include "runtime/pack.h"
#include "tests/unit/unit.h"

static void expect_bytes(const struct packer *p, const void *want, size_t len, const char *what)
{
    CHECK(!p->failed, "%s", what);
    EQ(p->len, len, "%s", what);
    if (p->len == len)
        CHECK(memcmp(p->start, want, len) == 0, "%s", what);
}

TEST(unsigned_numbers_take_the_shortest_form)
{
    static const struct {
        uint64_t value;
        uint8_t bytes[9];
        size_t len;
    } rows[] = {
        {0, {0x00}, 1},
        {127, {0x7f}, 1},
        {128, {0xcc, 0x80}, 2},
        {255, {0xcc, 0xff}, 2},
        {256, {0xcd, 0x01, 0x00}, 3},
        {65535, {0xcd, 0xff, 0xff}, 3},
        {65536, {0xce, 0, 1, 0, 0}, 5},
        {UINT32_MAX, {0xce, 0xff, 0xff, 0xff, 0xff}, 5},
        {(uint64_t)UINT32_MAX + 1, {0xcf, 0, 0, 0, 1, 0, 0, 0, 0}, 9},
        {UINT64_MAX, {0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 9},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        uint8_t storage[16];
        struct packer p;

        packer_init_fixed(&p, storage, sizeof storage);
        pack_uint(&p, rows[i].value);
        expect_bytes(&p, rows[i].bytes, rows[i].len, "uint");
        for (size_t cut = 0; cut < rows[i].len; cut++) {
            struct unpacker shorter = unpacker_of(storage, cut);

            unpack_uint(&shorter);
            CHECK(shorter.bad, "%zu of %zu bytes", cut, rows[i].len);
        }
        struct unpacker u = unpacker_of(p.start, p.len);
        CHECK(unpack_uint(&u) == rows[i].value && !u.bad && u.at == u.end);
    }
}

TEST(other_values_are_encoded_as_msgpack_says)
{
    struct packer p;

    packer_init(&p);
    pack_int(&p, 5);
    pack_int(&p, -1);
    pack_int(&p, -32);
    pack_int(&p, -33);
    pack_bool(&p, true);
    pack_bool(&p, false);
    pack_nil(&p);
    pack_str(&p, NULL);
    pack_str(&p, "hi");
    pack_bin(&p, "\x01\x02", 2);
    pack_array(&p, 15);
    pack_array(&p, 16);
    pack_map(&p, 1);
    pack_map(&p, 16);
    pack_raw(&p, "\xc0", 1);
    static const uint8_t want[] = {0x05, 0xff, 0xe0, 0xd3, 0xff, 0xff, 0xff, 0xff, 0xff,
                                   0xff, 0xff, 0xdf, 0xc3, 0xc2, 0xc0, 0xc0, 0xa2, 'h',
                                   'i',  0xc4, 0x02, 0x01, 0x02, 0x9f, 0xdd, 0,    0,
                                   0,    16,   0x81, 0xdf, 0,    0,    0,    16,   0xc0};
    expect_bytes(&p, want, sizeof want, "values");
    packer_free(&p);
}

TEST(strings_of_all_lengths_come_back)
{
    static const size_t lengths[] = {0, 1, 31, 32, 255, 256, 65535, 65536, 100000};
    char *text = malloc(100000);

    memset(text, 'x', 100000);
    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        for (int binary = 0; binary < 2; binary++) {
            struct packer p;

            packer_init(&p);
            if (binary)
                pack_bin(&p, text, lengths[i]);
            else
                pack_str_len(&p, text, lengths[i]);
            pack_uint(&p, 7);
            struct unpacker u = unpacker_of(p.start, p.len);
            struct bytes got = unpack_bytes(&u);
            CHECK(bytes_equal(got, (struct bytes){(const uint8_t *)text, lengths[i]}), "%zu",
                  lengths[i]);
            EQ(unpack_uint(&u), 7);
            CHECK(!u.bad && u.at == u.end);
            struct unpacker cut = unpacker_of(p.start, p.len - 2);
            if (lengths[i] > 0) {
                EQ(unpack_bytes(&cut).len, 0);
                CHECK(cut.bad);
            }
            packer_free(&p);
        }
    }
    free(text);
}

TEST(a_map_may_learn_its_size_at_the_end)
{
    struct packer p;

    packer_init(&p);
    size_t map = pack_map_open(&p);
    pack_str(&p, "a");
    size_t array = pack_array_open(&p);
    pack_uint(&p, 1);
    pack_uint(&p, 2);
    pack_array_close(&p, array, 2);
    pack_map_close(&p, map, 1);
    static const uint8_t want[] = {0xdf, 0, 0, 0, 1, 0xa1, 'a', 0xdd, 0, 0, 0, 2, 1, 2};
    expect_bytes(&p, want, sizeof want, "map");
    packer_free(&p);
}

TEST(fixed_storage_fails_once_and_for_good)
{
    for (size_t size = 0; size < 20; size++) {
        uint8_t storage[32];
        struct packer p;

        memset(storage, 0xee, sizeof storage);
        packer_init_fixed(&p, storage, size);
        size_t map = pack_map_open(&p);
        pack_str(&p, "0123456789");
        pack_uint(&p, 3);
        pack_nil(&p);
        pack_map_close(&p, map, 1);
        EQ(p.failed, size < 18, "%zu", size);
        CHECK(p.len <= size);
        for (size_t i = size; i < sizeof storage; i++)
            EQ(storage[i], 0xee, "wrote behind %zu", size);
    }
}

TEST(a_reader_of_the_wrong_kind_goes_bad)
{
    struct unpacker number = unpacker_of("\xa1x", 2);
    struct unpacker text = unpacker_of("\x05", 1);
    struct unpacker huge = unpacker_of("\xdb\xff\xff\xff\xff", 5);

    EQ(unpack_uint(&number), 0);
    CHECK(number.bad);
    CHECK(unpack_bytes(&text).at == NULL && text.bad);
    CHECK(unpack_bytes(&huge).at == NULL && huge.bad);
    EQ(unpack_bytes(&huge).len, 0, "stays bad");
}
