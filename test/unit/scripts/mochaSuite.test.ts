import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { expect } from 'chai';
import { type MochaSuiteOptions, mochaSuite } from '../../../scripts/lib/mochaSuite.js';
import type { Outcome } from '../../../scripts/lib/outcome.js';

const ROOT = join(import.meta.dirname, '../../..');

describe('mochaSuite', function () {
  this.timeout(60_000);
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'lukhas-mocha-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  function run(files: Readonly<Record<string, string>>, options: Partial<MochaSuiteOptions> = {}): Promise<Outcome> {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, name)), { recursive: true });
      writeFileSync(join(folder, name), text);
    }
    return mochaSuite({ root: ROOT, folders: [relative(ROOT, folder)], strict: false, silent: true, ...options });
  }

  it('counts passed, failed and pending tests over all files', async () => {
    const files = {
      'a.test.ts': `describe('a', () => { it('one', () => {}); it('two', () => { throw new Error('broken\\nfurther'); }); it('three'); });`,
      'deep/b.test.ts': `it('four', async () => {}); it('five', function () { this.skip(); });`,
      'helper.ts': `it('not a test file', () => {});`,
    };
    const loose = await run(files);
    expect(loose).to.deep.include({ passed: 2, failed: 1, skipped: 2 });
    expect(loose.notes).to.include('a › two: broken').and.include('a › three: pending');
    // In CI a test that is not run is a failure.
    expect(await run(files, { strict: true })).to.deep.include({ passed: 2, failed: 3, skipped: 0 });
    expect(await run(files, { grep: 'one|four' })).to.deep.include({ passed: 2, failed: 0, skipped: 0 });
  });

  it('counts a hook that fails', async () => {
    const outcome = await run({
      'a.test.ts': `describe('a', () => { before(() => { throw new Error('no server'); }); it('one', () => {}); });`,
    });
    expect(outcome).to.deep.include({ passed: 0, failed: 1 });
    expect(outcome.notes[0]).to.contain('"before all" hook').and.contain('no server');
  });

  it('counts a file that cannot be loaded', async () => {
    const outcome = await run({ 'a.test.ts': `throw new Error('at load');` });
    expect(outcome).to.deep.include({ passed: 0, failed: 1 });
    expect(outcome.notes[0]).to.equal('mocha crashed (exit code 1), before the first test');
  });

  it('counts a process that crashes, and what passed before', async () => {
    const outcome = await run({ 'a.test.ts': `it('one', () => {}); it('two', () => process.kill(process.pid, 'SIGSEGV'));` });
    expect(outcome).to.deep.include({ passed: 1, failed: 1 });
    expect(outcome.notes[0]).to.match(/^mocha crashed \(.*\), in or after "two"$/);
  });

  it('counts a process that exits by itself as if all were well', async () => {
    const outcome = await run({ 'a.test.ts': `it('one', () => process.exit(0)); it('two', () => {});` });
    expect(outcome).to.deep.include({ passed: 0, failed: 1 });
    expect(outcome.notes[0]).to.contain('mocha ended before its tests did');
  });

  it('counts an end that no test explains', async () => {
    const outcome = await run({
      'a.test.ts': `it('one', () => {}); process.on('exit', () => process.kill(process.pid, 'SIGKILL'));`,
    });
    expect(outcome).to.deep.include({ passed: 1, failed: 1 });
  });

  it('kills a suite that hangs', async () => {
    const text = `it('one', () => {}); it('two', function () { this.timeout(0); return new Promise(() => setInterval(() => {}, 1000)); });`;
    const outcome = await run({ 'a.test.ts': text }, { limitMs: 4_000 });
    expect(outcome).to.deep.include({ passed: 1, failed: 1 });
    expect(outcome.notes[0]).to.equal('killed after 4 s, in or after "two"');
  });

  it('counts a process that does not exit after its last test', async () => {
    const outcome = await run({ 'a.test.ts': `it('one', () => { setInterval(() => {}, 1000); });` }, { exitLimitMs: 300 });
    expect(outcome).to.deep.include({ passed: 1, failed: 1 });
    expect(outcome.notes[0]).to.contain('did not exit within 0.3 s');
  });

  it('counts and kills a process that was left behind', async () => {
    const text = `const { spawn } = require('node:child_process'); it('one', () => { spawn('sleep', ['321'], { stdio: 'ignore' }).unref(); });`;
    const outcome = await run({ 'a.test.ts': text });
    expect(outcome).to.deep.include({ passed: 1, failed: 1 });
    const pid = Number(/left running: sleep 321 \(process (\d+)\)/.exec(outcome.notes[0] ?? '')?.[1]);
    expect(pid).to.be.greaterThan(1);
  });

  it('a folder without tests is a failure in CI, and skipped elsewhere', async () => {
    expect(await run({})).to.deep.include({ passed: 0, failed: 0, skipped: 1 });
    expect(await run({}, { strict: true })).to.deep.include({ passed: 0, failed: 1, skipped: 0 });
    expect(await run({}, { folders: ['test/nowhere'], strict: true })).to.deep.include({ failed: 1 });
  });
});
