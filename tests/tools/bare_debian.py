"""The first minutes of a new user: the commands of the README on a Debian 12 that has nothing.

Makes a minimal Debian with debootstrap, adds git and python3, clones what is committed here into
it, and runs the commands there as root, like a container: the mounts and processes are its own, the
network is the machine's. Takes 1.5 GB of disk and, for the tests, as long as they take anywhere.
By hand, not part of .ci/run. Needs root and debootstrap (apt-get install debootstrap).

    tests/tools/bare_debian.py                      both commands, then the directory is removed
    tests/tools/bare_debian.py --keep 'ninja up-once'   one command of your own, and keep it
    tests/tools/bare_debian.py --keep --again bash      look around in what was kept
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEBIAN = "http://deb.debian.org/debian"
COMMANDS = ["./configure.py --deps && ninja up-once", "./configure.py --deps && ninja test"]
CLONE = "/root/pg_doorman"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
# A machine behind a proxy that signs for others: its own list of authorities is lent to npm.
LENT_CERTIFICATES = "/run/host-certificates.crt"

# Runs in the new namespaces; what it mounts and starts vanishes with them.
ENTER = """
set -e
root=$1
shift
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t tmpfs tmpfs "$root/run"
[ ! -e %(certificates)s ] || cp %(certificates)s "$root%(lent)s"
exec chroot "$root" "$@"
""" % {"certificates": CERTIFICATES, "lent": LENT_CERTIFICATES}


def say(text):
    print("bare_debian: " + text, flush=True)


def configured_mirror():
    """The first Debian archive that apt of this machine is told to use."""
    folder = "/etc/apt/sources.list.d"
    paths = ["/etc/apt/sources.list"]
    paths += [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    for path in paths:
        try:
            with open(path) as file:
                lines = [line for line in file if not line.lstrip().startswith("#")]
        except FileNotFoundError:
            continue
        found = re.search(r"(?:^URIs:\s*|^deb\s(?:.*?\s)?)(https?://\S+/debian/?)(?=\s|$)",
                          "".join(lines), re.MULTILINE)
        if found:
            return found.group(1)
    return DEBIAN


def run(command):
    status = subprocess.run(command).returncode
    if status != 0:
        sys.exit("bare_debian: `%s` ended with status %d" % (" ".join(command), status))


def make_root(root, options):
    say("debootstrap of %s from %s into %s" % (options.suite, options.mirror, root))
    if os.path.exists(root):
        sys.exit("bare_debian: %s is there already: remove it, or use it --again" % root)
    run(["debootstrap", "--variant=minbase", "--include=git,python3", options.suite, root,
         options.mirror])
    say("cloning %s" % TOP)
    run(["git", "clone", "-q", "--no-hardlinks", TOP, root + CLONE])


def enter(root, command):
    """Runs a shell command in the clone, with the environment of a first login."""
    environment = {"HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/bash",
                   "TERM": os.environ.get("TERM", "dumb"),
                   "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                   "NODE_EXTRA_CA_CERTS": LENT_CERTIFICATES}
    started = time.monotonic()
    say("$ " + command)
    status = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, "sh", root,
         "bash", "-c", "cd %s && %s" % (CLONE, command)], env=environment).returncode
    say("status %d after %d s: %s" % (status, time.monotonic() - started, command))
    return status == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("commands", nargs="*", default=COMMANDS, metavar="COMMAND",
        help="shell commands for the clone (default: those of the README)")
    add("--root", default="/tmp/bare-debian", help="directory of the small Debian")
    add("--suite", default="bookworm")
    add("--mirror", default=None, help="Debian archive (default: the one that apt uses here)")
    add("--keep", action="store_true", help="leave the directory behind")
    add("--again", action="store_true", help="use the directory that was kept, as it is")
    options = parser.parse_args()
    options.mirror = options.mirror or configured_mirror()
    root = os.path.abspath(options.root)
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        sys.exit("bare_debian: needs root, and debootstrap (apt-get install debootstrap)")

    if not options.again:
        make_root(root, options)
    passed = sum(enter(root, command) for command in options.commands)
    if not options.keep:
        # Its mounts were in another namespace: what is below is the copy alone.
        shutil.rmtree(root)
    failed = len(options.commands) - passed
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
