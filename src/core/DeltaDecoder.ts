/** The public face of delta decoding: it takes what comes from elsewhere, so it trusts nothing in it. */
import { ContextError } from './errors.js';
import { applySplice, readSplice } from './spliceFormat.js';

const MOST_BYTES = 16 * 1024 * 1024;

export interface DeltaDecoderOptions {
  /** Deltas that would make a longer target are refused, bytes: 0 to 16,777,216 (16 MiB), which is the default. */
  readonly maxTargetBytes?: number;
}

/**
 * Applies the deltas of `DeltaEncoder`, which names the sources of their form (RFC 3284, bsdiff, xdelta3, Karp–Rabin); it is described
 * in docs/DELTA_PROTOCOL.md. It keeps no state, and never changes what it is given.
 */
export class DeltaDecoder {
  readonly #maxTargetBytes: number;

  /** @throws ContextError `INVALID_OPTION` where `maxTargetBytes` is no whole number from 0 to 16,777,216 */
  constructor({ maxTargetBytes = MOST_BYTES }: DeltaDecoderOptions = {}) {
    if (!Number.isInteger(maxTargetBytes) || maxTargetBytes < 0 || maxTargetBytes > MOST_BYTES) {
      throw new ContextError(
        'INVALID_OPTION',
        `maxTargetBytes is ${String(maxTargetBytes)}; it is a whole number from 0 to ${MOST_BYTES}`,
      );
    }
    this.#maxTargetBytes = maxTargetBytes;
  }

  /**
   * The target that `delta` makes of `base`. Lengths are checked before memory is taken for them: whatever `delta` claims, no more is
   * taken than in proportion to `delta` itself and, once all of it has been found right, `maxTargetBytes`.
   *
   * That the form is right does not say that the bytes are: a delta that was damaged in its inserted bytes, or a base with other bytes of
   * the same length, give another target of the announced length. Compare a checksum of the target where that can happen.
   *
   * @param base - the bytes that the delta was made for
   * @returns the target, in a buffer of its own
   * @throws ContextError `BAD_FRAME` where `delta` is damaged, has more than 65,536 pieces, or makes more than `maxTargetBytes`;
   * `BASE_MISMATCH` where it is for a base of another length (`details.expected` and `details.found`, bytes)
   */
  decode(base: Buffer, delta: Buffer): Buffer {
    const splice = readSplice(delta);
    if (splice.targetLength > this.#maxTargetBytes) {
      throw new ContextError(
        'BAD_FRAME',
        `a delta was refused: its target would have ${splice.targetLength} bytes, more than ${this.#maxTargetBytes}`,
        {
          expected: this.#maxTargetBytes,
          found: splice.targetLength,
        },
      );
    }
    return applySplice(base, splice);
  }
}
