/* Arrays of numbers: out of the file, and the little linear algebra that the model needs.
 *
 * A matrix is a Float32Array, row after row. Sums are kept in JavaScript's own 64-bit numbers.
 */

/** The halves (IEEE 754 binary16) that export.py packed: low bytes, then high bytes, deflated. */
async function unpack(base64) {
  const stream = new Blob([bytesOf(base64)])
    .stream()
    .pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const count = bytes.length / 2;
  const numbers = new Float32Array(count);
  for (let i = 0; i < count; i++) numbers[i] = HALVES[bytes[i] | (bytes[count + i] << 8)];
  return numbers;
}

function bytesOf(base64) {
  const letters = atob(base64);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

function half(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const size = exponent
    ? (1 + fraction / 1024) * 2 ** (exponent - 15)
    : (fraction / 1024) * 2 ** -14;
  return bits >> 15 ? -size : size;
}

/** The value of each of the 65,536 halves: looking them up is much faster. */
const HALVES = new Float32Array(2 ** 16);
for (let bits = 0; bits < HALVES.length; bits++) HALVES[bits] = half(bits);

/** 32-bit floats, little-endian, in base64. */
function unpackFloats(base64) {
  return new Float32Array(bytesOf(base64).buffer);
}

function row(matrix, index, width) {
  return matrix.subarray(index * width, (index + 1) * width);
}

function dot(a, b) {
  let even = 0;
  let odd = 0;
  const last = a.length - 1;
  for (let i = 0; i < last; i += 2) {
    even += a[i] * b[i];
    odd += a[i + 1] * b[i + 1];
  }
  return a.length % 2 ? even + odd + a[last] * b[last] : even + odd;
}

/** x (n, ins) times the transpose of weight (outs, ins), plus bias: torch's nn.Linear. */
function linear(x, weight, ins, bias = null) {
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

function add(a, b) {
  return a.map((value, i) => value + b[i]);
}

function total(values) {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
}

function softmax(logits) {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = Float64Array.from(logits, (value) => Math.exp(value - most));
  const sum = total(powers);
  return Float32Array.from(powers, (power) => power / sum);
}

/** The error function, by a series whose terms all have one sign, so that nothing cancels. */
function erf(x) {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-12 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

/** Indices of `values`, the largest first. */
function ranked(values) {
  return Array.from(values.keys()).sort((a, b) => values[b] - values[a]);
}
