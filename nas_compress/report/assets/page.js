"use strict";
// Three views of the same trials: panels, table, cards. `state` holds the selection; draw() updates all views.
const data = JSON.parse(document.getElementById("data").textContent);
const column = Object.fromEntries(data.columns.map((name, index) => [name, index]));
const value = (row, name) => row[column[name]];
const byTrial = new Map(data.rows.map((row) => [value(row, "trial"), row]));
const state = { limits: {}, brushed: null, onlyFront: false, sort: "trial", down: false, shown: 200, picked: null };
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const known = (row, ...names) => names.every((name) => value(row, name) !== null);
const panels = [];

function shown(name, cell) {
  if (cell === null) return "";
  if (typeof cell !== "number") return String(cell);
  if (name in data.digits) return cell.toFixed(data.digits[name]);
  return Number.isInteger(cell) && name !== "trial" && name !== "seed" ? cell.toLocaleString("en") : String(cell);
}

function kept(row) {
  if (state.onlyFront && value(row, "standing") !== "front") return false;
  if (state.brushed && !state.brushed.has(value(row, "trial"))) return false;
  return Object.entries(state.limits).every(([name, limit]) => known(row, name) &&
    (data.axes[name].rule === "at_least" ? value(row, name) >= limit : value(row, name) <= limit));
}

// panels

function words(row) {
  const figures = Object.keys(data.axes).map((name) => `${name} ${shown(name, value(row, name))}`);
  return [`<b>trial ${value(row, "trial")}</b> ${value(row, "standing")}`, ...figures].join("<br>");
}

function axis(name) {
  const base = { gridcolor: color("line"), linecolor: color("line"), zeroline: false, tickfont: { size: 11 } };
  if (name === "trial") return { ...base, title: { text: "trial", font: { size: 12 } } };
  const range = data.axes[name];
  const ticks = range.log ? { type: "log", tickvals: range.ticks, ticktext: range.labels } : { tickformat: range.percent ? "~%" : "~g" };
  return { ...base, ...ticks, range: range.range, title: { text: range.words, font: { size: 12 } } };
}

const markers = {
  beaten: () => ({ color: color("beaten"), size: 7, opacity: 0.75 }),
  "over budget": () => ({ color: color("over"), size: 8, symbol: "x-thin", line: { color: color("over"), width: 1.6 } }),
  front: () => ({ color: color("member"), size: 10, line: { color: color("page"), width: 1 } }),
};

function points(panel, standing) {
  const rows = data.rows.filter((row) => value(row, "standing") === standing && known(row, panel.x, panel.y));
  return {
    x: rows.map((row) => value(row, panel.x)), y: rows.map((row) => value(row, panel.y)),
    customdata: rows.map((row) => value(row, "trial")), text: rows.map(words), name: standing,
    mode: "markers", type: "scatter", hovertemplate: "%{text}<extra></extra>", marker: markers[standing](),
    unselected: { marker: { opacity: 0.1 } },
  };
}

function single(x, y, marker, name) {
  return { x, y, mode: "markers", type: "scatter", marker, name, hovertemplate: name ? `${name}<extra></extra>` : undefined,
    hoverinfo: name ? undefined : "skip", unselected: { marker: { opacity: 1 } } };
}

function traces(panel) {
  const ring = (size) => ({ symbol: "circle-open", size, color: color("ink"), line: { width: 2, color: color("ink") } });
  const at = (row) => (row && known(row, panel.x, panel.y) ? [[value(row, panel.x)], [value(row, panel.y)]] : [[], []]);
  const stairs = { x: panel.stairs.map((corner) => corner[0]), y: panel.stairs.map((corner) => corner[1]), mode: "lines",
    type: "scatter", line: { color: color("member"), width: 1.2 }, hoverinfo: "skip" };
  const taught = data.teacher && panel.x in data.teacher ? [[data.teacher[panel.x]], [data.teacher[panel.y]]] : [[], []];
  const star = { symbol: "star", size: 15, color: color("teacher"), line: { color: color("ink"), width: 1 } };
  const joined = { x: panel.curves.flatMap((curve) => [...curve.map((place) => place[0]), null]),
    y: panel.curves.flatMap((curve) => [...curve.map((place) => place[1]), null]), mode: "lines", type: "scatter",
    line: { color: color("ink"), width: 1, dash: "dot" }, opacity: 0.6, hoverinfo: "skip" };
  const tails = panel.curves.flat().filter((place) => place[2] !== null);
  const tail = { x: tails.map((place) => place[0]), y: tails.map((place) => place[1]), mode: "markers", type: "scatter",
    marker: { size: 1, opacity: 0 }, hoverinfo: "skip", error_x: { type: "data", symmetric: false,
    array: tails.map((place) => Math.max(0, place[2] - place[0])), arrayminus: tails.map(() => 0), color: color("member"), thickness: 0.8, width: 3 } };
  return [stairs, points(panel, "beaten"), points(panel, "over budget"), points(panel, "front"),
    single(...taught, star, "teacher"), single(...at(byTrial.get(data.knee)), ring(17)), single([], [], ring(13)), bars(panel), joined, tail];
}

