/** What one suite adds to the sum. */
export interface Outcome {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** One line each, for the list at the end: what failed and why, or what was skipped and why. */
  readonly notes: readonly string[];
}

export const passed = (): Outcome => ({ passed: 1, failed: 0, skipped: 0, notes: [] });
export const failed = (note: string): Outcome => ({ passed: 0, failed: 1, skipped: 0, notes: [note] });
export const skipped = (note: string): Outcome => ({ passed: 0, failed: 0, skipped: 1, notes: [note] });

export function sum(outcomes: readonly Outcome[]): Outcome {
  return outcomes.reduce(
    (a, b) => ({
      passed: a.passed + b.passed,
      failed: a.failed + b.failed,
      skipped: a.skipped + b.skipped,
      notes: [...a.notes, ...b.notes],
    }),
    { passed: 0, failed: 0, skipped: 0, notes: [] },
  );
}

/** `12 passed, 0 failed`, and `, 1 skipped` where some were. */
export function sentence(outcome: Outcome): string {
  return `${outcome.passed} passed, ${outcome.failed} failed${outcome.skipped > 0 ? `, ${outcome.skipped} skipped` : ''}`;
}
