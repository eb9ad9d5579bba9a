/* TOML 1.0, construct by construct: what must be read, as what; and what must be refused. */
#include "config/toml.h"
#include "tests/unit/unit.h"

#include <stdarg.h>

struct dump {
    char text[4096];
    size_t len;
};

PRINTF_LIKE(2, 3) static void dump_add(struct dump *d, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    int n = vsnprintf(d->text + d->len, sizeof d->text - d->len, format, arguments);
    va_end(arguments);
    d->len = MIN(d->len + (size_t)n, sizeof d->text - 1);
}

static void dump_string(struct dump *d, const char *text, size_t len)
{
    dump_add(d, "\"");
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == '"' || c == '\\' || c == 0x7f)
            dump_add(d, "<%02x>", c);
        else
            dump_add(d, "%c", c);
    }
    dump_add(d, "\"");
}

/* {key=value,...}, [value,...], "text", 12, 1.5, true, @date. */
static void dump_node(struct dump *d, const struct tree *node)
{
    bool table = node->kind == TREE_TABLE;

    switch (node->kind) {
    case TREE_TABLE:
    case TREE_ARRAY:
        dump_add(d, table ? "{" : "[");
        for (size_t i = 0; i < node->count; i++) {
            const struct tree_entry *e = &node->entries[i];
            dump_add(d, "%s", i == 0 ? "" : ",");
            if (table) {
                dump_string(d, e->key, e->key_len);
                dump_add(d, "=");
            }
            dump_node(d, e->value);
        }
        dump_add(d, table ? "}" : "]");
        break;
    case TREE_STRING: dump_string(d, node->text, node->len); break;
    case TREE_INTEGER: dump_add(d, "%" PRId64, node->integer); break;
    case TREE_FLOAT: dump_add(d, "%g", node->number); break;
    case TREE_BOOL: dump_add(d, "%s", node->truth ? "true" : "false"); break;
    case TREE_DATETIME: dump_add(d, "@%s", node->text); break;
    }
}

struct row {
    const char *what;
    const char *text;
    const char *want; /* dump, or a part of the failure */
};

static void check_valid(const struct row *row)
{
    struct arena arena = {0};
    struct failure why = {""};
    struct dump d = {.len = 0};
    struct tree *root;

    if (toml_parse(&root, &arena, "t.toml", row->text, strlen(row->text), &why) != 0) {
        unit_fail(__FILE__, __LINE__, "%s: refused: %s", row->what, why.text);
    } else {
        dump_node(&d, root);
        STR_EQ(d.text, row->want, "%s", row->what);
    }
    arena_free(&arena);
}

static void check_invalid(const struct row *row)
{
    struct arena arena = {0};
    struct failure why = {""};
    struct tree *root;

    if (toml_parse(&root, &arena, "t.toml", row->text, strlen(row->text), &why) == 0)
        unit_fail(__FILE__, __LINE__, "%s: accepted", row->what);
    else if (strstr(why.text, row->want) == NULL)
        unit_fail(__FILE__, __LINE__, "%s: \"%s\" lacks \"%s\"", row->what, why.text, row->want);
    arena_free(&arena);
}

#define RUN(check, rows)                        \
    for (size_t i = 0; i < COUNT_OF(rows); i++) \
    check(&rows[i])

