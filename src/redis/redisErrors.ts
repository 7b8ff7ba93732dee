/** What Redis and the socket say, as coded errors that name the cause and the way out. */
import { ContextError, type ErrorCode, isContextError } from '../core/errors.js';

interface Rule {
  readonly test: RegExp;
  readonly code: ErrorCode;
  readonly advice: string;
}

const RULES: readonly Rule[] = [
  {
    test: /^(NOAUTH|WRONGPASS)|invalid username-password|AUTH .*called without any password/i,
    code: 'AUTH',
    advice: 'check user and password in the Redis URL',
  },
  {
    test: /^NOPERM|ACL failure in script|has no permissions/i,
    code: 'NO_PERMISSION',
    advice: 'grant the user what it lacks (`lukhas-context doctor` names it)',
  },
  { test: /^OOM/, code: 'REDIS_MEMORY', advice: 'Redis is at its maxmemory: raise it, or delete contexts' },
  {
    test: /^(READONLY|MISCONF)/,
    code: 'REDIS_READONLY',
    advice: 'this server takes no writes: connect to the master, or mend its persistence',
  },
  {
    test: /^(LOADING|BUSY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS)/,
    code: 'REDIS_BUSY',
    advice: 'Redis is busy; it is asked again until the timeout',
  },
  { test: /NOPROTO|unknown command/i, code: 'UNSUPPORTED_SERVER', advice: 'Redis 7.0 or newer is needed' },
];

/** Errors of ioredis that say that the connection was lost with the command unanswered. */
const LOST =
  /Connection is closed|Command aborted|Please report this|max retries per request|Stream isn't writeable|ECONN|EPIPE|ETIMEDOUT|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|socket|closed/i;

/** Redis could not read on in what was sent, and closes the connection: a byte was damaged on its way. */
const REFUSED_STREAM = /^ERR Protocol error/;

/** True where the script cache was flushed: the command was not executed. */
export const isNoScript = (error: unknown): boolean => error instanceof Error && error.message.startsWith('NOSCRIPT');

/** Any failure of a Redis command as a ContextError. */
export function toContextError(error: unknown, doing: string): ContextError {
  if (isContextError(error)) return error;
  const message = error instanceof Error ? error.message : String(error);
  const text = message.replace(/^ReplyError: /, '');
  for (const rule of RULES) {
    if (rule.test.test(text)) return new ContextError(rule.code, `${doing}: ${text}; ${rule.advice}`, { cause: error });
  }
  if (error instanceof Error && (error.name === 'ReplyError' ? REFUSED_STREAM : LOST).test(text)) {
    return new ContextError('CONNECTION', `${doing}: the connection to Redis was lost (${text}); it is made again by itself`, {
      cause: error,
    });
  }
  return new ContextError('REDIS_ERROR', `${doing}: Redis answered ${JSON.stringify(text)}`, { cause: error });
}
