/*
 * heap.js - sections of type "heap": maps of blocks over time, next to each other.
 *
 * A panel is one heap: slider, map, tip, figures of the frame. Neighbouring heap sections form a
 * group: they have the same scale, and while "move together" is on, moving one slider moves the
 * others to their last frame at or before the same event.
 *
 * A panel is {section, layout, at, marked, elements…}: `at` is the number of the frame, `marked`
 * that of the block that the pointer or the keyboard is on, or -1.
 */

/* ------------------------------------------------------------------ figures ------------------ */

/* What a frame holds, by kind: blocks and bytes. */
function sumFrame(frame) {
    const sums = {header: 0, lost: 0, largest: 0};
    for (const state of STATES) sums[state] = {blocks: 0, bytes: 0};
    for (const block of frame.blocks) {
        const sum = sums[block[BLOCK.STATE]] || sums.meta;
        const bytes = block[BLOCK.BYTES];
        sum.blocks += block[BLOCK.COUNT] || 1;
        sum.bytes += bytes;
        if (block[BLOCK.STATE] === "used") {
            sums.header += block[BLOCK.HEADER];
            sums.lost += bytes - block[BLOCK.HEADER] - block[BLOCK.ASKED];
        } else if (block[BLOCK.STATE] !== "meta") {
            sums.largest = Math.max(sums.largest, bytes);
        }
    }
    sums.asked = sums.used.bytes - sums.header - sums.lost;
    return sums;
}

const WHAT = [["used", "used"], ["free", "free"], ["cached", "free, set aside"],
              ["top", "free, at the top"], ["meta", "the allocator's own"]];

/* Which event a frame is after, and the call that it was. */
function eventName(frame) {
    const number = `event ${count(frame.event)}`;
    return frame.call ? `${number}, after ${frame.call}` : number;
}

/* The table under a map: what, blocks, bytes, share of what is held. */
function frameRows(frame) {
    const sums = sumFrame(frame);
    const row = (what, blocks, bytes) => [what, blocks, bytes, percent(bytes, frame.held)];
    const rows = [row("held", null, frame.held), row("live (asked for)", null, frame.live)];
    for (const [state, name] of WHAT) {
        if (sums[state].blocks === 0 && state !== "used" && state !== "free") continue;
        rows.push(row(name, sums[state].blocks, sums[state].bytes));
        if (state !== "used") continue;
        rows.push(row("\u2003of these: headers", null, sums.header));
        rows.push(row("\u2003asked for", null, sums.asked));
        rows.push(row("\u2003lost inside", null, sums.lost));
    }
    rows.push(row("largest free block", null, sums.largest));
    return rows;
}

function showFigures(panel) {
    const frame = panel.frames[panel.at];
    panel.figures.replaceChildren(makeTable(eventName(frame),
                                            ["what", "blocks", "bytes", "of held"],
                                            frameRows(frame)));
}

/* ------------------------------------------------------------------ tips --------------------- */

function tellBlock(block) {
    const [start, bytes, header, asked, state, age, blocks] = block;
    const many = blocks > 1 ? `${count(blocks)} blocks, put together: ` : "";
    const lines = [`${many}${state}, ${count(bytes)} bytes at +0x${start.toString(16)}`];
    if (state === "used") {
        lines.push(`asked ${count(asked)}, header ${count(header)}, ` +
                   `lost inside ${count(bytes - header - asked)}`);
    } else if (header > 0) lines.push(`header ${count(header)}`);
    lines.push(`age ${count(age)} ${age === 1 ? "event" : "events"}` +
               (blocks > 1 ? " (the oldest)" : ""));
    return lines.join("\n");
}

function placeTip(panel, block) {
    const width = panel.width;
    const row = rowOf(panel.layout, block[BLOCK.START]);
    const x = columnOf(panel.layout, width, row, block[BLOCK.START]);
    panel.tip.hidden = false;
    panel.tip.textContent = tellBlock(block);
    panel.tip.style.top = `${(row + 1) * (ROW_HEIGHT + ROW_GAP) + 2}px`;
    panel.tip.style.left = `${Math.max(0, Math.min(x, width - panel.tip.offsetWidth))}px`;
}

/* `spoken`: tell it to a screen reader too. */
function mark(panel, index, spoken) {
    panel.marked = index;
    if (index < 0) {
        panel.tip.hidden = true;
        panel.told.textContent = "";
    } else {
        const block = panel.frames[panel.at].blocks[index];
        placeTip(panel, block);
        if (spoken) panel.told.textContent = tellBlock(block);
    }
    show(panel);
}

