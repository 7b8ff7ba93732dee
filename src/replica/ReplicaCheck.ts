/**
 * Looks at what nothing else looks at: whether the value of a replica still is that of its checksum. Frames are verified when they come, but
 * a value is made of the one before it and of what a splice brings, and stays in memory as long as it is used. One replica at a time, in
 * turns, and never more than a hundredth of one core: a check that took long is followed by a pause that is a hundred times as long.
 */
import { crc32Hex } from '../core/checksum.js';
import type { Replica } from './Replica.js';

/** Documents from this size on are looked at once in {@link LARGE_EVERY_MS} only: serializing 8 MiB takes some 50 ms in which nothing else runs. */
const LARGE_BYTES = 1024 * 1024;
const LARGE_EVERY_MS = 60_000;
/** Pause after a check, in times of what it took. */
const PAUSE = 100;

export class ReplicaCheck {
  readonly counters = { checked: 0 };
  readonly #now: () => number;
  /** Documents whose stored text is another than `JSON.stringify` makes, as some other program wrote it: nothing to compare. */
  readonly #foreign = new WeakMap<Replica, string>();
  #turn = 0;
  #after = 0;
  #largeAfter = 0;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Checks the next that may be; gives what its value's checksum is, and should have been, where that is another. */
  next(replicas: Iterable<Replica>): { readonly replica: Replica; readonly expected: string; readonly found: string } | null {
    const begun = this.#now();
    if (begun < this.#after) return null;
    const replica = this.#choose(replicas, begun);
    if (replica === null) return null;
    this.#turn += 1;
    replica.checkedIn = this.#turn;
    const { value, crc } = replica.state;
    const found = crc32Hex(JSON.stringify(value));
    const ended = this.#now();
    this.#after = ended + PAUSE * (ended - begun);
    if (replica.bytes >= LARGE_BYTES) this.#largeAfter = ended + LARGE_EVERY_MS;
    this.counters.checked += 1;
    return found === crc ? null : { replica, expected: crc, found };
  }

  /** What Redis has does not compare either: this document is left alone. */
  leave(replica: Replica): void {
    this.#foreign.set(replica, replica.state.crc);
  }

  /** The one that was not looked at for longest, of those that may be. */
  #choose(replicas: Iterable<Replica>, now: number): Replica | null {
    const most = now < this.#largeAfter ? LARGE_BYTES : Number.POSITIVE_INFINITY;
    let chosen: Replica | null = null;
    for (const replica of replicas) {
      if (!replica.live || replica.state.value === undefined || replica.bytes >= most) continue;
      if (chosen !== null && replica.checkedIn >= chosen.checkedIn) continue;
      if (this.#foreign.get(replica) !== replica.state.crc) chosen = replica;
    }
    return chosen;
  }
}
