"""Scripts of protocol messages: their text form, and the bytes that they stand for.

    == several scripts in a file, each under a name [N-1]
    pools: one two session            which kinds of pool play it (servers.py); default: all
    differs one two: unknown-entry    an entry of docs/differences.md; then what the pooler sends
      a: 1 2 C Z(I)                   instead, for each client that differs
    unsettled                         what comes within a moment counts, asked for or not
    a: Query('select 1')              client a sends, then waits for all its replies
    b& Parse('s', 'select 2')         client b sends, and nobody waits
    a/1,5: Parse('', 'select $1::int4', [23]), Bind('', '', ['7']), Execute(), Sync
                                      in one go, but written in pieces of 1, 5, 1, 5, ... bytes
    b: close                          or reset: hangs up

Lines that begin with # are comments. Messages are written as Python calls with literal arguments;
a text may be multiplied ('x' * 100000).
"""

import ast
import re
import struct
from collections import namedtuple

PIECE = re.compile(r"^([a-z]\w*)(?:/([\d,]+))?([:&])\s*(.*)$")


class Invalid(Exception):
    """A script that cannot be read."""


# ---- messages ----------------------------------------------------------------------------------

def frame(letter, body=b""):
    return letter.encode("latin-1") + struct.pack("!I", len(body) + 4) + body


def raw_text(value):
    return value if isinstance(value, bytes) else str(value).encode()


def cstring(text):
    return raw_text(text) + b"\0"


def counted(values):
    """Values with their lengths, as in Bind."""
    parts = []
    for value in values:
        data = None if value is None else raw_text(value)
        parts.append(struct.pack("!i", -1) if data is None
                     else struct.pack("!i", len(data)) + data)
    return b"".join(parts)


def numbers(values):
    return struct.pack("!H%dH" % len(values), len(values), *values)


def parse(name="", sql="", types=()):
    return frame("P", cstring(name) + cstring(sql) +
                 struct.pack("!H%dI" % len(types), len(types), *types))


def bind(portal="", statement="", values=(), formats=(), results=()):
    return frame("B", cstring(portal) + cstring(statement) + numbers(formats) +
                 struct.pack("!H", len(values)) + counted(values) + numbers(results))


def describe(kind="P", name=""):
    return frame("D", raw_text(kind) + cstring(name))


def execute(portal="", rows=0):
    return frame("E", cstring(portal) + struct.pack("!I", rows))


def close(kind="P", name=""):
    return frame("C", raw_text(kind) + cstring(name))


def function_call(oid, values=(), formats=(1,), result=1):
    return frame("F", struct.pack("!I", oid) + numbers(formats) +
                 struct.pack("!H", len(values)) + counted(values) + struct.pack("!H", result))


BUILDERS = {
    "Parse": parse, "Bind": bind, "Describe": describe, "Execute": execute, "Close": close,
    "Sync": lambda: frame("S"), "Flush": lambda: frame("H"),
    "Query": lambda sql="": frame("Q", cstring(sql)),
    "FunctionCall": function_call,
    "CopyData": lambda data="": frame("d", raw_text(data)),
    "CopyDone": lambda: frame("c"),
    "CopyFail": lambda why="": frame("f", cstring(why)),
    "Terminate": lambda: frame("X"),
    "Raw": lambda data: data,
}
LETTERS = {"Parse": "P", "Bind": "B", "Describe": "D", "Execute": "E", "Close": "C", "Sync": "S",
           "Flush": "H", "Query": "Q", "FunctionCall": "F", "CopyData": "d", "CopyDone": "c",
           "CopyFail": "f", "Terminate": "X"}


class Sent(namedtuple("Sent", "name args")):
    """A frontend message: its name and its arguments."""
    __slots__ = ()

    @property
    def letter(self):
        return LETTERS.get(self.name) or chr(self.args[0][0])

    def bytes(self):
        return BUILDERS[self.name](*self.args)

    def __str__(self):
        if not self.args:
            return self.name
        return "%s(%s)" % (self.name, ", ".join(literal(a) for a in self.args))


# What the builders take for arguments that are left out, for those who look at them.
DEFAULTS = {"Parse": ("", "", ()), "Bind": ("", "", (), (), ()), "Describe": ("P", ""),
            "Execute": ("", 0), "Close": ("P", ""), "Query": ("",)}


