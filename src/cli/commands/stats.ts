import { Command } from 'commander';
import { formatBytes } from '../../core/units.js';
import { withHelp } from '../help.js';
import { count, table } from '../output.js';
import { globalFlags, type Session, withStore } from '../session.js';

export function statsCommand(signal: AbortSignal): Command {
  const command = new Command('stats')
    .description('Show the accounts of a namespace: contexts and real bytes in Redis')
    .action((_flags: object, self: Command) => withStore(globalFlags(self), signal, stats));
  return withHelp(command, {
    examples: [
      ['lukhas-context stats', 'a line for each shard'],
      ['lukhas-context stats --json', '{"namespace":"default","shards":[...]}'],
    ],
  });
}

async function stats({ store, output, signal }: Session): Promise<undefined> {
  const { namespace, shards, delta } = await store.stats({ signal });
  if (output.json) {
    output.document({ namespace, protocol: delta.protocol, shards });
    return;
  }
  const sum = (of: 'contexts' | 'bytes' | 'indexBytes'): number => shards.reduce((total, shard) => total + shard[of], 0);
  const row = (name: string, contexts: number, bytes: number, indexBytes: number): string[] => [
    name,
    count(contexts),
    formatBytes(bytes),
    formatBytes(indexBytes),
  ];
  output.line(
    table(
      output,
      ['SHARD', '>CONTEXTS', '>MEMORY', '>INDEXES'],
      [
        ...shards.map((shard) => row(String(shard.shard), shard.contexts, shard.bytes, shard.indexBytes)),
        ...(shards.length > 1 ? [row('all', sum('contexts'), sum('bytes'), sum('indexBytes'))] : []),
      ],
    ),
  );
  if (delta.protocol === 1) output.note('Written in protocol 1: run `lukhas-context upgrade` once no older instance is left.');
}
