"""What rounds of measurements say: figures of a row, ratios, means, intervals, the Pareto front.

Of the rounds of a program on an allocator, the shortest time counts, because all that disturbs
makes a run longer, and the median of memory and faults. Ratios are to a base allocator, and only
over rows that ran on every allocator, so that the means of all are of the same programs.

The intervals are percentile bootstraps (Efron, 1979) in two stages: programs are drawn with
replacement, and within each drawn program its rounds. Rounds are interleaved: allocators that have
equally many are drawn the same ones, so that what disturbed one round disturbs both sides.
"""

import math
import random
import statistics

SAMPLES = 1000
CONFIDENCE = 0.95
# What is compared. Of these, the first two get intervals.
METRICS = ("time", "peak_rss", "final_rss", "mean_rss", "faults")
RESAMPLED = METRICS[:2]
# Groups of rows that are about single calls (calls.py), or of what few allocators have: no mean,
# and no bar on times, is of them.
APART = ("latency", "walks", "heaps")


def time_of(result):
    """Seconds, or what counts as time; less is better."""
    return result.get("figure", result["seconds"])


def faults_of(result):
    if "minor_faults" in result:
        return result["minor_faults"] + result.get("major_faults", 0)
    return result.get("faults")


VALUES = {"time": time_of, "faults": faults_of,
          **{key: (lambda result, key=key: result.get(key))
             for key in ("peak_rss", "final_rss", "mean_rss", "mappings")}}
COMBINE = {"time": min, "mappings": max}


def figure(rounds, metric):
    """The one figure of all rounds; None where a round does not have it."""
    values = [VALUES[metric](result) for result in rounds]
    if not values or None in values:
        return None
    return COMBINE.get(metric, statistics.median)(values)


def figures(rounds):
    result = {metric: figure(rounds, metric) for metric in (*METRICS, "mappings")}
    result["median_time"] = statistics.median(map(time_of, rounds))
    return result


def names_of(document, base):
    """The allocators, the base first."""
    return [base] + [name for name in document["allocators"] if name != base]


def rows_of(document, groups=None):
    """row -> allocator -> figures; of all groups but those APART, or of some. A program that works
    to its end and exits has no final memory: the last sample of it is of any moment of its end."""
    result = {}
    for name, row in document["programs"].items():
        if row["group"] in groups if groups is not None else row["group"] not in APART:
            result[name] = {allocator: figures(rounds)
                            for allocator, rounds in row["allocators"].items()}
            if row.get("batch"):
                for found in result[name].values():
                    found["final_rss"] = None
    return result


def common(rows, names):
    """The rows that have figures on every allocator."""
    return {row: by_name for row, by_name in rows.items() if all(name in by_name for name in names)}


def geometric_mean(values):
    """None of no values."""
    values = list(values)
    return math.exp(statistics.fmean(map(math.log, values))) if values else None


def ratios(rows, name, base, metric):
    """row -> ratio, where both have a figure above 0."""
    result = {}
    for row, by_name in rows.items():
        ours, theirs = by_name[name][metric], by_name[base][metric]
        if ours and theirs:
            result[row] = ours / theirs
    return result


def percentile_interval(values, confidence=CONFIDENCE):
    values = sorted(values)
    cut = (1 - confidence) / 2 * (len(values) - 1)
    return [values[math.floor(cut)], values[math.ceil(len(values) - 1 - cut)]]


def logarithms(rounds, names):
    """allocator -> metric -> the logarithms of all rounds; the logarithm of a minimum or a median
    is that of the logarithms, nearly."""
    return {name: {metric: [math.log(VALUES[metric](result)) for result in rounds[name]]
                   for metric in RESAMPLED} for name in names}


def draw_differences(values, names, base, rng):
    """allocator -> metric -> logarithm of the ratio to the base, of rounds drawn once."""
    most = max(len(of_name["time"]) for of_name in values.values())
    fractions = [rng.random() for _ in range(most)]
    drawn = {}
    for name in names:
        count = len(values[name]["time"])
        places = [int(fraction * count) for fraction in fractions[:count]]
        drawn[name] = {metric: COMBINE.get(metric, statistics.median)(
            [values[name][metric][place] for place in places]) for metric in RESAMPLED}
    return {name: {metric: drawn[name][metric] - drawn[base][metric] for metric in RESAMPLED}
            for name in names}


def bootstrap(programs, names, base, samples=SAMPLES, seed=1):
    """Intervals of the geometric means: allocator -> metric -> [low, high]. `programs` is a list
    of allocator -> rounds; the same seed gives the same intervals."""
    rng = random.Random(seed)
    logs = [logarithms(rounds, names) for rounds in programs]
    means = {name: {metric: [] for metric in RESAMPLED} for name in names}
    for _ in range(samples):
        differences = [draw_differences(values, names, base, rng)
                       for values in rng.choices(logs, k=len(logs))]
        for name in names:
            for metric in RESAMPLED:
                mean = statistics.fmean(each[name][metric] for each in differences)
                means[name][metric].append(math.exp(mean))
    return {name: {metric: percentile_interval(values) for metric, values in by_metric.items()}
            for name, by_metric in means.items()}


def pareto_front(points):
    """The names in `points`, name -> (x, y), that no other beats in both; by rising x."""
    front = []
    for name, (_, y) in sorted(points.items(), key=lambda item: (item[1], item[0])):
        if not front or y < points[front[-1]][1]:
            front.append(name)
    return front


def best_counts(rows, names, metric):
    """allocator -> in how many rows none has a smaller figure; ties count for all."""
    counts = dict.fromkeys(names, 0)
    for by_name in rows.values():
        known = {name: by_name[name][metric] for name in names if by_name[name][metric]}
        for name, value in known.items():
            counts[name] += value <= min(known.values())
    return counts


def rows_on_all(document, base, groups=None):
    """The rows that means are made of, and the names of those left out, as they did not run on all
    allocators."""
    about = document["programs"]
    rows = {row: by_name for row, by_name in rows_of(document, groups).items()
            if not about[row].get("independent") and about[row]["group"] not in APART}
    kept = common(rows, names_of(document, base))
    return kept, sorted(rows.keys() - kept.keys())


def summarise(document, base, groups=None, samples=SAMPLES):
    """The means, intervals, worst ratios and numbers of best rows over all rows, or the groups'."""
    names = names_of(document, base)
    rows, left_out = rows_on_all(document, base, groups)
    result = {"rows": len(rows), "left_out": left_out, "allocators": {}}
    if not rows:
        return result
    programs = [document["programs"][row]["allocators"] for row in rows]
    intervals = bootstrap(programs, names, base, samples)
    best = {metric: best_counts(rows, names, metric) for metric in METRICS}
    for name in names:
        result["allocators"][name] = {
            metric: summarise_metric(ratios(rows, name, base, metric), best[metric][name],
                                     intervals[name].get(metric)) for metric in METRICS}
    return result


def summarise_metric(by_row, best, interval):
    worst = max(by_row, key=by_row.get, default=None)
    return {"mean": geometric_mean(by_row.values()), "interval": interval,
            "worst": by_row.get(worst), "worst_program": worst, "best_in": best,
            "rows": len(by_row)}
