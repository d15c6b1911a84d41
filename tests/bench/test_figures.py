"""The statistics of the benchmarks: means, ratios, intervals, the Pareto front, the bars."""

import random
import unittest

from benchtest import BenchTest, a_document, a_round

import bars
import figures

MIB = 1 << 20


class Figures(BenchTest):
    def test_geometric_mean(self):
        self.assertAlmostEqual(figures.geometric_mean([1, 4]), 2)
        self.assertAlmostEqual(figures.geometric_mean([0.5, 2, 8]), 2)
        self.assertIsNone(figures.geometric_mean([]))

    def test_of_rounds(self):
        rounds = [a_round(3.0, 10 * MIB), a_round(2.0, 30 * MIB, mappings=70),
                  a_round(4.0, 11 * MIB, minor_faults=300)]
        found = figures.figures(rounds)
        self.assertEqual(found["time"], 2.0)
        self.assertEqual(found["median_time"], 3.0)
        self.assertEqual(found["peak_rss"], 11 * MIB)
        self.assertEqual(found["mappings"], 70)
        self.assertEqual(found["faults"], 100)

    def test_figure_counts_as_time(self):
        self.assertEqual(figures.figures([a_round(3.0, 1, figure=7.5)])["time"], 7.5)

    def test_missing_keys(self):
        found = figures.figures([{"seconds": 1.0, "peak_rss": 5}])
        self.assertEqual((found["time"], found["final_rss"], found["faults"]), (1.0, None, None))

    def test_a_batch_has_no_final_memory(self):
        document = a_document({"a": {"glibc": [a_round(1, 10)]}})
        self.assertEqual(figures.rows_of(document)["a"]["glibc"]["final_rss"], 5)
        document["programs"]["a"]["batch"] = True
        self.assertIsNone(figures.rows_of(document)["a"]["glibc"]["final_rss"])


class Summary(BenchTest):
    def setUp(self):
        self.document = a_document({
            "a": {"glibc": [a_round(2.0, 100), a_round(3.0, 100)],
                  "lucid": [a_round(1.0, 150), a_round(1.5, 150)]},
            "b": {"glibc": [a_round(1.0, 100), a_round(1.2, 100)],
                  "lucid": [a_round(2.0, 50), a_round(2.1, 50)]},
            "c": {"glibc": [a_round(1.0, 100)]},
        })

    def test_means_are_over_rows_on_all(self):
        summary = figures.summarise(self.document, "glibc")
        self.assertEqual((summary["rows"], summary["left_out"]), (2, ["c"]))
        lucid = summary["allocators"]["lucid"]
        self.assertAlmostEqual(lucid["time"]["mean"], 1.0)
        self.assertAlmostEqual(lucid["peak_rss"]["mean"], 0.75 ** 0.5)
        self.assertEqual((lucid["time"]["worst"], lucid["time"]["worst_program"]), (2.0, "b"))
        self.assertEqual(lucid["time"]["best_in"], 1)
        self.assertEqual(summary["allocators"]["glibc"]["time"]["mean"], 1.0)

    def test_other_base(self):
        summary = figures.summarise(self.document, "lucid")
        self.assertEqual(list(summary["allocators"]), ["lucid", "glibc"])
        self.assertAlmostEqual(summary["allocators"]["glibc"]["peak_rss"]["mean"], 0.75 ** -0.5)

    def test_rows_that_need_no_allocator_are_no_part(self):
        self.document["programs"]["c"]["independent"] = True
        self.assertEqual(figures.summarise(self.document, "glibc")["left_out"], [])

    def test_groups(self):
        self.document["programs"]["b"]["group"] = "synthetic"
        self.assertEqual(figures.summarise(self.document, "glibc", ["synthetic"])["rows"], 1)


