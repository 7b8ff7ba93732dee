import { expect } from 'chai';
import fc from 'fast-check';
import type { Change } from '../../src/core/context.js';
import type { JsonValue } from '../../src/core/json.js';
import { applyPatch, type Patch } from '../../src/core/patch.js';
import { ReplicaSet } from '../../src/replica/ReplicaSet.js';
import type { ChangeStep } from '../../src/replica/state.js';
import { absent, type ReplicaState } from '../../src/replica/state.js';
import type { Watcher } from '../../src/replica/Watcher.js';
import { type Mark, SimulatedRedis, type WriteForm } from './simulatedRedis.js';

/** Entries of a log that is never trimmed. */
const WHOLE_LOG = 1_000;
const IDS = ['a', 'b'] as const;
type Id = (typeof IDS)[number];

type Action =
  | { readonly do: 'write'; readonly id: Id; readonly form: WriteForm; readonly edit: number }
  | { readonly do: 'own write'; readonly id: Id; readonly form: WriteForm; readonly edit: number }
  | { readonly do: 'delete' | 'own delete' | 'get'; readonly id: Id }
  | { readonly do: 'touch'; readonly id: Id; readonly ttl: number | null }
  | { readonly do: 'pass'; readonly ms: number }
  | { readonly do: 'watch'; readonly id: Id; readonly from: number | null; readonly queue: number }
  | { readonly do: 'consume'; readonly watcher: number; readonly count: number }
  | { readonly do: 'delay'; readonly by: number }
  | { readonly do: 'flip'; readonly at: number; readonly bit: number }
  | { readonly do: (typeof PLAIN)[number] };

const PLAIN = [
  'sweep',
  'execute',
  'answer',
  'deliver',
  'double',
  'drop',
  'disconnect',
  'reconnect',
  'break commands',
  'heartbeat',
  'timer',
] as const;

const id = fc.constantFrom<Id>(...IDS);
const form: fc.Arbitrary<WriteForm> = fc.record({
  asPatch: fc.boolean(),
  logPatch: fc.boolean(),
  logBare: fc.boolean(),
  follows: fc.boolean(),
  ttl: fc.oneof({ weight: 3, arbitrary: fc.constant(null) }, { weight: 1, arbitrary: fc.integer({ min: 1, max: 30 }) }),
});
const plain = (...names: readonly (typeof PLAIN)[number][]): fc.Arbitrary<Action> =>
  fc.constantFrom(...names).map((name) => ({ do: name }));

/** `faults`: what the network may do to messages. */
const actions = (faults: fc.Arbitrary<Action>): fc.Arbitrary<Action[]> =>
  fc.array(
    fc.oneof(
      { weight: 6, arbitrary: fc.record({ do: fc.constant('write' as const), id, form, edit: fc.nat(9) }) },
      { weight: 3, arbitrary: fc.record({ do: fc.constant('own write' as const), id, form, edit: fc.nat(9) }) },
      { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('delete' as const, 'own delete' as const), id }) },
      { weight: 4, arbitrary: fc.record({ do: fc.constant('get' as const), id }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('touch' as const), id, ttl: form.map(({ ttl }) => ttl) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.integer({ min: 1, max: 30 }) }) },
      {
        weight: 2,
        arbitrary: fc.record({
          do: fc.constant('watch' as const),
          id,
          from: fc.oneof(fc.constant(null), fc.nat(6)),
          queue: fc.constantFrom(1, 2, 256),
        }),
      },
      {
        weight: 2,
        arbitrary: fc.record({ do: fc.constant('consume' as const), watcher: fc.nat(5), count: fc.integer({ min: 1, max: 3 }) }),
      },
      { weight: 10, arbitrary: plain('execute', 'answer') },
      { weight: 8, arbitrary: plain('deliver') },
      { weight: 2, arbitrary: plain('sweep', 'heartbeat', 'timer') },
      { weight: 3, arbitrary: plain('disconnect', 'reconnect', 'break commands') },
      { weight: 3, arbitrary: faults },
    ),
    { minLength: 1, maxLength: 100, size: 'max' },
  );
const inOrder = plain('drop');
const inAnyOrder = fc.oneof(
  plain('drop', 'double'),
  fc.record({ do: fc.constant('delay' as const), by: fc.integer({ min: 1, max: 4 }) }),
);
const damaged = fc.record({ do: fc.constant('flip' as const), at: fc.nat(400), bit: fc.nat(7) });

