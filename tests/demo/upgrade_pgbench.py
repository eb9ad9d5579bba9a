"""pgbench at full load, and what of its throughput an upgrade costs."""

import glob
import os
import re
import signal
import subprocess
import threading
from array import array

from private_postgres import Failure, find_program
from upgrade_pooler import HOST

BUCKET_SECONDS = 0.1
BEFORE_SECONDS = 1.0  # what is normal: so long before, and so long after it is over
AFTER_SECONDS = 1.0   # an upgrade is looked at till so long after the old process has gone
END_SECONDS = 30


class Pgbench:
    def __init__(self, folder, port, clients):
        self.folder = folder
        self.clients = clients
        self.tps = 0.0
        self.said = []
        self.count = self.failed = None
        environment = {**os.environ, "PGHOST": HOST, "PGPORT": str(port), "PGUSER": "joe",
                       "PGDATABASE": "app", "PGSSLMODE": "disable"}
        # It ends when it is told, by the signal that its own clock would send.
        command = [find_program("pgbench"), "-n", "-S", "-M", "prepared", "-c", str(clients),
                   "-j", str(min(clients, 2)), "-T", "100000", "-P", "1", "-l",
                   "--log-prefix=" + os.path.join(folder, "pgbench")]
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        text=True, start_new_session=True)
        self.reader = threading.Thread(target=self.listen, daemon=True)
        self.reader.start()

    @staticmethod
    def prepare(server):
        done = subprocess.run([find_program("pgbench"), "-i", "-q", "-s", "1"],
                              env={**os.environ, **server.environment}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise Failure("pgbench -i failed:\n" + done.stdout)

    def listen(self):
        for line in self.process.stdout:
            progress = re.match(r"progress: [\d.]+ s, ([\d.]+) tps", line)
            if progress:
                self.tps = float(progress.group(1))
            else:
                self.said.append(line)

    def finish(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGALRM)
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self.reader.join()
        said = "".join(self.said)
        count = re.search(r"number of transactions actually processed: (\d+)", said)
        failed = re.search(r"number of failed transactions: (\d+)", said)
        self.count = int(count.group(1)) if count else None
        self.failed = int(failed.group(1)) if failed else None

    def good(self):
        said = "".join(self.said)
        return (self.process.returncode == 0 and bool(self.count) and self.failed == 0
                and "aborted" not in said and "error" not in said.lower())

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def ends(self):
        """The end of each transaction, by time.time(), in order."""
        ends = array("d")
        for path in glob.glob(os.path.join(self.folder, "pgbench.*")):
            with open(path, "rb") as file:
                for line in file:
                    fields = line.split(b" ", 6)
                    ends.append(int(fields[4]) + int(fields[5]) / 1e6)
        return array("d", sorted(ends))


class Throughput:
    """Transactions by tenths of a second."""

    def __init__(self, ends, upgrades):
        self.first = int(ends[0] / BUCKET_SECONDS) if ends else 0
        self.buckets = [0] * (int(ends[-1] / BUCKET_SECONDS) - self.first + 1 if ends else 0)
        for end in ends:
            self.buckets[int(end / BUCKET_SECONDS) - self.first] += 1
        self.upgrades = upgrades

    def between(self, begin, end):
        at = max(0, int(begin / BUCKET_SECONDS) - self.first)
        return self.buckets[at:max(at, int(end / BUCKET_SECONDS) - self.first)]

    def points(self):
        """(time, transactions per second) of each bucket but the first and the last."""
        return [((self.first + at) * BUCKET_SECONDS, count / BUCKET_SECONDS)
                for at, count in enumerate(self.buckets)][1:-1]

    def dip(self, number):
        """Of that upgrade: transactions per second before and after it, how many are missing from
        the request till one second after the old process's end, also as seconds' worth; the worst
        tenth of a second; and the counts from half a second before the request."""
        upgrade = self.upgrades[number]
        until = upgrade.gone + AFTER_SECONDS
        earlier = self.upgrades[number - 1].gone + AFTER_SECONDS if number > 0 else 0
        later = self.upgrades[number + 1].asked if number + 1 < len(self.upgrades) \
            else float("inf")
        normal = self.between(max(upgrade.asked - BEFORE_SECONDS, earlier), upgrade.asked)
        normal += self.between(until, min(until + BEFORE_SECONDS, later))
        during = self.between(upgrade.asked, until)
        mean = sum(normal) / len(normal) if normal else 0.0
        missing = mean * len(during) - sum(during)
        return {"tps": mean / BUCKET_SECONDS, "missing": missing,
                "seconds": missing / mean * BUCKET_SECONDS if mean else 0.0,
                "lowest": min(during, default=0), "mean": mean,
                "counts": self.between(upgrade.asked - 0.3, upgrade.asked + 1.0)}
