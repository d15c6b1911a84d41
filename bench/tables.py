"""A result as text: the table that a run ends with, and the Markdown of the project's documents.

Both are made from the saved document alone, so that a table can be had again from its file.
"""

import bars
import calls
import figures

MIB = 1 << 20
GROUPS = {"synthetic": "benchmarks of our own", "real": "real programs",
          "external": "external programs", "heaps": "heaps that the program makes"}
ALL_GROUPS = tuple(dict.fromkeys((*GROUPS, *figures.APART)))
SHOWN = ("time", "peak_rss", "final_rss")
LABELS = {"time": "time", "peak_rss": "peak memory", "final_rss": "final memory",
          "mean_rss": "mean memory", "faults": "page faults"}


def add_summary(document):
    """Put into the document what is computed from it."""
    base = document["base"]
    present = {row["group"] for row in document["programs"].values()}
    chosen = {group: [group] for group in GROUPS if group in present - set(figures.APART)}
    if len(chosen) > 1:
        chosen = {**chosen, "all": None}
    document["summary"] = {
        "groups": {name: figures.summarise(document, base, groups)
                   for name, groups in chosen.items()},
        "bars": [bar.as_dictionary() for bar in
                 (bars.check(document, base) if present - set(figures.APART) else [])
                 + calls.check(document)],
    }


def absolute(row, metric):
    value = row[metric]
    if value is None:
        return "-"
    return f"{value:.3f}" if metric == "time" else f"{value / MIB:.1f}"


def relative(row, base, metric):
    if not row[metric] or not base[metric]:
        return "-"
    return f"{row[metric] / base[metric]:.2f}"


class Table:
    """Rows of words under a head, in columns as wide as the widest."""

    def __init__(self, head):
        self.lines = [head]

    def add(self, *words):
        self.lines.append(words)

    def text(self):
        full = [line for line in self.lines if len(line) > 1]
        widths = [max(len(line[i]) for line in full) for i in range(len(full[0]))]
        return "\n".join("  ".join(word.ljust(width) if i == 0 else word.rjust(width)
                                   for i, (word, width) in enumerate(zip(line, widths)))
                         if len(line) > 1 else line[0] for line in self.lines)


def program_table(document, base):
    names = figures.names_of(document, base)
    table = Table(("program", f"{base} s", "peak MiB", "final MiB",
                   *(f"{name[:14]} t/peak/final" for name in names[1:])))
    for group, label in GROUPS.items():
        rows = figures.rows_of(document, [group])
        if rows:
            table.add("")
            table.add(f"{label}:")
        for row, by_name in rows.items():
            own = by_name.get(base)
            words = [absolute(own, metric) if own else "failed" for metric in SHOWN]
            for name in names[1:]:
                if document["programs"][row].get("independent"):
                    words.append("")
                elif own is None or name not in by_name:
                    words.append("failed")
                else:
                    words.append(" ".join(relative(by_name[name], own, metric)
                                          for metric in SHOWN))
            table.add(row, *words)
    return table.text()


def with_interval(found):
    if found["mean"] is None:
        return "-"
    interval = found["interval"]
    return f"{found['mean']:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def summary_lines(document, group, summary):
    """Means, worst rows and number of best rows of one group of rows, a line per allocator."""
    base = document["base"]
    yield f"{group}: geometric means over {summary['rows']} programs, ratios to {base}, with " \
          f"{figures.CONFIDENCE:.0%} intervals"
    if summary["left_out"]:
        yield f"(left out, as not measured on all: {', '.join(summary['left_out'])})"
    table = Table(("", "time", "peak memory", "final", "mean", "faults", "best time", "best peak"))
    for name, by_metric in summary["allocators"].items():
        rest = [with_interval(by_metric[metric]) for metric in figures.METRICS]
        best = [f"{by_metric[metric]['best_in']} of {by_metric[metric]['rows']}"
                for metric in figures.RESAMPLED]
        table.add(name, *rest, *best)
    yield table.text()
    for name, by_metric in summary["allocators"].items():
        worst = [f"{LABELS[metric]} {found['worst']:.2f} ({found['worst_program']})"
                 for metric, found in by_metric.items() if metric in SHOWN and found["worst"]]
        if name != base and worst:
            yield f"worst of {name}: {', '.join(worst)}"


def syscall_table(document, base):
    names = figures.names_of(document, base)
    table = Table(("system calls (memory, waiting)", *names))
    for row, counts in document["syscalls"].items():
        table.add(row, *(str(counts.get(name, "-")) for name in names))
    return table.text()


def call_lines(document):
    """The tables of single calls."""
    for title, head, lines in calls.sections(document):
        table = Table(head)
        for line in lines:
            table.add(*line)
        yield from (title, table.text(), "")


def bar_lines(document):
    words = {True: "met", False: "NOT met", None: "unknown"}
    for bar in document["summary"]["bars"]:
        yield f"  {words[bar['met']]:<8} {bar['bar']}: {bar['found']}"


def failure_lines(document):
    for row, by_name in document["failures"].items():
        for name, message in by_name.items():
            yield f"failed: {row} on {name}: {message}"


def text(document):
    """The whole report."""
    summary = document["summary"]
    base = document["base"]
    parts = []
    if figures.rows_of(document, list(GROUPS)):
        parts = [f"{base}: shortest time, median memory of {document['repeats']} rounds; others: "
                 "ratios to it\n", program_table(document, base), ""]
    for group, found in summary["groups"].items():
        if found["rows"] or found["left_out"]:
            parts += [*summary_lines(document, GROUPS.get(group, "all programs"), found), ""]
    parts += call_lines(document)
    if document["syscalls"]:
        parts += [syscall_table(document, base), ""]
    if summary["bars"]:
        parts += ["what lucid is to reach:", *bar_lines(document), ""]
    return "\n".join([*parts, *failure_lines(document)]).rstrip("\n") + "\n"


# ------------------------------------------------------------------ Markdown -------------------

def markdown_cell(row):
    if row is None:
        return "failed"
    peak = "-" if row["peak_rss"] is None else f"{row['peak_rss'] / MIB:.1f}"
    return f"{row['time']:.2f} / {peak}"


def markdown_mean(found):
    if found["mean"] is None:
        return "-"
    low, high = found["interval"] or (1, 1)  # the base has none that says anything
    return f"{found['mean']:.3f}" + (f" ({low:.2f}-{high:.2f})" if (low, high) != (1, 1) else "")


def markdown(document):
    """The tables of the documents."""
    return "\n".join(filter(None, [program_markdown(document) if figures.rows_of(document) else "",
                                   calls.markdown(document)]))


def program_markdown(document):
    """Seconds and peak MiB, and the means of the rows on all."""
    base = document["base"]
    names = figures.names_of(document, base)
    lines = [f"| program | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for group in GROUPS:
        for row, by_name in figures.rows_of(document, [group]).items():
            if not document["programs"][row].get("independent"):
                cells = [markdown_cell(by_name.get(name)) for name in names]
                lines.append(f"| {row} | {' | '.join(cells)} |")
    for group, found in document["summary"]["groups"].items():
        for metric in SHOWN if found["rows"] else ():
            cells = [markdown_mean(found["allocators"][name][metric]) for name in names]
            lines.append(f"| **{LABELS[metric]}, {GROUPS.get(group, 'all programs')}** "
                         f"({found['allocators'][base][metric]['rows']} rows) | "
                         f"{' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
