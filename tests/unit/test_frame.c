#include "proto/frame.h"
#include "tests/unit/unit.h"

TEST(frame_peek_judges_lengths)
{
    static const struct {
        const char *what;
        uint8_t bytes[8];
        size_t len;
        enum frame_result want;
    } rows[] = {
        {"nothing", {0}, 0, FRAME_PARTIAL},
        {"half a header", {'Q', 0, 0}, 3, FRAME_PARTIAL},
        {"length below four", {'Q', 0, 0, 0, 3}, 5, FRAME_BROKEN},
        {"negative length", {'Q', 0xff, 0xff, 0xff, 0xff}, 5, FRAME_BROKEN},
        {"over the limit", {'Q', 0x7f, 0, 0, 4}, 5, FRAME_BROKEN},
        {"at the limit", {'Q', 0, 0, 4, 4}, 5, FRAME_PARTIAL},
        {"one over the limit", {'Q', 0, 0, 4, 5}, 5, FRAME_BROKEN},
        {"empty body", {'S', 0, 0, 0, 4}, 5, FRAME_WHOLE},
        {"body not here yet", {'Q', 0, 0, 0, 6, 'x'}, 6, FRAME_PARTIAL},
        {"body here", {'Q', 0, 0, 0, 6, 'x', 0}, 7, FRAME_WHOLE},
        {"more behind it", {'Q', 0, 0, 0, 5, 0, 'Q'}, 7, FRAME_WHOLE},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct frame f;

        EQ(frame_peek(&f, rows[i].bytes, rows[i].len, 1024), rows[i].want, "%s", rows[i].what);
    }
}

TEST(frame_peek_tells_how_much_is_here)
{
    static const uint8_t bytes[] = {'d', 0, 0, 0, 8, 1, 2, 3, 4, 9};
    struct frame f;

    EQ(frame_peek(&f, bytes, 4, 1024), FRAME_PARTIAL);
    CHECK(f.body == NULL);
    EQ(frame_peek(&f, bytes, 7, 1024), FRAME_PARTIAL);
    EQ(f.type, 'd');
    EQ(f.body_len, 4);
    EQ(f.have, 2);
    EQ(frame_peek(&f, bytes, sizeof(bytes), 1024), FRAME_WHOLE);
    CHECK(f.body == bytes + 5);
    EQ(f.have, 4);
}

TEST(packet_peek_judges_lengths)
{
    static const struct {
        const char *what;
        uint8_t bytes[10];
        size_t len;
        enum frame_result want;
    } rows[] = {
        {"nothing", {0}, 0, FRAME_PARTIAL},
        {"half a length", {0, 0, 0}, 3, FRAME_PARTIAL},
        {"shorter than its code", {0, 0, 0, 7}, 4, FRAME_BROKEN},
        {"over the limit", {0, 0, 0x27, 0x11}, 4, FRAME_BROKEN},
        {"at the limit", {0, 0, 0x27, 0x10}, 4, FRAME_PARTIAL},
        {"a web browser", {'G', 'E', 'T', ' '}, 4, FRAME_BROKEN},
        {"code not here yet", {0, 0, 0, 8, 4, 0xd2}, 6, FRAME_PARTIAL},
        {"no body", {0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f}, 8, FRAME_WHOLE},
        {"body not here yet", {0, 0, 0, 9, 0, 3, 0, 0}, 8, FRAME_PARTIAL},
        {"body here", {0, 0, 0, 9, 0, 3, 0, 0, 0}, 9, FRAME_WHOLE},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct frame f;
        uint32_t code;

        EQ(packet_peek(&f, &code, rows[i].bytes, rows[i].len, 10000), rows[i].want, "%s",
           rows[i].what);
    }
}

TEST(packet_peek_reads_the_code)
{
    static const uint8_t bytes[] = {0, 0, 0, 9, 4, 0xd2, 0x16, 0x2f, 7};
    struct frame f;
    uint32_t code;

    EQ(packet_peek(&f, &code, bytes, sizeof(bytes), 10000), FRAME_WHOLE);
    EQ(code, 80877103);
    EQ(f.body_len, 1);
    CHECK(f.body == bytes + 8);
}

TEST(cursor_reads_fields_in_order)
{
    static const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 'a', 'b', 0, 0, 8, 9};
    struct cursor c = cursor_of(bytes, sizeof(bytes));

    EQ(cursor_u8(&c), 1);
    EQ(cursor_u16(&c), 0x0203);
    EQ(cursor_u32(&c), 0x04050607);
    CHECK(bytes_equal(cursor_string(&c), bytes_of("ab")));
    EQ(cursor_string(&c).len, 0);
    EQ(cursor_left(&c), 2);
    EQ(cursor_bytes(&c, 2).len, 2);
    EQ(cursor_left(&c), 0);
    CHECK(!c.bad);
    EQ(cursor_bytes(&c, 0).len, 0);
    CHECK(!c.bad);
}

TEST(cursor_goes_bad_and_stays_bad)
{
    static const uint8_t bytes[] = {1, 2, 3};
    struct cursor c = cursor_of(bytes, sizeof(bytes));

    EQ(cursor_u32(&c), 0);
    CHECK(c.bad);
    EQ(cursor_u8(&c), 0);
    CHECK(cursor_bytes(&c, 0).at == NULL);

    c = cursor_of(bytes, sizeof(bytes));
    CHECK(cursor_string(&c).at == NULL);
    CHECK(c.bad);

    c = cursor_of(bytes, sizeof(bytes));
    CHECK(cursor_bytes(&c, SIZE_MAX).at == NULL);
    CHECK(c.bad);
}
