/**
 * Talks to a Redis before the dependencies are there: no package is needed.
 *
 *   redisProbe.mjs check <url>     PING and version; exit 0, or 1 and one sentence on stdout
 *   redisProbe.mjs dir <port>      prints the data directory of the Redis on that loopback port (exit 0), 'loading' (2) or nothing (1)
 *   redisProbe.mjs free-port       prints a free loopback port
 */
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { connect as connectTls } from 'node:tls';

const LIMIT_MS = 5_000;
const NEEDED = [7, 0];

class Refused extends Error {}

/** Sends commands, one reply each; only the replies that these commands have: simple, error, bulk and flat arrays. */
async function talk({ host, port, tls, commands }) {
  const socket = tls ? connectTls({ host, port, servername: host }) : connect({ host, port });
  let received = Buffer.alloc(0);
  let wake = () => {};
  let failure;
  let ended = false;
  const limit = setTimeout(() => socket.destroy(new Error(`no answer within ${LIMIT_MS / 1000} s`)), LIMIT_MS);
  socket.on('data', (chunk) => {
    received = Buffer.concat([received, chunk]);
    wake();
  });
  socket.on('error', (error) => {
    failure = error;
    wake();
  });
  socket.on('close', () => {
    ended = true;
    wake();
  });
  const line = async () => {
    for (;;) {
      const end = received.indexOf('\r\n');
      if (end >= 0) {
        const text = received.subarray(0, end).toString();
        received = received.subarray(end + 2);
        return text;
      }
      if (failure) throw failure;
      if (ended) throw new Error('the connection was closed');
      await new Promise((resolve) => {
        wake = resolve;
      });
    }
  };
  const bytes = async (length) => {
    while (received.length < length + 2) {
      if (failure) throw failure;
      if (ended) throw new Error('the connection was closed');
      await new Promise((resolve) => {
        wake = resolve;
      });
    }
    const text = received.subarray(0, length).toString();
    received = received.subarray(length + 2);
    return text;
  };
  const reply = async () => {
    const head = await line();
    const rest = head.slice(1);
    if (head.startsWith('-')) throw new Refused(rest);
    if (head.startsWith('$')) return rest === '-1' ? null : bytes(Number(rest));
    if (head.startsWith('*')) {
      const items = [];
      for (let i = 0; i < Number(rest); i++) items.push(await reply());
      return items;
    }
    if (head.startsWith('+') || head.startsWith(':')) return rest;
    throw new Error('what answers there is not Redis');
  };
  try {
    const replies = [];
    for (const command of commands) {
      socket.write(`*${command.length}\r\n${command.map((part) => `$${Buffer.byteLength(part)}\r\n${part}\r\n`).join('')}`);
      replies.push(await reply());
    }
    return replies;
  } finally {
    clearTimeout(limit);
    socket.destroy();
  }
}

async function check(given) {
  let url;
  try {
    url = new URL(given);
  } catch {
    return `REDIS_URL is not a URL (redis://host:port is expected): correct or unset it, then run this again.`;
  }
  if (url.protocol !== 'redis:' && url.protocol !== 'rediss:') {
    return `REDIS_URL begins with ${url.protocol}// where redis:// or rediss:// is expected: correct or unset it, then run this again.`;
  }
  const host = url.hostname.replace(/^\[|\]$/g, '') || '127.0.0.1';
  const port = Number(url.port || 6379);
  const where = `REDIS_URL (${host}:${port})`;
  const [user, password] = [url.username, url.password].map(decodeURIComponent);
  const login = password ? [user ? ['AUTH', user, password] : ['AUTH', password]] : [];
  try {
    const replies = await talk({ host, port, tls: url.protocol === 'rediss:', commands: [...login, ['PING'], ['INFO', 'server']] });
    const version = /^redis_version:(\d+)\.(\d+)\S*/m.exec(replies.at(-1) ?? '');
    if (!version) return `${where} does not tell its version: is it Redis? Correct or unset it, then run this again.`;
    const [major, minor] = [Number(version[1]), Number(version[2])];
    if (major < NEEDED[0] || (major === NEEDED[0] && minor < NEEDED[1])) {
      return `${where} is Redis ${major}.${minor}, and ${NEEDED.join('.')} or later is needed: name a newer one, or unset REDIS_URL for a private one.`;
    }
    return undefined;
  } catch (error) {
    if (error instanceof Refused) return `${where} refuses: ${error.message} - check the user, the password and the rights in the URL.`;
    const reason = error.code ?? error.message;
    return `${where} cannot be reached: ${reason} - start it, correct REDIS_URL, or unset it for a private Redis.`;
  }
}

async function freePort() {
  for (;;) {
    // Below the ephemeral ports: no outgoing connection can be given it.
    const port = randomInt(22_000, 32_000);
    const server = createServer();
    try {
      server.listen(port, '127.0.0.1');
      await once(server, 'listening');
      return port;
    } catch {
      // taken
    } finally {
      server.close();
    }
  }
}

const [command, argument] = process.argv.slice(2);
switch (command) {
  case 'check': {
    const problem = await check(argument);
    if (problem) {
      console.log(problem);
      process.exitCode = 1;
    }
    break;
  }
  case 'dir':
    try {
      const [, dir] = await talk({ host: '127.0.0.1', port: Number(argument), commands: [['PING'], ['CONFIG', 'GET', 'dir']] });
      console.log(dir[1]);
    } catch (error) {
      if (error instanceof Refused && error.message.startsWith('LOADING')) {
        console.log('loading');
        process.exitCode = 2;
      } else {
        process.exitCode = 1;
      }
    }
    break;
  case 'free-port':
    console.log(await freePort());
    break;
  default:
    console.log(`unknown command ${command}`);
    process.exitCode = 64;
}
