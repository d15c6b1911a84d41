"""What `lucid replay` measures: figures worked out by hand, repeatability, the report's shape."""

import json
import os
import unittest

import replaytest
import tooltest
from replaytest import POLICIES, SIMULATED, ReplayTest, trace_path, without_time

SMALL = ("steps.rep", "holes.rep", "growth.rep", "pinned.rep")


class ByHand(ReplayTest):
    """steps.rep: a 512, b 128, b stays and a grows to 640, b goes, c 100 comes, a goes."""

    def samples(self, policy):
        result = self.replay_one(trace_path("steps.rep"), policy, "--every", "1")
        samples = result["samples"]
        self.assertEqual(samples["event"], [1, 2, 3, 4, 5, 6])
        self.assertEqual(samples["live"], [512, 640, 768, 640, 740, 100])
        self.assertEqual(result["failures"], 0)
        self.assertEqual(result["break_moves"], 1)
        self.assertEqual(result["maps"], 0)
        return result, samples

    def assert_ratios(self, shown, expected):
        for got, want in zip(shown, expected, strict=True):
            self.assertAlmostEqual(got, want, delta=1e-6)

    def test_kr(self):
        # Units of 16 bytes, one of them the header, cut from the end of 1024 units.
        result, samples = self.samples("kr")
        self.assertEqual(samples["held"], [16384] * 6)
        self.assertEqual(result["peak_held_bytes"], 16384)
        self.assertAlmostEqual(result["utilisation"], 768 / 16384, delta=1e-8)
        a, b, grown, c = 528, 144, 656, 128
        self.assert_ratios(samples["internal"], [
            1 - 512 / a, 1 - 640 / (a + b), 1 - 768 / (b + grown), 1 - 640 / grown,
            1 - 740 / (grown + c), 1 - 100 / c])
        largest = 16384 - a - b - grown
        self.assertAlmostEqual(samples["external"][2], 1 - largest / (largest + a), delta=1e-6)
        self.assertAlmostEqual(samples["external"][3], 1 - largest / (largest + a + b), delta=1e-6)
        self.assertEqual(samples["external"][0], 0)

    def test_first(self):
        # A header of 8 bytes, steps of 16; 16 bytes of the 64 KiB are the allocator's own.
        result, samples = self.samples("first")
        self.assertEqual(samples["held"], [65536] * 6)
        self.assertEqual(result["final_held_bytes"], 65536)
        a, b, grown, c = 528, 144, 656, 112
        self.assert_ratios(samples["internal"], [
            1 - 512 / a, 1 - 640 / (a + b), 1 - 768 / (b + grown), 1 - 640 / grown,
            1 - 740 / (grown + c), 1 - 100 / c])
        largest = 65536 - 16 - a - b - grown
        self.assertAlmostEqual(samples["external"][2], 1 - largest / (largest + a), delta=1e-6)

    def test_buddy(self):
        # Powers of two with a header of 16 bytes: 1024 for 512 and for 640, 256 for 128 and 100 is
        # 128; what is free of 64 KiB is one block of each power, at most.
        _, samples = self.samples("buddy")
        self.assertEqual(samples["held"], [65536] * 6)
        self.assert_ratios(samples["internal"], [
            1 - 512 / 1024, 1 - 640 / 1280, 1 - 768 / 1280, 1 - 640 / 1024, 1 - 740 / 1152,
            1 - 100 / 128])
        self.assert_ratios(samples["external"], [
            1 - 32768 / (65536 - 1024), 1 - 32768 / (65536 - 1280), 1 - 32768 / (65536 - 1280),
            1 - 32768 / (65536 - 1024), 1 - 32768 / (65536 - 1152), 1 - 32768 / (65536 - 128)])


