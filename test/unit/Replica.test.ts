import { expect } from 'chai';
import { findSplice } from '../../src/core/blockMatch.js';
import { crc32Hex } from '../../src/core/checksum.js';
import type { Frame } from '../../src/core/frame.js';
import { JsonDocument } from '../../src/core/JsonDocument.js';
import { type JsonValue, parseFrozen } from '../../src/core/json.js';
import { writeSplice } from '../../src/core/spliceFormat.js';
import { nextState } from '../../src/replica/nextState.js';
import { Replica } from '../../src/replica/Replica.js';
import { absent, type ReplicaState, resetStep } from '../../src/replica/state.js';
import { Watcher } from '../../src/replica/Watcher.js';

/** A state but for its document, which is its value in another form. */
function plain<T extends { readonly document?: unknown }>({ document: _, ...state }: T): Omit<T, 'document'> {
  return state;
}

function stateOf(version: number, value: JsonValue, expiresAt: number | null = null): ReplicaState {
  const text = JSON.stringify(value);
  return {
    version,
    crc: crc32Hex(text),
    value: parseFrozen(text),
    bytes: Buffer.byteLength(text),
    at: 1_000 + version,
    expiresAt,
  };
}

/** The frame that leads from one state to the next, as a whole document unless there is a patch. */
function frameTo(to: ReplicaState, from: ReplicaState, patch?: string): Frame {
  return {
    kind: patch === undefined ? 'full' : 'patch',
    version: to.version,
    crc: to.crc,
    baseVersion: from.version,
    baseCrc: from.crc,
    length: to.bytes,
    at: to.at,
    expiresAt: to.expiresAt,
    operation: 'op',
    by: 'test',
    payload: Buffer.from(patch ?? JSON.stringify(to.value)),
  };
}

const removal = (kind: 'deleted' | 'expired', from: ReplicaState): Frame => ({
  ...frameTo(from, from),
  kind,
  version: kind === 'deleted' ? from.version + 1 : from.version,
  crc: '',
  length: 0,
  payload: Buffer.alloc(0),
});

const ONE = stateOf(1, { n: 1 });
const TWO = stateOf(2, { n: 2 });
const THREE = stateOf(3, { n: 3 });
const PATCH_TO_TWO = '[{"op":"replace","path":"/n","value":2}]';

