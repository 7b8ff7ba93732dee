/** What a store tells of damage and of its repair: an event, a line in the log with all that is known, and a counter for metrics. */
import { metrics } from '@opentelemetry/api';
import type { IntegrityHooks } from '../integrity/Integrity.js';
import type { Keys } from '../redis/keys.js';
import type { StoreEmitter } from './StoreEmitter.js';
import type { Logger } from './types.js';

/** `stats().integrity` has the same numbers for one instance. */
export function integrityHooks(emitter: StoreEmitter, logger: Logger, keys: Keys, instanceId: string): IntegrityHooks {
  const { namespace } = keys;
  const meter = metrics.getMeter('lukhas-context');
  const corruptions = meter.createCounter('lukhas_context_corruptions', { description: 'Damages that were found' });
  const repairs = meter.createCounter('lukhas_context_repairs', {
    description: 'Contexts that were repaired, or moved to quarantine',
  });
  const losses = meter.createCounter('lukhas_context_lost', { description: 'Contexts that vanished and could not be rebuilt' });
  const placed = <T extends { readonly id: string }>(event: T) => ({
    ...event,
    namespace,
    shard: keys.shardOf(event.id).shard,
    instance: instanceId,
  });
  return {
    corrupt: (corruption) => {
      const event = placed(corruption);
      corruptions.add(1, { namespace, where: corruption.where });
      logger.error(event, 'a document does not have its checksum');
      emitter.emit('context:corrupt', event);
    },
    repaired: ({ id, version, source, outcome, offset, findings }) => {
      const event = placed({ id, version, source: source ?? 'reread', removed: outcome === 'removed', offset });
      repairs.add(1, { namespace, source: event.source });
      logger.warn({ ...event, findings }, 'a damaged context was repaired');
      emitter.emit('context:repaired', event);
    },
    quarantined: ({ id, version, why, findings }) => {
      const event = placed({ id, version, why });
      repairs.add(1, { namespace, source: 'none' });
      logger.error({ ...event, findings }, 'a damaged context has no good copy, and was moved to quarantine');
      emitter.emit('context:quarantined', event);
    },
    lost: (id, error) => {
      const event = placed({ id });
      losses.add(1, { namespace });
      const why = error === undefined ? {} : { error: error instanceof Error ? error.message : String(error) };
      logger.error(
        { ...event, ...why },
        'a context vanished without having expired, and nobody has a good copy; its log is kept for a while, to restore it from',
      );
      emitter.emit('context:lost', event);
    },
  };
}
