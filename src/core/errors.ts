/**
 * Every error this package throws is a {@link ContextError} with a stable `code`. One table says, for each code, whether a
 * retry can help, which HTTP status a face should answer, and which exit code the CLI ends with. A miss is a value (`null`),
 * never an error.
 */

interface CodeFacts {
  /** The same call can succeed later without being changed. */
  readonly retryable: boolean;
  readonly httpStatus: number;
  /** CLI exit code: 2 usage, 3 refused by the state of a context, 4 integrity, 5 Redis, 6 time, 1 anything else. */
  readonly exitCode: number;
}

const facts = (retryable: boolean, httpStatus: number, exitCode: number): CodeFacts => ({ retryable, httpStatus, exitCode });

export const ERROR_CODES = {
  // the caller's input, refused before anything was sent
  INVALID_ARGUMENT: facts(false, 400, 2),
  INVALID_ID: facts(false, 400, 2),
  INVALID_OPTION: facts(false, 400, 2),
  INVALID_VALUE: facts(false, 422, 2),
  INVALID_PATCH: facts(false, 422, 2),
  LIMIT_EXCEEDED: facts(false, 413, 2),
  // the state of a context
  NOT_FOUND: facts(false, 404, 3),
  CONFLICT: facts(true, 409, 3),
  FENCED: facts(false, 409, 3),
  LOCKED: facts(true, 423, 3),
  LOCK_TIMEOUT: facts(true, 423, 3),
  LOCK_LOST: facts(false, 409, 3),
  PATCH_FAILED: facts(false, 409, 3),
  MEMORY_LIMIT: facts(true, 507, 3),
  // integrity
  CORRUPT: facts(false, 500, 4),
  CHECKSUM: facts(true, 500, 4),
  WRITE_CORRUPT: facts(true, 500, 4),
  BASE_MISMATCH: facts(true, 409, 4),
  BAD_FRAME: facts(false, 500, 4),
  // Redis and the way to it
  CONNECTION: facts(true, 503, 5),
  AUTH: facts(false, 503, 5),
  NO_PERMISSION: facts(false, 503, 5),
  UNSUPPORTED_SERVER: facts(false, 503, 5),
  EVICTION_POLICY: facts(false, 503, 5),
  REDIS_MEMORY: facts(true, 503, 5),
  REDIS_READONLY: facts(true, 503, 5),
  REDIS_BUSY: facts(true, 503, 5),
  REDIS_ERROR: facts(false, 502, 5),
  NAMESPACE_MISMATCH: facts(false, 409, 5),
  LOCK_QUORUM: facts(true, 503, 5),
  // time and life cycle
  TIMEOUT: facts(true, 504, 6),
  OUTCOME_UNKNOWN: facts(false, 504, 6),
  ABORTED: facts(false, 499, 6),
  CLOSED: facts(false, 503, 6),
} as const satisfies Record<string, CodeFacts>;

export type ErrorCode = keyof typeof ERROR_CODES;

/** What an error knows beyond its sentence; only what applies is set. */
export interface ContextErrorDetails {
  readonly namespace?: string;
  readonly shard?: number;
  readonly id?: string;
  readonly version?: number;
  readonly expected?: string | number;
  readonly found?: string | number;
  /** JSON pointer (RFC 6901) of the offending place in a value. */
  readonly pointer?: string;
  /** Zero-based index of the patch operation that failed. */
  readonly operation?: number;
  /** Name of a limit and its value. */
  readonly limit?: string;
  /** Who holds a lock: its instance, fencing token, and for how long, ms. */
  readonly holder?: {
    readonly instance: string;
    readonly mode: 'write' | 'read';
    readonly token: number;
    readonly ageMs: number;
  };
  /** Place among those that waited for a lock, from 1, and how many they were. */
  readonly place?: number;
  readonly waiters?: number;
  /** Lock nodes that did not vote for a lock, and why. */
  readonly nodes?: Readonly<Record<string, string>>;
  readonly cause?: unknown;
}

const MARK = Symbol.for('lukhas-context.error');

/** An error with a stable {@link ErrorCode}; its message says what happened, where, and what to do. */
export class ContextError extends Error {
  override readonly name = 'ContextError';
  readonly code: ErrorCode;
  readonly details: ContextErrorDetails;

  constructor(code: ErrorCode, message: string, details: ContextErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.details = details;
    Object.defineProperty(this, MARK, { value: true });
  }

  get retryable(): boolean {
    return ERROR_CODES[this.code].retryable;
  }
  get httpStatus(): number {
    return ERROR_CODES[this.code].httpStatus;
  }
  get exitCode(): number {
    return ERROR_CODES[this.code].exitCode;
  }

  toJSON(): Record<string, unknown> {
    const { cause, ...rest } = this.details;
    return { code: this.code, message: this.message, ...rest, ...(cause instanceof Error ? { cause: cause.message } : {}) };
  }
}

/** True for a {@link ContextError}, also one that a second copy of this package made. */
export function isContextError(error: unknown): error is ContextError {
  return typeof error === 'object' && error !== null && (error as Record<symbol, unknown>)[MARK] === true;
}
