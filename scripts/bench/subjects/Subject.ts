/** What shares documents between processes, ours and what it is compared with, behind the few things that the benchmarks do with it. */
import type { Conversation } from '../../../test/helpers/random.js';

export interface Subject {
  get(id: string): Promise<unknown>;
  /** The document in what `get` gave. */
  valueOf(read: unknown): unknown;
  /** Resolves when Redis has it. */
  set(id: string, doc: Conversation): Promise<unknown>;
  /** Reads, makes the small edit with this number, and writes; as the subject's users do it. */
  edit(id: string, number: number): Promise<unknown>;
  /** Has `held` called as soon as this process holds a new value that another process wrote. Resolves once it listens. */
  onChange(id: string, held: (doc: Conversation) => void): Promise<void>;
  /** Until these are read from this process's memory. */
  warm(ids: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

export type OpenSubject = (url: string, namespace: string) => Promise<Subject>;

export const SUBJECTS = ['ours', 'raw', 'bentocache', 'bentocache-no-copy', 'cacheable', 'cacheable-no-copy'] as const;
export type SubjectName = (typeof SUBJECTS)[number];

/** Each is loaded only when it is asked for: the others' packages may not be installed. */
export async function openSubject(name: SubjectName, url: string, namespace: string): Promise<Subject> {
  switch (name) {
    case 'ours':
      return (await import('./ours.js')).openOurs(url, namespace);
    case 'raw':
      return (await import('./raw.js')).openRaw(url, namespace);
    case 'bentocache':
    case 'bentocache-no-copy':
      return (await import('../rivals/bentocache.js')).openBentocache(url, namespace, name === 'bentocache');
    default:
      return (await import('../rivals/cacheable.js')).openCacheable(url, namespace, name === 'cacheable');
  }
}
