/** Redis loads an append-only file in which a bit of a value has flipped without a word: the context's checksums say it, and its log heals it. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { RedisServer } from '../helpers/RedisServer.js';
import { record, refusal, useStores } from '../helpers/stores.js';

describe('an append-only file with a flipped bit', function () {
  this.timeout(60_000);
  let server: RedisServer;
  before(async () => {
    server = await RedisServer.start({
      appendOnly: true,
      config: { 'aof-use-rdb-preamble': 'no', 'auto-aof-rewrite-percentage': '0' },
    });
  });
  after(() => server.stop());
  const stores = useStores(() => server);

  /** Flips a bit of the only place in the files where `text` stands after `before`; gives how often it stands there. */
  function flip(before: string, text: string): number {
    const folder = join(server.dir, 'appendonlydir');
    let found = 0;
    for (const name of readdirSync(folder)) {
      const file = join(folder, name);
      const bytes = readFileSync(file);
      for (let at = bytes.indexOf(before); at >= 0; at = bytes.indexOf(before, at + 1)) {
        const place = bytes.indexOf(text, at);
        if (place < 0 || place - at > before.length + 20) continue;
        found += 1;
        bytes.writeUInt8(bytes.readUInt8(place) ^ 1, place);
      }
      writeFileSync(file, bytes);
    }
    return found;
  }

  for (const [name, before, text, copies] of [
    ['in the document', 'data\r\n', '{"n":2,', true],
    ['in the CRC-32', 'crc\r\n', '', true],
    ['in the document, and its log is gone', 'data\r\n', '{"n":2,', false],
  ] as const) {
    it(`${name}: found by the next read, ${copies ? 'and healed' : 'and never given out'}`, async () => {
      const writer = await stores.open();
      const redis = server.client();
      await writer.set('x', { n: 1, text: 'the first version' });
      await writer.set('x', { n: 2, text: 'what it should be' });
      const { context, log } = writer.keysOf('x');
      if (!copies) await redis.del(log);
      const crc = (await redis.hget(context, 'crc')) ?? '';
      await writer.close();
      await server.kill();
      // fields are written as `$<length>`, the field, `$<length>`, the value
      expect(flip(before, text === '' ? crc : text)).to.be.at.least(1);
      await server.restart();
      const stored = await redis.hgetall(context);
      expect(text === '' ? stored.crc !== crc : !stored.data?.startsWith('{"n":2,'), 'Redis has loaded it as it is').to.equal(
        true,
      );
      const reader = await stores.open();
      const [corrupt, repaired] = [record(reader, 'context:corrupt'), record(reader, 'context:repaired')];
      if (copies) {
        expect((await reader.get('x'))?.value).to.deep.equal({ n: 2, text: 'what it should be' });
        expect(repaired).to.have.lengthOf(1);
        expect((await reader.verify('x'))?.ok).to.equal(true);
      } else await refusal('CORRUPT', () => reader.get('x'));
      expect(corrupt[0]).to.include({ id: 'x', where: 'read' });
    });
  }
});