/* clang-format off */
TEST(toml_reads_documents_and_keys)
{
    static const struct row rows[] = {
        {"nothing", "", "{}"},
        {"blank lines", "\n \t\n\r\n", "{}"},
        {"byte order mark", "\xef\xbb\xbf" "a=1", "{\"a\"=1}"},
        {"comment only", "# hello", "{}"},
        {"comment with tab and UTF-8", "#\tgrün\na=1", "{\"a\"=1}"},
        {"comment behind a value", "a = 1 # one\n", "{\"a\"=1}"},
        {"comment behind a header", "[a] # one\n", "{\"a\"={}}"},
        {"no line end at the end", "a=1", "{\"a\"=1}"},
        {"CRLF", "a=1\r\nb=2\r\n", "{\"a\"=1,\"b\"=2}"},
        {"blanks around =", "a \t=\t 1", "{\"a\"=1}"},
        {"indented", "  a=1\n\tb=2", "{\"a\"=1,\"b\"=2}"},
        {"bare key characters", "aZ_-9=1", "{\"aZ_-9\"=1}"},
        {"key of digits", "1234=1", "{\"1234\"=1}"},
        {"key like a float", "3.14=1", "{\"3\"={\"14\"=1}}"},
        {"key like a word", "true=1", "{\"true\"=1}"},
        {"key of dashes", "--=1", "{\"--\"=1}"},
        {"quoted key", "\"a b\"=1", "{\"a b\"=1}"},
        {"quoted key with escape", "\"a\\n\"=1", "{\"a<0a>\"=1}"},
        {"literal key", "'a\\n'=1", "{\"a<5c>n\"=1}"},
        {"empty quoted key", "\"\"=1", "{\"\"=1}"},
        {"quoted and bare name the same", "\"a\"=1\nb=2", "{\"a\"=1,\"b\"=2}"},
        {"dotted key", "a.b.c=1", "{\"a\"={\"b\"={\"c\"=1}}}"},
        {"dotted key with blanks", "a . b = 1", "{\"a\"={\"b\"=1}}"},
        {"dotted key with quotes", "a.\"b.c\".'d'=1", "{\"a\"={\"b.c\"={\"d\"=1}}}"},
        {"dotted keys extend", "a.b=1\na.c=2", "{\"a\"={\"b\"=1,\"c\"=2}}"},
        {"dotted keys out of order", "a.x=1\nb=2\na.y=3", "{\"a\"={\"x\"=1,\"y\"=3},\"b\"=2}"},
        {"nested dotted keys extend", "a.b.c=1\na.b.d=2", "{\"a\"={\"b\"={\"c\"=1,\"d\"=2}}}"},
    };
    RUN(check_valid, rows);
}

