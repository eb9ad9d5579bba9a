#!/usr/bin/env python3
"""Finds the toolchain and the libraries, and writes the build.

Two files come out. BUILD.ninja holds the graph: which source becomes which object and program. It
depends on the sources alone, so the one for the main build is committed as build.ninja, and
`configure.py --check` fails when it is stale. DIR/local.ninja holds what differs between machines:
compiler, flags, library paths. Variants (sanitizers, fuzzing, coverage) live in a directory of
their own, with both files inside it.
"""

import argparse
import glob
import os
import shlex
import shutil
import subprocess
import sys
import tempfile

MODULES = ["runtime", "proto", "auth", "config", "actors", "web"]
MAIN = "actors/main.c"
# The simulated world: for tests/simulation only, never part of the program.
SIMULATED = ("runtime/sim", "runtime/io_sim")
SMOKE_SECONDS = 5
SIMULATED_SEEDS = 2000
SIMULATED_UPGRADES = 400

WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wvla", "-Wshadow", "-Wstrict-prototypes",
            "-Wmissing-prototypes"]
COMMON = ["-std=gnu17", "-g", "-fno-omit-frame-pointer", "-fPIE", "-pthread"]
OPTIONAL = ["-fstack-clash-protection"]  # clang lacks it on some architectures
HARDENED_LINK = ["-pie", "-pthread", "-Wl,-z,relro,-z,now", "-Wl,--as-needed"]

DEBIAN_PACKAGES = [
    "gcc", "libc6-dev", "clang", "clang-format", "libclang-rt-14-dev", "llvm", "ninja-build",
    "python3", "liburing-dev", "android-libboringssl-dev", "libfyaml-dev", "libmsgpack-dev",
    "postgresql", "postgresql-contrib", "pgbouncer", "python3-pytest",
    "python3-pytest-xdist", "python3-psycopg2",
    "python3-asyncpg", "python3-matplotlib", "python3-yaml",
    "systemd",  # for tests/integration/service_manager.py
    # for tests/drivers/
    "python3-psycopg", "python3-psycopg-pool", "python3-sqlalchemy", "default-jdk-headless",
    "libpostgresql-jdbc-java", "golang-go", "golang-github-jackc-pgx-v4-dev",
    "golang-github-lib-pq-dev", "php-cli", "php-pgsql", "libdbd-pg-perl",
]

# What each library must be able to do, the package that brings it, and how to link it.
LIBRARIES = [
    ("BoringSSL", "android-libboringssl-dev", ["-lssl", "-lcrypto"], """
        #include <openssl/ssl.h>
        #include <openssl/hkdf.h>
        #ifndef OPENSSL_IS_BORINGSSL
        #error "this is OpenSSL, not BoringSSL"
        #endif
        int main(void) { return SSL_CTX_new(TLS_method()) == 0; }"""),
    ("liburing", "liburing-dev", ["-luring"], """
        #include <liburing.h>
        int main(void) { struct io_uring r; return io_uring_queue_init(4, &r, 0); }"""),
    ("libfyaml", "libfyaml-dev", ["-lfyaml"], """
        #include <libfyaml.h>
        int main(void) { return fy_library_version() == 0; }"""),
    ("msgpack-c", "libmsgpack-dev", ["-lmsgpackc"], """
        #include <msgpack.h>
        int main(void) { return msgpack_version() == 0; }"""),
]


def stop(text):
    sys.exit("configure.py: " + text)


def say(text):
    print("configure.py: " + text, flush=True)


# ---- options -----------------------------------------------------------------------------------

