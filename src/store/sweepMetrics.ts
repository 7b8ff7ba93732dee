/** What a store tells OpenTelemetry of the contexts that it has swept; without an SDK it costs next to nothing. */
import { metrics } from '@opentelemetry/api';

/** Takes how late a context was removed, ms from its expiry, both by Redis's clock. */
export function sweepMetrics(namespace: string): (lateMs: number) => void {
  const lateness = metrics.getMeter('lukhas-context').createHistogram('lukhas_context_sweep_lateness', {
    description: 'From the expiry of a context to its removal by a sweep',
    unit: 'ms',
  });
  return (lateMs) => lateness.record(lateMs, { namespace });
}
