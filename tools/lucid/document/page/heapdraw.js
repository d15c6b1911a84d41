/*
 * heapdraw.js - the picture of a heap: which address is where on the canvas, and the drawing.
 *
 *     +0x0     [h|used     ~][free      ][h|used ]      rows of `rowBytes` bytes; h: header,
 *     +0x1000  [used          ][ top             ]      ~: lost inside
 *     +0xfff…  [h|used        ]                         a new row after a gap in the addresses
 *
 * The layout is of all frames of a heap, so that a block stays in its place while time passes:
 * addresses that any frame holds are joined to extents, and each extent begins a new row. Heaps
 * that are drawn side by side have the same bytes in a row.
 */

const BLOCK = {START: 0, BYTES: 1, HEADER: 2, ASKED: 3, STATE: 4, AGE: 5, COUNT: 6};
const STATES = ["used", "free", "cached", "top", "meta"];
const ROW_HEIGHT = 20;
const ROW_GAP = 5;
const LABEL_WIDTH = 84;
const MOST_ROWS = 24;

function blockEnd(block) {
    return block[BLOCK.START] + block[BLOCK.BYTES];
}

/* ------------------------------------------------------------------ layout ------------------- */

/* Ranges of addresses that some frame holds: [low, high] in order, apart from each other. */
function extentsOf(frames) {
    const ranges = [];
    for (const frame of frames) {
        let last = null;
        for (const block of frame.blocks) {
            if (last !== null && last[1] === block[BLOCK.START]) last[1] = blockEnd(block);
            else ranges.push(last = [block[BLOCK.START], blockEnd(block)]);
        }
    }
    ranges.sort((a, b) => a[0] - b[0]);
    const joined = [];
    for (const range of ranges) {
        const before = joined[joined.length - 1];
        if (before === undefined || range[0] > before[1]) joined.push([...range]);
        else before[1] = Math.max(before[1], range[1]);
    }
    return joined;
}

function rowsNeeded(extents, rowBytes) {
    return extents.reduce((sum, [low, high]) => sum + Math.ceil((high - low) / rowBytes), 0);
}

/* The fewest bytes in a row, a power of two, with which all extents fit MOST_ROWS; with more
 * extents than that, so that none but the large ones take more than one row. */
function rowBytesFor(extents) {
    const most = Math.max(MOST_ROWS, extents.length + 4);
    let bytes = 256;
    while (rowsNeeded(extents, bytes) > most) bytes *= 2;
    return bytes;
}

function makeLayout(extents, rowBytes) {
    const rows = [];
    extents.forEach(([low, high], extent) => {
        for (let start = low; start < high; start += rowBytes) {
            rows.push({low: start, high: Math.min(high, start + rowBytes), extent,
                       first: start === low});
        }
    });
    return {rows, rowBytes, height: Math.max(1, rows.length) * (ROW_HEIGHT + ROW_GAP)};
}

/* The row that has the address; rows are in order. */
function rowOf(layout, address) {
    let low = 0;
    let high = layout.rows.length;
    while (high - low > 1) {
        const middle = (low + high) >> 1;
        if (layout.rows[middle].low <= address) low = middle;
        else high = middle;
    }
    return low;
}

/* The block of a frame at the address, or -1; blocks are in order. */
function blockAt(frame, address) {
    let low = 0;
    let high = frame.blocks.length;
    while (low < high) {
        const middle = (low + high) >> 1;
        if (blockEnd(frame.blocks[middle]) <= address) low = middle + 1;
        else high = middle;
    }
    const block = frame.blocks[low];
    return block !== undefined && block[BLOCK.START] <= address ? low : -1;
}

function columnOf(layout, width, row, address) {
    return LABEL_WIDTH + (address - layout.rows[row].low) / layout.rowBytes * (width - LABEL_WIDTH);
}

function addressAt(layout, width, x, y) {
    const row = layout.rows[Math.floor(y / (ROW_HEIGHT + ROW_GAP))];
    if (row === undefined || x < LABEL_WIDTH) return -1;
    const part = (x - LABEL_WIDTH) / (width - LABEL_WIDTH);
    const address = row.low + Math.floor(part * layout.rowBytes);
    return address < row.high ? address : -1;
}

/* ------------------------------------------------------------------ patterns ----------------- */

/* A tile that repeats: its ground, and marks in another colour. */
function pattern(pen, ground, mark, draw) {
    const tile = document.createElement("canvas");
    tile.width = 8;
    tile.height = 8;
    const brush = tile.getContext("2d");
    brush.fillStyle = ground;
    brush.fillRect(0, 0, 8, 8);
    brush.strokeStyle = mark;
    brush.fillStyle = mark;
    draw(brush);
    return pen.createPattern(tile, "repeat");
}

