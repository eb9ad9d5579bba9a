"""How it is measured: pgbench runs, CPU time, memory of idle clients, heap calls."""

import base64
import glob
import hashlib
import hmac
import os
import re
import shutil
import struct
import subprocess
import sys
import time

from targets import DATABASE, HERE, PASSWORD, USER, Failure, run


def family(pid):
    """The process and its descendants: a helper process of a pooler is its cost too."""
    pids = [pid]
    for children in glob.glob(f"/proc/{pid}/task/*/children"):
        try:
            with open(children, encoding="ascii") as f:
                for child in f.read().split():
                    pids += family(int(child))
        except OSError:
            pass
    return pids


def cpu_of(pid):
    """CPU nanoseconds by thread, and in clock ticks for whole processes."""
    threads = {}
    ticks_ns = 0
    for p in family(pid):
        try:
            with open(f"/proc/{p}/stat", encoding="ascii") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            ticks_ns += (int(fields[11]) + int(fields[12])) * 10**9 // os.sysconf("SC_CLK_TCK")
        except OSError:
            continue
        for path in glob.glob(f"/proc/{p}/task/*/schedstat"):
            try:
                with open(path, encoding="ascii") as f:
                    threads[path] = int(f.read().split()[0])
            except OSError:
                pass  # a thread that ended meanwhile
    return threads, ticks_ns


def cpu_between(before, after):
    """Nanoseconds used. The scheduler's account is exact, but that of a thread which has ended
    is gone; then the ticks, which the process keeps, are the better figure."""
    if any(path not in after[0] for path in before[0]) or not after[0]:
        return after[1] - before[1]
    return sum(ns - before[0].get(path, 0) for path, ns in after[0].items())


def own_bytes(pid):
    total = 0
    for p in family(pid):
        with open(f"/proc/{p}/smaps_rollup", encoding="ascii") as f:
            for line in f:
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def percentile(values, fraction):
    return values[min(len(values) - 1, int(len(values) * fraction))] if values else None


def number(pattern, text):
    found = re.search(pattern, text)
    return float(found.group(1)) if found else None


class Pgbench:
    """One run of pgbench -S against one target, in the background until wait().

    The first second is not measured: backends load their caches and clients log in. After it
    the CPU account is read now and then, and the log of single transactions says how many of
    them ended between two readings.
    """

    SETTLE_SECONDS = 1
    POLL_SECONDS = 0.2

    def __init__(self, target, protocol, clients, seconds, session=False, reconnect=False):
        setup = target.setup
        self.target = target
        self.seconds = seconds
        self.prefix = setup.path(f"log-{time.monotonic_ns()}")
        argv = [os.path.join(setup.pgbin, "pgbench"), "-n", "-S", "-M", protocol,
                "-c", str(clients), "-j", str(min(clients, os.cpu_count() or 1)),
                "-T", str(seconds + self.SETTLE_SECONDS), "-h", target.host(),
                "-p", str(target.port), "-U", USER, "--log", f"--log-prefix={self.prefix}"]
        if reconnect:
            argv.append("-C")
        argv.append(target.database(session))
        with open(self.prefix + "-out", "wb") as out, open(self.prefix + "-err", "wb") as err:
            # pylint: disable-next=consider-using-with
            self.process = subprocess.Popen(
                setup.on_other_cpus(argv), stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                cwd=setup.directory, env={**os.environ, "PGPASSWORD": PASSWORD})

    def poll_cpu(self):
        """[(time, CPU account)] until pgbench ends. None instead of a list: it did not end."""
        readings = []
        deadline = time.monotonic() + self.seconds + self.SETTLE_SECONDS + 30
        while time.monotonic() < deadline:
            if self.target.alive():
                readings.append((time.time(), cpu_of(self.target.process.pid)))
            try:
                self.process.wait(self.POLL_SECONDS)
                return readings
            except subprocess.TimeoutExpired:
                pass
        self.process.kill()
        self.process.wait()
        return None

    def take_file(self, suffix):
        path = self.prefix + suffix
        with open(path, encoding="utf-8", errors="replace") as f:
            text = f.read()
        os.unlink(path)
        return text

    def wait(self):
        """A dictionary of figures. `errors` is a list of texts, empty when all went well."""
        readings = self.poll_cpu()
        out, err = self.take_file("-out"), self.take_file("-err")
        errors = [x for x in err.splitlines() if x.strip()]
        if len(errors) > 4:
            errors = errors[:3] + [f"… and {len(errors) - 3} more lines"]
        if readings is None:
            errors.append("pgbench did not end within 30 s after its time and was killed")
            readings = []
        elif self.process.returncode != 0:
            errors.append(f"pgbench ended with status {self.process.returncode}")
        if (failed := number(r"failed transactions: (\d+)", out)):
            errors.append(f"{failed:.0f} failed transactions")
        if not self.target.alive():
            errors.append(f"{self.target.label} has ended")
        self.read_log()
        figures = self.figures(readings)
        if figures["tps"] is None:
            errors.append("no figures")
        return {**figures, "errors": errors}

    def read_log(self):
        """Sets self.done: (second it ended, milliseconds it took) of each transaction."""
        self.done = []
        for path in glob.glob(self.prefix + ".*"):
            with open(path, encoding="ascii", errors="replace") as f:
                for line in f:
                    words = line.split()
                    if len(words) == 6 and words[2].isdigit():
                        self.done.append((int(words[4]) + int(words[5]) / 1e6,
                                          int(words[2]) / 1000))
            os.unlink(path)
        self.done.sort()

    def latencies_between(self, start, end):
        return sorted(ms for at, ms in self.done if start <= at < end)

    def figures(self, readings):
        empty = dict.fromkeys(["transactions", "tps", "cpu_us", "p50_ms", "p99_ms", "max_ms"])
        if not self.done:
            return empty
        first = self.done[0][0] + self.SETTLE_SECONDS * 0.9
        inside = [r for r in readings if first <= r[0] <= self.done[-1][0]]
        if len(inside) < 2:
            return empty
        (start, before), (end, after) = inside[0], inside[-1]
        latencies = self.latencies_between(start, end)
        if not latencies:
            return empty
        return {
            "transactions": len(latencies),
            "tps": len(latencies) / (end - start),
            "cpu_us": cpu_between(before, after) / len(latencies) / 1000,
            "p50_ms": percentile(latencies, 0.50),
            "p99_ms": percentile(latencies, 0.99),
            "max_ms": latencies[-1],
        }


