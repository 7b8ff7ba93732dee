/** The script that the tests of `spawnNode` and of the cleanup run; each request is a list of a name and an argument. */
import { emit, serve } from './child.js';
import { endAll, track } from './cleanup.js';
import { spawnNode } from './processes.js';
import { RedisServer, type RedisServerOptions, sharedServer } from './RedisServer.js';

const actions: { readonly [name: string]: (argument: unknown) => unknown } = {
  echo: (value) => value,
  environment: (name) => process.env[String(name)],
  arguments: () => process.argv.slice(2),
  fail: (message) => {
    throw Object.assign(new Error(String(message)), { code: 'ON_PURPOSE' });
  },
  count: (to) => {
    for (let n = 1; n <= Number(to); n++) emit(n);
  },
  complain: (text) => {
    process.stderr.write(String(text), () => process.exit(3));
    return new Promise(() => {});
  },
  hang: () => new Promise(() => {}),
  'start a server': async (options) => {
    const { pid, dir } = await RedisServer.start(options as RedisServerOptions | undefined);
    return { pid, dir };
  },
  'shared server': async () => (await sharedServer()).url,
  'end all': async () => {
    const ended: string[] = [];
    const resource = (name: string, error?: Error) =>
      track({
        end: async () => {
          ended.push(name);
          if (error) throw error;
        },
        endNow: () => void ended.push(`${name} now`),
      });
    resource('first');
    resource('second', new Error('second would not end'));
    const untrack = resource('gone before');
    resource('last');
    untrack();
    const failures: string[] = [];
    for (let call = 1; call <= 2; call++) {
      await endAll().catch((error: AggregateError) => failures.push(...error.errors.map((cause: Error) => cause.message)));
    }
    return { ended, failures };
  },
  'start another': async () => {
    const other = await spawnNode(new URL(import.meta.url));
    await other.request(['keep busy']);
    return other.pid;
  },
  'keep busy': () => void setInterval(() => {}, 1000),
  'exit in order': () => process.exit(),
};

serve((message) => {
  const [name, argument] = message as [string, unknown];
  const action = actions[name];
  if (!action) throw new Error(`no action ${name}`);
  return action(argument);
});
