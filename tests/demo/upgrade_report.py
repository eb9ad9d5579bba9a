"""What remains of a run: the report, with its verdict, and the picture."""

import statistics

COLOURS = 48  # of the picture
NEAR_SECONDS = 1.0  # a stall belongs to the upgrade that ended at most so long before


def stall_near(samples, upgrade):
    """The longest answer (ms) that was asked for around an upgrade."""
    near = [took for when, took in samples
            if when + took >= upgrade.asked and when <= upgrade.gone + NEAR_SECONDS]
    return max(near, default=0) * 1000


class Report:
    """Of a scene that is over (upgrade.py)."""

    def __init__(self, scene, throughput):
        self.scene = scene
        self.sessions = scene.sessions()
        self.rows = [upgrade.figures() for upgrade in scene.upgrades]
        self.samples = [sample for probe in scene.probes.all for sample in probe.samples]
        self.stalls = [stall_near(self.samples, upgrade) for upgrade in scene.upgrades]
        self.control = [stall_near(scene.probes.control.samples, upgrade)
                        for upgrade in scene.upgrades]
        self.throughput = throughput
        self.dips = [throughput.dip(number) for number in range(len(scene.upgrades))] \
            if throughput else []

    def session_count(self):
        return len(self.sessions) + (self.scene.pgbench.clients if self.scene.pgbench else 0)

    def conditions(self):
        """(what must hold, does it?)"""
        scene = self.scene
        failures = sum(1 for session in self.sessions if session.failed)
        found = [
            ("%d of %d upgrades done" % (len(self.rows), scene.options.upgrades),
             len(self.rows) == scene.options.upgrades),
            ("%d of %d sessions failed" % (failures, self.session_count()), failures == 0),
            ("%d sessions left behind" % sum(row["left"] for row in self.rows),
             not any(row["left"] for row in self.rows)),
            ("%d PostgreSQL connections opened by the upgrades" % scene.new_connections,
             scene.new_connections == 0),
            ("%d of %d PostgreSQL backends are those from before" % (
                scene.backends_kept, scene.backends_before),
             scene.backends_kept == scene.backends_before)]
        if scene.pgbench is not None:
            found.append(("pgbench: %s transactions, %s failed, exit status %s" % (
                "?" if scene.pgbench.count is None else "{:,}".format(scene.pgbench.count),
                scene.pgbench.failed, scene.pgbench.process.returncode), scene.pgbench.good()))
        if self.dips:
            worst = max(dip["seconds"] for dip in self.dips)
            found.append(("throughput: an upgrade costs at most %.2f s' worth of transactions"
                          % max(0.0, worst), worst <= 1.0))
        return found

    def upgrades_table(self):
        yield "upgrade  start of     end of  frozen   longest  control    clients  servers"
        yield "         new one    old one              stall               moved    moved"
        for number, row in enumerate(self.rows):
            yield "%7d %6.0f ms %7.0f ms %5.1f ms %6.1f ms %6.1f ms %9d %8d" % (
                number + 1, row["start_ms"], row["rest_ms"], row["frozen_ms"],
                self.stalls[number], self.control[number], row["clients"], row["servers"])

    def throughput_table(self):
        yield "pgbench, transactions in each 100 ms, from 300 ms before the request (at |):"
        for number, dip in enumerate(self.dips):
            counts = ["%4d" % count if count < 10000 else "%3dk" % (count // 1000)
                      for count in dip["counts"]]
            yield "%2d %s |%s" % (number + 1, " ".join(counts[:3]), " ".join(counts[3:]))
        yield "upgrade   tps around it   missing   as seconds' worth   worst 100 ms"
        for number, dip in enumerate(self.dips):
            yield "%7d %15s %9s %18.2f s %12.0f %%" % (
                number + 1, "{:,.0f}".format(dip["tps"]), "{:,.0f}".format(dip["missing"]),
                dip["seconds"], 100 * dip["lowest"] / dip["mean"] if dip["mean"] else 0)
        yield ("missing: from the request till a second after the old process's end, of what the "
               "seconds")
        yield "around would have brought; less than 0: there were more."

    def lines(self):
        yield ""
        yield from self.upgrades_table()
        yield "control: a client of PostgreSQL itself; what it waits is the machine's doing."
        yield ""
        if self.dips:
            yield from self.throughput_table()
            yield ""
        yield "sessions                 %d; moved %d times in all" % (
            self.session_count(), sum(row["clients"] for row in self.rows))
        if self.stalls:
            yield "longest stall of a query %.1f ms; median of the upgrades %.1f ms" % (
                max(self.stalls), statistics.median(self.stalls))
            yield "longest freeze           %.1f ms" % max(row["frozen_ms"] for row in self.rows)
        yield ""
        for text, holds in self.conditions():
            yield "%s  %s" % ("ok    " if holds else "WRONG ", text)
        for session in [session for session in self.sessions if session.failed][:5]:
            yield "          %s %d: %s" % (session.kind, session.number, session.failed)
        yield ""
        yield "PASS" if self.good() else "FAIL"

    def good(self):
        return all(holds for _, holds in self.conditions())


# ---- the picture


def have_matplotlib():
    try:
        import matplotlib  # noqa: F401
        return True
    except ImportError:
        return False


def mark(axes, report, began):
    for number, upgrade in enumerate(report.scene.upgrades):
        axes.axvspan(upgrade.asked - began, upgrade.gone - began, color="#d62728", alpha=0.18,
                     linewidth=0, label="upgrade: from the request to the old process's end"
                     if number == 0 else None)
        axes.axvline(report.rows[number]["frozen_at"] - began, color="#d62728", linewidth=0.8,
                     label="the moment at which the sessions move" if number == 0 else None)


def draw_latency(axes, report, began):
    control = report.scene.probes.control.samples
    axes.plot([when - began for when, _ in report.samples],
              [took * 1000 for _, took in report.samples], ".", markersize=2.5, color="#336791",
              markeredgewidth=0, label="one query through the pooler")
    axes.plot([when - began for when, _ in control], [took * 1000 for _, took in control], ".",
              markersize=2.5, color="#e69f00", markeredgewidth=0,
              label="control: the same query straight to PostgreSQL")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: "%g ms" % value)
    axes.set_ylabel("latency")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)


