import { readdirSync } from 'node:fs';
import { expect } from 'chai';
import { answerCheck, guardOf } from '../../src/core/seal.js';
import { accessPattern, probeKeys } from '../../src/redis/keys.js';
import { NODE_SCRIPT_NAMES, scriptSource } from '../../src/redis/scripts.js';
import { LuaNamespace, operation } from '../helpers/lua.js';
import { RedisServer } from '../helpers/RedisServer.js';

const LUA = new URL('../../lua/', import.meta.url);
/** The commands that a script calls by name; those that probe tries stand in a list. */
const commandsOf = (source: string, pattern = /redis\.p?call\('([A-Z]+)'/g): string[] => [
  ...new Set([...source.matchAll(pattern)].map(([, command]) => command ?? '')),
];
const TRIED = commandsOf(scriptSource('probe'), /\{ '([A-Z]+)', (?:hash|stream|zset|old|'USAGE'|'STREAM')/g);

describe('lua/probe.lua', () => {
  describe('with all rights', () => {
    let lua: LuaNamespace;
    beforeEach(async () => {
      lua = await LuaNamespace.open();
    });
    afterEach(() => lua.close());

    const probe = async (): Promise<(string | number | null)[]> => {
      const { keys, channel } = probeKeys(lua.keys.namespace);
      return lua.run('probe', keys, [channel, 'PUBLISH']);
    };

    it('answers OK with the time, leaves nothing and publishes a word of its own', async () => {
      for (let round = 0; round < 2; round += 1) {
        const before = await lua.now();
        const reply = await probe();
        expect(reply).to.have.length(2);
        expect(reply[0]).to.equal('OK');
        expect(reply[1]).to.be.within(before, await lua.now());
        expect(await lua.snapshot()).to.deep.equal({});
        const { channel } = probeKeys(lua.keys.namespace);
        expect(await lua.published()).to.deep.equal([{ channel, text: 'lc1 probe' }]);
      }
    });

    it('touches no context', async () => {
      await lua.commit('probe', '1', { ttl: 60_000 });
      const before = await lua.snapshot();
      expect((await probe())[0]).to.equal('OK');
      expect(await lua.snapshot()).to.deep.equal(before);
    });
  });

  it('tries every command that another script uses', () => {
    // who may not ask for listeners goes without that answer (lua/include/fit.lua)
    const tried = new Set([...TRIED, 'TIME', 'PUBSUB']);
    // the scripts of lock nodes run on other servers
    const elsewhere = ['inspect.lua', ...NODE_SCRIPT_NAMES.map((name) => `${name}.lua`)];
    for (const file of readdirSync(LUA).filter((name) => name.endsWith('.lua') && !elsewhere.includes(name))) {
      const used = commandsOf(scriptSource(file.replace('.lua', '')));
      expect(
        used.filter((command) => !tried.has(command)),
        file,
      ).to.deep.equal([]);
    }
  });

  describe('as a user who may not do everything', () => {
    const namespace = 'rights';
    const pattern = accessPattern(namespace);
    const commands = [...TRIED, 'PUBLISH'];
    const user = (name: string, rules: string): string => `${name} on >secret ${rules}`;
    const all = `+@all ~${pattern} &${pattern}`;
    let server: RedisServer;
    before(async () => {
      server = await RedisServer.start({
        acl: [
          user('all', all),
          ...commands.map((command) => user(`no-${command.toLowerCase()}`, `${all} -${command.toLowerCase()}`)),
          user('no-time', `${all} -time`),
          user('other-channels', `+@all ~${pattern} resetchannels &other*`),
          user('other-keys', `+@all ~other* &${pattern}`),
        ],
      });
    });
    after(() => server.stop());

    async function probeAs(username: string): Promise<unknown[]> {
      const client = server.client({ username, password: 'secret' });
      const { keys, channel } = probeKeys(namespace);
      try {
        const salt = operation();
        const guard = guardOf(salt, [...keys, channel, 'PUBLISH']);
        const source = scriptSource('probe');
        const reply = (await client.eval(source, keys.length, ...keys, channel, 'PUBLISH', guard)) as (string | number)[];
        expect(reply.pop()).to.equal(answerCheck(salt, reply));
        return reply;
      } finally {
        client.disconnect();
      }
    }

    it('answers OK where the rules allow the namespace and no more', async () => {
      expect((await probeAs('all'))[0]).to.equal('OK');
    });

    for (const command of commands) {
      it(`answers DENIED ${command} without the right to it`, async () => {
        const reply = await probeAs(`no-${command.toLowerCase()}`);
        expect(reply.slice(0, 2)).to.deep.equal(['DENIED', command]);
        expect(reply[2]).to.match(/permission|can't run/i);
        // nothing is left, but for who may not delete
        if (command !== 'DEL') expect(await server.cli('KEYS', '*')).to.equal('');
        // and once it is granted, nothing of this stands in the way
        expect(await probeAs('all')).to.deep.include('OK');
        expect(await server.cli('KEYS', '*')).to.equal('');
      });
    }

    it('fails by name without the right to TIME', async () => {
      const failure = await probeAs('no-time').catch((error: unknown) => String(error));
      expect(failure).to.match(/time|can't run/i);
    });

    it('answers DENIED PUBLISH on channels that are not allowed', async () => {
      expect((await probeAs('other-channels')).slice(0, 2)).to.deep.equal(['DENIED', 'PUBLISH']);
    });

    it('is refused by Redis on keys that are not allowed', async () => {
      const failure = await probeAs('other-keys').catch((error: unknown) => String(error));
      expect(String(failure)).to.match(/NOPERM|permission/);
    });
  });
});