def parse_options(argv):
    parser = argparse.ArgumentParser(description="Prepares the build; then run ninja.")
    add = parser.add_argument
    add("--deps", action="store_true",
        help="first install the Debian packages that are missing (needs root or sudo)")
    add("--cc", help="C compiler (default: $CC, gcc, clang; clang for sanitizers and fuzzing)")
    add("--debug", action="store_true", help="-O1 and the checks that walk structures")
    add("--sanitize", choices=["address,undefined", "thread"],
        help="build with these sanitizers, in build/asan or build/tsan")
    add("--fuzz", action="store_true", help="build the fuzz targets, in build/fuzz (clang)")
    add("--coverage", action="store_true", help="count what the tests reach, in build/coverage")
    add("--uncounted", action="store_true",
        help="leave the statistics out, in build/uncounted: only to measure what they cost")
    add("--lto", action="store_true",
        help="link the tests, too, optimised across files (gcc does so with the program anyway)")
    add("--io", choices=["auto", "io_uring", "epoll"], default="auto",
        help="I/O engine unless the configuration or PG_DOORMAN_IO names one")
    add("--prefix", default="/usr/local", help="where `ninja install` puts the program")
    add("--boringssl", metavar="DIR", help="BoringSSL with DIR/include and DIR/lib")
    add("--builddir", metavar="DIR", help="default: build, or the directory of the variant")
    add("--check", action="store_true", help="only: is the committed build.ninja up to date?")
    add("--regenerate", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)

    if options.fuzz and options.sanitize == "thread":
        stop("--fuzz brings the address and undefined sanitizers; it cannot go with thread")
    if options.builddir is None:
        options.builddir = default_builddir(options)
    options.builddir = os.path.normpath(options.builddir)
    if os.path.isabs(options.builddir) or options.builddir.split("/")[0] in ("..", "."):
        stop("--builddir must be a directory below this one, for example build/mine")
    return options


def default_builddir(options):
    if options.fuzz:
        return "build/fuzz"
    if options.sanitize:
        return "build/tsan" if options.sanitize == "thread" else "build/asan"
    if options.uncounted:
        return "build/uncounted"
    return "build/coverage" if options.coverage else "build"


def graph_path(builddir):
    return "build.ninja" if builddir == "build" else builddir + "/build.ninja"


# ---- packages ----------------------------------------------------------------------------------

def installed(package):
    query = subprocess.run(["dpkg-query", "-W", "-f=${db:Status-Status}", package],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return query.returncode == 0 and query.stdout.startswith("installed")


def install_packages():
    if shutil.which("apt-get") is None:
        stop("--deps knows Debian's apt-get only. Install the equivalents of these packages:\n  "
             + " ".join(DEBIAN_PACKAGES))
    missing = [name for name in DEBIAN_PACKAGES if not installed(name)]
    # Another Node.js than Debian's conflicts with Debian's packages: take the one that is there.
    missing += [name for tool, name in (("node", "nodejs"), ("npm", "npm"))
                if shutil.which(tool) is None]
    if not missing:
        say("all Debian packages are there")
    else:
        root = [] if os.geteuid() == 0 else ["sudo"]
        if root and shutil.which("sudo") is None:
            stop("--deps needs root, and there is no sudo. As root, run:\n  "
                 "apt-get update && apt-get install --no-install-recommends "
                 + " ".join(missing))
        say("installing " + " ".join(missing))
        root += ["env", "DEBIAN_FRONTEND=noninteractive"]
        run_apt(root + ["apt-get", "update"])
        run_apt(root + ["apt-get", "install", "-y", "--no-install-recommends"] + missing)
    install_node_modules()


def run_apt(command):
    status = subprocess.run(command, stdin=subprocess.DEVNULL).returncode
    if status != 0:
        stop("`%s` failed with status %d (its messages are above).\n"
             "  No network or a stale mirror: check /etc/apt/sources.list and run it again.\n"
             "  A lock is held: wait until the other apt-get or dpkg has finished.\n"
             "  A package is unknown: the names are those of Debian 12 (bookworm), section main.\n"
             "  Without --deps, configure.py works with whatever is installed and names what is "
             "missing." % (shlex.join(command), status))


def install_node_modules():
    lock = "tests/drivers/package-lock.json"
    done = "tests/drivers/node_modules/.package-lock.json"
    if not os.path.exists(lock):
        return
    if os.path.exists(done) and os.path.getmtime(done) >= os.path.getmtime(lock):
        return
    npm = shutil.which("npm")
    command = [npm or "npm", "ci", "--no-audit", "--no-fund", "--prefix", "tests/drivers"]
    if npm is None or subprocess.run(command, stdin=subprocess.DEVNULL).returncode != 0:
        say("`%s` did not work, so the tests with Node.js drivers will fail; the rest can run. "
            "Repeat it by hand once npm is installed and the network is there."
            % shlex.join(command))


# ---- toolchain ---------------------------------------------------------------------------------

def find_compiler(options):
    if options.cc:
        wanted = [options.cc]
    elif options.fuzz or options.sanitize:
        wanted = ["clang"]  # gcc's thread sanitizer allows too few coroutines
    else:
        wanted = ([os.environ["CC"]] if os.environ.get("CC") else []) + ["gcc", "clang", "cc"]
    for name in wanted:
        if shutil.which(shlex.split(name)[0]):
            return name
    stop("no C compiler: looked for %s. Debian: apt-get install %s libc6-dev, "
         "or ./configure.py --deps" % (", ".join(wanted), "clang" if "clang" in wanted else "gcc"))


def try_compile(cc, source, flags, libs=()):
    """Compiles and links a snippet. None when it works, the compiler's words when not."""
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "probe.c")
        with open(path, "w") as file:
            file.write(source + "\n")
        command = shlex.split(cc) + flags + [path, "-o", path + ".out"] + list(libs)
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return None if done.returncode == 0 else done.stdout


