import { randomBytes } from 'node:crypto';

/**
 * A namespace nobody has used, `[a-z0-9-]`: a test of its own data needs no cleared server, so suites can share one and no helper
 * ever calls FLUSHALL.
 */
export function uniqueNamespace(prefix = 'test'): string {
  if (!/^[a-z0-9][a-z0-9-]*$/.test(prefix))
    throw new Error(`a namespace prefix is made of [a-z0-9-], not ${JSON.stringify(prefix)}`);
  return `${prefix}-${randomBytes(8).toString('hex')}`;
}
