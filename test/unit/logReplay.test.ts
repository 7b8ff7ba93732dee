import { expect } from 'chai';
import { findSplice } from '../../src/core/blockMatch.js';
import { crc32Hex } from '../../src/core/checksum.js';
import { type JsonValue, parseFrozen } from '../../src/core/json.js';
import { writeSplice } from '../../src/core/spliceFormat.js';
import type { LogEntry } from '../../src/redis/logEntries.js';
import { lastStep, replay, squash, stateAt } from '../../src/replica/logReplay.js';
import { absent, type ReplicaState } from '../../src/replica/state.js';

const NONE = Buffer.alloc(0);
const COMMON = {
  entryId: '1-0',
  sound: true,
  summed: true,
  at: 1_000,
  expiresAt: null,
  sha1: '',
  encoding: '-',
  operation: '-',
  by: 'test',
};

/** A log as commits leave it: `{ n }` for a version that is a patch, a text for a whole document, a kind for a removal. */
function logOf(...versions: readonly ({ readonly n: number } | string | 'deleted' | 'expired')[]): LogEntry[] {
  let version = 0;
  let value: JsonValue | undefined;
  let crc = '';
  return versions.map((what) => {
    const common = { ...COMMON, baseCrc: '' };
    if (what === 'deleted' || what === 'expired') {
      version += what === 'deleted' ? 1 : 0;
      crc = '';
      value = undefined;
      return { ...common, kind: what, version, frame: NONE, crc, length: 0 };
    }
    version += 1;
    const baseCrc = crc;
    const isPatch = typeof what !== 'string';
    value = isPatch ? { ...(value as object), n: what.n } : { text: what, n: 0 };
    const text = JSON.stringify(value);
    crc = crc32Hex(text);
    const frame = Buffer.from(isPatch ? `[{"op":"replace","path":"/n","value":${what.n}}]` : text);
    return { ...common, kind: isPatch ? 'patch' : 'full', version, frame, baseCrc, crc, length: text.length };
  });
}

const bare = (entry: LogEntry): LogEntry => ({ ...entry, frame: NONE });
const damaged = (entry: LogEntry): LogEntry => ({ ...entry, crc: '00000000' });
const shown = (steps: readonly { state: ReplicaState }[]): unknown[] =>
  steps.map(({ state }) => [state.version, state.value ?? null]);

describe('replay', () => {
  const log = logOf('a', { n: 1 }, { n: 2 }, 'deleted', 'b', 'expired', 'c', { n: 3 });

  it('goes through every kind of entry, version by version', () => {
    const { steps, rest } = replay(absent(0), log);
    expect(rest).to.have.length(0);
    expect(shown(steps)).to.deep.equal([
      [1, { text: 'a', n: 0 }],
      [2, { text: 'a', n: 1 }],
      [3, { text: 'a', n: 2 }],
      [4, null],
      [5, { text: 'b', n: 0 }],
      [5, null],
      [6, { text: 'c', n: 0 }],
      [7, { text: 'c', n: 3 }],
    ]);
    expect(steps.map(({ step }) => step.kind)).to.deep.equal(log.map(({ kind }) => kind));
  });

  it('goes on from any state', () => {
    const three = replay(absent(0), log).steps[2]?.state ?? absent(0);
    expect(shown(replay(three, log.slice(3)).steps)).to.have.length(5);
    expect(replay(three, []).steps).to.have.length(0);
  });

  const entry = (index: number): LogEntry => log[index] as LogEntry;
  const stops: readonly (readonly [name: string, entries: readonly LogEntry[], steps: number])[] = [
    ['a version is missing', [entry(0), entry(2)], 1],
    ['one comes twice', [entry(0), entry(0)], 1],
    ['a base is another one', [entry(0), { ...entry(1), baseCrc: '00000000' }], 1],
    ['a result has not its checksum', [entry(0), damaged(entry(1)), entry(2)], 1],
    ['a whole document was too large to be kept', [entry(0), entry(1), entry(2), entry(3), bare(entry(4)), entry(5)], 4],
    ['an expiry is not that of the last version', [entry(0), { ...entry(5), version: 2 }], 1],
  ];
  for (const [name, entries, steps] of stops) {
    it(`stops where ${name}, with the rest`, () => {
      const replayed = replay(absent(0), entries);
      expect(replayed.steps).to.have.length(steps);
      expect(replayed.rest).to.deep.equal(entries.slice(steps));
    });
  }
});

describe('lastStep', () => {
  const log = logOf('a', 'b', 'c');
  const states = replay(absent(0), log).steps.map(({ state }) => state);
  const state = (version: number): ReplicaState => states[version - 1] as ReplicaState;
  const entry = (version: number): LogEntry => log[version - 1] as LogEntry;

  it('is one step where only its own entry lacked the bytes', () => {
    const step = lastStep(state(1), [bare(entry(2))], state(2));
    expect(step).to.deep.include({ kind: 'full', version: 2, crc: state(2).crc, value: state(2).value, base: state(1).value });
  });

  for (const [name, rest, whole] of [
    ['more than one was left', [bare(entry(2)), bare(entry(3))], state(3)],
    ['none was left', [], state(2)],
    ['the whole document is a later one', [bare(entry(2))], state(3)],
    ['the whole document is gone', [bare(entry(2))], absent(2)],
    ['it goes from another base', [{ ...bare(entry(2)), baseCrc: '00000000' }], state(2)],
    ['its entry has bytes, which did not fit', [entry(2)], state(2)],
  ] as const) {
    it(`is a jump where ${name}`, () => {
      expect(lastStep(state(1), rest, whole)).to.deep.include({ kind: 'reset', version: whole.version, value: whole.value });
    });
  }
});

