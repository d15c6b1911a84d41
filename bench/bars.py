"""What lucid is to reach against its peers, held against a result.

The bars on time and peak are for real and external programs where the result has any, else for
all rows. That on final memory is for all rows where the load falls before the end, those on
start-up, idle threads and mappings are for the rows that show them.
"""

import figures

OWN = "lucid"
TIME_TO_MIMALLOC = 0.92
TIME_TO_BEST = 1.10
PEAK_TO_LEANEST = 1.15
STARTUP_TO_GLIBC = 1.02
MAPPINGS = 1000
BYTES_PER_IDLE_THREAD = 64 << 10
# Peers whose peak no program may exceed by much; others have time or memory, but neither well.
LEAN = ("glibc", "mimalloc", "snmalloc", "rpmalloc")


class Bar:
    """One bar: what is asked, whether it is met (None: the result cannot tell), and by what."""

    def __init__(self, asked, met, found):
        self.asked = asked
        self.met = met
        self.found = found

    def as_dictionary(self):
        return {"bar": self.asked, "met": self.met, "found": self.found}


def above(rows, peers, metric, factor):
    """The rows where lucid's figure is more than `factor` times that of the best of `peers`:
    (row, ratio, the best peer), worst first."""
    found = []
    for row, by_name in rows.items():
        ours = by_name.get(OWN, {}).get(metric)
        theirs = {name: by_name[name][metric] for name in peers
                  if by_name.get(name, {}).get(metric)}
        if ours and theirs:
            best = min(theirs, key=theirs.get)
            if ours > factor * theirs[best]:
                found.append((row, ours / theirs[best], best))
    return sorted(found, key=lambda each: -each[1])


def bar_on_rows(asked, rows, peers, metric, factor):
    if not peers or not rows:
        return Bar(asked, None, "not measured" if peers else "no such peer")
    found = above(rows, peers, metric, factor)
    shown = ", ".join(f"{row} {ratio:.2f} ({best})" for row, ratio, best in found)
    return Bar(asked, not found, shown or "none above")


def bar_on_mean(asked, means, metric, peers, factor=1.0, strictly=True):
    """A geometric mean of lucid against those of `peers`."""
    theirs = {name: means[metric][name] for name in peers}
    ours = means[metric][OWN]
    if ours is None or not theirs or None in theirs.values():
        return Bar(asked, None, "not measured")
    best = min(theirs, key=theirs.get)
    limit = factor * theirs[best]
    met = ours < limit if strictly else ours <= limit
    return Bar(asked, met, f"{ours / theirs[best]:.3f} of {best}'s")


def newest_mimalloc(document):
    """The names of allocators that are mimalloc 3."""
    return [name for name, about in document["allocators"].items() if name.startswith("mimalloc")
            and (name.startswith("mimalloc3") or str(about.get("version")).startswith("3."))]


def bar_on_startup(document):
    asked = f"start-up of a tiny process at most {STARTUP_TO_GLIBC} x glibc"
    by_name = figures.rows_of(document).get("startup", {})
    if OWN not in by_name or "glibc" not in by_name:
        return Bar(asked, None, "not measured")
    ratio = by_name[OWN]["time"] / by_name["glibc"]["time"]
    return Bar(asked, ratio <= STARTUP_TO_GLIBC, f"{ratio:.3f}")


def bar_on_mappings(document):
    asked = f"fewer than {MAPPINGS} mappings in every program"
    most = {row: by_name[OWN]["mappings"] for row, by_name in figures.rows_of(document).items()
            if by_name.get(OWN, {}).get("mappings")}
    if not most:
        return Bar(asked, None, "not measured")
    row = max(most, key=most.get)
    return Bar(asked, most[row] < MAPPINGS, f"at most {most[row]} ({row})")


def bar_on_idle_threads(document):
    asked = f"at most {BYTES_PER_IDLE_THREAD >> 10} KiB for each idle thread"
    rounds = document["programs"].get("idle_threads", {"allocators": {}})["allocators"].get(OWN, [])
    bytes_each = [result["bytes_per_thread"] for result in rounds if "bytes_per_thread" in result]
    if not bytes_each:
        return Bar(asked, None, "not measured")
    most = max(bytes_each)
    return Bar(asked, most <= BYTES_PER_IDLE_THREAD, f"{most / 1024:.1f} KiB")


def means_of(document, base, metric, groups):
    """allocator -> geometric mean of its ratios to the base."""
    rows, _ = figures.rows_on_all(document, base, groups)
    return {name: figures.geometric_mean(figures.ratios(rows, name, base, metric).values())
            for name in document["allocators"]}


def check(document, base):
    """All bars; an empty list if lucid was not measured, or nothing but it."""
    peers = [name for name in document["allocators"] if name != OWN]
    if OWN not in document["allocators"] or not peers:
        return []
    groups = {row["group"] for row in document["programs"].values()} & {"real", "external"} or None
    rows = figures.rows_of(document, groups)
    means = {metric: means_of(document, base, metric, chosen) for metric, chosen in
             (("time", groups), ("peak_rss", groups), ("final_rss", None))}
    lean = [name for name in peers if name.startswith(LEAN)]
    return [
        bar_on_mean(f"time: mean at most {TIME_TO_MIMALLOC} x mimalloc 3's", means, "time",
                    newest_mimalloc(document), TIME_TO_MIMALLOC, strictly=False),
        bar_on_mean("time: mean below every peer's", means, "time", peers),
        bar_on_rows(f"time: nowhere more than {TIME_TO_BEST:.2f} x the best peer's", rows, peers,
                    "time", TIME_TO_BEST),
        bar_on_mean("peak memory: mean at most glibc's", means, "peak_rss",
                    [name for name in peers if name == "glibc"], strictly=False),
        bar_on_mean("peak memory: mean below every peer's", means, "peak_rss", peers),
        bar_on_rows(f"peak memory: nowhere more than {PEAK_TO_LEANEST} x the leanest peer's", rows,
                    lean, "peak_rss", PEAK_TO_LEANEST),
        bar_on_mean("final memory: mean below every peer's", means, "final_rss", peers),
        bar_on_startup(document),
        bar_on_idle_threads(document),
        bar_on_mappings(document),
    ]