TEST(toml_reads_strings)
{
    static const struct row rows[] = {
        {"empty", "a=\"\"", "{\"a\"=\"\"}"},
        {"basic", "a=\"x y\"", "{\"a\"=\"x y\"}"},
        {"all short escapes", "a=\"\\b\\t\\n\\f\\r\\\"\\\\\"", "{\"a\"=\"<08><09><0a><0c><0d><22><5c>\"}"},
        {"u escape", "a=\"\\u00e9\"", "{\"a\"=\"\xc3\xa9\"}"},
        {"u escape of three bytes", "a=\"\\u20AC\"", "{\"a\"=\"\xe2\x82\xac\"}"},
        {"U escape of four bytes", "a=\"\\U0001F600\"", "{\"a\"=\"\xf0\x9f\x98\x80\"}"},
        {"escaped NUL", "a=\"x\\u0000y\"", "{\"a\"=\"x<00>y\"}"},
        {"last scalar value", "a=\"\\U0010FFFF\"", "{\"a\"=\"\xf4\x8f\xbf\xbf\"}"},
        {"UTF-8 as it is", "a=\"\xe2\x82\xac\"", "{\"a\"=\"\xe2\x82\xac\"}"},
        {"tab inside", "a=\"x\ty\"", "{\"a\"=\"x<09>y\"}"},
        {"hash inside", "a=\"# no\"", "{\"a\"=\"# no\"}"},
        {"literal", "a='C:\\x\\n'", "{\"a\"=\"C:<5c>x<5c>n\"}"},
        {"literal with quote", "a='\"'", "{\"a\"=\"<22>\"}"},
        {"empty literal", "a=''", "{\"a\"=\"\"}"},
        {"multi-line", "a=\"\"\"x\ny\"\"\"", "{\"a\"=\"x<0a>y\"}"},
        {"multi-line drops the first line end", "a=\"\"\"\nx\"\"\"", "{\"a\"=\"x\"}"},
        {"multi-line drops one line end only", "a=\"\"\"\n\nx\"\"\"", "{\"a\"=\"<0a>x\"}"},
        {"multi-line drops a first CRLF", "a=\"\"\"\r\nx\"\"\"", "{\"a\"=\"x\"}"},
        {"multi-line makes CRLF a line feed", "a=\"\"\"x\r\ny\"\"\"", "{\"a\"=\"x<0a>y\"}"},
        {"line continuation", "a=\"\"\"x \\\n   y\"\"\"", "{\"a\"=\"x y\"}"},
        {"line continuation over empty lines", "a=\"\"\"x\\\n\n  \n\ty\"\"\"", "{\"a\"=\"xy\"}"},
        {"line continuation with blanks behind", "a=\"\"\"x\\  \n y\"\"\"", "{\"a\"=\"xy\"}"},
        {"line continuation and CRLF", "a=\"\"\"x\\\r\n y\"\"\"", "{\"a\"=\"xy\"}"},
        {"line continuation to the end", "a=\"\"\"x\\\n\"\"\"", "{\"a\"=\"x\"}"},
        {"one quote before the end", "a=\"\"\"x\"\"\"\"", "{\"a\"=\"x<22>\"}"},
        {"two quotes before the end", "a=\"\"\"x\"\"\"\"\"", "{\"a\"=\"x<22><22>\"}"},
        {"quotes inside", "a=\"\"\"x\"y\"\"z\"\"\"", "{\"a\"=\"x<22>y<22><22>z\"}"},
        {"escaped quotes inside", "a=\"\"\"\\\"\"\"\\\"\"\"\"", "{\"a\"=\"<22><22><22><22>\"}"},
        {"empty multi-line", "a=\"\"\"\"\"\"", "{\"a\"=\"\"}"},
        {"multi-line literal", "a='''\nx\\\ny'''", "{\"a\"=\"x<5c><0a>y\"}"},
        {"multi-line literal with quotes", "a=''''x''y''''", "{\"a\"=\"'x''y'\"}"},
        {"multi-line literal ending in two quotes", "a='''x'''''", "{\"a\"=\"x''\"}"},
    };
    RUN(check_valid, rows);
}

TEST(toml_reads_numbers_booleans_and_dates)
{
    static const struct row rows[] = {
        {"zero", "a=0", "{\"a\"=0}"},
        {"signed zero", "a=-0\nb=+0", "{\"a\"=0,\"b\"=0}"},
        {"plus", "a=+99", "{\"a\"=99}"},
        {"minus", "a=-17", "{\"a\"=-17}"},
        {"underscores", "a=1_000\nb=1_2_3", "{\"a\"=1000,\"b\"=123}"},
        {"largest", "a=9223372036854775807", "{\"a\"=9223372036854775807}"},
        {"smallest", "a=-9223372036854775808", "{\"a\"=-9223372036854775808}"},
        {"hex", "a=0xDEAD_beef", "{\"a\"=3735928559}"},
        {"hex with leading zeros", "a=0x00ff", "{\"a\"=255}"},
        {"hex with e", "a=0x1e2", "{\"a\"=482}"},
        {"octal", "a=0o0755", "{\"a\"=493}"},
        {"binary", "a=0b1101_0110", "{\"a\"=214}"},
        {"fraction", "a=3.14\nb=-0.01\nc=+1.0", "{\"a\"=3.14,\"b\"=-0.01,\"c\"=1}"},
        {"exponent", "a=5e+22\nb=1e06\nc=-2E-2", "{\"a\"=5e+22,\"b\"=1e+06,\"c\"=-0.02}"},
        {"fraction and exponent", "a=6.626e-34", "{\"a\"=6.626e-34}"},
        {"underscores in a float", "a=224_617.445_991", "{\"a\"=224617}"},
        {"zero exponent", "a=0e0", "{\"a\"=0}"},
        {"infinity", "a=inf\nb=+inf\nc=-inf", "{\"a\"=inf,\"b\"=inf,\"c\"=-inf}"},
        {"true and false", "a=true\nb=false", "{\"a\"=true,\"b\"=false}"},
        {"offset date-time", "a=1979-05-27T07:32:00Z", "{\"a\"=@1979-05-27T07:32:00Z}"},
        {"numeric offset", "a=1979-05-27T00:32:00-07:00", "{\"a\"=@1979-05-27T00:32:00-07:00}"},
        {"fraction of a second", "a=1979-05-27T00:32:00.999999+01:30", "{\"a\"=@1979-05-27T00:32:00.999999+01:30}"},
        {"blank for T", "a=1979-05-27 07:32:00Z", "{\"a\"=@1979-05-27 07:32:00Z}"},
        {"small t and z", "a=1979-05-27t07:32:00z", "{\"a\"=@1979-05-27t07:32:00z}"},
        {"local date-time", "a=1979-05-27T07:32:00", "{\"a\"=@1979-05-27T07:32:00}"},
        {"local date", "a=1979-05-27", "{\"a\"=@1979-05-27}"},
        {"local date and comment", "a=1979-05-27 # x", "{\"a\"=@1979-05-27}"},
        {"local time", "a=07:32:00", "{\"a\"=@07:32:00}"},
        {"local time with fraction", "a=00:32:00.5", "{\"a\"=@00:32:00.5}"},
        {"leap day", "a=2000-02-29", "{\"a\"=@2000-02-29}"},
        {"leap second", "a=1990-12-31T23:59:60Z", "{\"a\"=@1990-12-31T23:59:60Z}"},
    };
    RUN(check_valid, rows);
}

