/**
 * As much of the packages in this folder's package.json as the benchmarks use: they are installed only when the benchmarks that need
 * them run, and the type check must pass without them.
 */
declare module 'bentocache' {
  interface Store {
    useL1Layer(driver: unknown): Store;
    useL2Layer(driver: unknown): Store;
    useBus(driver: unknown): Store;
  }
  export function bentostore(): Store;
  export class BentoCache {
    constructor(options: { default: string; stores: Record<string, Store>; ttl?: number | null; prefix?: string });
    get(options: { key: string }): Promise<unknown>;
    set(options: { key: string; value: unknown }): Promise<boolean>;
    on(event: 'bus:message:received', listener: (data: { message: { keys: string[] } }) => void): void;
    disconnectAll(): Promise<void>;
  }
}

declare module 'bentocache/drivers/memory' {
  export function memoryDriver(options: { maxItems?: number; serialize?: boolean }): unknown;
}

declare module 'bentocache/drivers/redis' {
  interface Connection {
    connection: { host: string; port: number; enableAutoPipelining: boolean };
  }
  export function redisDriver(options: Connection): unknown;
  export function redisBusDriver(options: Connection): unknown;
}

declare module 'cacheable' {
  export class Cacheable {
    readonly primary: import('keyv').Keyv;
    constructor(options: {
      primary: import('keyv').Keyv;
      secondary: import('keyv').Keyv;
      namespace?: string;
      sync?: { qified: unknown };
    });
    get(key: string): Promise<unknown>;
    set(key: string, value: unknown): Promise<boolean>;
    on(event: 'error', listener: (error: Error) => void): void;
    disconnect(): Promise<void>;
  }
  /** A Keyv over `CacheableMemory`. */
  export function createKeyv(options: { useClone: boolean; lruSize: number }): import('keyv').Keyv;
}

declare module 'keyv' {
  export class Keyv {
    readonly hooks: { addHandler(event: string, handler: (data: { key: string; value: { value: unknown } }) => void): void };
  }
}

declare module '@keyv/redis' {
  export function createKeyv(url: string): import('keyv').Keyv;
}

declare module '@qified/redis' {
  export class RedisMessageProvider {
    constructor(options: { uri: string });
  }
}
