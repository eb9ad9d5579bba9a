#!/usr/bin/python3
"""Holds the schema of the state (docs/state-schema.md) to what was written down of it.

tests/golden/schema.txt has a line for each key, each value of an enumeration or a set of bits, and
each place of a list, with the minor version that brought it, and the last one that had it if it is
gone. For each minor version tests/golden has a document that such a program wrote. The sources must
say the same; a number is never used again for something else. Part of check_docs.py.

    check_schema.py            says what differs
    check_schema.py --accept   writes the present schema down, as of STATE_MINOR
"""

import glob
import os
import re
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests", "integration"))

from state_document import read_document, records  # noqa: E402

LIST = "tests/golden/schema.txt"
SECTIONS = {"header": 1, "statement": 4, "pool": 5, "backend": 6, "session": 7}
# Versions below wrote 0 in the place of theirs.
FIRST_TOLD = 12
# Names of enumerations' members, what they are of, and where they are.
VALUES = [
    ("actors/state.h", "state_section", "section"),
    ("actors/state.h", "state_phase", "session.phase"),
    ("actors/state.h", "state_session_flag", "session.flags"),
    ("actors/state.h", "state_backend_flag", "backend.flags"),
    ("actors/app.h", "pool_time", "pool.times"),
    ("config/config.h", "pool_mode", "session.mode"),
    ("actors/ledger.h", "ledger_kind", "backend.ledger.kind"),
    ("actors/ledger.h", "ledger_for", "backend.ledger.whose"),
    ("actors/ledger.h", "OWNS_", "backend.ledger.owns"),
    ("actors/ledger.h", "ENTRY_", "backend.ledger.marks"),
    ("actors/backend.h", "backend_dirt", "backend.dirt"),
    ("proto/scan.h", "scan_kind", "backend.dirt"),
    ("proto/scan.h", "SCAN_SEQUENCES", "backend.ledger.leaves"),
    ("proto/scan.h", "SCAN_COPIES", "backend.ledger.leaves"),
    ("proto/scan.h", "SCAN_LASTS", "backend.ledger.leaves"),
    ("proto/scan.h", "SCAN_RESET_ONE", "backend.ledger.clears"),
]
LISTS = {"SESSION_COUNTERS": "session.counters", "BACKEND_COUNTERS": "backend.counters",
         "POOL_COUNTERS": "pool.counters", "TOTALS": "header.totals"}
# Lists of as many values as these arrays have names.
ARRAYS = [("actors/parameters.c", "tracked", "backend.tracked_before"),
          ("actors/text_settings.c", "settings", "backend.text_settings")]
ADVICE = """\
The schema of the state is not what it was: an older or newer program on the other side of an upgrade
has to cope with that. Do this (docs/state-schema.md, "A new version", says more):
  1. raise STATE_MINOR in actors/state.h to %d, if your change has not done so yet
  2. tests/tools/check_schema.py --accept
  3. ninja && /usr/bin/python3 tests/integration/record_golden.py
  4. add a row to the table of versions in docs/state-schema.md
  5. commit tests/golden with your change"""


def text_of(path):
    with open(os.path.join(TOP, path), encoding="utf-8") as file:
        return re.sub(r"/\*.*?\*/", "", file.read(), flags=re.DOTALL)


def macro(text, name):
    """Its body, lines joined."""
    return re.search(r"#define %s\(X\)((?:[^\n]*\\\n)*[^\n]*)" % name, text).group(1)


def members(body):
    """Of an enumeration: name and value of each. Masks of several bits are left out."""
    found, value, known = [], -1, {}
    for part in filter(None, (part.strip() for part in body.split(","))):
        name, _, expression = (word.strip() for word in part.partition("="))
        if re.fullmatch(r"'.'", expression):
            expression = str(ord(expression[1]))
        if expression and not re.fullmatch(r"[\d\s<()]+", expression):
            continue
        value = eval(expression) if expression else value + 1  # digits and shifts, as just seen
        if not name.endswith("_KINDS"):
            found.append((value, name))
    return found


def enumeration(path, key):
    """By its name, or by the beginning of its members' names if it has none."""
    for name, body in re.findall(r"enum(?: (\w+))? \{(.*?)\}", text_of(path), re.DOTALL):
        if name == key or (not name and body.strip().startswith(key)):
            return members(body)
    raise SystemExit("%s has no enumeration %s: tests/tools/check_schema.py looks for it" % (path, key))


def present():
    """The schema as the sources have it: {(what, number): rest of the line}."""
    found = {}
    text = text_of("actors/state.h")
    for record in SECTIONS:
        body = macro(text, "STATE_%s_FIELDS" % record.upper())
        for number, kind, name in re.findall(r"X\((\d+), (\w), (\w+)\)", body):
            found[record, int(number)] = "%s %s" % (kind, name)
    for path, key, what in VALUES:
        for number, name in enumeration(path, key):
            found[what, number] = name
    fields = text_of("actors/upgrade_fields.h")
    for key, what in LISTS.items():
        names = re.findall(r"X\((\w+)\)", macro(fields, "UPGRADE_" + key))
        found.update({(what, number): name for number, name in enumerate(names)})
    for path, name, what in ARRAYS:
        body = re.search(r"\*const %s\[\w*\] = \{(.*?)\}" % name, text_of(path), re.DOTALL).group(1)
        found.update({(what, number): word
                      for number, word in enumerate(re.findall(r'"(\w+)"', body))})
    return found


