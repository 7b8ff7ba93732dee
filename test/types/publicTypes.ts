/**
 * The public types, used as a user would: this file is never run, `tsc` checks it. Where misuse must not compile, `@ts-expect-error` says
 * so, and is itself an error once it does.
 */
import {
  type Change,
  type Context,
  ContextError,
  type ContextErrorDetails,
  ContextStore,
  type ContextSummary,
  type Duration,
  ERROR_CODES,
  type ErrorCode,
  type ExportPoint,
  type ExportSummary,
  type HistoryEntry,
  type ImportResult,
  isContextError,
  type JsonValue,
  type ListPage,
  type Lock,
  type LockInfo,
  type Logger,
  type Patch,
  type PreserveResult,
  type RestoreSnapshotResult,
  type SnapshotSummary,
  type StoreEvents,
  type StoreOptions,
  type StoreStats,
  type UpdateResult,
  type VerifyResult,
  verifyExport,
  type WriteResult,
} from '../../src/index.js';

interface Session {
  user: string;
  turns: string[];
}

/** Compiles only where both types are the same. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function same<A, B>(_: Same<A, B>): void {}

export async function opening(): Promise<void> {
  const store: ContextStore = await ContextStore.connect();
  await ContextStore.connect({ redis: 'redis://localhost', namespace: 'agents', timeout: '1s', memory: { local: '64mb' } });
  await ContextStore.connect({ redis: { host: 'localhost', port: 6379, tls: {} }, logger: console, limits: { depth: 3 } });
  await ContextStore.connect({ logger: false, values: 'copy', evictionPolicy: 'warn', log: { keep: 8, bytes: 1024 } });
  // @ts-expect-error a store is opened with connect
  new ContextStore();
  // @ts-expect-error an unknown option
  await ContextStore.connect({ namspace: 'agents' });
  // @ts-expect-error an unknown option, deeper
  await ContextStore.connect({ limits: { bytes: 1 } });
  // @ts-expect-error not one of the ways to give values out
  await ContextStore.connect({ values: 'mine' });
  // @ts-expect-error not a port but a target
  await ContextStore.connect({ redis: 6379 });
  // @ts-expect-error half a logger
  await ContextStore.connect({ logger: { info: () => {} } });
  // @ts-expect-error the namespace of a store is fixed
  store.namespace = 'other';
  // @ts-expect-error options are not changed after they were given
  (({ timeout: 1 }) as StoreOptions).timeout = 2;
  await using _disposed: AsyncDisposable = store;
}

export async function reading(store: ContextStore): Promise<void> {
  same<Awaited<ReturnType<typeof store.has>>, boolean>(true);
  const plain = await store.get('x');
  same<typeof plain, Context<JsonValue> | null>(true);
  const typed = await store.get<Session>('x', { fresh: true, timeout: '1s' });
  same<typeof typed, Context<Session> | null>(true);
  // @ts-expect-error there may be none
  plain.value;
  // @ts-expect-error a value can be anything that JSON holds
  plain?.value.turns;
  if (typed !== null) {
    const turns: string[] = typed.value.turns;
    const [version, at, expiry]: [number, number, number | null] = [typed.version, typed.updatedAt, typed.expiresAt];
    // @ts-expect-error what was read is not changed
    typed.version = version + at + Number(expiry) + turns.length;
  }
  const many: (Context | null)[] = await store.getMany(['x', 'y'] as const);
  // @ts-expect-error a list of ids
  await store.getMany('x');
  // @ts-expect-error an option of writes
  await store.get('x', { ttl: '1h' });
  // @ts-expect-error an id is a string
  await store.get(7);
  const page: ListPage = await store.list({ prefix: 'a', limit: 10, ...(many.length > 0 ? { cursor: '0:0' } : {}) });
  const summaries: readonly ContextSummary[] = page.items;
  // @ts-expect-error the cursor of the last page is null
  await store.list({ cursor: page.cursor });
  const history: readonly HistoryEntry[] = await store.history('x', { limit: 3 });
  const verified: VerifyResult | null = await store.verify('x');
  const stats: StoreStats = await store.stats();
  const raw: Buffer | null = await store.rawBytes('x');
  console.log(summaries, history, verified, stats, raw);
}

export async function writing(store: ContextStore): Promise<void> {
  const written: WriteResult = await store.set('x', { any: ['thing', 1, null] }, { ttl: '1h', ifVersion: 0 });
  await store.set('x', new Date(), { ttl: 'none', signal: new AbortController().signal });
  // @ts-expect-error a misspelt option
  await store.set('x', 1, { tll: '1h' });
  // @ts-expect-error a version is a number
  await store.set('x', 1, { ifVersion: '1' });
  // @ts-expect-error a result is not changed
  written.version = 2;
  const updated: UpdateResult = await store.update<Session>('x', (draft) => {
    draft.turns.push('hi');
    // @ts-expect-error not a member of a session
    draft.turn = 'hi';
  });
  await store.update('x', async (draft) => [draft], { initial: [], attempts: 3 });
  await store.update('x', (draft) => {
    // @ts-expect-error without a type, what is in a context has to be looked at first
    draft.turns.push('hi');
  });
  // @ts-expect-error an option of update
  await store.patch('x', [], { attempts: 3 });
  const operations: Patch = [
    { op: 'add', path: '/turns/-', value: 'hi' },
    { op: 'move', from: '/a', path: '/b' },
  ];
  await store.patch('x', operations, { ifVersion: updated.version });
  // @ts-expect-error `value` is missing
  const half: Patch = [{ op: 'add', path: '/turns/-' }];
  // @ts-expect-error no such operation
  const unknown: Patch = [{ op: 'push', path: '/turns', value: 1 }];
  // @ts-expect-error a value that JSON cannot hold
  const lossy: Patch = [{ op: 'add', path: '/x', value: undefined }];
  const deleted: { version: number } | null = await store.delete('x', { ifVersion: 3 });
  // @ts-expect-error an option of set
  await store.delete('x', { ttl: '1h' });
  const touched: { version: number; expiresAt: number | null } | null = await store.touch('x', 'none', { timeout: 100 });
  // @ts-expect-error touching without saying how long
  await store.touch('x');
  console.log(half, unknown, lossy, deleted, touched);
}

export async function watching(store: ContextStore): Promise<void> {
  for await (const change of store.watch('x', { fromVersion: 3, queue: 10 })) {
    same<typeof change, Change<JsonValue>>(true);
    const [patch, value]: [Patch | null, JsonValue | null] = [change.patch, change.value];
    switch (change.kind) {
      case 'patch':
      case 'full':
      case 'deleted':
      case 'expired':
      case 'reset':
        break;
      default:
        change.kind satisfies never;
    }
    // @ts-expect-error a change is not changed
    change.value = value ?? patch;
  }
  // @ts-expect-error an option of reads
  store.watch('x', { fresh: true });
}

export function listening(store: ContextStore): void {
  const off: () => void = store.on('context:committed', (event) => {
    same<typeof event, StoreEvents['context:committed']>(true);
    const bytes: number = event.bytes;
    // @ts-expect-error an event is not changed
    event.bytes = bytes;
  });
  off();
  store.on('connection:down', ({ connection, reason }) => {
    const known: 'commands' | 'subscriptions' = connection;
    console.log(known, reason);
  });
  // @ts-expect-error no such event
  store.on('committed', () => {});
  // @ts-expect-error not in this event
  store.on('context:expired', ({ checksum }) => checksum);
}

export async function backingUp(store: ContextStore): Promise<void> {
  const lines: AsyncIterable<Buffer> = store.export({
    prefix: 'a',
    progress: ({ contexts, total }) => console.log(contexts / total),
  });
  const { created, damaged }: ImportResult = await store.import(lines, { ifExists: 'newer', skipDamaged: true });
  console.log(created, damaged[0]?.line);
  const summary: ExportSummary = await verifyExport(['text', Buffer.from('bytes')]);
  const point: ExportPoint | null = await store.exportPoint([]);
  if (point !== null) console.log(store.export({ resume: point }), point.length, summary.complete);
  await store.preserve('name', ['a', 'b'], { ttl: '7d', replace: true });
  const { expiresAt }: PreserveResult = await store.preserve('name', { prefix: 'a' });
  const { restored, deleted }: RestoreSnapshotResult = await store.restoreSnapshot('name', { ttl: 'none' });
  const { createdSince } = await store.restoreSnapshot('name', { keepNew: true, dryRun: true, lock: true });
  const list: readonly SnapshotSummary[] = await store.snapshots();
  console.log(expiresAt, restored, deleted, createdSince, list, await store.dropSnapshot('name'));
  // @ts-expect-error not one of the ways
  await store.import([], { ifExists: 'merge' });
  // @ts-expect-error ids or a prefix
  await store.preserve('name', 'a');
}

export function failing(error: unknown): ErrorCode | undefined {
  if (!isContextError(error)) return undefined;
  same<typeof error, ContextError>(true);
  const details: ContextErrorDetails = error.details;
  const [retryable, status, exit]: [boolean, number, number] = [error.retryable, error.httpStatus, error.exitCode];
  // @ts-expect-error no such code
  if (error.code === 'CONFLCT') return undefined;
  // @ts-expect-error no such code
  new ContextError('CONFLCT', 'text');
  // @ts-expect-error the table is not changed
  ERROR_CODES.CONFLICT.httpStatus = 500;
  console.log(details.pointer, details.operation, retryable, status, exit);
  return error.code;
}

/** Loggers of others fit as they are. */
export const loggers: readonly Logger[] = [console];
export const durations: readonly Duration[] = [250, '250ms', '1h'];
// @ts-expect-error a JSON value holds no function
export const value: JsonValue = { f: () => 1 };

