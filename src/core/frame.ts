/**
 * Frames as Redis publishes them: a header line (`frameHeader.ts`), then the payload; a large one comes in the channel's next messages,
 * because Redis need not join them to the header. The reader puts both together again and undoes the compression; what the payload
 * does to a document is decided elsewhere, by base version, base checksum and the checksum of the result.
 */
import { decompress } from './compression.js';
import {
  badFrame,
  beginsFrame,
  type FrameFacts,
  type FrameHeader,
  type FrameKind,
  frameHeader2,
  hasPayload,
  MAX_FRAME_BYTES,
  MAX_PARTS,
  readHeader,
} from './frameHeader.js';

export { type FrameFacts, type FrameHeader, type FrameKind, frameHeader2, MAX_FRAME_BYTES, MAX_PARTS };

export interface Frame extends FrameFacts {
  /**
   * A splice in its binary form, a JSON Patch or a whole document, not compressed any more; bytes, because checksums are over bytes. Empty
   * for the other kinds.
   */
  readonly payload: Buffer;
  /** That of its header, where it had one. */
  readonly protocol?: FrameHeader['protocol'];
}

/** A frame, and how it travelled. */
export interface ReceivedFrame extends Frame, FrameHeader {
  readonly protocol: FrameHeader['protocol'];
}

interface Announced {
  readonly header: FrameHeader;
  readonly parts: Buffer[];
  bytes: number;
}

/** Makes frames of a channel's messages, in their order. */
export class FrameReader {
  #announced: Announced | null = null;

  /**
   * The frame that is complete with this message, or null where more of its payload is still to come.
   *
   * @throws ContextError `BAD_FRAME` where it is neither a frame nor a part of one that was announced, where the header does not have its
   * check, and where the payload cannot be decompressed within the limits; the payload is not looked into beyond that.
   */
  read(message: Buffer): ReceivedFrame | null {
    const announced = this.#announced;
    this.#announced = null;
    // a header in a part's place: parts were lost, and the version after them will show that
    if (announced !== null && !beginsFrame(message)) return this.#collect(announced, message);
    const { header, rest } = readHeader(message);
    if (header.parts === 0) return complete(header, rest);
    if (rest.length > 0 && header.protocol === 2)
      throw badFrame('its payload was announced as parts, yet follows the header too');
    this.#announced = { header, parts: [], bytes: 0 };
    return null;
  }

  #collect(announced: Announced, message: Buffer): ReceivedFrame | null {
    const { header, parts } = announced;
    announced.bytes += message.length;
    if (announced.bytes > MAX_FRAME_BYTES) throw badFrame(`its parts are longer than ${MAX_FRAME_BYTES} bytes`);
    parts.push(message);
    if (parts.length === header.parts) return complete(header, parts.length === 1 ? message : Buffer.concat(parts));
    this.#announced = announced;
    return null;
  }
}

function complete(header: FrameHeader, bytes: Buffer): ReceivedFrame {
  if (header.protocol === 1) return { ...header, payload: bytes };
  if (!hasPayload(header.kind)) {
    if (bytes.length > 0) throw badFrame(`a frame of kind "${header.kind}" has no payload, yet ${bytes.length} bytes follow`);
    return { ...header, payload: bytes };
  }
  // of a whole document the header says how long it is: one that grows beyond it is not even unpacked
  const most = header.kind === 'full' ? header.length : MAX_FRAME_BYTES;
  const payload = decompress(header.encoding, bytes, most);
  if (header.kind === 'full' && payload.length !== most) throw badFrame(`its document has ${payload.length} bytes, not ${most}`);
  return { ...header, payload };
}
