/** The bugs that `npm run test:mutations` plants. Each names the test that exists because of it. */
import type { Mutation } from './mutation.js';

export const MUTATIONS: readonly Mutation[] = [
  {
    name: 'ifVersion is not checked',
    file: 'lua/include/writing.lua',
    find: "if w.if_version ~= '-' and (tonumber(w.if_version) ~= version or (w.if_crc ~= '-' and w.if_crc ~= stored.crc)) then",
    replace: 'if false then',
    test: { file: 'test/integration/writes.test.ts', grep: 'writes ifVersion' },
  },
  {
    name: 'the SHA-1 of what arrived is not checked',
    file: 'lua/include/writing.lua',
    find: 'if found ~= w.sha or bytes ~= #data then',
    replace: 'if bytes ~= #data then',
    test: { file: 'test/lua/commitRefusals.test.ts', grep: 'CHECKSUM' },
  },
  {
    name: 'an earlier attempt of a write is not looked for',
    file: 'lua/include/writing.lua',
    find: "if w.prev ~= '0' then",
    replace: 'if false then',
    test: { file: 'test/chaos/linearizability.test.ts', grep: 'replies that are lost' },
  },
  {
    name: 'an update that timed out does not say that it may have been applied',
    file: 'src/store/ContextWriter.ts',
    find: 'return bounded(begun).then(() => result);',
    replace: 'return bounded(result);',
    test: { file: 'test/integration/writes.test.ts', grep: 'says whether it may have been applied' },
  },
  {
    name: 'what a transaction has only read is not looked at again',
    file: 'src/transactions/AtomicContextPreserver.ts',
    find: 'if (reads.length === 0 || (reads.length === 1 && tx.expected.size === 0 && !tx.fromMemory)) return',
    replace: 'if (reads.length >= 0) return',
    test: { file: 'test/chaos/bank.test.ts', grep: 'same sum for every reader' },
  },
  {
    name: 'two transactions may write onto the same version',
    file: 'lua/include/writing.lua',
    find: "if w.if_version ~= '-' and (tonumber(w.if_version) ~= version or (w.if_crc ~= '-' and w.if_crc ~= stored.crc)) then",
    replace: 'if false then',
    test: { file: 'test/chaos/bank.test.ts', grep: 'same sum for every reader' },
  },
];
