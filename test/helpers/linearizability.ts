/**
 * Is there an order of the operations of a history, each at one moment between its start and its end, in which a sequential object would
 * have given the same answers? Depth-first search with backtracking: Wing & Gong, "Testing and Verifying Concurrent Objects" (1993), on a
 * list that operations are lifted out of and put back into; sets of operations and states that were seen are not searched again: Lowe,
 * "Testing for linearizability" (2017); each key is searched by itself: Horn & Kroening, "Faster linearizability checking via
 * P-compositionality" (2015). An operation is placed only before a return that it may be needed for, and one without an answer never has to be placed.
 */
import { inspect } from 'node:util';
import type { Operation } from './history.js';

/** A sequential object. */
export interface Model<S, I, O> {
  readonly initial: S;
  /**
   * The state after the operation, or undefined where it would not have answered `output` in `state`. An `output` of undefined is any
   * answer, a refusal too.
   */
  step(state: S, input: I, output: O | undefined): S | undefined;
  /** The same for the same states, and only for those. */
  key(state: S): string | number;
  /** The same object for the history of one key: it may refuse at once what that history shows to lead nowhere. */
  forHistory?(operations: readonly Operation<I, O>[]): Model<S, I, O>;
}

export interface CheckOptions {
  /** Steps of a key's search before it gives up, which is an error. @defaultValue 5,000,000 */
  readonly maxSteps?: number;
}

/** The first key that has no order, and what is known of why. */
export interface Violation<I, O> {
  readonly key: string;
  /** Whatever the order of what began before its end, this answer does not fit. */
  readonly operation: Operation<I, O>;
  /** For people: the operation, the end of the longest order without it, and what else was open. */
  readonly explanation: string;
}

/** Looks at the histories of all keys. Null: each of them is linearizable. */
export function findViolation<S, I, O>(
  model: Model<S, I, O>,
  operations: readonly Operation<I, O>[],
  options: CheckOptions = {},
): Violation<I, O> | null {
  const keys = new Map<string, Operation<I, O>[]>();
  for (const operation of operations) {
    const own = keys.get(operation.key);
    if (own === undefined) keys.set(operation.key, [operation]);
    else own.push(operation);
  }
  for (const [key, own] of keys) {
    const violation = new Search(model.forHistory?.(own) ?? model, own, options.maxSteps ?? 5_000_000).run();
    if (violation !== null) return { key, ...violation };
  }
  return null;
}

/** Throws with the explanation where a history is not linearizable. */
export function expectLinearizable<S, I, O>(
  model: Model<S, I, O>,
  operations: readonly Operation<I, O>[],
  options: CheckOptions = {},
): void {
  const violation = findViolation(model, operations, options);
  if (violation !== null) throw new Error(violation.explanation);
}

/** A call or a return in the list. */
interface Entry<I, O> {
  readonly operation: Operation<I, O>;
  /** Of the operation. */
  readonly index: number;
  /** Of the call: its return, where there is one. Of a return: undefined. */
  readonly match: Entry<I, O> | undefined;
  readonly returns: boolean;
  /** In the history, counted from 0. */
  position: number;
  previous: Entry<I, O> | undefined;
  next: Entry<I, O> | undefined;
}

/** An operation that is in the order, and the state before it. */
interface Placed<S, I, O> {
  readonly entry: Entry<I, O>;
  readonly before: S;
}

class Search<S, I, O> {
  readonly #model: Model<S, I, O>;
  readonly #operations: readonly Operation<I, O>[];
  readonly #maxSteps: number;
  readonly #head: Entry<I, O>;
  readonly #order: Placed<S, I, O>[] = [];
  readonly #placed: Uint32Array;
  readonly #states = new Map<string | number, number>();
  /** Sets of placed operations that were reached with a state, by the hash of the set and the number of the state. */
  readonly #seen = new Map<number, Uint32Array[]>();
  #hash = 0;
  /** The return furthest in the history that no order reached so far, with the longest order before it. */
  #furthest: { readonly blocked: Entry<I, O>; readonly order: readonly Placed<S, I, O>[]; readonly state: S } | undefined;

  constructor(model: Model<S, I, O>, operations: readonly Operation<I, O>[], maxSteps: number) {
    this.#model = model;
    this.#operations = operations;
    this.#maxSteps = maxSteps;
    this.#placed = new Uint32Array(Math.ceil(operations.length / 32));
    this.#head = listOf(operations);
  }

