// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the strings are source code
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect } from 'chai';
import { checkLayers } from '../../scripts/checkLayers.js';
import { checkLua } from '../../scripts/checkLua.js';
import type { Violation } from '../../scripts/lib/violations.js';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lukhas-checks-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** What a check says of a project that consists of these files, as `file:line: rule`. */
function run(check: (root: string) => readonly Violation[], files: Readonly<Record<string, string>>): readonly string[] {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  const violations = check(root);
  rmSync(root, { recursive: true });
  return violations.map(({ file, line, rule }) => `${file}:${line}: ${rule}`);
}

describe('checkLayers', () => {
  const layers = (files: Readonly<Record<string, string>>): readonly string[] => run(checkLayers, files);

  it('has nothing against arrows that point down', () => {
    const found = layers({
      'src/core/json.ts': `import { crc32 } from 'node:zlib';\nexport const a = crc32;`,
      'src/redis/keys.ts': "import { a } from '../core/json.js';\nexport const key = (ns: string) => `{lc:${ns}:${a}}`;",
      'src/redis/client.ts': `import { Redis } from 'ioredis';\nimport { setTimeout } from 'node:timers/promises';\nexport { Redis, setTimeout };`,
      'src/replica/Replica.ts': `import { key } from '../redis/keys.js';\nimport type { a } from '../core/json.js';`,
      'src/store/ContextStore.ts': `export * from '../replica/Replica.js';\nexport { key } from '../redis/keys.js';`,
      'src/index.ts': `export { ContextStore } from './store/ContextStore.js';\nexport * from './core/json.js';`,
      'src/cli/commands/get.ts': `import { ContextStore } from '../../store/ContextStore.js';\nconst at = Date.now();`,
      'queues/sweep.ts': `import { ContextStore } from '../src/store/ContextStore.js';`,
    });
    expect(found).to.deep.equal([]);
  });

  const forbidden: readonly (readonly [string, string, string])[] = [
    [
      'src/core/a.ts',
      `import { x } from '../redis/keys.js';`,
      'core must not import redis (src/redis/keys.ts); it may import nothing but itself',
    ],
    [
      'src/core/a.ts',
      `import type { X } from '../store/types.js';`,
      'core must not import store (src/store/types.ts); it may import nothing but itself',
    ],
    [
      'src/redis/a.ts',
      `export * from '../replica/b.js';`,
      'redis must not import replica (src/replica/b.ts); it may import core',
    ],
    [
      'src/replica/a.ts',
      `const b = await import('../store/b.js');`,
      'replica must not import store (src/store/b.ts); it may import redis, core',
    ],
    [
      'src/store/a.ts',
      `import '../cli/main.js';`,
      'store must not import cli (src/cli/main.ts); it may import locks, transactions, integrity, replica, redis, core',
    ],
    [
      'src/cli/a.ts',
      `import { b } from '../redis/b.js';`,
      'cli must not import redis (src/redis/b.ts); it may import queues, store, core',
    ],
    [
      'src/cli/deep/a.ts',
      `type B = import('../../replica/b.js').B;`,
      'cli must not import replica (src/replica/b.ts); it may import queues, store, core',
    ],
    [
      'queues/a.ts',
      `export { b } from '../src/redis/b.js';`,
      'queues must not import redis (src/redis/b.ts); it may import store, core',
    ],
    [
      'src/index.ts',
      `export type { B } from './redis/b.js';`,
      'index must not import redis (src/redis/b.ts); it may import queues, store, core',
    ],
    [
      'src/store/a.ts',
      `import { b } from '../index.js';`,
      'store must not import index (src/index.ts); it may import locks, transactions, integrity, replica, redis, core',
    ],
    ['src/store/a.ts', `import { b } from '../../test/helpers/b.js';`, 'imports test/helpers/b.ts, outside of src/ and queues/'],
    ['src/store/a.ts', `import { b } from 'lukhas-context';`, 'imports the package itself: name the file'],
    ['src/stroe/a.ts', `export {};`, "'stroe' is no layer: scripts/checkLayers.ts names them, and what each may import"],
    ['src/store/a.ts', `import type { Redis } from 'ioredis';`, 'only src/redis/ may import ioredis'],
    ['src/cli/a.ts', `const { Redis } = require('ioredis');`, 'only src/redis/ may import ioredis'],
    ['src/cli/a.ts', 'const { Redis } = await import(`ioredis/built/utils`);', 'only src/redis/ may import ioredis'],
    ['src/cli/a.ts', `const a = [...require('ioredis')];`, 'only src/redis/ may import ioredis'],
    ['src/cli/a.ts', 'const b = await import(name);', 'a computed import cannot be checked: name the module'],
    ['src/cli/a.ts', 'const b = await import(`./${name}.js`);', 'a computed import cannot be checked: name the module'],
    ['src/store/a.ts', `const key = '{lc:agents:0}:c:x';`, "only src/redis/keys.ts may spell a key ('{lc:')"],
    ['src/redis/a.ts', 'const key = `x{lc:${ns}}`;', "only src/redis/keys.ts may spell a key ('{lc:')"],
    ...['node:fs', 'fs/promises', 'node:net', 'child_process', 'node:timers', 'node:timers/promises', 'node:perf_hooks'].map(
      (name) =>
        [
          'src/core/a.ts',
          `import { x } from '${name}';`,
          `core must not import ${name}: it is pure, and may use node:buffer, node:crypto, node:events, node:util, node:zlib`,
        ] as const,
    ),
    ...[
      ['Date.now()', 'Date.now'],
      ['now(Date.now)', 'Date.now'],
      [`Date?.['now']()`, 'Date.now'],
      ['new Date()', 'new Date() without a time'],
      ['performance.now()', 'performance'],
      ['Math.random()', 'Math.random'],
      ['setTimeout(f, 1)', 'setTimeout'],
      ['globalThis.setTimeout(f, 1)', 'setTimeout'],
      ['crypto.randomUUID()', 'randomUUID'],
      ['process.hrtime()', 'process'],
      ['`${Math.random()}`', 'Math.random'],
    ].map(
      ([code, name]) =>
        [
          'src/core/a.ts',
          `const x = ${code};`,
          `core must not use ${name}: it has no clock, no chance and no timers of its own; take it as an argument`,
        ] as const,
    ),
  ];
  for (const [file, code, rule] of forbidden) {
    it(`refuses ${code} in ${file}`, () => {
      expect(layers({ [file]: `// one line\n\n${code}\n` })).to.deep.equal([
        `${file}:${rule.includes('is no layer') ? 1 : 3}: ${rule}`,
      ]);
    });
  }

  it('finds an import over several lines, with every form of clause', () => {
    const text = `import a, {\n  type B,\n  c as d, // from 'x'\n} from 'ioredis';\nimport * as e from "ioredis";\nexport * as f from 'ioredis';\nimport g from 'ioredis' with { type: 'json' };`;
    expect(layers({ 'src/store/a.ts': text })).to.deep.equal(
      [1, 5, 6, 7].map((line) => `src/store/a.ts:${line}: only src/redis/ may import ioredis`),
    );
  });

  it('takes a method called import for one, and a computed import beside it for what it is', () => {
    const method = 'class A {\n  import(source: string): void {}\n  export(given?: string): void {}\n}\n';
    const optional = 'class B { async import(source?: string) {} }\n';
    expect(layers({ 'src/store/a.ts': method, 'src/store/b.ts': optional })).to.deep.equal([]);
    expect(layers({ 'src/store/a.ts': `${method}a.import(b);\nawait import(b ? 'c' : 'd');` })).to.deep.equal([
      'src/store/a.ts:6: a computed import cannot be checked: name the module',
    ]);
  });

  it('is not misled by comments, strings, templates and regular expressions', () => {
    const text = [
      `// import x from 'ioredis'`,
      `/* import('../store/a.js')\n Date.now() {lc: */`,
      `const a = "import x from 'ioredis'; Date.now()";`,
      "const b = `import('ioredis') ${`Date.now() ${'Math.random()'}`} }`;",
      `const c = /import 'ioredis'; ["'\`/]/.test(a) ? 4 / 2 / 1 : a.replace(/\\/\\*/g, '');`,
      `const d = { import: 1, from: 'ioredis', now: 2, ...rest };`,
      `d.import; d.now; x.random; new Date(5); clock.setTimeout(f);`,
      `interface Timers { setTimeout(f: () => void): void; performance?: number }`,
      `export { a, b };\nconst from = 'ioredis';`,
      `export const f = (x: string) => x, e = 'ioredis';`,
    ].join('\n');
    expect(layers({ 'src/core/a.ts': text })).to.deep.equal([]);
  });

  it('goes on behind a template, a regular expression and a comment', () => {
    const text = "const a = `${`x`}`;\nconst b = /[/'\"`]/;\n/* ' */ const c = b / 2; // `\nDate.now();";
    expect(layers({ 'src/core/a.ts': text }))
      .to.have.length(1)
      .and.satisfy(([one]: string[]) => one?.startsWith('src/core/a.ts:4: core must not use Date.now'));
  });

  it('refuses a file that it cannot read', () => {
    expect(layers({ 'src/core/a.ts': 'const a = 1;\nconst b = `a;' })).to.deep.equal([
      'src/core/a.ts:1: line 2: a template that begins here is not closed',
    ]);
    expect(layers({ 'src/core/a.ts': '\n/* a' })).to.deep.equal([
      'src/core/a.ts:1: line 2: a comment that begins here is not closed',
    ]);
  });

  it('refuses files that import themselves by a detour, each group once', () => {
    const found = layers({
      'src/core/a.ts': `import './free.js';\nimport { b } from './b.js';`,
      'src/core/b.ts': `import { c } from './c.js';`,
      'src/core/c.ts': `import type { a } from './a.js';`,
      'src/core/free.ts': '',
      'src/core/self.ts': `export * from './self.js';`,
    });
    const way = 'move what both need into a file of its own';
    expect(found).to.deep.equal([
      `src/core/a.ts:2: imports itself by a detour: src/core/a.ts -> src/core/b.ts -> src/core/c.ts -> src/core/a.ts; ${way}`,
      `src/core/self.ts:1: imports itself by a detour: src/core/self.ts -> src/core/self.ts; ${way}`,
    ]);
  });

  it('does not pass a project without sources', () => {
    expect(layers({})).to.deep.equal(['src:1: there are no sources in it']);
  });

  it('passes this project', () => {
    expect(checkLayers(join(import.meta.dirname, '../..'))).to.deep.equal([]);
  });
});

