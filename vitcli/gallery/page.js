"use strict";
// Rows come as data and are only ever put into the page as text: no name of a file or label is read as HTML.
const data = window.VIT || JSON.parse(document.getElementById("data").textContent);
const { rows, labels, folder } = data;
const PATH = 0, TOP = 1, SIZE = 2, NOTES = 3, HREF = 4, THUMB = 5, ERROR = 6, MESSAGE = 7;
const by = (id) => document.getElementById(id);
const main = by("cards"), find = by("find"), least = by("least"), order = by("order"), kind = by("kind");
const told = by("told"), detail = by("detail");
const names = labels.map((label) => label[2]);
const best = (row) => (row[TOP] && row[TOP].length ? row[TOP][0][1] : -1);
const percent = (value) => (value < 0 || value > 1 ? String(Number(value.toPrecision(4))) :
  value > 0 && value < 0.0005 ? "<0.1 %" : `${(100 * value).toFixed(1)} %`);
const SORTS = {
  order: null,
  surest: (a, b) => best(rows[b]) - best(rows[a]) || a - b,
  unsure: (a, b) => best(rows[a]) - best(rows[b]) || a - b,
  label: (a, b) => compare(labelOf(rows[a]), labelOf(rows[b])) || a - b,
  name: (a, b) => compare(rows[a][PATH], rows[b][PATH]) || a - b,
};
const collator = new Intl.Collator(undefined, { numeric: true });
const compare = collator.compare;
const labelOf = (row) => (row[TOP] && row[TOP].length ? names[row[TOP][0][0]] : "\uffff");
let shown = [], columns = 1, width = 184, opened = -1;
const height = 234, gap = 12;

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function sources(row, number) {
  const count = row[THUMB];
  if (!count) return [];
  if (typeof count !== "number") return count.map((one) => `data:image/jpeg;base64,${one}`);
  const place = `${folder}/${String(Math.floor(number / 1000)).padStart(4, "0")}/${String(number).padStart(7, "0")}`;
  return Array.from({ length: count }, (_, index) => `${place}${index ? `-${index}` : ""}.jpg`);
}

function pictures(row, number) {
  const box = element("div", row[ERROR] ? row[MESSAGE] : undefined, "shown");
  for (const source of sources(row, number)) {
    const image = element("img");
    image.alt = "";
    image.loading = "lazy";
    image.decoding = "async";
    image.src = source;
    box.append(image);
  }
  return box;
}

function bar(value) {
  const outer = element("div", undefined, "bar"), inner = element("i");
  inner.style.setProperty("width", `${100 * Math.min(1, Math.max(0, value))}%`);
  outer.append(inner);
  return outer;
}

function card(place) {
  const number = shown[place], row = rows[number], failed = Boolean(row[ERROR]);
  const made = element("button", undefined, failed ? "card failed" : "card");
  made.type = "button";
  made.dataset.place = place;
  made.tabIndex = place === focus ? 0 : -1;
  made.style.setProperty("left", `${(place % columns) * (width + gap)}px`);
  made.style.setProperty("top", `${Math.floor(place / columns) * (height + gap)}px`);
  made.style.setProperty("width", `${width}px`);
  made.style.setProperty("height", `${height}px`);
  const line = element("div", undefined, "best"), score = best(row);
  line.append(element("span", failed ? row[ERROR].replaceAll("_", " ") : score < 0 ? "–" : labelOf(row)));
  if (!failed && score >= 0) line.append(element("span", percent(score)));
  made.append(pictures(row, number), line);
  if (!failed) made.append(bar(score));
  const name = element("div", row[PATH].split("/").pop(), "name");
  made.title = row[PATH];
  made.append(name);
  return made;
}

let focus = 0;
const drawn = new Map();

function draw(force) {
  const top = Math.max(0, scrollY - main.offsetTop), step = height + gap;
  const from = Math.max(0, Math.floor(top / step) - 2) * columns;
  const to = Math.min(shown.length, (Math.ceil((top + innerHeight) / step) + 2) * columns);
  for (const [place, made] of drawn) {
    if (force || place < from || place >= to) {
      made.remove();
      drawn.delete(place);
    }
  }
  for (let place = from; place < to; place++) {
    if (!drawn.has(place)) {
      const made = card(place);
      drawn.set(place, made);
      main.append(made);
    }
  }
}

function layout() {
  const room = main.clientWidth;
  columns = Math.max(1, Math.floor((room + gap) / (160 + gap)));
  width = Math.floor((room - gap * (columns - 1)) / columns);
  main.style.setProperty("height", `${Math.ceil(shown.length / columns) * (height + gap)}px`);
  draw(true);
}

