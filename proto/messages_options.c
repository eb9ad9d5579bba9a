/* The `options` startup parameter: a command line for the session. */
#include "proto/messages.h"

static bool is_blank(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Copies the next word, without its backslashes, to *to and moves *to behind it. False: no more. */
static bool next_word(struct bytes *text, char **to, struct bytes *word)
{
    char *start = *to;
    bool escaped = false;

    while (text->len > 0 && is_blank(*text->at)) {
        text->at++;
        text->len--;
    }
    if (text->len == 0)
        return false;
    while (text->len > 0) {
        uint8_t c = *text->at;

        if (!escaped && is_blank(c))
            break;
        if (!escaped && c == '\\') {
            escaped = true;
        } else {
            *(*to)++ = (char)c;
            escaped = false;
        }
        text->at++;
        text->len--;
    }
    *word = (struct bytes){(const uint8_t *)start, (size_t)(*to - start)};
    return true;
}

/* Splits name=value. Dashes of the name become underscores, in place: the word lies in scratch. */
static int split_pair(struct bytes word, struct parameter *out)
{
    const uint8_t *equals = word.len == 0 ? NULL : memchr(word.at, '=', word.len);

    if (equals == NULL || equals == word.at)
        return -1;
    out->name = (struct bytes){word.at, (size_t)(equals - word.at)};
    out->value = (struct bytes){equals + 1, word.len - out->name.len - 1};
    for (char *p = (char *)(uintptr_t)word.at; p != (const char *)equals; p++)
        if (*p == '-')
            *p = '_';
    return 0;
}

static struct bytes skip(struct bytes word, size_t n)
{
    return (struct bytes){word.at + n, word.len - n};
}

int read_options(struct bytes text, char *scratch, struct parameter *out, size_t max)
{
    struct bytes word;
    size_t count = 0;

    while (next_word(&text, &scratch, &word)) {
        if (word.len < 2 || word.at[0] != '-')
            return -1;
        if (word.at[1] == '-')
            word = skip(word, 2);
        else if (word.at[1] != 'c')
            return -1; /* other switches of the server are not for a pooler to honour */
        else if (word.len > 2)
            word = skip(word, 2);
        else if (!next_word(&text, &scratch, &word))
            return -1;
        if (count == max || split_pair(word, &out[count]) != 0)
            return -1;
        count++;
    }
    return (int)count;
}
