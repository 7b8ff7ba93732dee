/** A seeded source of random numbers: the same seed gives the same numbers on every machine. */
export interface Rng {
  /** A number in [0, 1). */
  next(): number;
  /** An integer from `min` to `max`, both included. */
  int(min: number, max: number): number;
  /** True with this probability. */
  chance(probability: number): boolean;
  /** One of `items`, which must not be empty. */
  pick<T>(items: readonly T[]): T;
}

/** mulberry32 (Tommy Ettinger, public domain): 32 bits of state, good enough to vary tests, not for secrets. */
export function seededRng(seed: number): Rng {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 0x1_0000_0000;
  };
  const int = (min: number, max: number): number => min + Math.floor(next() * (max - min + 1));
  return {
    next,
    int,
    chance: (probability) => next() < probability,
    pick: <T>(items: readonly T[]): T => {
      if (items.length === 0) throw new Error('nothing to pick from');
      return items[int(0, items.length - 1)] as T;
    },
  };
}

/** A growing memory of several agents, as a document to test and measure with. Plain JSON: a field is present or left out, never `undefined`. */
export type Conversation = {
  id: string;
  title: string;
  agents: { name: string; model: string; temperature: number; tools: string[] }[];
  state: AgentState;
  turns: Turn[];
};

export type AgentState = {
  step: number;
  status: string;
  budget: { tokens: number; spent: number };
  flags: { [name: string]: boolean };
  cursor: string | null;
};

export type Turn = {
  id: string;
  role: 'user' | 'assistant' | 'tool' | 'system';
  agent: string;
  at: number;
  text: string;
  toolCalls?: ToolCall[];
  metadata: { tokens: number; latencyMs: number; score: number; tags: string[]; parent: string | null };
};

export type ToolCall = {
  id: string;
  name: string;
  arguments: { query: string; limit: number; filters: string[] };
  result: string | null;
};

export const EDIT_KINDS = ['append', 'field', 'head', 'delete', 'text', 'subtree'] as const;
/**
 * `append` a turn · `field`: change a few scalars · `head`: insert a turn in front · `delete` a turn in the middle · `text`: change
 * a few words inside the longest text (5 KB where the document has room for it) · `subtree`: replace the state or a turn's calls.
 */
export type EditKind = (typeof EDIT_KINDS)[number];

/** The smallest document `makeConversation` makes. */
export const MIN_CONVERSATION_BYTES = 1000;

const EPOCH_MS = 1_700_000_000_000;
const LONG_TEXT_CHARACTERS = 5 * 1024;
const AGENTS = ['planner', 'researcher', 'coder', 'reviewer'] as const;
const ROLES = ['user', 'assistant', 'tool', 'system'] as const;
const TAGS = ['urgent', 'draft', 'billing', 'search', 'code', 'follow-up'] as const;
const WORDS = (
  'the a of to and in for with that it we need check result before next step plan order customer invoice total error retry cache ' +
  'index shard replica version commit patch delta latency budget token memory agent answer question file line test build deploy ' +
  'please could should looks fine wrong missing because however therefore maybe later today résumé naïve Größe 東京 данные 🙂 ' +
  '"quoted" back\\slash'
).split(' ');

/** A document whose JSON has exactly `bytes` bytes (UTF-8): the same one for the same arguments. */
export function makeConversation(seed: number, bytes: number): Conversation {
  if (bytes < MIN_CONVERSATION_BYTES)
    throw new Error(`a conversation has at least ${MIN_CONVERSATION_BYTES} bytes, not ${bytes}`);
  const rng = seededRng(seed);
  const doc: Conversation = {
    id: `conversation-${hex(rng)}`,
    title: sentence(rng, 30),
    agents: AGENTS.slice(0, 2).map((name) => ({
      name,
      model: `model-${rng.int(1, 4)}`,
      temperature: fraction(rng),
      tools: ['search'],
    })),
    state: makeState(rng, 0),
    turns: [],
  };
  const last: Turn = { ...makeTurn(rng, 0, null, 0), toolCalls: [] };
  let missing = bytes - byteLength({ ...doc, turns: [last] });
  for (;;) {
    const long = bytes >= 3 * LONG_TEXT_CHARACTERS && doc.turns.length % 10 === 2;
    const turn = makeTurn(rng, doc.turns.length, doc.turns.at(-1)?.id ?? null, long ? LONG_TEXT_CHARACTERS : rng.int(40, 600));
    const added = byteLength(turn) + 1;
    if (added > missing) break;
    doc.turns.push(turn);
    missing -= added;
  }
  // One byte a character, so that the last text makes up the exact size.
  last.text = 'and so on, '.repeat(Math.ceil(missing / 11)).slice(0, missing);
  doc.turns.push(last);
  return doc;
}

