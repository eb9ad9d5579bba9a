"""What is seen while the demo runs: a table that is painted over on a terminal, else a line for
each thing that happens."""

import asyncio
import os
import shutil
import sys
import time

from upgrade_sessions import owners

PERIOD_SECONDS = 0.25
COLOURS = (32, 36, 33, 35, 34)  # of the processes, one after the other
RED, FAINT, BOLD = 31, 2, 1


def terminal_can():
    """Is there one, and can it be painted on?"""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")


class Line:
    """Text in pieces with their colours, so that it can be cut to the width of the terminal."""

    def __init__(self, *pieces):
        self.pieces = [(piece, 0) if isinstance(piece, str) else piece for piece in pieces]

    def text(self, width, colours):
        out = ""
        for piece, code in self.pieces:
            piece = piece[:max(0, width)]
            width -= len(piece)
            out += "\033[%dm%s\033[0m" % (code, piece) if code and colours and piece else piece
        return out


def milliseconds(seconds):
    return "%.1f ms" % (seconds * 1000) if seconds else "-"


class View:
    """The scene (upgrade.py) as lines."""

    def __init__(self, scene, shown):
        self.scene = scene
        self.shown = shown
        self.pids = []
        self.colours = "NO_COLOR" not in os.environ

    def pid_piece(self, pid):
        if pid is None:
            return "%8s" % "?"
        return ("%8d" % pid, COLOURS[self.pids.index(pid) % len(COLOURS)])

    def session_line(self, session, pid):
        if session.failed:
            what = ("  FAILED: " + session.failed, RED)
        elif session.kind == "silent":
            what = ("  says nothing till the end", FAINT)
        else:
            what = "%11s%14s%15s" % ("{:,}".format(session.done), milliseconds(session.recent),
                                     milliseconds(session.stall))
        return Line("  %-16s" % ("%s %d" % (session.kind, session.number)), self.pid_piece(pid),
                    what)

    def lines(self):
        scene = self.scene
        for pid in scene.pooler.processes():
            if pid not in self.pids:
                self.pids.append(pid)
        sessions = scene.sessions()
        found = owners(self.pids, scene.pooler.port, {s.local_port for s in sessions})
        out = [Line(("PgDoorman: hot upgrades under live sessions", BOLD)),
               Line("join in:  " + scene.invitation()), Line(""),
               Line(("  session          process    answers  last upgrade  longest stall", BOLD))]
        out += [self.session_line(session, found.get(session.local_port))
                for session in self.shown]
        if scene.pgbench is not None:
            out.append(Line("  %-24s%11s tps" % ("pgbench, %d clients" % scene.pgbench.clients,
                                                 "{:,.0f}".format(scene.pgbench.tps))))
        out.append(Line(""))
        for pid in self.pids[-2:]:
            count = sum(1 for owner in found.values() if owner == pid)
            if count:
                out.append(Line("  process", self.pid_piece(pid), " serves %d of %d sessions" % (
                    count, len(sessions))))
        failures = sum(1 for session in sessions if session.failed)
        out.append(Line("  %s, " % scene.phase,
                        ("%d failures" % failures, RED if failures else COLOURS[0])))
        return out + [Line("  " + said) for said in scene.events[-3:]]


class Painter:
    """On the terminal's other screen, so that nothing of what was there is lost, and the size may
    change meanwhile."""

    def __enter__(self):
        sys.stdout.write("\033[?1049h\033[?25l")
        sys.stdout.flush()
        return self

    def __exit__(self, *_):
        sys.stdout.write("\033[?25h\033[?1049l")
        sys.stdout.flush()

    def paint(self, view):
        width, height = shutil.get_terminal_size()
        lines = view.lines()
        if len(lines) > height:  # what is going on stands at the end
            lines = lines[:height // 2] + lines[len(lines) - (height - height // 2):]
        body = "\r\n".join(line.text(width, view.colours) + "\033[K" for line in lines)
        sys.stdout.write("\033[H" + body + "\033[J")
        sys.stdout.flush()


async def watch(view):
    """Paints, until the scene is over."""
    with Painter() as painter:
        while not view.scene.over:
            painter.paint(view)
            await asyncio.sleep(PERIOD_SECONDS)
    print("\n".join(line.text(shutil.get_terminal_size()[0], view.colours)
                    for line in view.lines()), flush=True)


class Progress:
    """Says what happens, as lines; while something is painted it keeps silent."""

    def __init__(self):
        self.began = time.monotonic()
        self.silent = False

    def say(self, text):
        if not self.silent:
            print("%6.1f s  %s" % (time.monotonic() - self.began, text), flush=True)