class Every(ReplayTest):
    def live_of(self, path):
        """Live bytes after each operation, computed here."""
        sizes, live = {}, []
        with open(path, encoding="ascii") as file:
            for line in file.read().split("\n")[4:-1]:
                words = line.split()
                if words[0] == "f":
                    del sizes[words[1]]
                else:
                    sizes[words[1]] = int(words[2])
                live.append(sum(sizes.values()))
        return live

    def test_all_agree_on_the_program(self):
        for name in SMALL:
            path = trace_path(name)
            live = self.live_of(path)
            report = self.replay(path, *SIMULATED, arguments=["--frames", "0"])
            trace = report["results"]["trace"]
            self.assertEqual(trace["peak_live_bytes"], max(live))
            self.assertEqual(trace["peak_event"], live.index(max(live)) + 1)
            self.assertEqual(trace["final_live_bytes"], live[-1])
            self.assertEqual(trace["events"], len(live))
            for result in report["results"]["allocators"]:
                with self.subTest(name, allocator=result["name"]):
                    self.check(result, live)

    def check(self, result, live):
        samples = result["samples"]
        self.assertIsNone(result["error"])
        self.assertEqual(result["failures"], 0)
        self.assertEqual(result["events"], len(live))
        self.assertEqual(samples["event"][-1], len(live))
        self.assertEqual(samples["live"], [live[event - 1] for event in samples["event"]])
        for held, alive in zip(samples["held"], samples["live"], strict=True):
            self.assertGreaterEqual(held, alive)
        self.assertEqual(samples["held"][-1], result["final_held_bytes"])
        self.assertGreaterEqual(result["peak_held_bytes"], max(samples["held"]))
        for kind in ("internal", "external"):
            for ratio in samples[kind]:
                if ratio is not None:
                    self.assertTrue(0 <= ratio < 1, ratio)
        for held, resident in zip(samples["held"], samples["resident"], strict=True):
            self.assertEqual(resident % 4096, 0)
            self.assertGreater(resident, 0)
            if result["kind"] == "classic":
                self.assertLess(resident, held + 4096)
        if result["kind"] == "classic":
            self.assertEqual(result["system_calls"],
                             result["break_moves"] + result["maps"] + result["unmaps"])
            self.assertAlmostEqual(result["free_steps_per_operation"],
                                   result["free_steps"] / len(live), delta=1e-6)
            self.assertIsNone(result["stopped_after"])
            self.assertAlmostEqual(result["searches_per_operation"],
                                   result["searches"] / len(live), delta=1e-6)

    def test_twice_the_same(self):
        for name in ("churn.rep", "growth.rep"):
            first = without_time(self.replay(trace_path(name), *SIMULATED))
            second = without_time(self.replay(trace_path(name), *SIMULATED))
            self.assertEqual(first, second)

    def test_repeat_checks_that(self):
        result = tooltest.lucid("replay", trace_path("churn.rep"), "-a", ",".join(SIMULATED),
                                "--repeat", "3", "--frames", "0")
        self.assert_status(result, 0)

    def test_policies_differ(self):
        report = self.replay(trace_path("churn.rep"), *POLICIES, arguments=["--frames", "0"])
        by_name = {result["name"]: result for result in report["results"]["allocators"]}
        self.assertEqual(by_name["best"]["samples"], by_name["best_tree"]["samples"])
        self.assertGreater(by_name["best"]["searches"], by_name["best_tree"]["searches"])
        self.assertGreater(by_name["buddy"]["mean_internal"], by_name["first"]["mean_internal"])
        self.assertGreater(by_name["worst"]["mean_external"], by_name["best"]["mean_external"])