def is_clang(cc):
    macro = "#ifndef __clang__\n#error\n#endif\nint main(void) { return 0; }"
    return try_compile(cc, macro, []) is None


def boringssl_flags(options, cc):
    if options.boringssl:
        include = os.path.join(os.path.abspath(options.boringssl), "include")
        lib = os.path.join(os.path.abspath(options.boringssl), "lib")
    else:
        machine = subprocess.run(shlex.split(cc) + ["-dumpmachine"], stdout=subprocess.PIPE,
                                 text=True).stdout.strip().split("-")
        include = "/usr/include/android"
        lib = "/usr/lib/%s-linux-gnu/android" % machine[0]
    return ["-isystem", include], ["-L" + lib, "-Wl,-rpath," + lib]


def find_libraries(cc, cflags, ldflags):
    libs = []
    missing = []
    for name, package, link, source in LIBRARIES:
        words = try_compile(cc, source, cflags + ldflags, link)
        if words is None:
            libs += link
        else:
            first = next((line for line in words.splitlines() if "error" in line), "").strip()
            missing.append("  %s: apt-get install %s\n    (%s)" % (name, package, first))
    if missing:
        stop("libraries are missing or do not link; the Debian packages are:\n"
             + "\n".join(missing) + "\n  or let ./configure.py --deps install everything")
    return libs


def variant_flags(options, clang):
    """Flags that come with the kind of build: for compiling, for linking."""
    compile_flags = ["-O2"]
    link = []
    if options.debug:
        compile_flags = ["-O1", "-DDOORMAN_DEBUG"]
    sanitizers = options.sanitize or ("address,undefined" if options.fuzz else None)
    if sanitizers:
        compile_flags = ["-O1", "-DDOORMAN_DEBUG", "-fno-optimize-sibling-calls",
                         "-fsanitize=" + sanitizers, "-fno-sanitize-recover=all"]
        link = ["-fsanitize=" + sanitizers]
    if options.fuzz:
        if not clang:
            stop("--fuzz needs clang: apt-get install clang libclang-rt-14-dev")
        compile_flags += ["-fsanitize=fuzzer-no-link", "-DDOORMAN_FUZZ"]
    if options.uncounted:
        compile_flags.append("-DDOORMAN_UNCOUNTED")
    if options.coverage:
        compile_flags.append("--coverage")
        link.append("--coverage")
    if options.lto:
        compile_flags.append("-flto=thin" if clang else "-flto=auto")
        link.append("-flto=thin" if clang else "-flto=auto")
    program = link
    if not (options.lto or clang or options.debug or sanitizers or options.coverage):
        # The program is optimised as a whole: 10 % fewer instructions per transaction. Tests, of
        # which there are many, link the plain half of the same objects. Their -fno-lto must not be
        # there for the program: even with a later -flto, gcc leaves its linker plugin out then,
        # and no function counts as the program's own.
        compile_flags += ["-flto=auto", "-ffat-lto-objects"]
        program = link + ["-flto=auto"]
        link = link + ["-fno-lto"]
    return compile_flags, link, program


