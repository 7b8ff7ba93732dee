/**
 * Bull Board over the background queues of a namespace: what runs, what failed and why, retry by hand. For people who operate it; it has no
 * login of its own, so it listens on the loopback address unless told otherwise.
 *
 *     npm run board -- --redis redis://127.0.0.1:6379 --namespace agents
 */
import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { FastifyAdapter } from '@bull-board/fastify';
import { Queue } from 'bullmq';
import { Command, InvalidArgumentError } from 'commander';
import { fastify } from 'fastify';
import { Redis } from 'ioredis';
import { QUEUE_NAMES } from '../queues/work.js';
import { queuePrefix } from '../src/redis/keys.js';

const port = (text: string): number => {
  const number = Number(text);
  if (!/^\d+$/.test(text) || number > 65_535)
    throw new InvalidArgumentError('It must be a port, 0 to 65535 (0: any that is free).');
  return number;
};

const command = new Command('npm run board --')
  .description('Bull Board over the background queues of a namespace, at http://<host>:<port>/queues')
  .option('--redis <url>', 'Redis', process.env.REDIS_URL || 'redis://127.0.0.1:6379')
  .option('--namespace <name>', 'namespace of the contexts', process.env.LUKHAS_NAMESPACE || 'default')
  .option('--host <address>', 'address to listen on; it has no login', process.env.HOST || '127.0.0.1')
  .option('--port <n>', 'port to listen on', port, port(process.env.PORT || '3000'))
  .option('--read-only', 'show only: no retry, no removal')
  .addHelpText('after', '\nExamples:\n  npm run board\n  npm run board -- --namespace agents --port 3001 --read-only')
  .parse();
const options = command.opts<{ redis: string; namespace: string; host: string; port: number; readOnly?: true }>();

const connection = new Redis(options.redis, { maxRetriesPerRequest: null, connectionName: 'lukhas-context:board' });
let told = '';
connection.on('error', ({ message }) => {
  // it goes on trying, and says so once
  if (message !== told) process.stderr.write(`Redis at ${new URL(options.redis).host}: ${message}\n`);
  told = message;
});
const queues = QUEUE_NAMES.map((name) => new Queue(name, { connection, prefix: queuePrefix(options.namespace) }));
for (const queue of queues) queue.on('error', () => {});

const server = fastify();
const adapter = new FastifyAdapter();
createBullBoard({
  queues: queues.map(
    (queue) =>
      new BullMQAdapter(queue, {
        readOnlyMode: options.readOnly === true,
        displayName: `${options.namespace} ${queue.name}`,
      }),
  ),
  serverAdapter: adapter,
});
adapter.setBasePath('/queues');
await server.register(adapter.registerPlugin(), { prefix: '/queues' });
server.get('/', (_, reply) => reply.redirect('/queues'));

async function stop(): Promise<void> {
  await server.close();
  await Promise.allSettled(queues.map((queue) => queue.close()));
  connection.disconnect();
}
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void stop());

try {
  await server.listen({ host: options.host, port: options.port });
  const address = server.server.address();
  process.stdout.write(
    `http://${options.host}:${typeof address === 'object' && address !== null ? address.port : options.port}/queues\n`,
  );
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}: choose another --port or --host\n`);
  process.exitCode = 1;
  await stop();
}
