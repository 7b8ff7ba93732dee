import { ContextError } from './errors.js';
import { parseDuration } from './units.js';

/** 100 years, ms. */
const MAX_TTL_MS = 100 * 365 * 86_400_000;

/** A time to live in ms. @throws ContextError `INVALID_ARGUMENT` */
export function timeToLive(ttl: number | string): number {
  const ms = parseDuration(ttl, 'ttl');
  if (ms > MAX_TTL_MS) {
    throw new ContextError('INVALID_ARGUMENT', `ttl is ${ms} ms; at most 100 years are allowed: use 'none' for no expiry`, {
      limit: 'ttl',
      expected: MAX_TTL_MS,
      found: ms,
    });
  }
  if (ms > 0) return ms;
  throw new ContextError(
    'INVALID_ARGUMENT',
    "ttl is 0: a context lives at least 1 ms; use delete to remove it, 'none' for no expiry",
  );
}
