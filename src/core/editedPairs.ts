import { isContainer, type JsonArray, type JsonObject, type JsonValue } from './json.js';

/** Members or elements of each that are looked at. */
const SAMPLE = 16;

/** 0 for values that have nothing in common, up to 1: how much of what two containers hold directly is the same. */
function similarity(a: JsonValue, b: JsonValue): number {
  if (!isContainer(a) || !isContainer(b) || Array.isArray(a) !== Array.isArray(b)) return 0;
  if (Array.isArray(a)) {
    const others = b as JsonArray;
    const most = Math.max(a.length, others.length);
    const looked = Math.min(a.length, others.length, SAMPLE);
    let same = 0;
    for (let index = 0; index < looked; index++) {
      if (a[index] === others[index] || a[a.length - 1 - index] === others[others.length - 1 - index]) same++;
    }
    return most === 0 ? 0 : same / Math.min(most, SAMPLE);
  }
  const keys = Object.keys(a);
  const most = Math.max(keys.length, Object.keys(b).length);
  const looked = Math.min(keys.length, SAMPLE);
  let same = 0;
  for (let index = 0; index < looked; index++) {
    const key = keys[index] as string;
    if (Object.hasOwn(b, key) && (a as JsonObject)[key] === (b as JsonObject)[key]) same++;
  }
  return most === 0 ? 0 : same / Math.min(most, SAMPLE);
}

/**
 * Pairs of elements, as indexes that rise in both arrays, that look like one edited into the other: those with the largest likeness in
 * all. Time and memory grow with the product of the lengths, so the caller bounds that.
 */
export function editedPairs(a: JsonArray, b: JsonArray): [number, number][] {
  const rows = a.length;
  const columns = b.length;
  // best[row][column]: the most that the elements from there on can have
  const width = columns + 1;
  const best = new Float64Array((rows + 1) * width);
  const alike = new Float64Array(rows * columns);
  const at = (row: number, column: number): number => best[row * width + column] as number;
  for (let row = rows - 1; row >= 0; row--) {
    for (let column = columns - 1; column >= 0; column--) {
      const like = similarity(a[row] as JsonValue, b[column] as JsonValue);
      alike[row * columns + column] = like;
      const paired = like === 0 ? 0 : like + at(row + 1, column + 1);
      best[row * width + column] = Math.max(paired, at(row + 1, column), at(row, column + 1));
    }
  }
  const pairs: [number, number][] = [];
  for (let row = 0, column = 0; row < rows && column < columns && at(row, column) > 0; ) {
    const like = alike[row * columns + column] as number;
    if (like > 0 && at(row, column) === like + at(row + 1, column + 1)) pairs.push([row++, column++]);
    else if (at(row, column) === at(row + 1, column)) row++;
    else column++;
  }
  return pairs;
}