describe('checkLua', () => {
  const lua = (files: Readonly<Record<string, string>>): readonly string[] => run(checkLua, files);

  const HEADER = [
    '#!lua flags=allow-oom',
    '-- set: writes one thing, or nothing.',
    '-- KEYS[1] hash    {tag}:c:<id>',
    '-- ARGV[1] string  the bytes',
    '-- ARGV[2] ms      how long it lives',
    '-- Returns: DONE version | CONFLICT <a|b> (x | y): the current',
    '--   one | LATE',
    '-- Publishes: nothing.',
    '-- Atomic because: it is.',
  ];
  const BODY = [
    'local key = KEYS[1]',
    `if redis.call('HGET', key, 'v') == ARGV[2] then`,
    `  return { 'CONFLICT', 1 }`,
    'end',
    `local answer = late and {'LATE'} or { "DONE", ARGV[1] }`,
    'return answer',
  ];
  const script = (change: (lines: string[]) => void = () => {}): string => {
    const lines = [...HEADER, ...BODY];
    change(lines);
    return `${lines.join('\n')}\n`;
  };
  /** The script with one text replaced by another. */
  const changed = (from: string, to: string): string => {
    expect(script()).to.contain(from);
    return script().replace(from, to);
  };
  const one = (text: string): readonly string[] => lua({ 'lua/set.lua': text });

  it('has nothing against a script whose header and code agree', () => {
    expect(one(script())).to.deep.equal([]);
    expect(one(script((lines) => void lines.shift()))).to.deep.equal([]);
  });

  it('reads a header in a long comment too', () => {
    const header = HEADER.slice(1).map((line) => line.replace(/^-- ?/, ' '));
    expect(one(['--[[', ...header, ']]', ...BODY].join('\n'))).to.deep.equal([]);
    expect(one(['--[==[', ...header.filter((line) => !line.includes('Publishes')), ']==]', ...BODY].join('\n'))).to.deep.equal([
      "lua/set.lua:1: the header lacks 'Publishes: …'",
    ]);
  });

  const wrong: readonly (readonly [what: string, from: string, to: string, ...found: string[]])[] = [
    ['another name', '-- set: writes', '-- get: writes', "1: the header must begin with '-- set: <what it promises>'"],
    [
      'no promise',
      '-- set: writes one thing, or nothing.',
      '-- set:',
      "1: the header must begin with '-- set: <what it promises>'",
    ],
    ['no Publishes', '-- Publishes: nothing.\n', '', "1: the header lacks 'Publishes: …'"],
    ['an empty reason', 'because: it is.', 'because:', "1: the header lacks 'Atomic because: …'"],
    [
      'an entry twice',
      '-- Publishes: nothing.',
      '-- Publishes: nothing.\n-- Publishes: more.',
      '9: Publishes: stands twice in the header',
    ],
    [
      'a key without its type',
      'KEYS[1] hash ',
      'KEYS[1] ',
      '3: KEYS[1] needs its type: string, hash, list, set, zset, stream',
      '3: KEYS[1] needs a word on what it holds',
    ],
    [
      'an argument without a unit',
      '-- ARGV[2] ms      how long it lives',
      '-- ARGV[2]',
      "5: ARGV[2] needs its unit, or 'string'",
      '5: ARGV[2] needs a word on what it holds',
    ],
    [
      'a number left out',
      'ARGV[2] ms',
      'ARGV[3] ms',
      '5: ARGV[3] stands where ARGV[2] is expected',
      '11: ARGV[2] is used and not declared in the header',
      '5: ARGV[3] is declared and not used',
    ],
    [
      'a key that is not declared',
      'local key = KEYS[1]',
      'local key = KEYS[1] .. KEYS[2]',
      '10: KEYS[2] is used and not declared in the header',
    ],
    ['a key that is not used', '{tag}:c:<id>', '{tag}:c:<id>\n-- KEYS[2] zset more', '4: KEYS[2] is declared and not used'],
    [
      'a key that is used in a comment and a string only',
      'KEYS[1]\n',
      `'x' -- KEYS[1] .. 'KEYS[1]'\n`,
      '3: KEYS[1] is declared and not used',
    ],
    [
      'a computed index',
      'return answer',
      'return ARGV[i]',
      "15: ARGV is used with a computed index: declare 'ARGV[n..]' or 'ARGV[*]'",
    ],
    [
      'a table as a whole',
      'return answer',
      'return unpack(KEYS)',
      "15: KEYS is used with a computed index: declare 'KEYS[n..]' or 'KEYS[*]'",
    ],
    [
      'a bracket without a number',
      'KEYS[1] hash',
      'KEYS[x] hash',
      '3: KEYS[x]: a number from 1 on, n.. or * is expected between the brackets',
      '10: KEYS[1] is used and not declared in the header',
    ],
    [
      'a status that is not declared',
      "{ 'CONFLICT', 1 }",
      "{ 'FENCED', 1 }",
      "12: returns FENCED, which 'Returns:' does not declare",
      "1: 'Returns:' declares CONFLICT, which the code never says",
    ],
    ['a status returned alone', 'return answer', "return 'OK'", "15: returns OK, which 'Returns:' does not declare"],
    [
      'a status that is declared and never said',
      '| LATE',
      '| LATE | GONE',
      "1: 'Returns:' declares GONE, which the code never says",
    ],
    ['the command KEYS', "redis.call('HGET', key, 'v')", "redis.call('keys', '*')", '11: the command KEYS is forbidden'],
    [
      'the command KEYS by pcall',
      "redis.call('HGET', key, 'v')",
      'redis.pcall("KEYS", "*")',
      '11: the command KEYS is forbidden',
    ],
    [
      'an include that is not there',
      '-- Publishes:',
      '-- @include clock\n-- Publishes:',
      '8: @include clock: there is no lua/include/clock.lua',
    ],
    [
      'an include by path',
      '-- Publishes:',
      '-- @include ../x.lua\n-- Publishes:',
      "8: '@include ../x.lua': one name without folder and ending is expected",
    ],
    ['a string that is not closed', "'CONFLICT'", "'CONFLICT", '1: line 12: a string that begins here is not closed'],
    [
      'a comment that is not closed',
      'return answer',
      '--[[ return answer',
      '1: line 15: a comment that begins here is not closed',
    ],
  ];
  for (const [what, from, to, ...found] of wrong) {
    it(`refuses ${what}`, () => {
      expect(one(changed(from, to))).to.deep.equal(found.map((text) => `lua/set.lua:${text}`));
    });
  }

  it('refuses code before the header', () => {
    const found = one(changed('-- set:', 'local a = 1\n-- set:'));
    expect(found).to.include("lua/set.lua:1: the header must begin with '-- set: <what it promises>'");
  });

  it('takes open ranges for keys and arguments of any number', () => {
    const open = changed('KEYS[1] hash', 'KEYS[*] hash').replace('local key = KEYS[1]', 'local key = KEYS[#KEYS]');
    expect(one(open)).to.deep.equal([]);
    expect(one(changed('ARGV[2] ms', 'ARGV[2..] ms').replace('return answer', 'return ARGV[i]'))).to.deep.equal([]);
    expect(one(changed('KEYS[1] hash', 'KEYS[*] hash').replace('KEYS[1]\n', '#KEYS\n'))).to.deep.equal([
      'lua/set.lua:3: KEYS[1..] is declared and not used',
    ]);
    expect(one(changed('ARGV[1] string', 'ARGV[1..] string'))).to.deep.equal(['lua/set.lua:4: ARGV[1..] must be the last ARGV']);
  });

  it('knows tables that are no replies', () => {
    const steps = `local steps = { { 'HSET', key }, { 'DEL', key } }\nrun({ 'MEMORY', 'USAGE' })\nreturn answer`;
    expect(one(changed('return answer', steps))).to.deep.equal([]);
  });

  it('takes prose for what is returned', () => {
    const text = changed(
      'DONE version | CONFLICT <a|b> (x | y): the current\n--   one | LATE',
      'lines of text; DONE, LATE or CONFLICT at the end',
    );
    expect(one(text)).to.deep.equal([]);
  });

  describe('with includes', () => {
    const including = changedOnce('-- Publishes:', '-- @include answers\n-- Publishes:').replace(
      `  return { 'CONFLICT', 1 }`,
      '  return conflict(ARGV[3])',
    );
    function changedOnce(from: string, to: string): string {
      return script().replace(from, to);
    }

    it('counts what they use and return, also by a further include', () => {
      const files = {
        'lua/set.lua': including.replace('-- Returns', '-- ARGV[3] id     whose it is\n-- Returns'),
        'lua/include/answers.lua': `-- answers: what is answered.\n-- @include more\nlocal function late() return { 'LATE', KEYS[1] } end`,
        'lua/include/more.lua': `-- more: more.\nlocal function conflict(id) return { 'CONFLICT', id } end`,
      };
      expect(lua(files)).to.deep.equal([]);
      expect(
        lua({ ...files, 'lua/include/more.lua': `-- more: more.\nlocal function conflict(id) return { 'FENCED', KEYS[4] } end` }),
      ).to.deep.equal([
        'lua/set.lua:1: KEYS[4] is used and not declared in the header (lua/include/more.lua:2)',
        "lua/set.lua:1: returns FENCED, which 'Returns:' does not declare (lua/include/more.lua:2)",
        "lua/set.lua:1: 'Returns:' declares CONFLICT, which the code never says",
      ]);
    });

    it('refuses cycles, an include without a header, and the same one twice', () => {
      const found = lua({
        'lua/set.lua': script().replace('-- Publishes:', '-- @include a\n-- @include a\n-- Publishes:'),
        'lua/include/a.lua': '-- a: a.\n-- @include b',
        'lua/include/b.lua': '-- b: b.\n-- @include a',
        'lua/include/c.lua': 'local c = 1',
        'lua/include/d.lua': '-- d: d.\n-- @include d',
      });
      expect(found).to.deep.equal([
        'lua/set.lua:9: @include a stands twice',
        'lua/include/a.lua:2: @include a comes back to itself',
        'lua/include/b.lua:2: @include b comes back to itself',
        "lua/include/c.lua:1: the header must begin with '-- c: <what it promises>'",
        'lua/include/d.lua:2: @include d comes back to itself',
      ]);
    });
  });

  it('does not pass a project without scripts', () => {
    expect(lua({})).to.deep.equal(['lua:1: there are no scripts in it']);
  });

  it('passes this project', () => {
    expect(checkLua(join(import.meta.dirname, '../..'))).to.deep.equal([]);
  });
});
