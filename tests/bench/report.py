"""What is said about it: tables as text and Markdown, the picture, the recorded page."""

import os
import platform
import statistics
import time

from targets import ROOT

CASE_TITLES = {
    "simple": "simple",
    "extended": "extended",
    "prepared-session": "prepared, session mode",
    "prepared": "prepared, transaction mode",
}
COLOURS = {
    "pgbouncer": "#b0563b",
    "forwarder": "#8a8f98",
    "doorman": "#1f5fa8",
    "doorman-all": "#5fa3e0",
    "doorman-epoll": "#2d8a6b",
    "doorman-epoll-all": "#7cc4aa",
}


def good(runs):
    return [r for r in runs if r is not None and not r["errors"]]


def median(runs, field):
    values = [r[field] for r in good(runs) if r[field] is not None]
    return statistics.median(values) if values else None


def ratio(runs, others, field):
    """The median of the ratios round by round, since neighbours in time share their noise."""
    ratios = [a[field] / b[field] for a, b in zip(runs, others)
              if a and b and not a["errors"] and not b["errors"] and a[field] and b[field]]
    return statistics.median(ratios) if ratios else None


def show(value, digits=0, prefix=""):
    return "–" if value is None else f"{prefix}{value:,.{digits}f}"


def show_against(by_target, name, reference, field):
    """A ratio, or a dash where there is nothing to compare with."""
    if name == reference or reference not in by_target:
        return "–"
    return show(ratio(by_target[name], by_target[reference], field), 2, "×")


def spread(runs, field):
    values = [r[field] for r in good(runs) if r[field] is not None]
    if len(values) < 2:
        return "–"
    return f"±{(max(values) - min(values)) / 2 / statistics.median(values) * 100:.0f} %"


class Table:
    def __init__(self, title, columns, note=""):
        self.title = title
        self.columns = columns  # the first `texts` columns are aligned to the left
        self.texts = 2
        self.note = note
        self.rows = []

    def add(self, *cells):
        self.rows.append([str(c) for c in cells])

    def text(self):
        widths = [max(len(row[i]) for row in [self.columns] + self.rows)
                  for i in range(len(self.columns))]

        def line(row):
            cells = [c.ljust(w) if i < self.texts else c.rjust(w)
                     for i, (c, w) in enumerate(zip(row, widths))]
            return "  ".join(cells).rstrip()

        out = [self.title, "=" * len(self.title), line(self.columns),
               "  ".join("-" * w for w in widths)]
        previous = None
        for row in self.rows:
            if previous not in (None, row[0]):
                out.append("")
            previous = row[0]
            out.append(line(row))
        if self.note:
            out += ["", self.note]
        return "\n".join(out) + "\n"

    def markdown(self):
        align = [":--" if i < self.texts else "--:" for i in range(len(self.columns))]
        out = [f"## {self.title}", ""]
        if self.note:
            out += [self.note, ""]
        for row in [self.columns, align] + self.rows:
            out.append("| " + " | ".join(row) + " |")
        return "\n".join(out) + "\n"


def loops_table(results):
    table = Table(
        "Transactions",
        ["Case", "Target", "tps", "vs PgB", "vs fwd", "CPU µs/tx", "spread", "vs PgB", "vs fwd",
         "p50 ms", "p99 ms", "p99/p50", "bad runs"],
        "One transaction is one SELECT by primary key (pgbench -S). CPU is that of the target "
        "alone, user and system. \"vs PgB\" and \"vs fwd\" are ratios to PgBouncer and to the "
        "bare forwarder in the same round; for tps more is better, for CPU less.")
    for (case, clients), by_target in results["loops"].items():
        for name, runs in by_target.items():
            p50, p99 = median(runs, "p50_ms"), median(runs, "p99_ms")
            table.add(
                f"{CASE_TITLES[case]}, {clients} clients", results["labels"][name],
                show(median(runs, "tps")),
                show_against(by_target, name, "pgbouncer", "tps"),
                show_against(by_target, name, "forwarder", "tps"),
                show(median(runs, "cpu_us"), 1), spread(runs, "cpu_us"),
                show_against(by_target, name, "pgbouncer", "cpu_us"),
                show_against(by_target, name, "forwarder", "cpu_us"),
                show(p50, 2), show(p99, 2), show(p99 / p50 if p50 and p99 else None, 1),
                f"{len(runs) - len(good(runs))} of {len(runs)}")
    return table


