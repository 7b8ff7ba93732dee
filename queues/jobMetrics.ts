/** What the workers of this process tell OpenTelemetry of their jobs; without an SDK it costs next to nothing. */
import { metrics } from '@opentelemetry/api';
import type { WorkDone } from './work.js';

export function jobMetrics(namespace: string): (done: WorkDone) => void {
  const meter = metrics.getMeter('lukhas-context');
  const jobs = meter.createCounter('lukhas_context_jobs', { description: 'Background jobs that ended in this process' });
  const seconds = meter.createHistogram('lukhas_context_job_seconds', {
    description: 'How long background jobs ran',
    unit: 's',
  });
  return ({ queue, ms, error, interrupted }) => {
    const outcome = interrupted ? 'interrupted' : error === undefined ? 'done' : 'failed';
    jobs.add(1, { namespace, queue, outcome });
    seconds.record(ms / 1000, { namespace, queue, outcome });
  };
}
