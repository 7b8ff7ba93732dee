/**
 * A process that takes part in the background work, its clock wrong by as much as its first argument says (ms). The clock is set before
 * anything is loaded that could have kept the right one.
 */
const shift = Number(process.argv[2] ?? 0);
if (shift !== 0) {
  const Right = Date;
  class Wrong extends Right {
    constructor(...given: unknown[]) {
      super(...((given.length === 0 ? [Right.now() + shift] : given) as [number]));
    }
    static override now(): number {
      return Right.now() + shift;
    }
  }
  globalThis.Date = Wrong as DateConstructor;
}

const { serve } = await import('../helpers/child.js');
const { ContextStore } = await import('../../src/index.js');

export type WorkerCommand = { readonly do: 'open'; readonly options: object } | { readonly do: 'clock' | 'close' };

let store: import('../../src/index.js').ContextStore | undefined;
serve(async (message) => {
  const command = message as WorkerCommand;
  switch (command.do) {
    case 'open':
      store = await ContextStore.connect({ logger: false, ...command.options });
      return undefined;
    case 'clock':
      return Date.now();
    case 'close':
      await store?.close();
      return undefined;
  }
});
