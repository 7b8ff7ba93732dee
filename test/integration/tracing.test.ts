/** Spans of the calls that reach Redis, as an OpenTelemetry SDK sees them; none of reads that memory answers. */
import { context, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { BasicTracerProvider, InMemorySpanExporter, type ReadableSpan, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { expect } from 'chai';
import { refusal, untilReplica, useStores } from '../helpers/stores.js';

describe('tracing', () => {
  const stores = useStores();
  const exporter = new InMemorySpanExporter();
  let provider: BasicTracerProvider;

  before(() => {
    provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
    expect(trace.setGlobalTracerProvider(provider), 'nobody else has set one').to.equal(true);
  });
  after(async () => {
    trace.disable();
    context.disable();
    await provider.shutdown();
  });
  beforeEach(() => exporter.reset());

  const spans = (): readonly ReadableSpan[] => exporter.getFinishedSpans();

  it('have the call’s name, the namespace and the id', async () => {
    const store = await stores.open();
    exporter.reset();
    await store.set('x', { n: 0 });
    await store.get('x');
    await store.update<{ n: number }>('x', (draft) => {
      draft.n = 1;
    });
    await store.patch('x', [{ op: 'replace', path: '/n', value: 2 }]);
    await store.touch('x', '1h');
    await store.getMany(['a', 'b']);
    await store.list();
    await store.delete('x');
    expect(spans().map(({ name }) => name)).to.deep.equal(
      ['set', 'get', 'update', 'patch', 'touch', 'getMany', 'list', 'delete'].map((name) => `lukhas-context ${name}`),
    );
    for (const span of spans()) {
      const ofMany = /getMany|list/.test(span.name);
      expect(span.attributes, span.name).to.deep.equal({
        'db.system': 'redis',
        'lukhas.namespace': stores.namespace,
        ...(ofMany ? {} : { 'lukhas.context.id': 'x' }),
      });
      expect(span.kind).to.equal(SpanKind.CLIENT);
      expect(span.status.code).to.equal(SpanStatusCode.UNSET);
      expect(span.ended).to.equal(true);
      expect(span.instrumentationScope.name).to.equal('lukhas-context');
    }
  });

  it('of a call that fails have its message and code', async () => {
    const store = await stores.open();
    await store.set('x', 1);
    exporter.reset();
    const error = await refusal('CONFLICT', () => store.set('x', 2, { ifVersion: 7 }));
    await store
      .update('x', () => {
        throw new TypeError('the function’s own');
      })
      .catch(() => {});
    const [refused, thrown] = spans();
    expect(refused?.status).to.deep.equal({ code: SpanStatusCode.ERROR, message: error.message });
    expect(refused?.attributes).to.include({ 'lukhas.error.code': 'CONFLICT' });
    expect(thrown?.status).to.deep.equal({ code: SpanStatusCode.ERROR, message: 'the function’s own' });
    expect(thrown?.attributes).to.not.have.property('lukhas.error.code');
  });

  it('are not made for what a replica answers', async () => {
    const store = await stores.open();
    await store.set('x', 1);
    await untilReplica(store, 'x');
    exporter.reset();
    for (let read = 0; read < 10; read += 1) await store.get('x');
    await store.get('x', {});
    await store.getMany(['x']);
    expect(spans()).to.deep.equal([]);
    await store.get('x', { fresh: true });
    expect(spans().map(({ name }) => name)).to.deep.equal(['lukhas-context get']);
  });
});
