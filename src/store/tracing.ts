/**
 * Spans of calls that reach Redis, through `@opentelemetry/api` alone: without an SDK they cost next to nothing. Reads that a replica
 * answers have none: a span would take longer than the read.
 */
import { ProxyTracerProvider, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { isContextError } from '../core/errors.js';

const tracer = trace.getTracer('lukhas-context');

/** What a provider that nobody set delegates to. */
const NO_PROVIDER = new ProxyTracerProvider().getDelegate();

function nobodyTraces(): boolean {
  const provider = trace.getTracerProvider();
  return provider instanceof ProxyTracerProvider && provider.getDelegate() === NO_PROVIDER;
}

export function traced<T>(operation: string, namespace: string, id: string | undefined, run: () => Promise<T>): Promise<T> {
  if (nobodyTraces()) return run();
  const attributes = {
    'db.system': 'redis',
    'lukhas.namespace': namespace,
    ...(id === undefined ? {} : { 'lukhas.context.id': id }),
  };
  return tracer.startActiveSpan(`lukhas-context ${operation}`, { kind: SpanKind.CLIENT, attributes }, async (span) => {
    try {
      return await run();
    } catch (error) {
      span.setStatus({ code: SpanStatusCode.ERROR, message: error instanceof Error ? error.message : String(error) });
      if (isContextError(error)) span.setAttribute('lukhas.error.code', error.code);
      throw error;
    } finally {
      span.end();
    }
  });
}