/** A new document with one realistic change; `doc` stays as it is. Which one, `rng` chooses (about half are appends), unless `kind` says. */
export function editConversation(doc: Conversation, rng: Rng, kind?: EditKind): Conversation {
  const next = structuredClone(doc);
  const { turns } = next;
  const chosen = kind ?? (rng.chance(0.5) ? 'append' : rng.pick(EDIT_KINDS));
  if (chosen === 'delete' && turns.length >= 3) {
    turns.splice(rng.int(1, turns.length - 2), 1);
  } else if (chosen === 'head') {
    turns.unshift(makeTurn(rng, next.state.step, null, rng.int(40, 600)));
  } else if (chosen === 'text' && turns.length > 0) {
    const longest = turns.reduce((a, b) => (b.text.length > a.text.length ? b : a));
    longest.text = changeWords(rng, longest.text);
  } else if (chosen === 'field') {
    next.state.status = rng.pick(['planning', 'waiting', 'running', 'done']);
    next.state.budget.spent += rng.int(1, 5000);
    if (turns.length > 0) rng.pick(turns).metadata.score = fraction(rng);
  } else if (chosen === 'subtree') {
    if (turns.length > 0 && rng.chance(0.5)) rng.pick(turns).toolCalls = [makeCall(rng), makeCall(rng)];
    else next.state = makeState(rng, next.state.step);
  } else {
    turns.push(makeTurn(rng, next.state.step, turns.at(-1)?.id ?? null, rng.int(40, 600)));
  }
  next.state.step++;
  return next;
}

function makeState(rng: Rng, step: number): AgentState {
  return {
    step,
    status: 'planning',
    budget: { tokens: rng.int(10, 200) * 1000, spent: rng.int(0, 9999) },
    flags: { approved: rng.chance(0.5), 'needs/review': rng.chance(0.5) },
    cursor: rng.chance(0.5) ? hex(rng) : null,
  };
}

function makeTurn(rng: Rng, index: number, parent: string | null, textCharacters: number): Turn {
  const turn: Turn = {
    id: hex(rng),
    role: rng.pick(ROLES),
    agent: rng.pick(AGENTS),
    at: EPOCH_MS + index * 1000 + rng.int(0, 999),
    text: sentence(rng, textCharacters),
    metadata: {
      tokens: rng.int(1, 4000),
      latencyMs: rng.int(50, 20_000),
      score: fraction(rng),
      tags: [...new Set([rng.pick(TAGS), rng.pick(TAGS)])],
      parent,
    },
  };
  if (rng.chance(0.3)) turn.toolCalls = [makeCall(rng)];
  return turn;
}

function makeCall(rng: Rng): ToolCall {
  return {
    id: hex(rng),
    name: rng.pick(['search', 'fetch', 'run', 'write']),
    arguments: { query: sentence(rng, 40), limit: rng.int(1, 100), filters: [rng.pick(TAGS)] },
    result: rng.chance(0.3) ? null : sentence(rng, 120),
  };
}

/** Replaces one to three words somewhere inside and puts one in. */
function changeWords(rng: Rng, text: string): string {
  const words = text.split(' ');
  for (let n = rng.int(1, 3); n > 0; n--) words[rng.int(0, words.length - 1)] = `edited-${hex(rng)}`;
  words.splice(rng.int(0, words.length), 0, rng.pick(WORDS));
  return words.join(' ');
}

/** Words, at least `characters` long together, unless that is 0. */
function sentence(rng: Rng, characters: number): string {
  const words: string[] = [];
  for (let length = 0; length < characters; ) {
    const word = rng.pick(WORDS);
    words.push(word);
    length += word.length + 1;
  }
  return words.join(' ');
}

const hex = (rng: Rng): string => rng.int(0, 0xffff_ffff).toString(16).padStart(8, '0');
const fraction = (rng: Rng): number => rng.int(0, 1000) / 1000;
const byteLength = (value: unknown): number => Buffer.byteLength(JSON.stringify(value));
