/** Export and import: what comes back is what was there, to the byte; damage is found wherever it is; what was interrupted is gone on with. */
import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import fc from 'fast-check';
import { crc32Hex, sha1Hex } from '../../src/core/checksum.js';
import { type ExportedContext, readRecord, writeRecord } from '../../src/core/exportFormat.js';
import { type ContextError, type ContextStore, type ExportOptions, isContextError, verifyExport } from '../../src/index.js';
import { uniqueNamespace } from '../helpers/namespace.js';
import { RedisServer } from '../helpers/RedisServer.js';
import { forgetCopies, redisTime, refusal, untilRedisTime, useStores } from '../helpers/stores.js';

const HOUR = 3_600_000;

async function exported(store: ContextStore, options: ExportOptions = {}): Promise<Buffer> {
  const lines: Buffer[] = [];
  for await (const line of store.export(options)) lines.push(line);
  return Buffer.concat(lines);
}

/** The lines without their ends. */
function linesOf(bytes: Buffer): Buffer[] {
  const lines: Buffer[] = [];
  for (let from = 0; from < bytes.length; from = bytes.indexOf(10, from) + 1)
    lines.push(bytes.subarray(from, bytes.indexOf(10, from)));
  return lines;
}

const contextsOf = (bytes: Buffer): ExportedContext[] =>
  linesOf(bytes)
    .map(readRecord)
    .filter((record) => record.kind === 'context');

/** The documents by id, as they are spelled. */
const documentsOf = (bytes: Buffer): Map<string, string> =>
  new Map(contextsOf(bytes).map(({ id, data }) => [id, data.toString('latin1')]));

