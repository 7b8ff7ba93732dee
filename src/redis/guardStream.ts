/**
 * Puts a check between a connection's stream and the parser of ioredis, which gets only what is framed rightly and can answer what was
 * asked. What it would do with the rest: end the process (it throws in a tick of its own), turn round for ever, or hand replies to other
 * commands. Nothing is passed on of what comes together with damage: it often shows a reply later, by what is left over of the damaged one.
 */
import type { Redis } from 'ioredis';
import { ReplyScanner } from './ReplyScanner.js';
import { type AskedCommand, ReplyRules } from './replyRules.js';

/** What of an ioredis client has no type. */
interface Inside {
  readonly stream?: GuardedStream;
  readonly condition?: { readonly protocol?: number; readonly subscriber?: unknown };
  readonly commandQueue: { peekAt(index: number): { readonly command: AskedCommand } | undefined };
}

interface GuardedStream {
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
 * the stream is destroyed: nothing after the damage is passed on. `foreign`: scripts run on it that are not ours.
 */
export function guardStream(client: Redis, damaged: (what: string) => void, foreign = false): StreamGuard {
  const inside = client as unknown as Inside;
  const { stream } = inside;
  const guard = { replies: 0 };
  const parsers = stream?.listeners('data') ?? [];
  if (stream === undefined || parsers.length === 0)
    throw new Error('ioredis reads its stream in another way than this was made for');
  const scanner = new ReplyScanner();
  const rules = new ReplyRules(foreign);
  let carry: Buffer | null = null;
  let over = false;

  /** Goes through all that has come; what it answers is right so far, up to the end of a reply or to a place inside of one. */
  const checked = (bytes: Buffer): number => {
    const { condition, commandQueue } = inside;
    const resp3 = condition?.protocol === 3;
    const subscriber = Boolean(condition?.subscriber);
    scanner.keepArrays = !resp3;
    let replies = 0;
    let answered = 0;
    for (let from = 0; ; ) {
      const end = scanner.scan(bytes, from);
      if (!scanner.complete) {
        guard.replies += replies;
        return end;
      }
      replies += 1;
      if (rules.answers(scanner, commandQueue.peekAt(answered)?.command, { resp3, subscriber })) answered += 1;
      from = end;
    }
  };

  stream.removeAllListeners('data');
  stream.on('data', (chunk) => {
    if (over) return;
    const bytes = carry === null ? chunk : Buffer.concat([carry, chunk]);
    carry = null;
    try {
      const end = checked(bytes);
      if (end < bytes.length) carry = bytes.subarray(end);
      if (end > 0) for (const parser of parsers) parser.call(stream, end < bytes.length ? bytes.subarray(0, end) : bytes);
    } catch (error) {
      over = true;
      damaged(error instanceof Error ? error.message : String(error));
    }
  });
  return guard;
}
