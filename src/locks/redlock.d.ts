/** What is used of redlock 5.0.0-beta.2, whose own types are not found under `nodenext`: its `exports` do not name them. */
declare module 'redlock' {
  export interface Client {
    evalsha(sha: string, keys: number, args: readonly (string | number)[]): Promise<unknown>;
    eval(source: string, keys: number, args: readonly (string | number)[]): Promise<unknown>;
  }

  export interface ExecutionStats<C extends Client> {
    readonly quorumSize: number;
    readonly votesFor: ReadonlySet<C>;
    readonly votesAgainst: ReadonlyMap<C, Error>;
  }

  export class ExecutionError extends Error {
    readonly attempts: readonly Promise<ExecutionStats<Client>>[];
  }

  export class Lock {
    readonly value: string;
    /** ms by this machine's clock. */
    expiration: number;
  }

  interface Settings {
    readonly driftFactor?: number;
    readonly retryCount?: number;
    readonly retryDelay?: number;
    readonly retryJitter?: number;
  }

  /** A script that is a string is ignored: it must be a function. */
  interface Scripts {
    readonly acquireScript: () => string;
    readonly extendScript: () => string;
    readonly releaseScript: () => string;
  }

  // biome-ignore lint/style/noDefaultExport: that is how it is exported
  export default class Redlock<C extends Client = Client> {
    constructor(clients: Iterable<C>, settings?: Settings, scripts?: Scripts);
    acquire(resources: string[], duration: number): Promise<Lock>;
    extend(lock: Lock, duration: number): Promise<Lock>;
    release(lock: Lock): Promise<unknown>;
  }
}