TEST(toml_reads_arrays_and_tables)
{
    static const struct row rows[] = {
        {"empty array", "a=[]", "{\"a\"=[]}"},
        {"array", "a=[1,2 , 3]", "{\"a\"=[1,2,3]}"},
        {"trailing comma", "a=[1,2,]", "{\"a\"=[1,2]}"},
        {"mixed kinds", "a=[1,\"x\",true,[],{}]", "{\"a\"=[1,\"x\",true,[],{}]}"},
        {"array over lines", "a=[\n 1, # one\n 2\n # end\n]", "{\"a\"=[1,2]}"},
        {"comma on its own line", "a=[1\n,\n2]", "{\"a\"=[1,2]}"},
        {"nested arrays", "a=[[1],[[2]]]", "{\"a\"=[[1],[[2]]]}"},
        {"bracket in a string", "a=[\"]\"]", "{\"a\"=[\"]\"]}"},
        {"inline table", "a={x=1,y=2}", "{\"a\"={\"x\"=1,\"y\"=2}}"},
        {"inline table with blanks", "a={ x = 1 , y = 2 }", "{\"a\"={\"x\"=1,\"y\"=2}}"},
        {"empty inline table", "a={ }", "{\"a\"={}}"},
        {"nested inline table", "a={x={y=1}}", "{\"a\"={\"x\"={\"y\"=1}}}"},
        {"dotted keys in an inline table", "a={x.y=1,x.z=2}", "{\"a\"={\"x\"={\"y\"=1,\"z\"=2}}}"},
        {"array over lines in an inline table", "a={x=[\n1,\n2]}", "{\"a\"={\"x\"=[1,2]}}"},
        {"multi-line string in an inline table", "a={x=\"\"\"\n1\n\"\"\"}", "{\"a\"={\"x\"=\"1<0a>\"}}"},
        {"array of inline tables", "a=[{x=1},{x=2}]", "{\"a\"=[{\"x\"=1},{\"x\"=2}]}"},
        {"table", "[a]\nx=1", "{\"a\"={\"x\"=1}}"},
        {"table with blanks", "[ a . b ]\nx=1", "{\"a\"={\"b\"={\"x\"=1}}}"},
        {"table with quoted name", "[\"a.b\".'c']\nx=1", "{\"a.b\"={\"c\"={\"x\"=1}}}"},
        {"empty table", "[a]", "{\"a\"={}}"},
        {"parent after child", "[a.b]\nx=1\n[a]\ny=2", "{\"a\"={\"b\"={\"x\"=1},\"y\"=2}}"},
        {"tables out of order", "[a.b]\n[c]\n[a.d]", "{\"a\"={\"b\"={},\"d\"={}},\"c\"={}}"},
        {"key at the root first", "x=1\n[a]", "{\"x\"=1,\"a\"={}}"},
        {"dotted key in a table", "[a]\nb.c=1", "{\"a\"={\"b\"={\"c\"=1}}}"},
        {"sub-table of a dotted key", "[a]\nb.c=1\n[a.b.d]\nx=1", "{\"a\"={\"b\"={\"c\"=1,\"d\"={\"x\"=1}}}}"},
        {"array of tables", "[[a]]\nx=1\n[[a]]\nx=2", "{\"a\"=[{\"x\"=1},{\"x\"=2}]}"},
        {"empty element", "[[a]]\n[[a]]", "{\"a\"=[{},{}]}"},
        {"sub-table of an element", "[[a]]\n[a.b]\nx=1\n[[a]]\n[a.b]\nx=2", "{\"a\"=[{\"b\"={\"x\"=1}},{\"b\"={\"x\"=2}}]}"},
        {"arrays of tables nest", "[[a]]\n[[a.b]]\nx=1\n[[a.b]]\nx=2\n[[a]]\n[[a.b]]\nx=3", "{\"a\"=[{\"b\"=[{\"x\"=1},{\"x\"=2}]},{\"b\"=[{\"x\"=3}]}]}"},
        {"array of tables in an implied table", "[[a.b]]\nx=1\n[a]\ny=1", "{\"a\"={\"b\"=[{\"x\"=1}],\"y\"=1}}"},
        {"same key in different tables", "[a]\nx=1\n[b]\nx=1", "{\"a\"={\"x\"=1},\"b\"={\"x\"=1}}"},
        {"a user list as it is written", "[pools.db]\n[[pools.db.users]]\nusername=\"u\"", "{\"pools\"={\"db\"={\"users\"=[{\"username\"=\"u\"}]}}}"},
        {"numbered users", "[pools.db.users.0]\nusername=\"u\"", "{\"pools\"={\"db\"={\"users\"={\"0\"={\"username\"=\"u\"}}}}}"},
    };
    RUN(check_valid, rows);
}