function select() {
  const words = find.value.trim().toLowerCase().split(/\s+/).filter(Boolean), floor = Number(least.value) / 100;
  const wanted = kind.value, matching = names.map((name) => words.every((word) => name.toLowerCase().includes(word)));
  shown = [];
  let failed = 0;
  for (let number = 0; number < rows.length; number++) {
    const row = rows[number], bad = Boolean(row[ERROR]);
    if (wanted === "failed" ? !bad : wanted === "classified" && bad) continue;
    if (floor > 0 && best(row) < floor) continue;
    if (words.length) {
      const text = `${row[PATH]} ${bad ? `${row[ERROR]} ${row[MESSAGE]}` : ""}`.toLowerCase();
      const labelled = row[TOP] && row[TOP].length && matching[row[TOP][0][0]];
      if (!labelled && !words.every((word) => text.includes(word))) continue;
    }
    shown.push(number);
    failed += bad;
  }
  if (SORTS[order.value]) shown.sort(SORTS[order.value]);
  focus = 0;
  by("percent").textContent = `${least.value} %`;
  told.textContent = `${shown.length.toLocaleString()} of ${rows.length.toLocaleString()} shown` +
    (failed ? `, ${failed.toLocaleString()} of them failed` : "");
  scrollTo(0, 0);
  layout();
}

function open(place) {
  opened = place;
  const number = shown[place], row = rows[number];
  const list = element("dl"), title = element("h2", row[PATH]), notes = element("p");
  for (const [index, score] of row[TOP] || []) {
    const wnid = labels[index][1];
    const term = element("dt", names[index]);
    if (wnid) term.title = wnid;
    list.append(term, element("dd", percent(score)), bar(score));
  }
  notes.textContent = [row[SIZE] ? `${row[SIZE][0]} × ${row[SIZE][1]}` : "", ...(row[NOTES] || [])].filter(Boolean).join(", ");
  const parts = [title, pictures(row, number), list, notes];
  if (row[HREF]) {
    const link = element("a", "Open the original");
    link.href = row[HREF];
    link.rel = "noreferrer";
    link.target = "_blank";
    const line = element("p");
    line.append(link);
    parts.push(line);
  }
  by("about").replaceChildren(...parts);
  if (!detail.open) detail.showModal();
}

function move(place) {
  if (place < 0 || place >= shown.length) return;
  focus = place;
  const row = Math.floor(place / columns), top = main.offsetTop + row * (height + gap);
  const bar_ = document.querySelector("header").offsetHeight;
  if (top < scrollY + bar_) scrollTo(0, top - bar_ - gap);
  if (top + height > scrollY + innerHeight) scrollTo(0, top + height - innerHeight + gap);
  draw(true);
  drawn.get(place)?.focus({ preventScroll: true });
}

main.addEventListener("click", (event) => {
  const made = event.target.closest(".card");
  if (made) {
    focus = Number(made.dataset.place);
    open(focus);
  }
});
const STEPS = { ArrowRight: () => 1, ArrowLeft: () => -1, ArrowDown: () => columns, ArrowUp: () => -columns,
  PageDown: () => columns * 3, PageUp: () => -columns * 3 };
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select");
  if (event.key === "/" && !typing && !detail.open) {
    event.preventDefault();
    find.focus();
  } else if (detail.open && (event.key === "ArrowRight" || event.key === "ArrowLeft")) {
    const place = opened + STEPS[event.key]();
    if (place >= 0 && place < shown.length) {
      move(place);
      open(place);
    }
  } else if (!typing && !detail.open && STEPS[event.key]) {
    event.preventDefault();
    move(Math.min(shown.length - 1, Math.max(0, focus + STEPS[event.key]())));
  } else if (!typing && !detail.open && (event.key === "Home" || event.key === "End")) {
    event.preventDefault();
    move(event.key === "Home" ? 0 : shown.length - 1);
  } else if (event.key === "Escape" && typing === find) {
    find.value = "";
    select();
  }
});
detail.addEventListener("close", () => move(Math.max(0, opened)));
by("filter").addEventListener("submit", (event) => event.preventDefault());
let waiting = 0;
for (const control of [find, least, order, kind]) {
  control.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(select, rows.length > 20000 ? 120 : 0);
  });
}
addEventListener("scroll", () => requestAnimationFrame(() => draw(false)), { passive: true });
addEventListener("resize", layout);
const counts = new Map();
for (const row of rows) if (row[TOP] && row[TOP].length) counts.set(row[TOP][0][0], (counts.get(row[TOP][0][0]) || 0) + 1);
const common = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 500);
by("labels").replaceChildren(...common.map(([index, count]) => {
  const option = element("option");
  option.value = names[index];
  option.label = `${names[index]} (${count.toLocaleString()})`;
  return option;
}));
select();
