/**
 * Puts a check between a connection's stream and the parser of ioredis, which gets whole replies that are framed rightly and can be
 * answers to what was asked, one by one, and nothing else. What it would do with others: end the process (it throws in a tick of its
 * own), turn round for ever, or hand replies to other commands.
 */
import type { Redis } from 'ioredis';
import { ReplyScanner } from './ReplyScanner.js';
import { type AskedCommand, ReplyRules } from './replyRules.js';

/** What of an ioredis client has no type. */
interface Inside {
  readonly stream?: GuardedStream;
  readonly condition?: { readonly protocol?: number; readonly subscriber?: unknown };
  readonly commandQueue: { peekFront(): { readonly command: AskedCommand } | undefined };
}

interface GuardedStream {
  readonly destroyed: boolean;
  listeners(event: 'data'): ((chunk: Buffer) => void)[];
  removeAllListeners(event: 'data'): void;
  on(event: 'data', listener: (chunk: Buffer) => void): void;
}

export interface StreamGuard {
  /** Whole replies and messages that have come. */
  readonly replies: number;
}

/**
 * Guards the stream that the client has now; to be called when it says `connect`, before anything has come. `damaged` must see to it that
 * the stream is destroyed: nothing after the damage is passed on.
 */
export function guardStream(client: Redis, damaged: (what: string) => void): StreamGuard {
  const inside = client as unknown as Inside;
  const { stream } = inside;
  const guard = { replies: 0 };
  const parsers = stream?.listeners('data') ?? [];
  if (stream === undefined || parsers.length === 0)
    throw new Error('ioredis reads its stream in another way than this was made for');
  const scanner = new ReplyScanner();
  const rules = new ReplyRules();
  let carry: Buffer | null = null;
  let over = false;

  const pass = (bytes: Buffer): void => {
    for (const parser of parsers) parser.call(stream, bytes);
  };
  const checked = (bytes: Buffer): void => {
    const { condition } = inside;
    const resp3 = condition?.protocol === 3;
    scanner.keepArrays = !resp3;
    for (let from = 0; from < bytes.length && !stream.destroyed; ) {
      const end = scanner.scan(bytes, from);
      if (scanner.complete) {
        const asked = inside.commandQueue.peekFront()?.command;
        const wrong = rules.damage(scanner, asked, { resp3, subscriber: Boolean(condition?.subscriber) });
        if (wrong !== null) throw new Error(wrong);
        guard.replies += 1;
      }
      if (end > from) pass(from === 0 && end === bytes.length ? bytes : bytes.subarray(from, end));
      if (!scanner.complete) {
        if (end < bytes.length) carry = bytes.subarray(end);
        return;
      }
      from = end;
    }
  };

  stream.removeAllListeners('data');
  stream.on('data', (chunk) => {
    if (over) return;
    const bytes = carry === null ? chunk : Buffer.concat([carry, chunk]);
    carry = null;
    try {
      checked(bytes);
    } catch (error) {
      over = true;
      damaged(error instanceof Error ? error.message : String(error));
    }
  });
  return guard;
}