TEST(toml_refuses_broken_keys_and_lines)
{
    static const struct row rows[] = {
        {"no value", "a=", "line 1, column 3 in t.toml: expected a value"},
        {"no value before the line end", "a=\nb=1", "line 1, column 3"},
        {"no key", "=1", "line 1, column 1 in t.toml: expected a key"},
        {"no =", "a 1", "line 1, column 3 in t.toml: expected `=`"},
        {"only a key", "a", "expected `=`"},
        {"two pairs on a line", "a=1 b=2", "line 1, column 5 in t.toml: expected the end of the line"},
        {"text behind a header", "[a] x=1", "expected the end of the line"},
        {"duplicate key", "a=1\na=2", "line 2, column 1 in t.toml: duplicate key `a`"},
        {"duplicate by quotes", "a=1\n\"a\"=2", "duplicate key"},
        {"duplicate dotted key", "a.b=1\na.b=2", "duplicate key `b`"},
        {"dot first", ".a=1", "expected a key"},
        {"dot last", "a.=1", "expected a key"},
        {"two dots", "a..b=1", "expected a key"},
        {"key over two lines", "a\n=1", "expected `=`"},
        {"dotted key over two lines", "a.\nb=1", "expected a key"},
        {"multi-line string as key", "\"\"\"a\"\"\"=1", "a key cannot be a multi-line string"},
        {"multi-line literal as key", "'''a'''=1", "a key cannot be a multi-line string"},
        {"bare key with UTF-8", "é=1", "expected a key"},
        {"bare key with a sign", "a+b=1", "expected `=`"},
        {"quoted key not closed", "\"a=1\n", "not closed on its line"},
        {"dotted key into a value", "a=1\na.b=2", "cannot be extended"},
        {"dotted key into an inline table", "a={}\na.b=2", "cannot be extended"},
        {"dotted key into an array", "a=[]\na.b=2", "cannot be extended"},
        {"dotted key into a defined table", "[a.b]\nx=1\n[a]\nb.y=2", "line 4, column 1 in t.toml: key `b` cannot be extended"},
        {"dotted key into an implied table", "[a.b.c]\n[a]\nb.d=1", "cannot be extended"},
        {"dotted key into an array of tables", "[[a.b]]\n[a]\nb.y=2", "cannot be extended"},
        {"control character in a comment", "# \x01", "control character in a comment"},
        {"DEL in a comment", "# \x7f", "control character in a comment"},
        {"carriage return alone", "a=1\rb=2", "carriage return without line feed"},
        {"carriage return in a comment", "# x\ry", "control character in a comment"},
        {"carriage return at the end", "a=1\r", "carriage return without line feed"},
        {"invalid UTF-8", "a=\"\xff\"", "not valid UTF-8"},
        {"overlong UTF-8", "a=\"\xc0\x80\"", "not valid UTF-8"},
        {"surrogate in UTF-8", "a=\"\xed\xa0\x80\"", "not valid UTF-8"},
        {"cut UTF-8", "# \xe2\x82", "not valid UTF-8"},
        {"beyond Unicode", "a=\"\xf4\x90\x80\x80\"", "not valid UTF-8"},
        {"column counts characters", "\"é\"=1 x", "line 1, column 7"},
    };
    RUN(check_invalid, rows);
}