function bars(panel) {
  const repeated = panel.y === data.spreads.metric ? data.spreads.by_trial.filter(([trial]) => known(byTrial.get(trial), panel.x)) : [];
  return { x: repeated.map(([trial]) => value(byTrial.get(trial), panel.x)), y: repeated.map(([, [mean]]) => mean), mode: "markers",
    type: "scatter", marker: { symbol: "line-ew", size: 9, line: { width: 1.4, color: color("ink") } }, hoverinfo: "skip",
    error_y: { type: "data", array: repeated.map(([, [, std]]) => std), color: color("ink"), thickness: 1.2, width: 4 },
    unselected: { marker: { opacity: 1 } } };
}
const POINTS = [1, 2, 3];
const HOVERED = 6;

function layout(panel) {
  const line = (name, limit) => (name === panel.x ? { x0: limit, x1: limit, y0: 0, y1: 1, yref: "paper" } :
    { y0: limit, y1: limit, x0: 0, x1: 1, xref: "paper" });
  const shapes = [panel.x, panel.y].filter((name) => name in data.axes).flatMap((name) =>
    data.axes[name].budgets.map((limit) => ({ type: "line", ...line(name, limit), line: { color: color("over"), dash: "dash", width: 1 } })));
  return { xaxis: axis(panel.x), yaxis: axis(panel.y), shapes, showlegend: false, dragmode: "zoom", hovermode: "closest",
    margin: { l: 66, r: 14, t: 32, b: 56 }, paper_bgcolor: color("page"), plot_bgcolor: color("page"),
    font: { color: color("ink"), family: "system-ui, 'DejaVu Sans', sans-serif" },
    hoverlabel: { bgcolor: color("panel"), bordercolor: color("line"), font: { color: color("ink") } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: color("soft"), activecolor: color("member") } };
}

const config = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["autoScale2d", "zoomIn2d", "zoomOut2d"] };

function drawPanels() {
  return Promise.all(panels.map((panel) => Plotly.react(panel.element, traces(panel), layout(panel), config))).then(dim);
}

function dim() {
  const all = !state.brushed && !state.onlyFront && !Object.keys(state.limits).length;
  return Promise.all(panels.map((panel) => {
    const selected = POINTS.map((trace) => all ? null : panel.element.data[trace].customdata.flatMap((trial, index) =>
      kept(byTrial.get(trial)) ? [index] : []));
    return Plotly.restyle(panel.element, { selectedpoints: selected }, POINTS);
  }));
}

function ring(trial) {
  const row = byTrial.get(trial);
  for (const panel of panels) {
    const here = row && known(row, panel.x, panel.y);
    Plotly.restyle(panel.element, { x: [here ? [value(row, panel.x)] : []], y: [here ? [value(row, panel.y)] : []] }, [HOVERED]);
  }
}

async function makePanels() {
  for (const values of data.panels) {
    const element = document.createElement("div");
    element.className = "panel";
    document.getElementById("panels").append(element);
    panels.push({ ...values, element });
  }
  await drawPanels();
  for (const { element } of panels) {
    element.on("plotly_hover", (event) => ring(event.points[0].customdata));
    element.on("plotly_unhover", () => ring(state.picked));
    element.on("plotly_click", (event) => pick(event.points[0].customdata, true));
    element.on("plotly_selected", (event) => event && brush(event.points.map((point) => point.customdata)));
    element.on("plotly_deselect", () => brush(null));
  }
  document.body.dataset.ready = "yes";
}