class IdleClient:
    """A client in sixty lines: SCRAM login, one query, then silence."""

    salted = {}

    def __init__(self, target):
        self.socket = target.connect()
        self.buffer = b""
        words = ["user", USER, "database", DATABASE, "application_name", "idle", ""]
        body = struct.pack("!i", 196608) + b"".join(w.encode() + b"\0" for w in words)
        self.socket.sendall(struct.pack("!i", len(body) + 4) + body)
        self.log_in()
        self.send(b"Q", b"SELECT 1\0")
        self.read_until(b"Z")

    def send(self, kind, body):
        self.socket.sendall(kind + struct.pack("!i", len(body) + 4) + body)

    def read(self):
        while True:
            if len(self.buffer) >= 5:
                size = 1 + struct.unpack_from("!i", self.buffer, 1)[0]
                if len(self.buffer) >= size:
                    kind, body = self.buffer[:1], self.buffer[5:size]
                    self.buffer = self.buffer[size:]
                    if kind == b"E":
                        fields = {f[:1]: f[1:].decode(errors="replace")
                                  for f in body.split(b"\0") if f}
                        raise Failure(f"idle client: {fields.get(b'C')} {fields.get(b'M')}")
                    return kind, body
            more = self.socket.recv(65536)
            if not more:
                raise Failure("idle client: connection closed")
            self.buffer += more

    def read_until(self, wanted):
        while self.read()[0] != wanted:
            pass

    def log_in(self):
        first = ""
        while True:
            kind, body = self.read()
            if kind == b"Z":
                return
            if kind != b"R":
                continue
            step = struct.unpack_from("!i", body)[0]
            if step == 10:
                nonce = base64.b64encode(os.urandom(18)).decode()
                first = f"n=,r={nonce}"
                message = b"n,," + first.encode()
                self.send(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(message)) + message)
            elif step == 11:
                self.send(b"p", self.proof(first, body[4:].decode()))
            elif step not in (0, 12):
                raise Failure(f"idle client: authentication {step} is not supported")

    def proof(self, first, challenge):
        fields = dict(part.split("=", 1) for part in challenge.split(","))
        key = (fields["s"], int(fields["i"]))
        if key not in self.salted:
            self.salted[key] = hashlib.pbkdf2_hmac(
                "sha256", PASSWORD.encode(), base64.b64decode(key[0]), key[1])
        client_key = hmac.digest(self.salted[key], b"Client Key", "sha256")
        stored = hashlib.sha256(client_key).digest()
        bare = f"c=biws,r={fields['r']}"
        text = f"{first},{challenge},{bare}".encode()
        signature = hmac.digest(stored, text, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        return f"{bare},p={base64.b64encode(proof).decode()}".encode()

    def close(self):
        self.socket.close()


def memory_of_idle(target, counts):
    """[(clients, bytes per client)] above a pooler that has warmed up but has no clients."""
    warm = Pgbench(target, "simple", 8, 1).wait()
    if warm["errors"]:
        raise Failure("; ".join(warm["errors"]))
    time.sleep(0.3)
    base = own_bytes(target.process.pid)
    clients = []
    results = []
    try:
        for count in counts:
            while len(clients) < count:
                clients.append(IdleClient(target))
            time.sleep(0.5)
            results.append((count, (own_bytes(target.process.pid) - base) / count))
    finally:
        for client in clients:
            client.close()
    return base, results


class HeapCounter:
    """The shared counters of malloc_count.c, seen from outside."""

    SITES_AT = 8

    def __init__(self, setup):
        self.library = setup.path("malloc_count.so")
        run(["gcc", "-std=gnu17", "-O2", "-g", "-D_GNU_SOURCE", "-fPIC", "-shared", "-o",
             self.library, f"{HERE}/malloc_count.c"])
        self.path = setup.write("malloc_count", "")

    def environment(self):
        return {"LD_PRELOAD": self.library, "MALLOC_COUNT_FILE": self.path}

    def reset(self):
        """Only while nothing has the file mapped."""
        os.truncate(self.path, 0)

    def read(self):
        """Heap calls so far, and the same by calling address."""
        with open(self.path, "rb") as f:
            raw = f.read()
        words = struct.unpack(f"={len(raw) // 8}Q", raw[:len(raw) // 8 * 8])
        if not words:
            raise Failure("the heap counter was not loaded")
        sites = words[self.SITES_AT:]
        return sum(words[:4]), dict(zip(sites[::2], sites[1::2]))


def name_place(pid, address):
    """"function (file:line)" for an address in a running process, as well as it can be told."""
    base = {}
    with open(f"/proc/{pid}/maps", encoding="utf-8") as f:
        for line in f:
            words = line.split()
            if len(words) < 6 or not words[5].startswith("/"):
                continue
            low, high = (int(x, 16) for x in words[0].split("-"))
            base.setdefault(words[5], low)
            if low <= address < high:
                offset = address - base[words[5]] - 1  # inside the call, not after it
                break
        else:
            return hex(address)
    if shutil.which("addr2line"):
        out = run(["addr2line", "-f", "-i", "-s", "-e", words[5], hex(offset)]).split("\n")
        if out[0] != "??":
            return f"{out[0]} ({out[1]})"
    return f"{os.path.basename(words[5])}+{offset:#x}"


def heap_calls(target, counter, protocol, clients, seconds, session=False):
    """Heap calls within a window in the middle of a run, with the places that made them."""
    bench = Pgbench(target, protocol, clients, seconds + 2, session)
    time.sleep(2)
    total, sites = counter.read()
    start = time.time()
    time.sleep(seconds)
    total_after, sites_after = counter.read()
    end = time.time()
    figures = bench.wait()
    grown = {a: n - sites.get(a, 0) for a, n in sites_after.items() if n > sites.get(a, 0)}
    top = sorted(grown.items(), key=lambda item: -item[1])[:8]
    return {
        "calls": total_after - total,
        "transactions": len(bench.latencies_between(start, end)),
        "places": [(name_place(target.process.pid, a), n) for a, n in top]
                  if target.alive() else [],
        "errors": figures["errors"],
    }


def profile(target, protocol, clients, seconds, session=False):
    """Text of perf's flat profile of the target under load."""
    data = target.setup.path("perf.data")
    bench = Pgbench(target, protocol, clients, seconds + 2, session)
    time.sleep(1)
    recorded = subprocess.run(
        ["perf", "record", "-q", "-F", "1999", "-g", "-o", data, "-p", str(target.process.pid),
         "--", "sleep", str(seconds)], capture_output=True, text=True, check=False)
    figures = bench.wait()
    if recorded.returncode != 0:
        raise Failure("perf record: " + recorded.stderr.strip())
    report = run(["perf", "report", "-i", data, "--stdio", "--no-children", "-g", "none",
                  "--percent-limit", "0.4", "--sort", "dso,symbol"])
    lines = [x.rstrip(" -") for x in report.splitlines() if x.strip() and x[0] != "#"]
    return figures, lines


def rounds_of(kinds, protocol, options):
    """Figures of each kind, by name: options.rounds runs, whose order turns from round to round."""
    figures = {name: [] for name in kinds}
    for number in range(options.rounds):
        for name in list(kinds) if number % 2 == 0 else reversed(list(kinds)):
            found = Pgbench(kinds[name], protocol, options.clients, options.seconds).wait()
            if found["errors"]:
                sys.exit(f"{name}: {found['errors']}")
            figures[name].append(found)
    return figures
