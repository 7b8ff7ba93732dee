/** Targets of single numbers; those of ratios taken round by round are in lib/table.ts. */

export const noMore = (value: number, bound: number, text = String(bound)): string =>
  `${value <= bound ? 'met' : 'missed'}: <= ${text}`;

/** In the place of a figure, and of what it says about a target. */
export const NOT_MEASURED = 'not measured';

/** What is saved against `full`, of 1. */
export const reduction = (bytes: number, full: number): number => 1 - bytes / full;

export const LEAST_REAL = 0.95;
export const LEAST_PATTERN = 0.8;

/** Whether all of them save so much. */
export const saves = (reductions: readonly number[], least: number): string =>
  `${reductions.every((value) => value >= least) ? 'met' : 'missed'}: >= ${least * 100} %`;
