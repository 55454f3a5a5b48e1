/* Colours, and the pictures that the page draws on canvases. */

import { el } from "./html.js";
import { extent, largestSize, row, total } from "./numbers.js";

/** @import { Matrix } from "./numbers.js" */

/**
 * Red, green and blue, 0 to 255.
 * @typedef {number[]} Rgb
 *
 * One side of a grid; `at` is the row or column that is marked, in the colour of `role`.
 * @typedef {{names: string[], title: string, role: string, at?: number}} Axis
 *
 * The cell of a grid under the pointer.
 * @typedef {(event: MouseEvent) => {row: number, column: number} | null} CellAt
 */

/** @type {Map<string, Rgb>} */
const palette = new Map();

/** A colour of the style sheet. It is kept, because reading it is slow.
 * @param {string} name
 * @returns {Rgb}
 */
export function colour(name) {
  const known = palette.get(name);
  if (known) return known;
  const hex = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const rgb = [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
  palette.set(name, rgb);
  return rgb;
}

/** Read the colours again: the colour scheme is another one. */
export function forgetColours() {
  palette.clear();
}

/** @param {Rgb} rgb */
export function css([red, green, blue]) {
  return `rgb(${red} ${green} ${blue})`;
}

/** The one ramp for weights: from paper to ink. The square root makes small weights visible.
 * @returns {(share: number) => Rgb}
 */
export function ramp() {
  const [paper, ink] = [colour("paper"), colour("ink")];
  return (share) => {
    const level = Math.sqrt(Math.min(Math.max(share, 0), 1));
    return paper.map((from, i) => Math.round(from + (ink[i] - from) * level));
  };
}

/** Black or white, whichever reads better on a colour.
 * @param {Rgb} rgb
 */
export function readableOn(rgb) {
  const [r, g, b] = rgb.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000000" : "#ffffff";
}

// --- pictures of matrices ----------------------------------------------------------------------

/** A picture with a pixel for each entry of a matrix; `rgbAt` may leave it empty.
 * @param {number} rows
 * @param {number} columns
 * @param {(row: number, column: number) => Rgb | null} rgbAt
 */
export function pixels(rows, columns, rgbAt) {
  const canvas = el("canvas", { width: columns, height: rows });
  const image = new ImageData(columns, rows);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      const rgb = rgbAt(i, j);
      if (rgb) image.data.set([...rgb, 255], 4 * (i * columns + j));
    }
  }
  contextOf(canvas).putImageData(image, 0, 0);
  return canvas;
}

/** Weights (T, T); later keys stay empty.
 * @param {Matrix} weights
 * @param {number} T
 */
export function weightPixels(weights, T) {
  const shade = ramp();
  return pixels(T, T, (i, j) => (j <= i ? shade(weights[i * T + j]) : null));
}

/** Numbers of any sign: the lowest is paper, the highest ink; −∞ stays empty.
 * @param {Matrix} values
 * @param {number} rows
 * @param {number} columns
 */
export function valuePixels(values, rows, columns) {
  const shade = ramp();
  const [low, high] = extent(values.filter(Number.isFinite));
  return pixels(rows, columns, (i, j) => {
    const value = values[i * columns + j];
    return value === -Infinity ? null : shade(((value - low) / (high - low || 1)) ** 2);
  });
}

/** Each row's numbers above its mean; the mean and all below it are paper. A softmax depends on such
 * differences along a row only.
 * @param {Matrix} values
 * @param {number} rows
 * @param {number} columns
 */
export function standingOut(values, rows, columns) {
  const shade = ramp();
  const means = Array.from({ length: rows }, (_, i) => total(row(values, i, columns)) / columns);
  const above = values.map((value, n) => Math.max(0, value - means[Math.floor(n / columns)]));
  const high = extent(above)[1];
  return pixels(rows, columns, (i, j) => shade((above[i * columns + j] / (high || 1)) ** 2));
}

// --- drawing -----------------------------------------------------------------------------------

/** @param {HTMLCanvasElement} canvas */
function contextOf(canvas) {
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
}

/** Size a canvas in CSS pixels, sharp on dense screens.
 * @param {HTMLCanvasElement} canvas
 * @param {number} width
 * @param {number} height
 */
export function sized(canvas, width, height) {
  const density = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * density);
  canvas.height = Math.round(height * density);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = contextOf(canvas);
  context.scale(density, density);
  return context;
}

/** Show a picture as it is.
 * @param {HTMLCanvasElement} canvas
 * @param {HTMLCanvasElement} picture
 */
export function copyPicture(canvas, picture) {
  Object.assign(canvas, { width: picture.width, height: picture.height });
  contextOf(canvas).drawImage(picture, 0, 0);
}

const EDGE = 34; // pixels for the labels of a grid

/** A picture of a matrix with its axes, and frames around the marked row and cell.
 * @param {HTMLCanvasElement} canvas
 * @param {{picture: HTMLCanvasElement, rows: Axis, columns: Axis, most: number}} grid  at most
 *   `most` pixels wide
 * @returns {CellAt}
 */
