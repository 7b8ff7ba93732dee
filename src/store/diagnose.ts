/** What a server lacks for the store, check by check, each with the way out; the CLI's `doctor`. */
import { type ContextError, isContextError } from '../core/errors.js';
import { type Deadline, RedisConnection } from '../redis/RedisConnection.js';
import {
  checkEvictionPolicy,
  checkRights,
  checkVersion,
  loadScripts,
  type ServerFacts,
  serverFacts,
} from '../redis/serverChecks.js';
import type { ResolvedOptions } from './options.js';

export interface DiagnosisCheck {
  readonly name: 'reachable' | 'version' | 'maxmemory-policy' | 'persistence' | 'clock-skew' | 'rights' | 'scripts';
  readonly status: 'ok' | 'warn' | 'fail';
  readonly detail: string;
  /** What to do, or null. */
  readonly advice: string | null;
}

export interface DiagnosisReport {
  /** No check failed. */
  readonly ok: boolean;
  readonly checks: readonly DiagnosisCheck[];
}

/** From this difference on, logs of different machines are hard to compare, ms; the store itself goes by Redis's clock alone. */
const SKEW_WARN_MS = 1_000;

type Check = Omit<DiagnosisCheck, 'name'>;
const ok = (detail: string): Check => ({ status: 'ok', detail, advice: null });
const warn = (detail: string, advice: string): Check => ({ status: 'warn', detail, advice });
const fail = (error: ContextError): Check => {
  const [detail, ...advice] = error.message.split('; ');
  return { status: 'fail', detail: detail ?? error.message, advice: advice.length === 0 ? null : advice.join('; ') };
};

export async function diagnose(options: ResolvedOptions): Promise<DiagnosisReport> {
  const checks: DiagnosisCheck[] = [];
  const connection = new RedisConnection(
    {
      target: options.redis,
      attemptTimeoutMs: options.attemptTimeoutMs,
      clientName: `lukhas-context:${options.namespace}:doctor`,
    },
    { up: () => {}, down: () => {} },
  );
  /** False where it failed: what depends on it is not tried. */
  const run = async (name: DiagnosisCheck['name'], check: () => Check | Promise<Check>): Promise<boolean> => {
    try {
      const result = await check();
      checks.push({ name, ...result });
      return result.status !== 'fail';
    } catch (error) {
      if (!isContextError(error)) throw error;
      checks.push({ name, ...fail(error) });
      return false;
    }
  };
  try {
    const deadline = connection.deadline(options.connectTimeoutMs);
    let facts: ServerFacts | undefined;
    const reached = await run('reachable', async () => {
      await connection.open(deadline);
      return ok('Redis answers');
    });
    if (!reached) return { ok: false, checks };
    const known = await run('version', async () => {
      facts = await serverFacts(connection, deadline);
      checkVersion(facts);
      return ok(`Redis ${facts.version}`);
    });
    if (facts !== undefined) await serverChecks(run, facts);
    await run('clock-skew', () => clockSkew(connection, deadline));
    if (known) {
      await run('rights', async () => {
        await checkRights(connection, options.namespace, deadline);
        return ok('every command, key and channel that the scripts use is allowed');
      });
      await run('scripts', async () => {
        await loadScripts(connection, deadline);
        return ok('every script loads');
      });
    }
    return { ok: checks.every(({ status }) => status !== 'fail'), checks };
  } finally {
    await connection.close();
  }
}

async function serverChecks(
  run: (name: DiagnosisCheck['name'], check: () => Check) => Promise<boolean>,
  facts: ServerFacts,
): Promise<void> {
  await run('maxmemory-policy', () => {
    checkEvictionPolicy(facts);
    const limit = facts.maxMemoryBytes === 0 ? 'no maxmemory' : `maxmemory ${facts.maxMemoryBytes} bytes`;
    return ok(`${facts.evictionPolicy}, ${limit}`);
  });
  await run('persistence', () => {
    if (!facts.lastSaveOk)
      return warn('the last save failed', 'look into the Redis log: writes may be refused, and a restart loses data');
    if (!facts.appendOnly)
      return warn('append-only file is off', 'a crash loses what was written since the last snapshot: CONFIG SET appendonly yes');
    return ok('append-only file is on');
  });
}

async function clockSkew(connection: RedisConnection, deadline: Deadline): Promise<Check> {
  await connection.syncClock(deadline);
  const skew = Math.round(connection.clock.earliest(performance.now()) - Date.now());
  const detail = `Redis's clock is ${Math.abs(skew)} ms ${skew < 0 ? 'behind' : 'ahead of'} this machine's`;
  return Math.abs(skew) < SKEW_WARN_MS
    ? ok(detail)
    : warn(detail, "expiry goes by Redis's clock alone; run NTP on both so that logs can be compared");
}