TEST(toml_refuses_broken_strings)
{
    static const struct row rows[] = {
        {"not closed", "a=\"x", "not closed"},
        {"closed on the next line", "a=\"x\ny\"", "line 1, column 5 in t.toml: the string is not closed on its line"},
        {"literal not closed", "a='x", "not closed"},
        {"literal over lines", "a='x\ny'", "not closed on its line"},
        {"multi-line not closed", "a=\"\"\"x\"\"", "line 1, column 3 in t.toml: the string is not closed"},
        {"multi-line literal not closed", "a='''x''", "not closed"},
        {"six quotes", "a=\"\"\"x\"\"\"\"\"\"", "expected the end of the line"},
        {"unknown escape", "a=\"\\q\"", "line 1, column 4 in t.toml: invalid escape sequence"},
        {"escaped quote of the other kind", "a=\"\\'\"", "invalid escape sequence"},
        {"x escape", "a=\"\\x41\"", "invalid escape sequence"},
        {"e escape", "a=\"\\e\"", "invalid escape sequence"},
        {"short u", "a=\"\\u12\"", "needs 4 hex digits"},
        {"short U", "a=\"\\U0001F60\"", "needs 8 hex digits"},
        {"surrogate escape", "a=\"\\ud800\"", "not a Unicode scalar value"},
        {"escape beyond Unicode", "a=\"\\U00110000\"", "not a Unicode scalar value"},
        {"backslash before a line end in a basic string", "a=\"x\\\ny\"", "invalid escape sequence"},
        {"backslash and blanks in a multi-line string", "a=\"\"\"x\\ y\"\"\"", "invalid escape sequence"},
        {"control character", "a=\"\x01\"", "control character in a string"},
        {"DEL", "a=\"\x7f\"", "control character in a string"},
        {"control character in a literal", "a='\x1f'", "control character in a string"},
        {"control character in a multi-line string", "a=\"\"\"\x0b\"\"\"", "control character in a string"},
        {"carriage return alone in a multi-line string", "a=\"\"\"x\ry\"\"\"", "carriage return without line feed"},
        {"text behind a string", "a=\"x\"y", "expected the end of the line"},
    };
    RUN(check_invalid, rows);
}