function strokes(brush, width, lines) {
    brush.lineWidth = width;
    for (const [x0, y0, x1, y1] of lines) {
        brush.beginPath();
        brush.moveTo(x0, y0);
        brush.lineTo(x1, y1);
        brush.stroke();
    }
}

const RISING = [[-2, 10, 10, -2], [-2, 2, 2, -2], [6, 10, 10, 6]];
const FALLING = [[-2, -2, 10, 10], [6, -2, 10, 2], [-2, 6, 2, 10]];

/* What each kind of byte is filled with. */
function mapFills(pen) {
    return {
        header: colour("map-header"),
        used: colour("map-used"),
        lost: pattern(pen, colour("map-lost-ground"), colour("map-lost"),
                      (brush) => strokes(brush, 2.4, RISING)),
        free: pattern(pen, colour("map-free"), colour("map-free-line"),
                      (brush) => strokes(brush, 1, [[0, 4, 8, 4]])),
        cached: pattern(pen, colour("map-cached"), colour("map-cached-mark"), (brush) => {
            brush.fillRect(1, 1, 2, 2);
            brush.fillRect(5, 5, 2, 2);
        }),
        top: pattern(pen, colour("map-top"), colour("map-top-line"),
                     (brush) => brush.fillRect(3, 3, 1.5, 1.5)),
        meta: pattern(pen, colour("map-meta"), colour("map-meta-mark"),
                      (brush) => strokes(brush, 1, [...RISING, ...FALLING])),
        edge: colour("map-edge"),
    };
}

/* ------------------------------------------------------------------ drawing ------------------ */

/* The pieces of a block: [kind, first address, end]. */
function piecesOf(block) {
    const end = blockEnd(block);
    if (block[BLOCK.STATE] !== "used") return [[block[BLOCK.STATE], block[BLOCK.START], end]];
    const payload = Math.min(end, block[BLOCK.START] + block[BLOCK.HEADER]);
    const lost = Math.min(end, payload + block[BLOCK.ASKED]);
    return [["header", block[BLOCK.START], payload], ["used", payload, lost], ["lost", lost, end]];
}

/* Call draw(x, y, width, whether the piece ends here) for each row that the range touches. */
function forRows(layout, width, low, high, draw) {
    for (let row = rowOf(layout, low); row < layout.rows.length; row += 1) {
        const {low: first, high: end} = layout.rows[row];
        if (first >= high) return;
        const from = columnOf(layout, width, row, Math.max(low, first));
        const to = columnOf(layout, width, row, Math.min(high, end));
        draw(from, row * (ROW_HEIGHT + ROW_GAP), to - from, high <= end);
    }
}

function drawBlock(pen, layout, width, fills, block) {
    for (const [kind, low, high] of piecesOf(block)) {
        if (low === high) continue;
        pen.fillStyle = fills[kind] || fills.meta;
        forRows(layout, width, low, high, (x, y, wide) => pen.fillRect(x, y, wide, ROW_HEIGHT));
    }
    pen.fillStyle = fills.edge;
    forRows(layout, width, block[BLOCK.START], blockEnd(block), (x, y, wide, ends) => {
        if (ends && wide > 3) pen.fillRect(x + wide - 1, y, 1, ROW_HEIGHT);
    });
}

function drawLabels(pen, layout) {
    pen.fillStyle = colour("soft");
    pen.font = "11px ui-monospace, 'DejaVu Sans Mono', monospace";
    pen.textBaseline = "middle";
    layout.rows.forEach((row, at) => {
        const y = at * (ROW_HEIGHT + ROW_GAP);
        pen.fillText(`+0x${row.low.toString(16)}`, 0, y + ROW_HEIGHT / 2, LABEL_WIDTH - 6);
        if (row.first && at > 0) pen.fillRect(0, y - 3, LABEL_WIDTH - 6, 1);
    });
}

function drawMark(pen, layout, width, block) {
    pen.strokeStyle = colour("ring");
    pen.lineWidth = 2;
    forRows(layout, width, block[BLOCK.START], blockEnd(block), (x, y, wide) =>
        pen.strokeRect(x, y + 1, Math.max(2, wide), ROW_HEIGHT - 2));
}

/* A pen for a canvas `width` wide, in CSS pixels. */
function penFor(canvas, layout, width) {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(layout.height * ratio);
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    return pen;
}

/* Draw a frame, without mark, on a canvas that nobody sees. */
function drawFrame(hidden, layout, width, frame) {
    const pen = penFor(hidden, layout, width);
    const fills = mapFills(pen);
    drawLabels(pen, layout);
    for (const block of frame.blocks) drawBlock(pen, layout, width, fills, block);
}

/* Show what was drawn there; `marked` is a block or null. */
function showFrame(canvas, hidden, layout, width, marked) {
    const pen = penFor(canvas, layout, width);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${layout.height}px`;
    pen.drawImage(hidden, 0, 0, width, layout.height);
    if (marked !== null) drawMark(pen, layout, width, marked);
}