function brush(trials) {
  state.brushed = trials && new Set(trials.filter((trial) => trial !== undefined));
  draw();
}

// table

function ordered(rows) {
  const sign = state.down ? -1 : 1;
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
  return [...rows].sort((first, second) => {
    const [a, b] = [value(first, state.sort), value(second, state.sort)];
    if (a === null || b === null) return (a === null) - (b === null); // empty cells last, whichever way
    return sign * compare(a, b);
  });
}

const isText = (name) => data.rows.some((row) => typeof value(row, name) === "string");

function drawTable() {
  const head = document.querySelector("#trials thead");
  if (!head) return;
  const texts = new Set(data.columns.filter(isText));
  const line = document.createElement("tr");
  for (const name of data.columns) {
    const cell = document.createElement("th");
    cell.textContent = name + (name === state.sort ? (state.down ? " ▾" : " ▴") : "");
    cell.className = texts.has(name) ? "text" : "";
    cell.dataset.column = name;
    cell.onclick = () => { state.down = name === state.sort && !state.down; state.sort = name; drawTable(); };
    line.append(cell);
  }
  head.replaceChildren(line);
  const rows = ordered(data.rows.filter(kept));
  document.querySelector("#trials tbody").replaceChildren(...rows.slice(0, state.shown).map((row) => bodyLine(row, texts)));
  const more = document.getElementById("more");
  more.hidden = rows.length <= state.shown;
  more.textContent = `${rows.length - state.shown} more rows`;
  const count = document.getElementById("kept");
  if (count) count.textContent = `${rows.length} of ${data.rows.length} trials kept`;
}

function bodyLine(row, texts) {
  const line = document.createElement("tr");
  const trial = value(row, "trial");
  line.dataset.trial = trial;
  line.className = `${value(row, "standing")}${trial === state.picked ? " picked" : ""}`;
  for (const name of data.columns) {
    const cell = document.createElement("td");
    cell.textContent = shown(name, value(row, name));
    if (texts.has(name)) cell.className = name === "reason" ? "text reason" : "text";
    if (name === "reason") cell.title = cell.textContent;
    line.append(cell);
  }
  line.onclick = () => pick(trial, false);
  return line;
}

// cards, tools

function pick(trial, scroll) {
  if (trial === undefined) return;
  state.picked = trial;
  if (panels.length) ring(trial);
  for (const line of document.querySelectorAll("#trials tbody tr")) line.classList.toggle("picked", line.dataset.trial === String(trial));
  const card = document.getElementById(`card-${String(trial).split("/")[0]}`);
  if (!card) return;
  card.open = true;
  if (scroll) card.scrollIntoView({ behavior: "smooth", block: "start" });
}

function draw() { drawTable(); dim(); }

function reset() {
  Object.assign(state, { limits: {}, brushed: null, onlyFront: false });
  for (const input of document.querySelectorAll("[data-limit]")) input.value = "";
  document.getElementById("only-front").checked = false;
  drawTable();
  drawPanels();
}

for (const input of document.querySelectorAll("[data-limit]")) {
  input.oninput = () => {
    if (input.value === "") delete state.limits[input.dataset.limit];
    else state.limits[input.dataset.limit] = Number(input.value);
    draw();
  };
}
const only = document.getElementById("only-front");
if (only) only.onchange = () => { state.onlyFront = only.checked; draw(); };
const again = document.getElementById("reset");
if (again) again.onclick = reset;
const more = document.getElementById("more");
if (more) more.onclick = () => { state.shown += 1000; drawTable(); };

const dark = matchMedia("(prefers-color-scheme: dark)");
const theme = document.documentElement.dataset;
dark.addEventListener("change", () => drawPanels());
document.getElementById("theme").onclick = () => {
  theme.theme = (theme.theme ?? (dark.matches ? "dark" : "light")) === "dark" ? "light" : "dark";
  drawPanels();
};

drawTable();
if (data.panels.length && document.getElementById("panels")) makePanels(); else document.body.dataset.ready = "yes";
