/* Characters as people read them, and the few kinds of pictures that the page is made of. */

/** A new element; `properties` are set on it, strings among the children become text. */
function el(tag, properties = {}, ...children) {
  const { data = {}, aria = {}, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  Object.assign(element.dataset, data);
  for (const [name, value] of Object.entries(aria)) element.setAttribute(`aria-${name}`, value);
  element.append(...children);
  return element;
}

function find(id) {
  return document.getElementById(id);
}

// --- characters --------------------------------------------------------------------------------

const NAMES = { " ": "space", "\n": "line end", "\t": "tab", "'": "apostrophe" };

/** A character so that it can be seen: white space has glyphs, what has no shape has its number. */
function glyph(character) {
  if (app.data.glyphs[character]) return app.data.glyphs[character];
  if (/\p{M}/u.test(character)) return `◌${character}`;
  return /[\p{C}\p{Z}]/u.test(character) ? codePoint(character) : character;
}

function codePoint(character) {
  return `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}

/** A character in a sentence: 'u', or space, or U+202E. */
function said(character) {
  return NAMES[character] ?? `'${glyph(character)}'`;
}

// --- numbers -----------------------------------------------------------------------------------

function percent(share) {
  if (Number.isNaN(share)) return "–";
  const value = 100 * share;
  if (value > 0 && value < 0.1) return "<\u00a00.1\u00a0%";
  return `${value >= 9.95 || value === 0 ? value.toFixed(0) : value.toFixed(1)}\u00a0%`;
}

function number(value, digits = 2) {
  if (Number.isNaN(value)) return "–";
  if (value === -Infinity) return "−∞";
  return value
    .toFixed(digits)
    .replace(/^-(?=.*[1-9])/, "−")
    .replace(/^-/, "");
}

function signed(value, digits = 2) {
  const text = number(value, digits);
  return value > 0 && /[1-9]/.test(text) ? `+${text}` : text;
}

// --- colours -----------------------------------------------------------------------------------

const palette = new Map();

/** A colour of the style sheet, as [red, green, blue]. Reading it is slow: it is kept. */
function colour(name) {
  if (!palette.has(name)) {
    const hex = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
    palette.set(
      name,
      [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16)),
    );
  }
  return palette.get(name);
}

function css([red, green, blue]) {
  return `rgb(${red} ${green} ${blue})`;
}

/** The one ramp for weight: from paper to ink. The root lets small weights be seen. */
function ramp() {
  const [paper, ink] = [colour("paper"), colour("ink")];
  return (share) => {
    const level = Math.sqrt(Math.min(Math.max(share, 0), 1));
    return paper.map((from, i) => Math.round(from + (ink[i] - from) * level));
  };
}

/** Black or white, whichever reads better on a colour. */
function readableOn(rgb) {
  const [r, g, b] = rgb.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000000" : "#ffffff";
}

// --- pictures ----------------------------------------------------------------------------------

/** Size a canvas in CSS pixels and give its context, sharp on dense screens. */
function contextOf(canvas, width, height) {
  const density = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(height * density);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(density, density);
  return context;
}

/** A picture of `columns` × `rows` pixels; `rgbAt(row, column)` gives each, or null for none. */
function pixels(rows, columns, rgbAt) {
  const canvas = el("canvas", { width: columns, height: rows });
  const image = new ImageData(columns, rows);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      const rgb = rgbAt(i, j);
      if (rgb) image.data.set([...rgb, 255], 4 * (i * columns + j));
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function paste(context, picture, x, y, width, height) {
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, x, y, width, height);
}

/** Weights (T, T) as pixels; the future stays empty. */
function weightPixels(weights, T) {
  const shade = ramp();
  return pixels(T, T, (i, j) => (j <= i ? shade(weights[i * T + j]) : null));
}

/** Numbers of any sign as pixels of the same ramp, the lowest paper, the highest ink. */
function valuePixels(values, rows, columns) {
  const shade = ramp();
  const [low, high] = extent(values);
  return pixels(rows, columns, (i, j) =>
    shade(((values[i * columns + j] - low) / (high - low || 1)) ** 2),
  );
}

/** What stands out in each row, as pixels of the ramp: its mean and all below it are paper. A
 * softmax sees only such differences along a row. */
function standingOut(values, rows, columns) {
  const shade = ramp();
  const means = Array.from({ length: rows }, (_, i) => total(row(values, i, columns)) / columns);
  const above = values.map((value, n) => Math.max(0, value - means[Math.floor(n / columns)]));
  const high = extent(above)[1];
  return pixels(rows, columns, (i, j) => shade((above[i * columns + j] / (high || 1)) ** 2));
}

function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

/** A table picture with its axes: cells, glyphs along both sides, and a frame around a row or a cell.
 *
 * `rows` and `columns` are { names, title, role, at }: the one marked, if any, in the role's colour.
 */
function drawGrid(canvas, { picture, rows, columns, most }) {
  const edge = 34;
  const cell = Math.max(3, Math.min(22, Math.floor((most - edge) / columns.names.length)));
  const [width, height] = [cell * columns.names.length, cell * rows.names.length];
  const context = contextOf(canvas, edge + width + 1, edge + height + 1);
  context.fillStyle = css(colour("paper"));
  context.fillRect(0, 0, edge + width + 1, edge + height + 1);
  paste(context, picture, edge, edge, width, height);
  context.font = `${Math.max(9, Math.min(13, cell + 2))}px monospace`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  const label = (text, x, y, marked, role) => {
    context.fillStyle = css(colour(marked ? role : "soft"));
    if (cell >= 7 || marked) context.fillText([...text].length > 2 ? "¤" : text, x, y);
  };
  rows.names.forEach((text, i) =>
    label(text, edge - 9, edge + (i + 0.5) * cell, i === rows.at, rows.role),
  );
  columns.names.forEach((text, j) =>
    label(text, edge + (j + 0.5) * cell, edge - 9, j === columns.at, columns.role),
  );
  context.font = `12px sans-serif`;
  context.textAlign = "left";
  context.fillStyle = css(colour(columns.role));
  context.fillText(`${columns.title} →`, edge, 9);
  context.save();
  context.translate(9, edge);
  context.rotate(Math.PI / 2);
  context.fillStyle = css(colour(rows.role));
  context.fillText(`${rows.title} →`, 0, 0);
  context.restore();
  context.lineWidth = 2;
  if (rows.at >= 0) {
    context.strokeStyle = css(colour(rows.role));
    context.strokeRect(edge, edge + rows.at * cell, width, cell);
  }
  if (rows.at >= 0 && columns.at >= 0) {
    context.strokeStyle = css(colour(columns.role));
    context.strokeRect(edge + columns.at * cell, edge + rows.at * cell, cell, cell);
  }
  canvas.cellAt = (event) => {
    const box = canvas.getBoundingClientRect();
    const scale = (edge + width + 1) / box.width;
    const [column, line] = [event.clientX - box.left, event.clientY - box.top].map((along) =>
      Math.floor((along * scale - edge) / cell),
    );
    const inside =
      column >= 0 && line >= 0 && column < columns.names.length && line < rows.names.length;
    return inside ? { row: line, column } : null;
  };
}

/** Numbers as bars up and down from a line, in a role's colour. */
function drawStrip(canvas, values, role, { width = 320, height = 36 } = {}) {
  const context = contextOf(canvas, width, height);
  const [low, high] = extent(values);
  const scale = height / 2 / (Math.max(-low, high) || 1);
  const step = width / values.length;
  context.fillStyle = css(colour("line"));
  context.fillRect(0, height / 2, width, 1);
  context.fillStyle = css(colour(role));
  values.forEach((value, i) => {
    context.fillRect(i * step, height / 2, Math.max(1, step - (step > 3 ? 1 : 0)), -value * scale);
  });
}

/** Contributions laid end to end, the largest first, from zero to their sum. */
function drawWaterfall(canvas, parts, sum, { width, height = 150 }) {
  const ends = [0];
  for (const part of parts) ends.push(ends.at(-1) + part);
  const [low, high] = extent(ends);
  const context = contextOf(canvas, width, height);
  const y = (value) => 8 + ((high - value) / (high - low || 1)) * (height - 16);
  const step = (width - 30) / parts.length;
  context.fillStyle = css(colour("line"));
  context.fillRect(0, y(0), width, 1);
  parts.forEach((part, i) => {
    context.fillStyle = css(colour(part >= 0 ? "ink" : "soft"));
    const top = Math.min(y(ends[i]), y(ends[i + 1]));
    context.fillRect(
      i * step,
      top,
      Math.max(1, step - 1),
      Math.max(1, Math.abs(y(ends[i]) - y(ends[i + 1]))),
    );
  });
  context.fillStyle = css(colour("output"));
  context.fillRect(width - 24, Math.min(y(0), y(sum)), 24, Math.max(1, Math.abs(y(0) - y(sum))));
}

/** Rows of name, bar and number. `from` and `to` are shares of the width. */
function barRows(rows) {
  const list = el("ul", { className: "bars" });
  for (const { name, from = 0, to, text, role = "ink", marked = false, ghost = null } of rows) {
    const bar = el("span", { className: `bar ${role}` });
    bar.style.left = `${100 * Math.min(from, to)}%`;
    bar.style.width = `${100 * Math.abs(to - from)}%`;
    const track = el("span", { className: "track" }, bar);
    if (ghost !== null) {
      const before = el("span", { className: "ghost" });
      before.style.left = `${100 * ghost}%`;
      track.append(before);
    }
    const line = el(
      "li",
      {},
      el("span", { className: "name", textContent: name }),
      track,
      el("span", { className: "amount", textContent: text }),
    );
    if (marked) line.className = "marked";
    list.append(line);
  }
  return list;
}

/** Bars of numbers of both signs around a common zero. */
function signedRows(parts, role) {
  const [low, high] = extent([0, ...parts.map((part) => part.score)]);
  const zero = -low / (high - low || 1);
  return barRows(
    parts.map(({ name, score }) => ({
      name,
      from: zero,
      to: zero + score / (high - low || 1),
      text: signed(score),
      role,
    })),
  );
}

/** A table that is made when it is opened: each picture's numbers, for those who cannot see it. */
function numbersTable(summary, make) {
  const details = el(
    "details",
    { className: "numbers-table" },
    el("summary", { textContent: summary }),
  );
  const fill = () => {
    if (!details.open) return;
    const { head, rows } = make();
    const table = el(
      "table",
      {},
      el("caption", { textContent: summary }),
      el("thead", {}, tableRow("th", head, "col")),
    );
    table.append(el("tbody", {}, ...rows.map((cells) => tableRow("td", cells))));
    details.replaceChildren(
      details.firstChild,
      el("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: summary }, table),
    );
  };
  details.addEventListener("toggle", fill);
  details.refresh = fill;
  return details;
}

function tableRow(tag, cells, scope) {
  const make = (text, first) => {
    const cell = el(first && tag === "td" ? "th" : tag, { textContent: text });
    if (scope || first) cell.scope = scope ?? "row";
    return cell;
  };
  return el("tr", {}, ...cells.map((text, i) => make(text, i === 0)));
}
