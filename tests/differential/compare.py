"""Are two streams of replies the same, but for what differs on purpose?

Everything that is excused has an entry in docs/differences.md, and is excused here under its name;
names() is compared with the document at each start.
"""

import os
import re
import struct

from servers import TOP

DOCUMENT = os.path.join(TOP, "docs", "differences.md")

# How messages are made alike before they are compared.
MASKED = {
    "process-ids": "the process id in a NotificationResponse",
    "object-oids": "OIDs of tables and of types that are not built in: these are two databases",
    "statement-names": "the name of a prepared statement in a text about it",
    "error-fields": "where in its source the server found an error, if another message may raise it",
    "settings": "ParameterStatus in scripts that change settings",
}
# What scripts of the corpus expect to differ, each stream written down there.
EXPECTED = {
    "duplicate-statement", "unnamed-statement", "skipped-parse", "unchecked-parse",
    "deallocate-unknown", "discard-statements", "session-state", "session-end", "held-batch",
}
CHANGES_SETTINGS = re.compile(r"(?i)\b(set\s+(?!local\b|transaction\b|constraints\b)|reset|discard|"
                              r"set_config)")
RESETS_SETTINGS = re.compile(r"(?i)\b(reset|discard)")
NAMED = re.compile(rb'prepared statement "[^"]*"')
OWN_FIELDS = b"SVCM"
PLACE = b"FLR"  # of the error in the server's source
FIRST_OWN_OID = 16384  # not built in


def names():
    return set(MASKED) | EXPECTED


def documented():
    with open(DOCUMENT, encoding="utf-8") as file:
        return set(re.findall(r"^### `([\w-]+)`$", file.read(), re.MULTILINE))


def check_document():
    """What is not named on both sides."""
    return sorted(names() ^ documented())


def skipped_letters(script, kind):
    """Messages that are left out of the comparison."""
    changes = RESETS_SETTINGS if kind == "session" else CHANGES_SETTINGS
    return "S" if changes.search(script.sql()) else ""


# ---- masks -------------------------------------------------------------------------------------

def fields(body):
    return [part for part in body.split(b"\0") if part]


def field(body, letter):
    return next((part[1:] for part in fields(body) if part[:1] == letter), b"")


class Masks:
    """Makes messages comparable; counts what was excused."""

    def __init__(self, skips):
        self.skips = skips
        self.used = {}

    def use(self, name):
        self.used[name] = self.used.get(name, 0) + 1

    def apply(self, messages):
        if self.skips:
            kept = [m for m in messages if m.letter not in self.skips]
            if len(kept) < len(messages):
                self.use("settings")
            messages = kept
        return [self.one(m.letter, m.body) for m in messages]

    def one(self, letter, body):
        if letter == "A":
            self.use("process-ids")
            return letter, body[4:]
        if letter == "T":
            return letter, self.row_description(body)
        if letter == "t":
            return letter, body[:2] + b"".join(self.type_oid(body[at:at + 4])
                                               for at in range(2, len(body), 4))
        if letter in "EN":
            return letter, self.texts(body)
        return letter, body

    def type_oid(self, oid):
        if int.from_bytes(oid, "big") < FIRST_OWN_OID:
            return oid
        self.use("object-oids")
        return b"...."

    def row_description(self, body):
        count, = struct.unpack_from("!H", body)
        result, at = [], 2
        for _ in range(count):
            end = body.index(b"\0", at) + 1
            if body[end:end + 4] != b"\0\0\0\0":
                self.use("object-oids")
            result.append(body[at:end] + b"...." + body[end + 4:end + 6] +
                          self.type_oid(body[end + 6:end + 10]) + body[end + 10:end + 18])
            at = end + 18
        return body[:2] + b"".join(result) + body[at:]

    def texts(self, body):
        if NAMED.search(body):
            if b"DOORMAN_" in body:
                self.use("statement-names")
            body = NAMED.sub(b'prepared statement "..."', body)
        if field(body, b"V") == b"FATAL" or field(body, b"C") == b"26000":
            kept = [part for part in fields(body) if part[:1] in OWN_FIELDS]
            if len(kept) < len(fields(body)):
                self.use("error-fields")
            return b"\0".join(kept)
        if field(body, b"C") == b"25P02":
            # Raised by whichever message comes first; a Parse that the pooler sends is one.
            self.use("error-fields")
            return b"\0".join(part for part in fields(body) if part[:1] not in PLACE)
        return body


# ---- streams -----------------------------------------------------------------------------------

class Difference:
    """The first place in which a client's streams differ."""

    def __init__(self, client, at, direct, pooled, why):
        self.client = client
        self.at = at
        self.direct = direct
        self.pooled = pooled
        self.why = why

    def kind(self):
        """What stays the same while a script is made smaller."""
        return self.why, self.direct and summary(*self.direct), \
            self.pooled and summary(*self.pooled)

    def __str__(self):
        return "client %s, message %d: %s" % (self.client, self.at + 1, self.why)


