/* What a head does on the text itself, as gpt/attention/roles.py defines it: a test holds the two
 * against each other.
 */

/** @import { Matrix } from "./numbers.js" */

/**
 * How much of its weight a head gives to a role, and what uniform weights would give.
 * @typedef {{name: string, share: number, uniform: number}} Role
 */

/** `picks(tokens, i, j)`: does the key j have this role for the query i?
 * @type {{name: string, picks: (tokens: number[], i: number, j: number) => boolean}[]}
 */
export const ROLES = [
  { name: "previous character", picks: (tokens, i, j) => j === i - 1 },
  { name: "itself", picks: (tokens, i, j) => j === i },
  { name: "first character of the text", picks: (tokens, i, j) => j === 0 },
  {
    name: "earlier copies of itself",
    picks: (tokens, i, j) => j < i && tokens[j] === tokens[i],
  },
  {
    name: "what followed it last time (induction)",
    picks: (tokens, i, j) => j > 0 && j < i && tokens[j - 1] === tokens[i],
  },
];

/** The roles of a head with weights (T, T).
 *
 * Only queries count that have a choice and something to find; NaN if there are none.
 * @param {Matrix} weights
 * @param {number[]} tokens
 * @returns {Role[]}
 */
export function rolesOf(weights, tokens) {
  const T = tokens.length;
  return ROLES.map(({ name, picks }) => {
    let [share, uniform, count] = [0, 0, 0];
    for (let i = 1; i < T; i++) {
      let [found, given] = [0, 0];
      for (let j = 0; j <= i; j++) {
        if (!picks(tokens, i, j)) continue;
        found += 1;
        given += weights[i * T + j];
      }
      if (!found) continue;
      share += given;
      uniform += found / (i + 1);
      count += 1;
    }
    return { name, share: share / count, uniform: uniform / count };
  });
}

/** Mean entropy of the rows as a share of the maximum: 0 one character, 1 uniform.
 * @param {Matrix} weights  (T, T)
 * @param {number} T
 */
export function spreadOf(weights, T) {
  let sum = 0;
  for (let i = 1; i < T; i++) {
    let entropy = 0;
    for (let j = 0; j <= i; j++) {
      const weight = weights[i * T + j];
      if (weight > 0) entropy -= weight * Math.log(weight);
    }
    sum += entropy / Math.log(i + 1);
  }
  return T > 1 ? sum / (T - 1) : 0;
}

/** Mean distance from query to key, by the weights (T, T) and by uniform weights.
 * @param {Matrix} weights
 * @param {number} T
 */
export function reachOf(weights, T) {
  let [reach, uniform] = [0, 0];
  for (let i = 1; i < T; i++) {
    for (let j = 0; j <= i; j++) reach += weights[i * T + j] * (i - j);
    uniform += i / 2;
  }
  return { share: reach / (T - 1), uniform: uniform / (T - 1) };
}

/** 0 at chance, 1 for a head that does nothing else.
 * @param {{share: number, uniform: number}} role
 */
export function lift({ share, uniform }) {
  return uniform < 1 ? (share - uniform) / (1 - uniform) : 0;
}

/** The role that stands out most from chance.
 * @param {Matrix} weights  (T, T)
 * @param {number[]} tokens
 */
export function mainRole(weights, tokens) {
  return rolesOf(weights, tokens).reduce((best, role) => (lift(role) > lift(best) ? role : best));
}
