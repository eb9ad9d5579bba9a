#include "actors/inspect_internal.h"

#include <inttypes.h>
#include <math.h>

enum { FLOW_ENTRIES_MAX = 8, INDENT = 2 };

static bool is_empty(const msgpack_object *o)
{
    return (o->type == MSGPACK_OBJECT_MAP && o->via.map.size == 0) ||
           (o->type == MSGPACK_OBJECT_ARRAY && o->via.array.size == 0);
}

static bool is_block(const msgpack_object *o)
{
    return (o->type == MSGPACK_OBJECT_MAP || o->type == MSGPACK_OBJECT_ARRAY) && !is_empty(o);
}

static void integer(FILE *out, const msgpack_object *o)
{
    if (o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER)
        fprintf(out, "%" PRId64, o->via.i64);
    else
        fprintf(out, "%" PRIu64, o->via.u64);
}

/* A map or a list as a key stands for itself: its contents, quoted within quotes, could grow
 * without bound. */
static void composite_key(FILE *out, const msgpack_object *o)
{
    if (o->type == MSGPACK_OBJECT_MAP)
        fprintf(out, "\"<map of %u>\"", o->via.map.size);
    else
        fprintf(out, "\"<list of %u>\"", o->via.array.size);
}

/* --- YAML --- */

static void yaml_float(FILE *out, double v)
{
    if (isnan(v))
        fputs(".nan", out);
    else if (isinf(v))
        fputs(v < 0 ? "-.inf" : ".inf", out);
    else
        inspect_float(out, v);
}

static void yaml_scalar(FILE *out, const msgpack_object *o)
{
    switch (o->type) {
    case MSGPACK_OBJECT_NIL: fputs("null", out); break;
    case MSGPACK_OBJECT_BOOLEAN: fputs(o->via.boolean ? "true" : "false", out); break;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
    case MSGPACK_OBJECT_NEGATIVE_INTEGER: integer(out, o); break;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64: yaml_float(out, o->via.f64); break;
    case MSGPACK_OBJECT_STR: inspect_quote_yaml(out, o->via.str.ptr, o->via.str.size); break;
    case MSGPACK_OBJECT_BIN:
        fputs("!!binary ", out);
        inspect_base64(out, o->via.bin.ptr, o->via.bin.size);
        break;
    case MSGPACK_OBJECT_EXT:
        fprintf(out, "{ext: %d, data: !!binary ", o->via.ext.type);
        inspect_base64(out, o->via.ext.ptr, o->via.ext.size);
        putc('}', out);
        break;
    case MSGPACK_OBJECT_MAP: fputs("{}", out); break;
    case MSGPACK_OBJECT_ARRAY: fputs("[]", out); break;
    }
}

static void yaml_key(FILE *out, const msgpack_object *key)
{
    if (key->type == MSGPACK_OBJECT_MAP || key->type == MSGPACK_OBJECT_ARRAY)
        composite_key(out, key);
    else if (key->type == MSGPACK_OBJECT_EXT)
        inspect_base64(out, key->via.ext.ptr, key->via.ext.size);
    else
        yaml_scalar(out, key);
}

/* Small records in lists stand on one line each, so that they can be searched by line. */
static bool fits_one_line(const msgpack_object *o)
{
    if (o->type != MSGPACK_OBJECT_MAP || o->via.map.size > FLOW_ENTRIES_MAX)
        return false;
    for (uint32_t i = 0; i < o->via.map.size; i++) {
        if (is_block(&o->via.map.ptr[i].val))
            return false;
    }
    return true;
}

static void yaml_flow(FILE *out, const msgpack_object *map)
{
    putc('{', out);
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        if (i > 0)
            fputs(", ", out);
        yaml_key(out, &map->via.map.ptr[i].key);
        fputs(": ", out);
        yaml_scalar(out, &map->via.map.ptr[i].val);
    }
    fputs("}\n", out);
}

/* Prints o behind what stands on the line already; `listed`: that is the dash of a list, and the
 * first entry goes on the same line. Recursion is bounded by INSPECT_DEPTH_MAX. */
