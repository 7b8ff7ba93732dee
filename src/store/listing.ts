/** A page of a namespace: shard after shard by `ZSCAN`, so that no page costs more than it shows. */
import { ContextError } from '../core/errors.js';
import type { ContextCommands } from '../redis/ContextCommands.js';
import type { Deadline } from '../redis/RedisConnection.js';
import type { ContextSummary, ListOptions, ListPage } from './types.js';

const DEFAULT_LIMIT = 100;
const MOST = 1_000;
/** Ids looked at in one scan for a prefix: some 0.3 ms of Redis. */
const SCAN = 1_000;
/** Scans in one page. */
const SCANS = 20;

export async function listContexts(commands: ContextCommands, options: ListOptions, deadline: Deadline): Promise<ListPage> {
  const limit = options.limit ?? DEFAULT_LIMIT;
  if (!Number.isInteger(limit) || limit < 1 || limit > MOST) {
    throw new ContextError('INVALID_ARGUMENT', `limit is ${String(limit)}; it must be a whole number between 1 and ${MOST}`);
  }
  let [shardNumber, cursor] = parseCursor(options.cursor);
  const items = new Map<string, ContextSummary>();
  // a rare prefix: what was found so far, with the cursor to go on from, rather than a call that never ends
  for (let scans = 1; ; scans += 1) {
    const shard = commands.keys.shards[shardNumber];
    if (shard === undefined) return { items: [...items.values()], cursor: null };
    const page = await commands.scan(
      shard,
      cursor,
      options.prefix ?? '',
      options.prefix ? Math.max(limit, SCAN) : limit,
      deadline,
    );
    for (const item of await commands.summaries(shard, page.ids, deadline)) items.set(item.id, item);
    cursor = page.cursor;
    if (cursor === '0') shardNumber += 1;
    const ended = commands.keys.shards[shardNumber] === undefined;
    if (items.size >= limit || ended || scans === SCANS)
      return { items: [...items.values()], cursor: ended ? null : `${shardNumber}:${cursor}` };
  }
}

function parseCursor(cursor: string | undefined): [number, string] {
  if (cursor === undefined) return [0, '0'];
  const parts = /^(\d{1,4}):(\d{1,20})$/.exec(cursor);
  if (parts?.[1] === undefined || parts[2] === undefined) {
    throw new ContextError('INVALID_ARGUMENT', `cursor ${JSON.stringify(cursor)} is not one that list returned`);
  }
  return [Number(parts[1]), parts[2]];
}
