/* Arrays of numbers: unpacking them, and the little linear algebra that the model needs.
 * Sums are kept in JavaScript's own 64-bit numbers.
 */

/**
 * A matrix, row after row; its shape is in the comments: (rows, columns).
 * @typedef {Float32Array<ArrayBuffer>} Matrix
 */

/** The halves (IEEE 754 binary16) that export.py packed: low bytes, then high bytes, deflated.
 * @param {string} base64
 */
export async function unpack(base64) {
  const stream = new Blob([bytesOf(base64)])
    .stream()
    .pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const count = bytes.length / 2;
  const numbers = new Float32Array(count);
  for (let i = 0; i < count; i++) numbers[i] = HALVES[bytes[i] | (bytes[count + i] << 8)];
  return numbers;
}

/** @param {string} base64 */
function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

/** @param {number} bits */
function half(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const size = exponent
    ? (1 + fraction / 1024) * 2 ** (exponent - 15)
    : (fraction / 1024) * 2 ** -14;
  return bits >> 15 ? -size : size;
}

/** The value of each of the 65,536 halves: a table is much faster than `half`. */
const HALVES = Float32Array.from({ length: 2 ** 16 }, (_, bits) => half(bits));

/** 32-bit floats, little-endian, in base64.
 * @param {string} base64
 */
export function unpackFloats(base64) {
  return new Float32Array(bytesOf(base64).buffer);
}

/** Row `index` of a matrix that is `width` wide: a view, not a copy.
 * @param {Matrix} matrix
 * @param {number} index
 * @param {number} width
 */
export function row(matrix, index, width) {
  return matrix.subarray(index * width, (index + 1) * width);
}

/** @param {Matrix} a @param {Matrix} b */
export function dot(a, b) {
  let even = 0;
  let odd = 0;
  const last = a.length - 1;
  for (let i = 0; i < last; i += 2) {
    even += a[i] * b[i];
    odd += a[i + 1] * b[i + 1];
  }
  return a.length % 2 ? even + odd + a[last] * b[last] : even + odd;
}

/** x (n, ins) times the transpose of weight (outs, ins), plus bias (outs): torch's nn.Linear.
 * @param {Matrix} x
 * @param {Matrix} weight
 * @param {number} ins
 * @param {Matrix} [bias]
 */
export function linear(x, weight, ins, bias) {
  const n = x.length / ins;
  const outs = weight.length / ins;
  const y = new Float32Array(n * outs);
  for (let i = 0; i < n; i++) {
    const from = row(x, i, ins);
    for (let o = 0; o < outs; o++) {
      y[i * outs + o] = dot(from, row(weight, o, ins)) + (bias ? bias[o] : 0);
    }
  }
  return y;
}

/** @param {Matrix} a @param {Matrix} b */
export function add(a, b) {
  return a.map((value, i) => value + b[i]);
}

/** @param {Matrix} vector @param {number} factor */
export function scale(vector, factor) {
  return vector.map((value) => value * factor);
}

/** @param {Iterable<number>} values */
export function total(values) {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
}

/** @param {Iterable<number>} values */
export function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

/** @param {Matrix} vector */
export function lengthOf(vector) {
  return Math.sqrt(dot(vector, vector));
}

/** The size of the largest number, of either sign.
 * @param {Matrix} values
 */
export function largestSize(values) {
  return values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}

/** @param {Matrix} logits */
export function softmax(logits) {
  const most = extent(logits)[1];
  const powers = Float64Array.from(logits, (value) => Math.exp(value - most));
  const sum = total(powers);
  return Float32Array.from(powers, (power) => power / sum);
}

/** The error function, by a series whose terms all have one sign, so that nothing cancels.
 * @param {number} x
 */
export function erf(x) {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-12 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

/** Indices of `values`, the largest first.
 * @param {Matrix} values
 */
export function ranked(values) {
  return Array.from(values.keys()).sort((a, b) => values[b] - values[a]);
}

/** The indices 0 to count - 1.
 * @param {number} count
 */
export function range(count) {
  return Array.from({ length: count }, (_, i) => i);
}