def connect_table(results):
    table = Table(
        "Connections",
        ["Case", "Target", "connections/s", "vs PgB", "CPU µs/connection", "spread", "vs PgB",
         "bad runs"],
        "Connect, log in with SCRAM-SHA-256, one query, disconnect (pgbench -C -S). The forwarder "
        "takes no part in the login, and its server lets everybody in: it shows what the sockets "
        "alone cost. The rate is bound by pgbench and PostgreSQL, so look at the CPU.")
    for (case, clients), by_target in results["connect"].items():
        for name, runs in by_target.items():
            table.add(f"{case}, {clients} clients", results["labels"][name],
                      show(median(runs, "tps")),
                      show_against(by_target, name, "pgbouncer", "tps"),
                      show(median(runs, "cpu_us"), 1), spread(runs, "cpu_us"),
                      show_against(by_target, name, "pgbouncer", "cpu_us"),
                      f"{len(runs) - len(good(runs))} of {len(runs)}")
    return table


def memory_table(results):
    table = Table(
        "Memory of idle clients",
        ["Case", "Target", "bytes/client", "vs PgB", "start, KiB"],
        "Proportional set size above that of the warmed-up process without clients, divided by "
        "the number of clients. Each client has logged in and has run one query. Memory of the "
        "kernel (socket buffers) is not in it.")
    counts = sorted({n for m in results["memory"].values() for n, _ in m["points"]})
    for count in counts:
        reference = dict(results["memory"].get("pgbouncer", {}).get("points", [])).get(count)
        for name, found in results["memory"].items():
            each = dict(found["points"]).get(count)
            against = each / reference if each is not None and reference else None
            table.add(f"{count:,} clients", results["labels"][name], show(each),
                      "–" if name == "pgbouncer" else show(against, 2, "×"),
                      show(found["base"] / 1024))
    return table


def heap_table(results):
    table = Table(
        "Heap calls in the steady state",
        ["Case", "Target", "calls", "transactions", "calls/transaction", "errors"],
        "malloc, calloc, realloc and the aligned ones, counted in a window in the middle of a "
        "run by a preloaded library. free is not counted.")
    for row in results["heap"]:
        per = row["calls"] / row["transactions"] if row["transactions"] else None
        table.add(f"{CASE_TITLES[row['case']]}, {row['clients']} clients",
                  results["labels"][row["target"]], f"{row['calls']:,}",
                  f"{row['transactions']:,}", show(per, 5), len(row["errors"]))
    return table


def tables(results):
    makers = [("loops", loops_table), ("connect", connect_table), ("memory", memory_table),
              ("heap", heap_table)]
    return [make(results) for part, make in makers if results.get(part)]


def heap_places(results):
    lines = []
    for row in results.get("heap", []):
        for place, calls in row["places"]:
            lines.append(f"{results['labels'][row['target']]}, {CASE_TITLES[row['case']]}: "
                         f"{calls:,} calls from {place}")
    return lines


def machine():
    model = platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            names = [x.split(":", 1)[1].strip() for x in f if x.startswith("model name")]
        model = names[0] if names else model
        with open("/proc/meminfo", encoding="ascii") as f:
            memory = int(f.readline().split()[1]) / 1024 / 1024
    except OSError:
        memory = 0
    with open("/etc/os-release", encoding="utf-8") as f:
        system = dict(x.strip().split("=", 1) for x in f if "=" in x)
    hypervisor = ""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            if " hypervisor" in f.read():
                hypervisor = ", virtual machine"
    except OSError:
        pass
    return [("CPU", f"{model}, {os.cpu_count()} cores{hypervisor}"),
            ("Memory", f"{memory:.0f} GiB"),
            ("System", f"{system.get('PRETTY_NAME', '?').strip(chr(34))}, "
                       f"Linux {platform.release()}, {platform.machine()}")]


