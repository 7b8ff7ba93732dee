import { expect } from 'chai';
import fc from 'fast-check';
import { crc32Hex } from '../../src/core/checksum.js';
import type { Change } from '../../src/core/context.js';
import { diff } from '../../src/core/diff.js';
import type { Frame } from '../../src/core/frame.js';
import { type JsonValue, parseFrozen } from '../../src/core/json.js';
import type { LogEntry } from '../../src/redis/logEntries.js';
import { replay } from '../../src/replica/logReplay.js';
import { Replica } from '../../src/replica/Replica.js';
import { absent } from '../../src/replica/state.js';
import { Watcher } from '../../src/replica/Watcher.js';

/** What happened to a context, as a log would hold it: versions 1 to n, written, deleted and expired. */
function historyOf(events: readonly ('set' | 'edit' | 'delete' | 'expire')[]): {
  entries: LogEntry[];
  values: (string | null)[];
} {
  const entries: LogEntry[] = [];
  const values: (string | null)[] = [];
  let value: JsonValue | undefined;
  let version = 0;
  let crc = '';
  for (const [at, event] of events.entries()) {
    const base = { baseCrc: crc, at, expiresAt: null, sha1: '', encoding: '-', operation: `op${at}`, by: 'test' };
    const none = { ...base, frame: Buffer.alloc(0), crc: '', length: 0 };
    if (event === 'set' || event === 'edit') {
      const before = value;
      const next = parseFrozen(
        JSON.stringify({ padding: 'a patch is smaller than this', count: at, of: event === 'set' ? [at] : [] }),
      );
      const patch = event === 'edit' && before !== undefined ? diff(before, next) : null;
      const text = JSON.stringify(next);
      version += 1;
      crc = crc32Hex(text);
      value = next;
      const frame = Buffer.from(patch === null ? text : JSON.stringify(patch));
      entries.push({
        ...base,
        entryId: `${version}-0`,
        sound: true,
        summed: true,
        kind: patch === null ? 'full' : 'patch',
        version,
        frame,
        crc,
        length: Buffer.byteLength(text),
      });
      values.push(text);
    } else if (value !== undefined) {
      if (event === 'delete') version += 1;
      entries.push({
        ...none,
        entryId: `${version}-1`,
        sound: true,
        summed: true,
        kind: event === 'delete' ? 'deleted' : 'expired',
        version,
      });
      values.push(null);
      value = undefined;
      crc = '';
    }
  }
  return { entries, values };
}

const frameOf = (entry: LogEntry): Frame => ({
  kind: entry.kind as Frame['kind'],
  version: entry.version,
  crc: entry.crc,
  baseVersion: entry.kind === 'expired' ? entry.version : entry.version - 1,
  baseCrc: entry.baseCrc,
  length: entry.length,
  at: entry.at,
  expiresAt: entry.expiresAt,
  operation: entry.operation,
  by: entry.by,
  payload: entry.frame,
});

const events = fc.array(fc.constantFrom('set', 'edit', 'edit', 'edit', 'delete', 'expire'), { minLength: 1, maxLength: 30 });

describe('a replica and its watcher, whatever happens to the frames', () => {
  it('reach every version once, in order and with its value, when frames are dropped, doubled, swapped and damaged', async () => {
    await fc.assert(
      fc.asyncProperty(events, fc.infiniteStream(fc.nat({ max: 9 })), async (happened, luck) => {
        const { entries, values } = historyOf(happened);
        const replica = new Replica('r', absent(0));
        const missing = (): never => expect.fail('the replica hands over its steps without a gap');
        const watcher = new Watcher('r', { missing, overflowed: missing, ended: () => {} }, 1_000, false, undefined);
        watcher.start(0, true);
        watcher.replay([]);
        replica.watchers.add(watcher);

        const chance = (of: number): boolean => (luck.next().value ?? 0) < of;
        const sent = entries.flatMap((entry) => {
          const frame = frameOf(entry);
          if (chance(2)) return [];
          if (chance(1)) {
            const payload = Buffer.from(frame.payload);
            if (payload.length > 0) payload[payload.length >> 1] = (payload[payload.length >> 1] ?? 0) ^ 1;
            return [{ ...frame, payload }];
          }
          return chance(2) ? [frame, frame] : [frame];
        });
        for (let index = 0; index + 1 < sent.length; index += 1) {
          const [here, next] = [sent[index], sent[index + 1]];
          if (here !== undefined && next !== undefined && chance(2)) sent.splice(index, 2, next, here);
        }
        /** From the log, as far as it has got when this frame is delivered: what a catch-up does. */
        const catchUp = (known: number): void => {
          const { state } = replica;
          const later = entries.filter(
            (entry, index) =>
              index < known && (entry.version > state.version || (entry.version === state.version && entry.kind === 'expired')),
          );
          const fresh = later.filter(
            (entry) => !(entry.kind === 'expired' && entry.version === state.version && state.value === undefined),
          );
          const { steps, rest } = replay(state, fresh);
          expect(rest).to.have.length(0);
          for (const one of steps) replica.move(one.state, one.step);
        };
        for (const frame of sent) {
          const outcome = replica.apply(frame);
          const known = entries.findIndex((entry) => entry.operation === frame.operation) + 1;
          if (outcome === 'gap' || outcome === 'corrupt') catchUp(known);
          // whatever came, it is at some version and has exactly that version's document
          const text = replica.state.value === undefined ? null : JSON.stringify(replica.state.value);
          const possible = values.filter((_, index) => entries[index]?.version === replica.version);
          expect(replica.version === 0 ? [null] : possible).to.include(text);
        }
        catchUp(entries.length);

        watcher.end();
        const seen: Change[] = [];
        for await (const change of watcher) seen.push(change);
        expect(seen.map(({ kind, version }) => [kind, version])).to.deep.equal(
          entries.map(({ kind, version }) => [kind, version]),
        );
        expect(seen.map(({ value }) => (value === null ? null : JSON.stringify(value)))).to.deep.equal(values);
      }),
      { numRuns: 500 },
    );
  });
});