/** An edit of a small document, as the value and as a patch. */
function edit(value: JsonValue, kind: number, serial: number): { value: JsonValue; patch: Patch } {
  const list = (value as { list?: readonly JsonValue[] } | null)?.list ?? [];
  const patches: readonly Patch[] = [
    [{ op: 'replace', path: '/n', value: serial }],
    [
      { op: 'add', path: '/list/-', value: serial },
      { op: 'replace', path: '/n', value: serial },
    ],
    [
      { op: 'add', path: '/list/0', value: { at: serial } },
      { op: 'test', path: '/list/0/at', value: serial },
    ],
    list.length > 0 ? [{ op: 'remove', path: '/list/0' }] : [{ op: 'replace', path: '/n', value: -serial }],
  ];
  const patch = patches[kind % patches.length] as Patch;
  return { patch, value: applyPatch(value ?? { n: 0, list: [] }, patch) };
}

interface Watched {
  readonly id: Id;
  readonly watcher: Watcher;
  readonly from: number | null;
  /** Version that was the last when it began. */
  readonly begun: number;
  /** Read as fast as changes come, or only where a step says so. */
  readonly slow: boolean;
  readonly seen: Change[];
}

/** One store's replicas over the simulated server, with everything that its readers and watchers saw. */
class World {
  readonly redis: SimulatedRedis;
  readonly replicas: ReplicaSet;
  readonly watched: Watched[] = [];
  readonly #timers: (() => void)[] = [];
  readonly #setTimeout = globalThis.setTimeout;
  #serial = 0;
  #beating = false;
  /** The lowest version that a read may still give, by id. */
  readonly #floor = new Map<Id, number>();
  readonly #problems: string[] = [];

  constructor(logKeep: number) {
    this.redis = new SimulatedRedis(logKeep);
    this.replicas = new ReplicaSet(
      this.redis.commands,
      this.redis.subscriptions,
      this.redis.reader,
      { maxBytes: 1_000_000, timeoutMs: 1_000, copyValues: false },
      { corrupt: () => {}, resync: () => {}, expired: () => {} },
    );
    // timers run where a step says so
    globalThis.setTimeout = ((run: () => void) => {
      this.#timers.push(run);
      return { unref: () => {} };
    }) as unknown as typeof globalThis.setTimeout;
  }

  end(): void {
    globalThis.setTimeout = this.#setTimeout;
    this.replicas.close();
    this.redis.breakCommands();
  }

  async run(action: Action): Promise<void> {
    const { redis } = this;
    switch (action.do) {
      case 'write':
        redis.write(action.id, (value) => edit(value, action.edit, ++this.#serial), action.form);
        break;
      case 'own write':
        this.#ownWrite(action.id, action.form, action.edit);
        break;
      case 'delete':
        redis.remove(action.id);
        break;
      case 'own delete':
        this.#ownDelete(action.id);
        break;
      case 'get':
        this.#get(action.id);
        break;
      case 'touch':
        redis.touch(action.id, action.ttl);
        break;
      case 'pass':
        redis.now += action.ms;
        break;
      case 'watch':
        this.watch(action.id, action.from, action.queue);
        break;
      case 'consume':
        await this.#consume(this.watched[action.watcher], action.count);
        break;
      case 'delay':
        redis.delay(action.by);
        break;
      case 'flip':
        redis.flip(action.at, action.bit);
        break;
      case 'sweep':
        redis.sweep();
        break;
      case 'execute':
        redis.executeNext();
        break;
      case 'answer':
        redis.answerNext();
        break;
      case 'deliver':
        redis.deliver();
        break;
      case 'double':
        redis.deliver(2);
        break;
      case 'drop':
        redis.drop();
        break;
      case 'disconnect':
        redis.disconnect();
        break;
      case 'reconnect':
        this.#reconnect();
        break;
      case 'break commands':
        redis.breakCommands();
        break;
      case 'heartbeat':
        this.#heartbeat();
        break;
      case 'timer':
        this.#timers.shift()?.();
        break;
    }
    await this.settle();
  }

  /** Lets everything that can go on do so. */
  settle(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }

  watch(id: Id, from: number | null, queue: number): void {
    const watcher = this.replicas.watch(id, from ?? undefined, queue, undefined);
    const begun = this.redis.context(id).lastVersion;
    const watched: Watched = { id, watcher, from, begun, slow: queue < 256, seen: [] };
    this.watched.push(watched);
    if (!watched.slow) void this.#follow(watched);
  }

  /** The network is well again: everything is answered, and heartbeats find what was missed. */
  async recover(): Promise<void> {
    const { redis } = this;
    if (!redis.up) this.#reconnect();
    for (let round = 0; round < 6; round += 1) {
      for (let step = 0; redis.asked > 0 || redis.sent > 0 || this.#timers.length > 0; step += 1) {
        if (step > 5_000) throw new Error('it never comes to rest');
        redis.answerNext();
        redis.deliver();
        this.#timers.shift()?.();
        await this.settle();
      }
      redis.sweep();
      this.#heartbeat();
      await this.settle();
    }
  }

  /** What the store's own readers saw that they should not have. */
  get problems(): readonly string[] {
    return this.#problems;
  }

  async #follow({ watcher, seen }: Watched): Promise<void> {
    for await (const change of watcher) seen.push(change);
  }

  async #consume(watched: Watched | undefined, count: number): Promise<void> {
    if (watched?.slow !== true) return;
    for (let taken = 0; taken < count; taken += 1) {
      const pending = watched.watcher.next();
      const next = await Promise.race([pending, this.settle()]);
      if (next === undefined) {
        void pending.then(({ value, done }) => {
          if (done !== true) watched.seen.push(value);
        });
        return;
      }
      if (next.done !== true) watched.seen.push(next.value);
    }
  }