static void yaml_block(FILE *out, const msgpack_object *o, int indent, bool listed)
{
    bool map = o->type == MSGPACK_OBJECT_MAP;
    uint32_t count = map ? o->via.map.size : o->via.array.size;

    for (uint32_t i = 0; i < count; i++) {
        const msgpack_object *child = map ? &o->via.map.ptr[i].val : &o->via.array.ptr[i];

        if (i > 0 || !listed)
            fprintf(out, "%*s", indent, "");
        if (map)
            yaml_key(out, &o->via.map.ptr[i].key);
        putc(map ? ':' : '-', out);
        if (!is_block(child)) {
            putc(' ', out);
            yaml_scalar(out, child);
            putc('\n', out);
        } else if (!map && fits_one_line(child)) {
            putc(' ', out);
            yaml_flow(out, child);
        } else {
            putc(map ? '\n' : ' ', out);
            yaml_block(out, child, indent + INDENT, !map);
        }
    }
}

void inspect_emit_yaml(FILE *out, const msgpack_object *document)
{
    if (is_block(document)) {
        yaml_block(out, document, 0, false);
        return;
    }
    yaml_scalar(out, document);
    putc('\n', out);
}

/* --- JSON --- */

static void json_scalar(FILE *out, const msgpack_object *o)
{
    switch (o->type) {
    case MSGPACK_OBJECT_NIL: fputs("null", out); break;
    case MSGPACK_OBJECT_BOOLEAN: fputs(o->via.boolean ? "true" : "false", out); break;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
    case MSGPACK_OBJECT_NEGATIVE_INTEGER: integer(out, o); break;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        if (isfinite(o->via.f64))
            inspect_float(out, o->via.f64);
        else
            fputs("null", out); /* JSON has no word for it */
        break;
    case MSGPACK_OBJECT_STR: inspect_quote_json(out, o->via.str.ptr, o->via.str.size); break;
    case MSGPACK_OBJECT_BIN: inspect_base64(out, o->via.bin.ptr, o->via.bin.size); break;
    case MSGPACK_OBJECT_EXT:
        fprintf(out, "{\"ext\": %d, \"data\": ", o->via.ext.type);
        inspect_base64(out, o->via.ext.ptr, o->via.ext.size);
        putc('}', out);
        break;
    case MSGPACK_OBJECT_MAP: fputs("{}", out); break;
    case MSGPACK_OBJECT_ARRAY: fputs("[]", out); break;
    }
}

static void json_key(FILE *out, const msgpack_object *key)
{
    switch (key->type) {
    case MSGPACK_OBJECT_STR:
    case MSGPACK_OBJECT_BIN: json_scalar(out, key); break;
    case MSGPACK_OBJECT_MAP:
    case MSGPACK_OBJECT_ARRAY: composite_key(out, key); break;
    case MSGPACK_OBJECT_EXT: inspect_base64(out, key->via.ext.ptr, key->via.ext.size); break;
    case MSGPACK_OBJECT_NIL:
    case MSGPACK_OBJECT_BOOLEAN:
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        putc('"', out);
        json_scalar(out, key);
        putc('"', out);
        break;
    }
}

static void json_value(FILE *out, const msgpack_object *o, int indent)
{
    bool map = o->type == MSGPACK_OBJECT_MAP;

    if (!is_block(o)) {
        json_scalar(out, o);
        return;
    }
    uint32_t count = map ? o->via.map.size : o->via.array.size;
    fputs(map ? "{\n" : "[\n", out);
    for (uint32_t i = 0; i < count; i++) {
        fprintf(out, "%*s", indent + INDENT, "");
        if (map) {
            json_key(out, &o->via.map.ptr[i].key);
            fputs(": ", out);
        }
        json_value(out, map ? &o->via.map.ptr[i].val : &o->via.array.ptr[i], indent + INDENT);
        fputs(i + 1 < count ? ",\n" : "\n", out);
    }
    fprintf(out, "%*s%c", indent, "", map ? '}' : ']');
}

void inspect_emit_json(FILE *out, const msgpack_object *document)
{
    json_value(out, document, 0);
    putc('\n', out);
}
