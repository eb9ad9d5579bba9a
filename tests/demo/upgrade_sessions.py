"""The sessions of the demo, but for those that measure (upgrade_probes.py): silent ones, long
transactions, endless results, and psql."""

import asyncio
import os
import struct
import time

from private_postgres import find_program
from upgrade_pooler import HOST

LOGINS_AT_ONCE = 64
WAIT_SECONDS = 60  # for any answer: who waits longer has failed


def message(kind, body=b""):
    return kind + struct.pack("!I", len(body) + 4) + body


class Session:
    """One client. `stall` is the longest time that it had to wait for something during the run,
    `recent` the longest since the last upgrade was asked for."""

    def __init__(self, kind, number):
        self.kind = kind
        self.number = number
        self.stall = 0.0
        self.recent = 0.0
        self.done = 0
        self.failed = None
        self.local_port = None

    def note(self, took):
        self.stall = max(self.stall, took)
        self.recent = max(self.recent, took)
        self.done += 1

    def forget_stall(self):
        self.stall = 0.0

    def forget_recent(self):
        self.recent = 0.0

    async def open(self, port):
        self.reader, self.writer = await asyncio.open_connection(HOST, port, limit=1 << 20)
        self.local_port = self.writer.get_extra_info("sockname")[1]
        body = struct.pack("!I", 196608) + b"user\0joe\0database\0app\0\0"
        self.writer.write(struct.pack("!I", len(body) + 4) + body)
        await self.until_ready()
        return self

    async def one(self):
        head = await self.reader.readexactly(5)
        body = await self.reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)
        if head[:1] == b"E":
            raise RuntimeError(body.replace(b"\0", b" ").decode(errors="replace"))
        return head[:1], body

    async def until_ready(self):
        rows = []
        while True:
            kind, body = await self.one()
            if kind == b"D":
                rows.append(body)
            if kind == b"Z":
                return rows

    async def query(self, sql):
        """The first column of the first row, as text."""
        began = time.monotonic()
        self.writer.write(message(b"Q", sql.encode() + b"\0"))
        async with asyncio.timeout(WAIT_SECONDS):
            rows = await self.until_ready()
        self.note(time.monotonic() - began)
        if not rows:
            return None
        length = struct.unpack("!i", rows[0][2:6])[0]
        return rows[0][6:6 + length].decode()


class Psql(Session):
    """The program itself, told one query after the other on its standard input."""

    process = None

    async def open(self, port):
        self.process = await asyncio.create_subprocess_exec(
            find_program("psql"), "-X", "-q", "-A", "-t", "-w", "-h", HOST, "-p", str(port),
            "-U", "joe", "-d", "app", "-v", "ON_ERROR_STOP=1", stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            start_new_session=True)
        await self.query("SELECT 1")
        self.local_port = port_of_process(self.process.pid, port)
        return self

    async def query(self, sql):
        began = time.monotonic()
        self.process.stdin.write(sql.encode() + b";\n")
        async with asyncio.timeout(WAIT_SECONDS):
            line = await self.process.stdout.readline()
        self.note(time.monotonic() - began)
        if not line:
            raise RuntimeError("psql has ended")
        return line.decode(errors="replace").strip()

    async def end(self):
        if self.process is None:
            return
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


def tcp_sockets():
    """(local port, port of the other end, inode) of each."""
    with open("/proc/net/tcp") as file:
        next(file)
        for line in file:
            fields = line.split()
            yield int(fields[1][-4:], 16), int(fields[2][-4:], 16), fields[9]


def socket_inodes(pid):
    for name in os.listdir("/proc/%d/fd" % pid):
        try:
            target = os.readlink("/proc/%d/fd/%s" % (pid, name))
        except OSError:
            continue
        if target.startswith("socket:["):
            yield target[8:-1]


def port_of_process(pid, server_port):
    """Its port, if it has a connection to that one."""
    mine = set(socket_inodes(pid))
    for local, remote, inode in tcp_sockets():
        if remote == server_port and inode in mine:
            return local
    return None


