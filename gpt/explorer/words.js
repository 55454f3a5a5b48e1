/* Characters and numbers as the page writes them. */

import { app, characterAt } from "./app.js";

/** @type {Record<string, string>} */
const NAMES = { " ": "space", "\n": "line end", "\t": "tab", "'": "apostrophe" };

/** A visible form of a character: white space has glyphs, what has no shape has its number.
 * @param {string} character
 */
export function glyph(character) {
  if (app.data.glyphs[character]) return app.data.glyphs[character];
  if (/\p{M}/u.test(character)) return `◌${character}`;
  return /[\p{C}\p{Z}]/u.test(character) ? codePoint(character) : character;
}

/** @param {string} character */
function codePoint(character) {
  const point = /** @type {number} */ (character.codePointAt(0));
  return `U+${point.toString(16).toUpperCase().padStart(4, "0")}`;
}

/** A character in a sentence: 'u', or space, or U+202E.
 * @param {string} character
 */
export function said(character) {
  return NAMES[character] ?? `'${glyph(character)}'`;
}

/** 'u' at 17
 * @param {number} position
 */
export function saidAt(position) {
  return `${said(characterAt(position))} at ${position + 1}`;
}

/** The glyphs of a text.
 * @param {number[]} tokens
 */
export function glyphsOf(tokens) {
  return tokens.map((id) => glyph(app.model.alphabet[id]));
}

/** @param {number} share */
export function percent(share) {
  if (Number.isNaN(share)) return "–";
  const value = 100 * share;
  if (value > 0 && value < 0.1) return "<\u00a00.1\u00a0%";
  return `${value >= 9.95 || value === 0 ? value.toFixed(0) : value.toFixed(1)}\u00a0%`;
}

/** @param {number} value */
export function number(value, digits = 2) {
  if (Number.isNaN(value)) return "–";
  if (Math.abs(value) === Infinity) return value < 0 ? "−∞" : "∞";
  return value
    .toFixed(digits)
    .replace(/^-(?=.*[1-9])/, "−")
    .replace(/^-/, "");
}

/** @param {number} value */
export function signed(value, digits = 2) {
  const text = number(value, digits);
  return value > 0 && /[1-9]/.test(text) ? `+${text}` : text;
}
