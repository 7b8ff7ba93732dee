import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { HistoryRecorder, nowNs, parseHistory, readHistory } from '../helpers/history.js';

describe('the recorder of histories', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'lukhas-history-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('keeps what was answered and what is unknown, leaves out what failed, in the order of beginnings', () => {
    const files = ['one', 'two'].map((name) => join(folder, name));
    const [one, two] = files.map((file, at) => new HistoryRecorder<string, number>(`p${at}`, file));
    if (one === undefined || two === undefined) throw new Error('two recorders');
    const before = nowNs();
    const first = one.invoke('x', 'first');
    const second = two.invoke('x', 'second');
    const third = one.invoke('y', 'third');
    const fourth = one.invoke('y', 'fourth');
    two.invoke('z', 'fifth');
    one.ok(third, 3);
    one.ok(first, 1);
    two.unknown(second, 'TIMEOUT');
    one.fail(fourth, 'CONNECTION');
    const after = nowNs();
    one.close();
    two.close();
    const history = readHistory<string, number>(files);
    const { POSITIVE_INFINITY: never } = Number;
    expect(history.map(({ process, key, input, output, end }) => [process, key, input, output, end === never])).to.deep.equal([
      ['p0', 'x', 'first', 1, false],
      ['p1', 'x', 'second', undefined, true],
      ['p0', 'y', 'third', 3, false],
      ['p1', 'z', 'fifth', undefined, true],
    ]);
    const [x, , y] = history;
    expect([before, x?.start, y?.start, y?.end, x?.end, after]).to.deep.equal(
      [before, x?.start, y?.start, y?.end, x?.end, after].sort((a, b) => Number(a) - Number(b)),
    );
  });

  it('needs no file within one process', () => {
    const recorder = new HistoryRecorder('p');
    recorder.ok(recorder.invoke('x', 1), { a: null });
    expect(recorder.operations[0])
      .to.include({ process: 'p', key: 'x', input: 1 })
      .and.deep.include({ output: { a: null } });
  });

  it('reads what a killed process has left, up to half a line at its end', () => {
    const file = join(folder, 'killed');
    const recorder = new HistoryRecorder('p', file);
    recorder.ok(recorder.invoke('x', 1), 1);
    recorder.ok(recorder.invoke('x', 2), 2);
    recorder.close();
    const whole = readFileSync(file, 'utf8');
    writeFileSync(file, whole.slice(0, -5));
    expect(readHistory([file]).map(({ output }) => output)).to.deep.equal([1, undefined]);
    expect(() => parseHistory([whole.replace('"kind":"ok"', '"kind":')])).to.throw(SyntaxError);
  });

  it('refuses two processes of one name, and an end without a beginning', () => {
    const recorder = new HistoryRecorder('p');
    recorder.invoke('x', 1);
    const file = join(folder, 'one');
    const other = new HistoryRecorder('p', file);
    other.ok(other.invoke('x', 1), 1);
    other.close();
    const text = readFileSync(file, 'utf8');
    expect(() => parseHistory([text, text])).to.throw('two processes have the same name');
    expect(() => parseHistory([text.slice(text.indexOf('\n') + 1)])).to.throw('has not begun');
  });
});