def owners(pids, server_port, ports):
    """Which process has the pooler's end of each connection: by the client's port. While both
    have it, the later of `pids`."""
    inodes = {inode: remote for local, remote, inode in tcp_sockets()
              if local == server_port and remote in ports}
    found = {}
    for pid in pids:
        try:
            for inode in socket_inodes(pid):
                if inode in inodes:
                    found[inodes[inode]] = pid
        except OSError:
            continue
    return found


class Sessions:
    """Makes them, and has them do what they do."""

    def __init__(self, port):
        self.port = port
        self.all = []
        self.psql = []
        self.stopping = False
        self.facts = {}
        self.tasks = []

    async def make(self, count, kind, maker=Session, first=None):
        made = []
        gate = asyncio.Semaphore(LOGINS_AT_ONCE)

        async def one(number):
            async with gate:
                session = maker(kind, number)
                if maker is Psql:
                    self.psql.append(session)
                await session.open(self.port)
                if first:
                    await first(session)
                made.append(session)

        await asyncio.gather(*(one(number) for number in range(count)))
        made.sort(key=lambda session: session.number)
        self.all += made
        return made

    def put_to_work(self, sessions, work):
        self.tasks += [asyncio.create_task(self.guard(session, work(session)))
                       for session in sessions]

    async def guard(self, session, work):
        try:
            await work
        except Exception as error:  # whatever it is, it is what we count
            session.failed = str(error) or repr(error)

    async def begin(self, session):
        await session.query("BEGIN")
        self.facts[session] = await session.query(
            "SELECT pg_backend_pid() || '/' || txid_current()")

    async def beat(self, session):
        """Inside of its transaction it asks now and then whether it is still the same."""
        while not self.stopping:
            await asyncio.sleep(0.5)
            facts = await session.query("SELECT pg_backend_pid() || '/' || txid_current()")
            if facts != self.facts[session]:
                raise RuntimeError("transaction %s has become %s" % (self.facts[session], facts))

    async def begin_stream(self, session):
        """An endless result. Each row is as long as PostgreSQL's buffer, which so sends it at
        once."""
        session.writer.write(message(b"Q", b"SELECT generate_series(1, 100000000), "
                                           b"repeat('x', 8192), pg_sleep(0.01)\0"))
        await self.numbered_row(session, 1)

    async def numbered_row(self, session, wanted):
        kind = None
        while kind != b"D":
            async with asyncio.timeout(WAIT_SECONDS):
                kind, body = await session.one()
        length = struct.unpack("!i", body[2:6])[0]
        if int(body[6:6 + length]) != wanted:
            raise RuntimeError("row %d expected" % wanted)

    async def stream(self, session):
        """The numbers must come one after the other."""
        wanted, last = 2, time.monotonic()
        while not self.stopping:
            await self.numbered_row(session, wanted)
            now = time.monotonic()
            session.note(now - last)
            wanted, last = wanted + 1, now

    async def talk(self, session):
        """psql: a query ten times a second."""
        while not self.stopping:
            answer = await session.query("SELECT %d" % session.done)
            if answer != str(session.done - 1):
                raise RuntimeError(answer)
            await asyncio.sleep(0.1)

    async def check(self, session):
        """One that was silent all the time."""
        value = await session.query("SELECT %d" % session.number)
        if value != str(session.number):
            raise RuntimeError("answered %s" % value)

    async def finish(self):
        """Ends what they do; silent ones and transactions must then be as they were."""
        self.stopping = True
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=WAIT_SECONDS)
        checks = [self.guard(session, self.check(session)) for session in self.all
                  if session.kind == "silent"]
        checks += [self.guard(session, session.query("COMMIT")) for session in self.facts
                   if session.failed is None]
        await asyncio.gather(*checks)

    async def end(self):
        self.stopping = True
        for session in self.psql:
            await session.end()
