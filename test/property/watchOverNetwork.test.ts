import { expect } from 'chai';
import fc from 'fast-check';
import type { Change } from '../../src/core/context.js';
import { ContextStore, type StoreOptions } from '../../src/index.js';
import { uniqueNamespace } from '../helpers/namespace.js';
import { sharedServer } from '../helpers/RedisServer.js';
import { TcpProxy } from '../helpers/TcpProxy.js';
import { waitFor } from '../helpers/waitFor.js';

/** What happens between two writes, on the line of the watching instance. */
type Fault =
  | { readonly fault: 'none' }
  | { readonly fault: 'drop'; readonly messages: number }
  | { readonly fault: 'delay'; readonly ms: number }
  | { readonly fault: 'hold' | 'release' | 'cut' }
  | { readonly fault: 'wait'; readonly ms: number };

const fault: fc.Arbitrary<Fault> = fc.oneof(
  { weight: 6, arbitrary: fc.constant<Fault>({ fault: 'none' }) },
  { weight: 3, arbitrary: fc.record({ fault: fc.constant('drop' as const), messages: fc.integer({ min: 1, max: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ fault: fc.constant('delay' as const), ms: fc.constantFrom(0, 1, 5) }) },
  { weight: 1, arbitrary: fc.constantFrom<Fault>({ fault: 'hold' }, { fault: 'release' }, { fault: 'cut' }) },
  { weight: 2, arbitrary: fc.record({ fault: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 10 }) }) },
);
const plan = fc.array(fc.record({ fault, write: fc.constantFrom('update', 'update', 'set', 'delete') }), {
  minLength: 5,
  maxLength: 60,
  size: 'max',
});

describe('watch over a bad line', function () {
  this.timeout(60_000);
  let writer: ContextStore;
  let url: string;
  let options: StoreOptions;
  let serial = 0;

  before(async () => {
    ({ url } = await sharedServer());
    options = {
      redis: url,
      namespace: uniqueNamespace('line'),
      heartbeat: '50ms',
      attemptTimeout: '200ms',
      log: { keep: 512, bytes: '16mb' },
      workers: 'off',
      logger: false,
    };
    writer = await ContextStore.connect(options);
  });
  after(() => writer.close());

  it('yields each version once and in order, with its value, whatever is dropped, delayed or cut', () =>
    fc.assert(
      fc.asyncProperty(plan, async (steps) => {
        const id = `c${++serial}`;
        const proxy = await TcpProxy.start(Number(new URL(url).port));
        const subscriptions = new Set<number>();
        let toDrop = 0;
        proxy.drop({
          direction: 'up',
          when: (chunk, index) => {
            if (chunk.includes(':subscriptions')) subscriptions.add(index);
            return false;
          },
        });
        proxy.drop({
          direction: 'down',
          when: (_, index) => {
            if (toDrop === 0 || !subscriptions.has(index)) return false;
            toDrop -= 1;
            return true;
          },
        });
        const watching = await ContextStore.connect({ ...options, redis: proxy.url });
        try {
          const watcher = watching.watch(id, { fromVersion: 0 });
          const seen: Change[] = [];
          const reading = (async () => {
            for await (const change of watcher) seen.push(change);
          })();
          const wanted: string[] = [];
          for (const step of steps) {
            switch (step.fault.fault) {
              case 'drop':
                toDrop += step.fault.messages;
                break;
              case 'delay':
                proxy.delay(step.fault.ms);
                break;
              case 'hold':
                proxy.pause('down');
                break;
              case 'release':
                proxy.resume('down');
                break;
              case 'cut':
                proxy.cut();
                break;
              case 'wait': {
                const { ms } = step.fault;
                await new Promise((resolve) => setTimeout(resolve, ms));
                break;
              }
              default:
            }
            if (step.write === 'delete') {
              const gone = await writer.delete(id);
              if (gone !== null) wanted.push(`${gone.version} null`);
            } else if (step.write === 'set') {
              const value = { n: 0, list: [wanted.length] };
              wanted.push(`${(await writer.set(id, value)).version} ${JSON.stringify(value)}`);
            } else {
              const { version, value } = await writer.update<{ n: number }>(
                id,
                (draft) => {
                  draft.n += 1;
                },
                { initial: { n: 0, list: [] } },
              );
              wanted.push(`${version} ${JSON.stringify(value)}`);
            }
          }
          toDrop = 0;
          proxy.delay(0);
          proxy.resume('down');
          const told = (): string[] => seen.map(({ version, value }) => `${version} ${JSON.stringify(value)}`);
          await waitFor(() => told().length >= wanted.length, { what: 'all changes', limitMs: 8_000 }).catch(() => {});
          expect(told()).to.deep.equal(wanted);
          expect(seen.filter(({ kind }) => kind === 'reset')).to.have.length(0);
          await watcher.return?.();
          await reading;
        } finally {
          await watching.close();
          await proxy.close();
        }
      }),
      { numRuns: 25, endOnFailure: true },
    ));
});
