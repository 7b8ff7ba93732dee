/**
 * A process that takes part in the background work, kills its Redis, closes, and has nothing to do then: that it ends by itself shows that
 * nothing goes on trying. Arguments: URL, namespace, process id of the server.
 */
import { Workers } from '../../queues/Workers.js';
import { ContextStore } from '../../src/index.js';
import { waitFor } from './waitFor.js';

const [url = '', namespace = '', server = ''] = process.argv.slice(2);
const store = await ContextStore.connect({
  redis: url,
  namespace,
  workers: 'external',
  queues: { sweepEvery: '200ms' },
  logger: false,
});
let done = 0;
const logger = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
const workers = await Workers.start(store.maintenance, {
  logger,
  closeMs: 500,
  done: () => {
    done += 1;
  },
});
await waitFor(() => done > 2, { what: 'some work' });
console.log('working');
process.kill(Number(server), 'SIGKILL');
await workers.close();
await store.close();
console.log('closed');
