/**
 * Is there an order of the transactions of a history in which each, run alone, would have read and written the same versions? Every version of a
 * context has one writer, and versions are a total order, so what depends on what follows: an order exists exactly where that
 * graph has no cycle. Adya, "Weak Consistency: A Generalized Theory and Optimistic Implementations for Distributed Transactions" (1999);
 * names of anomalies and the search as Kingsbury & Alvaro, "Elle: Inferring Isolation Anomalies from Experimental Observations" (2020).
 */
import { components, type Graph, shortestCycle, shortestPath } from './cycles.js';

/** A context at one version; 0: it never was there. */
export interface VersionOf {
  readonly id: string;
  readonly version: number;
}

export interface Transaction {
  /** Another one for every transaction. */
  readonly id: string;
  /** `writer`: the id of the transaction that made this version, where what was read tells it. */
  readonly reads: readonly (VersionOf & { readonly writer?: string })[];
  /** The versions that it made; of one that has aborted, or whose outcome is unknown, none need be named. */
  readonly writes: readonly VersionOf[];
  /** One whose outcome is unknown counts as committed once somebody has read a version of its making. */
  readonly status: 'committed' | 'aborted' | 'unknown';
  /** On a clock that all share, any unit. */
  readonly start: number;
  readonly end: number;
}

export interface SerializabilityOptions {
  /** One that has ended comes before one that begins later: strict serializability. @defaultValue false */
  readonly realTime?: boolean;
}

/**
 * `ww`: overwrote what the other wrote · `wr`: read what the other wrote · `rw`: read what the other overwrote · `rt`: had ended when the other
 * began.
 */
export type EdgeKind = 'ww' | 'wr' | 'rw' | 'rt';

export interface Edge {
  readonly kind: EdgeKind;
  readonly from: string;
  readonly to: string;
  /** The version that `from` wrote or read; that `to` wrote over it. */
  readonly version?: VersionOf;
  readonly next?: VersionOf;
}

/**
 * G0: a cycle of writes · G1a: read what was never committed · G1c: a cycle of writes and reads of them · G-single: a cycle with one
 * read of what was overwritten (lost update, read skew) · G2: with several (write skew). With `-realtime`: the cycle needs an order in time.
 */
export type AnomalyKind = 'G0' | 'G1c' | 'G-single' | 'G2';
export interface Anomaly {
  readonly kind: AnomalyKind | `${AnomalyKind}-realtime` | 'G1a' | 'two writers' | 'no writer';
  readonly cycle: readonly Edge[];
  /** For people. */
  readonly explanation: string;
}

/** The worst anomaly of a history, or null: it is serializable. */
export function findAnomaly(transactions: readonly Transaction[], options: SerializabilityOptions = {}): Anomaly | null {
  const history = new History(transactions);
  return history.wrong ?? findCycle(history, options.realTime ?? false);
}

/** Throws with the cycle where a history is not serializable. */
export function expectSerializable(transactions: readonly Transaction[], options: SerializabilityOptions = {}): void {
  const anomaly = findAnomaly(transactions, options);
  if (anomaly !== null) throw new Error(anomaly.explanation);
}

/** What one transaction read of all accounts. */
export interface BankRead {
  readonly transaction: string;
  readonly balances: Readonly<Record<string, number>>;
}

/** A sentence for each read that does not see all accounts, or another sum than there is. */
export function bankInvariant(
  reads: readonly BankRead[],
  expected: { readonly accounts: number; readonly total: number },
): string[] {
  return reads.flatMap(({ transaction, balances }) => {
    const amounts = Object.values(balances);
    const total = amounts.reduce((sum, amount) => sum + amount, 0);
    if (amounts.length === expected.accounts && total === expected.total) return [];
    return [`${transaction} read ${amounts.length} of ${expected.accounts} accounts with ${total} of ${expected.total}`];
  });
}

const wrong = (kind: Anomaly['kind'], what: string): Anomaly => ({ kind, cycle: [], explanation: `${kind}: ${what}` });
const nameOf = ({ id, version }: VersionOf): string => `${id} ${version}`;

/** The committed transactions of a history, the writer of each version, and the order of versions. */
class History {
  readonly committed: readonly Transaction[];
  /** What no order can explain, without any cycle. */
  readonly wrong: Anomaly | null;
  readonly #byId: ReadonlyMap<string, Transaction>;
  readonly #writers = new Map<string, string>();
  /** Versions of each context that have a known writer, in order. */
  readonly #versions = new Map<string, number[]>();

