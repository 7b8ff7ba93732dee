/** The documents that are written and read: conversations of several agents, of an exact length, the same in every run. */
import { type Conversation, makeConversation } from '../../../test/helpers/random.js';

export const PAYLOADS = [
  { label: '1 KB', bytes: 1024 },
  { label: '10 KB', bytes: 10 * 1024 },
  { label: '100 KB', bytes: 100 * 1024 },
] as const;

export const CONCURRENCIES = [1, 50] as const;

/** Different documents of one length; a power of two of them. */
export const documents = (bytes: number, count = 8): readonly Conversation[] =>
  Array.from({ length: count }, (_, seed) => makeConversation(seed + 1, bytes));

/** The small edit: two numbers, one in front, one in the middle of the document. The length stays about the same. */
export function edit(draft: Conversation, number: number): void {
  draft.state.step = number;
  const turn = draft.turns[draft.turns.length >> 1];
  if (turn !== undefined) turn.metadata.tokens = number;
}

/** The same edit of a document that must stay as it is, as a careful user of plain objects makes it: what is not touched is shared. */
export function edited(doc: Conversation, number: number): Conversation {
  const middle = doc.turns.length >> 1;
  const turns = doc.turns.map((turn, index) =>
    index === middle ? { ...turn, metadata: { ...turn.metadata, tokens: number } } : turn,
  );
  return { ...doc, state: { ...doc.state, step: number }, turns };
}