export function drawGrid(canvas, { picture, rows, columns, most }) {
  const cell = Math.max(3, Math.min(22, Math.floor((most - EDGE) / columns.names.length)));
  const [width, height] = [cell * columns.names.length, cell * rows.names.length];
  const context = sized(canvas, EDGE + width + 1, EDGE + height + 1);
  context.fillStyle = css(colour("paper"));
  context.fillRect(0, 0, EDGE + width + 1, EDGE + height + 1);
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, EDGE, EDGE, width, height);
  drawLabels(context, rows, columns, cell);
  drawTitles(context, rows, columns);
  drawFrames(context, rows, columns, cell);
  return (event) => {
    const box = canvas.getBoundingClientRect();
    const scale = (EDGE + width + 1) / box.width;
    const [column, line] = [event.clientX - box.left, event.clientY - box.top].map((along) =>
      Math.floor((along * scale - EDGE) / cell),
    );
    const inside =
      column >= 0 && line >= 0 && column < columns.names.length && line < rows.names.length;
    return inside ? { row: line, column } : null;
  };
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Axis} rows
 * @param {Axis} columns
 * @param {number} cell
 */
function drawLabels(context, rows, columns, cell) {
  context.font = `${Math.max(9, Math.min(13, cell + 2))}px monospace`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  const along = (
    /** @type {Axis} */ axis,
    /** @type {(middle: number) => [number, number]} */ place,
  ) =>
    axis.names.forEach((text, i) => {
      const marked = i === axis.at;
      context.fillStyle = css(colour(marked ? axis.role : "soft"));
      const shown = [...text].length > 2 ? "¤" : text;
      if (cell >= 7 || marked) context.fillText(shown, ...place(EDGE + (i + 0.5) * cell));
    });
  along(rows, (middle) => [EDGE - 9, middle]);
  along(columns, (middle) => [middle, EDGE - 9]);
}

/** @param {CanvasRenderingContext2D} context @param {Axis} rows @param {Axis} columns */
function drawTitles(context, rows, columns) {
  context.font = `12px sans-serif`;
  context.textAlign = "left";
  context.fillStyle = css(colour(columns.role));
  context.fillText(`${columns.title} →`, EDGE, 9);
  context.save();
  context.translate(9, EDGE);
  context.rotate(Math.PI / 2);
  context.fillStyle = css(colour(rows.role));
  context.fillText(`${rows.title} →`, 0, 0);
  context.restore();
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Axis} rows
 * @param {Axis} columns
 * @param {number} cell
 */
function drawFrames(context, rows, columns, cell) {
  const [line, column] = [rows.at ?? -1, columns.at ?? -1];
  if (line < 0) return;
  context.lineWidth = 2;
  context.strokeStyle = css(colour(rows.role));
  context.strokeRect(EDGE, EDGE + line * cell, cell * columns.names.length, cell);
  if (column < 0) return;
  context.strokeStyle = css(colour(columns.role));
  context.strokeRect(EDGE + column * cell, EDGE + line * cell, cell, cell);
}

/** Numbers as bars up and down from a line, in a role's colour.
 * @param {HTMLCanvasElement} canvas
 * @param {Matrix} values
 * @param {string} role
 * @param {{width: number, height: number, most?: number}} size  `most`: a number of this size fills
 *   the height
 */
export function drawStrip(canvas, values, role, { width, height, most = largestSize(values) }) {
  const context = sized(canvas, width, height);
  const scale = height / 2 / (most || 1);
  const step = width / values.length;
  context.fillStyle = css(colour("line"));
  context.fillRect(0, height / 2, width, 1);
  context.fillStyle = css(colour(role));
  values.forEach((value, i) => {
    context.fillRect(i * step, height / 2, Math.max(1, step - (step > 3 ? 1 : 0)), -value * scale);
  });
}

/** Contributions laid end to end, from zero to their sum.
 * @param {HTMLCanvasElement} canvas
 * @param {number[]} parts
 * @param {number} sum
 * @param {{width: number, height: number}} size
 */
export function drawWaterfall(canvas, parts, sum, { width, height }) {
  const ends = [0];
  for (const part of parts) ends.push(ends[ends.length - 1] + part);
  const [low, high] = extent(ends);
  const context = sized(canvas, width, height);
  const y = (/** @type {number} */ value) =>
    8 + ((high - value) / (high - low || 1)) * (height - 16);
  /** From the height of one value to that of another. */
  const bar = (
    /** @type {number} */ x,
    /** @type {number} */ wide,
    /** @type {number[]} */ ...values
  ) => {
    const [top, bottom] = values.map(y).sort((a, b) => a - b);
    context.fillRect(x, top, wide, Math.max(1, bottom - top));
  };
  const step = (width - 30) / parts.length;
  context.fillStyle = css(colour("line"));
  context.fillRect(0, y(0), width, 1);
  parts.forEach((part, i) => {
    context.fillStyle = css(colour(part >= 0 ? "ink" : "soft"));
    bar(i * step, Math.max(1, step - 1), ends[i], ends[i + 1]);
  });
  context.fillStyle = css(colour("output"));
  bar(width - 24, 24, 0, sum);
}
