"""Says which names in the documents have gone from the tree.

Reads the Markdown files below docs/ (or those given). In text between backquotes these must exist:
`name()` a function or macro, `path/file.c:name()` that function in that file, `struct name`,
`test_file.py::test_name` that test in tests/integration, paths of the tree (`*` stands for anything
in a name), and plain identifiers as words anywhere in the sources. Links to files must lead somewhere. Code blocks are left alone, but for their
`name()`. Source files that docs/architecture.md does not describe are named and do no harm. The
schema of the state is held to its list (check_schema.py), and the fields of what moves in an upgrade
to theirs (check_fields.py). The last line is `N passed, N failed`.
"""

import argparse
import functools
import glob
import os
import re
import sys

import check_fields
import check_schema

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDERS = ("runtime", "proto", "auth", "config", "actors", "web", "fuzz", "tests")
DESCRIBED = ("runtime", "proto", "auth", "config", "actors", "web")
ENDINGS = (".c", ".h", ".S", ".py")
# What PostgreSQL, the kernel, libraries and libc call by such names.
FOREIGN = {"getaddrinfo", "io_uring_enter", "epoll_wait", "epoll_ctl", "recv", "sendmsg", "send",
           "malloc", "accept4", "madvise", "mprotect", "getrlimit", "set_config", "pg_authid",
           "pg_shadow", "pg_stat_activity", "pg_hba"}

BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
QUOTED = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
CALL = re.compile(r"(?:([\w./-]+\.[chS]):)?([A-Za-z_]\w*)\(\)")
PATH = re.compile(r"[\w.*-]+(?:/[\w.*-]+)*\.(?:c|h|S|py|md|js|yaml|toml|ninja)|(?:[\w.*-]+/)+")
TEST = re.compile(r"(test_\w+\.py)::(test_\w+)")
STRUCT = re.compile(r"(struct|enum) (\w+)")
IDENTIFIER = re.compile(r"[A-Za-z]\w*_\w*|[A-Z][A-Z_0-9]{3,}")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def find_sources():
    found = []
    for folder in FOLDERS:
        for at, below, names in os.walk(os.path.join(TOP, folder)):
            below[:] = [name for name in below if name not in ("node_modules", "__pycache__")]
            found += [os.path.join(at, name) for name in names if name.endswith(ENDINGS)]
    return sorted(found) + [os.path.join(TOP, "configure.py")]


@functools.lru_cache(maxsize=None)
def text_of(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


@functools.lru_cache(maxsize=None)
def functions_in(path):
    """Defined or declared at the left margin, a macro, a pointer in a struct, assembly, Python."""
    text = text_of(path)
    if path.endswith(".py"):
        return set(re.findall(r"^\s*def (\w+)\(", text, re.MULTILINE))
    found = set(re.findall(r"^#define\s+(\w+)\(", text, re.MULTILINE))
    found |= set(re.findall(r"^(\w+):$", text, re.MULTILINE))
    found |= set(re.findall(r"\(\*(\w+)\)\(", text))
    for line in re.findall(r"^[A-Za-z_][^\n]*\(", text, re.MULTILINE):
        found |= set(re.findall(r"(\w+)\(", line.split("=")[0]))
    return found


def words_in(paths):
    words = set()
    for path in paths:
        words |= set(re.findall(r"\w+", text_of(path)))
    return words


class Tree:
    def __init__(self):
        self.sources = find_sources()
        self.functions = set().union(*(functions_in(path) for path in self.sources))
        self.words = words_in(self.sources)

    def call_fault(self, path, name):
        if path:
            full = os.path.join(TOP, path)
            if not os.path.isfile(full):
                return "no such file: " + path
            if name not in functions_in(full):
                return "%s has no %s()" % (path, name)
        elif name not in self.functions and name not in FOREIGN:
            return "no such function: %s()" % name
        return None

    def fault(self, quoted):
        """What is wrong with the text between two backquotes; None: nothing, or not our affair."""
        call = CALL.fullmatch(quoted)
        if call:
            return self.call_fault(*call.groups())
        test = TEST.fullmatch(quoted)
        if test:
            return self.call_fault("tests/integration/" + test[1], test[2])
        struct = STRUCT.fullmatch(quoted)
        if struct:
            pattern = r"\b%s %s\s*\{" % struct.groups()
            if not any(re.search(pattern, text_of(path)) for path in self.sources):
                return "no such %s: %s" % struct.groups()
        elif PATH.fullmatch(quoted):
            if not glob.glob(os.path.join(TOP, quoted)):
                return "no such file: " + quoted
        elif IDENTIFIER.fullmatch(quoted):
            if quoted not in self.words and quoted not in FOREIGN:
                return "no such name in the sources: " + quoted
        return None


def check(tree, path):
    """How many names were looked at, and the faults: (line, text)."""
    text = text_of(path)
    faults = []
    count = 0

    def look(offset, fault):
        if fault:
            faults.append((text.count("\n", 0, offset) + 1, fault))

    for block in BLOCK.finditer(text):
        for call in CALL.finditer(block.group()):
            count += 1
            look(block.start() + call.start(), tree.call_fault(*call.groups()))
    prose = BLOCK.sub(lambda block: re.sub(r"[^\n]", " ", block.group()), text)
    for quoted in QUOTED.finditer(prose):
        count += 1
        look(quoted.start(), tree.fault(" ".join(quoted.group(1).split())))
    for link in LINK.finditer(prose):
        count += 1
        target = os.path.join(os.path.dirname(path), link.group(1))
        look(link.start(), None if os.path.exists(target) else "no such file: " + link.group(1))
    return count, faults


def name_undescribed(tree):
    path = os.path.join(TOP, "docs", "architecture.md")
    text = text_of(path) if os.path.exists(path) else ""
    for source in tree.sources:
        name = os.path.relpath(source, TOP)
        if name.startswith(tuple(folder + "/" for folder in DESCRIBED)) and name not in text:
            print("docs/architecture.md does not describe %s" % name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*")
    options = parser.parse_args()

    tree = Tree()
    files = options.files or sorted(glob.glob(os.path.join(TOP, "docs", "*.md")))
    looked = 0
    failed = 0
    for path in files:
        count, faults = check(tree, os.path.abspath(path))
        looked += count
        failed += len(faults)
        for line, fault in sorted(faults):
            print("%s:%d: %s" % (os.path.relpath(path, TOP), line, fault))
    if not options.files:
        name_undescribed(tree)
        for other in (check_schema, check_fields):
            count, faults = other.check()
            looked += count
            failed += len(faults)
            for fault in faults:
                print(fault)
    print("%d passed, %d failed" % (looked - failed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
