"""Pages in headless Chromium: what they show is what their JSON has, without network, by mouse and
by keyboard, light and dark."""

import json
import os
import shutil
import sys
import tempfile
import unittest

try:
    from selenium import webdriver
    from selenium.webdriver import ActionChains
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
except ImportError as error:
    sys.exit(f"{error}: the Debian package python3-selenium is needed (scripts/deps.sh test)")

import picturetest
from picturetest import output, sections

for program, package in (("/usr/bin/chromium", "chromium"),
                         ("/usr/bin/chromedriver", "chromium-driver")):
    if not os.path.exists(program):
        sys.exit(f"{program} is missing: the Debian package {package} is needed "
                 "(scripts/deps.sh test)")

# How many colours a canvas has, at least 3 of which make a picture.
COLOURS = """
const canvas = arguments[0];
const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
const seen = new Set();
for (let i = 0; i < data.length; i += 4)
    if (data[i + 3] !== 0) seen.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
return seen.size;
"""
# The rows of a table, numbers from where they stand exactly.
ROWS = """
return [...arguments[0].querySelectorAll('tbody tr')].map((row) => [...row.cells].map(
    (cell) => cell.dataset.value !== undefined ? Number(cell.dataset.value)
            : cell.className === 'number' ? null : cell.textContent));
"""
# The same as read by people.
SHOWN = """
return [...arguments[0].querySelectorAll('tbody tr')].map(
    (row) => [...row.cells].map((cell) => cell.textContent.trim()));
"""


def start_browser(profile):
    options = Options()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--no-first-run", "--disable-extensions", "--disable-background-networking",
                     "--force-color-profile=srgb", "--window-size=1280,1000",
                     f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)


def setUpModule():
    directory = tempfile.mkdtemp(prefix="lucid-pictures-")
    unittest.addModuleCleanup(shutil.rmtree, directory, ignore_errors=True)
    PageTest.directory = directory
    PageTest.browser = start_browser(os.path.join(directory, "profile"))
    unittest.addModuleCleanup(PageTest.browser.quit)


class PageTest(unittest.TestCase):
    """One browser for all; each test opens its page anew."""

    directory = browser = None
    pages = {}

    def open(self, kind, media=()):
        if kind not in self.pages:
            path = os.path.join(self.directory, kind + ".html")
            output(kind, "html", path)
            with open(path, encoding="utf-8") as file:
                self.pages[kind] = (path, *picturetest.page_document(file.read()))
        path, self.document, self.size = self.pages[kind]
        self.url = "file://" + path
        features = [{"name": name, "value": value} for name, value in media]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.browser.get_log("performance")
        self.browser.get(self.url)
        self.run_js("localStorage.clear()")

    def tearDown(self):
        """Whatever a test did, nothing may have gone wrong or out."""
        problems = [entry for entry in self.browser.get_log("browser")
                    if entry["level"] in ("SEVERE", "WARNING")]
        self.assertEqual(problems, [])
        for entry in self.browser.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.assertEqual(message["params"]["request"]["url"].split("#")[0], self.url)

    def run_js(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def all(self, selector, inside=None):
        return (inside or self.browser).find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector, inside=None):
        found = self.all(selector, inside)
        self.assertEqual(len(found), 1, selector)
        return found[0]

    def picture(self, canvas):
        return self.run_js("return arguments[0].toDataURL()", canvas)

    def panels(self):
        return self.all(".panel")

    def slider(self, panel):
        return self.one("input[type=range]", panel)

    def frame_of(self, panel):
        return int(self.slider(panel).get_attribute("value"))


