/*
 * addresses.js - sections of type "addresses": the address space as textbooks draw it.
 *
 *     0xffff8000…  +-----------+
 *                  |  kernel   |  128.0 TiB          high addresses on top
 *                  +-----------+
 *                  ~           ~  127.3 TiB of nothing      a break in the scale
 *                  +-----------+
 *     0x7ffc…      |  stack    |  132.0 KiB
 *
 * Heights grow with the logarithm of sizes; nothing could be seen on a true scale, and the picture
 * says so. Where there are very many parts, neighbours of a kind are drawn as one; the table has
 * them all.
 */

/* Two forms, in pixels, so that texts have their size on every screen: on a wide one the addresses
 * stand to the left of the boxes and what is told of a part to the right, on a narrow one all to the
 * right, one below the other. TELL is where that begins, beside the size or below it. */
const WIDE = {LEAST: 640, LEFT: 146, BOX: 220, TELL: 96, MOST: 1040};
const NARROW = {LEFT: 1, BOX: 112, TELL: 0, MOST: 640};
const SPACE = {GAP: 30, MARGIN: 24, LINE: 17, PAD: 9};
const MOST_PARTS = 48;
const KINDS = {
    kernel: ["#4d4d4d", null], stack: ["#a0457f", "dots"], mapping: ["#e6b422", "rising"],
    heap: ["#00795a", null], bss: ["#8fc6ea", "level"], data: ["#2f8fc6", "falling"],
    text: ["#00507d", null], other: ["#d9d9d9", null],
};
const LIGHT_KINDS = ["mapping", "bss", "other"];

function svg(name, attributes, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
}

/* ------------------------------------------------------------------ parts -------------------- */

function hex(address) {
    return `0x${address.toString(16).padStart(12, "0")}`;
}

/* High addresses first. */
function sortedParts(section) {
    const parts = section.parts.map((part) => ({
        ...part, low: BigInt(part.start), high: BigInt(part.start) + BigInt(part.bytes)}));
    return parts.sort((a, b) => (a.low < b.low ? 1 : a.low > b.low ? -1 : 0));
}

/* Neighbours of the same kind become one. */
function joinParts(parts) {
    const joined = [];
    for (const part of parts) {
        const last = joined[joined.length - 1];
        if (last === undefined || last.kind !== part.kind) {
            joined.push({...part, parts: 1});
        } else {
            last.parts += 1;
            last.low = part.low;
            last.bytes += part.bytes;
            last.name = `${last.parts} parts of kind ${part.kind}`;
            last.note = "with what lies between them";
        }
    }
    return joined;
}

function partHeight(part) {
    return Math.round(26 + 3.4 * Math.max(0, Math.log2(Math.max(1, part.bytes) / 4096)));
}

/* ------------------------------------------------------------------ texts -------------------- */

const measuring = document.createElement("canvas").getContext("2d");

function textWidth(text) {
    measuring.font = `13px ${getComputedStyle(document.body).fontFamily}`;
    return measuring.measureText(text).width;
}

/* The text in lines of at most `width` pixels, but for longer words. */
function wrapText(text, width) {
    const lines = [""];
    for (const word of text.split(" ")) {
        const longer = lines[lines.length - 1] === "" ? word : `${lines[lines.length - 1]} ${word}`;
        if (lines[lines.length - 1] === "" || textWidth(longer) <= width) {
            lines[lines.length - 1] = longer;
        } else lines.push(word);
    }
    return lines;
}

/* What stands to the right of a part: [text, class, whether it begins behind the size]. */
function toldLines(form, part) {
    const note = part.note === "" ? part.kind : `${part.kind}: ${part.note}`;
    const room = form.width - form.LEFT - form.BOX - 14 - form.TELL;
    const lines = wrapText(note, room).map((line) => [line, "note"]);
    return form.TELL > 0 ? lines : [[size(part.bytes), "size"], [hex(part.low), "address"], ...lines];
}

/* ------------------------------------------------------------------ drawing ------------------ */

function marks(kind) {
    const line = (d) => svg("path", {d, stroke: "#ffffff", "stroke-opacity": "0.5",
                                     "stroke-width": "1.2", fill: "none"});
    if (kind === "rising") return line("M-2 10 L10 -2 M-2 2 L2 -2 M6 10 L10 6");
    if (kind === "falling") return line("M-2 -2 L10 10 M6 -2 L10 2 M-2 6 L2 10");
    if (kind === "level") return line("M0 4 H8");
    return svg("circle", {cx: 4, cy: 4, r: 1.2, fill: "#ffffff", "fill-opacity": "0.55"});
}