TEST(toml_refuses_broken_numbers_and_dates)
{
    static const struct row rows[] = {
        {"leading zero", "a=0600", "a number cannot have leading zeros"},
        {"signed leading zero", "a=-01", "leading zeros"},
        {"leading zero of a float", "a=00.5", "leading zeros"},
        {"leading underscore", "a=_1", "invalid value"},
        {"trailing underscore", "a=1_", "invalid value"},
        {"two underscores", "a=1__2", "invalid value"},
        {"two signs", "a=++1", "invalid value"},
        {"too large", "a=9223372036854775808", "does not fit 64 bits"},
        {"too small", "a=-9223372036854775809", "does not fit 64 bits"},
        {"hex too large", "a=0xffffffffffffffff", "does not fit 64 bits"},
        {"hex with sign", "a=+0xff", "invalid number"},
        {"hex in capitals", "a=0XFF", "invalid number"},
        {"hex without digits", "a=0x", "invalid number"},
        {"hex with leading underscore", "a=0x_1", "invalid number"},
        {"bad octal digit", "a=0o8", "invalid number"},
        {"bad binary digit", "a=0b2", "invalid number"},
        {"no digits before the point", "a=.5", "invalid value"},
        {"no digits behind the point", "a=5.", "invalid number"},
        {"point before exponent", "a=5.e1", "invalid number"},
        {"no exponent", "a=1e", "invalid number"},
        {"underscore at the point", "a=1_.5", "invalid value"},
        {"underscore behind the point", "a=1._5", "invalid number"},
        {"two points", "a=1.2.3", "invalid number"},
        {"fraction of an exponent", "a=1e2.3", "invalid number"},
        {"capital infinity", "a=Inf", "invalid value"},
        {"infinity spelt out", "a=infinity", "invalid value"},
        {"capital True", "a=True", "invalid value"},
        {"word", "a=yes", "invalid value"},
        {"bare text", "a=hello world", "invalid value"},
        {"null", "a=null", "invalid value"},
        {"number with unit", "a=5s", "invalid number"},
        {"month 13", "a=1979-13-01", "invalid date or time"},
        {"day 30 in February", "a=2001-02-30", "invalid date or time"},
        {"leap day in a common century", "a=1900-02-29", "invalid date or time"},
        {"hour 24", "a=24:00:00", "invalid date or time"},
        {"minute 60", "a=00:60:00", "invalid date or time"},
        {"no seconds", "a=07:32", "invalid date or time"},
        {"no seconds behind a date", "a=1979-05-27T07:32", "invalid date or time"},
        {"one-digit month", "a=1979-5-27", "invalid date or time"},
        {"T without time", "a=1979-05-27T", "invalid date or time"},
        {"empty fraction of a second", "a=07:32:00.", "invalid date or time"},
        {"offset of a time", "a=07:32:00Z", "invalid date or time"},
        {"offset without minutes", "a=1979-05-27T07:32:00+07", "invalid date or time"},
        {"offset too large", "a=1979-05-27T07:32:00+24:00", "invalid date or time"},
        {"two blanks for T", "a=1979-05-27  07:32:00", "expected the end of the line"},
    };
    RUN(check_invalid, rows);
}

