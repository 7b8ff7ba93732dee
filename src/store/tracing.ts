/**
 * Spans of calls that reach Redis, through `@opentelemetry/api` alone: without an SDK they cost next to nothing. Reads that a replica
 * answers have none: a span would take longer than the read.
 */
import { type Span, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { isContextError } from '../core/errors.js';

const tracer = trace.getTracer('lukhas-context');

export function traced<T>(
  operation: string,
  namespace: string,
  id: string | undefined,
  run: (span: Span) => Promise<T>,
): Promise<T> {
  const attributes = {
    'db.system': 'redis',
    'lukhas.namespace': namespace,
    ...(id === undefined ? {} : { 'lukhas.context.id': id }),
  };
  return tracer.startActiveSpan(`lukhas-context ${operation}`, { kind: SpanKind.CLIENT, attributes }, async (span) => {
    try {
      return await run(span);
    } catch (error) {
      span.setStatus({ code: SpanStatusCode.ERROR, message: error instanceof Error ? error.message : String(error) });
      if (isContextError(error)) span.setAttribute('lukhas.error.code', error.code);
      throw error;
    } finally {
      span.end();
    }
  });
}
