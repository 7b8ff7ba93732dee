import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect } from 'chai';
import { MUTATIONS } from '../../../scripts/mutations/list.js';
import { listProblems, type Mutation, mutated } from '../../../scripts/mutations/mutation.js';
import { exitCodeOf, type MutationResult, runMutations } from '../../../scripts/mutations/runMutations.js';

const ROOT = join(import.meta.dirname, '../../..');

describe('planted bugs', function () {
  this.timeout(60_000);
  let project: string;
  beforeEach(() => {
    project = mkdtempSync(join(tmpdir(), 'lukhas-planted-'));
    write('.mocharc.json', '{ "node-option": ["import=tsx"] }');
    write('.gitignore', 'secret.ts\nnode_modules\n');
    write('secret.ts', 'export const secret = 1;\n');
    write('src/add.ts', 'export const add = (a: number, b: number): number => a + b;\nexport const unused = 1;\n');
    write(
      'test/add.test.ts',
      [
        "import { equal } from 'node:assert/strict';",
        "import { add } from '../src/add.js';",
        "it('adds', () => equal(add(1, 2), 3));",
        "it('is wrong', () => equal(add(1, 2), 4));",
        "it('skips itself', function () { this.skip(); });",
        "it('counts to ten', () => equal(add(5, 5), 10));",
        "describe('with a server', () => { before(() => equal(add(0, 0), 0)); it('runs', () => {}); });",
      ].join('\n'),
    );
    symlinkSync(join(ROOT, 'node_modules'), join(project, 'node_modules'));
    execFileSync('git', ['init', '--quiet'], { cwd: project });
  });
  afterEach(() => rmSync(project, { recursive: true, force: true }));

  function write(name: string, text: string): void {
    mkdirSync(dirname(join(project, name)), { recursive: true });
    writeFileSync(join(project, name), text);
  }
  const mutation = (replace: string, grep = '^adds$', more: Partial<Mutation> = {}): Mutation => ({
    name: 'a bug',
    file: 'src/add.ts',
    find: 'a + b',
    replace,
    test: { file: 'test/add.test.ts', grep },
    ...more,
  });
  async function run(...mutations: Mutation[]): Promise<[outcome: string, note: string, exitCode: number]> {
    const results = await runMutations({ root: project, mutations, limitMs: 15_000 });
    const [last] = results.slice(-1);
    return [last?.outcome ?? '', last?.note ?? '', exitCodeOf(results)];
  }

  it('one that its test notices is caught, and the project stays as it is', async () => {
    const before = readFileSync(join(project, 'src/add.ts'), 'utf8');
    const [outcome, note, exitCode] = await run(mutation('a - b'));
    expect(note).to.contain('adds: ');
    expect([outcome, exitCode]).to.deep.equal(['caught', 0]);
    expect(readFileSync(join(project, 'src/add.ts'), 'utf8')).to.equal(before);
  });

  it('nothing is left of the copies', async () => {
    const { TMPDIR: before } = process.env;
    process.env.TMPDIR = join(project, 'copies');
    mkdirSync(process.env.TMPDIR);
    try {
      await run(mutation('a - b'));
      expect(readdirSync(join(project, 'copies'))).to.deep.equal([]);
    } finally {
      if (before === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = before;
    }
  });

  it('one that survives its test gives exit code 1, whatever became of others', async () => {
    expect(await run(mutation('a - b'), mutation('b + a'))).to.deep.equal(['survived', '1 passed', 1]);
  });

  it('each is planted alone', async () => {
    expect(await run(mutation('a - b'), mutation('2', '^adds$', { find: '1;' }))).to.deep.equal(['survived', '1 passed', 1]);
  });

  it('what is not committed is tested as well, and what git ignores is not there', async () => {
    write('src/add.ts', "export { add } from './sum.js';\n");
    write('src/sum.ts', 'export const add = (a: number, b: number): number => a + b;\n');
    expect((await run(mutation('a - b', '^adds$', { file: 'src/sum.ts' })))[0]).to.equal('caught');
    write('test/add.test.ts', "import '../secret.js'; it('adds', () => {});");
    const [outcome, note, exitCode] = await run(mutation('a - b', '^adds$', { file: 'src/sum.ts' }));
    expect(note).to.match(/^without it: mocha crashed/);
    expect([outcome, exitCode]).to.deep.equal(['no verdict', 1]);
  });

  const undecided: readonly (readonly [what: string, mutation: () => Mutation, note: RegExp])[] = [
    ['a test that fails without it', () => mutation('a - b', '^is wrong$'), /^without it: is wrong: /],
    ['no test of that name', () => mutation('a - b', '^nothing$'), /^without it: no test ran$/],
    ['a test that is skipped', () => mutation('a - b', '^skips itself$'), /^without it: no test ran$/],
    ['a file that cannot be loaded any more', () => mutation(') syntax ('), /^mocha crashed/],
    ['a process that ends', () => mutation('process.exit(1)'), /^mocha crashed/],
    ['a hook that fails', () => mutation('1', '^with a server'), /"before all" hook/],
    ['a text that is not there', () => mutation('1', '^adds$', { find: 'a * b' }), /has the text to replace 0 times/],
    ['a text that is there twice', () => mutation('1', '^adds$', { find: 'export' }), /has the text to replace 2 times/],
    ['a file that is not there', () => mutation('1', '^adds$', { file: 'src/none.ts' }), /0 times/],
  ];
  for (const [what, made, expected] of undecided) {
    it(`${what} is no verdict, and exit code 1`, async () => {
      const [outcome, note, exitCode] = await run(made());
      expect(note).to.match(expected);
      expect([outcome, exitCode]).to.deep.equal(['no verdict', 1]);
    });
  }

  it('a hang is no verdict', async () => {
    const hang = mutation('(() => { for (;;); })()');
    const told: MutationResult[] = [];
    const results = await runMutations({ root: project, mutations: [hang], limitMs: 3_000, onResult: (one) => told.push(one) });
    expect(results[0]).to.include({ outcome: 'no verdict', note: 'killed after 3 s' });
    expect(told).to.deep.equal(results);
  });

  it('nothing at all is no success', () => {
    expect(exitCodeOf([])).to.equal(1);
  });

  it('texts are taken as they are', () => {
    expect(mutated(mutation('$& $1'), 'a + b')).to.equal('$& $1');
    expect(() => mutated(mutation('a + b'), 'a + b')).to.throw('nothing is replaced');
    expect(() => mutated(mutation('x', '', { find: '' }), 'a + b')).to.throw('0 times');
  });

  it('a list is looked through before anything is run', () => {
    const wrong = [
      mutation('1'),
      mutation('1'),
      mutation('1', '', { name: 'b', test: { file: 'test/none.test.ts', grep: '' } }),
      mutation('1', '', { name: 'c', file: 'src/none.ts' }),
      mutation('1', '', { name: 'd', find: 'export' }),
    ];
    expect(listProblems(project, wrong).map((problem) => problem.split('\n')[0])).to.deep.equal([
      'a bug: there are two of this name',
      'b: there is no test/none.test.ts',
      'c: there is no src/none.ts',
      'd: src/add.ts has the text to replace 2 times, not once:',
    ]);
  });

  it('those of the project can all be planted', () => {
    expect(listProblems(ROOT, MUTATIONS)).to.deep.equal([]);
  });
});
