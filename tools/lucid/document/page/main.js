/*
 * main.js - reads the document out of the page and shows its sections, one card each. Neighbouring
 * heaps share a card.
 */

function leftOut(section) {
    if (!section.left_out) return null;
    return element("p", {class: "left-out"}, `Left out: ${section.left_out}.`);
}

/* Paragraphs; those whose lines begin with blanks are kept as they are. */
function showText(section, card) {
    for (const part of section.text.split(/\n{2,}/)) {
        if (part.trim() === "") continue;
        card.append(element(part.startsWith(" ") ? "pre" : "p", {}, part));
    }
}

function showTable(section, card) {
    card.append(makeTable(section.title, section.columns, section.rows));
}

const SHOW = {text: showText, table: showTable, chart: showChart, addresses: showAddresses};

/* Neighbouring heaps in one array, every other section in its own. */
function groupSections(sections) {
    const groups = [];
    for (const section of sections) {
        const last = groups[groups.length - 1];
        if (section.type === "heap" && last !== undefined && last[0].type === "heap") {
            last.push(section);
        } else {
            groups.push([section]);
        }
    }
    return groups;
}

function groupTitle(group) {
    return group.length > 1 ? `Heaps side by side: ${group.map((one) => one.allocator).join(", ")}`
                            : group[0].title || "";
}

function showGroup(group, main, contents) {
    const title = groupTitle(group);
    const card = element("section", {class: group[0].type === "text" ? null : "card",
                                     "data-type": group[0].type});
    main.append(card);
    if (title !== "") {
        const id = freshId("section");
        card.setAttribute("aria-labelledby", id);
        card.append(element("h2", {id}, title));
        contents.append(element("li", {}, element("a", {href: `#${id}`}, title)));
    }
    if (group[0].type === "heap") {
        showHeaps(group, card);
        return;
    }
    const missing = leftOut(group[0]);
    if (missing !== null) card.append(missing);
    SHOW[group[0].type](group[0], card);
}

function showDocument() {
    const shown = JSON.parse(document.getElementById("document").textContent);
    const main = document.getElementById("sections");
    const contents = element("ul", {});
    for (const group of groupSections(shown.sections)) showGroup(group, main, contents);
    if (contents.childElementCount > 2) document.getElementById("contents").append(contents);
    const reduced = shown.sections.filter((section) => section.left_out).length;
    if (reduced > 0) {
        const note = document.getElementById("left-out");
        note.hidden = false;
        note.textContent = `This page does not have all data: of ${count(reduced)} of its ` +
            `${count(shown.sections.length)} sections something was left out, and they say what.`;
    }
    startThemes(document.getElementById("theme"));
}

showDocument();
