import { expect } from 'chai';
import { ReplyScanner, TYPE, WireDamage } from '../../src/redis/ReplyScanner.js';
import { type AskedCommand, ReplyRules } from '../../src/redis/replyRules.js';

const MESSAGE = '>3\r\n$7\r\nmessage\r\n$9\r\n{lc:ä}:a\r\n$12\r\nlc2 full\r\n12\r\n';

/** Replies of every type, one after the other. */
const REPLIES = [
  '+OK\r\n',
  '-ERR something with a longer text\r\n',
  ':-12345\r\n',
  '$0\r\n\r\n',
  '$5\r\na\r\nbc\r\n',
  '$-1\r\n',
  '*-1\r\n',
  '*0\r\n',
  '_\r\n',
  '#t\r\n',
  ',-1.5e+20\r\n',
  ',inf\r\n',
  '(123456789012345678901234567890\r\n',
  '!9\r\nERR wrong\r\n',
  '=8\r\ntxt:abcd\r\n',
  '%2\r\n+a\r\n:1\r\n$1\r\nb\r\n*2\r\n_\r\n%0\r\n',
  '~1\r\n:1\r\n',
  '*3\r\n*2\r\n$1\r\na\r\n*0\r\n$-1\r\n*1\r\n*1\r\n:1\r\n',
  MESSAGE,
];

/** The types of the replies in the chunks, given as a connection does: what is left over comes again with the next. */
function types(chunks: readonly Buffer[]): { types: number[]; passed: string; left: number } {
  const scanner = new ReplyScanner();
  const found: number[] = [];
  let passed = '';
  let carry: Buffer = Buffer.alloc(0);
  for (const chunk of chunks) {
    const bytes = Buffer.concat([carry, chunk]);
    let from = 0;
    do {
      const end = scanner.scan(bytes, from);
      passed += bytes.toString('latin1', from, end);
      from = end;
      if (scanner.complete) found.push(scanner.type);
    } while (scanner.complete);
    carry = bytes.subarray(from);
  }
  return { types: found, passed, left: carry.length };
}

const scanOne = (text: string): ReplyScanner => {
  const scanner = new ReplyScanner();
  scanner.scan(Buffer.from(text), 0);
  return scanner;
};

describe('ReplyScanner', () => {
  const all = Buffer.from(REPLIES.join(''));
  const expected = REPLIES.map((reply) => reply.charCodeAt(0));

  it('finds the ends of replies of every type, wherever the stream is cut', () => {
    const whole = { types: expected, passed: all.toString('latin1'), left: 0 };
    expect(types([all])).to.deep.equal(whole);
    expect(types([...all].map((byte) => Buffer.of(byte)))).to.deep.equal(whole);
    for (let cut = 0; cut <= all.length; cut += 1) expect(types([all.subarray(0, cut), all.subarray(cut)])).to.deep.equal(whole);
  });

  it('tells kind and channel of a message, wherever the stream is cut', () => {
    const bytes = Buffer.from(MESSAGE);
    for (let cut = 0; cut < bytes.length; cut += 1) {
      const scanner = new ReplyScanner();
      const end = scanner.scan(bytes.subarray(0, cut), 0);
      scanner.scan(bytes.subarray(end), 0);
      expect([scanner.complete, scanner.count, scanner.first, scanner.second]).to.deep.equal([true, 3, 'message', '{lc:ä}:a']);
    }
  });

  const damaged: readonly (readonly [what: string, bytes: string])[] = [
    ['an unknown type', 'X1\r\n'],
    ['an unknown type inside', '*1\r\nX1\r\n'],
    ['a letter for a digit', '$1x\r\n'],
    ['a digit below 0, which would be a way back', '$!5\r\nabc\r\n'],
    ['a negative length', '$-5\r\n'],
    ['a negative count', '%-1\r\n'],
    ['no length', '$\r\n\r\n'],
    ['a leading zero', '$05\r\nabcde\r\n'],
    ['a line end of a length that is none', '$5\rXabcde\r\n'],
    ['a string longer than announced', '$3\r\nabcd\r\n'],
    ['a string shorter than announced', '$5\r\nabcd\r\n:1\r\n'],
    ['a length that nothing can have', '$999999999\r\n'],
    ['a count that nothing can have', '*99999999\r\n'],
    ['too many levels', '*1\r\n'.repeat(9)],
    ['a message inside of a reply', '*1\r\n>1\r\n+a\r\n'],
    ['an integer that is none', ':1x\r\n'],
    ['an integer without digits', ':-\r\n'],
    ['a double that is none', ',abc\r\n'],
    ['a boolean that is none', '#x\r\n'],
    ['a null with something in it', '_x\r\n'],
    ['an error without a name', '-8\r\n'],
    ['a line end in a line', '+a\nb\r\n'],
    ['a line without an end', `+${'x'.repeat(70_000)}`],
  ];
  for (const [what, bytes] of damaged) {
    it(`refuses ${what}`, () => {
      expect(() => scanOne(bytes)).to.throw(WireDamage);
    });
  }

  it('passes nothing of a length on before it has seen the end of it', () => {
    const scanner = new ReplyScanner();
    expect(scanner.scan(Buffer.from('*-'), 0)).to.equal(0);
    expect(scanner.scan(Buffer.from('$12'), 0)).to.equal(0);
    expect(scanner.scan(Buffer.from('$3\r\nabc\r'), 0)).to.equal(7);
  });
});

