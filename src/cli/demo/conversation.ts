import { type Random, seeded } from './random.js';

/** A conversation of several participants over one task: the document grows by a turn with each revision, and some of it changes. */
export interface Conversation {
  readonly title: string;
  readonly participants: readonly { readonly name: string; readonly role: string }[];
  plan: { step: string; status: 'open' | 'active' | 'done'; owner: string | null }[];
  /** The latest stands first, so that each one moves the others. */
  notes: string[];
  facts: Record<string, { value: string | number | boolean; by: string; turn: number }>;
  turns: { n: number; from: string; to: string; at: string; text: string; tool?: { name: string; ok: boolean; ms: number } }[];
  usage: { turns: number; tokens: Record<string, number> };
}

/** What one turn does to a conversation. */
export interface Turn {
  readonly entry: Conversation['turns'][number];
  readonly tokens: number;
  readonly note?: string;
  readonly fact?: { readonly name: string; readonly value: string | number | boolean };
  readonly forget?: true;
  readonly advance?: true;
}

const ROLES = ['planner', 'researcher', 'writer', 'reviewer', 'operator'] as const;
const TASKS = [
  'migrate the billing service',
  'summarise the incident',
  'plan the release',
  'compare three suppliers',
  'audit the rights',
];
const STEPS = [
  'collect the sources',
  'draft',
  'check the numbers',
  'ask for review',
  'apply the remarks',
  'publish',
  'report back',
];
const TOOLS = ['search', 'read_file', 'query', 'send_mail', 'calendar'];
const OPENINGS = [
  'I looked at',
  'We still need',
  'Next comes',
  'There is a doubt about',
  'I finished',
  'Please check',
  'According to the log,',
];
const OBJECTS = [
  'the March figures',
  'the second draft',
  'the naïve estimate',
  'section 4',
  'the “old” contract',
  'the café’s order',
  '日本 office',
];
const CLOSINGS = [
  'and it fits.',
  'but one number is off.',
  'before noon.',
  'as agreed.',
  'so I open a ticket.',
  '— see the notes.',
  '✅',
];
const FACTS = ['deadline', 'budget', 'owner', 'region', 'risk', 'version', 'approved', 'contact'];
const EPOCH = Date.UTC(2026, 0, 5, 9);

/** The state before the first turn. */
export function newConversation(seed: string): Conversation {
  const random = seeded(`${seed}/start`);
  return {
    title: random.pick(TASKS),
    participants: ROLES.map((role, n) => ({ name: `${role}-${n + 1}`, role })),
    plan: STEPS.map((step) => ({ step, status: 'open', owner: null })),
    notes: [],
    facts: {},
    turns: [],
    usage: { turns: 0, tokens: {} },
  };
}

/** The turn number `n`, counted from 1: the same for the same seed. */
export function turnOf(seed: string, n: number): Turn {
  const random = seeded(`${seed}/${n}`);
  const name = (): string => {
    const at = random.below(ROLES.length);
    return `${ROLES[at]}-${at + 1}`;
  };
  const entry = {
    n,
    from: name(),
    to: name(),
    at: new Date(EPOCH + n * 7_000).toISOString(),
    text: text(random),
    ...(random.chance(0.3) ? { tool: { name: random.pick(TOOLS), ok: random.chance(0.9), ms: 5 + random.below(2_000) } } : {}),
  };
  return {
    entry,
    tokens: Math.ceil(entry.text.length / 4),
    ...(random.chance(0.2) ? { note: text(random) } : {}),
    ...(random.chance(0.3) ? { fact: { name: random.pick(FACTS), value: factValue(random) } } : {}),
    ...(random.chance(0.05) ? { forget: true } : {}),
    ...(random.chance(0.15) ? { advance: true } : {}),
  };
}

/** Changes `draft` by one turn. */
export function applyTurn(draft: Conversation, turn: Turn): void {
  const { entry, tokens } = turn;
  draft.turns.push(entry);
  draft.usage.turns++;
  draft.usage.tokens[entry.from] = (draft.usage.tokens[entry.from] ?? 0) + tokens;
  if (turn.note !== undefined) draft.notes.unshift(turn.note);
  if (turn.fact) draft.facts[turn.fact.name] = { value: turn.fact.value, by: entry.from, turn: entry.n };
  const oldest = Object.keys(draft.facts)[0];
  if (turn.forget && oldest !== undefined) delete draft.facts[oldest];
  if (turn.advance) advance(draft, entry.from);
}

function advance(draft: Conversation, owner: string): void {
  const active = draft.plan.find(({ status }) => status === 'active');
  if (active) active.status = 'done';
  const next = draft.plan.find(({ status }) => status === 'open');
  if (next) Object.assign(next, { status: 'active', owner });
  else for (const step of draft.plan) Object.assign(step, { status: 'open', owner: null }); // a new round
}

function text(random: Random): string {
  const sentence = (): string => `${random.pick(OPENINGS)} ${random.pick(OBJECTS)} ${random.pick(CLOSINGS)}`;
  return Array.from({ length: 1 + random.below(4) }, sentence).join(' ');
}

function factValue(random: Random): string | number | boolean {
  return random.pick([random.below(100_000), random.chance(0.5), random.pick(OBJECTS), random.below(1_000) / 8]);
}
