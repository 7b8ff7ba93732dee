/** What single calls can be told. A name that a call does not know is an error: a misspelt `ttl` would keep a context for ever. */
import { ContextError } from '../core/errors.js';

const CALL = ['signal', 'timeout'];
const READ = [...CALL, 'fresh', 'allowStale'];
const WRITE = [...CALL, 'ttl', 'ifVersion', 'lock'];

const NAMES = {
  get: READ,
  getMany: [...CALL, 'fresh'],
  has: CALL,
  set: WRITE,
  update: [...WRITE, 'attempts', 'initial'],
  patch: WRITE,
  delete: [...CALL, 'ifVersion', 'lock'],
  touch: [...CALL, 'lock'],
  transaction: [...CALL, 'attempts', 'lock'],
  list: [...CALL, 'cursor', 'limit', 'prefix'],
  watch: ['fromVersion', 'signal', 'queue'],
  history: [...CALL, 'limit'],
  frameSince: CALL,
  verify: CALL,
  rawBytes: CALL,
  stats: CALL,
  upgrade: CALL,
  seal: CALL,
  repair: CALL,
  restore: CALL,
  quarantined: CALL,
  dropQuarantined: CALL,
  export: [...CALL, 'prefix', 'resume', 'progress', 'damaged'],
  exportPoint: CALL,
  preserve: [...CALL, 'ttl', 'replace'],
  restoreSnapshot: [...CALL, 'ttl', 'keepNew', 'dryRun', 'lock'],
  snapshots: CALL,
  dropSnapshot: CALL,
  import: [...CALL, 'ifExists', 'partial', 'skipDamaged', 'dryRun', 'concurrency', 'progress'],
  lock: ['ttl', 'wait', 'signal', 'mode', 'within'],
  tryLock: ['ttl', 'signal', 'mode'],
  locks: ['signal', 'ids'],
  breakLock: CALL,
} as const satisfies Record<string, readonly string[]>;

export type CallName = keyof typeof NAMES;

/** @throws ContextError `INVALID_OPTION` */
export function checkCallOptions(call: CallName, options: object): void {
  const names: readonly string[] = NAMES[call];
  for (const name in options) {
    if (!names.includes(name))
      throw new ContextError('INVALID_OPTION', `${call} has no option ${JSON.stringify(name)}; there are ${names.join(', ')}`);
  }
}
