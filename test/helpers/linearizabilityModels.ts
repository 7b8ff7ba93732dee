/** Sequential objects that histories are held against. */
import type { Operation } from './history.js';
import type { Model } from './linearizability.js';

export type RegisterInput =
  | { readonly do: 'read' }
  | { readonly do: 'write'; readonly value: number }
  | { readonly do: 'cas'; readonly from: number; readonly to: number };
/** What was read, `null` where nothing was written; whether a compare-and-set found its value; anything of a write. */
export type RegisterOutput = number | null | boolean;

/** One number that is read, written, and written if it has a value. */
export const registerModel: Model<number | null, RegisterInput, RegisterOutput> = {
  initial: null,
  step(state, input, output) {
    switch (input.do) {
      case 'read':
        return output === undefined || output === state ? state : undefined;
      case 'write':
        return input.value;
      case 'cas': {
        const found = state === input.from;
        return output === undefined || output === found ? (found ? input.to : state) : undefined;
      }
    }
  },
  key: (state) => state ?? 'none',
};

export type TextInput = { readonly do: 'get' } | { readonly do: 'put' | 'append'; readonly value: string };

/** A text that is read, written and added to: one key of a key-value store. Of a write any answer will do. */
export const textModel: Model<string, TextInput, string> = {
  initial: '',
  step(state, input, output) {
    if (input.do === 'get') return output === undefined || output === state ? state : undefined;
    return input.do === 'put' ? input.value : state + input.value;
  },
  key: (state) => state,
};

/** The documents of recorded contexts; `by` is another one for every write, so that a read tells which it saw. */
export type Marked = { n: number; by: string };

export type ContextInput =
  | { readonly do: 'get' }
  /** With `ifVersion` 0 it creates. */
  | { readonly do: 'set'; readonly by: string; readonly ifVersion?: number }
  /** Adds one to `n`, from a document with 0 where there is none. */
  | { readonly do: 'update'; readonly by: string }
  | { readonly do: 'patch'; readonly by: string }
  | { readonly do: 'delete'; readonly ifVersion?: number };

export type ContextOutput =
  /** What is there, or has been written or deleted; `value` where the call tells it. */
  | { readonly version: number; readonly value?: Marked }
  /** There was none. */
  | null
  /** Refused: it had this version, 0 where there was none. */
  | { readonly conflict: number }
  /** Refused: there was none to change. */
  | 'not found';

/** A version that only grows, also over a delete, and a document or none. */
export interface ContextState {
  readonly version: number;
  readonly value: Marked | null;
}

/** A context of the store: each write is the next version, and `ifVersion` holds. */
export const contextModel: Model<ContextState, ContextInput, ContextOutput> = {
  initial: { version: 0, value: null },
  step(state, input, output) {
    const [after, answer] = runContext(state, input);
    return output === undefined || same(answer, output) ? after : undefined;
  },
  key: ({ version, value }) => `${version} ${value === null ? '' : `${value.n} ${value.by}`}`,
  forHistory: (operations) => {
    const seen = new Sightings(operations);
    return { ...contextModel, step: (state, input, output) => step(state, input, output, seen) };
  },
};

const DELETED = 'deleted';

/**
 * Which write made which version, as far as answers tell. Without this every subset of the writes of unknown outcome would be tried in every
 * place; nothing is lost, because each version has one writer.
 */
class Sightings {
  readonly #writers = new Map<number, string>();
  readonly #versions = new Map<string, number>();
  #last = 0;

  constructor(operations: readonly Operation<ContextInput, ContextOutput>[]) {
    for (const { input, output } of operations) {
      if (output === undefined || output === null || output === 'not found') continue;
      const version = 'conflict' in output ? output.conflict : output.version;
      this.#last = Math.max(this.#last, version);
      if ('conflict' in output) continue;
      const writer = input.do === 'get' ? output.value?.by : writerOf(input);
      if (writer === undefined) continue;
      this.#writers.set(version, writer);
      if (writer !== DELETED) this.#versions.set(writer, version);
    }
  }

  /** Whether a write without an answer can have made this version, and somebody can have seen what it did. */
  allow(input: ContextInput, version: number): boolean {
    const writer = writerOf(input);
    // of a version after the last one that was seen, only that the document is gone can be seen
    if (version > this.#last && writer !== DELETED) return false;
    return (this.#writers.get(version) ?? writer) === writer && (this.#versions.get(writer) ?? version) === version;
  }
}

const writerOf = (input: ContextInput): string => ('by' in input ? input.by : DELETED);

function step(
  state: ContextState,
  input: ContextInput,
  output: ContextOutput | undefined,
  seen: Sightings,
): ContextState | undefined {
  const after = contextModel.step(state, input, output);
  const written = output === undefined && after !== undefined && after.version !== state.version;
  return written && !seen.allow(input, after.version) ? undefined : after;
}

/** The state after a call, and what it answers. */
export function runContext(state: ContextState, input: ContextInput): readonly [ContextState, ContextOutput] {
  const { value } = state;
  const version = state.version + 1;
  if ('ifVersion' in input && input.ifVersion !== undefined) {
    const found = value === null ? 0 : state.version;
    if (input.ifVersion !== found) return [state, { conflict: found }];
  }
  switch (input.do) {
    case 'get':
      return [state, value === null ? null : { version: state.version, value }];
    case 'set':
      return [{ version, value: { n: 0, by: input.by } }, { version }];
    case 'update': {
      const next = { n: (value?.n ?? 0) + 1, by: input.by };
      return [
        { version, value: next },
        { version, value: next },
      ];
    }
    case 'patch':
      return value === null ? [state, 'not found'] : [{ version, value: { n: value.n, by: input.by } }, { version }];
    case 'delete':
      return value === null ? [state, null] : [{ version, value: null }, { version }];
  }
}

function same(a: ContextOutput, b: ContextOutput): boolean {
  if (a === null || b === null || typeof a === 'string' || typeof b === 'string') return a === b;
  if ('conflict' in a || 'conflict' in b) return 'conflict' in a && 'conflict' in b && a.conflict === b.conflict;
  return a.version === b.version && a.value?.n === b.value?.n && a.value?.by === b.value?.by;
}
