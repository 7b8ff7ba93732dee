/**
 * A write is tried again until its time is over, and never applied twice.
 *
 * Each attempt carries the time by Redis's clock after which the script refuses it, and the one before it. So when the reply of an
 * attempt is lost, the next one finds the operation in the log, or waits until the lost one cannot be executed any more: a server
 * that was stopped may still read an old connection after it has served a new one.
 */
import { ContextError, isContextError } from '../core/errors.js';
import type { Deadline, RedisConnection } from './RedisConnection.js';

type Reply = readonly [string, ...(string | number | null)[]];

const BACKOFF_MS = [5, 20, 60, 150, 300];
/** A document damaged on its way is sent again this often. */
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
    if (!connection.commandsUp) await waitFor(connection, deadline, what, previousTill, failed);
    const sentAt = performance.now();
    const left = Math.min(connection.attemptTimeoutMs, deadline.at - sentAt);
    if (left <= 0) throw timedOut(deadline, what, previousTill, failed);
    const earliest = Math.floor(clock.earliest(sentAt));
    const till = earliest + Math.ceil(left);
    if (firstSent === 0) firstSent = earliest;
    let reply: Reply;
    try {
      reply = await send(`${till} ${previousTill} ${firstSent}`);
    } catch (error) {
      if (!isContextError(error) || !mayRetry(error)) throw error;
      failed = error;
      if (error.code === 'CONNECTION' || error.code === 'TIMEOUT') previousTill = Math.max(previousTill, till);
      await pause(backoff(tries), deadline);
      continue;
    }
    switch (reply[0]) {
      case 'LATE':
        clock.observe(sentAt, performance.now(), Number(reply[1]));
        await pause(backoff(tries), deadline);
        continue;
      case 'PENDING':
        await pause(Number(reply[1]), deadline);
        continue;
      case 'CHECKSUM':
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

const mayRetry = (error: ContextError): boolean =>
  error.code === 'CONNECTION' || error.code === 'TIMEOUT' || error.code === 'REDIS_BUSY';

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

function timedOut(
  deadline: Deadline,
  what: { readonly id: string; readonly doing: string },
  previousTill: number,
  failed: ContextError | null,
): ContextError {
  const sent = previousTill > 0;
  const outcome = sent
    ? `it was sent, but no reply came: it may or may not have been applied (not after ${new Date(previousTill).toISOString()}); read the context to see`
    : 'nothing was written';
  return new ContextError('TIMEOUT', `${what.id}: ${what.doing} was not done within ${deadline.timeoutMs} ms; ${outcome}`, {
    id: what.id,
    cause: failed ?? undefined,
  });
}

/** Waits, but not past the deadline or an abort; the next step notices those. */
function pause(ms: number, deadline: Deadline): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      deadline.signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, Math.max(0, Math.min(ms, deadline.at - performance.now())));
    deadline.signal?.addEventListener('abort', done, { once: true });
  });
}