  /** All that slow ones have not asked for yet. */
  async catchUpConsumers(): Promise<void> {
    for (const watched of this.watched) {
      if (!watched.slow) continue;
      for (let before = -1; before !== watched.seen.length; ) {
        before = watched.seen.length;
        await this.#consume(watched, 10);
        await this.settle();
      }
    }
  }

  #reconnect(): void {
    if (this.redis.up) return;
    this.redis.reconnect();
    // an answer from memory after this follows a comparison, so it is at least what is there now
    for (const id of IDS) this.#raise(id, this.#lastPresent(id));
    this.replicas.verifyAll('reconnect').catch(() => {});
  }

  #heartbeat(): void {
    if (this.#beating || !this.redis.up) return;
    this.#beating = true;
    void this.replicas
      .verifyAll('heartbeat')
      .catch(() => {})
      .finally(() => {
        this.#beating = false;
      });
  }

  #get(id: Id): void {
    const floor = this.#floor.get(id) ?? 0;
    const answer = this.replicas.answer(id);
    if (answer !== undefined) {
      if (!this.redis.up) this.#problems.push(`${id}: answered from memory while the subscriptions were down`);
      void answer.then((context) => this.#saw(id, floor, context));
      return;
    }
    void this.redis
      .ask(() => this.redis.present(id))
      .then(
        (state) => this.#saw(id, floor, this.replicas.seen(id, state)),
        () => {},
      );
  }

  #ownWrite(id: Id, form: WriteForm, kind: number): void {
    void this.redis
      .ask((): [ReplicaState, Patch] => {
        let patch: Patch = [];
        const next = (value: JsonValue): { value: JsonValue; patch: Patch } => {
          const made = edit(value, kind, ++this.#serial);
          ({ patch } = made);
          return made;
        };
        return [this.redis.write(id, next, form), patch];
      })
      .then(
        ([state, patch]) => {
          const { version, crc, value, at } = state;
          const asPatch = form.asPatch && state.version > 1;
          const step: ChangeStep = { kind: 'full', version, at, crc, value, patch: null, base: undefined };
          this.replicas.committed(id, state, asPatch && this.#wasPatch(id, version) ? { ...step, kind: 'patch', patch } : step);
          this.#raise(id, version);
        },
        () => {},
      );
  }

  /** A patch needs a live base. */
  #wasPatch(id: Id, version: number): boolean {
    const { marks } = this.redis.context(id);
    const at = marks.findIndex((mark) => mark.version === version);
    return marks[at - 1]?.kind === 'written';
  }

  #ownDelete(id: Id): void {
    void this.redis
      .ask(() => this.redis.remove(id))
      .then(
        (version) => {
          if (version === null) return;
          const state = { ...absent(version), at: this.redis.now };
          const step: ChangeStep = {
            kind: 'deleted',
            version,
            at: state.at,
            crc: '',
            value: undefined,
            patch: null,
            base: undefined,
          };
          this.replicas.committed(id, state, step);
          this.#raise(id, version);
        },
        () => {},
      );
  }

  #saw(id: Id, floor: number, context: { version: number; value: JsonValue } | null): void {
    const { marks } = this.redis.context(id);
    if (context === null) {
      // gone at some time after what was seen before; an expiry counts from its time on, swept or not
      const at = marks.find(
        (mark, index) =>
          mark.version >= floor &&
          (mark.text === null ||
            (mark.expiresAt !== null && mark.expiresAt <= this.redis.now) ||
            (index === marks.length - 1 && this.redis.present(id) === null)),
      );
      if (at === undefined && floor > 0) this.#problems.push(`${id}: nothing was read after version ${floor}`);
      return;
    }
    const mark = marks.find(({ version, kind }) => version === context.version && kind === 'written');
    if (mark?.text !== JSON.stringify(context.value)) {
      this.#problems.push(`${id}: version ${context.version} was read as ${JSON.stringify(context.value)}, not ${mark?.text}`);
    }
    if (context.version < floor) this.#problems.push(`${id}: version ${context.version} was read after ${floor}`);
    this.#raise(id, context.version);
  }

  #raise(id: Id, version: number): void {
    this.#floor.set(id, Math.max(this.#floor.get(id) ?? 0, version));
  }

  /** Version of what is there or, where nothing is, of what took it away. */
  #lastPresent(id: Id): number {
    return this.redis.context(id).lastVersion;
  }
}

