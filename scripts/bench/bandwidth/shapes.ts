/** Documents that are no conversations: containers with thousands of children, of which one changes. */
import type { JsonValue } from '../../../src/core/json.js';

type Row = { id: number; name: string; price: number };
type Entry = { status: string; count: number };
type Draft = { state: Record<string, Entry>; rows: Row[]; values: number[] };

export interface Shape {
  readonly label: string;
  readonly make: () => JsonValue;
  /** Changes one child of a draft, another one each time. */
  readonly change: (draft: unknown, number: number) => void;
}

/** Far from one another, and each comes once before one comes again. */
const place = (number: number, count: number): number => (number * 7_919 + (count >> 1)) % count;

function stateMap(keys: number): Shape {
  return {
    label: `state map, ${keys.toLocaleString('en')} keys`,
    make: () => ({
      state: Object.fromEntries(Array.from({ length: keys }, (_, id) => [`agent-${id}`, { status: 'idle', count: id }])),
    }),
    change: (draft, number) => {
      const entry = (draft as Draft).state[`agent-${place(number, keys)}`];
      if (entry !== undefined) entry.status = `edit-${String(number).padStart(9, '0')}`;
    },
  };
}

const ROWS = 20_000;
const NUMBERS = 150_000;

export const SHAPES: readonly Shape[] = [
  stateMap(2_000),
  stateMap(20_000),
  {
    label: `table, ${ROWS.toLocaleString('en')} rows`,
    make: () => ({ rows: Array.from({ length: ROWS }, (_, id) => ({ id, name: `row ${id}`, price: id / 4 })) }),
    change: (draft, number) => {
      const row = (draft as Draft).rows[place(number, ROWS)];
      if (row !== undefined) row.name = `edit-${String(number).padStart(9, '0')}`;
    },
  },
  {
    label: `array, ${NUMBERS.toLocaleString('en')} numbers`,
    make: () => ({ values: Array.from({ length: NUMBERS }, (_, id) => (id * 7_919) % 100_003) }),
    change: (draft, number) => {
      (draft as Draft).values[place(number, NUMBERS)] = 1_000_000 + number;
    },
  },
];

export const sizeLabel = (bytes: number): string =>
  bytes < 1024 ? `${bytes} B` : bytes < 1024 * 1024 ? `${Math.round(bytes / 1024)} KB` : `${(bytes / 1024 / 1024).toFixed(1)} MB`;
