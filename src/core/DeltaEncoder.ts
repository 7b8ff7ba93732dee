/** The public face of delta encoding, for who has two documents as bytes and nothing else. */
import { findSplice } from './blockMatch.js';
import { writeSplice } from './spliceFormat.js';

/**
 * Makes deltas: what turns the bytes of one document, the base, into those of another, the target. It keeps no state; one is enough
 * for a process. {@link DeltaDecoder} undoes it.
 *
 * A delta consists of pieces: ranges copied from the base, and inserted bytes. The idea of copies and additions and the varints are
 * those of VCDIFF (RFC 3284) and its implementation xdelta3, that copies are addressed by the distance to the one before is from bsdiff
 * (C. Percival, "Naive differences of executable code", 2003), and what moved is found by a rolling hash (R. M. Karp, M. O. Rabin,
 * "Efficient randomized pattern-matching algorithms", 1987). The form itself is described in docs/DELTA_PROTOCOL.md: it is none of theirs.
 */
export class DeltaEncoder {
  /**
   * The delta that makes `target` of `base`. Its bytes depend on nothing but the two.
   *
   * Takes time in proportion to the lengths of both, whatever they hold; for a few edits hardly more than comparing them. It carries no
   * checksum: whether a base is the right one, beyond its length, is for the caller to know.
   *
   * @param base - bytes of any kind; they are not changed, and need not be kept
   * @param target - bytes of any kind; above 16 MiB (16,777,216 bytes) of target no decoder takes the delta
   * @returns the delta, at most 32 bytes longer than `target`
   */
  encode(base: Buffer, target: Buffer): Buffer {
    return writeSplice(findSplice(base, target)).bytes;
  }
}