  constructor(transactions: readonly Transaction[]) {
    this.#byId = new Map(transactions.map((one) => [one.id, one]));
    if (this.#byId.size < transactions.length) throw new Error('two transactions have the same id');
    const read = transactions.filter(({ status }) => status === 'committed').flatMap(({ reads }) => reads);
    const seen = new Set(read.map(({ writer }) => writer));
    this.committed = transactions.filter(({ status, id }) => status === 'committed' || (status === 'unknown' && seen.has(id)));
    const versions = new Map<string, Set<number>>();
    let problem: Anomaly | null = null;
    const wrote = (writer: string, made: VersionOf): void => {
      const name = nameOf(made);
      const other = this.#writers.get(name);
      if (other !== undefined && other !== writer) problem ??= wrong('two writers', `${other} and ${writer} both wrote ${name}`);
      this.#writers.set(name, writer);
      const own = versions.get(made.id) ?? new Set();
      versions.set(made.id, own.add(made.version));
    };
    for (const { id, writes } of this.committed) for (const made of writes) wrote(id, made);
    for (const one of read) {
      const { status } = this.#byId.get(one.writer ?? '') ?? {};
      // what it made is known by who read it
      if (one.writer !== undefined && status !== undefined && status !== 'aborted') wrote(one.writer, one);
    }
    for (const [id, own] of versions)
      this.#versions.set(
        id,
        [...own].sort((a, b) => a - b),
      );
    this.wrong = problem ?? this.#unwritten(transactions.some(({ status }) => status === 'unknown'));
  }

  /** Everything that follows from what was read and written. */
  *edges(): Generator<Edge> {
    for (const { id: from, reads, writes } of this.committed) {
      for (const version of writes) {
        const { writer: to, next } = this.#after(version) ?? {};
        if (to !== undefined && to !== from && next !== undefined) yield { kind: 'ww', from, to, version, next };
      }
      for (const version of reads) {
        const writer = this.#writers.get(nameOf(version));
        if (writer !== undefined && writer !== from) yield { kind: 'wr', from: writer, to: from, version };
        const { writer: to, next } = this.#after(version) ?? {};
        if (to !== undefined && to !== from && next !== undefined) yield { kind: 'rw', from, to, version, next };
      }
    }
  }

  /** Who had ended when another began; what follows from others of these is left out. */
  *inTime(): Generator<Edge> {
    const events = this.committed.flatMap((one) => [
      { at: one.start, begins: true, one },
      { at: one.status === 'unknown' ? Number.POSITIVE_INFINITY : one.end, begins: false, one },
    ]);
    // at the same time they overlap
    events.sort((a, b) => a.at - b.at || Number(b.begins) - Number(a.begins));
    let ended: Transaction[] = [];
    const before = new Map<Transaction, readonly Transaction[]>();
    for (const { begins, one } of events) {
      if (begins) {
        before.set(one, ended);
        for (const { id } of ended) yield { kind: 'rt', from: id, to: one.id };
      } else {
        const implied = new Set(before.get(one));
        ended = [...ended.filter((other) => !implied.has(other)), one];
      }
    }
  }

  /** The first version after this one that has a known writer. What lies between changes nothing: that writer comes later still. */
  #after({ id, version }: VersionOf): { readonly writer: string; readonly next: VersionOf } | undefined {
    const versions = this.#versions.get(id) ?? [];
    let [low, high] = [0, versions.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((versions[middle] ?? 0) <= version) low = middle + 1;
      else high = middle;
    }
    const found = versions[low];
    const next = found === undefined ? undefined : { id, version: found };
    const writer = next === undefined ? undefined : this.#writers.get(nameOf(next));
    return next === undefined || writer === undefined ? undefined : { writer, next };
  }

  /** A read of what was never committed. Without its writer's name, one of unknown outcome may have written it. */
  #unwritten(unknown: boolean): Anomaly | null {
    for (const { id: reader, status, reads } of this.committed) {
      if (status !== 'committed') continue;
      for (const seen of reads) {
        const writer = seen.writer === undefined ? undefined : this.#byId.get(seen.writer);
        if (writer?.status === 'aborted')
          return wrong('G1a', `${reader} read ${nameOf(seen)} of ${writer.id}, which has aborted`);
        if (seen.version === 0 || this.#writers.has(nameOf(seen)) || (seen.writer === undefined && unknown)) continue;
        return wrong('no writer', `${reader} read ${nameOf(seen)}, which nobody wrote`);
      }
    }
    return null;
  }
}