def probe(options):
    """Everything that local.ninja holds."""
    cc = find_compiler(options)
    nothing = "int main(void) { return 0; }"
    words = try_compile(cc, nothing, ["-std=gnu17"])
    if words is not None:
        stop("%s cannot build a program (Debian: apt-get install libc6-dev):\n%s" % (cc, words))

    clang = is_clang(cc)
    kind_compile, kind_link, program = variant_flags(options, clang)
    if try_compile(cc, nothing, kind_compile + kind_link) is not None:
        stop("%s cannot link with %s. Debian: apt-get install libclang-rt-14-dev (for clang) or "
             "gcc (for gcc)" % (cc, " ".join(kind_link) or "these flags"))

    optional = [f for f in OPTIONAL if try_compile(cc, nothing, ["-Werror", f]) is None]
    ssl_compile, ssl_link = boringssl_flags(options, cc)
    defines = ["-D_GNU_SOURCE", '-DDOORMAN_IO_DEFAULT="%s"' % options.io, "-I."] + ssl_compile
    ldflags = HARDENED_LINK + kind_link + ssl_link
    libs = find_libraries(cc, defines, ldflags)

    ninja = shutil.which("ninja") or shutil.which("ninja-build")
    if ninja is None:
        stop("ninja is missing. Debian: apt-get install ninja-build")
    ar = {True: "llvm-ar", False: "gcc-ar"}[clang] if options.lto else "ar"
    python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
    return {
        "cc": cc,
        "ar": ar,
        "ninja": ninja,
        "python": python,
        "clang_format": shutil.which("clang-format") or "clang-format",
        "prefix": os.path.abspath(options.prefix),
        "cflags": quoted(COMMON + kind_compile + WARNINGS + optional + defines),
        "asflags": quoted(["-g"] + defines),
        "ldflags": quoted(ldflags),
        "program_ldflags": quoted(HARDENED_LINK + program + ssl_link),
        "libs": quoted(libs),
    }


def quoted(words):
    return " ".join(shlex.quote(word) for word in words)


# ---- the graph ---------------------------------------------------------------------------------

def find_sources():
    found = {}
    for module in MODULES:
        found[module] = sorted(path for ending in (".c", ".S")
                               for path in glob.glob(module + "/**/*" + ending, recursive=True))
    unit = sorted(glob.glob("tests/unit/*.c"))
    found["unit"] = [p for p in unit if os.path.basename(p).startswith("test_")]
    found["unit_support"] = [p for p in unit if p not in found["unit"]]
    found["bench"] = sorted(glob.glob("tests/bench/*.c"))
    found["fuzz"] = sorted(glob.glob("fuzz/fuzz_*.c"))
    found["simulation"] = [p for p in found["runtime"] if p.startswith(SIMULATED)]
    found["runtime"] = [p for p in found["runtime"] if not p.startswith(SIMULATED)]
    found["simulation"] += sorted(glob.glob("tests/simulation/*.c"))
    return found


RULES = """
rule cc
  command = $cc $cflags $extra -MD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
  description = CC $out
rule as
  command = $cc $asflags -MD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
  description = AS $out
rule ar
  command = rm -f $out && $ar rcs $out $in
  description = AR $out
rule link
  command = $cc $ldflags $extra -o $out $in $libs
  description = LINK $out
rule link_shared
  command = $cc -shared $extra -o $out $in
  description = LINK $out
rule run
  command = $run
  description = $what
  pool = console
rule reconfigure
  command = $python configure.py $configure_args
  description = CONFIGURE
  generator = 1
rule regenerate
  command = $python configure.py --regenerate $regenerate_args
  description = GRAPH $out
  generator = 1
"""


class Graph:
    """Collects the lines of a ninja file."""

    def __init__(self):
        self.lines = []

    def add(self, text=""):
        self.lines.append(text)

    def build(self, output, rule, inputs=(), implicit=(), order_only=(), **variables):
        words = ["build", output + ":", rule] + list(inputs)
        if implicit:
            words += ["|"] + list(implicit)
        if order_only:
            words += ["||"] + list(order_only)
        self.add(fold(words))
        for name, value in variables.items():
            self.add("  %s = %s" % (name, value))

    def run(self, name, command, what, needs=()):
        """A target that is a deed: it has no file, so it runs whenever it is asked for."""
        self.build(name, "run", implicit=needs, run=command, what=what)

    def text(self):
        return "\n".join(self.lines) + "\n"


def fold(words):
    """One long ninja statement, in lines of bearable length."""
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) > 97:
            lines.append("   ")
        lines[-1] += " " + word
    return " $\n".join(lines)


def object_of(source):
    return "$builddir/obj/" + os.path.splitext(source)[0] + ".o"


