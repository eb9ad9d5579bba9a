#include "proto/deallocate.h"
#include "proto/frame.h"
#include "tests/unit/unit.h"

TEST(deallocate_is_read_as_postgresql_reads_it)
{
    static const struct {
        const char *text;
        enum deallocate want;
        const char *name;
    } rows[] = {
        {"deallocate a", DEALLOCATE_ONE, "a"},
        {"DEALLOCATE A;", DEALLOCATE_ONE, "a"},
        {"DEALLOCATE \"A\"", DEALLOCATE_ONE, "A"},
        {"DEALLOCATE \"a\"\"b\" ;", DEALLOCATE_ONE, "a\"b"},
        {"DEALLOCATE PREPARE s_1", DEALLOCATE_ONE, "s_1"},
        {"DEALLOCATE prepare", DEALLOCATE_ONE, "prepare"},
        {"DEALLOCATE prepare;", DEALLOCATE_ONE, "prepare"},
        {"DEALLOCATE ALL", DEALLOCATE_ALL, ""},
        {"deallocate prepare all ; ", DEALLOCATE_ALL, ""},
        {"DEALLOCATE \"all\"", DEALLOCATE_ONE, "all"},
        {" \n-- why\n/* a /* nested */ one */ DEALLOCATE/**/x", DEALLOCATE_ONE, "x"},
        {"DEALLOCATE x -- done", DEALLOCATE_ONE, "x"},
        {"DEALLOCATE \xc3\xa4", DEALLOCATE_ONE, "\xc3\xa4"},
        {"DEALLOCATE a$1", DEALLOCATE_ONE, "a$1"},
        {"DEALLOCATE a; UPDATE t SET x = 1", DEALLOCATE_NOT, ""},
        {"DEALLOCATE a b", DEALLOCATE_NOT, ""},
        {"DEALLOCATE", DEALLOCATE_NOT, ""},
        {"DEALLOCATE ;", DEALLOCATE_NOT, ""},
        {"DEALLOCATE \"\"", DEALLOCATE_NOT, ""},
        {"DEALLOCATE \"open", DEALLOCATE_NOT, ""},
        {"DEALLOCATE U&\"a\"", DEALLOCATE_NOT, ""},
        {"DEALLOCATE 1a", DEALLOCATE_NOT, ""},
        {"DEALLOCATE /* open", DEALLOCATE_NOT, ""},
        {"DEALLOCATEa", DEALLOCATE_NOT, ""},
        {"\"deallocate\" a", DEALLOCATE_NOT, ""},
        {"DECLARE c CURSOR FOR SELECT 1", DEALLOCATE_NOT, ""},
        {"SELECT 1", DEALLOCATE_NOT, ""},
        {"", DEALLOCATE_NOT, ""},
        /* 63 bytes, and one more that PostgreSQL would cut */
        {"DEALLOCATE a12345678901234567890123456789012345678901234567890123456789012",
         DEALLOCATE_ONE, "a12345678901234567890123456789012345678901234567890123456789012"},
        {"DEALLOCATE a123456789012345678901234567890123456789012345678901234567890123",
         DEALLOCATE_NOT, ""},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char name[DEALLOCATE_NAME + 1] = "";
        uint32_t len = 0;

        EQ(deallocate_read(bytes_of(rows[i].text), name, &len), rows[i].want, "%s", rows[i].text);
        STR_EQ(name, rows[i].name);
        EQ(len, strlen(rows[i].name), "%s", rows[i].text);
    }
}