/** Every mark once, in order, or a reset that leads to one further on. */
function checkSequence({ id, from, begun, slow, seen }: Watched, marks: readonly Mark[], logIsWhole: boolean): void {
  const shown = `${id} from ${from}: ${seen.map(({ kind, version }) => `${kind} ${version}`).join(', ')}\nmarks: ${marks
    .map(({ kind, version }) => `${kind} ${version}`)
    .join(', ')}`;
  // index of the last mark that was told; null: where it began is not known yet
  let at: number | null =
    from === null || from > begun ? null : marks.findLastIndex(({ version, kind }) => version <= from && kind !== 'expired');
  let gone = false;
  let value: JsonValue | undefined;
  for (const change of seen) {
    const wanted: Mark['kind'] = change.kind === 'deleted' || change.kind === 'expired' ? change.kind : 'written';
    if (change.kind === 'reset') {
      const to =
        change.value === null
          ? // what has expired may be told as gone before it is swept
            marks.findLastIndex(({ version }) => version === change.version)
          : marks.findIndex(({ version, kind }) => version === change.version && kind === 'written');
      if (change.version > 0) expect(to, `a reset to what never was\n${shown}`).to.be.at.least(0);
      expect(to, `a reset back\n${shown}`).to.be.at.least(at ?? -1);
      if (change.value !== null) expect(JSON.stringify(change.value), shown).to.equal(marks[to]?.text);
      at = to;
    } else {
      const index = marks.findIndex(({ version, kind }) => version === change.version && kind === wanted);
      expect(index, `a change that never was\n${shown}`).to.be.at.least(0);
      // that it expired in between is no version of its own, and is not told where the log has forgotten it
      if (at !== null && !logIsWhole && index === at + 2 && marks[at + 1]?.kind === 'expired') at += 1;
      if (at !== null) expect(index, `a version twice, skipped or out of order\n${shown}`).to.equal(at + 1);
      at = index;
      if (wanted === 'written') {
        expect(JSON.stringify(change.value), `the value of version ${change.version}\n${shown}`).to.equal(marks[index]?.text);
        if (change.kind === 'patch' && value !== undefined) {
          expect(JSON.stringify(applyPatch(value, change.patch ?? [])), shown).to.equal(marks[index]?.text);
        }
      } else {
        expect(change.value, shown).to.equal(null);
      }
    }
    value = change.value ?? undefined;
    gone = change.value === null;
  }
  if (slow || at === null) return;
  // told as gone with the version before: what took it away comes with the next change
  if (gone && marks[at]?.kind === 'written' && marks[at + 1]?.text === null) at += 1;
  expect(at, `it ended before the last version\n${shown}`).to.equal(marks.length - 1);
}

async function simulate(logKeep: number, steps: readonly Action[]): Promise<void> {
  const world = new World(logKeep);
  try {
    for (const one of IDS) world.watch(one, 0, 256);
    await world.settle();
    for (const step of steps) {
      await world.run(step);
      expect(world.problems.join('\n'), JSON.stringify(step)).to.equal('');
    }
    await world.recover();
    await world.catchUpConsumers();
    expect(world.problems.join('\n')).to.equal('');
    for (const watched of world.watched) {
      checkSequence(watched, world.redis.context(watched.id).marks, logKeep === WHOLE_LOG);
    }
    for (const one of IDS) {
      const answer = world.replicas.answer(one);
      expect(answer, `${one} is not answered from memory after all is well`).not.to.equal(undefined);
      const context = await answer;
      const present = world.redis.present(one);
      expect(context?.version ?? null, one).to.equal(present?.version ?? null);
      expect(JSON.stringify(context?.value), one).to.equal(JSON.stringify(present?.value));
      expect(context?.expiresAt ?? null, one).to.equal(present?.expiresAt ?? null);
    }
  } finally {
    world.end();
  }
}

const logKeeps = fc.constantFrom(1, 3, 8, WHOLE_LOG);

describe('watch, replicas and reads, over every order that a simulated network can bring', function () {
  this.timeout(60_000);

  it('hold where messages are lost, and both connections break at any time', () =>
    fc.assert(fc.asyncProperty(logKeeps, actions(inOrder), simulate), { numRuns: 400 }));

  it('hold where messages are also doubled and come out of order', () =>
    fc.assert(fc.asyncProperty(logKeeps, actions(inAnyOrder), simulate), { numRuns: 400 }));

  it('hold where any bit of any message may be flipped', () =>
    fc.assert(fc.asyncProperty(logKeeps, actions(fc.oneof(inOrder, damaged)), simulate), { numRuns: 400 }));
});