function inWords({ kind, from, to, version, next }: Edge): string {
  const [first, second] = [version, next].map((one) => (one === undefined ? '' : nameOf(one)));
  switch (kind) {
    case 'ww':
      return `${from} wrote ${first}, and ${to} after it ${second}`;
    case 'wr':
      return `${from} wrote ${first}, which ${to} read`;
    case 'rw':
      return `${from} read ${first}, before ${to} wrote ${second}`;
    case 'rt':
      return `${from} had ended when ${to} began`;
  }
}

function findCycle(history: History, realTime: boolean): Anomaly | null {
  const network = new Network(history, realTime);
  if (!network.cyclic) return null;
  for (const inTime of realTime ? [false, true] : [false]) {
    const suffix = inTime ? '-realtime' : '';
    const rest: readonly EdgeKind[] = inTime ? ['rt'] : [];
    const found =
      network.cycle(`G0${suffix}`, ['ww', ...rest]) ??
      network.cycle(`G1c${suffix}`, ['ww', 'wr', ...rest]) ??
      network.single(`G-single${suffix}`, ['ww', 'wr', ...rest]) ??
      network.cycle(`G2${suffix}`, ['ww', 'wr', 'rw', ...rest]);
    if (found !== null) return found;
  }
  return null;
}

/** The edges of a history between numbered nodes. */
class Network {
  readonly #ids: readonly string[];
  readonly #edges: readonly Edge[];
  readonly #numbers: ReadonlyMap<string, number>;
  readonly #components: readonly (readonly number[])[];

  constructor(history: History, realTime: boolean) {
    this.#ids = history.committed.map(({ id }) => id);
    this.#numbers = new Map(this.#ids.map((id, number) => [id, number]));
    this.#edges = [...history.edges(), ...(realTime ? history.inTime() : [])];
    this.#components = components(this.#graph(['ww', 'wr', 'rw', 'rt']));
  }

  /** Whether there is any cycle at all. */
  get cyclic(): boolean {
    return this.#components.length > 0;
  }

  /** A cycle of these edges. */
  cycle(kind: Anomaly['kind'], kinds: readonly EdgeKind[]): Anomaly | null {
    const nodes = shortestCycle(this.#graph(kinds));
    return nodes === undefined ? null : this.#anomaly(kind, this.#along(nodes, kinds));
  }

  /** A cycle of these edges and one of `rw`. */
  single(kind: Anomaly['kind'], kinds: readonly EdgeKind[]): Anomaly | null {
    const graph = this.#graph(kinds);
    const memberOf = new Map(this.#components.flatMap((component) => component.map((node) => [node, component] as const)));
    let shortest: { readonly edge: Edge; readonly back: number[] } | undefined;
    for (const edge of this.#edges) {
      const [from, to] = [this.#number(edge.from), this.#number(edge.to)];
      if (edge.kind !== 'rw' || memberOf.get(from) === undefined || memberOf.get(from) !== memberOf.get(to)) continue;
      const back = shortestPath(graph, to, from);
      if (back !== undefined && (shortest === undefined || back.length < shortest.back.length)) shortest = { edge, back };
    }
    return shortest === undefined ? null : this.#anomaly(kind, [shortest.edge, ...this.#along(shortest.back, kinds)]);
  }

  #graph(kinds: readonly EdgeKind[]): Graph {
    const graph = this.#ids.map((): number[] => []);
    for (const { kind, from, to } of this.#edges) if (kinds.includes(kind)) graph[this.#number(from)]?.push(this.#number(to));
    return graph;
  }

  #along(nodes: readonly number[], kinds: readonly EdgeKind[]): Edge[] {
    return nodes.slice(1).map((to, at) => {
      const from = nodes[at];
      // the first kind that does, in the order of `kinds`: an order in time only where nothing else leads there
      const edges = this.#edges.filter((edge) => this.#number(edge.from) === from && this.#number(edge.to) === to);
      const edge = kinds.map((kind) => edges.find((one) => one.kind === kind)).find((one) => one !== undefined);
      if (edge === undefined) throw new Error('a path goes along edges');
      return edge;
    });
  }

  #anomaly(kind: Anomaly['kind'], cycle: readonly Edge[]): Anomaly {
    const lines = cycle.map((edge) => `  ${edge.kind}  ${inWords(edge)}`);
    return {
      kind,
      cycle,
      explanation: [`${kind}: no order of these transactions is one in which each ran alone:`, ...lines].join('\n'),
    };
  }

  #number(id: string): number {
    return this.#numbers.get(id) ?? -1;
  }
}
