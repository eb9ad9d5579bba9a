"""Says which C files are not as clang-format would write them.

Looks at the files that git knows; without git, at all there are. The last line is
`N passed, N failed`.
"""

import argparse
import os
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ENDINGS = (".c", ".h")


def find_files():
    listed = subprocess.run(["git", "ls-files", "*.c", "*.h"], cwd=TOP, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True)
    if listed.returncode == 0:
        # A file that was deleted and not yet committed is listed, too.
        return [path for path in listed.stdout.split("\n")
                if path and os.path.exists(os.path.join(TOP, path))]
    found = []
    for folder, below, names in os.walk(TOP):
        below[:] = [name for name in below if name not in ("build", "node_modules", ".git")]
        found += [os.path.relpath(os.path.join(folder, name), TOP) for name in names
                  if name.endswith(ENDINGS)]
    return sorted(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clang-format", default="clang-format")
    options = parser.parse_args()

    files = find_files()
    failed = 0
    for path in files:
        command = [options.clang_format, "--dry-run", "--Werror", "--ferror-limit=3", path]
        if subprocess.run(command, cwd=TOP, stdin=subprocess.DEVNULL).returncode != 0:
            failed += 1
    if failed:
        print("To mend it: clang-format -i FILE (version 14, as in Debian 12)")
    print("%d passed, %d failed" % (len(files) - failed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
