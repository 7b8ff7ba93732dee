import { commonSubsequence } from './arrayDiff.js';
import type { JsonObject } from './json.js';
import { isIndexKey } from './KeyOrder.js';

export interface KeyPlan {
  readonly removed: readonly string[];
  /** In both, in the order of the first object. */
  readonly kept: readonly string[];
  /** New or in the wrong place, in the order in which they are to be placed: each before a key that stays, or at the end. */
  readonly placed: readonly { readonly key: string; readonly before: string | undefined; readonly added: boolean }[];
}

export function sameKeys(a: readonly string[], b: readonly string[]): boolean {
  if (a.length !== b.length) return false;
  for (let index = 0; index < a.length; index++) if (a[index] !== b[index]) return false;
  return true;
}

/** How the keys of `a` become those of `b` in their order. Index keys sort themselves and never need a place. */
export function planKeys(a: JsonObject, b: JsonObject): KeyPlan {
  const keysA = Object.keys(a);
  const keysB = Object.keys(b);
  const removed: string[] = [];
  const kept: string[] = [];
  const placed: { key: string; before: string | undefined; added: boolean }[] = [];
  let indexA = 0;
  for (const key of keysB) {
    while (indexA < keysA.length && keysA[indexA] !== key && !Object.hasOwn(b, keysA[indexA] as string)) {
      removed.push(keysA[indexA++] as string);
    }
    const next = keysA[indexA];
    if (next === key) {
      kept.push(key);
      indexA++;
    } else if (Object.hasOwn(a, key)) {
      return planReordered(b, keysA, keysB);
    } else {
      placed.push({ key, before: isIndexKey(key) ? undefined : next, added: true });
    }
  }
  while (indexA < keysA.length) removed.push(keysA[indexA++] as string);
  return { removed, kept, placed };
}

/** Some keys changed places: the longest rising sequence of them stays. */
function planReordered(b: JsonObject, keysA: readonly string[], keysB: readonly string[]): KeyPlan {
  const positions = new Map(keysA.map((key, index) => [key, index]));
  const shared = keysB.filter((key) => positions.has(key));
  const order = commonSubsequence(
    Int32Array.from(keysA.keys()),
    Int32Array.from(shared, (key) => positions.get(key) as number),
  );
  const stays = new Set<string>();
  for (let index = 0; index < order.length; index += 2) stays.add(keysA[order[index] as number] as string);
  const placed: { key: string; before: string | undefined; added: boolean }[] = [];
  let before: string | undefined;
  for (const key of keysB.toReversed()) {
    if (stays.has(key)) before = isIndexKey(key) ? undefined : key;
    else placed.push({ key, before: isIndexKey(key) ? undefined : before, added: !positions.has(key) });
  }
  return {
    removed: keysA.filter((key) => !Object.hasOwn(b, key)),
    kept: keysA.filter((key) => Object.hasOwn(b, key)),
    placed: placed.reverse(),
  };
}