/* ------------------------------------------------------------------ frames ------------------- */

/* The frame is the same; what is marked may not be. */
function show(panel) {
    if (panel.width === 0) return;
    const marked = panel.marked >= 0 ? panel.frames[panel.at].blocks[panel.marked] : null;
    showFrame(panel.canvas, panel.hidden, panel.layout, panel.width, marked);
}

function draw(panel) {
    if (panel.width === 0) return;
    drawFrame(panel.hidden, panel.layout, panel.width, panel.frames[panel.at]);
    show(panel);
}

function moveTo(panel, at) {
    const frame = panel.frames[at];
    panel.at = at;
    panel.marked = -1;
    panel.tip.hidden = true;
    const text = `event ${count(frame.event)}: held ${size(frame.held)}, live ${size(frame.live)}` +
        (frame.call ? `\nafter ${frame.call}` : "");
    panel.slider.value = String(at);
    panel.slider.setAttribute("aria-valuetext", text);
    panel.place.textContent = text;
    panel.back.disabled = at === 0;
    panel.on.disabled = at === panel.frames.length - 1;
    draw(panel);
    showFigures(panel);
}

/* The last frame at or before the event. */
function frameBefore(frames, event) {
    let at = 0;
    while (at + 1 < frames.length && frames[at + 1].event <= event) at += 1;
    return at;
}

/* Somebody moved this panel: the others of its group follow. */
function moved(panel, at) {
    moveTo(panel, Math.min(panel.frames.length - 1, Math.max(0, at)));
    if (!panel.group.together) return;
    const event = panel.frames[panel.at].event;
    for (const other of panel.group.panels) {
        if (other !== panel) moveTo(other, frameBefore(other.frames, event));
    }
}

function play(panel) {
    if (panel.timer !== null) {
        clearInterval(panel.timer);
        panel.timer = null;
        panel.player.textContent = "Play";
        return;
    }
    const end = panel.frames.length - 1;
    if (panel.at === end) moved(panel, 0);
    panel.player.textContent = "Stop";
    panel.timer = setInterval(() => {
        moved(panel, panel.at + 1);
        if (panel.at === end) play(panel);
    }, Math.max(60, Math.min(800, 12000 / panel.frames.length)));
}

/* ------------------------------------------------------------------ events ------------------- */

function mapPointer(panel) {
    panel.canvas.addEventListener("pointermove", (event) => {
        const address = addressAt(panel.layout, panel.width, event.offsetX, event.offsetY);
        const index = address < 0 ? -1 : blockAt(panel.frames[panel.at], address);
        if (index !== panel.marked) mark(panel, index, false);
    });
    panel.canvas.addEventListener("pointerleave", () => mark(panel, -1, false));
    panel.canvas.addEventListener("blur", () => mark(panel, -1, false));
}

/* The block that is a row above or below the marked one. */
function blockInRow(panel, step) {
    const frame = panel.frames[panel.at];
    const address = frame.blocks[Math.max(0, panel.marked)][BLOCK.START];
    const row = rowOf(panel.layout, address) + step;
    if (row < 0 || row >= panel.layout.rows.length) return panel.marked;
    const {low, high} = panel.layout.rows[row];
    const offset = address - panel.layout.rows[row - step].low;
    const found = blockAt(frame, Math.min(high - 1, low + offset));
    return found >= 0 ? found : panel.marked;
}

function mapKeys(panel) {
    panel.canvas.addEventListener("keydown", (event) => {
        const last = panel.frames[panel.at].blocks.length - 1;
        const moves = {
            ArrowRight: () => Math.min(last, panel.marked + 1),
            ArrowLeft: () => Math.max(0, panel.marked - 1),
            ArrowDown: () => blockInRow(panel, 1),
            ArrowUp: () => blockInRow(panel, -1),
            Home: () => 0,
            End: () => last,
            Escape: () => -1,
        };
        if (!(event.key in moves) || last < 0) return;
        event.preventDefault();
        mark(panel, moves[event.key](), true);
    });
}

/* ------------------------------------------------------------------ panels ------------------- */

function button(text, title, onclick) {
    return element("button", {type: "button", class: "button", title, onclick}, text);
}

