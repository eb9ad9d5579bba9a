#include "proto/scan_internal.h"

/* --- the one pass over all bytes --- */

typedef uint8_t lanes __attribute__((vector_size(16)));
enum { BLOCK = 16, REACH = BLOCK + 2 };

static lanes load(const uint8_t *p)
{
    lanes v;

    memcpy(&v, p, sizeof v);
    return v;
}

/* Two letters of each word that matters, chosen to be rare in SQL: aDVisory, seT_conFiG, teMP,
 * pg_settinGS, cuRVal, lasTVal; and the end of a statement. Reads REACH bytes. */
static bool worth_a_look(const uint8_t *p)
{
    lanes x = load(p) | 0x20;
    lanes y = load(p + 1) | 0x20;
    lanes z = load(p + 2) | 0x20;
    lanes hit = (lanes)(x == ';') |
                (((lanes)(x == 'd') | (lanes)(x == 'r') | (lanes)(x == 't')) & (lanes)(y == 'v')) |
                ((lanes)(x == 'f') & (lanes)(z == 'g')) | ((lanes)(x == 'm') & (lanes)(y == 'p')) |
                ((lanes)(x == 'g') & (lanes)(y == 's'));
    uint64_t halves[2];

    memcpy(halves, &hit, sizeof halves);
    return (halves[0] | halves[1]) != 0;
}

/* Is `word` there, `back` bytes before `at`? */
static bool word_around(const struct scan *s, const uint8_t *at, size_t back, const char *word)
{
    size_t len = strlen(word);

    if ((size_t)(at - s->text) < back || (size_t)(s->end - (at - back)) < len)
        return false;
    return scan_same(at - back, word, len);
}

static void look_at_semicolon(struct scan *s, const uint8_t *at)
{
    while (++at < s->end && scan_is_space(*at))
        ;
    if (at < s->end)
        s->lex = true; /* there is more than one statement */
}

static void look_at(struct scan *s, const uint8_t *at)
{
    switch (*at | 0x20) {
    case ';': look_at_semicolon(s, at); break;
    case 'd':
        if (word_around(s, at, 1, "advisory_lock"))
            s->found |= SCAN_ADVISORY;
        else if (word_around(s, at, 1, "advisory_unlock_all"))
            s->lex = true;
        break;
    case 'r':
    case 't':
        if (s->end - at < 2 || (at[1] | 0x20) != 'v') /* common letters, otherwise */
            break;
        if (word_around(s, at, 3, "currval") || word_around(s, at, 3, "lastval"))
            s->found |= SCAN_SEQUENCES;
        break;
    case 'f':
        if ((s->found & SCAN_SET) == 0 && word_around(s, at, 7, "set_config") &&
            !scan_config_is_local(s, at + 3))
            s->found |= SCAN_SET | SCAN_ROLE | SCAN_AUTHORIZATION;
        break;
    case 'm':
        if ((s->found & SCAN_TEMP) == 0 && word_around(s, at, 2, "temp") &&
            scan_temp_matters(s, at - 2))
            s->found |= SCAN_TEMP;
        break;
    case 'g':
        if (word_around(s, at, 9, "pg_settings") && scan_has_update(s))
            s->found |= SCAN_SET | SCAN_ROLE | SCAN_AUTHORIZATION;
        break;
    default: break;
    }
}

static void look_at_all(struct scan *s, const uint8_t *from, const uint8_t *to)
{
    for (; from < to; from++)
        look_at(s, from);
}

static void pass(struct scan *s)
{
    uint8_t padded[BLOCK + REACH] = {0};
    const uint8_t *at = s->text;

    for (; s->end - at >= REACH; at += BLOCK) {
        if (UNLIKELY(worth_a_look(at)))
            look_at_all(s, at, at + BLOCK);
    }
    if (at == s->end)
        return;
    memcpy(padded, at, (size_t)(s->end - at));
    if (worth_a_look(padded) || (s->end - at > BLOCK && worth_a_look(padded + BLOCK)))
        look_at_all(s, at, s->end);
}

/* --- the first statement, at a glance --- */

/* May the first statement matter by its first word? All others of the text are behind a
 * semicolon, which pass() has found. */
static bool first_matters(const struct scan *s)
{
    const uint8_t *p = s->text;

    while (p < s->end && scan_is_space(*p))
        p++;
    if (s->end - p < 3)
        return false;
    switch (*p | 0x20) {
    case 's': return (p[1] | 0x20) == 'e' && (p[2] | 0x20) == 't';
    case 'u': return (p[1] | 0x20) == 'n';
    case 'd': return (p[1] | 0x20) != 'e' || (p[2] | 0x20) != 'l'; /* not DELETE */
    case 'c':
    case 'r':
    case 'p':
    case 'l':
    case 'a':
    case '-':
    case '/': return true;
    default: return false;
    }
}

/* --- putting it together --- */

static void take_found(struct scan *s)
{
    struct scan_effect *e = &s->effect;

    /* Where among the statements it stands is not known: what it leaves is taken to come last. */
    e->leaves |= s->found;
    e->clears &= (uint16_t)~s->found;
    if (s->found & SCAN_SET) {
        e->setting = SCAN_MANY;
        e->clears &= (uint16_t)~SCAN_RESET_ONE;
    }
    if ((e->leaves & SCAN_PREPARE) && s->found != 0)
        e->leaves |= SCAN_LASTS;
}

static void take_doubt(struct scan *s)
{
    s->effect.clears = 0;
    s->effect.seen = 0;
    if (scan_has_word(s, "copy"))
        s->effect.leaves |= SCAN_COPIES;
    if (s->effect.setting != 0)
        s->effect.setting = SCAN_MANY;
}

struct scan_effect scan_sql(const uint8_t *text, size_t len)
{
    enum { LOOKS_PER_BYTE = 8 };
    struct scan s = {.text = text, .at = text, .end = text + len, .looks = len * LOOKS_PER_BYTE};

    if (len == 0)
        return s.effect;
    pass(&s);
    if (s.lex || first_matters(&s))
        scan_statements(&s);
    take_found(&s);
    if (s.odd)
        take_doubt(&s);
    return s.effect;
}

struct scan_effect scan_sql_start(const uint8_t *text, size_t len)
{
    struct scan_effect e = scan_sql(text, len);

    e.leaves |= SCAN_COPIES;
    e.clears = 0;
    e.seen = 0;
    if (e.setting != 0)
        e.setting = SCAN_MANY;
    return e;
}

uint16_t scan_function(uint32_t oid)
{
    enum { CURRVAL = 1575, SET_CONFIG = 2078, LASTVAL = 2559 };

    /* pg_advisory_lock and its kin for one number and for two, but not the ones that unlock. */
    if ((oid >= 2880 && oid <= 2883) || (oid >= 2886 && oid <= 2889))
        return SCAN_ADVISORY;
    if (oid == CURRVAL || oid == LASTVAL)
        return SCAN_SEQUENCES;
    return oid == SET_CONFIG ? SCAN_SET | SCAN_ROLE | SCAN_AUTHORIZATION : 0;
}
