/*
 * charts.js - sections of type "chart": lines by Chart.js, with a legend of check boxes, values
 * under the pointer and under the arrow keys, and the table of all figures.
 *
 * Series differ by colour, by dashes and by the shape of their points; what is live has a look of its
 * own. Long series are thinned for
 * drawing so that their peaks stay (Chart.js' min-max decimation); the table has every point.
 */

const COLOURS = 12; // --series-0 to --series-11
const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3], [14, 4], [4, 2], [1, 4], [6, 2, 1, 2],
                [20, 4], [3, 6], [16, 3, 1, 3], [5, 5, 1, 5]];
const POINTS = ["circle", "rect", "triangle", "rectRot", "crossRot", "star", "cross", "dash"];
const POINTS_SHOWN = 60;

/* What the program itself has is drawn as no allocator is: a broad line below all others. */
const LIVE = "live";

/* The looks of all series, no two alike: with each round of colours, dashes go on by one. */
function seriesLooks(section) {
    let others = 0;
    return section.series.map((series) => {
        if (series.name === LIVE) return {colour: "series-live", dash: [], width: 5, live: true};
        const at = others;
        others += 1;
        return {colour: `series-${at % COLOURS}`, width: 2, live: false, point: POINTS[at % POINTS.length],
                dash: DASHES[(at + Math.floor(at / COLOURS)) % DASHES.length]};
    });
}

function seriesColours(look) {
    const own = colour(look.colour);
    return {borderColor: own, backgroundColor: own, pointBorderColor: own,
            pointBackgroundColor: own};
}

function chartDatasets(section) {
    const x = section.x.values;
    const looks = seriesLooks(section);
    return section.series.map((series, at) => ({
        label: series.name,
        look: looks[at],
        order: looks[at].live ? 1 : 0, // larger ones are drawn first
        data: x.map((value, i) => ({x: value, y: series.values[i] === null ? NaN
                                                                         : series.values[i]})),
        borderDash: looks[at].dash,
        pointStyle: looks[at].point,
        pointRadius: x.length <= POINTS_SHOWN && !looks[at].live ? 3 : 0,
        borderWidth: looks[at].width,
        tension: 0,
        ...seriesColours(looks[at]), // Chart.js looks at first which options there are
    }));
}

function paintChart(chart) {
    for (const dataset of chart.data.datasets) Object.assign(dataset, seriesColours(dataset.look));
    for (const scale of [chart.options.scales.x, chart.options.scales.y]) {
        scale.grid.color = colour("line");
        scale.ticks.color = colour("soft");
        scale.title.color = colour("text");
    }
    chart.update();
}

function chartOptions(section) {
    const unit = section.y.unit;
    const bytes = unit === "bytes";
    return {
        animation: false,
        parsing: false,
        normalized: true,
        responsive: true,
        maintainAspectRatio: false,
        interaction: {mode: "index", intersect: false, axis: "x"},
        scales: {
            x: {type: "linear", title: {display: true, text: section.x.label}, grid: {},
                ticks: {callback: (value) => count(value), maxRotation: 0}},
            y: {beginAtZero: true, title: {display: true, text: section.y.label}, grid: {},
                ticks: {callback: (value) => figure(value, unit),
                        stepSize: bytes ? byteStep(section) : undefined}},
        },
        plugins: {
            legend: {display: false},
            decimation: {enabled: true, algorithm: "min-max"},
            tooltip: {callbacks: {
                title: (items) => items.length > 0
                    ? `${section.x.label}: ${count(items[0].parsed.x)}` : "",
                label: (item) => `${item.dataset.label}: ${figure(item.parsed.y, unit)}`,
            }},
        },
    };
}

/* Steps of an axis of bytes are powers of two, six or so. */
function byteStep(section) {
    let most = 1;
    for (const series of section.series) {
        for (const value of series.values) if (value > most) most = value;
    }
    return 2 ** Math.max(0, Math.round(Math.log2(most / 6)));
}

function chartLegend(section, chart) {
    return element("ul", {class: "legend", "aria-label": "Series"}, section.series.map(
        (series, at) => {
            const box = element("input", {type: "checkbox", checked: true, onchange: () => {
                chart.setDatasetVisibility(at, box.checked);
                chart.update("none");
            }});
            const line = element("canvas", {class: "line", width: 36, height: 12,
                                            "aria-hidden": "true"});
            onTheme(() => drawSample(line, chart.data.datasets[at].look));
            return element("li", {}, element("label", {}, box, line, series.name));
        }));
}

/* The look of a series, in the legend. */
function drawSample(canvas, look) {
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.strokeStyle = colour(look.colour);
    pen.setLineDash(look.dash);
    pen.lineWidth = look.width;
    pen.beginPath();
    pen.moveTo(0, 6);
    pen.lineTo(36, 6);
    pen.stroke();
}

/* Where a series is drawn at this x; what is drawn may be thinned. */
function drawnIndex(chart, series, x) {
    const data = chart.data.datasets[series].data;
    let best = 0;
    data.forEach((point, at) => {
        if (Math.abs(point.x - x) < Math.abs(data[best].x - x)) best = at;
    });
    return best;
}

/* The arrow keys move along the x axis and show what the pointer would. */
function chartKeys(section, canvas, chart, told) {
    const points = section.x.values.length;
    let at = -1;
    const show = () => {
        const items = section.series
            .map((_, series) => ({datasetIndex: series,
                                  index: drawnIndex(chart, series, section.x.values[at])}))
            .filter((item) => chart.isDatasetVisible(item.datasetIndex));
        chart.setActiveElements(items);
        chart.tooltip.setActiveElements(items, {x: 0, y: 0});
        chart.update("none");
        told.textContent = `${section.x.label} ${count(section.x.values[at])}: ` +
            section.series.map((series) =>
                `${series.name} ${figure(series.values[at], section.y.unit)}`).join(", ");
    };
    canvas.addEventListener("keydown", (event) => {
        const step = Math.max(1, Math.round(points / 200));
        const moves = {ArrowRight: at + step, ArrowLeft: at - step, Home: 0, End: points - 1};
        if (!(event.key in moves) || points === 0) return;
        event.preventDefault();
        at = Math.min(points - 1, Math.max(0, moves[event.key]));
        show();
    });
    canvas.addEventListener("blur", () => {
        chart.setActiveElements([]);
        chart.tooltip.setActiveElements([], {x: 0, y: 0});
        chart.update("none");
    });
}

function chartTable(section) {
    const unit = section.y.unit === "" ? "" : ` (${section.y.unit})`;
    const columns = [section.x.label, ...section.series.map((series) => series.name + unit)];
    const rows = section.x.values.map(
        (value, at) => [value, ...section.series.map((series) => series.values[at])]);
    return figuresTable(`${section.y.label} by ${section.x.label}`, columns, rows);
}

function showChart(section, card) {
    const told = element("p", {class: "hidden-label", "aria-live": "polite"});
    const canvas = element("canvas", {
        tabindex: "0", role: "img", "aria-label":
            `Chart of ${section.y.label} by ${section.x.label}; arrow keys tell its values, ` +
            "the table below has all"});
    const figureElement = element("figure", {}, element("div", {class: "chart"}, canvas));
    card.append(figureElement, told);
    const chart = new Chart(canvas, {type: "line", data: {datasets: chartDatasets(section)},
                                     options: chartOptions(section)});
    chartKeys(section, canvas, chart, told);
    figureElement.prepend(chartLegend(section, chart));
    onTheme(() => paintChart(chart));
    card.append(chartTable(section));
}