class Pictures(PageTest):
    def test_everything_is_there(self):
        self.open("all")
        self.assertEqual(self.browser.title, "A document & its <parts>")
        kinds = [card.get_attribute("data-type") for card in self.all("main > section")]
        self.assertEqual(kinds, ["text", "text", "table", "chart", "chart", "chart", "heap",
                                 "addresses"])
        self.assertIn("</script><script>alert(1)</script> is text, as is <!-- this.",
                      self.one("main").text)
        self.assertEqual(self.one("main pre").get_property("textContent"),
                         "    a picture\n      of it")
        self.assertIn("Left out: 3 threads.", self.one("main").text)

    def test_no_canvas_is_empty(self):
        self.open("all")
        for selector, number, least in ((".chart canvas", 3, 3), (".map canvas", 2, 7),
                                        (".swatch", 7, 1), ("canvas.line", 6, 1)):
            found = self.all(selector)
            self.assertEqual(len(found), number, selector)
            for canvas in found:
                self.assertGreaterEqual(self.run_js(COLOURS, canvas), least, selector)
        self.assertEqual(len({self.picture(canvas) for canvas in self.all(".swatch")}), 7)

    def test_address_space_has_high_addresses_on_top(self):
        self.open("all")
        names = [text.text for text in self.all(".space text.inside")]
        self.assertEqual(names, ["kernel", "stack", "libc.so.6", "heap", "bss", "data", "text"])
        tops = [box.location["y"] for box in self.all(".space rect.box")]
        self.assertEqual(tops, sorted(tops))
        self.assertEqual(len(self.all(".space path.break")), 8)  # four gaps with two sides
        self.assertIn("124.0 KiB of nothing", self.one(".space").text)


    def test_no_two_series_look_alike(self):
        self.open("full")
        names = [label.text.strip() for label in self.all(".legend label")]
        self.assertEqual(len(names), 14)
        samples = [self.picture(canvas) for canvas in self.all("canvas.line")]
        self.assertEqual(len(set(samples)), 14)
        looks = self.run_js("return Chart.getChart(document.querySelector('.chart canvas'))"
                            ".data.datasets.map((one) => [one.label, one.borderColor, "
                            "one.borderDash.join(), one.borderWidth])")
        self.assertEqual([look[0] for look in looks], names)
        self.assertEqual(len({look[1] for look in looks[:12]}), 12)
        self.assertEqual(len({(look[1], look[2]) for look in looks}), 14)
        live = next(look for look in looks if look[0] == "live")
        for look in looks:
            if look is not live:
                self.assertNotEqual(look[1], live[1])
                self.assertLess(look[3], live[3])

    def space_fits(self, least_box):
        """All texts of the address space are whole, none over another, none out of the picture."""
        self.run_js("return new Promise((done) => requestAnimationFrame(() => "
                    "requestAnimationFrame(() => requestAnimationFrame(done))))")
        inside = self.run_js("""
            const frame = document.querySelector('.space svg').getBoundingClientRect();
            const card = document.querySelector('.space').getBoundingClientRect();
            const boxes = [...document.querySelectorAll('.space text')].map(
                (text) => [text.textContent, text.getBoundingClientRect()]);
            const apart = (a, b) => a.right <= b.left || b.right <= a.left ||
                                    a.bottom <= b.top + 3 || b.bottom <= a.top + 3;
            return {out: boxes.filter(([, box]) => box.left < frame.left || box.right > frame.right)
                             .map(([text]) => text),
                    over: boxes.filter(([, a], i) => boxes.some(
                        ([, b], j) => i < j && !apart(a, b))).map(([text]) => text),
                    small: boxes.filter(([, box]) => box.height < 11).map(([text]) => text),
                    wider: frame.right - card.right,
                    box: document.querySelector('.space rect.box').getBoundingClientRect().width};
            """)
        self.assertEqual((inside["out"], inside["over"], inside["small"]), ([], [], []))
        self.assertLessEqual(inside["wider"], 0.5)
        self.assertGreaterEqual(inside["box"], least_box)
        told = " ".join(text.text for text in self.all(".space text.note"))
        self.assertIn("text: machine code and constants of the program itself; readable, "
                      "executable, and not writable by anybody", told)

    def test_address_space_has_room_for_its_texts(self):
        self.open("full")
        self.space_fits(200)

    def test_address_space_on_a_narrow_screen(self):
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                     {"width": 390, "height": 900, "deviceScaleFactor": 1,
                                      "mobile": False})
        self.addCleanup(self.browser.execute_cdp_cmd, "Emulation.clearDeviceMetricsOverride", {})
        self.open("full")
        self.space_fits(100)

    def test_frames_say_which_call(self):
        self.open("full")
        self.assertRegex(self.one(".panel output").text,
                         r"(?s)^event 5: held .*\nafter malloc\(24\) = \+0x40$")
        self.assertIn("event 5, after malloc(24) = +0x40", self.one(".panel caption").text)


