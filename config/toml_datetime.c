/* toml_datetime.c: dates and times. No setting takes one; a strict reader still knows them. */
#include "config/toml_reader.h"

/* Exactly `digits` digits between least and most. */
static bool field(const char **p, const char *end, int digits, int least, int most, int *out)
{
    int value = 0;

    if (end - *p < digits)
        return false;
    for (int i = 0; i < digits; i++, ++*p) {
        if (**p < '0' || **p > '9')
            return false;
        value = value * 10 + (**p - '0');
    }
    if (out != NULL)
        *out = value;
    return value >= least && value <= most;
}

static bool mark(const char **p, const char *end, const char *any_of)
{
    if (*p == end || **p == '\0' || strchr(any_of, **p) == NULL)
        return false;
    ++*p;
    return true;
}

static bool date(const char **p, const char *end)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year, month, day;

    if (!field(p, end, 4, 0, 9999, &year) || !mark(p, end, "-") ||
        !field(p, end, 2, 1, 12, &month) || !mark(p, end, "-") || !field(p, end, 2, 1, 31, &day))
        return false;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return day <= days[month - 1] + (month == 2 && leap);
}

static bool time_of_day(const char **p, const char *end)
{
    if (!field(p, end, 2, 0, 23, NULL) || !mark(p, end, ":") || !field(p, end, 2, 0, 59, NULL) ||
        !mark(p, end, ":") || !field(p, end, 2, 0, 60, NULL))
        return false;
    if (!mark(p, end, "."))
        return true;
    const char *fraction = *p;
    while (*p < end && **p >= '0' && **p <= '9')
        ++*p;
    return *p > fraction;
}

static bool offset(const char **p, const char *end)
{
    if (mark(p, end, "Zz"))
        return true;
    return mark(p, end, "+-") && field(p, end, 2, 0, 23, NULL) && mark(p, end, ":") &&
           field(p, end, 2, 0, 59, NULL);
}

bool toml_datetime_valid(const char *p, const char *end)
{
    if (end - p >= 3 && p[2] == ':')
        return time_of_day(&p, end) && p == end;
    if (!date(&p, end))
        return false;
    if (p == end)
        return true;
    if (!mark(&p, end, "Tt ") || !time_of_day(&p, end))
        return false;
    return p == end || (offset(&p, end) && p == end);
}
