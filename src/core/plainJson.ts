/** A quick look at a value before it is copied for nothing. */

/** More containers than fit into any context; a value that has more references one over and over. */
const MAX_CONTAINERS = 4_194_304;

let containers = 0;

/**
 * Whether `JSON.stringify(value)` is exact as it stands: plain arrays and objects, finite numbers, well-formed strings, nothing that is
 * undefined and nothing with a `toJSON`, not deeper than `maxDepth`. False says nothing but that `normalize` must look: it converts
 * what can be converted, and names what cannot.
 */
export function isPlainJson(value: unknown, maxDepth: number): boolean {
  containers = 0;
  return plain(value, maxDepth);
}

function plain(value: unknown, depth: number): boolean {
  switch (typeof value) {
    case 'string':
      return value.isWellFormed();
    case 'number':
      return Number.isFinite(value);
    case 'boolean':
      return true;
    case 'object':
      break;
    default:
      return false;
  }
  if (value === null) return true;
  containers += 1;
  if (depth === 0 || containers > MAX_CONTAINERS || (value as { toJSON?: unknown }).toJSON !== undefined) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (Array.isArray(value)) {
    if (prototype !== Array.prototype) return false;
    for (let index = 0; index < value.length; index += 1) if (!plain(value[index], depth - 1)) return false;
    return true;
  }
  if (prototype !== Object.prototype && prototype !== null) return false;
  for (const key in value) {
    if (!key.isWellFormed() || !plain((value as Record<string, unknown>)[key], depth - 1)) return false;
  }
  return true;
}