def add_object(graph, source, **variables):
    if source.endswith(".S"):
        # The compiler does not tell what .incbin reads.
        folder = os.path.dirname(source)
        assets = sorted(p for p in glob.glob(folder + "/**/*", recursive=True)
                        if os.path.isfile(p) and not p.endswith((".c", ".h", ".S", ".py", ".pyc")))
        graph.build(object_of(source), "as", [source], assets)
    else:
        graph.build(object_of(source), "cc", [source], **variables)
    return object_of(source)


def add_programs(graph, sources):
    """Objects, the archive, and all programs. Returns what `all` and `unit` need."""
    objects = {}
    for module in MODULES:
        for source in sources[module]:
            objects[source] = add_object(graph, source)
    library = "$builddir/libdoorman.a"
    graph.add()
    graph.build(library, "ar", [o for s, o in objects.items() if s != MAIN])

    programs = {"unit": [], "main": []}
    if MAIN in objects:
        graph.build("$builddir/pg_doorman", "link", list(objects.values()),
                    ldflags="$program_ldflags")
        programs["main"] = ["$builddir/pg_doorman"]

    graph.add()
    support = [add_object(graph, source) for source in sources["unit_support"]]
    for source in sources["unit"]:
        name = "$builddir/unit/" + os.path.basename(source)[:-2]
        graph.build(name, "link", [add_object(graph, source)] + support + [library])
        programs["unit"].append(name)
    programs["simulation"] = ["$builddir/sim/simulate"]
    # The program's variables lie between those of two files: runtime/sim_image.c.
    begin, end = ("$builddir/obj/runtime/sim_image_%s.o" % word for word in ("begin", "end"))
    simulation = [add_object(graph, source) for source in sources["simulation"]]
    graph.build(programs["simulation"][0], "link",
                [o for o in simulation if o not in (begin, end)] + [begin, library, end])
    programs["bench"] = [add_bench(graph, source, library) for source in sources["bench"]]
    programs["all"] = (programs["main"] + programs["bench"] + programs["unit"]
                       + programs["simulation"])
    return programs


def add_bench(graph, source, library):
    """A program; or, when the file has no main, a shared object for LD_PRELOAD."""
    name = "$builddir/bench/" + os.path.basename(source)[:-2]
    if "\nint main(" in read(source):
        graph.build(name, "link", [add_object(graph, source), library])
        return name
    made = add_object(graph, source, extra="-fPIC -Wno-missing-prototypes")
    graph.build(name + ".so", "link_shared", [made])
    return name + ".so"


def add_fuzz(graph, sources):
    programs = []
    graph.add()
    for source in sources["fuzz"]:
        name = "$builddir/" + os.path.basename(source)[:-2]
        made = add_object(graph, source, extra="-Wno-missing-prototypes")
        graph.build(name, "link", [made, "$builddir/libdoorman.a"], extra="-fsanitize=fuzzer")
        programs.append(name)
    graph.build("fuzz-programs", "phony", programs)
    graph.run("fuzz-smoke", "$python tests/tools/fuzz_smoke.py --builddir $builddir --seconds %d"
              % SMOKE_SECONDS, "FUZZ for seconds", programs)
    return programs


def add_deeds(graph, programs):
    """The targets that people type."""
    tests = "$python tests/tools/run_tests.py --builddir $builddir"
    graph.add()
    graph.run("test", tests, "TEST", programs["unit"] + programs["main"])
    graph.run("unit", tests + " --only unit", "TEST unit", programs["unit"])
    graph.run("integration", tests + " --only integration", "TEST integration", programs["main"])
    graph.run("mutants", "$python tests/simulation/mutate.py", "MUTANTS")
    simulate = "$builddir/sim/simulate --seeds %d"
    graph.run("simulate", (simulate + " && " + simulate + " --upgrades")
              % (SIMULATED_SEEDS, SIMULATED_UPGRADES), "SIMULATE", programs["simulation"])
    up = "$python tests/tools/up.py --builddir $builddir"
    graph.run("up", up, "UP", programs["main"])
    graph.run("up-once", up + " --once", "UP once", programs["main"])
    graph.run("drivers", "$python tests/drivers/run.py --builddir $builddir --spread",
              "DRIVERS",
              programs["main"])
    graph.run("soak", "$python tests/soak/soak.py --builddir $builddir", "SOAK",
              programs["main"])
    differential = "$python tests/differential/differential.py --program $builddir/pg_doorman"
    graph.run("differential", differential + " --engines io_uring,epoll --scripts 250",
              "DIFFERENTIAL", programs["main"])
    graph.run("demo-upgrade", "$python tests/demo/upgrade.py", "DEMO upgrade", programs["main"])
    graph.run("bench", "$python tests/bench/bench.py", "BENCH",
              programs["main"] + programs["bench"])
    graph.run("check-format", "$python tests/tools/check_format.py --clang-format $clang_format",
              "FORMAT")
    graph.run("install", "install -D -m 755 $builddir/pg_doorman "
              "\"$${DESTDIR:-}$prefix/bin/pg_doorman\"", "INSTALL $prefix/bin/pg_doorman",
              programs["main"])


