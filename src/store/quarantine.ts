/** What was damaged beyond repair, and how a context is brought back by hand: from its history, from quarantine, or from a value. */
import { ContextError, isContextError } from '../core/errors.js';
import { parseFrozen } from '../core/json.js';
import type { ContextCommands } from '../redis/ContextCommands.js';
import type { IntegrityCommands } from '../redis/IntegrityCommands.js';
import type { Deadline } from '../redis/RedisConnection.js';
import { bytesOf, storedContext } from '../redis/storedContext.js';
import type { ContextReader } from '../replica/ContextReader.js';
import { stateAt } from '../replica/logReplay.js';
import type { ContextWriter } from './ContextWriter.js';
import type { QuarantinedContext, RestoreSource, WriteResult } from './types.js';

/** More than a log keeps. */
const LOG_LIMIT = 1_000;

export async function listQuarantined(
  commands: ContextCommands,
  copies: IntegrityCommands,
  deadline: Deadline,
): Promise<readonly QuarantinedContext[]> {
  const found: QuarantinedContext[] = [];
  for (const shard of commands.keys.shards) {
    const ids = new Set<string>();
    let cursor = '0';
    do {
      const page = await copies.quarantinedIds(shard, cursor, deadline);
      for (const id of page.ids) ids.add(id);
      cursor = page.cursor;
    } while (cursor !== '0');
    for (const id of ids) {
      const fields = await copies.quarantined(id, deadline);
      if (fields === null) continue;
      const stored = storedContext(fields);
      const text = (name: string): string => fields[name]?.toString() ?? '';
      found.push({
        id,
        version: stored?.version ?? 0,
        bytes: stored?.found ?? 0,
        why: text('why'),
        at: Number(text('when')) || 0,
        by: text('who'),
      });
    }
  }
  return found;
}

interface Parts {
  readonly commands: ContextCommands;
  readonly copies: IntegrityCommands;
  readonly reader: ContextReader;
  readonly writer: ContextWriter;
}

/** @throws ContextError `NOT_FOUND`, and what a write throws */
export async function restoreContext(parts: Parts, id: string, from: RestoreSource, deadline: Deadline): Promise<WriteResult> {
  const value = await restored(parts, id, from, deadline);
  const written = await parts.writer.set(id, value, { ttl: from.ttl ?? 'keep' }, deadline);
  await parts.copies.dropQuarantined(id, deadline);
  return written;
}

async function restored(
  { commands, copies, reader }: Parts,
  id: string,
  from: RestoreSource,
  deadline: Deadline,
): Promise<unknown> {
  if ('value' in from) return from.value;
  if ('quarantined' in from) {
    const fields = await copies.quarantined(id, deadline);
    const stored = fields === null ? null : storedContext(fields);
    if (stored === null) throw notFound(id, 'nothing of it is in quarantine');
    try {
      return parseFrozen(bytesOf(stored).toString());
    } catch (error) {
      throw notFound(id, 'what is in quarantine is no JSON: mend it by hand, and give it as a value', error);
    }
  }
  const { version } = from;
  if (!(Number.isSafeInteger(version) && version >= 1))
    throw new ContextError('INVALID_ARGUMENT', `version is ${String(version)}; it must be a whole number of at least 1`);
  const [log, checkpoints] = await Promise.all([commands.logAfter(id, 0, LOG_LIMIT, deadline), reader.checkpoints(id, deadline)]);
  const state = stateAt(version, log, checkpoints);
  if (state?.value !== undefined) return state.value;
  // the present one may be all that there is of it
  const present = await reader.read(id, deadline).catch((error: unknown) => {
    if (isContextError(error) && error.code === 'CORRUPT') return null;
    throw error;
  });
  if (present?.version === version) return present.value;
  throw notFound(
    id,
    `its log and its checkpoints do not reach version ${version}; \`lukhas-context history\` shows what they have`,
  );
}

const notFound = (id: string, why: string, cause?: unknown): ContextError =>
  new ContextError('NOT_FOUND', `${id}: ${why}`, { id, ...(cause === undefined ? {} : { cause }) });