  run(): Omit<Violation<I, O>, 'key'> | null {
    let missing = this.#operations.filter(({ output }) => output !== undefined).length;
    let state = this.#model.initial;
    let entry = this.#head.next;
    for (let steps = 0; missing > 0; steps += 1) {
      if (steps > this.#maxSteps) throw new Error(`no verdict on ${this.#operations[0]?.key} after ${this.#maxSteps} steps`);
      // while an answer is missing, its return is in the list, and nothing walks past a return
      if (entry === undefined) throw new Error('the list has lost a return');
      if (entry.returns) {
        this.#keepFurthest(entry, state);
        const last = this.#order.pop();
        if (last === undefined) return this.#violation();
        state = last.before;
        this.#toggle(last.entry.index);
        unlift(last.entry);
        if (last.entry.match !== undefined) missing += 1;
        entry = last.entry.next;
      } else {
        const next = this.#model.step(state, entry.operation.input, entry.operation.output);
        // without an answer it need not be placed, and where it changes nothing it helps nothing
        const idle = next !== undefined && entry.match === undefined && this.#model.key(next) === this.#model.key(state);
        if (next !== undefined && !idle && this.#enter(entry.index, next)) {
          this.#order.push({ entry, before: state });
          state = next;
          lift(entry);
          if (entry.match !== undefined) missing -= 1;
          entry = this.#head.next;
        } else entry = entry.next;
      }
    }
    return null;
  }

  /** Takes an operation into the set of the placed ones, unless that set was reached with this state before. */
  #enter(index: number, state: S): boolean {
    this.#toggle(index);
    const name = this.#model.key(state);
    let number = this.#states.get(name);
    if (number === undefined) {
      number = this.#states.size;
      this.#states.set(name, number);
    }
    const place = this.#hash + number * 2 ** 32;
    const sets = this.#seen.get(place);
    if (sets?.some((set) => set.every((word, at) => word === this.#placed[at]))) {
      this.#toggle(index);
      return false;
    }
    if (sets === undefined) this.#seen.set(place, [this.#placed.slice()]);
    else sets.push(this.#placed.slice());
    return true;
  }

  #toggle(index: number): void {
    const word = index >>> 5;
    this.#placed[word] = (this.#placed[word] ?? 0) ^ (1 << (index & 31));
    this.#hash = (this.#hash ^ scatter(index)) >>> 0;
  }

  #keepFurthest(blocked: Entry<I, O>, state: S): void {
    const { blocked: before, order } = this.#furthest ?? {};
    const further = blocked.position - (before?.position ?? -1);
    if (further < 0 || (further === 0 && this.#order.length <= (order?.length ?? 0))) return;
    this.#furthest = { blocked, order: [...this.#order], state };
  }

  #violation(): Omit<Violation<I, O>, 'key'> {
    if (this.#furthest === undefined) throw new Error('a search that ends without an order was blocked by a return');
    const { blocked, order, state } = this.#furthest;
    const { operation } = blocked;
    const placed = new Set(order.map(({ entry }) => entry.operation));
    const open = this.#operations.filter(
      (other) =>
        other !== operation &&
        other.start <= operation.end &&
        (other.output === undefined ? !placed.has(other) : other.end >= operation.start),
    );
    const states = [...order.slice(1).map(({ before }) => before), state];
    const end = order.map(({ entry }, at) => `${line(entry.operation)}  =>  ${short(states[at])}`).slice(-8);
    const explanation = [
      `The history of ${operation.key} (${this.#operations.length} operations) is not linearizable. Nothing explains this answer:`,
      `  ${line(operation)}`,
      `The longest order without it has ${order.length} operations, and ends with`,
      ...end.map((text) => `  ${text}`),
      `At the same time, or open since before (${open.length}):`,
      ...open.slice(-12).map((other) => `  ${line(other)}${placed.has(other) ? '' : '  (not in that order)'}`),
    ].join('\n');
    return { operation, explanation };
  }
}

/** Calls and returns in the order of time; at the same time calls come first, so that those operations overlap. Gives what stands before the first. */
function listOf<I, O>(operations: readonly Operation<I, O>[]): Entry<I, O> {
  const entries: (Entry<I, O> & { readonly at: number })[] = [];
  operations.forEach((operation, index) => {
    const common = { operation, index, position: 0, previous: undefined, next: undefined };
    const match = operation.output === undefined ? undefined : { ...common, match: undefined, returns: true, at: operation.end };
    entries.push({ ...common, match, returns: false, at: operation.start });
    if (match !== undefined) entries.push(match);
  });
  entries.sort((a, b) => a.at - b.at || Number(a.returns) - Number(b.returns));
  const head = {
    match: undefined,
    index: -1,
    returns: false,
    position: -1,
    previous: undefined,
    next: undefined,
  } as unknown as Entry<I, O>;
  let last = head;
  entries.forEach((entry, position) => {
    entry.position = position;
    entry.previous = last;
    last.next = entry;
    last = entry;
  });
  return head;
}

/** Takes a call and its return out of the list; each keeps its neighbours, for `unlift`. */
function lift<I, O>(call: Entry<I, O>): void {
  for (const entry of [call, call.match]) {
    if (entry === undefined) continue;
    if (entry.previous !== undefined) entry.previous.next = entry.next;
    if (entry.next !== undefined) entry.next.previous = entry.previous;
  }
}

/** Undoes the last `lift` that was not undone. */
function unlift<I, O>(call: Entry<I, O>): void {
  for (const entry of [call.match, call]) {
    if (entry === undefined) continue;
    if (entry.previous !== undefined) entry.previous.next = entry;
    if (entry.next !== undefined) entry.next.previous = entry;
  }
}

/** 32 bits for a number, so that the hash of a set is their XOR (Zobrist); the finalizer of MurmurHash3. */
function scatter(index: number): number {
  let h = Math.imul(index + 1, 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

function line<I, O>({ process, input, output, start, end }: Operation<I, O>): string {
  const until = end === Number.POSITIVE_INFINITY ? '' : end;
  return `${process}: ${short(input)} -> ${output === undefined ? '(unknown)' : short(output)}  [${start} to ${until}]`;
}

function short(value: unknown): string {
  const text = inspect(value, { breakLength: Number.POSITIVE_INFINITY, depth: 5 });
  return text.length <= 160 ? text : `${text.slice(0, 60)}…${text.slice(-90)}`;
}
