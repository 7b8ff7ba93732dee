/**
 * A process for the tests of `close`: it uses a store in every way that keeps something alive, closes it, and has nothing to do then. It
 * never calls `process.exit`: that it ends shows that the store has left nothing behind. Arguments: URL, namespace, further
 * options as JSON.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { ContextStore } from '../../src/index.js';

const [url = '', namespace = '', more = '{"workers":"off"}'] = process.argv.slice(2);
const store = await ContextStore.connect({ redis: url, namespace, heartbeat: '20ms', logger: false, ...JSON.parse(more) });
const loop = (async () => {
  for await (const change of store.watch('x')) console.log(`change ${change.version}`);
})();
await store.set('x', 1, { ttl: '1h' });
await store.update('x', () => 2);
for (let read = 0; read < 3; read += 1) await store.get('x');
await store.get('y', { timeout: '1h', signal: new AbortController().signal });
await pause(100);
await store.close();
await loop;
console.log('closed');
