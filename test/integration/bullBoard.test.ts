import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { Workers } from '../../queues/Workers.js';
import { sharedServer } from '../helpers/RedisServer.js';
import { RecordingLogger, useStores } from '../helpers/stores.js';
import { waitFor } from '../helpers/waitFor.js';

describe('scripts/bullBoard.ts', function () {
  this.timeout(30_000);
  const stores = useStores();
  let board: ChildProcess | undefined;
  afterEach(async () => {
    if (board?.exitCode === null && board.signalCode === null) {
      board.kill('SIGKILL');
      await once(board, 'close');
    }
  });

  it('shows the queues of a namespace, page and API, and ends in order', async () => {
    const store = await stores.open({ workers: 'external', queues: { sweepEvery: '300ms' } });
    let done = 0;
    const workers = await Workers.start(store.maintenance, {
      logger: new RecordingLogger(),
      queues: ['sweep'],
      done: () => {
        done += 1;
      },
    });
    try {
      await waitFor(() => done > 0, { what: 'a sweep' });
      const script = fileURLToPath(new URL('../../scripts/bullBoard.ts', import.meta.url));
      const { url } = await sharedServer();
      const args = ['--import', 'tsx', script, '--redis', url, '--namespace', stores.namespace, '--port', '0'];
      board = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
      let [printed, complaints] = ['', ''];
      board.stdout?.on('data', (text) => {
        printed += String(text);
      });
      board.stderr?.on('data', (text) => {
        complaints += String(text);
      });
      const address = await waitFor(() => /^(http:\/\/\S+)\n/.exec(printed)?.[1], { what: 'the address', limitMs: 15_000 });
      const page = await fetch(address);
      expect(page.status).to.equal(200);
      expect(page.headers.get('content-type')).to.include('text/html');
      expect(await page.text()).to.match(/bull.?dashboard/i);
      const api = await fetch(`${address}/api/queues`);
      expect(api.status).to.equal(200);
      const { queues } = (await api.json()) as { queues: { name: string; counts: Record<string, number> }[] };
      expect(queues.map(({ name }) => name)).to.deep.equal(['sweep', 'scrub', 'reconcile']);
      expect(queues[0]?.counts.completed).to.be.greaterThan(0);
      expect((await fetch(new URL('/', address))).url).to.include('/queues');
      const closed = once(board, 'close');
      board.kill('SIGTERM');
      expect((await closed)[0]).to.equal(0);
      expect(complaints).to.equal('');
    } finally {
      await workers.close();
    }
  });
});
