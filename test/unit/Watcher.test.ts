import { expect } from 'chai';
import type { Change } from '../../src/core/context.js';
import type { JsonValue } from '../../src/core/json.js';
import { absent, type ChangeStep, resetStep } from '../../src/replica/state.js';
import { Watcher } from '../../src/replica/Watcher.js';

const step = (version: number, given: Partial<ChangeStep> = {}): ChangeStep => ({
  kind: 'full',
  version,
  at: 1_000 + version,
  crc: version.toString(16).padStart(8, '0'),
  value: { n: version },
  bytes: 10,
  patch: null,
  base: undefined,
  ...given,
});
const gone = (kind: 'deleted' | 'expired', version: number): ChangeStep =>
  step(version, { kind, crc: '', value: undefined, bytes: 0 });
const reset = (version: number, value: JsonValue | undefined = { n: version }): ChangeStep =>
  resetStep({ ...absent(version), value, crc: 'cafe0000' });

/** A watcher that began at version 0, with what it asked for. */
class Watched {
  readonly missing: number[] = [];
  readonly overflowed: number[] = [];
  ended = 0;
  readonly watcher: Watcher;
  /** Asked for by an earlier read that came to the end of what was there. */
  #pending: Promise<IteratorResult<Change>> | null = null;

  constructor(limit = 100, options: { copies?: boolean; signal?: AbortSignal; cursor?: number; replaying?: boolean } = {}) {
    this.watcher = new Watcher(
      'a',
      {
        missing: (watcher) => this.missing.push(watcher.cursor),
        overflowed: (from) => this.overflowed.push(from),
        ended: () => {
          this.ended += 1;
        },
      },
      limit,
      options.copies ?? false,
      options.signal,
    );
    this.watcher.start(options.cursor ?? 0, options.cursor === undefined);
    if (options.replaying !== true) this.watcher.replay([]);
  }

