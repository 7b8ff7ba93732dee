import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';

/**
 * Below the ephemeral ports of Linux (from 32768) and macOS (from 49152): while a server is down, no outgoing connection can be
 * given its port, not even a reconnecting client's own. 10,000 higher, where a Cluster's bus listens, is below them too.
 */
const PORTS = { from: 12_000, to: 22_000 };

/** A port of the loopback address that was free a moment ago: whoever binds it has to be ready to find it taken. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(PORTS.from, PORTS.to);
    if (await isFree(port)) return port;
  }
}

async function isFree(port: number): Promise<boolean> {
  const probe = createServer();
  try {
    probe.listen(port, '127.0.0.1');
    await once(probe, 'listening');
  } catch {
    return false;
  }
  const closed = once(probe, 'close');
  probe.close();
  await closed;
  return true;
}
