import { randomInt } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import type { StoreOptions, StoreStats } from '../../src/index.js';
import { type Operation, readHistory } from '../helpers/history.js';
import { uniqueNamespace } from '../helpers/namespace.js';
import { type NodeProcess, spawnNode } from '../helpers/processes.js';
import { RedisServer } from '../helpers/RedisServer.js';
import { seededRng } from '../helpers/random.js';
import { bankInvariant, expectSerializable, type Transaction } from '../helpers/serializability.js';
import { TcpProxy } from '../helpers/TcpProxy.js';
import { waitFor } from '../helpers/waitFor.js';
import type { BankCommand, BankInput, BankLoad, BankOutput } from './bankInstance.js';

const INSTANCE = new URL('./bankInstance.ts', import.meta.url);
const ACCOUNTS = Array.from({ length: 50 }, (_, number) => `account-${number}`);
const SHARDS = 16;
const BALANCE = 100;
const TELLERS = 4;
const KILLS = 6;

type Recorded = Operation<BankInput, BankOutput>;

describe('a bank of 50 contexts on 16 shards', function () {
  this.timeout(180_000);
  const seed = Number(process.env.LUKHAS_CHAOS_SEED ?? randomInt(2 ** 30));
  const rng = seededRng(seed);
  let folder: string;
  let server: RedisServer;
  let proxy: TcpProxy;
  let namespace: string;
  let files: string[];
  let instances: NodeProcess[];
  before(() => console.log(`      seed ${seed} (LUKHAS_CHAOS_SEED)`));
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'lukhas-bank-'));
    server = await RedisServer.start({ appendOnly: true });
    proxy = await TcpProxy.start(server.port);
    namespace = uniqueNamespace('bank');
    files = [];
    instances = [];
  });
  afterEach(async function () {
    await Promise.all(instances.map((instance) => instance.kill()));
    await proxy.close();
    await server.stop();
    if (this.currentTest?.state === 'failed') console.log(`      the history is in ${folder}`);
    else rmSync(folder, { recursive: true, force: true });
  });

  const ask = <T = void>(instance: NodeProcess, command: BankCommand): Promise<T> =>
    instance.request<T>(command, { limitMs: 30_000 });
  const history = (): Recorded[] => readHistory<BankInput, BankOutput>(files);
  const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

  async function start(): Promise<NodeProcess> {
    const name = `p${files.length}`;
    const file = join(folder, name);
    files.push(file);
    const instance = await spawnNode(INSTANCE);
    instances.push(instance);
    const options: StoreOptions = {
      redis: proxy.url,
      namespace,
      shards: SHARDS,
      transactions: { recoverAfter: '1s' },
      attemptTimeout: '1s',
      connectTimeout: '15s',
      workers: 'off',
      logger: false,
    };
    await ask(instance, { do: 'open', options, name, file });
    return instance;
  }

  async function load(instance: NodeProcess, what: BankLoad['do'], timeoutMs = 15_000): Promise<void> {
    // an audit reads all, and begins anew whenever something is moved meanwhile: so that some come through
    const pace = what === 'transfer' ? { loops: 2, pauseMs: 200 } : { loops: 1, pauseMs: 20 };
    await ask(instance, { do: 'load', load: { do: what, accounts: ACCOUNTS, seed: rng.int(0, 2 ** 30), timeoutMs, ...pace } });
  }

  const done = (recorded: readonly Recorded[], what: BankInput['do']): number =>
    recorded.filter(({ input, output }) => input.do === what && output !== undefined).length;

  function check(recorded: readonly Recorded[]): void {
    const transactions = recorded.map(({ input, output, start, end }): Transaction => {
      const { reads = [], writes = [] } = output ?? {};
      return { id: input.transaction, reads, writes, status: output === undefined ? 'unknown' : 'committed', start, end };
    });
    const audits = recorded.flatMap(({ input, output }) =>
      input.do === 'audit' && output !== undefined ? [{ transaction: input.transaction, balances: output.balances }] : [],
    );
    const expected = { accounts: ACCOUNTS.length, total: ACCOUNTS.length * BALANCE };
    expect(bankInvariant(audits, expected).slice(0, 10)).to.deep.equal([]);
    expectSerializable(transactions, { realTime: true });
  }

  /** Ends the loads, audits once more, and looks at all that was recorded. */
  async function finish(running: readonly NodeProcess[]): Promise<Recorded[]> {
    for (const instance of running) {
      const { problems, refused } = await ask<{ problems: string[]; refused: object }>(instance, { do: 'stop' });
      expect(problems).to.deep.equal([]);
      if (Object.keys(refused).length > 0) console.log(`      ${JSON.stringify(refused)}`);
    }
    // one that has seen nothing of all that ends what the killed ones have left behind
    const last = await start();
    await ask(last, { do: 'audit', accounts: ACCOUNTS });
    const recorded = history();
    const { transactions } = await ask<StoreStats>(last, { do: 'stats' });
    console.log(
      `      ${done(recorded, 'transfer')} transfers, ${done(recorded, 'audit')} audits, ${recorded.filter(({ output }) => output === undefined).length} of unknown outcome; recovered by the last audit: ${JSON.stringify(transactions.recovered)}`,
    );
    check(recorded);
    expect(recorded.at(-1)?.output?.balances, 'the last audit').to.have.keys(ACCOUNTS);
    const redis = server.client();
    for (const key of await redis.keys('*:c:account-*')) expect(await redis.hget(key, 'intent'), key).to.equal(null);
    return recorded;
  }

  it('has the same sum for every reader, and a serial order of all transactions, whoever is killed', async () => {
    const auditors = await Promise.all([start(), start()]);
    const [first] = auditors as [NodeProcess, NodeProcess];
    await ask(first, { do: 'found', accounts: ACCOUNTS, balance: BALANCE });
    const tellers = await Promise.all(Array.from({ length: TELLERS }, start));
    for (const auditor of auditors) await load(auditor, 'audit');
    for (const teller of tellers) await load(teller, 'transfer');
    for (let kill = 0; kill < KILLS; kill += 1) {
      const before = history();
      const more = (what: BankInput['do'], count: number): boolean => done(history(), what) >= done(before, what) + count;
      await waitFor(() => more('transfer', 30) && more('audit', 8), {
        what: 'transfers and audits',
        limitMs: 60_000,
        everyMs: 100,
      });
      if (rng.chance(0.5)) proxy.cut();
      await pause(rng.int(0, 100));
      const victim = rng.int(0, TELLERS - 1);
      expect(await tellers[victim]?.kill()).to.include({ signal: 'SIGKILL' });
      const heir = await start();
      tellers[victim] = heir;
      await load(heir, 'transfer');
    }
    await finish([...tellers, ...auditors]);
  });

  it('has them as well where replies are lost and time runs out: what is said not to have been done was not', async () => {
    const auditor = await start();
    await ask(auditor, { do: 'found', accounts: ACCOUNTS, balance: BALANCE });
    const tellers = await Promise.all(Array.from({ length: TELLERS }, start));
    await load(auditor, 'audit');
    for (const teller of tellers) await load(teller, 'transfer', 600);
    const unknown = (): number => history().filter(({ output }) => output === undefined).length;
    for (let round = 0; round < 400 && (round < 60 || unknown() < 30); round += 1) {
      const dice = rng.next();
      if (dice < 0.2) proxy.cut();
      else if (dice < 0.7) proxy.cutAfterNextUpstreamMatch('evalsha').catch(() => {});
      else {
        proxy.pause('down');
        await pause(rng.int(50, 500));
        proxy.resume('down');
      }
      await pause(rng.int(50, 200));
    }
    const recorded = await finish([...tellers, auditor]);
    expect(recorded.filter(({ output }) => output === undefined).length, 'transfers of unknown outcome').to.be.above(10);
  });
});
