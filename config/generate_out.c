#include "config/generate_out.h"

#include "config/value.h"

#include <inttypes.h>
#include <strings.h>

enum { WIDTH = 96 };

void out_quoted(FILE *to, const char *text)
{
    fputc('"', to);
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; at++) {
        if (*at == '"' || *at == '\\')
            fprintf(to, "\\%c", *at);
        else if (*at < 0x20 || *at == 0x7f)
            fprintf(to, "\\u%04x", *at);
        else
            fputc(*at, to);
    }
    fputc('"', to);
}

/* Words that some reader of YAML takes for a truth value or for nothing. */
static bool is_word_of_yaml(const char *name)
{
    static const char *const words[] = {"true", "false", "yes", "no",  "on",
                                        "off",  "y",     "n",   "null"};

    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (strcasecmp(name, words[i]) == 0)
            return true;
    return false;
}

void out_name(FILE *to, const char *name)
{
    static const char first[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    static const char all[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789-";

    if (*name != '\0' && strchr(first, *name) != NULL && strspn(name, all) == strlen(name) &&
        !is_word_of_yaml(name))
        fputs(name, to);
    else
        out_quoted(to, name);
}

static int depth(const struct generate_out *out)
{
    return out->request->yaml ? out->indent : 0;
}

/* Length in characters: the comments may be Russian. */
static int width_of(const char *text, size_t len)
{
    int width = 0;

    for (size_t i = 0; i < len; i++)
        width += ((unsigned char)text[i] & 0xc0) != 0x80;
    return width;
}

void out_comment(struct generate_out *out, const char *english, const char *russian)
{
    const char *at = out->request->russian ? russian : english;
    int column = 0;

    if (!out->explain)
        return;
    while (*at != '\0') {
        size_t len = strcspn(at, " \n");
        int width = width_of(at, len);

        if (column > 0 && column + 1 + width > WIDTH) {
            fputc('\n', out->to);
            column = 0;
        }
        if (column == 0)
            column = fprintf(out->to, "%*s# ", depth(out), "") - 1;
        else
            fputc(' ', out->to);
        fwrite(at, 1, len, out->to);
        column += 1 + width;
        at += len;
        if (*at == '\n') {
            fputc('\n', out->to);
            column = 0;
        }
        at += *at != '\0';
    }
    if (column > 0)
        fputc('\n', out->to);
}

void out_gap(struct generate_out *out)
{
    if (out->explain)
        fputc('\n', out->to);
}

static void begin_line(struct generate_out *out)
{
    fprintf(out->to, "%*s%s", depth(out), "", out->off ? "# " : "");
    if (out->request->yaml && out->item) {
        fputs("- ", out->to);
        out->indent += 2;
        out->item = false;
    }
}

void out_line(struct generate_out *out, const char *text)
{
    begin_line(out);
    fprintf(out->to, "%s\n", text);
}

static void out_list(struct generate_out *out, const char *value)
{
    fputc('[', out->to);
    while (*value != '\0') {
        char item[256];
        size_t len = strcspn(value, ",");

        snprintf(item, sizeof item, "%.*s", (int)len, value);
        out_quoted(out->to, item);
        value += len;
        value += strspn(value, ", ");
        if (*value != '\0')
            fputs(", ", out->to);
    }
    fputc(']', out->to);
}

/* "name=value" */
static void out_map(struct generate_out *out, const char *value)
{
    size_t len = strcspn(value, "=");

    fprintf(out->to, "{%.*s%s", (int)len, value, out->request->yaml ? ": " : " = ");
    out_quoted(out->to, value + len + 1);
    fputc('}', out->to);
}

/* People read "5s", programs 5000: YAML with comments takes the first. */
static void out_scaled(struct generate_out *out, const struct setting *setting, const char *value)
{
    bool words = out->request->yaml && out->request->comments;
    uint64_t number = 0;
    int result = setting->type == SETTING_BYTES ? bytes_parse(&number, value, NULL)
                                                : duration_parse(&number, value, NULL);

    INVARIANT(result == 0);
    if (words && number != 0)
        out_quoted(out->to, value);
    else
        fprintf(out->to, "%" PRIu64, number);
}

void out_setting(struct generate_out *out, const struct setting *setting, const char *value)
{
    begin_line(out);
    fprintf(out->to, "%s%s", setting->name, out->request->yaml ? ": " : " = ");
    switch (setting->type) {
    case SETTING_DURATION:
    case SETTING_BYTES: out_scaled(out, setting, value); break;
    case SETTING_LIST:
    case SETTING_CIDR_LIST: out_list(out, value); break;
    case SETTING_MAP: out_map(out, value); break;
    case SETTING_STRING:
    case SETTING_POOL_MODE:
    case SETTING_HBA: out_quoted(out->to, value); break;
    case SETTING_BOOL:
    case SETTING_U16:
    case SETTING_U32:
    case SETTING_U64:
    case SETTING_USIZE:
    case SETTING_MS: fputs(value, out->to); break;
    case SETTING_SECTION: break;
    }
    fputc('\n', out->to);
}
