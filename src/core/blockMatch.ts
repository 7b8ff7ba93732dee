/** What two documents have in common: prefix and suffix. */
import { type Splice, SpliceBuilder } from './splice.js';

export function findSplice(base: Buffer, target: Buffer): Splice {
  const shorter = Math.min(base.length, target.length);
  let start = 0;
  while (start < shorter && base[start] === target[start]) start += 1;
  let end = 0;
  while (end < shorter - start && base[base.length - 1 - end] === target[target.length - 1 - end]) end += 1;
  const builder = new SpliceBuilder(base.length);
  builder.copy(0, start);
  builder.insert(target.subarray(start, target.length - end));
  builder.copy(base.length - end, end);
  return builder.build();
}
