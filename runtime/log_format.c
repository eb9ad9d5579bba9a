#include "runtime/log_internal.h"

#include <stdio.h>
#include <time.h>

static const struct {
    const char *name;
    const char *padded;
    const char *colour;
} levels[] = {
    [LOG_OFF] = {"OFF", "  OFF", "0"},      [LOG_ERROR] = {"ERROR", "ERROR", "31"},
    [LOG_WARN] = {"WARN", " WARN", "33"},   [LOG_INFO] = {"INFO", " INFO", "32"},
    [LOG_DEBUG] = {"DEBUG", "DEBUG", "36"}, [LOG_TRACE] = {"TRACE", "TRACE", "90"},
};

/* Appends what fits; the end is checked once. */
struct line {
    char *at;
    size_t len;
    size_t size;
};

static void line_raw(struct line *l, const char *text, size_t len)
{
    size_t n = MIN(len, l->size - l->len);

    memcpy(l->at + l->len, text, n);
    l->len += n;
}

static void line_text(struct line *l, const char *text)
{
    line_raw(l, text, strlen(text));
}

static void line_time(struct line *l, uint64_t at_ms)
{
    time_t seconds = (time_t)(at_ms / 1000);
    struct tm t;
    char text[64];

    gmtime_r(&seconds, &t);
    int n = snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", t.tm_year + 1900,
                     t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, (int)(at_ms % 1000));
    line_raw(l, text, (size_t)n);
}

static void line_number(struct line *l, int n)
{
    char text[16];

    line_raw(l, text, (size_t)snprintf(text, sizeof text, "%d", n));
}

/* A newline always fits: one byte of the room is kept for it. */
static size_t line_end(struct line *l)
{
    l->at[l->len++] = '\n';
    return l->len;
}

static void line_unicode(struct line *l, unsigned c)
{
    char text[8];

    line_raw(l, text, (size_t)snprintf(text, sizeof text, "\\u%04x", c));
}

/* U+0080 to U+009F are control characters as well. */
static bool is_c1(const uint8_t *p, size_t left)
{
    return p[0] == 0xc2 && left > 1 && p[1] >= 0x80 && p[1] < 0xa0;
}

/* Names that strangers send must neither begin a line of their own nor command a terminal: further
 * lines begin with a tab, as in PostgreSQL's log. */
static void line_printable(struct line *l, const char *text, size_t len)
{
    const uint8_t *p = (const uint8_t *)text;

    for (size_t i = 0; i < len; i++) {
        if (p[i] == '\n')
            line_text(l, "\n\t");
        else if ((p[i] < 0x20 && p[i] != '\t') || p[i] == 0x7f)
            line_unicode(l, p[i]);
        else if (is_c1(p + i, len - i))
            line_unicode(l, p[++i]);
        else
            line_raw(l, text + i, 1);
    }
}

size_t log_format_text(char *out, size_t size, const struct log_record *r, bool colour)
{
    struct line l = {out, 0, size - 1};

    line_time(&l, r->at_ms);
    line_text(&l, " ");
    if (colour) {
        line_text(&l, "\033[");
        line_text(&l, levels[r->level].colour);
        line_text(&l, "m");
    }
    line_text(&l, levels[r->level].padded);
    if (colour)
        line_text(&l, "\033[0m");
    line_text(&l, " ");
    line_text(&l, r->file);
    line_text(&l, ":");
    line_number(&l, r->line);
    line_text(&l, ": ");
    line_printable(&l, log_record_message(r), r->len);
    return line_end(&l);
}

static void line_escaped(struct line *l, const char *text, size_t len)
{
    const uint8_t *p = (const uint8_t *)text;

    for (size_t i = 0; i < len; i++) {
        switch (p[i]) {
        case '\\': line_text(l, "\\\\"); continue;
        case '"': line_text(l, "\\\""); continue;
        case '\n': line_text(l, "\\n"); continue;
        case '\r': line_text(l, "\\r"); continue;
        case '\t': line_text(l, "\\t"); continue;
        default: break;
        }
        if (p[i] < 0x20 || p[i] == 0x7f) {
            line_unicode(l, p[i]);
        } else if (is_c1(p + i, len - i)) {
            line_unicode(l, p[++i]);
        } else {
            line_raw(l, (const char *)p + i, 1);
        }
    }
}

size_t log_format_structured(char *out, size_t size, const struct log_record *r)
{
    struct line l = {out, 0, size - 1};

    line_text(&l, "{\"timestamp\":\"");
    line_time(&l, r->at_ms);
    line_text(&l, "\",\"level\":\"");
    line_text(&l, levels[r->level].name);
    line_text(&l, "\",\"file\":\"");
    line_escaped(&l, r->file, strlen(r->file));
    line_text(&l, "\",\"line\":");
    line_number(&l, r->line);
    line_text(&l, ",\"message\":\"");
    line_escaped(&l, log_record_message(r), r->len);
    line_text(&l, "\"}");
    return line_end(&l);
}

char *format_duration(char *out, size_t size, uint64_t microseconds)
{
    unsigned long long ms = microseconds / 1000;
    unsigned long long s = ms / 1000;

    if (s == 0)
        snprintf(out, size, "%llums", ms);
    else if (s < 60)
        snprintf(out, size, "%llu.%03llus", s, ms % 1000);
    else if (s < 3600)
        snprintf(out, size, "%llum%llus", s / 60, s % 60);
    else if (s < 86400)
        snprintf(out, size, "%lluh%llum", s / 3600, s / 60 % 60);
    else
        snprintf(out, size, "%llud %lluh", s / 86400, s / 3600 % 24);
    return out;
}