class Numbers(PageTest):
    def test_page_has_the_document(self):
        self.open("all")
        self.assertEqual(self.document, json.loads(output("all", "json")))

    def test_tables_and_charts(self):
        self.open("all")
        table = sections(self.document, "table")[0]
        card = self.one("section[data-type=table]")
        self.assertEqual(self.run_js(ROWS, self.one("table", card)), table["rows"])
        for card, chart in zip(self.all("section[data-type=chart]"),
                               sections(self.document, "chart")):
            expected = [list(row) for row in zip(
                chart["x"]["values"], *(series["values"] for series in chart["series"]))]
            self.assertEqual(self.run_js(ROWS, self.one("table", card)), expected)

    def test_address_table(self):
        self.open("all")
        parts = sorted(sections(self.document, "addresses")[0]["parts"],
                       key=lambda part: -int(part["start"], 16))
        rows = self.run_js(ROWS, self.one("section[data-type=addresses] table"))
        self.assertEqual([[row[0], row[1], int(row[2], 16), row[4], row[5]] for row in rows],
                         [[part["name"], part["kind"], int(part["start"], 16), part["bytes"],
                           part["note"]] for part in parts])

    def test_every_frame_of_every_heap(self):
        self.open("all")
        self.one(".options input").click()  # each for itself
        for panel, heap in zip(self.panels(), sections(self.document, "heap")):
            slider = self.slider(panel)
            for at, frame in enumerate(heap["frames"]):
                if at > 0:
                    slider.send_keys(Keys.ARROW_RIGHT)
                self.assert_figures(panel, frame)

    def assert_figures(self, panel, frame):
        rows = {row[0].strip(): row[1:] for row in self.run_js(SHOWN, self.one("table", panel))}
        of = {state: [b for b in frame["blocks"] if b[4] == state]
              for state in ("used", "free", "cached", "top", "meta")}
        number = lambda name, column: int(rows[name][column].replace(",", ""))
        self.assertEqual(number("held", 1), frame["held"])
        self.assertEqual(number("live (asked for)", 1), frame["live"])
        for name, state in (("used", "used"), ("free", "free"), ("free, set aside", "cached"),
                            ("free, at the top", "top"), ("the allocator's own", "meta")):
            self.assertEqual(number(name, 0), len(of[state]))
            self.assertEqual(number(name, 1), sum(b[1] for b in of[state]))
        self.assertEqual(number("of these: headers", 1), sum(b[2] for b in of["used"]))
        self.assertEqual(number("asked for", 1), sum(b[3] for b in of["used"]))
        self.assertEqual(number("lost inside", 1), sum(b[1] - b[2] - b[3] for b in of["used"]))
        self.assertEqual(number("largest free block", 1),
                         max(b[1] for b in of["free"] + of["cached"] + of["top"]))


