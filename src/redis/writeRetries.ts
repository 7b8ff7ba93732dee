/**
 * A write is tried again until its time is over, and never applied twice.
 *
 * Each attempt carries the time by Redis's clock after which the script refuses it, and the one before it. So when the reply of an
 * attempt is lost, the next one finds the operation in the log, or waits until the lost one cannot be executed any more: a server
 * that was stopped may still read an old connection after it has served a new one.
 */
import { ContextError, isContextError } from '../core/errors.js';
import { restUnlessAborted } from './abortFan.js';
import type { Deadline, RedisConnection } from './RedisConnection.js';

type Reply = readonly [string, ...(string | number | null)[]];

const BACKOFF_MS = [5, 20, 60, 150, 300];
/** Where Redis has refused before and less time than this (or a quarter of the call's) is left, its refusal is the answer: an attempt
 * that the deadline overtakes would turn a sure "nothing was written" into an unknown outcome. */
const LAST_ATTEMPT_MS = 100;
/** A request damaged on its way is sent again this often. */
const CHECKSUM_TRIES = 3;

export async function writeWithRetries(
  connection: RedisConnection,
  deadline: Deadline,
  what: { readonly id: string; readonly doing: string },
  /** `attempt`: the words `till previousTill firstSent`, ms by Redis's clock. */
  send: (attempt: string) => Promise<Reply>,
): Promise<Reply> {
  const { clock } = connection;
  let previousTill = 0;
  let firstSent = 0;
  let damaged = 0;
  let failed: ContextError | null = null;
  for (let tries = 0; ; tries += 1) {
    if (deadline.signal?.aborted === true) throw withOutcome(aborted(deadline, what), previousTill);
    if (!connection.commandsUp) await waitFor(connection, deadline, what, previousTill, failed);
    const sentAt = performance.now();
    const left = Math.min(connection.attemptTimeoutMs, deadline.at - sentAt);
    if (left <= 0) throw timedOut(deadline, what, previousTill, failed);
    if (failed !== null && previousTill === 0 && deadline.at - sentAt < Math.min(LAST_ATTEMPT_MS, deadline.timeoutMs / 4))
      throw failed;
    const earliest = Math.floor(clock.earliest(sentAt));
    const till = earliest + Math.ceil(left);
    if (firstSent === 0) firstSent = earliest;
    let reply: Reply;
    try {
      reply = await send(`${till} ${previousTill} ${firstSent}`);
    } catch (error) {
      if (!isContextError(error)) throw error;
      if (!mayRetry(error)) throw withOutcome(error, previousTill);
      if (error.code === 'REDIS_READONLY') connection.moveOn(demotion(error) ?? error.message);
      failed = error;
      if (error.code === 'CONNECTION' || error.code === 'TIMEOUT') previousTill = Math.max(previousTill, till);
      await pauseWithin(backoff(tries), deadline);
      continue;
    }
    switch (reply[0]) {
      case 'LATE':
        clock.observe(sentAt, performance.now(), Number(reply[1]));
        await pauseWithin(backoff(tries), deadline);
        continue;
      case 'PENDING':
        await pauseWithin(Number(reply[1]), deadline);
        continue;
      case 'CHECKSUM':
      case 'GARBLED':
        damaged += 1;
        if (damaged < CHECKSUM_TRIES) continue;
        return reply;
      case 'COMMITTED':
      case 'DELETED':
        clock.observe(sentAt, performance.now(), Number(reply[2]));
        return reply;
      default:
        return reply;
    }
  }
}

/** A master that became a replica: the name may lead to the new master by now. */
const isDemoted = (error: ContextError): boolean => error.code === 'REDIS_READONLY' && demotion(error) !== undefined;

const demotion = (error: ContextError): string | undefined => {
  const { cause } = error.details;
  return cause instanceof Error && cause.message.startsWith('READONLY') ? cause.message : undefined;
};

const aborted = (deadline: Deadline, what: { readonly id: string; readonly doing: string }): ContextError =>
  new ContextError('ABORTED', `${what.id}: ${what.doing}: the signal was aborted`, {
    id: what.id,
    cause: deadline.signal?.reason,
  });

/** Says of an error that ends a write whether an earlier attempt of it may have been applied all the same. */
function withOutcome(error: ContextError, previousTill: number): ContextError {
  if (previousTill === 0) return error;
  const message = `${error.message}; an earlier attempt was sent, but no reply came: it may or may not have been applied (not after ${new Date(previousTill).toISOString()})`;
  return new ContextError(error.code, message, { ...error.details, cause: error });
}

const mayRetry = (error: ContextError): boolean =>
  error.code === 'CONNECTION' || error.code === 'TIMEOUT' || error.code === 'REDIS_BUSY' || isDemoted(error);

const backoff = (tries: number): number => (BACKOFF_MS[Math.min(tries, BACKOFF_MS.length - 1)] ?? 300) * (0.5 + Math.random());

async function waitFor(
  connection: RedisConnection,
  deadline: Deadline,
  what: { readonly id: string; readonly doing: string },
  previousTill: number,
  failed: ContextError | null,
): Promise<void> {
  try {
    await connection.ready(deadline, what.doing);
  } catch (error) {
    if (previousTill > 0 && isContextError(error) && (error.code === 'CONNECTION' || error.code === 'TIMEOUT')) {
      throw timedOut(deadline, what, previousTill, failed ?? error);
    }
    throw error;
  }
}

/** A call whose time is over: what refused its last attempt, where that is known and nothing else can have happened; else `TIMEOUT`. */
function timedOut(
  deadline: Deadline,
  what: { readonly id: string; readonly doing: string },
  previousTill: number,
  failed: ContextError | null,
): ContextError {
  const sent = previousTill > 0;
  if (!sent && failed !== null) return failed;
  const outcome = sent
    ? `it was sent, but no reply came: it may or may not have been applied (not after ${new Date(previousTill).toISOString()}); read the context to see`
    : 'nothing was written';
  return new ContextError('TIMEOUT', `${what.id}: ${what.doing} was not done within ${deadline.timeoutMs} ms; ${outcome}`, {
    id: what.id,
    cause: failed ?? undefined,
  });
}

/** Waits, but not past the deadline or an abort; the next step notices those. */
export const pauseWithin = (ms: number, deadline: Deadline): Promise<void> =>
  restUnlessAborted(Math.max(0, Math.min(ms, deadline.at - performance.now())), deadline.signal);

const CONFLICT_PAUSE_MOST_MS = 64;

/** Waits after a conflict, the longer the more there were, so that those who were in each other's way do not come back together. */
export const pauseAfterConflict = (conflicts: number, deadline: Deadline): Promise<void> =>
  pauseWithin(Math.random() * Math.min(CONFLICT_PAUSE_MOST_MS, 2 ** Math.min(conflicts, 10)), deadline);
