/** Two namespaces in which the same is done in different ways, and must leave the same. */
import { expect } from 'chai';
import type { LuaNamespace, Published } from './lua.js';

interface Key {
  readonly content: unknown;
  readonly expiry: number;
}

/** Relative times of life begin a moment apart. */
const APART_MS = 10_000;

/** Everything but the name of the namespace and what is kept of transactions, native expiries apart. */
async function picture(lua: LuaNamespace): Promise<{ contents: Record<string, unknown>; expiries: Record<string, number> }> {
  const found = (await lua.snapshot()) as Record<string, Key>;
  const entries = Object.entries(found)
    .map(([key, value]) => [key.slice(lua.shard.tag.length), value] as const)
    .filter(([key]) => !/^:(t:|txn$)/.test(key));
  return {
    contents: Object.fromEntries(entries.map(([key, { content }]) => [key, content])),
    expiries: Object.fromEntries(entries.map(([key, { expiry }]) => [key, expiry])),
  };
}

/**
 * Holds all keys of two namespaces against each other, and what was published in both since that was last asked.
 *
 * @param sizes - false: a hash may take other bytes of memory by what it has held meanwhile
 */
export async function expectTwins(one: LuaNamespace, other: LuaNamespace, sizes = true): Promise<void> {
  const [found, wanted] = await Promise.all([picture(one), picture(other)]);
  expect(Object.keys(found.contents)).to.deep.equal(Object.keys(wanted.contents));
  for (const [key, content] of Object.entries(found.contents))
    if (sizes || ![':size', ':mem'].includes(key)) expect(content, key).to.deep.equal(wanted.contents[key]);
  for (const [key, expiry] of Object.entries(found.expiries))
    expect(expiry, `native expiry of ${key}`).to.be.closeTo(wanted.expiries[key] ?? 0, APART_MS);
  // the order counts within a channel
  const heard = async (lua: LuaNamespace): Promise<Published[]> =>
    (await lua.published())
      .map(({ channel, text }) => ({ channel: channel.slice(lua.shard.tag.length), text }))
      .sort((a, b) => a.channel.localeCompare(b.channel));
  expect(await heard(one)).to.deep.equal(await heard(other));
}
