import { type Direction, TcpProxy } from './TcpProxy.js';

/** A way to a server on which exactly one bit is damaged when that is asked for, counted from then on. */
export class DamagedPath {
  readonly proxy: TcpProxy;
  readonly #named = new Map<number, string>();
  #armed: { readonly suffix: string; readonly direction: Direction; byte: number; readonly bit: number } | null = null;
  #passed = { up: 0, down: 0 };

  private constructor(proxy: TcpProxy) {
    this.proxy = proxy;
    proxy.flip((chunk, index, direction) => {
      // a connection says its name before anything else
      const name = direction === 'up' ? /setname\r\n\$\d+\r\n(\S+)\r\n/.exec(chunk.toString('latin1'))?.[1] : undefined;
      if (name !== undefined) this.#named.set(index, name);
      const armed = this.#armed;
      if (armed === null || this.#named.get(index)?.endsWith(armed.suffix) !== true) return false;
      this.#passed[direction] += chunk.length;
      if (armed.direction !== direction) return false;
      const { byte, bit } = armed;
      if (byte >= chunk.length) {
        armed.byte -= chunk.length;
        return false;
      }
      this.#armed = null;
      return { byte, bit };
    }, 'both');
  }

  static async start(port: number): Promise<DamagedPath> {
    return new DamagedPath(await TcpProxy.start(port));
  }

  /** Flips that bit of the `byte`th byte that travels from now on over connections whose name ends so. */
  arm(suffix: string, direction: Direction, byte: number, bit: number): void {
    this.#armed = { suffix, direction, byte, bit };
    this.#passed = { up: 0, down: 0 };
  }

  /** Whether a bit is still to be flipped. */
  get armed(): boolean {
    return this.#armed !== null;
  }

  /** Nothing is damaged any more. */
  disarm(): void {
    this.#armed = null;
  }

  /** Bytes of a direction since `arm` or `measure`, over connections of that name while it was armed. */
  passed(direction: Direction): number {
    return this.#passed[direction];
  }

  /** Counts bytes without damaging any. */
  measure(suffix: string): void {
    this.arm(suffix, 'up', Number.POSITIVE_INFINITY, 0);
  }

  close(): Promise<void> {
    return this.proxy.close();
  }
}