describe('stateAt', () => {
  const log = logOf('a', { n: 1 }, { n: 2 }, 'b', { n: 3 }, 'deleted', 'c', 'expired');

  it('rebuilds each version from the last whole document before it', () => {
    const values = [1, 2, 3, 4, 5].map((version) => stateAt(version, log)?.value);
    expect(values).to.deep.equal([
      parseFrozen('{"text":"a","n":0}'),
      { text: 'a', n: 1 },
      { text: 'a', n: 2 },
      { text: 'b', n: 0 },
      { text: 'b', n: 3 },
    ]);
  });

  it('knows what was gone', () => {
    expect(stateAt(6, log)).to.include({ version: 6, value: undefined });
    expect(stateAt(7, log)).to.include({ version: 7, value: undefined });
  });

  it('reaches as far back as whole documents do', () => {
    const trimmed = log.slice(1);
    expect(stateAt(2, trimmed)).to.equal(null);
    expect(stateAt(3, trimmed)).to.equal(null);
    expect(stateAt(4, trimmed)?.value).to.deep.equal({ text: 'b', n: 0 });
  });

  it('gives nothing where it would have to guess', () => {
    expect(stateAt(1, [])).to.equal(null);
    expect(stateAt(9, log)).to.equal(null);
    expect(stateAt(0, log)).to.equal(null);
    expect(stateAt(3, [log[0], log[2]] as LogEntry[])).to.equal(null);
    expect(stateAt(2, [log[0], damaged(log[1] as LogEntry)] as LogEntry[])).to.equal(null);
    expect(stateAt(1, [bare(log[0] as LogEntry)])).to.equal(null);
  });
});

describe('squash', () => {
  /** Entries of these kinds, one version each, and the states that they lead to; the first is a whole document. */
  function spliced(kinds: readonly ('splice' | 'patch' | 'full')[]): { from: ReplicaState; entries: LogEntry[]; last: string } {
    let text = JSON.stringify({ n: 0, pad: 'p'.repeat(200) });
    const value = parseFrozen(text);
    const from = { ...absent(1), crc: crc32Hex(text), value, bytes: text.length };
    const entries = kinds.map((kind, index) => {
      const next = text.replace(/"n":\d+/, `"n":${index + 1}`);
      const splice = writeSplice(findSplice(Buffer.from(text), Buffer.from(next))).bytes;
      const patch = Buffer.from(`[{"op":"replace","path":"/n","value":${index + 1}}]`);
      const common = { ...COMMON, baseCrc: crc32Hex(text) };
      const frame = { splice, patch, full: Buffer.from(next) }[kind];
      text = next;
      return { ...common, kind, version: index + 2, frame, crc: crc32Hex(next), length: next.length };
    });
    return { from, entries, last: text };
  }
  const squashedTo = (from: ReplicaState, entries: readonly LogEntry[]): [versions: number[], rest: number, text: string] => {
    const { steps, rest } = squash(from, entries);
    return [steps.map(({ step }) => step.version), rest.length, JSON.stringify(steps.at(-1)?.state.value)];
  };

  it('makes splices one step, whose patch is one of the whole value', () => {
    const { from, entries, last } = spliced(Array.from({ length: 9 }, () => 'splice'));
    expect(squashedTo(from, entries)).to.deep.equal([[10], 0, last]);
    const [only] = squash(from, entries).steps;
    expect(only?.state.crc).to.equal(entries.at(-1)?.crc);
    // not for who has version 9, from which a watcher would go on
    expect(only?.step).to.include({ base: undefined, patch: null });
  });

  it('makes each run of splices one, and takes what is between as it is', () => {
    const { from, entries, last } = spliced(['splice', 'splice', 'patch', 'splice', 'full', 'splice', 'splice', 'splice']);
    expect(squashedTo(from, entries)).to.deep.equal([[3, 4, 5, 6, 9], 0, last]);
    expect(squash(from, entries).steps.at(-1)?.state.crc).to.equal(replay(from, entries).steps.at(-1)?.state.crc);
  });

  it('leaves one splice, and no entry at all, as they are', () => {
    const { from, entries, last } = spliced(['splice']);
    expect(squashedTo(from, entries)).to.deep.equal([[2], 0, last]);
    expect(squash(from, entries).steps[0]?.step.base).to.equal(from.value);
    expect(squash(from, [])).to.deep.equal({ steps: [], rest: [] });
  });

  it('goes as far as replaying where one is damaged', () => {
    const { from, entries } = spliced(['patch', 'splice', 'splice', 'splice', 'splice']);
    for (const [index, versions, rest] of [
      [0, [], 5],
      [2, [2, 3], 3],
      [4, [2, 3, 4, 5], 1],
    ] as const) {
      const broken = entries.with(index, { ...entries[index], frame: Buffer.from('01', 'hex') } as LogEntry);
      expect(squashedTo(from, broken).slice(0, 2), `entry ${index}`).to.deep.equal([versions, rest]);
      expect(replay(from, broken).rest).to.have.length(rest);
    }
  });

  it('does not go on from another document, nor over a missing version', () => {
    const { from, entries } = spliced(['splice', 'splice', 'splice', 'splice']);
    expect(squashedTo({ ...from, crc: '00000000' }, entries).slice(0, 2)).to.deep.equal([[], 4]);
    expect(squashedTo(from, entries.toSpliced(2, 1)).slice(0, 2)).to.deep.equal([[3], 1]);
  });
});