def compare(script, kind, direct, pooled, used=None):
    """None, or the first Difference. `direct` and `pooled`: streams by client."""
    masks = Masks(skipped_letters(script, kind))
    hung_up = {step.client for step in script.steps if step.action != "send" or
               any(m.name == "Terminate" for m in step.messages)}
    expected = {client: stream for _, kinds, streams in script.differs if kind in kinds
                for client, stream in streams.items()}
    found = None
    # After replies that did not come nothing more was played: that is what there is to tell.
    late = [client for client, stream in pooled.items() if stream.late is not None]
    for client, stream in direct.items():
        other = pooled.get(client)
        if other is None or (late and client not in late):
            continue  # it hung up before it had a turn
        if client in expected:
            found = found or compare_expected(client, expected[client], masks, stream, other)
        else:
            found = found or compare_client(client, masks, stream, other, client in hung_up)
    for name, count in masks.used.items():
        if used is not None:
            used[name] = used.get(name, 0) + count
    return found


def compare_client(client, masks, direct, pooled, hung_up):
    ours, theirs = masks.apply(direct.messages), masks.apply(pooled.messages)
    for at, (one, other) in enumerate(zip(ours, theirs)):
        if one != other:
            return Difference(client, at, one, other, "another message"
                              if one[0] != other[0] else "other contents of " + one[0])
    at = min(len(ours), len(theirs))
    if len(theirs) > len(ours):
        return Difference(client, at, None, theirs[at], "a message too many")
    if hung_up:
        return None
    if pooled.late is not None and len(ours) > at:
        return Difference(client, at, ours[at], None, "no reply to step %d" % (pooled.late + 1))
    if len(ours) > len(theirs):
        return Difference(client, at, ours[at], None,
                          "the connection ended (%s)" % (pooled.eof or "early"))
    if bool(direct.eof) != bool(pooled.eof):
        return Difference(client, at, None, None, "the end: %s directly, %s pooled"
                          % (direct.eof or "open", pooled.eof or "open"))
    return None


def compare_expected(client, expected, masks, direct, pooled):
    """`expected`: letters and details, as summary() writes them, for the pooled stream, without the
    script's ending."""
    got = [summary(*m) for m in masks.apply(pooled.messages)]
    wanted = expected.split()
    del direct
    for at, want in enumerate(wanted):
        if at >= len(got) or got[at] != want:
            return Difference(client, at, None, masks.apply(pooled.messages)[at]
                              if at < len(got) else None, "expected %s here" % want)
    return None


def summary(letter, body):
    """A message in short: its letter, and what tells it from others of its kind."""
    if letter == "Z":
        return "Z(%s)" % body.decode("latin-1")
    if letter in "EN":
        return "%s(%s)" % (letter, field(body, b"C").decode())
    return letter


def describe(message, width=0):
    """A message in a line of text."""
    letter, body = message
    if letter in "EN":
        text = "%s %s: %s" % (field(body, b"S").decode(), field(body, b"C").decode(),
                              field(body, b"M").decode("utf-8", "replace"))
    else:
        text = body.decode("latin-1").encode("unicode_escape").decode()
    text = "%s %s" % (letter, text)
    return text if not width or len(text) <= width else text[:width - 1] + "…"


def side_by_side(direct, pooled, skips="", width=64):
    """Both streams of all clients, with a mark where they differ; long runs of what is alike are
    left out."""
    lines = []
    masks = Masks("")
    for client in direct:
        ours, theirs = ([m for m in stream[client].messages if m.letter not in skips]
                        if client in stream else [] for stream in (direct, pooled))
        lines.append("client %s: %-*s | %s" % (client, width - 8, "direct", "pooled"))
        left, right = masks.apply(ours), masks.apply(theirs)
        same = [at < min(len(left), len(right)) and left[at] == right[at]
                for at in range(max(len(left), len(right)))]
        for at in range(len(same)):
            if all(same[max(0, at - 4):at + 5]) and 4 < at < len(same) - 5 or \
                    not any(same[max(0, at - 60):at + 1]) and 60 < at < len(same) - 5:
                if lines[-1] != "  ...":
                    lines.append("  ...")
                continue
            one = describe(ours[at], width) if at < len(ours) else ""
            other = describe(theirs[at], width) if at < len(theirs) else ""
            lines.append("%s %-*s | %s" % (" " if same[at] else "!", width, one, other))
        ends = [s.eof or "open" for s in (direct[client], pooled.get(client)) if s is not None]
        lines.append("  %-*s | %s" % (width, *(ends + ["never logged in"])[:2]))
    return "\n".join(lines)
