#!/usr/bin/python3
"""Draw a saved result of bench/run.py as SVG files.

    bench/plot.py FILE.json --out DIR [--base NAME] [--group GROUP]

    time-memory.svg   geometric means of time against those of peak memory, a dot per allocator,
                      with the Pareto front: no allocator is better than one on it in both. The
                      faint dots are single programs
    scaling.svg       operations per second by number of threads (row "scaling")
    growth.svg        nanoseconds per operation by number of live blocks (row "growth-heap"), with
                      the bump allocator that only pays the misses of caches and TLB

The panels are white, for light and dark pages alike; the same result gives the same bytes. What the
result has no rows for is not drawn, which is said on standard error.
"""

import argparse
import os
import sys

import figures
import results

try:
    import matplotlib
except ImportError:
    sys.exit("plot: matplotlib is missing: scripts/deps.sh bench")
matplotlib.use("svg")
from matplotlib import pyplot, ticker  # noqa: E402  (the backend comes first)

OWN = "lucid"
# Okabe and Ito's colours, which the colour-blind tell apart; the first is lucid's.
OWN_COLOUR = "#d55e00"
COLOURS = ("#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f6000", "#000000", "#888888")
MARKERS = "osD^vPX*"
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "lucid", "font.size": 10, "font.family": "sans-serif",
    "figure.facecolor": "white", "axes.facecolor": "white", "savefig.facecolor": "white",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#e4e4e4", "grid.linewidth": 0.6, "axes.axisbelow": True, "figure.dpi": 72,
}
MARGIN = 1.12   # free space around the dots of allocators, as a factor
LABEL_GAP = 13  # points between two labels


def looks_of(names):
    """allocator -> colour and marker, by its place among the allocators."""
    others = [name for name in names if name != OWN]
    looks = {name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[1 + i % 7]}
             for i, name in enumerate(others)}
    looks[OWN] = {"color": OWN_COLOUR, "marker": MARKERS[0]}
    return looks


def limits(values):
    """Of an axis that shows all `values` and the 1 of the base."""
    return min(*values, 1) / MARGIN, max(*values, 1) * MARGIN


