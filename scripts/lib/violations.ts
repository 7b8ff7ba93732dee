/** One place that breaks a rule. */
export interface Violation {
  /** Relative to the project. */
  readonly file: string;
  /** 1-based. */
  readonly line: number;
  /** The rule, and what breaks it. */
  readonly rule: string;
}

/** Prints one line a violation and returns the exit code. */
export function printViolations(violations: readonly Violation[], what: string): number {
  for (const { file, line, rule } of violations) console.error(`${file}:${line}: ${rule}`);
  console.log(violations.length === 0 ? `${what}: no violations` : `${what}: ${violations.length} violations`);
  return violations.length === 0 ? 0 : 1;
}
