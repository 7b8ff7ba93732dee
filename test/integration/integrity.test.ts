/** What is damaged in Redis or on the way is never given out: it is read again, told in full, and named check by check. */
import { expect } from 'chai';
import type { Redis } from 'ioredis';
import type { ContextStore } from '../../src/index.js';
import { forgetCopies, RecordingLogger, record, refusal, untilReplica, useStores, Watched } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';

const PAD = 'p'.repeat(200);

describe('integrity', () => {
  const stores = useStores();

  /** Changes fields of the stored context behind the stores' backs. */
  async function damage(redis: Redis, store: ContextStore, id: string, fields: Record<string, string>): Promise<void> {
    await redis.hset(store.keysOf(id).context, fields);
  }

  const DOCUMENT = '{"a":1,"list":["x"]}';
  const damages: readonly (readonly [
    name: string,
    fields: Record<string, string>,
    found: { expected: string; found: string },
    failing: string[],
  ])[] = [
    ['one byte of the data', { data: '{"a":2,"list":["x"]}' }, { expected: '7e0c6f6d', found: '6f710514' }, ['sha1', 'crc32']],
    [
      'data that is shorter',
      { data: '{"a":1,"list":["x"]' },
      { expected: '20 bytes', found: '19 bytes' },
      ['length', 'sha1', 'crc32', 'json'],
    ],
    ['another checksum', { crc: '00000000' }, { expected: '00000000', found: '7e0c6f6d' }, ['crc32', 'seal', 'log']],
    ['another length', { len: '21' }, { expected: '21 bytes', found: '20 bytes' }, ['length', 'seal']],
    ['a length that is none', { len: 'x' }, { expected: 'NaN bytes', found: '20 bytes' }, ['length', 'seal']],
    ['a version that is none', { v: 'x' }, { expected: 'a version', found: 'NaN' }, ['seal', 'log']],
  ];

  it('a value in memory that is not that of its checksum any more: found by the heartbeat, told, and read anew', async () => {
    const [store, writer] = [await stores.open({ heartbeat: 20 }), await stores.open()];
    const corrupt = record(store, 'context:corrupt');
    for (const id of ['w', 'x', 'y']) {
      await writer.set(id, { n: 1, id });
      await untilReplica(store, id);
    }
    const watched = new Watched(store.watch('x'));
    const before = await store.get('x');
    const { stringify } = JSON;
    try {
      // nothing can change a frozen value; but it can be made to look changed to who serializes it
      JSON.stringify = ((value: unknown, ...rest: []) =>
        value === before?.value ? '{"n":1,"id":"z"}' : stringify(value, ...rest)) as typeof JSON.stringify;
      await waitFor(() => corrupt.length > 0, { what: 'the damage to be found' });
    } finally {
      JSON.stringify = stringify;
    }
    expect(corrupt).to.have.length(1);
    expect(corrupt[0]).to.deep.include({ id: 'x', version: 1, expected: before?.checksum, bytes: 16, where: 'replica' });
    await untilReplica(store, 'x');
    const after = await store.get('x');
    expect(after).to.deep.equal(before);
    expect(after?.value).to.not.equal(before?.value);
    expect((await watched.count(1))[0]).to.deep.include({ kind: 'reset', version: 1, value: { n: 1, id: 'x' } });
    expect(await store.stats()).to.include({ checksumFailures: 1 });
  });

  for (const [name, fields, facts, failing] of damages) {
    it(`${name}, and no copy of it anywhere: read again once, then CORRUPT with an event and lines in the log`, async () => {
      const proxy = await stores.proxy();
      const logger = new RecordingLogger();
      const reader = await stores.open({ redis: proxy.url, logger, shards: 3 });
      const writer = await stores.open();
      const redis = await stores.redis();
      const events = record(reader, 'context:corrupt');
      await writer.set('x', JSON.parse(DOCUMENT));
      expect((await reader.verify('x'))?.ok).to.equal(true);
      await damage(redis, reader, 'x', fields);
      const report = await reader.verify('x');
      expect(report?.ok).to.equal(false);
      const names = ['length', 'sha1', 'crc32', 'seal', 'json', 'log', 'checkpoint'];
      expect(report?.checks.map((check) => check.name)).to.deep.equal(names);
      expect(report?.checks.filter(({ ok }) => !ok).map((check) => check.name)).to.deep.equal(failing);
      for (const { ok, stored, computed } of report?.checks ?? []) expect(stored === computed).to.equal(ok);
      await forgetCopies(redis, reader, 'x');
      // with its seal what is damaged of the fields could be proven from the bytes
      await damage(redis, reader, 'x', { seal: '0'.repeat(40) });

      let reads = 0;
      proxy.drop({
        direction: 'up',
        when: (chunk) => {
          reads += chunk.toString('latin1').toLowerCase().split('hmget').length - 1;
          return false;
        },
      });
      const error = await refusal('CORRUPT', () => reader.get('x'));
      expect(reads).to.equal(2);
      const shard = Number(/\{lc:.*:(\d+)\}/.exec(reader.keysOf('x').context)?.[1]);
      const where = { namespace: stores.namespace, shard, id: 'x', ...facts };
      expect(error.details).to.deep.include(where);
      expect(error.message).to.contain('x').and.contain(facts.expected).and.contain(facts.found);
      expect(events).to.have.lengthOf(1);
      expect(events[0]).to.deep.include({ id: 'x', where: 'read', bytes: (fields.data ?? DOCUMENT).length, ...facts });
      const [line, moved, ...others] = logger.at('error');
      expect(others).to.deep.equal([]);
      expect(moved?.message).to.contain('quarantine');
      expect(moved?.fields).to.deep.include({ namespace: stores.namespace, shard, id: 'x', instance: reader.instanceId });
      expect(line?.fields).to.deep.include({ ...where, where: 'read', instance: reader.instanceId });
      expect(events[0]).to.deep.include({ ...where, where: 'read', instance: reader.instanceId, offset: null });
      expect(line?.fields).to.have.property('version');
      if (fields.v === undefined) {
        expect([error.details.version, events[0]?.version, line?.fields.version]).to.deep.equal([1, 1, 1]);
      }

      for (const call of [() => reader.getMany(['x']), () => reader.update('x', () => 1)]) await refusal('CORRUPT', call);
      expect((await reader.verify('x'))?.checks.map((check) => [check.name, check.ok])).to.deep.equal([['quarantine', false]]);
      expect((await reader.quarantined()).map(({ id, by }) => [id, by])).to.deep.equal([['x', reader.instanceId]]);
    });
  }

  it('what is damaged only once, on the way, is read again and nobody hears of it', async () => {
    const proxy = await stores.proxy();
    const logger = new RecordingLogger();
    const [reader, writer] = [await stores.open({ redis: proxy.url, logger }), await stores.open()];
    const events = record(reader, 'context:corrupt');
    await writer.set('x', { text: 'damaged-here' });
    const end = proxy.flip((chunk) => proxy.faults.flipped === 0 && chunk.indexOf('damaged-here'), 'down');
    expect((await reader.get('x'))?.value).to.deep.equal({ text: 'damaged-here' });
    end();
    expect(proxy.faults.flipped).to.equal(1);
    expect(events).to.deep.equal([]);
    expect(logger.at('error')).to.deep.equal([]);
  });

  it('what is damaged on the way to Redis is not written, and sent again', async () => {
    const proxy = await stores.proxy();
    const [writer, reader] = [await stores.open({ redis: proxy.url }), await stores.open()];
    const end = proxy.flip((chunk) => proxy.faults.flipped === 0 && chunk.indexOf('damaged-here'), 'up');
    expect((await writer.set('x', { text: 'damaged-here' })).version).to.equal(1);
    end();
    expect(proxy.faults.flipped).to.equal(1);
    expect((await reader.get('x'))?.value).to.deep.equal({ text: 'damaged-here' });
    expect(await reader.history('x')).to.have.lengthOf(1);

    const always = proxy.flip((chunk) => chunk.indexOf('damaged-here'), 'up');
    const error = await refusal('CHECKSUM', () => writer.set('x', { text: 'always damaged-here' }));
    expect(error.message).to.contain('nothing was written');
    always();
    expect((await reader.get('x', { fresh: true }))?.version).to.equal(1);
  });

  it('a damaged context can be written anew, and is well then', async () => {
    const [store, other] = await stores.pair();
    const redis = await stores.redis();
    await store.set('x', JSON.parse(DOCUMENT));
    await damage(redis, store, 'x', { data: 'rubbish' });
    await forgetCopies(redis, store, 'x');
    await refusal('CORRUPT', () => other.get('x'));
    expect((await store.set('x', { new: true })).version).to.equal(2);
    expect(await other.verify('x')).to.deep.include({ ok: true, version: 2 });
    expect((await other.get('x'))?.value).to.deep.equal({ new: true });
  });

  it('others in the same getMany are no help: the damaged one is named', async () => {
    const store = await stores.open();
    const redis = await stores.redis();
    for (const id of ['a', 'b', 'c']) await store.set(id, JSON.parse(DOCUMENT));
    await damage(redis, store, 'b', { crc: 'ffffffff', seal: 'f'.repeat(40) });
    await forgetCopies(redis, store, 'b');
    expect((await refusal('CORRUPT', () => store.getMany(['a', 'b', 'c']))).details.id).to.equal('b');
    expect(await store.getMany(['a', 'c'])).to.have.lengthOf(2);
  });

  describe('verify', () => {
    it('says what it compared, and null where there is nothing', async () => {
      const store = await stores.open();
      const { checksum } = await store.set('x', JSON.parse(DOCUMENT));
      const report = await store.verify('x');
      expect(report).to.deep.include({ id: 'x', ok: true, version: 1, bytes: DOCUMENT.length });
      const [history] = await store.history('x');
      expect(Object.fromEntries((report?.checks ?? []).map(({ name, stored }) => [name, stored]))).to.deep.include({
        length: '20',
        crc32: checksum,
        sha1: history?.sha1,
      });
      expect(await store.verify('none')).to.equal(null);
    });

    it('finds a log that says something else', async () => {
      const store = await stores.open();
      const redis = await stores.redis();
      await store.set('x', 1);
      await store.set('x', 2);
      await redis.xdel(store.keysOf('x').log, '2-0');
      const report = await store.verify('x');
      expect(report?.checks.filter(({ ok }) => !ok).map(({ name }) => name)).to.deep.equal(['log']);
      await redis.del(store.keysOf('x').log);
      expect((await store.verify('x'))?.checks.find(({ name }) => name === 'log')?.computed).to.equal('no log');
    });
  });

  describe('a damaged entry of the delta log', () => {
    /** Puts an entry of the log back with other fields; ids in a stream only rise, so all are written anew. */
    async function rewriteLog(
      redis: Redis,
      store: ContextStore,
      id: string,
      damaged: number,
      field: string,
      change: (value: Buffer) => Buffer | string,
    ): Promise<void> {
      const { log } = store.keysOf(id);
      const entries = await redis.xrangeBuffer(log, '-', '+');
      await redis.del(log);
      for (const [entryId, fields] of entries) {
        const changed = fields.map((value, index) =>
          index % 2 === 1 && fields[index - 1]?.toString() === field && entryId.toString() === `${damaged}-0`
            ? change(value)
            : value,
        );
        expect(changed.some((value, index) => value !== fields[index])).to.equal(entryId.toString() === `${damaged}-0`);
        await redis.xadd(log, entryId, ...changed);
      }
    }

    /** With other bytes from a place on; from the end where that is negative. */
    const overwritten = (bytes: Buffer, at: number, ...others: number[]): Buffer => {
      const copy = Buffer.from(bytes);
      copy.set(others, at < 0 ? bytes.length + at : at);
      return copy;
    };
    const text = (change: (text: string) => string) => (frame: Buffer) => change(frame.toString());

    // of a splice: form, lengths of base and target (two bytes each), length of the instructions, copy, insert, and "3"
    type Damage = readonly [delta: 'on' | 'off', name: string, field: string, change: (value: Buffer) => Buffer | string];
    const changes: readonly Damage[] = [
      ['on', 'a splice that leads elsewhere', 'frame', (frame) => overwritten(frame, -1, 0x37)],
      ['on', 'a splice that leads to what is no JSON', 'frame', (frame) => overwritten(frame, -1, 0x7d)],
      ['on', 'a splice that copies from elsewhere', 'frame', (frame) => overwritten(frame, -3, 0x02)],
      ['on', 'a splice that copies from before the base', 'frame', (frame) => overwritten(frame, -3, 0x01)],
      ['on', 'a splice of another length', 'frame', (frame) => overwritten(frame, 3, (frame[3] ?? 0) + 1)],
      ['on', 'a splice onto a base of another length', 'frame', (frame) => overwritten(frame, 1, (frame[1] ?? 0) + 1)],
      ['on', 'a splice in another form', 'frame', (frame) => overwritten(frame, 0, 2)],
      ['on', 'a splice that is cut off', 'frame', (frame) => frame.subarray(0, -1)],
      ['on', 'a splice that is nothing', 'frame', () => ''],
      ['on', 'a splice that is rubbish', 'frame', (frame) => Buffer.alloc(frame.length, 0xff)],
      ['on', 'another kind', 'kind', () => 'patch'],
      ['on', 'another base', 'base', () => '00000000'],
      ['on', 'another checksum', 'crc', () => '00000000'],
      ['off', 'a patch that leads elsewhere', 'frame', text((frame) => frame.replace('"value":3', '"value":7'))],
      ['off', 'a patch that does not apply', 'frame', text((frame) => frame.replace('/n', '/m'))],
      ['off', 'a patch that is no JSON', 'frame', text((frame) => frame.slice(0, -1))],
      ['off', 'another kind of a patch', 'kind', () => 'splice'],
      ['off', 'another base of a patch', 'base', () => '00000000'],
      ['off', 'another checksum of a patch', 'crc', () => '00000000'],
    ];
    for (const [delta, name, field, change] of changes) {
      it(`${name}: watchers get a reset instead of wrong data`, async () => {
        const [store, other] = await stores.pair({ delta });
        const redis = await stores.redis();
        for (const n of [1, 2]) await store.set('x', { n, pad: PAD });
        for (const n of [3, 4, 5]) await store.patch('x', [{ op: 'replace', path: '/n', value: n }]);
        expect((await store.history('x')).map(({ kind, version }) => `${kind} ${version}`)).to.include(
          delta === 'on' ? 'splice 3' : 'patch 3',
        );
        await rewriteLog(redis, store, 'x', 3, field, change);
        for (const from of [0, 2]) {
          const watched = new Watched(other.watch('x', { fromVersion: from }));
          await watched.version(5);
          expect(watched.changes.map(({ version, value }) => [version, (value as { n: number }).n])).to.deep.equal(
            watched.versions.map((version) => [version, version]),
          );
          expect(watched.kinds.at(-1)).to.equal('reset 5');
          expect(watched.versions).to.not.include(3);
        }
        // what comes after the damage can be replayed, or is given whole
        const later = new Watched(other.watch('x', { fromVersion: 4 }));
        expect(((await later.version(5)).value as { n: number }).n).to.equal(5);
      });
    }

    it('a replica that needs it takes the whole document', async () => {
      const proxy = await stores.proxy();
      const [near, writer] = [await stores.open({ redis: proxy.url }), await stores.open()];
      const redis = await stores.redis();
      const resyncs = record(near, 'context:resync');
      await writer.set('x', { n: 1, m: 1, pad: PAD });
      await untilReplica(near, 'x');
      const end = proxy.drop({ direction: 'down', when: (chunk) => chunk.includes('lc2 ') });
      await writer.patch('x', [{ op: 'replace', path: '/n', value: 2 }]);
      await writer.patch('x', [{ op: 'replace', path: '/m', value: 3 }]);
      await waitFor(() => proxy.faults.dropped > 0, { what: 'the frames to be lost' });
      await near.has('y');
      end();
      await rewriteLog(redis, writer, 'x', 3, 'frame', (frame) => overwritten(frame, -1, 0x37));
      await writer.patch('x', [{ op: 'replace', path: '/n', value: 4 }]);
      await waitFor(async () => (await near.get('x'))?.version === 4, { what: 'version 4' });
      expect((await near.get('x'))?.value).to.deep.equal({ n: 4, m: 3, pad: PAD });
      await waitFor(() => resyncs.length > 0, { what: 'the resync' });
      expect(resyncs[0]).to.deep.include({ id: 'x', reason: 'gap', from: 1, to: 4, full: true });
    });
  });
});
