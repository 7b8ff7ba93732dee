import { expect } from 'chai';
import fc from 'fast-check';
import { DocumentText } from '../../src/core/DocumentText.js';
import type { Splice } from '../../src/core/splice.js';
import { fullPlan, storagePlan } from '../../src/core/storagePlan.js';
import { LuaNamespace } from '../helpers/lua.js';
import { type Fields, fieldsOf, runPlan } from '../helpers/planInterpreter.js';
import { stored, verified } from '../helpers/plans.js';
import { seededRng } from '../helpers/random.js';
import { insertedBytes, randomBytes, randomSplice } from '../helpers/splices.js';

/** The first argument of the script that is a chunk. */
const FIRST_CHUNK = 7;
const STEPS = 6;

/** What the library plans is what the script does, and what the interpreter of plans says that it does. */
describe('plans of the library in lua/commit.lua', function () {
  this.timeout(60_000);
  let lua: LuaNamespace;
  before(async () => {
    lua = await LuaNamespace.open();
  });
  after(() => lua.close());

  const claims = (text: DocumentText): { sha: string; crc: string; length: number } => ({
    sha: text.sha1,
    crc: text.crc,
    length: text.length,
  });

  async function storedFields(id: string): Promise<Fields> {
    const all = Object.entries(await lua.redis.hgetallBuffer(lua.of(id).context));
    return new Map(all.filter(([name]) => /^(data|chunks|d\d+)$/.test(name)));
  }

  async function expectStored(id: string, fields: Fields): Promise<void> {
    const found = await storedFields(id);
    expect([...found.keys()].sort()).to.deep.equal([...fields.keys()].sort());
    for (const [name, bytes] of fields) expect(found.get(name)?.equals(bytes), `field ${name}`).to.equal(true);
  }

  async function begin(id: string, text: DocumentText): Promise<Fields> {
    const chunks = text.chunks.map(({ bytes }) => bytes);
    const plan = { text: fullPlan(text, FIRST_CHUNK), data: '', chunks };
    expect((await lua.commit(id, '', { plan, claims: claims(text) }))[0]).to.equal('COMMITTED');
    await expectStored(id, fieldsOf(text));
    return fieldsOf(text);
  }

  async function change(id: string, text: DocumentText, fields: Fields, splice: Splice): Promise<[DocumentText, Fields]> {
    const rewrite = text.apply(splice);
    const { version, crc, sha } = await stored(lua, id);
    // as in a frame, the inserted bytes stand behind others
    const data = Buffer.concat([Buffer.from('splice'), insertedBytes(splice)]);
    const { plan, chunks } = storagePlan(text, rewrite, { inserted: 1, offset: 6, firstChunk: FIRST_CHUNK });
    const rest = Array.from({ length: FIRST_CHUNK - 2 }, () => Buffer.alloc(0));
    const outcome = runPlan(fields, plan, [data, ...rest, ...chunks]);
    const reply = await lua.commit(id, '', {
      plan: { text: plan, data, chunks, baseSha: sha },
      claims: claims(rewrite.text),
      patch: { text: 'p', baseVersion: version, baseCrc: crc },
      kind: 'splice',
    });
    expect(reply.slice(0, 2), plan).to.deep.equal(['COMMITTED', version + 1]);
    await expectStored(id, outcome.fields);
    expect((await verified(lua, id))?.sha).to.equal(outcome.sha);
    return [rewrite.text, outcome.fields];
  }

  it('store what the interpreter says, for any splices one after the other', async () => {
    let runs = 0;
    await fc.assert(
      fc.asyncProperty(fc.nat(), async (seed) => {
        const rng = seededRng(seed);
        runs += 1;
        const id = `random-${runs}`;
        let text = DocumentText.of(randomBytes(rng, rng.pick([10, 20_000, 33_000, 80_000])));
        let fields = await begin(id, text);
        for (let n = 0; n < STEPS; n += 1)
          [text, fields] = await change(id, text, fields, randomSplice(rng, text.length, text.starts, 100_000));
      }),
      { numRuns: 40, endOnFailure: true },
    );
    expect(runs).to.equal(40);
  });

  it('commit a document in chunks that did not change', async () => {
    const text = DocumentText.of(randomBytes(seededRng(1), 40_000));
    const fields = await begin('same', text);
    const [same] = await change('same', text, fields, randomSplice(seededRng(1), 40_000, text.starts, 100_000, 'same'));
    expect(same.manifest).to.equal(text.manifest);
  });
});
