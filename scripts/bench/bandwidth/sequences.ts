/** What is replayed: documents revision by revision, the real ones of test/fixtures/sequences and generated contexts, the same in every run. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type Conversation,
  EDIT_KINDS,
  type EditKind,
  editConversation,
  makeConversation,
  seededRng,
} from '../../../test/helpers/random.js';

const FIXTURES = join(import.meta.dirname, '..', '..', '..', 'test', 'fixtures', 'sequences');

export const SIZES = [
  { label: '10 KB', bytes: 10 * 1024 },
  { label: '100 KB', bytes: 100 * 1024 },
  { label: '1 MB', bytes: 1024 * 1024 },
] as const;

export const LABELS: Readonly<Record<EditKind, string>> = {
  append: 'append a turn',
  field: 'change fields',
  head: 'insert at the head',
  delete: 'delete in the middle',
  text: 'edit a long text',
  subtree: 'replace a subtree',
};

export interface Sequence {
  readonly label: string;
  readonly size: string;
  /** `real`: published revisions. `pattern`: one kind of edit again and again. `unrelated`: one document after another, for the bound. */
  readonly kind: 'real' | 'pattern' | 'unrelated';
  /** JSON of each revision; the first is where it starts. */
  readonly texts: readonly string[];
}

/** Pairs of a sequence. */
export const steps = ({ texts }: Sequence): (readonly [base: string, target: string])[] =>
  texts.slice(1).map((target, index) => [texts[index] as string, target]);

/** Bytes of the documents that a sequence sends after the first. */
export const fullBytes = ({ texts }: Sequence): number =>
  texts.slice(1).reduce((bytes, text) => bytes + Buffer.byteLength(text), 0);

export function realSequences(): Sequence[] {
  const folders = readdirSync(FIXTURES, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return folders.map(({ name }) => {
    const files = readdirSync(join(FIXTURES, name)).filter((file) => /^\d+_.*\.json$/.test(file));
    const texts = files.sort().map((file) => readFileSync(join(FIXTURES, name, file), 'utf8'));
    return { label: name, size: sizeOf(texts), kind: 'real', texts };
  });
}

/** Each pattern at each size. */
export function patterns(count: number): Sequence[] {
  return SIZES.flatMap(({ label: size, bytes }, index) =>
    EDIT_KINDS.map((kind, pattern): Sequence => {
      const rng = seededRng(1000 * (index + 1) + pattern);
      const texts: string[] = [];
      let doc = makeConversation(index + 1, bytes);
      for (let step = 0; step <= count; step += 1) {
        if (step > 0) doc = editConversation(doc, rng, kind);
        texts.push(JSON.stringify(doc));
      }
      return { label: LABELS[kind], size, kind: 'pattern', texts };
    }),
  );
}

/** Documents that have hardly anything in common: what a delta must not make worse. */
export function unrelated(): Sequence[] {
  return SIZES.map(({ label: size, bytes }) => ({
    label: 'another document',
    size,
    kind: 'unrelated',
    texts: [1, 2, 3].map((seed) => JSON.stringify(makeConversation(seed, bytes))),
  }));
}

/** The 20-byte change: a string of 20 characters in one turn, another one each time. */
export function smallChange(draft: Conversation, turn: number, number: number): void {
  const changed = draft.turns[turn % draft.turns.length];
  if (changed !== undefined) changed.metadata.parent = `edit-${String(number).padStart(15, '0')}`;
}

function sizeOf(texts: readonly string[]): string {
  const lengths = texts.map((text) => Math.round(Buffer.byteLength(text) / 1024));
  return `${Math.min(...lengths)} to ${Math.max(...lengths)} KB`;
}