describe('ReplyRules', () => {
  const resp3 = { resp3: true, subscriber: false };
  const command = (name: string, ...args: string[]): AskedCommand => ({ name, args });
  const answers = (reply: string, asked: AskedCommand | undefined, protocol = resp3): boolean => {
    const scanner = new ReplyScanner();
    scanner.keepArrays = !protocol.resp3;
    scanner.scan(Buffer.from(reply), 0);
    expect(scanner.complete).to.equal(true);
    return new ReplyRules().answers(scanner, asked, protocol);
  };
  const refused = (reply: string, asked: AskedCommand | undefined, protocol = resp3): void => {
    expect(() => answers(reply, asked, protocol)).to.throw(WireDamage);
  };

  it('knows what the commands of a store are answered', () => {
    expect(answers('*2\r\n_\r\n$1\r\na\r\n', command('hmget', 'key', 'a', 'b'))).to.equal(true);
    refused('*1\r\n_\r\n', command('hmget', 'key', 'a', 'b'));
    refused(':1\r\n', command('evalsha', 'sha', '0'));
    refused('*0\r\n', command('hgetall', 'key'));
    expect(answers('*2\r\n+a\r\n+b\r\n', command('hgetall', 'key'), { resp3: false, subscriber: false })).to.equal(true);
    expect(answers('*1\r\n*2\r\n+1-0\r\n*0\r\n', command('xrange', 'key'))).to.equal(true);
    refused('*2\r\n*2\r\n+1-0\r\n*0\r\n*3\r\n_\r\n_\r\n_\r\n', command('xrange', 'key'));
    expect(answers('*1\r\n:1\r\n', command('script', 'EXISTS', 'sha'))).to.equal(true);
    refused('*1\r\n:1\r\n', command('script', 'LOAD', 'source'));
    expect(answers('+QUEUED\r\n', { ...command('hmget', 'key', 'a'), inTransaction: true })).to.equal(true);
    expect(answers(':1\r\n', command('unheardof'))).to.equal(true);
    refused('+OK\r\n', undefined);
  });

  it('tells errors that a request cannot have caused that arrived as it was sent', () => {
    expect(answers('-NOSCRIPT No matching script\r\n', command('evalsha', 'sha', '0'))).to.equal(true);
    expect(answers("-ERR unknown command 'hmget', with args beginning with: \r\n", command('HMGET', 'key', 'a'))).to.equal(true);
    refused("-ERR unknown command '$12', with args beginning with: \r\n", command('hmget', 'key', 'a'));
    refused('-ERR Protocol error: invalid bulk length\r\n', command('hmget', 'key', 'a'));
  });

  it('follows a SUBSCRIBE channel by channel, in either protocol', () => {
    for (const [mark, protocol] of [
      ['>', resp3],
      ['*', { resp3: false, subscriber: false }],
    ] as const) {
      const asked = command('subscribe', 'one', 'two');
      const rules = new ReplyRules();
      const tell = (kind: string, channel: string): boolean => {
        const scanner = new ReplyScanner();
        scanner.keepArrays = !protocol.resp3;
        scanner.scan(Buffer.from(`${mark}3\r\n$${kind.length}\r\n${kind}\r\n$${channel.length}\r\n${channel}\r\n:1\r\n`), 0);
        return rules.answers(scanner, asked, protocol);
      };
      expect(tell('subscribe', 'one')).to.equal(false);
      expect(tell('message', 'one')).to.equal(false);
      expect(tell('subscribe', 'two')).to.equal(true);
      expect(() => tell('subscribe', 'three')).to.throw(WireDamage);
      expect(() => tell('unsubscribe', 'one')).to.throw(WireDamage);
      expect(() => tell('messagd', 'one')).to.throw(WireDamage);
    }
    refused('+OK\r\n', command('subscribe', 'one'));
    expect(answers('*2\r\n$4\r\npong\r\n$0\r\n\r\n', command('ping'), { resp3: false, subscriber: true })).to.equal(true);
    refused('>1\r\n_\r\n', undefined);
    expect(TYPE.push).to.equal('>'.charCodeAt(0));
  });
});