def picture(results, path):
    import matplotlib  # pylint: disable=import-outside-toplevel
    matplotlib.use("Agg")
    from matplotlib import pyplot  # pylint: disable=import-outside-toplevel

    pyplot.rcParams.update({"font.size": 9, "axes.spines.top": False,
                            "axes.spines.right": False, "axes.grid": True,
                            "axes.grid.axis": "y", "grid.alpha": 0.3, "axes.axisbelow": True})
    figure = pyplot.figure(figsize=(12, 11), constrained_layout=True)
    grid = figure.add_gridspec(3, 2)
    loops = results.get("loops", {})
    labels = [f"{CASE_TITLES[case]}\n{clients} clients".replace(", ", "\n", 1)
              for case, clients in loops]
    groups = list(loops.values())

    def from_loops(field):
        return [{name: median(runs, field) for name, runs in g.items()} for g in groups]

    bars(figure.add_subplot(grid[0, :]), results, labels, from_loops("cpu_us"),
         "CPU per transaction, µs (less is better)", legend=True)
    bars(figure.add_subplot(grid[1, :]), results, labels, from_loops("tps"),
         "Transactions per second (more is better)")

    memory = results.get("memory", {})
    counts = sorted({n for m in memory.values() for n, _ in m["points"]})
    bars(figure.add_subplot(grid[2, 0]), results, [f"{n:,} clients" for n in counts],
         [{name: dict(m["points"]).get(n) for name, m in memory.items()} for n in counts],
         "Bytes per idle client (less is better)")
    connect = results.get("connect", {})
    bars(figure.add_subplot(grid[2, 1]), results, [f"{c}, {n} clients" for c, n in connect],
         [{name: median(runs, "cpu_us") for name, runs in g.items()} for g in connect.values()],
         "CPU per connection with login and one query, µs (less is better)")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def bars(axes, results, labels, groups, title, legend=False):
    axes.set_title(title, loc="left", fontweight="bold")
    names = [n for n in results["labels"] if any(g.get(n) is not None for g in groups)]
    if not names:
        axes.text(0.5, 0.5, "not measured", ha="center", va="center")
        axes.set_axis_off()
        return
    width = 0.84 / len(names)
    for i, name in enumerate(names):
        places = [x - 0.42 + (i + 0.5) * width for x in range(len(groups))]
        values = [g.get(name) or 0 for g in groups]
        drawn = axes.bar(places, values, width * 0.94, color=COLOURS.get(name, "#444444"),
                         label=results["labels"][name])
        if len(groups) * len(names) <= 60:
            texts = [f"{v:,.0f}" if v else "" for v in values]
            rotation = 90 if max(values, default=0) >= 1000 and len(groups) > 3 else 0
            axes.bar_label(drawn, texts, fontsize=6.5, padding=1.5, rotation=rotation)
    axes.set_xticks(range(len(labels)), labels, fontsize=7.5)
    axes.tick_params(axis="x", length=0)
    axes.margins(y=0.16)
    if legend:
        axes.legend(loc="upper left", ncols=len(names), frameon=False, fontsize=8)


def errors_text(results):
    if not results["errors"]:
        return "No run reported an error."
    return "\n".join(f"- {e}" for e in results["errors"])


def page(results, picture_name):
    """docs/benchmarks.md."""
    out = ["# Benchmarks", "",
           "PgDoorman beside PgBouncer and beside a forwarder that copies bytes and knows no "
           "protocol, all in one run on one machine, their rounds interleaved. Machines are "
           "noisy and differ, so read the ratios and the CPU per transaction first.", "",
           f"![Results as bars]({picture_name})", ""]
    if results["skipped"]:
        out += ["Not measured:", ""] + [f"- {x}" for x in results["skipped"]] + [""]
    for table in tables(results):
        out += [table.markdown()]
    places = heap_places(results)
    if places:
        out += ["Where the heap calls came from:", ""] + [f"- {x}" for x in places] + [""]
    out += ["## Errors", "", errors_text(results), "",
            "## Machine and versions", "", "| What | Which |", "| :-- | :-- |"]
    out += [f"| {k} | {v} |" for k, v in results["about"]]
    out += ["", "## Method", ""] + [f"- {x}" for x in METHOD]
    out += ["", "Recorded on " + time.strftime("%Y-%m-%d", time.gmtime(results["started"])) +
            f" with `tests/bench/bench.py {results['arguments']}`.", ""]
    return "\n".join(out).replace(ROOT + "/", "")  # nobody else has this directory


METHOD = [
    "PostgreSQL is private to the run and tuned so that it waits for no disk: fsync off, "
    "256 MB of shared buffers, pgbench scale as shown. pgbench, the poolers and PostgreSQL share "
    "the machine, so transactions per second also depend on how much CPU the pooler leaves to "
    "the others.",
    "Each case runs all targets once per round, in an order that rotates from round to round. "
    "Figures are medians over the rounds without errors; ratios are medians of the ratios "
    "within a round; the spread is half of what lies between the least and the greatest.",
    "The first second of a run is not measured: clients log in, backends fill their caches. "
    "After it the scheduler's account of each thread (`/proc/PID/task/*/schedstat`, child "
    "processes included) is read several times a second, and pgbench's log of single "
    "transactions says how many ended between the first and the last reading. Throughput and "
    "latencies are those of the same window.",
    "Both poolers have 40 backends for each database, take clients in with SCRAM-SHA-256 against "
    "the same stored verifier, and reach PostgreSQL without a password. The forwarder opens "
    "one backend for each client.",
    "PgBouncer 1.18 knows no prepared statements in transaction mode. `prepared` is therefore "
    "compared in session mode, where a pool of 40 serves at most 40 clients, and PgDoorman is "
    "also shown alone in transaction mode.",
    "A run with any error is shown in the last column and under Errors, and is left out of the "
    "medians.",
]
