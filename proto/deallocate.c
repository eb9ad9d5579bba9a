/* deallocate.c: as src/backend/parser/scan.l of PostgreSQL splits text, for this one statement. */
#include "proto/deallocate.h"

#include "proto/frame.h"

struct text {
    const uint8_t *at;
    const uint8_t *end;
};

static bool is_blank(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool starts(const struct text *t, const char *two)
{
    return t->end - t->at >= 2 && t->at[0] == (uint8_t)two[0] && t->at[1] == (uint8_t)two[1];
}

/* Block comments nest. False: it does not end. */
static bool skip_block(struct text *t)
{
    int depth = 0;

    while (t->at < t->end) {
        if (starts(t, "/*")) {
            depth++;
            t->at += 2;
        } else if (starts(t, "*/")) {
            depth--;
            t->at += 2;
            if (depth == 0)
                return true;
        } else {
            t->at++;
        }
    }
    return false;
}

static bool skip_blanks(struct text *t)
{
    while (t->at < t->end) {
        if (is_blank(*t->at)) {
            t->at++;
        } else if (starts(t, "--")) {
            while (t->at < t->end && *t->at != '\n' && *t->at != '\r')
                t->at++;
        } else if (starts(t, "/*")) {
            if (!skip_block(t))
                return false;
        } else {
            break;
        }
    }
    return true;
}

static bool is_start(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80;
}

static bool is_part(uint8_t c)
{
    return is_start(c) || (c >= '0' && c <= '9') || c == '$';
}

struct word {
    char text[DEALLOCATE_NAME + 1];
    uint32_t len;
    bool quoted;
};

static bool word_add(struct word *word, uint8_t c)
{
    if (word->len == DEALLOCATE_NAME)
        return false;
    word->text[word->len++] = (char)c;
    return true;
}

static bool read_quoted(struct text *t, struct word *word)
{
    word->quoted = true;
    for (t->at++; t->at < t->end; t->at++) {
        if (*t->at == '"') {
            if (!starts(t, "\"\"")) {
                t->at++;
                return word->len > 0;
            }
            t->at++;
        }
        if (!word_add(word, *t->at))
            return false;
    }
    return false;
}

static bool read_word(struct text *t, struct word *word)
{
    word->len = 0;
    word->quoted = false;
    if (!skip_blanks(t) || t->at == t->end)
        return false;
    if (*t->at == '"')
        return read_quoted(t, word);
    if (!is_start(*t->at))
        return false;
    for (; t->at < t->end && is_part(*t->at); t->at++) {
        uint8_t c = *t->at;

        if (!word_add(word, c >= 'A' && c <= 'Z' ? (uint8_t)(c + 'a' - 'A') : c))
            return false;
    }
    /* U&"name", or what is no statement at all */
    return t->at == t->end || (*t->at != '"' && *t->at != '&' && *t->at != '\'');
}

static bool word_is(const struct word *word, const char *plain)
{
    return !word->quoted && word->len == strlen(plain) && memcmp(word->text, plain, word->len) == 0;
}

/* Semicolons and blanks only. */
static bool at_end(struct text *t)
{
    while (skip_blanks(t) && t->at < t->end && *t->at == ';')
        t->at++;
    return t->at == t->end;
}

enum deallocate deallocate_read(struct bytes text, char name[DEALLOCATE_NAME + 1],
                                uint32_t *name_len)
{
    struct text t = {text.at, text.at + text.len};
    struct word word;

    if (!skip_blanks(&t) || t.at == t.end || (*t.at | 0x20) != 'd' || !read_word(&t, &word) ||
        !word_is(&word, "deallocate") || !read_word(&t, &word))
        return DEALLOCATE_NOT;
    if (word_is(&word, "prepare")) {
        struct text behind = t;

        /* PREPARE may be the name itself. */
        if (!at_end(&behind) && !read_word(&t, &word))
            return DEALLOCATE_NOT;
    }
    if (!at_end(&t))
        return DEALLOCATE_NOT;
    if (word_is(&word, "all"))
        return DEALLOCATE_ALL;
    memcpy(name, word.text, word.len);
    name[word.len] = '\0';
    *name_len = word.len;
    return DEALLOCATE_ONE;
}
