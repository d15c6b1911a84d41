/*
 * core.js - what the other scripts of the page use: elements, numbers, tables, themes.
 *
 * All scripts stand in one element, one after the other: core, charts, heap, heapdraw, addresses,
 * main. Nothing is fetched, nothing is stored but the choice of the theme.
 */
"use strict";

/* ------------------------------------------------------------------ elements ----------------- */

/* element("p", {class: "x", onclick: f}, "text", child, …): null children are left out. */
function element(name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) {
        if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
        else if (value === true) made.setAttribute(key, "");
        else if (value !== false && value !== null && value !== undefined) {
            made.setAttribute(key, value);
        }
    }
    for (const child of children.flat()) if (child !== null) made.append(child);
    return made;
}

let lastId = 0;
function freshId(prefix) {
    lastId += 1;
    return `${prefix}-${lastId}`;
}

/* ------------------------------------------------------------------ numbers ------------------ */

function count(number) {
    if (!Number.isFinite(number)) return "–";
    if (Number.isInteger(number)) return number.toLocaleString("en-US");
    return Number(number.toPrecision(6)).toLocaleString("en-US", {maximumFractionDigits: 9});
}

function scaled(number, step, units) {
    let at = 0;
    while (Math.abs(number) >= step && at + 1 < units.length) {
        number /= step;
        at += 1;
    }
    const digits = at === 0 ? (Number.isInteger(number) ? 0 : 1) : 1;
    return `${number.toFixed(digits)} ${units[at]}`;
}

function size(bytes) {
    return scaled(bytes, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]);
}

/* As people read it: what axes and tips show. */
function figure(value, unit) {
    if (value === null || value === undefined) return "–";
    if (unit === "bytes") return size(value);
    if (unit === "ns") return scaled(value, 1000, ["ns", "µs", "ms", "s"]);
    if (unit === "ratio") return value.toFixed(3);
    return count(value);
}

function percent(part, whole) {
    return whole > 0 ? `${(100 * part / whole).toFixed(1)} %` : "–";
}

/* ------------------------------------------------------------------ tables ------------------- */

const ROWS_PER_PAGE = 200;

function tableCell(value) {
    if (value === null) return element("td", {class: "number"}, "–");
    if (typeof value !== "number") return element("td", {}, value);
    return element("td", {class: "number", "data-value": String(value)}, count(value));
}

/* Columns of numbers stand to the right, with their heads. */
function headRow(columns, rows) {
    return element("tr", {}, columns.map((name, at) => {
        const numeric = rows.length > 0 && rows.every(
            (row) => row[at] === null || typeof row[at] === "number");
        return element("th", {scope: "col", class: numeric ? "number" : null}, name);
    }));
}

/* A table of any length, by pages; `rows` are arrays of texts, numbers and null. */
function makeTable(title, columns, rows) {
    const body = element("tbody", {});
    const table = element("table", {}, element("caption", {}, title),
                          element("thead", {}, headRow(columns, rows)), body);
    const frame = element("div", {class: "table-frame", tabindex: "0", role: "region",
                                  "aria-label": title}, table);
    let first = 0;
    const place = element("span", {"aria-live": "polite"});
    const show = (from) => {
        first = from;
        const shown = rows.slice(first, first + ROWS_PER_PAGE);
        body.replaceChildren(...shown.map((row) => element("tr", {}, row.map(tableCell))));
        place.textContent =
            `rows ${count(first + 1)} to ${count(first + shown.length)} of ${count(rows.length)}`;
        back.disabled = first === 0;
        on.disabled = first + ROWS_PER_PAGE >= rows.length;
    };
    const back = element("button", {type: "button", class: "button",
                                    onclick: () => show(first - ROWS_PER_PAGE)}, "Previous");
    const on = element("button", {type: "button", class: "button",
                                  onclick: () => show(first + ROWS_PER_PAGE)}, "Next");
    show(0);
    const pager = element("div", {class: "pager"}, back, on, place);
    return element("div", {}, frame, rows.length > ROWS_PER_PAGE ? pager : null);
}

/* The table under a picture. */
function figuresTable(title, columns, rows) {
    return element("details", {open: rows.length <= 40}, element("summary", {}, "Figures"),
                   makeTable(title, columns, rows));
}

/* ------------------------------------------------------------------ themes ------------------- */

const themes = {
    order: ["system", "light", "dark"],
    chosen: "system",
    listeners: [],
    dark: matchMedia("(prefers-color-scheme: dark)"),
};

function onTheme(listener) {
    themes.listeners.push(listener);
}

function applyTheme(printing) {
    const dark = themes.chosen === "dark" || (themes.chosen === "system" && themes.dark.matches);
    document.documentElement.dataset.theme = dark && !printing ? "dark" : "light";
    for (const listener of themes.listeners) listener();
}

function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/* A page from a file may have no storage. */
function storedTheme() {
    try {
        return localStorage.getItem("lucid-theme");
    } catch (error) {
        return null;
    }
}

function storeTheme(theme) {
    try {
        localStorage.setItem("lucid-theme", theme);
    } catch (error) {
        return;
    }
}

function startThemes(button) {
    const label = () => { button.textContent = `Theme: ${themes.chosen}`; };
    if (themes.order.includes(storedTheme())) themes.chosen = storedTheme();
    button.addEventListener("click", () => {
        const next = (themes.order.indexOf(themes.chosen) + 1) % themes.order.length;
        themes.chosen = themes.order[next];
        storeTheme(themes.chosen);
        label();
        applyTheme(false);
    });
    themes.dark.addEventListener("change", () => applyTheme(false));
    addEventListener("beforeprint", () => applyTheme(true));
    addEventListener("afterprint", () => applyTheme(false));
    label();
    applyTheme(false);
}