def make(name, *args):
    return Sent(name, args + DEFAULTS.get(name, ())[len(args):])


def literal(value):
    """Long runs of one character as a product."""
    if isinstance(value, (tuple, list)):
        return "[%s]" % ", ".join(literal(v) for v in value)
    if isinstance(value, (str, bytes)) and len(value) > 40 and value.count(value[:1]) == len(value):
        return "%r * %d" % (value[:1], len(value))
    return repr(value)


# ---- steps and scripts -------------------------------------------------------------------------

# action: "send", "close" or "reset". pieces: sizes of the writes, in turn; () writes all at once.
Step = namedtuple("Step", "client action messages wait pieces", defaults=((), True, ()))


class Script:
    def __init__(self, name, steps=(), pools=None):
        self.name = name
        self.steps = list(steps)
        self.pools = pools
        self.differs = []  # (entry, kinds of pool, {client: stream})
        self.unsettled = False

    def clients(self):
        return list(dict.fromkeys(step.client for step in self.steps))

    def sql(self):
        """All texts that it sends, for rough looks."""
        return "\n".join(raw_text(a).decode("latin-1") for step in self.steps
                         for m in step.messages for a in m.args if isinstance(a, (str, bytes)))

    def __str__(self):
        lines = ["== " + self.name]
        if self.pools:
            lines.append("pools: " + " ".join(self.pools))
        if self.unsettled:
            lines.append("unsettled")
        return "\n".join(lines + [step_text(step) for step in self.steps])


def step_text(step):
    head = step.client + ("/" + ",".join(map(str, step.pieces)) if step.pieces else "")
    what = ", ".join(map(str, step.messages)) if step.action == "send" else step.action
    return head + (": " if step.wait else "& ") + what


# ---- reading -----------------------------------------------------------------------------------

def value_of(node):
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Add)):
        left, right = value_of(node.left), value_of(node.right)
        return left * right if isinstance(node.op, ast.Mult) else left + right
    if isinstance(node, (ast.List, ast.Tuple)):
        return [value_of(item) for item in node.elts]
    return ast.literal_eval(node)


def message_of(node):
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return message_of(node.left) * value_of(node.right)
    if isinstance(node, ast.Tuple):
        return [message for item in node.elts for message in message_of(item)]
    name = node.id if isinstance(node, ast.Name) else node.func.id
    args = [] if isinstance(node, ast.Name) else [value_of(arg) for arg in node.args]
    if name not in BUILDERS:
        raise Invalid("there is no message " + name)
    sent = make(name, *args)
    sent.bytes()
    return [sent]


def read_step(line):
    found = PIECE.match(line)
    if found is None:
        raise Invalid("neither a step nor a setting")
    client, pieces, mark, what = found.groups()
    sizes = tuple(int(size) for size in pieces.split(",")) if pieces else ()
    if what in ("close", "reset"):
        return Step(client, what)
    try:
        messages = message_of(ast.parse(what, mode="eval").body)
    except (SyntaxError, ValueError, AttributeError, TypeError, struct.error) as error:
        raise Invalid("not a list of messages: %s" % error) from None
    return Step(client, "send", tuple(messages), mark == ":", sizes)


def read_line(script, line):
    """One line of a script that is no heading."""
    if line.startswith("pools:"):
        script.pools = line[6:].split()
    elif line.startswith("differs "):
        kinds, entry = line[8:].split(":")
        script.differs.append((entry.strip(), kinds.split(), {}))
    elif line.startswith("  "):
        client, stream = line.split(":", 1)
        script.differs[-1][2][client.strip()] = stream.strip()
    elif line == "unsettled":
        script.unsettled = True
    else:
        script.steps.append(read_step(line))


def read_scripts(path):
    """All scripts of a file."""
    scripts = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.rstrip()
            if not line or line.startswith("#"):
                continue
            try:
                if line.startswith("== "):
                    scripts.append(Script(line[3:]))
                else:
                    read_line(scripts[-1], line)
            except (Invalid, IndexError, ValueError) as error:
                raise Invalid("%s:%d: %s" % (path, number, error)) from None
    return scripts
