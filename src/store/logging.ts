/** The default logger: pino at level `warn`, on stderr, so that a program's own output stays its own. */
import { pino } from 'pino';
import type { Logger } from './types.js';

const nothing = (): void => {};
const SILENT: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing };

export function makeLogger(given: Logger | false | undefined): Logger {
  if (given === false) return SILENT;
  return (
    given ??
    pino({ name: 'lukhas-context', level: process.env.LUKHAS_LOG_LEVEL ?? 'warn' }, pino.destination({ fd: 2, sync: true }))
  );
}
