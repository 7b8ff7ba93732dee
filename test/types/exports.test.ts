import { readFileSync } from 'node:fs';
import { expect } from 'chai';
import * as entry from '../../src/index.js';

/** What users may import. Whoever adds a name here documents it, and whoever takes one away breaks somebody. */
const VALUES = ['ContextError', 'ContextStore', 'DeltaDecoder', 'DeltaEncoder', 'ERROR_CODES', 'isContextError', 'verifyExport'];
const TYPES = [
  'CallOptions', 'Change', 'Context', 'ContextErrorDetails', 'ContextKeyNames', 'ContextSummary', 'DeleteOptions', 'DeltaDecoderOptions',
  'DiagnosisCheck', 'DiagnosisReport', 'Duration', 'ErrorCode', 'ExportOptions', 'ExportPoint', 'ExportProgress', 'ExportSource', 'ExportSummary',
  'HistoryEntry', 'IfExists', 'ImportOptions', 'ImportProgress', 'ImportResult', 'JsonArray', 'JsonObject', 'JsonValue', 'ListOptions', 'ListPage',
  'Lock', 'LockInfo', 'LockMode', 'LockOptions', 'LockParty', 'LocksOptions', 'Logger', 'Patch', 'PatchOperation', 'PreserveOptions', 'PreserveResult',
  'QuarantinedContext', 'ReadOptions', 'RepairResult', 'RestoreSnapshotOptions', 'RestoreSnapshotResult', 'RestoreSource', 'SealOptions', 'SealResult',
  'ShardStats', 'Size', 'SnapshotSummary', 'StoreEventName', 'StoreEvents', 'StoreOptions', 'StoreStats', 'TouchOptions', 'Transaction', 'TransactionOptions',
  'TryLockOptions', 'UpdateOptions', 'UpdateResult', 'VerifyResult', 'WatchOptions', 'WriteOptions', 'WriteResult',
]; // biome-ignore format: two lists of names

const source = (path: string): string => readFileSync(new URL(`../../src/${path}`, import.meta.url), 'utf8');

/** The names in `export { a, type B } from …` and `export type { C } from …`. */
function listed(text: string): { name: string; type: boolean }[] {
  return [...text.matchAll(/export (type )?\{([^}]*)\}/g)].flatMap(([, allTypes, names = '']) =>
    names
      .split(',')
      .map((name) => name.trim())
      .filter((name) => name !== '')
      .map((name) => ({ name: name.replace(/^type /, ''), type: allTypes !== undefined || name.startsWith('type ') })),
  );
}

const declared = (text: string): string[] =>
  [...text.matchAll(/^export (?:interface|type) (\w+)/gm)].map(([, name = '']) => name);

describe('the public entry', () => {
  it('exports these values and no others', () => {
    expect(Object.keys(entry).sort()).to.deep.equal(VALUES);
    const values = listed(source('index.ts')).filter(({ type }) => !type);
    expect(values.map(({ name }) => name).sort()).to.deep.equal(VALUES);
  });

  it('exports these types and no others', () => {
    const index = source('index.ts');
    expect([...index.matchAll(/export (?:type )?\* from '(.*)'/g)].map(([, from]) => from)).to.deep.equal(['./store/types.js']);
    const types = source('store/types.ts');
    const names = [...listed(index).filter(({ type }) => type), ...listed(types).filter(({ type }) => type)].map(
      ({ name }) => name,
    );
    expect([...names, ...declared(types)].sort()).to.deep.equal(TYPES);
  });

  it('has a documented method for every promise, and no other', () => {
    expect(Object.getOwnPropertyNames(entry.ContextStore.prototype).sort()).to.deep.equal([
      'breakLock', 'close', 'constructor', 'delete', 'dropQuarantined', 'dropSnapshot', 'export', 'exportPoint', 'frameSince', 'get', 'getMany', 'has',
      'history', 'import', 'keysOf', 'list', 'lock', 'locks', 'on', 'patch', 'preserve', 'quarantined', 'rawBytes', 'repair', 'restore', 'restoreSnapshot',
      'seal', 'set', 'snapshots', 'stats', 'touch', 'transaction', 'tryLock', 'update', 'upgrade', 'verify', 'watch',
    ]); // biome-ignore format: one list
    const own = Object.getOwnPropertyNames(entry.ContextStore).filter((name) => !['length', 'name', 'prototype'].includes(name));
    expect(own.sort()).to.deep.equal(['connect', 'diagnose']);
  });
});
