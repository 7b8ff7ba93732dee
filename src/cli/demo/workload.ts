import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CliError } from '../CliError.js';
import { packageRoot } from '../packageRoot.js';
import { newConversation, turnOf } from './conversation.js';
import type { Revision } from './messages.js';
import { seeded } from './random.js';

/** A context of the demo and all that will be written to it, in order. */
export interface DemoContext {
  readonly id: string;
  readonly source: 'sequence' | 'conversation';
  readonly length: number;
  /** Revision number `n`, from 1; it becomes version `n`. */
  revision(n: number): Revision;
  /** Which instance writes it, 0 and up. */
  writer(n: number): number;
}

export interface WorkloadOptions {
  readonly seed: string;
  readonly instances: number;
  /** Folder with one folder a sequence, each with `_manifest.json` and a file a revision. @defaultValue the package's own */
  readonly sequences?: string;
  /** Revisions replayed of each sequence at most. */
  readonly revisions?: number;
  /** How often each sequence is replayed, from its start each time. */
  readonly cycles: number;
  readonly conversations: number;
  /** Turns of each conversation. */
  readonly turns: number;
}

const SEQUENCES = ['mime-db.db', 'spdx-license-ids.index'];

/** The contexts of a demo; what is written to them, and by whom, depends on the options alone. */
export function workload(options: WorkloadOptions): DemoContext[] {
  const folder = options.sequences ?? join(packageRoot(), 'test', 'fixtures', 'sequences');
  const sequences = options.revisions === 0 ? [] : SEQUENCES.map((name) => sequence(name, join(folder, name), options));
  const conversations = options.turns === 0 ? 0 : options.conversations;
  return [...sequences, ...Array.from({ length: conversations }, (_, at) => conversation(`conversation-${at + 1}`, options))];
}

function sequence(id: string, folder: string, options: WorkloadOptions): DemoContext {
  const files = manifest(folder).slice(0, options.revisions);
  return {
    id,
    source: 'sequence',
    length: files.length * options.cycles,
    revision: (n) => ({ kind: 'set', file: join(folder, files[(n - 1) % files.length] ?? '') }),
    writer: writers(id, options),
  };
}

function conversation(id: string, options: WorkloadOptions): DemoContext {
  const seed = `${options.seed}/${id}`;
  return {
    id,
    source: 'conversation',
    length: options.turns,
    revision: (n) => ({ kind: 'update', initial: newConversation(seed), turn: turnOf(seed, n) }),
    writer: writers(id, options),
  };
}

/** Drawn by the revision's number, not by the order in which contexts come to be written: that one depends on time. */
function writers(id: string, { seed, instances }: WorkloadOptions): (n: number) => number {
  return (n) => seeded(`${seed}/${id}/writer/${n}`).below(instances);
}

function manifest(folder: string): string[] {
  const path = join(folder, '_manifest.json');
  try {
    const { revisions } = JSON.parse(readFileSync(path, 'utf8')) as { revisions: { file: string }[] };
    return revisions.map(({ file }) => file);
  } catch (error) {
    throw new CliError('NO_SEQUENCE', `cannot read the revisions to replay: ${(error as Error).message}`, 1, error);
  }
}