describe('Replica', () => {
  it('follows frames that build on what it holds', () => {
    const replica = new Replica('a', ONE);
    expect(replica.apply(frameTo(TWO, ONE, PATCH_TO_TWO))).to.equal('applied');
    expect(plain(replica.state)).to.deep.equal(TWO);
    expect(replica.apply(frameTo(THREE, TWO))).to.equal('applied');
    expect(plain(replica.state)).to.deep.equal(THREE);
    expect(replica.apply(removal('deleted', THREE))).to.equal('applied');
    expect(replica.context).to.equal(null);
    expect(replica.version).to.equal(4);
    const five = stateOf(5, 'again');
    expect(replica.apply(frameTo(five, absent(4)))).to.equal('applied');
    expect(replica.context?.value).to.equal('again');
    expect(replica.apply(removal('expired', five))).to.equal('applied');
    expect(replica.context).to.equal(null);
    expect(replica.version).to.equal(5);
  });

  describe('does not apply', () => {
    const other = stateOf(1, { n: 'other' });
    const cases: readonly (readonly [name: string, state: ReplicaState, frame: Frame, outcome: string])[] = [
      ['what it has already', TWO, frameTo(TWO, ONE), 'ignored'],
      ['what is older', THREE, frameTo(TWO, ONE, PATCH_TO_TWO), 'ignored'],
      ['what is older, as a deletion', THREE, removal('deleted', ONE), 'ignored'],
      ['its own version with another content', TWO, frameTo(stateOf(2, 'other'), ONE), 'gap'],
      ['what skips a version', ONE, frameTo(THREE, TWO), 'gap'],
      ['a patch on another base', ONE, frameTo(TWO, other, PATCH_TO_TWO), 'gap'],
      ['a whole document on another base: history is not what it was', ONE, frameTo(TWO, other), 'gap'],
      ['a whole document that says it is the first', ONE, frameTo(TWO, absent(1)), 'gap'],
      ['a patch where there is nothing', absent(1), frameTo(TWO, ONE, PATCH_TO_TWO), 'gap'],
      [
        'a first version whose number was damaged into the next one',
        absent(8),
        { ...frameTo(ONE, absent(0)), version: 9 },
        'gap',
      ],
      ['the deletion of another base', ONE, removal('deleted', other), 'gap'],
      ['the expiry of another base', ONE, removal('expired', other), 'gap'],
      ['an expiry of a version that it has not', ONE, removal('expired', TWO), 'gap'],
      ['an expiry that it knows of', absent(2), removal('expired', TWO), 'ignored'],
      ['a first version after the last: versions have begun again', absent(7), frameTo(ONE, absent(0)), 'gap'],
    ];
    for (const [name, state, frame, outcome] of cases) {
      it(name, () => {
        const replica = new Replica('a', state);
        expect(replica.apply(frame)).to.equal(outcome);
        expect(replica.state).to.equal(state);
      });
    }

    const damaged: readonly (readonly [name: string, frame: Frame])[] = [
      ['a whole document without its checksum', { ...frameTo(TWO, ONE), payload: Buffer.from('{"n":3}') }],
      ['a whole document that is no JSON', { ...frameTo(TWO, ONE), payload: Buffer.from('{"n":2') }],
      [
        'a whole document that is no JSON and has its checksum',
        { ...frameTo(TWO, ONE), crc: crc32Hex('{"n":'), payload: Buffer.from('{"n":') },
      ],
      ['a patch with another result', frameTo(TWO, ONE, '[{"op":"replace","path":"/n","value":3}]')],
      ['a patch that fails', frameTo(TWO, ONE, '[{"op":"remove","path":"/missing"}]')],
      ['a patch that is no JSON', frameTo(TWO, ONE, '[{"op":')],
      ['a patch that is no patch', frameTo(TWO, ONE, '"n"')],
      ['a patch with a pointer that is none', frameTo(TWO, ONE, '[{"op":"remove","path":"n"}]')],
      ['a patch with an unknown operation', frameTo(TWO, ONE, '[{"op":"pop","path":"/n"}]')],
      ['a patch that is null', frameTo(TWO, ONE, 'null')],
    ];
    for (const [name, frame] of damaged) {
      it(`${name}, and says what was wrong`, () => {
        const replica = new Replica('a', ONE);
        expect(replica.apply(frame)).to.equal('corrupt');
        expect(replica.state).to.equal(ONE);
        expect(replica.mismatch?.expected).to.equal(frame.crc);
        expect(replica.mismatch?.found).not.to.equal(frame.crc);
      });
    }
  });

  describe('a frame over several versions', () => {
    const FOUR = stateOf(4, { n: 4 });
    const over = (to: ReplicaState, from: ReplicaState, given: Partial<Frame> = {}): Frame => ({
      ...frameTo(to, from),
      protocol: 2,
      ...given,
    });
    const splice = writeSplice(findSplice(Buffer.from('{"n":1}'), Buffer.from('{"n":4}'))).bytes;

    const applied: readonly (readonly [name: string, frame: Frame, to: ReplicaState])[] = [
      ['a splice', over(FOUR, ONE, { kind: 'splice', payload: splice }), FOUR],
      ['a whole document', over(FOUR, ONE), FOUR],
      ['a deletion', { ...removal('deleted', ONE), protocol: 2, version: 4 }, { ...absent(4), at: ONE.at }],
    ];
    for (const [name, frame, to] of applied) {
      it(`is applied: ${name}; watchers are told that versions were skipped`, async () => {
        const never = (): never => expect.fail('nothing is missing');
        const watcher = new Watcher('a', { missing: never, overflowed: never, ended: () => {} }, 10, false, undefined);
        watcher.start(1, false);
        watcher.replay([]);
        const replica = new Replica('a', ONE);
        replica.watchers.add(watcher);
        expect(replica.apply(frame)).to.equal('applied');
        expect(plain(replica.state)).to.deep.equal(to);
        const { value: change } = await watcher.next();
        expect(change).to.include({ kind: 'reset', version: 4, checksum: to.crc === '' ? null : to.crc });
        expect(change.value).to.deep.equal(to.value ?? null);
        // and goes on from there, one version at a time
        const five = stateOf(5, { n: 5 });
        expect(replica.apply(frameTo(five, to))).to.equal('applied');
        expect((await watcher.next()).value).to.include({ kind: 'full', version: 5 });
      });
    }

    const refused: readonly (readonly [name: string, frame: Frame, outcome: string])[] = [
      ['of protocol 1, whose header has no check', over(FOUR, ONE, { protocol: 1 }), 'gap'],
      ['on another version', over(FOUR, ONE, { baseVersion: 2 }), 'gap'],
      ['on another document', over(FOUR, ONE, { baseCrc: '00000000' }), 'gap'],
      ['on nothing', over(FOUR, absent(1)), 'gap'],
      ['an expiry', { ...removal('expired', ONE), protocol: 2, version: 4 }, 'gap'],
      ['with another result', over(FOUR, ONE, { payload: Buffer.from('{"n":5}') }), 'corrupt'],
      ['a splice with another result', over(THREE, ONE, { kind: 'splice', payload: splice }), 'corrupt'],
    ];
    for (const [name, frame, outcome] of refused) {
      it(`is not applied ${name}`, () => {
        const replica = new Replica('a', ONE);
        expect(replica.apply(frame)).to.equal(outcome);
        expect(replica.state).to.equal(ONE);
      });
    }
  });

  it('applies nothing to a value that is known not to have its checksum', () => {
    const replica = new Replica('a', ONE);
    replica.distrusted = () => true;
    expect(replica.apply(frameTo(TWO, ONE))).to.equal('gap');
    expect(replica.state).to.equal(ONE);
  });

  it('takes another expiry of what it holds, and of nothing else', () => {
    const replica = new Replica('a', TWO);
    const touch = (state: ReplicaState, expiresAt: number | null): Frame => ({
      ...frameTo(state, state),
      kind: 'touch',
      expiresAt,
    });
    expect(replica.apply(touch(TWO, 5_000))).to.equal('ignored');
    expect(replica.context).to.include({ version: 2, expiresAt: 5_000 });
    replica.apply(touch(THREE, 6_000));
    replica.apply(touch({ ...TWO, crc: '00000000' }, 7_000));
    expect(replica.context?.expiresAt).to.equal(5_000);
    replica.apply(touch(TWO, null));
    expect(replica.context?.expiresAt).to.equal(null);
  });

  it('answers with the same frozen context until it changes', async () => {
    const replica = new Replica('a', ONE);
    expect(await replica.answer).to.equal(await replica.answer);
    expect(replica.answer).to.equal(replica.answer);
    expect(await replica.answer).to.deep.equal({
      id: 'a',
      value: { n: 1 },
      version: 1,
      checksum: ONE.crc,
      updatedAt: ONE.at,
      expiresAt: null,
      stale: false,
    });
    expect(Object.isFrozen(await replica.answer)).to.equal(true);
    const before = await replica.answer;
    replica.apply(frameTo(TWO, ONE));
    expect((await replica.answer)?.value).to.deep.equal({ n: 2 });
    expect(before?.value).to.deep.equal({ n: 1 });
  });

  it('a value that somebody holds shares what a patch left alone, and never changes', () => {
    const from = stateOf(1, { kept: { deep: [1, 2] }, n: 1 });
    const to = stateOf(2, { kept: { deep: [1, 2] }, n: 2 });
    const replica = new Replica('a', from);
    replica.apply(frameTo(to, from, PATCH_TO_TWO));
    const [before, after] = [from.value, replica.state.value] as { kept: object }[];
    expect(after).not.to.equal(before);
    expect(after?.kept).to.equal(before?.kept);
    expect(before).to.deep.equal({ kept: { deep: [1, 2] }, n: 1 });
    expect(Object.isFrozen(after)).to.equal(true);
  });

  describe('the frame of an own commit', () => {
    const value = parseFrozen('{"n":2}');
    const own = { operation: 'op', crc: TWO.crc, document: JsonDocument.of(value), patch: null };

    it('is taken from what was sent: its payload is not even looked at', () => {
      const replica = new Replica('a', ONE);
      replica.own.set('op', own);
      expect(replica.apply({ ...frameTo(TWO, ONE), payload: Buffer.from('damaged') })).to.equal('applied');
      expect(plain(replica.state)).to.deep.equal(TWO);
      expect(replica.state.value).to.equal(value);
    });

    it('has to build on what is held, and to be that commit', () => {
      const cases: readonly (readonly [Frame, string])[] = [
        [frameTo(TWO, stateOf(1, 'other')), 'gap'],
        [frameTo(THREE, TWO), 'gap'],
        [{ ...frameTo(TWO, ONE), crc: '00000000' }, 'corrupt'],
        [{ ...frameTo(TWO, ONE), operation: 'another', payload: Buffer.from('damaged') }, 'corrupt'],
      ];
      for (const [frame, outcome] of cases) {
        const replica = new Replica('a', ONE);
        replica.own.set('op', own);
        expect(replica.apply(frame)).to.equal(outcome);
        expect(replica.state).to.equal(ONE);
      }
    });
  });

  it('does not go below what was seen, but where it was set back', () => {
    const replica = new Replica('a', ONE);
    replica.seenVersion = 3;
    replica.move(TWO, resetStep(TWO));
    expect(replica.seenVersion, 'a jump forward').to.equal(3);
    replica.move(ONE, resetStep(ONE));
    expect(replica.seenVersion, 'a jump back').to.equal(1);
  });

  it('tells its watchers of each move, and those that were there before it was loaded where it stands', () => {
    const asked: number[] = [];
    const hooks = { missing: (one: Watcher) => void asked.push(one.cursor), overflowed: () => {}, ended: () => {} };
    const watcher = new Watcher('a', hooks, 10, false, undefined);
    watcher.start(0, true);
    watcher.replay([]);
    const replica = new Replica('a');
    expect(replica.loaded).to.equal(false);
    replica.watchers.add(watcher);
    replica.load(ONE);
    expect(asked).to.deep.equal([0]);
    const step = nextState(absent(0), frameTo(ONE, absent(0)));
    if (typeof step === 'string' || !('step' in step)) throw new Error('no step');
    watcher.replay([step.step]);
    replica.apply(frameTo(TWO, ONE));
    expect(watcher.cursor).to.equal(2);
  });
});