function partPatterns(prefix) {
    const patterns = Object.entries(KINDS).filter(([, [, shape]]) => shape !== null).map(
        ([kind, [ground, shape]]) => svg(
            "pattern", {id: `${prefix}-${kind}`, width: 8, height: 8,
                        patternUnits: "userSpaceOnUse"},
            svg("rect", {width: 8, height: 8, fill: ground}), marks(shape)));
    return svg("defs", {}, ...patterns);
}

function kindFill(prefix, kind) {
    const [ground, shape] = KINDS[kind] || KINDS.other;
    return shape === null ? ground : `url(#${prefix}-${kind})`;
}

function label(x, y, text, kind) {
    return svg("text", {x, y, class: kind, "dominant-baseline": "middle"}, text);
}

/* The name, inside the box; one that is too long is pressed together. */
function drawName(form, part, middle) {
    const light = LIGHT_KINDS.includes(part.kind) || !(part.kind in KINDS);
    const name = label(form.LEFT + form.BOX / 2, middle, part.name,
                       light ? "inside dark-on-light" : "inside");
    name.setAttribute("text-anchor", "middle");
    if (textWidth(part.name) * 1.1 > form.BOX - 12) {
        name.setAttribute("textLength", form.BOX - 12);
        name.setAttribute("lengthAdjust", "spacingAndGlyphs");
    }
    return name;
}

function drawPart(drawing, prefix, form, part, y) {
    const told = toldLines(form, part);
    const height = Math.max(partHeight(part), told.length * SPACE.LINE + SPACE.PAD);
    const middle = y + height / 2;
    const right = form.LEFT + form.BOX + 14;
    drawing.append(
        svg("rect", {class: "box", x: form.LEFT, y, width: form.BOX, height,
                     fill: kindFill(prefix, part.kind)}),
        drawName(form, part, middle));
    if (form.TELL > 0) {
        const start = label(form.LEFT - 10, y + height - 9, hex(part.low), "address");
        start.setAttribute("text-anchor", "end");
        drawing.append(start, label(right, middle, size(part.bytes), "size"));
    }
    const top = middle - (told.length - 1) * SPACE.LINE / 2;
    told.forEach(([text, kind], at) => {
        drawing.append(label(right + form.TELL, top + at * SPACE.LINE, text, kind));
    });
    return height;
}

/* The sides go on, torn: there is nothing here, and much of it. */
function drawGap(drawing, form, bytes, y) {
    const zigzag = (x) => `M${x} ${y} v8 l-5 4 l10 6 l-5 4 v8`;
    drawing.append(
        svg("path", {class: "break", d: zigzag(form.LEFT)}),
        svg("path", {class: "break", d: zigzag(form.LEFT + form.BOX)}),
        label(form.LEFT + form.BOX + 14, y + SPACE.GAP / 2, `${size(bytes)} of nothing`, "note"));
}

function drawSpace(parts, title, width) {
    const prefix = freshId("space");
    const shape = width >= WIDE.LEAST ? WIDE : NARROW;
    const form = {...shape, width: Math.min(width, shape.MOST)};
    const drawing = svg("svg", {role: "img", "aria-label":
        `${title}: ${parts.map((part) => part.name).join(", ")}, from high to low addresses`});
    drawing.append(partPatterns(prefix), label(form.LEFT, 12, "high addresses", "note"));
    let y = SPACE.MARGIN;
    parts.forEach((part, at) => {
        const gap = at > 0 ? parts[at - 1].low - part.high : 0n;
        if (gap > 0n) {
            drawGap(drawing, form, Number(gap), y);
            y += SPACE.GAP;
        }
        y += drawPart(drawing, prefix, form, part, y);
    });
    drawing.append(label(form.LEFT, y + 14, "low addresses", "note"));
    const height = y + SPACE.MARGIN + 4;
    drawing.setAttribute("viewBox", `0 0 ${form.width} ${height}`);
    drawing.setAttribute("width", form.width);
    drawing.setAttribute("height", height);
    return drawing;
}

/* ------------------------------------------------------------------ section ------------------ */

function showAddresses(section, card) {
    const parts = sortedParts(section);
    const drawn = parts.length > MOST_PARTS ? joinParts(parts) : parts;
    const rows = parts.map((part) => [part.name, part.kind, hex(part.low), hex(part.high),
                                      part.bytes, part.note]);
    const place = element("div", {});
    let shown = 0;
    new ResizeObserver(() => { // also once it is there
        const width = Math.floor(place.clientWidth);
        if (width === shown || width === 0) return;
        shown = width;
        place.replaceChildren(drawSpace(drawn, section.title, width));
    }).observe(place);
    card.append(
        element("figure", {class: "space"}, place,
                element("figcaption", {}, "Not on a true scale: heights grow with the logarithm " +
                                          "of sizes, and torn edges stand for what is empty.")),
        figuresTable(section.title, ["part", "kind", "start", "end", "bytes", "note"], rows));
}
