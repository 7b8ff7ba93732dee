/** What must be true of a server before a store trusts it; `ContextStore.connect` refuses, `doctor` explains. */
import { ContextError } from '../core/errors.js';
import { accessPattern, namespaceKey, probeKeys } from './keys.js';
import type { Deadline, RedisConnection } from './RedisConnection.js';
import { SCRIPT_NAMES } from './scripts.js';

const MIN_MAJOR = 7;

export interface ServerFacts {
  readonly version: string;
  readonly evictionPolicy: string;
  readonly maxMemoryBytes: number;
  readonly appendOnly: boolean;
  readonly role: string;
  readonly lastSaveOk: boolean;
}

function info(text: string): Map<string, string> {
  return new Map(
    text.split('\r\n').flatMap((line): [string, string][] => {
      const colon = line.indexOf(':');
      return colon < 0 ? [] : [[line.slice(0, colon), line.slice(colon + 1)]];
    }),
  );
}

export async function serverFacts(connection: RedisConnection, deadline: Deadline): Promise<ServerFacts> {
  const facts = info(await connection.attempt(deadline, 'read server information', (client) => client.info()));
  return {
    version: facts.get('redis_version') ?? '0',
    evictionPolicy: facts.get('maxmemory_policy') ?? 'unknown',
    maxMemoryBytes: Number(facts.get('maxmemory') ?? 0),
    appendOnly: facts.get('aof_enabled') === '1',
    role: facts.get('role') ?? 'unknown',
    lastSaveOk: facts.get('rdb_last_bgsave_status') !== 'err' && facts.get('aof_last_write_status') !== 'err',
  };
}

/** @throws ContextError `UNSUPPORTED_SERVER` */
export function checkVersion(facts: ServerFacts): void {
  if (Number.parseInt(facts.version, 10) >= MIN_MAJOR) return;
  throw new ContextError(
    'UNSUPPORTED_SERVER',
    `this server is Redis ${facts.version}; version ${MIN_MAJOR}.0 or newer is needed`,
    {
      expected: `${MIN_MAJOR}.0`,
      found: facts.version,
    },
  );
}

/** @throws ContextError `EVICTION_POLICY` where Redis may throw keys away by itself */
export function checkEvictionPolicy(facts: ServerFacts): void {
  if (facts.evictionPolicy === 'noeviction' || facts.evictionPolicy === 'unknown') return;
  throw new ContextError(
    'EVICTION_POLICY',
    `maxmemory-policy is ${facts.evictionPolicy}: Redis would evict parts of contexts without a word; run CONFIG SET maxmemory-policy noeviction`,
    { expected: 'noeviction', found: facts.evictionPolicy },
  );
}

/** Tries every right that the scripts need before a commit needs it half way. @throws ContextError `NO_PERMISSION` */
export async function checkRights(connection: RedisConnection, namespace: string, deadline: Deadline): Promise<void> {
  const probe = probeKeys(namespace);
  const sentAt = performance.now();
  const reply = await connection.runScript<[string, ...unknown[]]>(deadline, 'probe', probe.keys, [probe.channel, 'PUBLISH']);
  if (reply[0] === 'OK') {
    connection.clock.observe(sentAt, performance.now(), Number(reply[1]));
    // the read-only scripts go by a command of their own
    await connection.runScript(deadline, 'versions', [], []);
    // a script cannot try this one
    await connection.ready(deadline, 'connect for subscriptions', 'subscriptions');
    await connection.attemptOnSubscriber(deadline, 'check the rights', (client) =>
      Promise.all([client.subscribe(probe.channel), client.unsubscribe(probe.channel)]),
    );
    return;
  }
  const pattern = accessPattern(namespace);
  throw new ContextError(
    'NO_PERMISSION',
    `this Redis user may not run ${String(reply[1])} on the namespace's keys or channels (${String(reply[2])}); grant it, with ~${pattern} and &${pattern}`,
    { namespace, found: String(reply[1]) },
  );
}

