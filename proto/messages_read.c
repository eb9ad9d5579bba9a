/* Reading of message bodies. */
#include "proto/messages.h"

static int startup_layout(struct failure *why)
{
    return fail(why, "invalid startup packet layout: expected terminator as last byte");
}

int read_startup(const uint8_t *body, size_t len, struct parameter *out, size_t max,
                 struct failure *why)
{
    struct cursor c = cursor_of(body, len);
    size_t count = 0;

    for (;;) {
        struct bytes name = cursor_string(&c);

        if (c.bad)
            return startup_layout(why);
        if (name.len == 0)
            break;

        struct bytes value = cursor_string(&c);
        if (c.bad)
            return startup_layout(why);
        if (count == max)
            return fail(why, "invalid startup packet: more than %zu parameters", max);
        out[count++] = (struct parameter){name, value};
    }
    if (cursor_left(&c) != 0)
        return startup_layout(why);
    return (int)count;
}

int read_error(const uint8_t *body, size_t len, struct error_fields *out)
{
    struct cursor c = cursor_of(body, len);

    *out = (struct error_fields){0};
    for (;;) {
        uint8_t name = cursor_u8(&c);

        if (c.bad)
            return -1;
        if (name == 0)
            return cursor_left(&c) == 0 ? 0 : -1;

        struct bytes text = cursor_string(&c);
        if (c.bad)
            return -1;
        switch (name) {
        case 'S': out->severity = text; break;
        case 'V': out->severity_fixed = text; break;
        case 'C': out->sqlstate = text; break;
        case 'M': out->message = text; break;
        case 'D': out->detail = text; break;
        case 'H': out->hint = text; break;
        case 'R': out->routine = text; break;
        default: break; /* readers must accept fields they do not know */
        }
    }
}

int read_parameter_status(const uint8_t *body, size_t len, struct parameter *out)
{
    struct cursor c = cursor_of(body, len);

    out->name = cursor_string(&c);
    out->value = cursor_string(&c);
    return c.bad || cursor_left(&c) != 0 || out->name.len == 0 ? -1 : 0;
}

int read_password(const uint8_t *body, size_t len, struct bytes *out)
{
    struct cursor c = cursor_of(body, len);

    *out = cursor_string(&c);
    return c.bad || cursor_left(&c) != 0 ? -1 : 0;
}

int read_sasl_initial(const uint8_t *body, size_t len, struct bytes *mechanism, struct bytes *data)
{
    struct cursor c = cursor_of(body, len);

    *mechanism = cursor_string(&c);

    uint32_t data_len = cursor_u32(&c);
    *data = data_len == UINT32_MAX ? (struct bytes){NULL, 0} : cursor_bytes(&c, data_len);
    return c.bad || cursor_left(&c) != 0 ? -1 : 0;
}

bool read_sasl_offered(const uint8_t *list, size_t len, const char *mechanism)
{
    struct cursor c = cursor_of(list, len);
    bool offered = false;

    for (;;) {
        struct bytes name = cursor_string(&c);

        if (c.bad)
            return false;
        if (name.len == 0)
            return offered && cursor_left(&c) == 0;
        offered = offered || bytes_equal(name, bytes_of(mechanism));
    }
}
