import { expect } from 'chai';
import { ContextError } from '../../src/core/errors.js';
import { formatBytes, formatDuration, parseDuration, parseSize } from '../../src/core/units.js';

const WRONG: readonly unknown[] = [
  '',
  '10',
  'ms',
  '-1s',
  '1e3s',
  '1 2s',
  '0x10s',
  '.5s',
  '1.s',
  '5 parsecs',
  'constructor',
  '1constructor',
  -1,
  -0.4,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.MAX_SAFE_INTEGER + 2,
  '999999999999999d',
  null,
  undefined,
  true,
  10n,
  {},
  ['1s'],
];

describe('durations', () => {
  const right: readonly (readonly [given: number | string, ms: number])[] = [
    [0, 0],
    [250, 250],
    [0.6, 1],
    ['250ms', 250],
    ['0s', 0],
    ['10s', 10_000],
    ['5m', 300_000],
    ['1h', 3_600_000],
    ['7d', 604_800_000],
    ['1.5h', 5_400_000],
    ['0.0004s', 0],
    [' 10 s ', 10_000],
  ];
  for (const [given, ms] of right) {
    it(`reads ${JSON.stringify(given)}`, () => expect(parseDuration(given, 'ttl')).to.equal(ms));
  }

  for (const given of [...WRONG, '10S', '1kb', '1b']) {
    it(`refuses ${typeof given === 'string' ? JSON.stringify(given) : String(given)}`, () => {
      expect(() => parseDuration(given as string, 'locks.ttl'))
        .to.throw(ContextError, /^option locks\.ttl: .+ is not a duration; give .*'250ms'/)
        .with.property('code', 'INVALID_OPTION');
    });
  }

  it('says what was given', () => {
    expect(() => parseDuration('soon', 'ttl')).to.throw('"soon"');
    expect(() => parseDuration(-5, 'ttl')).to.throw('-5');
  });

  it('writes them for tables', () => {
    const written = [
      0,
      0.0004,
      0.35,
      0.9999,
      0.99996,
      1.54,
      999.96,
      1000,
      12_345,
      60_000,
      90_000,
      5_400_000,
      86_400_000 * 7,
      -1500,
    ];
    expect(written.map((ms) => formatDuration(ms))).to.deep.equal([
      '0 us',
      '0.4 us',
      '350 us',
      '999.9 us',
      '1 ms',
      '1.5 ms',
      '1 s',
      '1 s',
      '12.3 s',
      '1 m',
      '1.5 m',
      '1.5 h',
      '7 d',
      '-1.5 s',
    ]);
  });
});

describe('sizes', () => {
  const right: readonly (readonly [given: number | string, bytes: number])[] = [
    [0, 0],
    [1024, 1024],
    ['512b', 512],
    ['64kb', 65_536],
    ['64KB', 65_536],
    ['1mb', 1_048_576],
    ['2Gb', 2_147_483_648],
    ['1.5kb', 1536],
    [' 1 mb ', 1_048_576],
  ];
  for (const [given, bytes] of right) {
    it(`reads ${JSON.stringify(given)}`, () => expect(parseSize(given, 'limits.contextBytes')).to.equal(bytes));
  }

  for (const given of [...WRONG, '1s', '1tb', '1k', '1kib']) {
    it(`refuses ${typeof given === 'string' ? JSON.stringify(given) : String(given)}`, () => {
      expect(() => parseSize(given as string, 'memory.local'))
        .to.throw(ContextError, /^option memory\.local: .+ is not a size; give .*'64kb'/)
        .with.property('code', 'INVALID_OPTION');
    });
  }

  it('says what was given, as it was given', () => {
    expect(() => parseSize('1TB', 'memory.local')).to.throw('"1TB"');
  });

  it('writes them for tables', () => {
    const written = [0, 1, 1023, 1024, 1536, 1024 ** 2 - 1, 1024 ** 2, 64 * 1024 ** 2, 5000 * 1024 ** 3, -2048];
    expect(written.map((bytes) => formatBytes(bytes))).to.deep.equal([
      '0 b',
      '1 b',
      '1,023 b',
      '1 kb',
      '1.5 kb',
      '1 mb',
      '1 mb',
      '64 mb',
      '5,000 gb',
      '-2 kb',
    ]);
  });
});
