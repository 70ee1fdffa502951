"use strict";
(() => {
const $ = id => document.getElementById(id);
const page = JSON.parse($("page").textContent);
const { films, sheet, states, near, names } = page;
const total = films.id.length;
const NOBODY = 0xffff;
const modalities = ["text", "image"].filter(name => name in states);

/* What the page holds, unpacked. */
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer;
const maps = page.maps.map(map => ({ ...map, at: new Uint16Array(bytes(map.at)) }));
for (const name of modalities) {
  near[name].place = new Uint16Array(bytes(near[name].place));
  near[name].cosine = new Int16Array(bytes(near[name].cosine));
}
const placeOf = new Map(films.id.map((id, film) => [id, film]));
const title = film => (films.title && films.title[film]) || films.id[film];
const year = film => (films.year && films.year[film]) || null;
const named = film => title(film) + (year(film) && !title(film).includes(`(${year(film)}`) ? ` (${year(film)})` : "");
const plain = text => text.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").toLowerCase();
const sought = films.id.map((id, film) => plain(title(film)) + "\n" + id.toLowerCase());
const state = (name, film) => states[name].kinds[states[name].of[film]];
const embedded = (name, film) => near[name] && ["ok", "truncated"].includes(state(name, film)[0]);
function neighbours(name, film) {
  const { count, place, cosine } = near[name], found = [];
  for (let k = film * count; k < (film + 1) * count && place[k] !== NOBODY; k++) found.push([place[k], cosine[k] / 1e4]);
  return found;
}

/* Posters: tiny ones on sheets, larger ones decoded when they are looked at. */
const pictured = film => page.pictured[film] === "1";
const anyPicture = page.pictured.includes("1");
const perSheet = sheet.across * sheet.down;
const sheets = [...document.querySelectorAll("script.sheet")].map(part => {
  const image = new Image();
  image.src = "data:image/webp;base64," + part.textContent;
  image.decode().then(() => { image.ready = true; redraw(); }, () => {});
  return image;
});
const parts = [];
function pictureSource(film) {
  const part = Math.floor(film / sheet.together);
  if (!parts[part]) {
    const holder = document.querySelectorAll("script.pictures")[part];
    // while the page still loads, the last part may be there by half
    if (!holder || (document.readyState === "loading" && !holder.nextElementSibling)) return null;
    parts[part] = holder.textContent.split("\n");
  }
  return "data:image/webp;base64," + parts[part][film % sheet.together];
}
const pictures = new Map();  // film -> image, those used last at the end
let decoding = 0;
function picture(film) {
  let image = pictures.get(film);
  if (image) {
    pictures.delete(film);
    pictures.set(film, image);
    return image.ready ? image : null;
  }
  if (decoding >= 8) return null;
  const source = pictureSource(film);
  if (!source) return null;
  image = new Image();
  image.src = source;
  decoding++;
  const finished = () => { decoding--; redraw(); };
  image.decode().then(() => { image.ready = true; finished(); }, finished);
  pictures.set(film, image);
  if (pictures.size > 600) pictures.delete(pictures.keys().next().value);
  return null;
}

/* Small makers of elements: text is only ever text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
function thumb(film) {
  const source = pictured(film) && pictureSource(film);
  if (!source) return make("span", { class: "thumb", "aria-hidden": "true" }, title(film).slice(0, 1));
  const image = make("img", { class: "thumb", alt: "", width: sheet.poster[0], height: sheet.poster[1], decoding: "async" });
  image.src = source;
  return image;
}
const address = film => "#film=" + encodeURIComponent(films.id[film]);

/* Which films are listed: by words and a filter. */
let matching = null;  // null: all of them
let matches = [];
let shown = 60;
const filters = new Map([["", () => true]]);
function buildFilters() {
  const select = $("which");
  const offer = (group, key, label, keeps) => {
    let count = 0;
    for (let film = 0; film < total; film++) if (keeps(film)) count++;
    if (!count || count === total) return;
    filters.set(key, keeps);
    group.append(make("option", { value: key }, `${label} (${count.toLocaleString("en")})`));
  };
  select.append(make("option", { value: "" }, "All films"));
  const troubles = make("optgroup", { label: "Embeddings" });
  for (const name of modalities) {
    for (const status of ["truncated", "missing", "failed", "pending", "damaged"]) {
      offer(troubles, `${name} ${status}`, `${names[name]} ${status}`, film => state(name, film)[0] === status);
    }
  }
  if (troubles.children.length) select.append(troubles);
  if (!films.genre || !films.genre.length) return;
  const genres = make("optgroup", { label: "Genres" });
  films.genre.map((genre, number) => [genre, number]).sort().slice(0, 200)
    .forEach(([genre, number]) => offer(genres, `genre ${number}`, genre, film => films.genres[film].includes(number)));
  select.append(genres);
}
const alphabet = [...films.id.keys()];
if (films.title) {
  const order = new Intl.Collator("en", { numeric: true });
  const keys = alphabet.map(film => title(film).replace(/^[^\p{L}\p{N}]+/u, ""));
  alphabet.sort((a, b) => order.compare(keys[a], keys[b]) || a - b);
}
function search() {
  const words = plain($("words").value.trim()), keeps = filters.get($("which").value) || filters.get("");
  const narrowed = words !== "" || $("which").value !== "";
  matches = alphabet.filter(film => keeps(film) && (!words || sought[film].includes(words)));
  if (words) {
    const rank = film => (sought[film].startsWith(words) ? 0 : 1);
    matches.sort((a, b) => rank(a) - rank(b));
  }
  matching = narrowed ? new Set(matches) : null;
  shown = 60;
  list();
  redraw();
}
function entry(film) {
  const facts = [];
  if (named(film) !== title(film)) facts.push(String(year(film)));
  for (const name of modalities) {
    const status = state(name, film)[0];
    if (status !== "ok") facts.push(`${names[name]} ${status}`);
  }
  if (films.genres && films.genres[film].length) facts.push(films.genres[film].map(g => films.genre[g]).join(", "));
  if (films.title) facts.push(`id ${films.id[film]}`);
  const link = make("a", { href: address(film) }, thumb(film),
    make("span", {}, make("b", {}, title(film)), make("small", {}, facts.join(" · "))));
  return make("li", {}, link);
}
function list() {
  const some = matches.length;
  $("count").textContent = some
    ? `${some.toLocaleString("en")} film${some === 1 ? "" : "s"}${$("words").value.trim() ? " found" : ""}`
    : "No film has that in its title or id.";
  if (document.readyState === "loading") return;  // the posters are still on their way
  $("found").replaceChildren(...matches.slice(0, shown).map(entry));
  $("more").hidden = some <= shown;
}

/* One film: what it is, what became of its plot and poster, and what lies near. */
let selected = -1;
let marked = new Map();  // film -> which of text and image call it a neighbour of the selected one
function choose(film, how = {}) {
  selected = film;
  marked = new Map();
  if (film >= 0) {
    for (const name of modalities) {
      for (const [other] of neighbours(name, film)) marked.set(other, [...(marked.get(other) || []), name]);
    }
  }
  $("film").hidden = film < 0;
  $("list").hidden = film >= 0;
  if (film >= 0) show(film);
  else $("film").replaceChildren();
  if (film >= 0) $("side").scrollTop = 0;
  if (how.focus && film >= 0) $("film").querySelector("h2").focus({ preventScroll: false });
  if (how.move && film >= 0) comeTo(film);
  redraw();
}
function show(film) {
  const back = make("button", { type: "button", class: "back" }, "← All films");
  back.addEventListener("click", () => { go(-1); $("words").focus(); });
  const about = make("div", {}, make("h2", { tabindex: "-1" }, named(film)));
  const genres = films.genres && films.genres[film].map(g => films.genre[g]).join(" · ");
  if (genres) about.append(make("p", { class: "genres" }, genres));
  const list = make("ul", { class: "states" });
  for (const name of modalities) {
    const [status, why] = state(name, film);
    const kind = status === "ok" ? "" : status === "truncated" ? "cut" : "bad";
    const outcome = { ok: "embedded", truncated: "embedded in part" }[status] || status;
    list.append(make("li", { class: kind }, make("b", {}, `${names[name][0].toUpperCase()}${names[name].slice(1)} ${outcome}`), why ? `: ${why}` : ""));
  }
  if (films.title) list.append(make("li", { class: "plain" }, `id ${films.id[film]}`));
  about.append(list);
  const all = [back, make("div", { class: "top" }, thumb(film), about)];
  if (films.plot && films.plot[film]) all.push(make("p", { class: "plot" }, films.plot[film]));
  for (const name of modalities) {
    const found = neighbours(name, film), heading = make("h3", { class: name }, `Nearest by ${names[name]} `);
    all.push(heading);
    if (!found.length) {
      const why = embedded(name, film) ? "no other film has one" : `this film's ${names[name]} has no embedding`;
      all.push(make("p", { class: "muted small" }, `No neighbours by ${names[name]}: ${why}.`));
      continue;
    }
    heading.append(make("small", {}, "with their cosine"));
    all.push(make("ol", { class: "near " + name }, ...found.map(([other, cosine]) => {
      const both = marked.get(other).length > 1 ? " · in both" : "";
      return make("li", {}, make("a", { href: address(other), title: named(other) },
        thumb(other), make("b", {}, title(other)), make("small", {}, cosine.toFixed(3) + both)));
    })));
  }
  $("film").replaceChildren(...all);
}

/* The address names the film and the map, so that a view can be shared as a link. */
let current = maps[0];
function readAddress(how) {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const wanted = maps.find(map => `${map.space}-${map.layout}` === parameters.get("map"));
  if (wanted && wanted !== current) { current = wanted; checkChoices(); }
  const id = parameters.get("film"), film = placeOf.has(id) ? placeOf.get(id) : -1;
  describeMap();
  choose(film, how);
}
function go(film, how = {}) {
  const parameters = [];
  if (film >= 0) parameters.push(address(film).slice(1));
  if (current && current !== maps[0]) parameters.push(`map=${current.space}-${current.layout}`);
  history.pushState(null, "", parameters.length ? "#" + parameters.join("&") : location.pathname + location.search);
  choose(film, how);
}
// links, back and forward all end here: no two entries of the history share a hash, so popstate would only repeat it
window.addEventListener("hashchange", () => readAddress({ focus: true, move: true }));

/* Which map. */
const spaceNames = { text: "Plot", image: "Poster", both: "Both" };
const layoutNames = { near: "Neighbourhoods", main: "Main directions" };
function buildChoices() {
  const segments = (legend, name, options) => {
    const set = make("fieldset", { class: "segments" }, make("legend", { class: "hidden" }, legend));
    for (const [value, label] of options) {
      const input = make("input", { type: "radio", name, value });
      input.addEventListener("change", () => changeMap());
      set.append(make("label", {}, input, make("span", {}, label)));
    }
    $("choices").append(set);
  };
  const spaces = [...new Set(maps.map(map => map.space))];
  if (spaces.length > 1) segments("Films lie near each other by", "space", spaces.map(space => [space, spaceNames[space]]));
  segments("Layout", "layout", Object.entries(layoutNames));
  checkChoices();
}
function checkChoices() {
  for (const input of document.querySelectorAll("#choices input")) input.checked = current[input.name] === input.value;
}
function changeMap() {
  const picked = name => (document.querySelector(`#choices input[name=${name}]:checked`) || { value: current[name] }).value;
  const before = current;
  current = maps.find(map => map.space === picked("space") && map.layout === picked("layout"));
  const parameters = new URLSearchParams(location.hash.slice(1));
  parameters.delete("map");
  if (current !== maps[0]) parameters.set("map", `${current.space}-${current.layout}`);
  history.replaceState(null, "", String(parameters) ? "#" + parameters : location.pathname + location.search);
  describeMap();
  glide(before);
}
function describeMap() {
  const absent = total - current.placed;
  const by = current.space === "both" ? "plot and poster" : names[current.space];
  const how = current.layout === "near" ? "t-SNE of the nearest neighbours" : "two principal components";
  const without = absent ? `; ${absent.toLocaleString("en")} without an embedding ${absent === 1 ? "is" : "are"} not on it` : "";
  const description = `${current.placed.toLocaleString("en")} films by ${by}, ${how}${without}`;
  $("note").textContent = `${description}.`;
  $("map").setAttribute("aria-label", `Map of ${description}`);
}

/* The view: which part of the map is on the screen. The map is a unit square. */
const canvas = $("map"), brush = canvas.getContext("2d", { alpha: false });
let width = 0, height = 0, density = 1;
const view = { x: 0.5, y: 0.5, zoom: 1 };
const MOST_ZOOM = 240;
const moving = !matchMedia("(prefers-reduced-motion: reduce)").matches;
const scale = () => Math.min(width, height) * 0.92 * view.zoom;
let passage = null;  // places between two maps while one glides into the other
const onMap = film => current.at[2 * film] !== NOBODY;
function worldAt(film) {
  if (passage) return [passage.at[2 * film], passage.at[2 * film + 1]];
  return [current.at[2 * film] / 65534, current.at[2 * film + 1] / 65534];
}
function screenAt(film) {
  const [x, y] = worldAt(film), s = scale();
  return [(x - view.x) * s + width / 2, (y - view.y) * s + height / 2];
}
function zoomAt(x, y, factor) {
  const before = scale();
  view.zoom = Math.min(MOST_ZOOM, Math.max(0.6, view.zoom * factor));
  const after = scale();
  view.x += (x - width / 2) * (1 / before - 1 / after);
  view.y += (y - height / 2) * (1 / before - 1 / after);
  redraw();
}
let flight = 0;
function fly(x, y, zoom) {
  cancelAnimationFrame(flight);
  const from = { ...view }, start = performance.now(), lasts = moving ? 420 : 0;
  const step = now => {
    const part = lasts ? Math.min(1, Math.max(0, (now - start) / lasts)) : 1, ease = 1 - (1 - part) ** 3;
    view.zoom = from.zoom * (zoom / from.zoom) ** ease;
    view.x = from.x + (x - from.x) * ease;
    view.y = from.y + (y - from.y) * ease;
    redraw();
    if (part < 1) flight = requestAnimationFrame(step);
  };
  step(lasts ? start : start + 1);
}
function comeTo(film) {
  if (!onMap(film)) return;
  // the nearest by what this map shows: three quarters of them, lest one far away shrink the others
  const by = current.space === "both" ? modalities : [current.space], here = worldAt(film);
  const others = by.flatMap(name => neighbours(name, film)).map(([other]) => other).filter(onMap).map(worldAt);
  others.sort((a, b) => Math.hypot(a[0] - here[0], a[1] - here[1]) - Math.hypot(b[0] - here[0], b[1] - here[1]));
  const kept = [here, ...others.slice(0, Math.ceil(0.75 * others.length))], side = Math.min(width, height) * 0.92;
  const [xs, ys] = [0, 1].map(axis => kept.map(at => at[axis]));
  const range = all => Math.max(...all) - Math.min(...all) || 0.01;
  const middleOf = all => (Math.max(...all) + Math.min(...all)) / 2;
  const zoom = Math.min((width * 0.84) / (range(xs) * side), (height * 0.8) / (range(ys) * side));
  fly(middleOf(xs), middleOf(ys), Math.min(9, Math.max(1, zoom)));
}
function glide(before) {
  cancelAnimationFrame(flight);
  if (!moving || before === current) { passage = null; if (selected >= 0) comeTo(selected); redraw(); return; }
  const start = performance.now(), from = before.at, to = current.at;
  const at = new Float32Array(2 * total);
  const step = now => {
    const part = Math.min(1, Math.max(0, (now - start) / 600)), ease = part < 0.5 ? 4 * part ** 3 : 1 - (2 - 2 * part) ** 3 / 2;
    for (let k = 0; k < at.length; k++) at[k] = ((from[k] === NOBODY ? to[k] : from[k]) * (1 - ease) + to[k] * ease) / 65534;
    passage = part < 1 ? { at } : null;
    redraw();
    if (part < 1) flight = requestAnimationFrame(step);
    else if (selected >= 0) comeTo(selected);
  };
  step(start);
}

/* Drawing. */
const colours = {};
function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["sunk", "card", "ink", "muted", "rule", "accent", "series-1", "series-2"]) {
    colours[name] = style.getPropertyValue("--" + name).trim();
  }
}
function posterWidth() {
  const fill = 1.15 * Math.sqrt((0.55 * Math.min(width, height) ** 2) / Math.max(1, current.placed) / 1.5);
  return Math.min(112, Math.max(9, Math.min(56, fill) * view.zoom ** 0.82));
}
function drawPoster(film, x, y, w) {
  const h = w * 1.5, left = x - w / 2, top = y - h / 2;
  if (pictured(film)) {
    const large = w * density > sheet.tile[0] * 1.15 ? picture(film) : null;
    if (large) { brush.drawImage(large, left, top, w, h); return; }
    const tiny = sheets[Math.floor(film / perSheet)];
    if (tiny && tiny.ready) {
      const k = film % perSheet, [tw, th] = sheet.tile;
      brush.drawImage(tiny, (k % sheet.across) * tw, Math.floor(k / sheet.across) * th, tw, th, left, top, w, h);
      return;
    }
  }
  // hollow: other films have a poster, this one has none; filled: it is still being decoded, or the page has no posters
  const absent = anyPicture && !pictured(film);
  brush.lineWidth = 1;
  if (w < 26) {
    brush.fillStyle = absent ? colours.sunk : colours.muted;
    brush.strokeStyle = colours.muted;
    brush.beginPath();
    brush.arc(x, y, Math.max(1.8, w / 7), 0, 7);
    brush.fill();
    brush.stroke();
    return;
  }
  brush.fillStyle = absent ? colours.sunk : colours.card;
  brush.strokeStyle = absent ? colours.muted : colours.rule;
  brush.fillRect(left, top, w, h);
  if (absent) brush.setLineDash([4, 3]);
  brush.strokeRect(left + 0.5, top + 0.5, w - 1, h - 1);
  brush.setLineDash([]);
  if (w > 44) writeTitle(film, left, top, w, h);
}
function writeTitle(film, left, top, w, h) {
  const size = Math.max(8, w / 9), most = Math.floor((h - 10) / (size * 1.25));
  brush.fillStyle = colours.ink;
  brush.font = `600 ${size}px ${getComputedStyle(document.body).fontFamily}`;
  brush.textAlign = "left";
  brush.textBaseline = "top";
  const lines = [""];
  for (const word of title(film).slice(0, 80).split(/\s+/)) {
    const longer = lines.at(-1) ? lines.at(-1) + " " + word : word;
    if (!lines.at(-1) || brush.measureText(longer).width <= w - 10) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  lines.slice(0, most).forEach((line, number) => brush.fillText(line, left + 5, top + 6 + number * size * 1.25, w - 10));
}
function frame(x, y, w, colour, thick, offset = 0) {
  brush.strokeStyle = colour;
  brush.lineWidth = thick;
  const grow = thick / 2 + offset;
  brush.strokeRect(x - w / 2 - grow, y - w * 0.75 - grow, w + 2 * grow, w * 1.5 + 2 * grow);
}
let drawn = [];  // [film, x, y, w] in the order they were drawn, for the pointer
function draw() {
  brush.setTransform(density, 0, 0, density, 0, 0);
  brush.imageSmoothingQuality = "medium";
  brush.fillStyle = colours.sunk;
  brush.fillRect(0, 0, width, height);
  drawn = [];
  const w = posterWidth(), margin = w;
  const above = [], chosen = selected >= 0 && onMap(selected);
  const pass = some => {
    for (let film = 0; film < total; film++) {
      if (!onMap(film) || !some(film)) continue;
      const [x, y] = screenAt(film);
      if (x < -margin || x > width + margin || y < -1.5 * margin || y > height + 1.5 * margin) continue;
      if (chosen && (film === selected || marked.has(film))) { above.push([film, x, y]); continue; }
      drawPoster(film, x, y, w);
      drawn.push([film, x, y, w]);
    }
  };
  const veil = thickness => {
    brush.globalAlpha = thickness;
    brush.fillStyle = colours.sunk;
    brush.fillRect(0, 0, width, height);
    brush.globalAlpha = 1;
  };
  if (matching) {
    pass(film => !matching.has(film) && !(chosen && marked.has(film)));
    veil(0.86);
    pass(film => matching.has(film) || (chosen && marked.has(film)));
  } else pass(() => true);
  if (chosen) veil(0.72);
  if (chosen) drawSelection(above, w);
  if (document.activeElement === canvas && canvas.matches(":focus-visible")) drawCross();
  if (!draw.finished && (sheets.length === 0 || sheets.every(image => image.ready))) {
    draw.finished = true;
    performance.mark("map-drawn");
    document.documentElement.dataset.map = "drawn";
  }
}
function drawSelection(above, w) {
  const [sx, sy] = screenAt(selected), nearer = Math.max(w, 34);
  for (const name of modalities) {
    brush.strokeStyle = colours[name === "text" ? "series-1" : "series-2"];
    const own = current.space === "both" || current.space === name;
    brush.lineWidth = own ? 1.75 : 1;
    brush.globalAlpha = own ? 0.9 : 0.45;
    brush.setLineDash(name === "text" ? [] : [5, 4]);
    for (const [other] of neighbours(name, selected)) {
      if (!onMap(other)) continue;
      const [x, y] = screenAt(other);
      brush.beginPath();
      brush.moveTo(sx, sy);
      brush.lineTo(x, y);
      brush.stroke();
    }
  }
  brush.setLineDash([]);
  brush.globalAlpha = 1;
  for (const [film, x, y] of above) {
    if (film === selected) continue;
    drawPoster(film, x, y, nearer);
    marked.get(film).forEach((name, ring) => frame(x, y, nearer, colours[name === "text" ? "series-1" : "series-2"], 2.5, ring * 2.5));
    drawn.push([film, x, y, nearer]);
  }
  const large = Math.max(1.3 * w, 56);
  drawPoster(selected, sx, sy, large);
  frame(sx, sy, large, colours.ink, 3.5);
  drawn.push([selected, sx, sy, large]);
}
function drawCross() {
  brush.strokeStyle = colours.ink;
  brush.lineWidth = 1.5;
  brush.beginPath();
  brush.arc(width / 2, height / 2, 13, 0, 7);
  brush.stroke();
}
let waiting = false;
function redraw() {
  if (waiting || !width) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
}
function measure() {
  const box = $("stage").getBoundingClientRect();
  width = Math.round(box.width);
  height = Math.round(box.height);
  density = Math.min(window.devicePixelRatio || 1, 2.5);
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(height * density);
  draw();
}

/* Pointer, wheel, touch, keys. */
function filmAt(x, y, slack = 0) {
  for (let k = drawn.length - 1; k >= 0; k--) {
    const [film, fx, fy, w] = drawn[k];
    if (matching && !matching.has(film) && film !== selected && !marked.has(film)) continue;
    const reach = Math.max(w / 2, 5) + slack;
    if (Math.abs(x - fx) <= reach && Math.abs(y - fy) <= reach * 1.5) return film;
  }
  return -1;
}
const fingers = new Map();
let travelled = 0;
const local = event => {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};
canvas.addEventListener("pointerdown", event => {
  cancelAnimationFrame(flight);
  canvas.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, local(event));
  if (fingers.size === 1) travelled = 0;
});
canvas.addEventListener("pointermove", event => {
  const [x, y] = local(event), held = fingers.get(event.pointerId);
  if (!held) { hover(x, y, event.pointerType); return; }
  const others = [...fingers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
  travelled += Math.abs(x - held[0]) + Math.abs(y - held[1]);
  if (others.length) {
    const [ox, oy] = others[0], before = Math.hypot(held[0] - ox, held[1] - oy), after = Math.hypot(x - ox, y - oy);
    travelled = 99;
    if (before > 0) zoomAt((x + ox) / 2, (y + oy) / 2, after / before);
    view.x -= (x - held[0]) / 2 / scale();
    view.y -= (y - held[1]) / 2 / scale();
  } else if (travelled > 4) {
    canvas.classList.add("dragged");
    $("tip").hidden = true;
    view.x -= (x - held[0]) / scale();
    view.y -= (y - held[1]) / scale();
  }
  fingers.set(event.pointerId, [x, y]);
  redraw();
});
for (const end of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(end, event => {
    const held = fingers.delete(event.pointerId);
    canvas.classList.remove("dragged");
    if (end === "pointercancel" || !held || fingers.size || travelled > 4) return;
    const film = filmAt(...local(event), event.pointerType === "touch" ? 6 : 0);
    if (film !== selected) go(film);
  });
}
canvas.addEventListener("pointerleave", () => { $("tip").hidden = true; });
function hover(x, y, kind) {
  const film = kind === "touch" ? -1 : filmAt(x, y), tip = $("tip");
  canvas.classList.toggle("over", film >= 0);
  tip.hidden = film < 0;
  if (film < 0) return;
  tip.textContent = named(film);
  const left = Math.min(x + 14, width - tip.offsetWidth - 6), top = y + 20 + tip.offsetHeight > height ? y - tip.offsetHeight - 10 : y + 18;
  tip.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, top)}px)`;
}
canvas.addEventListener("wheel", event => {
  event.preventDefault();
  cancelAnimationFrame(flight);
  zoomAt(...local(event), Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.05 : event.ctrlKey ? 0.01 : 0.0018)));
}, { passive: false });
canvas.addEventListener("dblclick", event => zoomAt(...local(event), 2));
let announcing = 0;
function middle() {
  let best = -1, least = Infinity;
  for (const [film, x, y] of drawn) {
    if (matching && !matching.has(film)) continue;
    const far = (x - width / 2) ** 2 + (y - height / 2) ** 2;
    if (far <= least) { least = far; best = film; }
  }
  return best;
}
canvas.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const step = 0.15 * Math.min(width, height) / scale();
  const keys = {
    ArrowLeft: () => { view.x -= step; }, ArrowRight: () => { view.x += step; },
    ArrowUp: () => { view.y -= step; }, ArrowDown: () => { view.y += step; },
    "+": () => zoomAt(width / 2, height / 2, 1.5), "=": () => zoomAt(width / 2, height / 2, 1.5),
    "-": () => zoomAt(width / 2, height / 2, 1 / 1.5), "0": () => fly(0.5, 0.5, 1),
    Enter: () => { draw(); const film = middle(); if (film >= 0) go(film, { focus: true }); },
    Escape: () => { if (selected >= 0) go(-1); },
  };
  if (!(event.key in keys)) return;
  event.preventDefault();
  cancelAnimationFrame(flight);
  keys[event.key]();
  redraw();
  clearTimeout(announcing);
  announcing = setTimeout(() => { const film = middle(); if (film >= 0) $("announcement").textContent = `In the middle: ${named(film)}`; }, 500);
});
canvas.addEventListener("focus", redraw);
canvas.addEventListener("blur", redraw);
$("film").addEventListener("keydown", event => {
  if (event.key === "Escape") { go(-1); $("words").focus(); }
});
$("closer").addEventListener("click", () => fly(view.x, view.y, Math.min(MOST_ZOOM, view.zoom * 1.8)));
$("farther").addEventListener("click", () => fly(view.x, view.y, Math.max(0.6, view.zoom / 1.8)));
$("whole").addEventListener("click", () => fly(0.5, 0.5, 1));
$("words").addEventListener("input", () => { if (selected >= 0) go(-1); search(); });
$("words").addEventListener("keydown", event => {
  const first = $("found").querySelector("a");
  if (event.key === "ArrowDown" && first) { event.preventDefault(); first.focus(); }
  else if (event.key === "Enter" && first && matches.length) { event.preventDefault(); go(matches[0], { focus: true, move: true }); }
  else if (event.key === "Escape" && !event.target.value && selected >= 0) go(-1);
});
$("found").addEventListener("keydown", event => {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const here = document.activeElement.closest("li"), next = event.key === "ArrowDown" ? here.nextElementSibling : here.previousElementSibling;
  event.preventDefault();
  if (next) next.querySelector("a").focus();
  else if (event.key === "ArrowUp") $("words").focus();
});
$("which").addEventListener("change", () => { if (selected >= 0) go(-1); search(); });
$("more").addEventListener("click", () => {
  const first = shown;
  shown += 120;
  list();
  $("found").children[first].querySelector("a").focus();
});

/* Begin. */
readColours();
buildChoices();
buildFilters();
measure();
new ResizeObserver(measure).observe($("stage"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); redraw(); });
search();
readAddress({ move: location.hash.length > 1 });
document.addEventListener("DOMContentLoaded", () => {
  // by now the larger posters are here too
  list();
  if (selected >= 0) show(selected);
  redraw();
});
})();
