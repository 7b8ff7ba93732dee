/** What is replayed: documents revision by revision, the real ones of test/fixtures/sequences and generated contexts, the same in every run. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { JsonValue } from '../../../src/core/json.js';
import {
  type Conversation,
  EDIT_KINDS,
  type EditKind,
  editConversation,
  makeConversation,
  type Rng,
  seededRng,
} from '../../../test/helpers/random.js';
import { SHAPES, sizeLabel } from './shapes.js';

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
  /**
   * `real`: published revisions. `pattern`: one kind of edit again and again. `bound`: what a delta can hardly make better, and must not make
   * worse.
   */
  readonly kind: 'real' | 'pattern' | 'bound';
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

/** One kind of edit so often that keyframes and checkpoints come again; made when it is asked for, because it is large. */
export const long = (count: number): readonly (() => Sequence)[] =>
  SIZES.map(({ label: size, bytes }, index) => () => {
    const rng = seededRng(5_000 + index);
    const texts: string[] = [];
    for (let doc = makeConversation(index + 1, bytes); texts.length <= count; doc = editConversation(doc, rng, 'field'))
      texts.push(JSON.stringify(doc));
    return { label: LABELS.field, size, kind: 'pattern', texts };
  });

/** One child of a wide container again and again, and changes all over a document. */
export function shapes(count: number): Sequence[] {
  const wide = SHAPES.map(({ label, make, change }) => sequence(label, 'pattern', count, make(), change));
  const scattered = sequence('a number in 100 turns', 'pattern', count, makeConversation(1, 1024 * 1024), (draft, number) => {
    const { turns } = draft as Conversation;
    for (let index = 0; index < 100; index += 1) {
      const turn = turns[Math.floor((index * turns.length) / 100)];
      if (turn !== undefined) turn.metadata.tokens = 5_000 + number;
    }
  });
  return [...wide, scattered];
}

/** What hardly has anything in common with what was before, or where a frame's own bytes weigh most. */
export function bounds(): Sequence[] {
  const unrelated = SIZES.map(
    ({ label: size, bytes }): Sequence => ({
      ...{ label: 'another document', size, kind: 'bound' },
      texts: [1, 2, 3].map((seed) => JSON.stringify(makeConversation(seed, bytes))),
    }),
  );
  const rng = seededRng(77);
  const incompressible = [100, 300, 1_000, 2_000, 10_240, 102_400, 1_048_576].map(
    (bytes): Sequence => ({
      ...{ label: 'random text replaced', size: sizeLabel(bytes), kind: 'bound' },
      texts: [1, 2, 3].map((step) => JSON.stringify({ step, text: noise(rng, bytes) })),
    }),
  );
  const half = [300, 1_000, 2_000, 10_240, 102_400].map((bytes): Sequence => {
    const kept = noise(rng, bytes >> 1);
    const texts = [1, 2, 3].map((step) => JSON.stringify({ kept, step, text: noise(rng, bytes >> 1) }));
    return { label: 'half of it replaced by random text', size: sizeLabel(bytes), kind: 'bound', texts };
  });
  const small = [100, 300, 1_000, 2_000].map((bytes) =>
    sequence('a number in a small document', 'bound', 4, { count: 0, text: 'word '.repeat(bytes / 5 - 4) }, (draft, number) => {
      (draft as { count: number }).count = number;
    }),
  );
  const lists = [false, true].map((texts) => {
    const list = Array.from({ length: 5_000 }, (_, id) => (texts ? `a longer element ${id}` : 3 * id));
    const label = texts ? 'a list of texts sorted and reversed' : 'a list of numbers sorted and reversed';
    return sequence(label, 'bound', 2, { list }, (draft) => {
      (draft as { list: unknown[] }).list.reverse();
    });
  });
  return [...unrelated, ...incompressible, ...half, ...small, ...lists];
}

function sequence(
  label: string,
  kind: Sequence['kind'],
  count: number,
  first: JsonValue,
  change: (draft: unknown, number: number) => void,
): Sequence {
  const texts = [JSON.stringify(first)];
  for (let number = 1; number <= count; number += 1) {
    const draft = JSON.parse(texts.at(-1) ?? '') as unknown;
    change(draft, number);
    texts.push(JSON.stringify(draft));
  }
  return { label, size: sizeLabel(Buffer.byteLength(texts[0] ?? '')), kind, texts };
}

/** Characters that no compressor makes fewer than three quarters of. */
const noise = (rng: Rng, bytes: number): string =>
  Buffer.from(Array.from({ length: Math.ceil((bytes * 3) / 4) }, () => rng.int(0, 255)))
    .toString('base64')
    .slice(0, bytes);

/** The 20-byte change: a string of 20 characters in one turn, another one each time. */
export function smallChange(draft: Conversation, turn: number, number: number): void {
  const changed = draft.turns[turn % draft.turns.length];
  if (changed !== undefined) changed.metadata.parent = `edit-${String(number).padStart(15, '0')}`;
}

function sizeOf(texts: readonly string[]): string {
  const lengths = texts.map((text) => Math.round(Buffer.byteLength(text) / 1024));
  return `${Math.min(...lengths)} to ${Math.max(...lengths)} KB`;
}