TEST(toml_refuses_broken_arrays_and_tables)
{
    static const struct row rows[] = {
        {"array not closed", "a=[1,2", "expected `,` or `]`"},
        {"array without comma", "a=[1 2]", "expected `,` or `]`"},
        {"comma first", "a=[,1]", "expected a value"},
        {"two commas", "a=[1,,2]", "expected a value"},
        {"inline table not closed", "a={x=1", "expected `,` or `}`"},
        {"inline table over lines", "a={x=1,\ny=2}", "expected a key"},
        {"inline table opened over lines", "a={\nx=1}", "expected a key"},
        {"trailing comma in an inline table", "a={x=1,}", "expected a key"},
        {"duplicate in an inline table", "a={x=1,x=2}", "duplicate key `x`"},
        {"comment in an inline table", "a={x=1 # y\n}", "expected `,` or `}`"},
        {"inline table extended inside", "a={x={y=1},x.z=2}", "cannot be extended"},
        {"dotted over a value inside", "a={x=1,x.y=2}", "cannot be extended"},
        {"table twice", "[a]\n[a]", "line 2, column 2 in t.toml: duplicate key `a`"},
        {"table and key", "a=1\n[a]", "duplicate key `a`"},
        {"key and table", "[a]\nb=1\n[a.b]", "duplicate key `b`"},
        {"table through a value", "a=1\n[a.b]", "cannot be extended by a table header"},
        {"table of an inline table", "a={}\n[a.b]", "cannot be extended by a table header"},
        {"table again an inline table", "a={}\n[a]", "duplicate key"},
        {"table again by dotted keys", "a.b=1\n[a]", "duplicate key `a`"},
        {"sub-table again by dotted keys", "[a]\nb.c=1\n[a.b]", "duplicate key `b`"},
        {"empty header", "[]", "expected a key"},
        {"empty element header", "[[]]", "expected a key"},
        {"header not closed", "[a", "expected `]`"},
        {"element header half closed", "[[a]", "expected `]]`"},
        {"element header with blank inside", "[[a] ]", "expected `]]`"},
        {"header over lines", "[a\n]", "expected `]`"},
        {"header with trailing dot", "[a.]", "expected a key"},
        {"element of a table", "[a]\n[[a]]", "duplicate key `a`"},
        {"table again an array of tables", "[[a]]\n[a]", "duplicate key `a`"},
        {"element of a literal array", "a=[]\n[[a]]", "duplicate key `a`"},
        {"element of a literal array of tables", "a=[{x=1}]\n[[a]]", "duplicate key `a`"},
        {"sub-table of a literal array", "a=[{x=1}]\n[a.b]", "cannot be extended"},
        {"array of tables over a table's key", "[[a]]\nb=1\n[[a.b]]", "duplicate key `b`"},
        {"implied table made an array", "[a.b]\n[[a]]", "duplicate key `a`"},
        {"table twice in one element", "[[a]]\n[a.b]\n[a.b]", "duplicate key `b`"},
        {"lone bracket", "]", "expected a key"},
        {"lone brace", "}", "expected a key"},
    };
    RUN(check_invalid, rows);
}
/* clang-format on */

TEST(toml_bounds_its_nesting)
{
    char text[1024];
    struct row row = {"deep array", text, "nested too deeply"};

    memset(text, 0, sizeof text);
    memcpy(text, "a=", 2);
    memset(text + 2, '[', 500);
    check_invalid(&row);
}

TEST(toml_nodes_know_their_lines)
{
    static const char text[] = "a = 1\n\n[b]\nc = \"\"\"\n\n\"\"\"\nd = [\n1,\n2]\n";
    struct arena arena = {0};
    struct failure why;
    struct tree *root;

    EQ(toml_parse(&root, &arena, "t.toml", text, sizeof text - 1, &why), 0);
    EQ(tree_get(root, "a")->at.line, 1);
    const struct tree *b = tree_get(root, "b");
    EQ(b->at.line, 3);
    EQ(tree_get(b, "c")->at.line, 4);
    EQ(tree_get(b, "d")->at.line, 7);
    EQ(tree_get(b, "d")->entries[1].value->at.line, 9);
    STR_EQ(b->at.file, "t.toml");
    arena_free(&arena);
}

TEST(toml_refuses_nul_bytes_in_text)
{
    static const char text[] = "a = \"x\0y\"\n";
    static const char value[] = "a = 1\0\n";
    struct arena arena = {0};
    struct failure why;
    struct tree *root;

    EQ(toml_parse(&root, &arena, "t.toml", text, sizeof text - 1, &why), -1);
    EQ(toml_parse(&root, &arena, "t.toml", value, sizeof value - 1, &why), -1);
    arena_free(&arena);
}
