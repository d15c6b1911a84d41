"""What results say of single calls: the groups "latency" and "walks", which no mean of times is of.

Their rounds have points. Of latency a point is a kind of call, of walks a number of things in the
heap. Of the rounds the least counts, as with times, because whatever disturbs makes a call longer;
the median stands beside it in brackets and shows how much. Of rates it is the greatest.

What a call took by itself, or waited for, is charged to the allocator; what the scheduler took, or
may have taken from the thread that it waited for, is not (bench/watch.h). A call is long from 1 ms.
"""

import statistics

from bars import OWN, Bar
from figures import names_of

PEER = "jemalloc"
LONG = 1e6  # nanoseconds
LIMIT_FACTOR = 1.3
CALLS = ("malloc", "calloc", "realloc", "free", "between")
# Key of a point, and what it is called in tables; of the time between calls only the last.
PERCENTILES = {"p50": "p50", "p99": "p99", "p999": "p99.9", "p9999": "p99.99", "max": "longest",
               "own_p9999": "p99.99, charged", "own_max": "longest, charged"}


def rows_of(document, group):
    """row -> allocator -> point's name -> [point of each round]."""
    key = {"latency": "call", "walks": "count"}[group]
    found = {}
    for row, about in document["programs"].items():
        if about["group"] == group:
            found[row] = {name: by_key(rounds, key) for name, rounds in about["allocators"].items()}
    return found


def by_key(rounds, key):
    points = {}
    for result in rounds:
        for point in result.get("points", []):
            points.setdefault(point[key], []).append(point)
    return points


def values_of(points, *keys):
    """One number for each round: the sum of what the keys have."""
    return [sum(point[key] for key in keys) for point in points]


def least(points, *keys):
    return min(values_of(points, *keys))


# ------------------------------------------------------------------ tables ----------------------

