import { appendFileSync } from 'node:fs';
import Mocha from 'mocha';

const { EVENT_RUN_BEGIN, EVENT_RUN_END, EVENT_TEST_BEGIN, EVENT_TEST_FAIL, EVENT_TEST_PASS, EVENT_TEST_PENDING } =
  Mocha.Runner.constants;

/** One line of the events file. A run that was cut off leaves the lines up to there. */
export type SuiteEvent =
  | { readonly kind: 'begin' | 'end' }
  | { readonly kind: 'test' | 'pass' | 'pending'; readonly title: string }
  | { readonly kind: 'fail'; readonly title: string; readonly message: string };

/** How long after the last test it says what keeps the process alive, ms. */
const ALIVE_AFTER_MS = 5_000;

/** mocha's spec reporter, for people; beside it every event as a line of JSON in the file that LUKHAS_SUITE_EVENTS names. */
class SuiteReporter extends Mocha.reporters.Spec {
  static readonly description = 'spec, and events for scripts/runTests.ts';

  constructor(runner: Mocha.Runner, options: Mocha.MochaOptions) {
    super(runner, options);
    const file = process.env.LUKHAS_SUITE_EVENTS;
    if (!file) return;
    const write = (event: SuiteEvent): void => appendFileSync(file, `${JSON.stringify(event)}\n`);
    runner.once(EVENT_RUN_BEGIN, () => write({ kind: 'begin' }));
    runner.on(EVENT_TEST_BEGIN, (test) => write({ kind: 'test', title: title(test) }));
    runner.on(EVENT_TEST_PASS, (test) => write({ kind: 'pass', title: title(test) }));
    runner.on(EVENT_TEST_PENDING, (test) => write({ kind: 'pending', title: title(test) }));
    runner.on(EVENT_TEST_FAIL, (test, error: Error) =>
      write({ kind: 'fail', title: title(test), message: String(error?.message ?? error) }),
    );
    runner.once(EVENT_RUN_END, () => {
      write({ kind: 'end' });
      setTimeout(() => {
        console.error(
          `The tests have ended, the process has not. It is kept alive by: ${process.getActiveResourcesInfo().join(', ')}`,
        );
      }, ALIVE_AFTER_MS).unref();
    });
  }
}

/** The describes and the name, as one line. */
function title(test: Mocha.Runnable): string {
  return test.titlePath().join(' › ');
}

// biome-ignore lint/style/noDefaultExport: mocha takes a reporter's module by its default export
export default SuiteReporter;