def draw_programs(axes, rows, names, base, looks):
    """The faint dots, as far as they are inside the limits."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for name in names:
        times = figures.ratios(rows, name, base, "time")
        peaks = figures.ratios(rows, name, base, "peak_rss")
        inside = [(x, peaks[row]) for row, x in times.items()
                  if row in peaks and left < x < right and bottom < peaks[row] < top]
        if inside and name != base:
            axes.plot(*zip(*inside), linestyle="", marker="o", markersize=3.2, alpha=0.35,
                      color=looks[name]["color"], markeredgewidth=0)


def draw_front(axes, points):
    """Steps: what lies right of and above them is beaten in both by an allocator on the front."""
    front = [points[name] for name in figures.pareto_front(points)]
    (_, right), (_, top) = axes.get_xlim(), axes.get_ylim()
    corners = [(front[0][0], top)]
    for x, y in front:
        corners += [(x, corners[-1][1]), (x, y)]
    corners.append((right, front[-1][1]))
    axes.plot(*zip(*corners), color="#777777", linewidth=1, linestyle="--", zorder=2,
              label="Pareto front")


def draw_labels(axes, points, looks):
    """Names right of their dots, pushed upwards where they would cover one another."""
    axes.figure.canvas.draw()
    placed = []
    for name, point in sorted(points.items(), key=lambda item: item[1][1]):
        x, y = axes.transData.transform(point)
        shift = 0
        while any(abs(x - ox) < 70 and abs(y + shift - oy) < LABEL_GAP for ox, oy in placed):
            shift += 1
        placed.append((x, y + shift))
        axes.annotate(name, point, xytext=(8, shift + 3), textcoords="offset points",
                      color=looks[name]["color"], zorder=4,
                      fontweight="bold" if name == OWN else "normal")


def plot_time_memory(document, base, groups):
    """None if no program ran on all allocators."""
    names = figures.names_of(document, base)
    rows, _ = figures.rows_on_all(document, base, groups)
    points = {name: tuple(figures.geometric_mean(figures.ratios(rows, name, base, metric).values())
                          for metric in ("time", "peak_rss")) for name in names} if rows else {}
    if not rows or None in [value for point in points.values() for value in point]:
        return None
    figure, axes = pyplot.subplots(figsize=(6.8, 4.6))
    looks = looks_of(names)
    axes.set(xlim=limits([x for x, _ in points.values()]),
             ylim=limits([y for _, y in points.values()]),
             xlabel=f"time, ratio to {base} (less is better)",
             ylabel=f"peak memory, ratio to {base} (less is better)",
             title=f"Geometric means over {len(rows)} programs")
    draw_programs(axes, rows, names, base, looks)
    draw_front(axes, points)
    for name, (x, y) in points.items():
        axes.plot([x], [y], markersize=9, linestyle="", zorder=3, **looks[name])
    draw_labels(axes, points, looks)
    axes.legend(frameon=False, loc="upper right")
    return figure


def curve(rounds, x, y, best):
    """Points of a curve from rows with "points": x -> the best y of all rounds, by rising x."""
    found = {}
    for result in rounds:
        for point in result.get("points", []):
            if x in point and y in point:
                found.setdefault(point[x], []).append(point[y])
    return {place: best(values) for place, values in sorted(found.items())}


def curves_of(document, row, names, x, y, best):
    by_name = document["programs"].get(row, {}).get("allocators", {})
    curves = {name: curve(by_name.get(name, []), x, y, best) for name in names}
    return {name: found for name, found in curves.items() if found}


def draw_curves(axes, curves, looks):
    for name, found in curves.items():
        axes.plot(list(found), list(found.values()), markersize=4, label=name,
                  linewidth=2.2 if name == OWN else 1.2, zorder=4 if name == OWN else 3,
                  **looks[name])


def plot_scaling(document, base, _groups):
    names = figures.names_of(document, base)
    curves = curves_of(document, "scaling", names, "threads", "ops_per_second", max)
    if not curves:
        return None
    figure, axes = pyplot.subplots(figsize=(6.8, 4.2))
    draw_curves(axes, {name: {x: y / 1e6 for x, y in found.items()}
                       for name, found in curves.items()}, looks_of(names))
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ticker.FormatStrFormatter("%d"))
    axes.set_ylim(bottom=0)
    axes.set(xlabel=f"threads, on {document['machine']['processors']} processors",
             ylabel="million operations per second", title="The same work by more threads")
    axes.legend(frameon=False)
    return figure


def plot_growth(document, base, _groups):
    names = figures.names_of(document, base)
    curves = curves_of(document, "growth-heap", names, "live", "ns_per_op", min)
    if not curves:
        return None
    figure, axes = pyplot.subplots(figsize=(6.8, 4.2))
    draw_curves(axes, curves, looks_of(names))
    bump = curves_of(document, "growth-bump", names, "live", "ns_per_op", min)
    for found in bump.values():
        axes.plot(list(found), list(found.values()), color="#777777", linestyle="--", linewidth=1.2,
                  label="bump: misses alone")
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set(xlabel="live blocks", ylabel="nanoseconds per operation",
             title="Blocks replaced at random in a growing heap")
    axes.legend(frameon=False)
    return figure


PLOTS = {"time-memory": plot_time_memory, "scaling": plot_scaling, "growth": plot_growth}


def save(figure, path):
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    # The writer leaves blanks at ends of lines.
    with open(path, encoding="utf-8") as file:
        text = "\n".join(line.rstrip() for line in file.read().splitlines()) + "\n"
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    print(path)


def draw_all(document, base, groups, directory):
    """Write the plots; returns their paths."""
    os.makedirs(directory, exist_ok=True)
    paths = []
    with matplotlib.rc_context(STYLE):
        for name, plot in PLOTS.items():
            figure = plot(document, base, groups)
            if figure is None:
                print(f"plot: the result has nothing to draw {name} from", file=sys.stderr)
                continue
            paths.append(os.path.join(directory, f"{name}.svg"))
            save(figure, paths[-1])
    return paths


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", metavar="FILE.json")
    parser.add_argument("--out", required=True, metavar="DIR", help="where the files go")
    parser.add_argument("--base", help="the allocator that ratios are to (default: the result's)")
    parser.add_argument("--group", action="append", help="only programs of this group in "
                        "time-memory; may be repeated")
    args = parser.parse_args()
    document = results.load(args.file)
    base = args.base or document["base"]
    if base not in document["allocators"]:
        sys.exit(f"plot: {base} is not in the result")
    return 0 if draw_all(document, base, args.group, args.out) else 1


if __name__ == "__main__":
    sys.exit(main())
