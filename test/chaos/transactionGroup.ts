/** What a transaction of the tests does, and how it shows whether it was done. */
import type { JsonValue } from '../../src/index.js';

export interface Planned {
  readonly id: string;
  readonly kind: 'set' | 'patch' | 'create' | 'delete';
}

/** A namespace, and the one transaction in it. */
export interface Group {
  readonly namespace: string;
  readonly planned: readonly Planned[];
}

export interface Marked {
  readonly n: number;
}

/** Whether a context is as it was before the transaction, or after it. */
export function stateOf({ kind }: Planned, value: JsonValue | null | undefined): 'before' | 'after' {
  if (value === null || value === undefined) return kind === 'create' ? 'before' : 'after';
  if (kind === 'delete') return 'before';
  return (value as { readonly n?: number }).n === 0 ? 'before' : 'after';
}