class Walks(ReplayTest):
    """Holes between live blocks, freed from both ends by turns: kr goes round half its circle, and
    further each time; it searches nothing."""

    def trace(self, holes):
        operations = [f"a {i} 40" for i in range(2 * holes)]
        for i in range(0, holes, 2):
            operations += [f"f {i}", f"f {2 * holes - 2 - i}"]
        return self.path("walks.rep", replaytest.rep(2 * holes, operations)), len(operations)

    def test_steps_of_free_are_counted_and_shown(self):
        path, events = self.trace(400)
        report = self.replay(path, "kr", "best", "buddy", "lucid", arguments=["--frames", "0"])
        kr, _, buddy, lucid = report["results"]["allocators"]
        self.assertGreater(kr["free_steps"], 400 * 400 // 8)
        self.assertEqual(buddy["free_steps"], 0)
        self.assertIsNone(lucid["free_steps"])
        work = next(s for s in report["sections"] if s.get("title") == "Work")
        self.assertEqual(work["columns"][3:5], ["steps of free", "steps of free per operation"])
        self.assertEqual(work["rows"][0][3], kr["free_steps"])
        self.assertAlmostEqual(work["rows"][0][4], kr["free_steps"] / events, delta=1)

    def test_long_walks_are_bounded_and_announced(self):
        path, events = self.trace(4000)
        bounded = tooltest.lucid("replay", path, "-a", "kr,first,dl", "--frames", "0", "--json",
                                 "--steps", "1")
        self.assert_status(bounded, 0)
        self.assertRegex(bounded.err, r"\Alucid: kr, first may pass every free block in each of "
                                      r"[\d,]+ events: a run is stopped after 1,000,000 blocks; "
                                      r"--steps 0 lets it finish[^\n]*\n\Z")
        report = json.loads(bounded.out)
        kr, _, dl = report["results"]["allocators"]
        self.assertEqual(kr["stopped_after"], kr["events"])
        self.assertLess(kr["events"], events)
        self.assertIsNone(kr["error"])
        self.assertIsNone(kr["utilisation"])
        self.assertGreaterEqual(kr["searches"] + kr["free_steps"], 1000000)
        self.assertLess(kr["searches"] + kr["free_steps"], 1005000)
        self.assertEqual((dl["events"], dl["stopped_after"]), (events, None))
        text = " ".join(s["text"] for s in report["sections"] if s["type"] == "text")
        self.assertIn(f"kr was stopped after event {kr['events']:,}, when it had passed 1,000,000",
                      text)
        for chart in (s for s in report["sections"] if s["type"] == "chart"):
            self.assertNotIn(None, chart["x"]["values"])
        whole = self.replay_one(path, "kr", "--steps", "0")
        self.assertEqual((whole["events"], whole["stopped_after"]), (events, None))
        self.assertGreater(whole["free_steps"], 1000000)

    def test_nothing_is_said_of_short_ones(self):
        path, _ = self.trace(10)
        self.assertEqual(tooltest.lucid("replay", path, "-a", "kr,worst", "--frames", "0").err, "")

    def test_a_terminal_shows_what_remains(self):
        path, events = self.trace(100)
        shown = tooltest.lucid_on_terminal("replay", path, "-a", "kr,lucid,glibc", "--frames", "0",
                                           "-o", self.path("report")).out
        for place in ("kr (1 of 3)", "lucid (2 of 3)", "glibc (3 of 3)"):
            self.assertIn(f"{place}: 0 % of {events:,} events", shown)

    def test_frames_say_which_call(self):
        report = self.replay(trace_path("steps.rep"), "first", arguments=["--frames", "6"])
        heap = next(s for s in report["sections"] if s["type"] == "heap")
        self.assertEqual([frame["call"] for frame in heap["frames"]],
                         ["malloc(512) = +0x10", "malloc(128) = +0x220",
                          "realloc(..., 640) = +0x2b0", "free(+0x220)", "malloc(100) = +0x10",
                          "free(+0x2b0)"])

    def test_text_fits(self):
        result = tooltest.lucid("replay", trace_path("growth.rep"), "-a", ",".join(POLICIES))
        self.assertLessEqual(max(len(line) for line in result.out.split("\n")), 100)
        self.assertNotRegex(result.out, r"(?<![\w.+/])\d{4,}")


class Report(ReplayTest):
    def test_document(self):
        report = self.replay(trace_path("growth.rep"), "first", "buddy", "lucid",
                             arguments=["--every", "50", "--frames", "10"])
        self.assertEqual(report["schema"], "lucid-document/1")
        results = report["results"]
        self.assertEqual(results["schema"], "lucid-replay/1")
        self.assertEqual(results["every"], 50)
        self.assertEqual(results["trace"]["format"], "rep")
        self.assertEqual([a["kind"] for a in results["allocators"]],
                         ["classic", "classic", "lucid"])
        sections = report["sections"]
        charts = [s for s in sections if s["type"] == "chart"]
        self.assertEqual(len(charts), 5)
        self.assertEqual([s["name"] for s in charts[0]["series"]],
                         ["first", "buddy", "lucid", "live"])
        for chart in charts:
            self.assertEqual(chart["x"]["values"], results["allocators"][0]["samples"]["event"])
            for series in chart["series"]:
                self.assertEqual(len(series["values"]), len(chart["x"]["values"]))
        for chart, kind in zip(charts, ("held", "resident")):
            for series, result in zip(chart["series"][:-1], results["allocators"], strict=True):
                self.assertEqual(series["values"], result["samples"][kind])
            self.assertEqual(chart["series"][-1]["values"],
                             results["allocators"][0]["samples"]["live"])
        memory = next(s for s in sections if s.get("title") == "Memory")
        for row, result in zip(memory["rows"], results["allocators"], strict=True):
            self.assertEqual(row[:3], [result["name"], result["peak_held_bytes"],
                                       result["peak_resident_bytes"]])

    def test_heap_maps(self):
        report = self.replay(trace_path("growth.rep"), *POLICIES, arguments=["--frames", "12"])
        heaps = [s for s in report["sections"] if s["type"] == "heap"]
        self.assertEqual([s["allocator"] for s in heaps], list(POLICIES))
        for heap in heaps:
            with self.subTest(heap["allocator"]):
                self.assertEqual(len(heap["frames"]), 12)
                for frame in heap["frames"]:
                    self.check_frame(frame)
        self.assertEqual(heaps[0]["frames"][0]["event"], 1)
        self.assertEqual(heaps[0]["frames"][-1]["event"], report["results"]["trace"]["events"])

    def check_frame(self, frame):
        end, asked, total = 0, 0, 0
        for start, size, header, wanted, state, age in frame["blocks"]:
            self.assertGreaterEqual(start, end)
            self.assertIn(state, ("used", "free", "cached", "top", "meta"))
            self.assertLessEqual(header + wanted, size + 8)
            self.assertLess(age, frame["event"])
            end = start + size
            total += size
            asked += wanted
        self.assertEqual(total, frame["held"])
        self.assertEqual(asked, frame["live"])

    def test_ages(self):
        blocks = self.replay(trace_path("steps.rep"), "first", arguments=["--frames", "6"])
        heap = next(s for s in blocks["sections"] if s["type"] == "heap")
        ages = [{b[3]: b[5] for b in frame["blocks"] if b[4] == "used"}
                for frame in heap["frames"]]
        self.assertEqual(ages, [{512: 0}, {512: 1, 128: 0}, {640: 2, 128: 1}, {640: 3},
                                {640: 4, 100: 0}, {100: 1}])

    def test_many_blocks_are_merged_and_that_is_said(self):
        operations = [f"a {i} {16 + i % 50}" for i in range(5000)]
        path = self.path("many.rep", replaytest.rep(5000, operations))
        report = self.replay(path, "first", arguments=["--frames", "100"])
        heap = next(s for s in report["sections"] if s["type"] == "heap")
        last = heap["frames"][-1]
        self.assertLessEqual(len(last["blocks"]), 2400)
        self.assertEqual(sum(block[1] for block in last["blocks"]), last["held"])
        self.assertIn("drawn as one", heap["left_out"])

    def test_text_and_page(self):
        page = self.path("page.html")
        result = tooltest.lucid("replay", trace_path("steps.rep"), "-a", "kr,lucid,glibc",
                                "--html", page)
        self.assert_status(result, 0)
        self.assertEqual(result.err, "")
        for word in ("Memory", "Work", "Time", "kr", "lucid", "glibc", "The heap of kr"):
            self.assertIn(word, result.out)
        with open(page, encoding="utf-8") as file:
            self.assertIn("The heap of kr", file.read())


class Processes(ReplayTest):
    def test_real_allocators(self):
        peers = ["glibc", "jemalloc", "mimalloc", "tcmalloc", "real:lucid", "real:pt",
                 f"mine={tooltest.LIBRARY}"]
        report = self.replay(trace_path("pinned.rep"), *peers)
        results = report["results"]["allocators"]
        self.assertEqual([r["name"] for r in results], [*peers[:-1], "mine"])
        for result in results:
            with self.subTest(result["name"]):
                self.assertEqual(result["kind"], "process")
                self.assertIsNone(result["error"])
                self.assertGreater(result["seconds"], 0)
                self.assertGreaterEqual(result["peak_held_bytes"], 300000)
                self.assertLess(result["peak_held_bytes"], 20 << 20)
                self.assertIsNone(result["searches"])
                self.assertEqual(result["samples"]["resident"], result["samples"]["held"])
        library = {result["name"]: os.path.basename(result["library"]) for result in results}
        self.assertEqual(library["glibc"], "libc.so.6")
        self.assertIn("jemalloc", library["jemalloc"])
        self.assertIn("lucid", library["mine"])
        self.assertIn("lucid-pt", library["real:pt"])

    def test_broken_ones_are_found_out(self):
        cases = {
            "overlap": (["a 0 600", "a 1 4001", "f 0", "f 1"], "not as the program left it"),
            "lost": (["a 0 100", "r 0 4003", "f 0"], "did not keep"),
            "killed": (["a 0 100", "a 1 4004"], "signal 9 ended the process"),
        }
        for name, (operations, reason) in cases.items():
            with self.subTest(name):
                path = self.path(name, replaytest.rep(2, operations))
                result = tooltest.lucid("replay", path, "-a", f"broken={replaytest.BROKEN_MALLOC}",
                                        "--json")
                self.assert_status(result, 1)
                self.assertIn(reason, result.err)
                self.assertEqual(result.err.count("\n"), 1)
                report = json.loads(result.out)
                self.assertIn(reason, report["results"]["allocators"][0]["error"])

    def test_refused_allocations_are_counted(self):
        path = self.path("refused", replaytest.rep(3, ["a 0 100", "a 1 4005", "r 0 4005", "f 1",
                                                       "a 2 50", "r 0 200", "f 0"]))
        result = self.replay_one(path, f"broken={replaytest.BROKEN_MALLOC}", "--every", "1")
        self.assertEqual(result["failures"], 2)
        self.assertEqual(result["samples"]["live"], [100, 100, 100, 100, 150, 250, 50])


if __name__ == "__main__":
    unittest.main()