function makeControls(panel) {
    const id = freshId("slider");
    panel.slider = element("input", {
        type: "range", id, min: 0, max: panel.frames.length - 1, step: 1, value: 0,
        oninput: () => moved(panel, Number(panel.slider.value))});
    panel.back = button("◀", "One frame back", () => moved(panel, panel.at - 1));
    panel.on = button("▶", "One frame on", () => moved(panel, panel.at + 1));
    panel.player = button("Play", "Play or stop", () => play(panel));
    panel.player.classList.add("moving");
    panel.place = element("output", {for: id, class: "figures"});
    return element("div", {class: "slider"}, element("label", {for: id}, "Time"), panel.back,
                   panel.slider, panel.on, panel.player, panel.place);
}

function makeMap(panel) {
    const help = freshId("help");
    panel.canvas = element("canvas", {tabindex: "0", role: "application",
                                      "aria-roledescription": "heap map",
                                      "aria-label": `Map of the heap ${panel.section.title}`,
                                      "aria-describedby": help});
    panel.tip = element("div", {class: "tip", hidden: true});
    panel.told = element("p", {class: "hidden-label", "aria-live": "polite"});
    panel.map = element("div", {class: "map"}, panel.canvas, panel.tip);
    mapPointer(panel);
    mapKeys(panel);
    new ResizeObserver(() => {
        const width = Math.floor(panel.map.clientWidth);
        if (width === panel.width) return;
        panel.width = width;
        draw(panel);
    }).observe(panel.map);
    return [panel.map, panel.told,
            element("p", {class: "hidden-label", id: help},
                    "Left and right go from block to block, up and down by rows.")];
}

function makePanel(section, group) {
    const panel = {section, group, frames: section.frames, at: 0, marked: -1, width: 0,
                   timer: null, layout: null, figures: element("div", {}),
                   hidden: element("canvas", {})};
    const scale = `${size(group.rowBytes)} in a row; ${section.allocator}`;
    panel.layout = makeLayout(extentsOf(section.frames), group.rowBytes);
    panel.element = element("div", {class: "panel"},
        group.sections > 1 ? element("h3", {}, section.title) : null, leftOut(section),
        section.frames.length > 1 ? makeControls(panel) : (makeControls(panel), panel.place),
        element("figure", {}, makeMap(panel), element("figcaption", {}, scale)),
        element("details", {open: true}, element("summary", {}, "Figures"), panel.figures));
    onTheme(() => draw(panel));
    return panel;
}

/* What the colours and patterns mean. */
function mapLegend() {
    const kinds = [["header", "header"], ["used", "used"], ["lost", "lost inside"],
                   ["free", "free"], ["cached", "free, set aside (cached)"],
                   ["top", "free, at the top"], ["meta", "the allocator's own"]];
    return element("ul", {class: "legend", "aria-label": "Legend"}, kinds.map(([kind, name]) => {
        const canvas = element("canvas", {class: "swatch", width: 24, height: 15,
                                          "aria-hidden": "true"});
        onTheme(() => {
            const pen = canvas.getContext("2d");
            pen.fillStyle = mapFills(pen)[kind];
            pen.fillRect(0, 0, 24, 15);
        });
        return element("li", {}, canvas, name);
    }));
}

/* `sections` are neighbours in the document. */
function showHeaps(sections, card) {
    const shown = sections.filter((section) => section.frames.length > 0);
    const group = {together: true, panels: [], sections: sections.length, rowBytes: 256};
    for (const section of shown) {
        for (const frame of section.frames) {
            frame.blocks.sort((a, b) => a[BLOCK.START] - b[BLOCK.START]);
        }
        group.rowBytes = Math.max(group.rowBytes, rowBytesFor(extentsOf(section.frames)));
    }
    if (shown.length > 1) {
        const box = element("input", {type: "checkbox", checked: true, onchange: () => {
            group.together = box.checked;
            if (group.together) moved(group.panels[0], group.panels[0].at);
        }});
        card.append(element("div", {class: "options"},
                            element("label", {}, box, " Move all sliders together")));
    }
    group.panels = shown.map((section) => makePanel(section, group));
    card.append(mapLegend(),
                element("div", {class: "heaps"}, group.panels.map((panel) => panel.element)));
    for (const panel of group.panels) moveTo(panel, 0);
    if (shown.length < sections.length) {
        card.append(element("p", {}, "A heap without frames is not drawn."));
    }
}