class Bootstrap(BenchTest):
    def programs(self, count, ratio, noise, seed=3):
        rng = random.Random(seed)
        return [{"base": [a_round(rng.uniform(1, 1 + noise), 100) for _ in range(5)],
                 "other": [a_round(ratio * rng.uniform(1, 1 + noise), 200) for _ in range(5)]}
                for _ in range(count)]

    def test_no_noise_is_no_interval(self):
        found = figures.bootstrap(self.programs(6, 0.8, 0), ["base", "other"], "base", 50)
        for bound in found["other"]["time"]:
            self.assertAlmostEqual(bound, 0.8)
        for bound in found["other"]["peak_rss"]:
            self.assertAlmostEqual(bound, 2.0)
        self.assertEqual(found["base"]["time"], [1.0, 1.0])

    def test_contains_the_truth_and_narrows(self):
        widths = []
        for count in (5, 60):
            low, high = figures.bootstrap(self.programs(count, 0.8, 0.3), ["base", "other"],
                                          "base", 300)["other"]["time"]
            self.assertLess(low, 0.8 * 1.03)
            self.assertGreater(high, 0.8 * 0.97)
            self.assertLess(low, high)
            widths.append(high - low)
        self.assertLess(widths[1], widths[0])

    def test_is_repeatable(self):
        arguments = (self.programs(5, 1.1, 0.2), ["base", "other"], "base", 40)
        self.assertEqual(figures.bootstrap(*arguments), figures.bootstrap(*arguments))

    def test_unequal_rounds(self):
        programs = self.programs(3, 0.5, 0)
        programs[0]["other"].pop()
        found = figures.bootstrap(programs, ["base", "other"], "base", 20)
        self.assertAlmostEqual(found["other"]["time"][0], 0.5)

    def test_percentiles(self):
        low, high = figures.percentile_interval(range(1001))
        self.assertEqual((low, high), (25, 975))


class Pareto(BenchTest):
    def test_front(self):
        points = {"fast": (0.5, 2.0), "lean": (2.0, 0.5), "both": (1.0, 1.0), "bad": (1.5, 1.5),
                  "same y": (1.2, 1.0)}
        self.assertEqual(figures.pareto_front(points), ["fast", "both", "lean"])

    def test_one_beats_all(self):
        self.assertEqual(figures.pareto_front({"x": (2, 2), "y": (1, 1)}), ["y"])


class Bars(BenchTest):
    def check(self, lucid, others, row="a", **keys):
        rows = {row: {**{name: [a_round(*pair)] for name, pair in others.items()},
                      "lucid": [a_round(*lucid, **keys)]}}
        document = a_document(rows)
        return {bar.asked: bar for bar in bars.check(document, document["base"])}

    def test_met(self):
        found = self.check((0.9, 90), {"glibc": (1.2, 100), "mimalloc3": (1.0, 200)})
        known = [bar for bar in found.values() if bar.met is not None]
        self.assertEqual(len(known), 8)
        self.assertEqual([bar.asked for bar in known if not bar.met], [])

    def test_not_met(self):
        found = self.check((1.2, 300), {"glibc": (2.0, 200), "mimalloc3": (1.0, 400)})
        failed = [asked for asked, bar in found.items() if bar.met is False]
        self.assertEqual(len(failed), 7, failed)
        self.assertEqual(found["time: nowhere more than 1.10 x the best peer's"].found,
                         "a 1.20 (mimalloc3)")

    def test_lean_peers_alone_bound_the_peak(self):
        asked = "peak memory: nowhere more than 1.15 x the leanest peer's"
        found = self.check((1, 100), {"glibc": (1, 95), "jemalloc": (1, 10)})
        self.assertTrue(found[asked].met)

    def test_particular_rows(self):
        asked = "start-up of a tiny process at most 1.02 x glibc"
        self.assertFalse(self.check((1.03, 1), {"glibc": (1, 1)}, "startup")[asked].met)
        self.assertTrue(self.check((1.01, 1), {"glibc": (1, 1)}, "startup")[asked].met)
        asked = "at most 64 KiB for each idle thread"
        found = self.check((1, 1), {"glibc": (1, 1)}, "idle_threads", bytes_per_thread=70000)
        self.assertFalse(found[asked].met)
        asked = "fewer than 1000 mappings in every program"
        self.assertFalse(self.check((1, 1), {"glibc": (1, 1)}, mappings=1000)[asked].met)

    def test_nothing_to_hold_against(self):
        self.assertEqual(bars.check(a_document({"a": {"glibc": [a_round(1, 1)]}}), "glibc"), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
