#!/usr/bin/env python3
"""Writes auth/saslprep_tables.h: the tables of SASLprep (RFC 4013) and of NFKC.

Only characters that Unicode 3.2 assigns are in the tables of NFKC: SASLprep refuses the others
before it normalizes. Run from the top of the tree: auth/make_saslprep_tables.py
"""
import stringprep
import unicodedata

LIMIT = 0x110000
codes = [c for c in range(LIMIT) if not 0xD800 <= c <= 0xDFFF]
assigned = [c for c in codes if not stringprep.in_table_a1(chr(c))]
is_hangul = lambda c: 0xAC00 <= c <= 0xD7A3


def ranges(member):
    out = []
    for c in range(LIMIT):
        if member(chr(c)):
            if out and out[-1][1] == c - 1:
                out[-1][1] = c
            else:
                out.append([c, c])
    return out


def rows(items, form, per_line):
    texts = [form(i) for i in items]
    for i in range(0, len(texts), per_line):
        yield "    " + ", ".join(texts[i : i + per_line]) + ",\n"


def emit(f, declaration, items, form, per_line=4):
    f.write(f"static const {declaration} = {{\n")
    f.writelines(rows(items, form, per_line))
    f.write("};\n\n")


def emit_ranges(f, name, member):
    emit(f, f"struct code_range {name}[]", ranges(member), lambda r: f"{{0x{r[0]:x}, 0x{r[1]:x}}}")


prohibited = [stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3,
              stringprep.in_table_c4, stringprep.in_table_c5, stringprep.in_table_c6,
              stringprep.in_table_c7, stringprep.in_table_c8, stringprep.in_table_c9]

pool, places, decompositions = [], {}, []
for c in assigned:
    full = unicodedata.normalize("NFKD", chr(c))
    if is_hangul(c) or full == chr(c):
        continue
    if full not in places:
        places[full] = len(pool)
        pool.extend(ord(x) for x in full)
    decompositions.append((c, places[full], len(full)))

compositions = []
for c in assigned:
    parts = unicodedata.decomposition(chr(c)).split()
    if is_hangul(c) or len(parts) != 2 or parts[0].startswith("<"):
        continue
    if unicodedata.normalize("NFC", chr(c)) == chr(c):
        compositions.append((int(parts[0], 16), int(parts[1], 16), c))
compositions.sort()

classes = []
for c in assigned:
    k = unicodedata.combining(chr(c))
    if k and classes and classes[-1][1] == c - 1 and classes[-1][2] == k:
        classes[-1][1] = c
    elif k:
        classes.append([c, c, k])

with open("auth/saslprep_tables.h", "w") as f:
    f.write("/* saslprep_tables.h: written by auth/make_saslprep_tables.py; do not edit.\n"
            " * For auth/saslprep.c and auth/nfkc.c only. */\n"
            "/* clang-format off */\n")
    f.write("#ifdef SASLPREP_TABLES\n")
    emit_ranges(f, "non_ascii_space", stringprep.in_table_c12)
    emit_ranges(f, "mapped_to_nothing", stringprep.in_table_b1)
    emit_ranges(f, "prohibited", lambda x: any(t(x) for t in prohibited))
    emit_ranges(f, "unassigned", stringprep.in_table_a1)
    emit_ranges(f, "right_to_left", stringprep.in_table_d1)
    emit_ranges(f, "left_to_right", stringprep.in_table_d2)
    f.write("#endif\n#ifdef NFKC_TABLES\n")
    emit(f, "struct decomposition decompositions[]", decompositions,
         lambda d: f"{{0x{d[0]:x}, {d[1]}, {d[2]}}}", 5)
    emit(f, "uint32_t decomposed[]", pool, lambda c: f"0x{c:x}", 10)
    emit(f, "struct composition compositions[]", compositions,
         lambda c: f"{{0x{c[0]:x}, 0x{c[1]:x}, 0x{c[2]:x}}}")
    emit(f, "struct combining combining[]", classes,
         lambda c: f"{{0x{c[0]:x}, 0x{c[1]:x}, {c[2]}}}", 5)
    f.write("#endif\n")