/** An export with these documents, made by hand. */
function exportOf(
  documents: Readonly<Record<string, string | { text: string; at?: number; expiresAt?: number; version?: number }>>,
): Buffer {
  const header = writeRecord({ kind: 'header', namespace: 'by-hand', shards: 1, prefix: '', at: 1, run: '' });
  const lines = Object.entries(documents).map(([name, given]) => {
    const { text, at = 1, expiresAt = null, version = 1 } = typeof given === 'string' ? { text: given } : given;
    const data = Buffer.from(text);
    // `b#2` is a second copy of `b`
    const id = name.replace(/#.*/, '');
    return writeRecord({ kind: 'context', id, version, crc: crc32Hex(data), sha: sha1Hex(data), at, expiresAt, data });
  });
  return Buffer.concat([header, ...lines]);
}

describe('export and import', function () {
  this.timeout(60_000);
  const stores = useStores();
  const other = (shards: number): Promise<ContextStore> => stores.open({ namespace: uniqueNamespace('other'), shards });

  it('bring every document back to the byte, into another namespace with another number of shards', async () => {
    const [source, target] = [await stores.open({ shards: 3 }), await other(7)];
    const spelled = {
      numbers: '{"z":1.0,"a":12345678901234567890,"e":1E5,"n":-0.0}',
      twice: '{"a":1,"a":2}',
      lines: '{\r\n\t"a": [ 1 ]\n}',
      escapes: '"\\u00e9\\/"',
    };
    await source.import([exportOf(spelled)], { partial: true });
    const values: Record<string, unknown> = {
      unicode: { text: 'Zürich 日本 ✅ \u2028 😀', '': 0 },
      null: null,
      large: { rows: Array.from({ length: 5_000 }, (_, index) => ({ index, text: `row ${index}` })) },
      'id ","data":{ of quotes': [1],
    };
    for (const [id, value] of Object.entries(values)) await source.set(id, value);
    await source.update<{ rows: unknown[] }>('large', (draft) => void draft.rows.splice(2_000, 10));
    const bytes = await exported(source);
    expect(await verifyExport([bytes])).to.deep.include({ contexts: 8, leftOut: 0, complete: true });
    const result = await target.import([bytes]);
    expect(result).to.deep.include({ contexts: 8, created: 8, replaced: 0, same: 0, kept: 0, damagedCount: 0, complete: true });
    for (const [id, text] of Object.entries(spelled)) expect((await target.rawBytes(id))?.toString(), id).to.equal(text);
    for (const id of Object.keys(values)) expect(await target.rawBytes(id), id).to.deep.equal(await source.rawBytes(id));
    expect(documentsOf(await exported(target))).to.deep.equal(documentsOf(bytes));
    for (const id of [...Object.keys(spelled), ...Object.keys(values)]) expect((await target.verify(id))?.ok, id).to.equal(true);
  });

  it('read the example of docs/BACKUP.md', async () => {
    const [, example = ''] = /```ndjson\n([\s\S]*?)```/.exec(readFileSync('docs/BACKUP.md', 'utf8')) ?? [];
    const target = await stores.open();
    expect(await target.import([example])).to.deep.include({ contexts: 2, created: 2, complete: true });
    expect((await target.rawBytes('user-42'))?.toString()).to.equal('{"z":1.0,"a":12345678901234567890,"turns":["é"]}');
    expect((await target.get('user-42', { fresh: true }))?.expiresAt).to.be.closeTo(1_900_000_000_000, 1_000);
    expect((await target.rawBytes('by-hand'))?.toString()).to.equal('{\n "a": 1\n}');
  });

  it('keep expiries as points in time, and leave out what is over', async () => {
    const [source, target] = [await stores.open(), await other(2)];
    const redis = await stores.redis();
    const now = await redisTime(redis);
    await source.set('long', 1, { ttl: '1h' });
    await source.set('short', 1, { ttl: 250 });
    await source.set('for ever', 1);
    const bytes = await exported(source);
    expect([...documentsOf(bytes).keys()]).to.have.members(['long', 'short', 'for ever']);
    await untilRedisTime(redis, now + 1_000);
    expect([...documentsOf(await exported(source)).keys()]).to.have.members(['long', 'for ever']);
    expect(await target.import([bytes])).to.deep.include({ contexts: 3, created: 2, expired: 1 });
    const expiry = (await source.get('long', { fresh: true }))?.expiresAt ?? 0;
    expect((await target.get('long'))?.expiresAt).to.be.closeTo(expiry, 1_000);
    expect((await target.get('for ever'))?.expiresAt).to.equal(null);
    expect(await target.has('short')).to.equal(false);
  });

  it('take 5,000 contexts, of which those with a prefix can be asked for', async () => {
    const [source, target] = [await stores.open({ shards: 2 }), await other(3)];
    const documents = Object.fromEntries(
      Array.from({ length: 5_000 }, (_, n) => [`${n % 10 === 0 ? 'x*' : 'y'}-${n}`, `{"n":${n}}`]),
    );
    await source.import([exportOf(documents)], { partial: true, concurrency: 64 });
    const seen: number[] = [];
    const bytes = await exported(source, { progress: ({ contexts, total }) => seen.push(contexts / total) });
    expect(seen.at(-1)).to.equal(1);
    expect(seen).to.deep.equal([...seen].sort((a, b) => a - b));
    const result = await target.import([bytes]);
    expect(result).to.deep.include({ contexts: 5_000, created: 5_000 });
    const found = documentsOf(await exported(target));
    expect(found).to.deep.equal(new Map(contextsOf(bytes).map(({ id }) => [id, documents[id]])));
    expect(found.size).to.equal(5_000);
    expect(documentsOf(await exported(source, { prefix: 'x*-' })).size).to.equal(500);
    // a second time it is all there
    expect(await target.import([bytes])).to.deep.include({ created: 0, same: 5_000 });
  });

  it('read no further than they are asked', async () => {
    const source = await stores.open();
    await source.import([exportOf(Object.fromEntries(Array.from({ length: 1_000 }, (_, n) => [`c${n}`, '1'])))], {
      partial: true,
    });
    const redis = await stores.redis();
    const scans = async (): Promise<number> =>
      Number(/cmdstat_zscan:calls=(\d+)/.exec(await redis.info('commandstats'))?.[1] ?? 0);
    const before = await scans();
    const lines = source.export();
    for (let line = 0; line < 10; line += 1) await lines.next();
    expect((await scans()) - before).to.equal(1);
    await lines.return();
  });

  describe('of damage', () => {
    async function sample(): Promise<Buffer> {
      const source = await stores.open();
      for (let n = 0; n < 20; n += 1) await source.set(`context-${n}`, { n, text: 'é'.repeat(n) });
      return exported(source);
    }

    it('find a flipped bit anywhere in the file', async () => {
      const bytes = await sample();
      const found = async (bit: number): Promise<void> => {
        const copy = Buffer.from(bytes);
        copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        const error = await verifyExport([copy]).then(
          () => null,
          (refused: unknown) => refused,
        );
        expect(isContextError(error) && error.code, `bit ${bit & 7} of byte ${bit >> 3}`).to.equal('CORRUPT');
      };
      await verifyExport([bytes]);
      await fc.assert(fc.asyncProperty(fc.integer({ min: 0, max: bytes.length * 8 - 1 }), found), { numRuns: 1_500 });
      // line ends are between what the sums cover
      for (const [at, byte] of bytes.entries()) if (byte === 10) for (let bit = 0; bit < 8; bit += 1) await found(at * 8 + bit);
    });

    it('find that it was cut off, wherever, and that lines are missing, doubled or moved', async () => {
      const bytes = await sample();
      const refused = async (given: Buffer, what: string): Promise<ContextError> => {
        const error = await refusal('CORRUPT', () => verifyExport([given]));
        expect(error.message, what).to.match(/^line \d+ is damaged|no trailer|is empty/);
        return error;
      };
      await fc.assert(
        fc.asyncProperty(fc.integer({ min: 0, max: bytes.length - 2 }), async (length) => {
          await refused(bytes.subarray(0, length), `${length} bytes`);
        }),
        { numRuns: 500 },
      );
      const lines = linesOf(bytes);
      const joined = (given: readonly (Buffer | undefined)[]): Buffer =>
        Buffer.concat(given.flatMap((line) => [line ?? Buffer.alloc(0), Buffer.from('\n')]));
      expect(joined(lines)).to.deep.equal(bytes);
      await refused(joined(lines.toSpliced(5, 1)), 'one missing');
      await refused(joined(lines.toSpliced(5, 0, lines[5] as Buffer)), 'one doubled');
      await refused(joined(lines.toSpliced(5, 2, lines[6] as Buffer, lines[5] as Buffer)), 'two swapped');
      await refused(joined([...lines, lines[5]]), 'one behind the trailer');
      await refused(joined([lines[0], ...lines]), 'two headers');
    });

    it('write nothing of a damaged line, say which it is, or pass over it where that is asked', async () => {
      const target = await other(1);
      const bytes = await sample();
      const damaged = Buffer.from(bytes.toString('latin1').replace('"n":7,', '"n":8,'), 'latin1');
      const line = 1 + linesOf(damaged).findIndex((text) => text.includes('"context-7"'));
      const error = await refusal('CORRUPT', () => target.import([damaged]));
      expect(error.message).to.match(
        new RegExp(`^import: line ${line} is damaged: its sum is [0-9a-f]{8}, that of its bytes [0-9a-f]{8}; `),
      );
      expect(error.details.expected).to.not.equal(error.details.found);
      expect(await target.has('context-7')).to.equal(false);
      const result = await target.import([damaged], { skipDamaged: true });
      expect(result).to.deep.include({ contexts: 19, damagedCount: 1, complete: true });
      expect(result.damaged).to.have.length(1);
      expect(result.damaged[0]).to.include({ line });
      expect((await target.list()).items.map(({ id }) => id))
        .to.have.length(19)
        .and.not.include('context-7');
    });

    it('count the lines that are missing beside damaged ones', async () => {
      // enough for marks between them
      const source = await stores.open();
      const documents = Object.fromEntries(Array.from({ length: 400 }, (_, n) => [`c${n}`, `{"n":${n}}`]));
      await source.import([exportOf(documents)], { partial: true, concurrency: 64 });
      const lines = linesOf(await exported(source));
      const kinds = lines.map((line, at) => readRecord(line, at + 1).kind);
      expect(kinds.filter((kind) => kind === 'mark')).to.have.length.greaterThan(3);
      const places = fc.uniqueArray(fc.integer({ min: 1, max: lines.length - 2 }), { maxLength: 40 });
      await fc.assert(
        fc.asyncProperty(places, fc.integer({ min: 0, max: 40 }), fc.nat(), async (changed, removed, place) => {
          const [gone, spoilt] = [new Set(changed.slice(0, removed)), new Set(changed.slice(removed))];
          const given = lines.flatMap((line, at) => {
            if (gone.has(at)) return [];
            const copy = Buffer.concat([line, Buffer.from('\n')]);
            // the highest bit: no line end comes of that, nor goes
            if (spoilt.has(at)) copy[place % line.length] = (copy[place % line.length] ?? 0) ^ 0x80;
            return [copy];
          });
          const told: number[] = [];
          const found = await verifyExport(given, { damaged: (line) => told.push(line) });
          const missing = [...gone].filter((at) => kinds[at] === 'context').length;
          expect(found).to.include({ missing });
          if (spoilt.size > 0) expect(found.complete).to.equal(missing === 0);
          else expect(found.complete).to.equal(gone.size === 0);
          // the trailer is told of, too
          expect(told).to.have.length(spoilt.size + (found.complete ? 0 : 1));
        }),
        { numRuns: 300 },
      );
      const target = await other(1);
      const context = (n: number): number => kinds.flatMap((kind, at) => (kind === 'context' ? [at] : []))[n] ?? 0;
      const some = lines.toSpliced(context(10), 5).map((line) => Buffer.concat([line, Buffer.from('\n')]));
      const first = some[context(0)] as Buffer;
      first[60] = (first[60] ?? 0) ^ 1;
      const result = await target.import(some, { skipDamaged: true });
      expect(result).to.deep.include({ contexts: 394, created: 394, damagedCount: 2, missing: 5, complete: false });
      expect(result.damaged[1]?.why).to.include(
        'the trailer says contexts 400, and there are 394, and 1 that may be among the damaged lines',
      );
      expect((await refusal('CORRUPT', () => target.import(some))).message).to.match(/^import: line 2 is damaged/);
    });

    it('refuse an export without a trailer unless it is partial', async () => {
      const target = await other(1);
      const bytes = await sample();
      const cut = bytes.subarray(0, bytes.indexOf('"context-', Math.floor(bytes.length / 2)) + 30);
      const whole = contextsOf(cut.subarray(0, cut.lastIndexOf('\n') + 1)).length;
      await refusal('CORRUPT', () => target.import([cut]));
      expect(await target.import([cut], { partial: true })).to.deep.include({
        contexts: whole,
        damagedCount: 0,
        complete: false,
      });
    });

    it('repair what is damaged in Redis before it is exported, or leave it out and say so', async () => {
      const source = await stores.open();
      const redis = await stores.redis();
      await source.set('sound', 1);
      for (const id of ['mended', 'gone']) {
        await source.set(id, { text: 'it was so' });
        await redis.hset(source.keysOf(id).context, 'data', '{"text":"it was no"}');
      }
      await forgetCopies(redis, source, 'gone');
      const told: string[] = [];
      const bytes = await exported(source, { damaged: (id, error) => told.push(`${id} ${error.code}`) });
      expect(told).to.deep.equal(['gone CORRUPT']);
      expect(Object.fromEntries(documentsOf(bytes))).to.deep.equal({ mended: '{"text":"it was so"}', sound: '1' });
      expect(await verifyExport([bytes])).to.deep.include({ contexts: 2, leftOut: 1, complete: true });
      expect(await (await other(1)).import([bytes])).to.deep.include({ created: 2, leftOut: 1 });
    });

    it('write over a document that is damaged where it is, although it should be the same', async () => {
      const source = await stores.open();
      const redis = await stores.redis();
      await source.set('x', { text: 'it was so' });
      const bytes = await exported(source);
      await redis.hset(source.keysOf('x').context, 'data', '{"text":"it was no"}');
      await forgetCopies(redis, source, 'x');
      expect(await source.import([bytes])).to.deep.include({ replaced: 1, same: 0 });
      expect((await source.get('x', { fresh: true }))?.value).to.deep.equal({ text: 'it was so' });
    });
  });

  describe('where there is something already', () => {
    const documents = (at: number) => exportOf({ old: { text: '"new"', at }, fresh: '1' });

    it('skip it, replace it, take the newer one, or fail, as was asked', async () => {
      const target = await stores.open();
      const value = async (): Promise<unknown> => (await target.get('old', { fresh: true }))?.value;
      const begin = async (): Promise<number> => {
        await target.delete('fresh');
        await target.set('old', 'old');
        return (await target.get('old', { fresh: true }))?.updatedAt ?? 0;
      };
      let at = await begin();
      expect(await target.import([documents(at)], { partial: true })).to.deep.include({ created: 1, kept: 1, replaced: 0 });
      expect(await value()).to.equal('old');
      at = await begin();
      expect(await target.import([documents(at)], { partial: true, ifExists: 'newer' })).to.deep.include({ created: 1, kept: 1 });
      at = await begin();
      expect(await target.import([documents(at + 1)], { partial: true, ifExists: 'newer' })).to.deep.include({
        created: 1,
        replaced: 1,
      });
      expect(await value()).to.equal('new');
      at = await begin();
      expect(await target.import([documents(at)], { partial: true, ifExists: 'replace' })).to.deep.include({
        created: 1,
        replaced: 1,
      });
      expect(await value()).to.equal('new');
      await begin();
      const error = await refusal('CONFLICT', () => target.import([documents(at)], { partial: true, ifExists: 'fail' }));
      expect(error.details.id).to.equal('old');
      expect(await value()).to.equal('old');
    });

    it('have the later of two copies in one export', async () => {
      for (const ifExists of ['skip', 'fail', 'replace', 'newer'] as const) {
        const target = await other(1);
        const copies = exportOf({ b: { text: '1', version: 1, at: 1 }, a: '0', 'b#2': { text: '2', version: 2, at: 2 } });
        await target.import([copies], { partial: true, ifExists });
        expect((await target.get('b'))?.value, ifExists).to.equal(2);
      }
    });

    it('put the expiry right with replace, and write what is in quarantine anew', async () => {
      const target = await stores.open();
      const redis = await stores.redis();
      const expiresAt = (await redisTime(redis)) + HOUR;
      await target.set('same', 1);
      await target.set('quarantined', { text: 'it was so' });
      await redis.hset(target.keysOf('quarantined').context, 'data', '{"text":"it was no"}');
      await forgetCopies(redis, target, 'quarantined');
      await refusal('CORRUPT', () => target.get('quarantined', { fresh: true }));
      expect(await target.quarantined()).to.have.length(1);
      const bytes = exportOf({ same: { text: '1', expiresAt }, quarantined: '"back"' });
      expect(await target.import([bytes], { partial: true })).to.deep.include({ same: 1, replaced: 1 });
      expect((await target.get('quarantined', { fresh: true }))?.value).to.equal('back');
      expect((await target.get('same', { fresh: true }))?.expiresAt).to.equal(null);
      await target.import([bytes], { partial: true, ifExists: 'replace' });
      const same = await target.get('same', { fresh: true });
      expect(same).to.include({ version: 1 });
      expect(same?.expiresAt).to.be.closeTo(expiresAt, 1_000);
    });

    it('write nothing in a dry run', async () => {
      const target = await stores.open();
      await target.set('old', 'old');
      const result = await target.import([documents(1)], { partial: true, dryRun: true, ifExists: 'replace' });
      expect(result).to.deep.include({ created: 1, replaced: 1 });
      expect((await target.list()).items.map(({ id, version }) => [id, version])).to.deep.equal([['old', 1]]);
    });
  });

  it('refuse by name what is too large, no JSON, too deep, or no id', async () => {
    const target = await stores.open({ limits: { contextBytes: 20, depth: 3, idBytes: 10 } });
    const bad = { large: `"${'x'.repeat(30)}"`, 'no-json': '{"a":}', deep: '[[[[1]]]]', 'an-id-that-is-too-long': '1' };
    const codes = {
      large: 'LIMIT_EXCEEDED',
      'no-json': 'INVALID_VALUE',
      deep: 'LIMIT_EXCEEDED',
      'an-id-that-is-too-long': 'INVALID_ID',
    } as const;
    for (const [id, text] of Object.entries(bad)) {
      await refusal(codes[id as keyof typeof codes], () => target.import([exportOf({ [id]: text })], { partial: true }));
    }
    const error = await refusal('LIMIT_EXCEEDED', () => target.import([exportOf({ large: bad.large })], { partial: true }));
    expect(error.message).to.match(/line 2: the document of large has 32 bytes; limits\.contextBytes is 20/);
    const result = await target.import([exportOf({ fine: '1', ...bad })], { partial: true, skipDamaged: true });
    expect(result).to.deep.include({ created: 1, damagedCount: 4 });
    expect(result.damaged.map(({ line, id }) => `${line} ${id}`)).to.have.members(
      Object.keys(bad).map((id, index) => `${index + 3} ${id}`),
    );
    await refusal('INVALID_ARGUMENT', () =>
      target.import(['{"a":1}\n'].map((line) => Buffer.concat([Buffer.from([0x1f, 0x8b]), Buffer.from(line)]))),
    );
    await refusal('INVALID_OPTION', () => target.import([], { prefix: 'x' } as object));
    await refusal('INVALID_OPTION', () => target.export({ ifExists: 'skip' } as object));
    await refusal('INVALID_ARGUMENT', () => target.import([], { concurrency: 0 }));
  });

  it('end in order when they are aborted, and an import goes on when it is run again', async () => {
    const [source, target] = [await stores.open(), await other(2)];
    await source.import([exportOf(Object.fromEntries(Array.from({ length: 500 }, (_, n) => [`c${n}`, `${n}`])))], {
      partial: true,
    });
    const bytes = await exported(source);
    const stop = new AbortController();
    const error = await refusal('ABORTED', () =>
      target.import([bytes], { signal: stop.signal, progress: ({ contexts }) => contexts >= 200 && stop.abort() }),
    );
    const written = Number(/; (\d+) written: run it again to go on$/.exec(error.message)?.[1]);
    expect(written).to.be.within(1, 499);
    expect(await target.import([bytes])).to.deep.include({ contexts: 500, same: written, created: 500 - written });
    // in the middle of a batch, too, what was under way is counted
    const third = await other(2);
    const middle = new AbortController();
    third.on('context:committed', () => middle.abort());
    const cut = await refusal('ABORTED', () => third.import([bytes], { signal: middle.signal }));
    const done = Number(/; (\d+) written: run it again to go on$/.exec(cut.message)?.[1]);
    expect(done).to.be.within(1, 64);
    expect((await third.list({ limit: 1_000 })).items).to.have.length(done);
    const exportStop = new AbortController();
    await refusal('ABORTED', async () => {
      for await (const _ of source.export({ signal: exportStop.signal })) exportStop.abort();
    });
  });

  describe('an export that was interrupted', () => {
    /** The first so many lines, and a piece of the next one. */
    async function interrupted(store: ContextStore, count: number): Promise<Buffer> {
      const lines: Buffer[] = [];
      for await (const line of store.export()) {
        lines.push(lines.length === count ? line.subarray(0, 20) : line);
        if (lines.length > count) break;
      }
      return Buffer.concat(lines);
    }

    async function goOn(store: ContextStore, file: Buffer): Promise<Buffer> {
      const resume = await store.exportPoint([file]);
      if (resume === null) return exported(store);
      return Buffer.concat([file.subarray(0, resume.length), await exported(store, { resume })]);
    }

    const fill = async (store: ContextStore, count: number): Promise<Record<string, string>> => {
      const documents = Object.fromEntries(Array.from({ length: count }, (_, n) => [`c${n}`, `${n}`]));
      await store.import([exportOf(documents)], { partial: true, concurrency: 64 });
      return documents;
    };

    it('goes on after its last mark, wherever it was cut off, and is whole then', async () => {
      const source = await stores.open({ shards: 2 });
      const documents = await fill(source, 1_000);
      for (const count of [0, 1, 50, 130, 550, 900, 1_000]) {
        const file = await interrupted(source, count);
        const whole = await goOn(source, file);
        expect(await verifyExport([whole]), `${count} lines`).to.include({ contexts: 1_000, complete: true });
        expect(Object.fromEntries(documentsOf(whole))).to.deep.equal(documents);
        // what was there was kept
        const kept = (await source.exportPoint([file]))?.length ?? 0;
        if (count >= 130) expect(kept).to.be.greaterThan(file.length / 3);
      }
    });

    it('has what is damaged behind a mark cut off with it', async () => {
      const source = await stores.open();
      await fill(source, 600);
      const file = await interrupted(source, 500);
      const at = Math.floor(file.length * 0.6);
      file[at] = (file[at] ?? 0) ^ 1;
      const point = await source.exportPoint([file]);
      expect(point?.length).to.be.within(1, at);
      expect(await verifyExport([await goOn(source, file)])).to.include({ contexts: 600, complete: true });
    });

    it('is not gone on with in another namespace, or with another prefix, nor where it is complete', async () => {
      const [source, target] = [await stores.open(), await other(1)];
      await fill(source, 10);
      const resume = (await source.exportPoint([await interrupted(source, 5)])) ?? undefined;
      const wrong = await refusal('INVALID_ARGUMENT', () => exported(target, { resume } as ExportOptions));
      expect(wrong.message).to.include(`has namespace "${source.namespace}"`);
      await refusal('INVALID_ARGUMENT', () => exported(source, { resume, prefix: 'x' } as ExportOptions));
      const bytes = await exported(source);
      await refusal('CONFLICT', () => source.exportPoint([bytes]));
      expect(await source.exportPoint([])).to.equal(null);
    });

    it('goes on from the beginning of a shard where Redis was started again since: its cursors are of another order then', async () => {
      const server = await RedisServer.start({ appendOnly: true });
      try {
        const options = { redis: server.url, namespace: uniqueNamespace('restart'), shards: 2 };
        let source = await stores.open(options);
        const documents = await fill(source, 600);
        const file = await interrupted(source, 500);
        const before = await source.exportPoint([file]);
        expect(before?.mark.cursor).to.not.equal('0');
        await source.close();
        await server.restart();
        source = await stores.open(options);
        const after = await source.exportPoint([file]);
        expect(after?.mark).to.include({ shard: 1, cursor: '0' });
        const stale = await refusal('INVALID_ARGUMENT', () => exported(source, { resume: before } as ExportOptions));
        expect(stale.message).to.include('started again');
        const whole = await goOn(source, file);
        await verifyExport([whole]);
        expect(Object.fromEntries(documentsOf(whole))).to.deep.equal(documents);
        await source.close();
      } finally {
        await server.stop();
      }
    });
  });
});
