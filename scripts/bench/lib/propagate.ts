/**
 * How long a small edit takes from one process to another: from the call in the writer until the reader holds the new document. Each is
 * a process of its own and notes the time by the clock that all processes of a machine share; neither waits for the other.
 */
import { type NodeProcess, spawnNode } from '../../../test/helpers/processes.js';
import type { SubjectName } from '../subjects/Subject.js';
import type { Setting } from './benchmark.js';
import { alternate } from './rounds.js';

export type PropagationRequest =
  | { readonly do: 'open'; readonly subject: SubjectName; readonly url: string; readonly namespace: string }
  | { readonly do: 'listen'; readonly id: string }
  | { readonly do: 'create' | 'prepare'; readonly id: string; readonly bytes: number }
  | { readonly do: 'write'; readonly id: string; readonly from: number; readonly count: number; readonly paceMs: number }
  /** The times at which the reader held `count` versions from `from` on; waits for the last. */
  | { readonly do: 'times'; readonly from: number; readonly count: number }
  | { readonly do: 'close' };

/** Two processes that share one document by one subject. */
class Pair {
  readonly #writer: NodeProcess;
  readonly #reader: NodeProcess;
  readonly #id: string;
  #number = 1_000;

  constructor(writer: NodeProcess, reader: NodeProcess, id: string) {
    this.#writer = writer;
    this.#reader = reader;
    this.#id = id;
  }

  static async open(subject: SubjectName, url: string, bytes: number): Promise<Pair> {
    const child = new URL('../propagationProcess.ts', import.meta.url);
    const [writer, reader] = await Promise.all([spawnNode(child), spawnNode(child)]);
    const pair = new Pair(writer, reader, `shared-${bytes}`);
    const send = (to: NodeProcess, request: PropagationRequest): Promise<unknown> => to.request(request, { limitMs: 60_000 });
    const id = pair.#id;
    const open = { do: 'open', subject, url, namespace: `bench-propagation-${subject}` } as const;
    await send(writer, open);
    await send(reader, open);
    await send(writer, { do: 'create', id, bytes });
    await send(reader, { do: 'listen', id });
    await send(writer, { do: 'prepare', id, bytes });
    return pair;
  }

  /** So many edits one after the other; the time that each took, ms. */
  async run(count: number, paceMs: number): Promise<number[]> {
    const from = this.#number;
    this.#number += count;
    const write: PropagationRequest = { do: 'write', id: this.#id, from, count, paceMs };
    const times: PropagationRequest = { do: 'times', from, count };
    const written = await this.#writer.request<bigint[]>(write, { limitMs: 60_000 });
    const held = await this.#reader.request<bigint[]>(times, { limitMs: 60_000 });
    return held.map((at, index) => Number(at - (written[index] ?? 0n)) / 1e6);
  }

  async close(): Promise<void> {
    for (const child of [this.#writer, this.#reader]) {
      await child.request({ do: 'close' } satisfies PropagationRequest);
      await child.kill();
    }
  }
}

/** Propagation times of several subjects, ms, by round, in alternating rounds. */
export async function propagate<S extends SubjectName>(
  setting: Setting,
  bytes: number,
  subjects: readonly S[],
): Promise<Record<S, number[][]>> {
  const count = setting.quick ? 20 : 100;
  const paceMs = bytes > 50_000 ? 8 : 3;
  const pairs: [S, Pair][] = [];
  try {
    for (const subject of subjects) {
      const pair = await Pair.open(subject, setting.url, bytes);
      pairs.push([subject, pair]);
      // in a process that has run for a while the code is compiled; with pauses between few calls it would not be
      await pair.run(setting.quick ? 300 : bytes > 50_000 ? 500 : 2_000, 0);
    }
    const contenders = Object.fromEntries(pairs.map(([subject, pair]) => [subject, () => pair.run(count, paceMs)]));
    return (await alternate<S, number[]>(setting.rounds, contenders as Record<S, () => Promise<number[]>>)) as Record<
      S,
      number[][]
    >;
  } finally {
    for (const [, pair] of pairs) await pair.close();
  }
}
