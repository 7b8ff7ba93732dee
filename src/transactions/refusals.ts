/** What a transaction that cannot be committed ends with. */
import { ContextError } from '../core/errors.js';
import type { Refusal } from '../redis/TransactionCommands.js';
import { MOST_BYTES } from './Transaction.js';

export function conflict(
  refusal: Refusal,
  attempts: number,
  { namespace, recoverMs }: { readonly namespace: string; readonly recoverMs: number },
  expected?: number,
): ContextError {
  const { id } = refusal;
  if (refusal.why === 'overtime')
    return new ContextError(
      'CONFLICT',
      `${id}: the transaction was not decided within ${recoverMs} ms and was taken back (after ${attempts} attempts: give it more, \`transactions.recoverAfter\`); nothing of it was written`,
      { namespace, id },
    );
  const found = refusal.why === 'conflict' ? refusal.version : undefined;
  const what = found === 0 ? 'it does not exist (any more)' : `it is at version ${found}`;
  const why =
    expected === undefined
      ? 'it was changed while the transaction ran'
      : expected === 0
        ? 'it was not to exist'
        : `version ${expected} was expected`;
  const tries = attempts > 1 ? ` (after ${attempts} attempts: give it a lock, { lock: true })` : '';
  return new ContextError('CONFLICT', `${id}: ${why}, but ${what}${tries}; nothing of the transaction was written`, {
    namespace,
    id,
    ...(found === undefined ? {} : { version: found, found }),
    ...(expected === undefined ? {} : { expected }),
  });
}

export const fenced = ({ id, fence }: Refusal & { readonly why: 'fenced' }): ContextError =>
  new ContextError(
    'FENCED',
    `${id}: the lock under which this was written is lost (the newest fencing token is ${fence}); nothing of the transaction was written`,
    { id },
  );

export function broken({ id, why }: Refusal): ContextError {
  if (why === 'writeCorrupt')
    return new ContextError(
      'WRITE_CORRUPT',
      `${id}: Redis gave back other bytes than were written; all is as it was: check its memory`,
      { id },
    );
  return new ContextError(
    'CORRUPT',
    `${id}: what is stored of it is damaged, and no good copy was found; write it anew, or look at it with \`lukhas-context verify\`. Nothing of the transaction was written`,
    { id },
  );
}

export const tooLarge = (found: number): ContextError =>
  new ContextError(
    'LIMIT_EXCEEDED',
    `the documents of the transaction have ${found} bytes so far; at most ${MOST_BYTES} are allowed: split it`,
    { limit: 'transaction.bytes', expected: MOST_BYTES, found },
  );
