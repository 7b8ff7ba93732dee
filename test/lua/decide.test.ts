import { expect } from 'chai';
import { LuaNamespace, type Reply } from '../helpers/lua.js';
import { commit, decide, finish, KEEP_MS, prepare, recordOf, type TxPart } from '../helpers/transactions.js';

const WANTS = ['commit', 'abort', 'ask'] as const;
const ASIDE = 1000;

describe('lua/decide.lua', () => {
  let lua: LuaNamespace;
  let part: TxPart;
  let deadline: number;
  beforeEach(async () => {
    lua = await LuaNamespace.open();
    deadline = (await lua.now()) + 60_000;
    part = { txn: 'txn', deadline, parts: [0, 3] };
  });
  afterEach(() => lua.close());

  const ask = (want: (typeof WANTS)[number], at: number, by = part): Promise<Reply> => lua.when(at, () => decide(lua, by, want));
  const record = (): Promise<Record<string, string>> => lua.redis.hgetall(recordOf(lua, part));

  /** Whatever is asked from now on, whenever: it is the same, and nothing is written. */
  async function settled(...answer: (string | number)[]): Promise<void> {
    for (const want of WANTS)
      for (const at of [deadline - ASIDE, deadline, deadline + 1, deadline + ASIDE])
        expect(await lua.refused(() => ask(want, at)), `${want} at ${at - deadline}`).to.deep.equal(answer);
  }

  describe('of what is prepared', () => {
    beforeEach(async () => {
      await lua.commit('a', '1');
      expect((await prepare(lua, part, [commit('a', '2')]))[0]).to.equal('PREPARED');
    });

    // when it is asked, and what is answered
    for (const [want, after, state] of [
      ['commit', -ASIDE, 'COMMITTED'],
      ['commit', 0, 'COMMITTED'],
      ['commit', 1, 'ABORTED'],
      ['abort', -ASIDE, 'ABORTED'],
      ['abort', 1, 'ABORTED'],
      ['ask', 1, 'ABORTED'],
      ['ask', ASIDE, 'ABORTED'],
    ] as const) {
      it(`${want}, ${after} ms after its deadline: ${state}, for ever`, async () => {
        const at = deadline + after;
        const before = await record();
        expect(await ask(want, at)).to.deep.equal([state, at, '0 3']);
        expect(await record()).to.deep.equal({ ...before, state: state.toLowerCase(), decided: String(at) });
        expect(await lua.nativeExpiry(recordOf(lua, part)), 'until it is finished').to.equal(-1);
        await settled(state, at, '0 3');
        const outcome = state === 'COMMITTED' ? 'commit' : 'abort';
        await finish(lua, part, outcome);
        await settled(state, at, '0 3');
        await finish(lua, part, 'forget');
        await settled(state, at, '0 3');
        expect((await lua.fields('a')).v).to.equal(state === 'COMMITTED' ? '2' : '1');
      });
    }

    for (const after of [-ASIDE, 0]) {
      it(`ask, ${after} ms after its deadline: UNDECIDED, and nothing is written`, async () => {
        const at = deadline + after;
        expect(await lua.refused(() => ask('ask', at))).to.deep.equal(['UNDECIDED', at, '0 3']);
      });
    }

    it('its own deadline counts, not that of who asks', async () => {
      for (const other of [deadline - 2 * ASIDE, deadline + 2 * ASIDE]) {
        const asker = { ...part, deadline: other };
        expect((await lua.refused(() => ask('ask', deadline, asker)))[0]).to.equal('UNDECIDED');
      }
      expect((await ask('commit', deadline + 1, { ...part, deadline: deadline + 2 * ASIDE }))[0]).to.equal('ABORTED');
    });

    it('is of this transaction alone', async () => {
      await ask('commit', deadline);
      expect((await ask('ask', deadline, { ...part, txn: 'txn2' }))[0]).to.equal('UNDECIDED');
    });
  });

  describe('of what was never prepared there', () => {
    for (const [want, after] of [
      ['abort', -ASIDE],
      ['abort', 1],
      ['ask', 1],
    ] as const) {
      it(`${want}, ${after} ms after its deadline: ABORTED, remembered for what comes late`, async () => {
        const at = deadline + after;
        const from = await lua.now();
        expect(await ask(want, at)).to.deep.equal(['ABORTED', at, '-']);
        expect(await record()).to.deep.equal({ txn: 'txn', state: 'aborted', decided: String(at) });
        expect(await lua.nativeExpiry(recordOf(lua, part))).to.be.within(from + KEEP_MS, (await lua.now()) + KEEP_MS);
        await settled('ABORTED', at, '-');
        expect(await lua.refused(() => prepare(lua, part, [commit('a', '2')]))).to.deep.equal(['ABORTED']);
      });
    }

    for (const after of [-ASIDE, 1])
      it(`commit, ${after} ms after its deadline: FORGOTTEN, and nothing is said that others could take for a decision`, async () => {
        expect(await lua.refused(() => ask('commit', deadline + after))).to.deep.equal(['FORGOTTEN']);
      });

    it('ask, before its deadline: UNDECIDED, and it may still be', async () => {
      expect(await lua.refused(() => ask('ask', deadline))).to.deep.equal(['UNDECIDED', deadline, '-']);
      expect((await prepare(lua, part, [commit('a', '2')]))[0]).to.equal('PREPARED');
      expect((await ask('commit', deadline))[0]).to.equal('COMMITTED');
    });
  });
});