class Use(PageTest):
    def test_slider_by_keyboard(self):
        self.open("all")
        first, second = self.panels()
        canvas = self.one(".map canvas", first)
        before, table = self.picture(canvas), self.one("table", first).text
        slider = self.slider(first)
        slider.send_keys(Keys.ARROW_RIGHT)
        self.assertEqual(self.frame_of(first), 1)
        self.assertNotEqual(self.picture(canvas), before)
        self.assertNotEqual(self.one("table", first).text, table)
        self.assertRegex(slider.get_attribute("aria-valuetext"), r"^event 10: held \S+ KiB, live")
        self.assertEqual(self.frame_of(second), 1, "the other heap has not followed")
        slider.send_keys(Keys.END)
        self.assertEqual((self.frame_of(first), self.frame_of(second)), (8, 8))
        slider.send_keys(Keys.HOME)
        self.assertEqual(self.picture(canvas), before)
        self.one(".options input").send_keys(Keys.SPACE)
        slider.send_keys(Keys.ARROW_RIGHT)
        self.assertEqual((self.frame_of(first), self.frame_of(second)), (1, 0))

    def test_buttons_move_the_slider(self):
        self.open("all")
        panel = self.panels()[0]
        back, on, player = self.all(".slider button", panel)
        self.assertFalse(back.is_enabled())
        on.click()
        self.assertEqual(self.frame_of(panel), 1)
        back.click()
        self.assertEqual(self.frame_of(panel), 0)
        player.click()
        self.assertEqual(player.text, "Stop")
        player.click()
        self.assertEqual(player.text, "Play")

    def assert_tells(self, tip, block):
        for text in (f"{block[4]}, {block[1]:,} bytes at +0x{block[0]:x}",
                     f"asked {block[3]:,}, header {block[2]:,}",
                     f"lost inside {block[1] - block[2] - block[3]:,}",
                     f"age {block[5]:,}"):
            self.assertIn(text, tip)

    def test_hover_tells_the_block(self):
        self.open("all")
        panel = self.panels()[0]
        slider = self.slider(panel)
        slider.send_keys(Keys.END)
        block = sections(self.document, "heap")[0]["frames"][8]["blocks"][0]
        canvas = self.one(".map canvas", panel)
        size = canvas.size
        # The first block begins right of the label, in the first row.
        ActionChains(self.browser).move_to_element_with_offset(
            canvas, 84 + 4 - size["width"] // 2, 8 - size["height"] // 2).perform()
        tip = self.one(".tip", panel)
        self.assertTrue(tip.is_displayed())
        self.assert_tells(tip.text, block)
        ActionChains(self.browser).move_to_element(self.one("h1")).perform()
        self.assertFalse(tip.is_displayed())

    def test_map_by_keyboard(self):
        self.open("all")
        panel = self.panels()[0]
        blocks = sections(self.document, "heap")[0]["frames"][0]["blocks"]
        canvas, told = self.one(".map canvas", panel), self.one("p[aria-live]", panel)
        before = self.picture(canvas)
        for expected, keys in ((0, [Keys.ARROW_RIGHT]), (2, [Keys.ARROW_RIGHT] * 2),
                               (0, [Keys.HOME])):
            canvas.send_keys(*keys)
            self.assert_tells(self.run_js("return arguments[0].textContent", told),
                              blocks[expected])
            self.assertTrue(self.one(".tip", panel).is_displayed())
        self.assertNotEqual(self.picture(canvas), before, "the block is not marked")
        canvas.send_keys(Keys.END)
        self.assertIn("top, ", self.one(".tip", panel).text)
        canvas.send_keys(Keys.ESCAPE)
        self.assertEqual(self.picture(canvas), before)

    def test_charts_by_keyboard_and_legend(self):
        self.open("all")
        card = self.all("section[data-type=chart]")[0]
        canvas = self.one(".chart canvas", card)
        canvas.send_keys(Keys.HOME, Keys.ARROW_RIGHT)
        told = self.run_js("return arguments[0].textContent", self.one("p[aria-live]", card))
        self.assertEqual(told, "events 10: held 8.0 KiB, live 100.5 B")
        before = self.picture(canvas)
        self.all(".legend input", card)[0].send_keys(Keys.SPACE)
        self.assertNotEqual(self.picture(canvas), before, "the series is still drawn")

    def test_everything_is_reached_by_tab_and_has_a_name(self):
        self.open("all")
        seen = []
        for _ in range(60):
            ActionChains(self.browser).send_keys(Keys.TAB).perform()
            name, role, ring = self.run_js("""
                const at = document.activeElement;
                const label = at.getAttribute('aria-label') || at.textContent.trim() ||
                    [...(at.labels || [])].map((one) => one.textContent.trim()).join(' ');
                return [label, at.tagName + '.' + (at.type || ''),
                        getComputedStyle(at).outlineStyle];""")
            if role == "BODY.":
                break
            self.assertTrue(name, f"{role} has no name")
            self.assertNotEqual(ring, "none", f"{role} {name}: focus cannot be seen")
            seen.append(role)
        self.assertEqual(seen.count("INPUT.range"), 2)
        self.assertEqual(seen.count("CANVAS."), 5)
        self.assertIn("SUMMARY.", seen)


class Looks(PageTest):
    def looks(self):
        return (self.run_js("return getComputedStyle(document.body).backgroundColor"),
                self.picture(self.all(".map canvas")[0]),
                self.picture(self.all(".chart canvas")[0]))

    def test_light_and_dark(self):
        self.open("all", [("prefers-color-scheme", "light")])
        light = self.looks()
        button = self.one("#theme")
        button.click()
        self.assertEqual((button.text, self.looks()), ("Theme: light", light))
        button.click()
        dark = self.looks()
        self.assertEqual(button.text, "Theme: dark")
        for before, after in zip(light, dark):
            self.assertNotEqual(before, after)
        for canvas in self.all(".map canvas"):
            self.assertGreaterEqual(self.run_js(COLOURS, canvas), 7)
        line, point, wanted = self.run_js("""
            const chart = Object.values(Chart.instances)[0];
            const drawn = chart.getDatasetMeta(0);
            return [drawn.dataset.options.borderColor, drawn.data[0].options.backgroundColor,
                    colour('series-0')];""")
        self.assertEqual((line, point), (wanted, wanted))
        self.open("all", [("prefers-color-scheme", "dark")])
        self.assertEqual(self.looks(), dark)

    def test_printing_is_light(self):
        self.open("all", [("prefers-color-scheme", "dark")])
        self.run_js("window.seen = []; addEventListener('beforeprint', () => "
                    "window.seen.push(document.documentElement.dataset.theme))")
        self.browser.execute_cdp_cmd("Page.printToPDF", {})
        self.assertEqual(self.run_js("return window.seen"), ["light"])
        self.assertEqual(self.run_js("return document.documentElement.dataset.theme"), "dark")

    def test_nothing_plays_where_motion_is_not_wanted(self):
        self.open("all", [("prefers-reduced-motion", "reduce")])
        self.assertFalse(self.one(".slider .moving", self.panels()[0]).is_displayed())

    def test_narrow_window(self):
        self.open("all")
        self.browser.set_window_size(500, 900)
        self.addCleanup(self.browser.set_window_size, 1280, 1000)
        self.run_js("return new Promise((done) => requestAnimationFrame(() => "
                    "requestAnimationFrame(done)))")
        self.assertLessEqual(self.run_js("return document.documentElement.scrollWidth"),
                             self.run_js("return document.documentElement.clientWidth"))
        for canvas in self.all(".map canvas"):
            self.assertLess(canvas.size["width"], 500)


class Large(PageTest):
    def test_huge_document(self):
        self.open("huge")
        self.assertLessEqual(self.size, picturetest.PAGE_DATA_BYTES)
        reduced = [section for section in self.document["sections"] if section.get("left_out")]
        self.assertGreaterEqual(len(reduced), 2)
        self.assertIn(f"of {len(reduced)} of its {len(self.document['sections'])} sections",
                      self.one("#left-out").text)
        self.assertEqual([note.text for note in self.all(".left-out")],
                         [f"Left out: {section['left_out']}." for section in reduced])
        panel = self.panels()[0]
        slider = self.slider(panel)
        slider.send_keys(Keys.END)
        last = sections(self.document, "heap")[0]["frames"][-1]
        self.assertIn(f"event {last['event']}:", slider.get_attribute("aria-valuetext"))
        self.assertGreaterEqual(self.run_js(COLOURS, self.one(".map canvas", panel)), 3)
        table = self.one("section[data-type=table]")
        self.all(".pager button", table)[1].click()
        rows = sections(self.document, "table")[0]["rows"]
        self.assertEqual(self.run_js(ROWS, self.one("table", table)), rows[200:400])

    def test_empty_document(self):
        self.open("empty")
        self.assertEqual(self.all("main > section"), [])
        self.assertEqual(self.one("h1").text, "A document & its <parts>")


if __name__ == "__main__":
    unittest.main()
