/** Whether a reply can be the answer to the command that is to get it. */
import { type ReplyScanner, TYPE, WireDamage } from './ReplyScanner.js';

/** What ioredis keeps of a command that waits for its reply. */
export interface AskedCommand {
  readonly name: string;
  readonly args: readonly unknown[];
  /** Between MULTI and EXEC. */
  readonly inTransaction?: boolean;
}

type Rule = (reply: ReplyScanner, args: readonly unknown[], resp3: boolean) => boolean;

const isArray: Rule = ({ type, count }) => type === TYPE.array && count >= 0;
const isText: Rule = ({ type }) => type === TYPE.bulk || type === TYPE.verbatim;
const isInteger: Rule = ({ type }) => type === TYPE.integer;
const isPair: Rule = ({ type, count }) => type === TYPE.array && count === 2;
/** Each has an identifier and fields. */
const isEntries: Rule = ({ type, count, pairs }) => type === TYPE.array && count >= 0 && pairs;
/** One answer for each argument after the key. */
const isRow: Rule = ({ type, count }, args) => type === TYPE.array && count === args.length - 1;

const isWord = (arg: unknown, word: string): boolean => typeof arg === 'string' && arg.toUpperCase() === word;

/** By command, as ioredis names it. All that a store asks often answers an array: what comes loose from one fits none of these. */
const RULES: Readonly<Record<string, Rule>> = {
  evalsha: isArray,
  evalsha_ro: isArray,
  hmget: isRow,
  zmscore: isRow,
  hgetall: ({ type, count }, _, resp3) => (resp3 ? type === TYPE.map : type === TYPE.array && count >= 0 && count % 2 === 0),
  xrange: isEntries,
  xrevrange: isEntries,
  scan: isPair,
  zscan: isPair,
  time: isPair,
  hset: isInteger,
  hsetnx: isInteger,
  hget: ({ type }) => type === TYPE.bulk || type === TYPE.null,
  memory: ({ type, count }, args) =>
    !isWord(args[0], 'USAGE') || type === TYPE.integer || type === TYPE.null || (type === TYPE.bulk && count < 0),
  ping: ({ type, text, first }) => (type === TYPE.string ? text === 'PONG' : type === TYPE.array && first === 'pong'),
  info: isText,
  script: (reply, args, resp3) => !isWord(args[0], 'LOAD') || isText(reply, args, resp3),
  hello: ({ type }) => type === TYPE.map,
};

const KIND = /^[ps]?message$/;
const CONFIRMATION = /^[ps]?(un)?subscribe$/;

/** What a Redis that took in what was sent never answers to it: the request was damaged, or pieces of one were taken for others. */
function damagedRequest(text: string, { name }: AskedCommand): boolean {
  const unknown = /^ERR unknown command '([^']*)'/.exec(text);
  if (unknown !== null) return unknown[1]?.toLowerCase() !== name.toLowerCase();
  return /^ERR (Protocol error|wrong number of arguments)/.test(text);
}

/** Follows the replies of one connection: a SUBSCRIBE has one for each channel. */
export class ReplyRules {
  readonly #foreign: boolean;
  #subscribing: AskedCommand | null = null;
  #confirmed = 0;

  /** `foreign`: the scripts are not ours, and may answer anything. */
  constructor(foreign = false) {
    this.#foreign = foreign;
  }

  /**
   * Whether the reply is the last one to `asked`, the oldest command without one; if not, it is a message or one of several confirmations.
   *
   * @throws WireDamage where it can be neither
   */
  answers(
    reply: ReplyScanner,
    asked: AskedCommand | undefined,
    { resp3, subscriber }: { readonly resp3: boolean; readonly subscriber: boolean },
  ): boolean {
    const { type } = reply;
    if (type === TYPE.push) return this.#message(reply, asked);
    const name = asked?.name.toLowerCase();
    const isError = type === TYPE.error || type === TYPE.bulkError;
    // in RESP2 a message is an array, and so is a pong among them
    if (!resp3 && !isError && (subscriber || this.#subscribing !== null || CONFIRMATION.test(name ?? ''))) {
      if (name === 'quit' || (name === 'ping' && RULES.ping?.(reply, [], resp3) === true)) return true;
      if (type === TYPE.array) return this.#message(reply, asked);
      throw new WireDamage('a message without parts');
    }
    if (asked === undefined || name === undefined) throw new WireDamage('a reply to nothing that was asked');
    if (isError) {
      if (!damagedRequest(reply.text, asked)) return true;
      throw new WireDamage(`Redis was sent something else than ${name}, it says ${JSON.stringify(reply.text.slice(0, 100))}`);
    }
    if (CONFIRMATION.test(name)) throw new WireDamage(`a reply to ${name} that confirms nothing`);
    if (asked.inTransaction === true && type === TYPE.string && reply.text === 'QUEUED') return true;
    if (this.#foreign && name.startsWith('evalsha')) return true;
    if (RULES[name]?.(reply, asked.args, resp3) === false) throw new WireDamage(`a reply that cannot be one to ${name}`);
    return true;
  }

  /** `message` with channel and bytes, or the confirmation of the channel that is next in the oldest command. */
  #message({ count, first, second }: ReplyScanner, asked: AskedCommand | undefined): boolean {
    if (first === null) throw new WireDamage('a message without a kind');
    if (KIND.test(first)) {
      if (count === (first === 'pmessage' ? 4 : 3) && second !== null) return false;
      throw new WireDamage('a message without its parts');
    }
    if (!CONFIRMATION.test(first)) throw new WireDamage('a message of an unknown kind');
    if (count !== 3 || asked?.name.toLowerCase() !== first) throw new WireDamage('a confirmation of what was not asked');
    if (this.#subscribing !== asked) {
      this.#subscribing = asked;
      this.#confirmed = 0;
    }
    const channel = asked.args[this.#confirmed];
    this.#confirmed += 1;
    if (String(channel) !== second) throw new WireDamage('a confirmation of another channel than was asked for');
    return this.#confirmed === asked.args.length;
  }
}