def draw_throughput(axes, report, began):
    points = report.throughput.points()
    axes.step([when - began for when, _ in points], [tps / 1000 for _, tps in points],
              where="post", color="#2ca02c", linewidth=1)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: "%gk" % value)
    axes.set_ylabel("pgbench, tps\n(per 100 ms)")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)


def title(report):
    scene = report.scene
    return ("%d upgrades in a row: %d sessions, %d of them in transactions; %d failures, "
            "%d new PostgreSQL connections" % (
                len(scene.upgrades), report.session_count(), scene.options.transactions,
                sum(1 for session in report.sessions if session.failed), scene.new_connections))


def picture(report, path):
    """As PNG with few colours, so that it is small."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    rows = 2 if report.throughput else 1
    figure, axes = pyplot.subplots(rows, 1, sharex=True, squeeze=False, figsize=(10, 3.4 * rows),
                                   gridspec_kw={"height_ratios": [2, 1][:rows]})
    began = report.scene.began
    draw_latency(axes[0][0], report, began)
    if report.throughput:
        draw_throughput(axes[1][0], report, began)
    for row in axes:
        mark(row[0], report, began)
    for number, upgrade in enumerate(report.scene.upgrades):
        axes[0][0].annotate(str(number + 1), ((upgrade.asked + upgrade.gone) / 2 - began, 1),
                            xycoords=("data", "axes fraction"), ha="center", va="bottom",
                            color="#d62728")
    axes[0][0].set_title(title(report), fontsize=11, pad=16)
    axes[-1][0].set_xlabel("seconds")
    axes[-1][0].set_xlim(0, report.scene.ended - began)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=2, markerscale=5, frameon=False,
                  fontsize=9)
    figure.tight_layout(rect=(0, 0.08 if rows == 2 else 0.14, 1, 1))
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
    from PIL import Image  # matplotlib's own
    with Image.open(path) as image:
        few = image.convert("RGB").quantize(COLOURS)
    few.save(path, optimize=True)