export async function locking(store: ContextStore): Promise<void> {
  const length = await store.lock(['x', 'y'] as const, async (lock) => {
    same<typeof lock, Lock>(true);
    await store.set('x', 1, { lock });
    await store.update('x', () => 2, { lock, initial: 0 });
    await store.delete('y', { lock, ifVersion: 1 });
    await store.lock('z', () => {}, { within: lock });
    const [token, left, signal]: [number | undefined, number, AbortSignal] = [
      lock.fencingTokens.get('y'),
      lock.remainingMs,
      lock.signal,
    ];
    // @ts-expect-error it is given, not chosen
    lock.fencingToken = 1;
    return `${token} ${left} ${signal.aborted}`;
  });
  same<typeof length, string>(true);
  same<Awaited<ReturnType<typeof store.tryLock>>, Lock | null>(true);
  await using _held = await store.tryLock('x', { mode: 'read', ttl: '5s' });
  // @ts-expect-error who tries does not wait
  await store.tryLock('x', { wait: 5 });
  // @ts-expect-error one of two
  await store.lock('x', () => {}, { mode: 'both' });
  // @ts-expect-error a read is not fenced
  await store.get('x', { lock: await store.tryLock('x') });
  const infos: readonly LockInfo[] = await store.locks({ ids: ['x'] });
  const [holder] = await store.breakLock('x');
  same<typeof holder, LockInfo['holders'][number] | undefined>(true);
  void infos;
}