def add_variant_deeds(graph):
    """Builds of another kind, driven from the main one: configured first, then run there."""
    for name, option, target in (("asan", "--sanitize=address,undefined", "test"),
                                 ("tsan", "--sanitize=thread", "test"),
                                 ("fuzz-smoke", "--fuzz", "fuzz-smoke")):
        folder = "build/fuzz" if name == "fuzz-smoke" else "build/" + name
        graph.run(name, "$python configure.py %s && $ninja -f %s/build.ninja %s"
                  % (option, folder, target), name.upper())


def graph_text(builddir, fuzz):
    sources = find_sources()
    graph = Graph()
    graph.add("# Written by configure.py from the sources it found; do not edit. It holds no path "
              "of a\n# machine: those are in the file included below, which ./configure.py writes. "
              "Run it first.")
    graph.add("ninja_required_version = 1.10")
    graph.add("builddir = " + builddir)
    graph.add("include %s/local.ninja" % builddir)
    graph.add(RULES)
    programs = add_programs(graph, sources)
    if fuzz:
        programs["all"] += add_fuzz(graph, sources)
    add_deeds(graph, programs)
    if builddir == "build":
        add_variant_deeds(graph)
    # A directory is newer than the graph when a source came or went.
    folders = sorted({os.path.dirname(path) for paths in sources.values() for path in paths})
    graph.add()
    graph.build("$builddir/local.ninja", "reconfigure", implicit=["configure.py"])
    graph.build(graph_path(builddir), "regenerate", implicit=["$builddir/local.ninja"] + folders,
                regenerate_args="--builddir=" + builddir + (" --fuzz" if fuzz else ""))
    graph.build("all", "phony", programs["all"])
    graph.add("default all")
    return graph.text()


# ---- writing -----------------------------------------------------------------------------------

def write(path, text):
    """Writes when there is something new; a file that says the same is only made newer."""
    if read(path) == text:
        os.utime(path)
        return False
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    return True


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return None


def local_text(values, argv):
    lines = ["# Written by configure.py for this machine; run it again to change something."]
    values = {"configure_args": shlex.join(argv), **values}
    lines += ["%s = %s" % (name, value.replace("$", "$$")) for name, value in values.items()]
    return "\n".join(lines) + "\n"


def write_compile_commands(ninja, builddir):
    """For editors. Left alone when ninja cannot read the graph for some reason."""
    made = subprocess.run([ninja, "-f", graph_path(builddir), "-t", "compdb", "cc"],
                          stdout=subprocess.PIPE, text=True)
    if made.returncode == 0:
        write("compile_commands.json", made.stdout)


def check_graph():
    if read("build.ninja") == graph_text("build", fuzz=False):
        say("build.ninja is up to date")
        return
    stop("build.ninja is stale: sources were added or removed, or configure.py was changed. "
         "Run ./configure.py and commit build.ninja with the change.")


def main(argv):
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    options = parse_options(argv)
    if options.check:
        check_graph()
        return
    graph = graph_path(options.builddir)
    if options.regenerate:
        write(graph, graph_text(options.builddir, options.fuzz))
        return
    if options.deps:
        install_packages()
    values = probe(options)
    remembered = [word for word in argv if word != "--deps"]
    if options.cc is None:
        remembered.append("--cc=" + values["cc"])
    write(options.builddir + "/local.ninja", local_text(values, remembered))
    if write(graph, graph_text(options.builddir, options.fuzz)):
        say("wrote " + graph)
    if options.builddir == "build":
        write_compile_commands(values["ninja"], options.builddir)
    command = "ninja" if graph == "build.ninja" else "ninja -f " + graph
    say("%s, I/O engine %s. Next: %s" % (values["cc"], options.io, command))


if __name__ == "__main__":
    main(sys.argv[1:])
