import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { expect } from 'chai';
import { NODE_SCRIPT_NAMES, SCRIPT_NAMES, script, scriptSource } from '../../src/redis/scripts.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const lua = (name: string): string => readFileSync(join(ROOT, 'lua', `${name}.lua`), 'utf8');
type Scripts = Pick<typeof import('../../src/redis/scripts.js'), 'scriptSource'>;

/** A package as it is installed, or as it is checked out, with the one module that looks for `lua/` and what that needs. */
function layout(folder: string, sources: string): string {
  for (const module of ['redis/scripts.ts', 'core/checksum.ts', 'core/errors.ts']) {
    cpSync(join(ROOT, 'src', module), join(folder, sources, module));
  }
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  return pathToFileURL(join(folder, sources, 'redis/scripts.ts')).href;
}

describe('the Lua scripts', () => {
  for (const name of [...SCRIPT_NAMES, ...NODE_SCRIPT_NAMES]) {
    it(`${name}: its includes are in place, once each and before what uses them`, () => {
      const { source } = script(name);
      expect(source).not.to.match(/^-- @include/m);
      const wanted = [...lua(name).matchAll(/^-- @include (\w+)$/gm)].map(([, include]) => lua(`include/${include}`).trimEnd());
      let after = 0;
      for (const include of wanted) {
        expect(source.split(include)).to.have.length(2);
        expect(source.indexOf(include)).to.be.at.least(after);
        after = source.indexOf(include) + include.length;
      }
      const ownLines = lua(name)
        .split('\n')
        .filter((line) => !line.startsWith('-- @include'));
      for (const line of ownLines) expect(source).to.include(line);
    });

    it(`${name}: its SHA is that of what is sent`, () => {
      const { source, sha } = script(name);
      expect(sha).to.equal(createHash('sha1').update(source).digest('hex'));
      expect(script(name)).to.equal(script(name));
    });

    it(`${name}: is read-only where its first line says so`, () => {
      const { source, readOnly } = script(name);
      expect(source.startsWith('#!lua')).to.equal(true);
      expect(readOnly).to.equal(source.split('\n', 1)[0]?.includes('no-writes') === true);
    });
  }

  it('are all that lie in the folder, but for the one that people run', () => {
    const files = readdirSync(join(ROOT, 'lua')).filter((file) => file.endsWith('.lua'));
    expect(files.map((file) => file.slice(0, -4)).sort()).to.deep.equal(
      [...SCRIPT_NAMES, ...NODE_SCRIPT_NAMES, 'inspect'].sort(),
    );
  });

  it('what is included includes nothing itself: it would not be resolved', () => {
    for (const file of readdirSync(join(ROOT, 'lua/include'))) {
      expect(readFileSync(join(ROOT, 'lua/include', file), 'utf8'), file).not.to.include('-- @include');
    }
  });

  it('inspect runs by redis-cli as it lies there: it has no includes and no shebang', () => {
    expect(scriptSource('inspect')).to.equal(lua('inspect'));
    expect(lua('inspect').startsWith('#!')).to.equal(false);
  });

  describe('are found', () => {
    let folder: string;
    beforeEach(() => {
      folder = mkdtempSync(join(tmpdir(), 'lukhas-scripts-'));
      mkdirSync(join(folder, 'lua/include'), { recursive: true });
      writeFileSync(join(folder, 'lua/read.lua'), '-- @include clock\nreturn here');
      writeFileSync(join(folder, 'lua/include/clock.lua'), '-- the clock\n');
    });
    afterEach(() => rmSync(folder, { recursive: true }));

    for (const [what, sources] of [
      ['beside the sources', 'src'],
      ['beside the build', 'dist/src'],
    ] as const) {
      it(what, async () => {
        const { scriptSource: found } = (await import(layout(folder, sources))) as Scripts;
        expect(found('read')).to.equal('-- the clock\nreturn here');
      });
    }

    it('or the installation is said to be incomplete', async () => {
      rmSync(join(folder, 'lua'), { recursive: true });
      const { scriptSource: found } = (await import(layout(folder, 'dist/src'))) as Scripts;
      expect(() => found('read')).to.throw(/lua folder is missing.*install it again/);
    });
  });

  it('one that does not exist is an error, not an empty script', () => {
    expect(() => scriptSource('nowhere')).to.throw(/ENOENT/);
  });
});