/** Loads every script, so that the first call of each costs one round trip as well. */
export async function loadScripts(connection: RedisConnection, deadline: Deadline): Promise<void> {
  await Promise.all(SCRIPT_NAMES.map((name) => connection.loadScript(deadline, name)));
}

/** What was fixed when a namespace was created, and the protocol that its instances agreed to write. */
export interface NamespaceFacts {
  readonly shards: number;
  /** 1 where it was made by a version that knows no other, until {@link upgradeNamespace}. Every protocol is read. */
  readonly protocol: 1 | 2;
  /** Whether every context and log entry carries a seal, so that a missing one is damage. */
  readonly sealed: boolean;
}

/** Opens a namespace; it is created where it does not exist. */
export async function openNamespace(
  connection: RedisConnection,
  namespace: string,
  shards: number | undefined,
  deadline: Deadline,
): Promise<NamespaceFacts> {
  const [status, ...reply] = await connection.runScript<[string, string, string, number]>(
    deadline,
    'namespace',
    [namespaceKey(namespace)],
    [shards ?? 1, NEWEST_FORMAT],
  );
  if (status === 'GARBLED')
    throw new ContextError('CONNECTION', 'open the namespace: the request was damaged on its way: check the network path');
  const found = Number(reply[0]);
  const protocol = protocolOf(reply[1]);
  if (!Number.isInteger(found) || found < 1 || protocol === null) {
    const message = `namespace ${namespace} was made by another format (shards ${reply[0]}, format ${reply[1]}); use a version of this package that knows it`;
    throw new ContextError('NAMESPACE_MISMATCH', message, { namespace });
  }
  if (shards !== undefined && shards !== found) {
    throw new ContextError(
      'NAMESPACE_MISMATCH',
      `namespace ${namespace} was created with ${found} shards, not ${shards}; leave the option out or use another namespace`,
      { namespace, expected: shards, found },
    );
  }
  return { shards: found, protocol, sealed: reply[2] === 1 };
}

/** A namespace's format is the newest protocol that may be written in it. */
const NEWEST_FORMAT = 2;

const protocolOf = (format: string | null | undefined): 1 | 2 | null => (format === '1' ? 1 : format === '2' ? 2 : null);

/** Protocol and seals of a namespace that is open already: somebody may have upgraded it. */
export async function namespaceMode(
  connection: RedisConnection,
  namespace: string,
  deadline: Deadline,
): Promise<Pick<NamespaceFacts, 'protocol' | 'sealed'>> {
  const [format, sealed] = await connection.attempt(deadline, 'look at the namespace', (client) =>
    client.hmget(namespaceKey(namespace), 'format', 'sealed'),
  );
  return { protocol: protocolOf(format) ?? 1, sealed: sealed === '1' };
}

/** From now on a missing seal is damage: every context and log entry of the namespace carries one. */
export async function markSealed(connection: RedisConnection, namespace: string, deadline: Deadline): Promise<void> {
  await connection.attempt(deadline, 'mark the namespace', (client) => client.hset(namespaceKey(namespace), 'sealed', 1));
}

/**
 * Lets the instances of a namespace write protocol 2. Older instances cannot read that: it is for when none of them runs any more. They
 * refuse such a namespace when they connect.
 */
export async function upgradeNamespace(
  connection: RedisConnection,
  namespace: string,
  deadline: Deadline,
): Promise<{ readonly from: 1 | 2; readonly to: 2 }> {
  const key = namespaceKey(namespace);
  const format = await connection.attempt(deadline, 'look at the namespace', (client) => client.hget(key, 'format'));
  const from = protocolOf(format);
  if (from === null) {
    throw new ContextError(
      'NAMESPACE_MISMATCH',
      `namespace ${namespace} has format ${format}, which this version does not know; use the version that made it`,
      { namespace, found: format ?? 'none' },
    );
  }
  if (from !== NEWEST_FORMAT)
    await connection.attempt(deadline, 'upgrade the namespace', (client) => client.hset(key, 'format', NEWEST_FORMAT));
  return { from, to: NEWEST_FORMAT };
}