def number(value):
    """Three digits are enough for what varies by more."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def cell(points, *keys, unit=1, best=min):
    """The best of the rounds, and their median if there are several."""
    if not points:
        return "-"
    values = values_of(points, *keys)
    shown = number(best(values) / unit)
    return shown if len(values) == 1 else f"{shown} ({number(statistics.median(values) / unit)})"


def causes(points):
    """How many calls were long: that worked, that waited, that waited behind a thread which the
    scheduler held up perhaps, and that it held up itself, or the machine; the median of each."""
    if not points:
        return "-"
    counts = [values_of(points, *keys) for keys in
              (("worked",), ("waited",), ("behind",), ("preempted", "stolen"))]
    return ", ".join(f"{statistics.median(each):.0f}" for each in counts)


def lines_of_call(by_name, call, names):
    points = [by_name.get(name, {}).get(call, []) for name in names]
    if not any(point["count"] for rounds in points for point in rounds):
        return
    for key, label in PERCENTILES.items():
        if call != "between" or key == "own_max":
            yield (f"{call} {label}", *(cell(rounds, key) for rounds in points))
    yield (f"{call} of 1 ms: worked, waited, behind, other", *map(causes, points))


def latency_lines(document, names):
    """(title, lines) for each row."""
    for row, by_name in rows_of(document, "latency").items():
        yield row, [line for call in CALLS for line in lines_of_call(by_name, call, names)]


def walk_lines(document, names):
    lines = []
    for row, by_name in rows_of(document, "walks").items():
        counts = sorted({count for points in by_name.values() for count in points})
        for count in counts:
            points = [by_name.get(name, {}).get(count, []) for name in names]
            lines.append((f"{row.removeprefix('walks-')} {count}",
                          *(cell(rounds, "longest", unit=1000) for rounds in points)))
    return lines


def rate_lines(document, names):
    """Of the rows that have rates."""
    lines = []
    for row, by_name in rows_of(document, "walks").items():
        for count in sorted({count for points in by_name.values() for count in points}):
            points = [[point for point in by_name.get(name, {}).get(count, []) if point["rate"]]
                      for name in names]
            if any(points):
                lines.append((f"{row.removeprefix('walks-')} {count}",
                              *(cell(rounds, "rate", unit=1e6, best=max) for rounds in points)))
    return lines


def sections(document):
    """(title, head, lines) of every table there is something for."""
    names = names_of(document, document["base"])
    for row, lines in latency_lines(document, names):
        yield (f"{row}: nanoseconds of a call, and how many took 1 ms; least of the rounds "
               "(median)", ("call", *names), lines)
    lines = walk_lines(document, names)
    if lines:
        yield ("walks: microseconds of the longest call, beside so many; least of the rounds "
               "(median)", ("row, number", *names), lines)
    lines = rate_lines(document, names)
    if lines:
        yield ("walks: millions a second; most of the rounds (median)",
               ("row, number", *names), lines)


def markdown(document):
    """Tables for the documents."""
    text = []
    for title, head, lines in sections(document):
        text += [f"{title[0].upper()}{title[1:]}:", "", f"| {' | '.join(head)} |",
                 "|---" * len(head) + "|", *(f"| {' | '.join(line)} |" for line in lines), ""]
    return "\n".join(text)


# ------------------------------------------------------------------ bars ------------------------

def bar_on_percentile(rows):
    asked = f"p99.99 of malloc and of free at most {PEER}'s"
    above, seen = [], False
    for row, by_name in rows.items():
        for call in ("malloc", "free"):
            ours, theirs = (by_name.get(name, {}).get(call) for name in (OWN, PEER))
            if ours and theirs:
                seen = True
                ours, theirs = least(ours, "p9999"), least(theirs, "p9999")
                if ours > theirs:
                    above.append(f"{row} {call} {ours:.0f} ns ({theirs:.0f})")
    if not seen:
        return Bar(asked, None, "not measured")
    return Bar(asked, not above, ", ".join(above) or "none above")


def bar_on_long_calls(rows):
    asked = "no call of 1 ms that is not the scheduler's"
    found, seen = [], False
    for row, by_name in rows.items():
        for call, points in by_name.get(OWN, {}).items():
            seen = True
            worked, waited = least(points, "worked"), least(points, "waited")
            if call != "between" and worked + waited > 0:
                longest = least(points, "own_max") / LONG
                found.append(f"{row} {call} {worked} worked, {waited} waited, {longest:.1f} ms")
    if not seen:
        return Bar(asked, None, "not measured")
    return Bar(asked, not found, ", ".join(found) or "none")


def bar_on_walks(rows):
    asked = "no call of 1 ms, whatever the heap holds"
    found, seen = [], False
    for row, by_name in rows.items():
        for count, points in by_name.get(OWN, {}).items():
            seen = True
            longest = least(points, "longest") / LONG
            if longest >= 1:
                found.append(f"{row.removeprefix('walks-')} {count} {longest:.1f} ms")
    if not seen:
        return Bar(asked, None, "not measured")
    return Bar(asked, not found, ", ".join(found) or "none")


def bar_on_limit(rows):
    asked = f"near a limit at most {LIMIT_FACTOR} x slower"
    points = rows.get("walks-limit", {}).get(OWN, {})
    rates = {count: max(values_of(rounds, "rate")) for count, rounds in points.items()}
    if len(rates) < 2 or not all(rates.values()):
        return Bar(asked, None, "not measured")
    far = rates[min(rates)]
    worst = max(far / rate for rate in rates.values())
    return Bar(asked, worst <= LIMIT_FACTOR, f"{worst:.2f}")


def check(document):
    """The bars of single calls; none if there is nothing of the kind in the document."""
    if not any(row["group"] in ("latency", "walks") for row in document["programs"].values()):
        return []
    latency, walks = rows_of(document, "latency"), rows_of(document, "walks")
    return [bar_on_percentile(latency), bar_on_long_calls(latency), bar_on_walks(walks),
            bar_on_limit(walks)]
