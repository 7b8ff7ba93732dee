/**
 * Finds where the commands of one connection end in the bytes a client sends (RESP requests: arrays of bulk strings, or inline
 * lines), without keeping the bytes.
 */
export class RespSplitter {
  #offset = 0;
  #line = '';
  /** Bulk strings of the current command that are still to come. */
  #parts = 0;
  /** Bytes of the current bulk string, with its CRLF, that are still to come. */
  #skip = 0;

  /** Bytes seen so far. */
  get offset(): number {
    return this.#offset;
  }

  /** Takes the next chunk and gives the offsets in the stream, one past the last byte, of the commands that end in it. */
  feed(chunk: Buffer): number[] {
    const ends: number[] = [];
    let at = 0;
    while (at < chunk.length) {
      if (this.#skip > 0) {
        const taken = Math.min(this.#skip, chunk.length - at);
        this.#skip -= taken;
        at += taken;
        if (this.#skip === 0) this.#partEnded(ends, at);
        continue;
      }
      const newline = chunk.indexOf(10, at);
      const end = newline < 0 ? chunk.length : newline + 1;
      this.#line += chunk.toString('latin1', at, end);
      at = end;
      if (newline < 0) break;
      const line = this.#line;
      this.#line = '';
      if (this.#parts > 0 && line.startsWith('$')) {
        this.#skip = Number(line.slice(1)) + 2;
      } else if (this.#parts === 0 && line.startsWith('*') && Number(line.slice(1)) > 0) {
        this.#parts = Number(line.slice(1));
      } else {
        this.#parts = 0; // an inline command, or nothing Redis understands
        ends.push(this.#offset + at);
      }
    }
    this.#offset += chunk.length;
    return ends;
  }

  #partEnded(ends: number[], at: number): void {
    this.#parts--;
    if (this.#parts === 0) ends.push(this.#offset + at);
  }
}