  /** What can be read without waiting. */
  async read(): Promise<Change[]> {
    const changes: Change[] = [];
    for (;;) {
      this.#pending ??= this.watcher.next();
      const next = await Promise.race([this.#pending, new Promise<null>((resolve) => setImmediate(resolve, null))]);
      if (next === null) return changes;
      this.#pending = null;
      if (next.done === true) return changes;
      changes.push(next.value);
    }
  }

  async told(): Promise<string[]> {
    return (await this.read()).map(({ kind, version }) => `${kind} ${version}`);
  }

  offer(...steps: readonly ChangeStep[]): void {
    for (const one of steps) this.watcher.offer(one);
  }
}

describe('Watcher', () => {
  it('yields steps in order, each once', async () => {
    const watched = new Watched();
    watched.offer(
      step(1),
      step(2),
      step(2),
      step(1),
      step(3),
      gone('deleted', 4),
      step(5),
      gone('expired', 5),
      gone('expired', 5),
    );
    expect(await watched.told()).to.deep.equal(['full 1', 'full 2', 'full 3', 'deleted 4', 'full 5', 'expired 5']);
    expect(watched.missing).to.have.length(0);
  });

  it('makes a patch once, for however many watchers there are', async () => {
    const base = { n: 1, kept: 'k'.repeat(100) };
    const steps = [
      step(2, { kind: 'patch', base, value: { ...base, n: 2 } }),
      reset(3),
      step(4, { kind: 'patch', patch: [{ op: 'replace', path: '/n', value: 4 }] }),
      gone('deleted', 5),
    ];
    const ten = Array.from({ length: 10 }, (_, index) => new Watched(100, { cursor: 1, copies: index % 2 === 1 }));
    for (const one of ten) one.offer(...steps);
    const patches = await Promise.all(ten.map(async (one) => (await one.read()).map(({ patch }) => patch)));
    const [first = []] = patches;
    expect(first).to.deep.equal([
      [{ op: 'replace', path: '/n', value: 2 }],
      [{ op: 'replace', path: '', value: { n: 3 } }],
      [{ op: 'replace', path: '/n', value: 4 }],
      null,
    ]);
    for (const others of patches) for (const [index, patch] of others.entries()) expect(patch).to.equal(first[index]);
    expect(first.slice(0, 3).every((patch) => Object.isFrozen(patch))).to.equal(true);
  });

  it('answers who waits already, in the order they asked', async () => {
    const { watcher } = new Watched();
    const asked = [watcher.next(), watcher.next()];
    watcher.offer(step(1));
    watcher.offer(step(2));
    expect((await Promise.all(asked)).map(({ value }) => value.version)).to.deep.equal([1, 2]);
  });

  describe('where a version is missing', () => {
    it('asks for what lies between, and holds what comes meanwhile', async () => {
      const watched = new Watched();
      watched.offer(step(1), step(4), step(5));
      expect(watched.missing).to.deep.equal([1]);
      expect(await watched.told()).to.deep.equal(['full 1']);
    });

    it('goes on with what was fetched and then with what was held, each once', async () => {
      const watched = new Watched();
      watched.offer(step(1), step(4), step(5));
      watched.watcher.replay([step(2), step(3), step(4)]);
      expect(await watched.told()).to.deep.equal(['full 1', 'full 2', 'full 3', 'full 4', 'full 5']);
      expect(watched.missing).to.have.length(1);
    });

    it('asks again where what was fetched does not reach', async () => {
      const watched = new Watched();
      watched.offer(step(1), step(4));
      watched.watcher.replay([step(2)]);
      expect(watched.missing).to.deep.equal([1, 2]);
      watched.watcher.replay([step(3)]);
      expect(await watched.told()).to.deep.equal(['full 1', 'full 2', 'full 3', 'full 4']);
    });

    it('asks for an expiry of a version that it has not had', () => {
      const watched = new Watched();
      watched.offer(step(1), gone('expired', 2));
      expect(watched.missing).to.deep.equal([1]);
    });

    it('takes a reset for all of it', async () => {
      const watched = new Watched();
      watched.offer(step(1), step(9));
      watched.watcher.replay([reset(8)]);
      expect(await watched.told()).to.deep.equal(['full 1', 'reset 8', 'full 9']);
    });

    it('what it cannot hold any more it asks for afterwards', async () => {
      const watched = new Watched(2);
      watched.offer(step(3), step(4), step(5), step(6));
      expect(watched.missing).to.deep.equal([0]);
      const read = watched.told();
      watched.watcher.replay([step(1), step(2), step(3)]);
      expect(watched.missing).to.deep.equal([0, 3]);
      await read;
    });
  });

  describe('where it is told how far the context has come', () => {
    it('asks for what it has not', () => {
      const watched = new Watched();
      watched.watcher.reach(3, false);
      expect(watched.missing).to.deep.equal([0]);
    });

    it('asks for the expiry of what it has', () => {
      const watched = new Watched();
      watched.offer(step(1));
      watched.watcher.reach(1, false);
      expect(watched.missing).to.have.length(0);
      watched.watcher.reach(1, true);
      expect(watched.missing).to.deep.equal([1]);
    });

    it('does not forget it while it catches up', () => {
      const watched = new Watched(100, { replaying: true });
      watched.watcher.reach(3, false);
      expect(watched.missing).to.have.length(0);
      watched.watcher.replay([step(1)]);
      expect(watched.missing).to.deep.equal([1]);
      watched.watcher.replay([step(2), step(3)]);
      expect(watched.missing).to.have.length(1);
    });

    it('asks once more, not for ever, where nothing can be had', () => {
      const watched = new Watched(100, { replaying: true });
      watched.watcher.reach(3, false);
      for (let time = 0; time < 5; time += 1) watched.watcher.replay([]);
      expect(watched.missing).to.deep.equal([0]);
    });
  });

  describe('of resets', () => {
    it('takes one that leads back: the context is not what it was', async () => {
      const watched = new Watched(100, { cursor: 5 });
      watched.offer(reset(3), step(4));
      expect(await watched.told()).to.deep.equal(['reset 3', 'full 4']);
    });

    it('leaves out one that leads to where it is already', async () => {
      const watched = new Watched(100, { cursor: 5 });
      watched.offer({ ...reset(4), forward: true }, { ...reset(5), forward: true }, step(6));
      expect(await watched.told()).to.deep.equal(['full 6']);
    });

    it('takes one that tells that what it has is gone', async () => {
      const watched = new Watched(100, { cursor: 5 });
      watched.offer({ ...resetStep(absent(5)), forward: true }, { ...reset(5), forward: true });
      expect(await watched.told()).to.deep.equal(['reset 5']);
    });
  });

  describe('a slow consumer', () => {
    it('gets one reset with the last state for all that it has not read', async () => {
      const watched = new Watched(3);
      watched.offer(step(1), step(2), step(3), step(4), step(5));
      expect(watched.overflowed).to.deep.equal([1]);
      const [only, ...more] = await watched.read();
      expect(more).to.have.length(0);
      expect(only).to.deep.include({
        kind: 'reset',
        version: 5,
        value: { n: 5 },
        patch: [{ op: 'replace', path: '', value: { n: 5 } }],
      });
      watched.offer(step(6));
      expect(await watched.told()).to.deep.equal(['full 6']);
    });

    it('gets it for what was removed as well', async () => {
      const watched = new Watched(1);
      watched.offer(step(1), step(2), gone('deleted', 3));
      expect((await watched.read()).map(({ kind, version, value }) => [kind, version, value])).to.deep.equal([
        ['reset', 3, null],
      ]);
      watched.offer(step(4));
      expect(await watched.told()).to.deep.equal(['full 4']);
    });

    it('is bounded by bytes too', async () => {
      const watched = new Watched(1_000);
      for (let version = 1; version <= 6; version += 1) watched.offer(step(version, { bytes: 4 * 1024 * 1024 }));
      expect(watched.overflowed).to.have.length(1);
      expect(await watched.told()).to.deep.equal(['reset 6']);
      watched.offer(step(7, { bytes: 4 * 1024 * 1024 }));
      expect(await watched.told()).to.deep.equal(['full 7']);
    });

    it('is not one where it keeps up', async () => {
      const watched = new Watched(2);
      for (let version = 1; version <= 20; version += 2) {
        watched.offer(step(version), step(version + 1));
        expect(await watched.told()).to.deep.equal([`full ${version}`, `full ${version + 1}`]);
      }
      expect(watched.overflowed).to.have.length(0);
    });
  });

  describe('a change', () => {
    const only = async (one: ChangeStep, options = {}): Promise<Change> => {
      const watched = new Watched(10, { cursor: one.version - 1, ...options });
      watched.offer(one);
      const [change] = await watched.read();
      if (change === undefined) throw new Error('nothing was told');
      return change;
    };

    it('has id, version, checksum, time, value and patch', async () => {
      const patch = [{ op: 'replace', path: '/n', value: 2 }] as const;
      const { patch: told, ...rest } = await only(step(2, { kind: 'patch', patch }));
      expect(rest).to.deep.equal({ id: 'a', version: 2, kind: 'patch', value: { n: 2 }, checksum: '00000002', at: 1_002 });
      expect(told).to.equal(patch);
      expect(Object.isFrozen(told)).to.equal(true);
    });

    it('of a whole document has a patch from the one before it, the same each time', async () => {
      const change = await only(step(2, { base: { n: 1, kept: true }, value: { n: 2, kept: true } }));
      expect(change.patch).to.deep.equal([{ op: 'replace', path: '/n', value: 2 }]);
      expect(change.patch).to.equal(change.patch);
    });

    it('of a whole document without one before it replaces everything', async () => {
      expect((await only(step(2))).patch).to.deep.equal([{ op: 'replace', path: '', value: { n: 2 } }]);
    });

    it('that took the context away has neither value, checksum nor patch', async () => {
      for (const kind of ['deleted', 'expired'] as const) {
        const watched = new Watched(10, { cursor: 1 });
        watched.offer(gone(kind, kind === 'deleted' ? 2 : 1));
        expect((await watched.read())[0]).to.include({ kind, value: null, checksum: null, patch: null });
      }
    });

    it('tells null as a value', async () => {
      expect(await only(step(2, { value: null }))).to.include({ value: null, checksum: '00000002', kind: 'full' });
    });

    it('shares its value, or copies it', async () => {
      const value = Object.freeze({ n: 2 });
      expect((await only(step(2, { value }))).value).to.equal(value);
      const copied = (await only(step(2, { value }), { copies: true })).value;
      expect(copied).to.deep.equal(value);
      expect(copied).not.to.equal(value);
      expect(Object.isFrozen(copied)).to.equal(false);
    });
  });

  describe('ends', () => {
    it('with return, and drops what is queued', async () => {
      const watched = new Watched();
      watched.offer(step(1));
      const waiting = new Watched();
      const asked = waiting.watcher.next();
      expect(await watched.watcher.return()).to.deep.equal({ done: true, value: undefined });
      expect(await watched.watcher.next()).to.deep.equal({ done: true, value: undefined });
      await waiting.watcher.return();
      expect(await asked).to.deep.equal({ done: true, value: undefined });
      expect(watched.ended).to.equal(1);
    });

    it('with the signal', async () => {
      const controller = new AbortController();
      const watched = new Watched(10, { signal: controller.signal });
      const asked = watched.watcher.next();
      controller.abort();
      expect(await asked).to.deep.equal({ done: true, value: undefined });
      expect(watched.watcher.ended).to.equal(true);
    });

    it('with the loop, and from outside after what is queued was read', async () => {
      const watched = new Watched();
      watched.offer(step(1), step(2), step(3));
      watched.watcher.end();
      watched.watcher.end();
      const read: number[] = [];
      for await (const { version } of watched.watcher) {
        read.push(version);
        if (version === 2) break;
      }
      expect(read).to.deep.equal([1, 2]);
      expect(watched.ended).to.equal(1);
      expect(await watched.told()).to.deep.equal([]);
    });

    it('and takes nothing after that', async () => {
      const watched = new Watched();
      watched.watcher.end();
      watched.offer(step(1), step(9));
      watched.watcher.reach(20, false);
      expect(watched.missing).to.have.length(0);
      expect(await watched.told()).to.deep.equal([]);
    });
  });
});