def version():
    found = re.search(r"STATE_MAJOR = (\d+), STATE_MINOR = (\d+)", text_of("actors/state.h"))
    return int(found.group(1)), int(found.group(2))


class Line:
    """`since[-until] what number rest [# never recorded: why]`"""

    def __init__(self, what, number, rest, since, until=None, why=""):
        self.what, self.number, self.rest = what, number, rest
        self.since, self.until, self.why = since, until, why

    @classmethod
    def parse(cls, text):
        text, _, why = text.partition("#")
        span, what, number, rest = text.split(None, 3)
        since, _, until = span.partition("-")
        return cls(what, int(number), rest.strip(), int(since), int(until) if until else None,
                   why.strip())

    def __str__(self):
        span = "%d-%d" % (self.since, self.until) if self.until is not None else str(self.since)
        line = "%-5s %s %d %s" % (span, self.what, self.number, self.rest)
        return line + ("  # " + self.why if self.why else "")


def written():
    """The lines of the list, and what stands before them."""
    with open(os.path.join(TOP, LIST), encoding="utf-8") as file:
        lines = file.read().splitlines()
    head = [line for line in lines if line.startswith("#") or not line]
    return head, [Line.parse(line) for line in lines if line not in head]


def compare(lines):
    """How sources and list differ."""
    now = present()
    listed = {(line.what, line.number): line for line in lines if line.until is None}
    faults = []
    for at, rest in now.items():
        former = [line for line in lines if (line.what, line.number) == at and line.rest != rest]
        if former:
            faults.append("%s %d is `%s`, and was `%s`: a number is never used again for something "
                          "else; take another" % (*at, rest, former[0].rest))
        elif at not in listed:
            faults.append("%s %d `%s` is new" % (*at, rest))
    faults += ["%s %d `%s` is gone" % (*at, line.rest) for at, line in listed.items()
               if at not in now]
    newest = max(line.since for line in lines)
    newest = max([newest] + [line.until + 1 for line in lines if line.until is not None])
    return faults, newest


def golden():
    """Documents by minor version."""
    found = {}
    for path in glob.glob(os.path.join(TOP, "tests", "golden", "state-*.bin")):
        major, minor = map(int, re.findall(r"\d+", os.path.basename(path)))
        if major == version()[0]:
            with open(path, "rb") as file:
                found[minor] = read_document(file.read())
    return found


def check_golden(lines, documents):
    """Each minor version has one, which is really of that version; each key is in one of them."""
    faults = []
    major, newest = version()
    for minor in range(newest + 1):
        name = "tests/golden/state-%d.%d.bin" % (major, minor)
        if minor not in documents:
            faults.append("there is no " + name)
        elif documents[minor][0][1] != (minor if minor >= FIRST_TOLD else 0):
            faults.append("%s was written by a program of another version" % name)
    faults += ["tests/golden/state-%d.%d.bin is newer than STATE_MINOR" % (major, minor)
               for minor in documents if minor > newest]
    seen = {}
    for minor, (_, sections) in documents.items():
        for what, kind in SECTIONS.items():
            for record in records(sections, kind):
                for number in record:
                    seen.setdefault((what, number), set()).add(minor)
    for line in lines:
        if line.what not in SECTIONS:
            continue
        had = seen.get((line.what, line.number), set())
        if any(minor < line.since for minor in had):
            faults.append("%s %d is said to be new in 1.%d, and a document of 1.%d has it"
                          % (line.what, line.number, line.since, min(had)))
        if not had and not line.why:
            faults.append("no document has %s %d `%s`: let a session of tests/integration/golden.py "
                          "bring it about, or say behind its line in %s why not"
                          % (line.what, line.number, line.rest, LIST))
    return faults


def check():
    """How many lines were looked at, and the faults."""
    _, lines = written()
    faults, newest = compare(lines)
    minor = version()[1]
    if faults:
        return len(lines), faults + [ADVICE % (newest + 1)]
    if newest != minor:
        faults.append("STATE_MINOR is %d, and the newest of %s is %d" % (minor, LIST, newest))
    return len(lines), faults + check_golden(lines, golden())


def accept():
    head, lines = written()
    faults, newest = compare(lines)
    major, minor = version()
    if any("never used again" in fault for fault in faults):
        raise SystemExit("\n".join(faults))
    if faults and minor <= newest:
        if os.path.exists(os.path.join(TOP, "tests/golden/state-%d.%d.bin" % (major, minor))):
            raise SystemExit("raise STATE_MINOR in actors/state.h to %d first; or, if 1.%d has come "
                             "with this very change, remove its document" % (newest + 1, minor))
    now = present()
    listed = {(line.what, line.number) for line in lines if line.until is None}
    for line in lines:
        if line.until is None and (line.what, line.number) not in now:
            line.until = minor - 1
    lines += [Line(what, number, rest, minor) for (what, number), rest in now.items()
              if (what, number) not in listed]
    order = {what: place for place, what in enumerate(dict.fromkeys(what for what, _ in now))}
    lines.sort(key=lambda line: (order.get(line.what, len(order)), line.number, line.since))
    with open(os.path.join(TOP, LIST), "w", encoding="utf-8") as file:
        file.write("\n".join(head + [str(line) for line in lines]) + "\n")
    print("%s: %d changes as of 1.%d" % (LIST, len(faults), minor))


def main():
    if sys.argv[1:] == ["--accept"]:
        accept()
        return 0
    count, faults = check()
    for fault in faults:
        print(fault)
    print("%d passed, %d failed" % (count, len(faults)))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
