import { setMaxListeners } from 'node:events';
import { orAborted } from '../orAborted.js';
import type { Session } from '../session.js';
import { DEMO_TTL, type DemoOptions, DemoRun } from './DemoRun.js';
import { Instance } from './Instance.js';
import { summaryBlock } from './report.js';
import { Tally } from './Tally.js';
import type { DemoContext } from './workload.js';

/** Writes the contexts through several processes, and compares what each of them holds in the end; resolves to the exit code. */
export async function runDemo(session: Session, contexts: readonly DemoContext[], options: DemoOptions): Promise<number> {
  const { output, flags } = session;
  const failure = new AbortController();
  const signal = AbortSignal.any([session.signal, failure.signal]);
  setMaxListeners(0, signal); // one for each context that waits for its turn is no leak
  const instances: Instance[] = [];
  let tally: Tally | undefined;
  for (let at = 0; at < options.instances; at++) {
    instances.push(
      new Instance(
        `instance-${at + 1}`,
        (changes) => {
          for (const change of changes) tally?.seen(at, change);
        },
        (error) => failure.abort(error),
      ),
    );
  }
  tally = new Tally(instances, contexts.length);
  try {
    const run = new DemoRun(session, contexts, options, instances, tally, signal);
    const report = await orAborted(run.run(), signal);
    if (flags.json) output.document(report);
    else output.line(`\n${summaryBlock(output, report)}`);
    return report.ok ? 0 : 4;
  } finally {
    failure.abort();
    await Promise.all(instances.map((instance) => instance.close()));
    if (!options.keep) await removeContexts(session);
  }
}

/** Best effort: Redis may be what failed, and what is left expires by itself. */
async function removeContexts({ store, output, flags }: Session): Promise<void> {
  try {
    for (let cursor: string | null | undefined; cursor !== null; ) {
      const page = await store.list({ limit: 1000, ...(cursor === undefined ? {} : { cursor }) });
      await Promise.all(page.items.map(({ id }) => store.delete(id)));
      cursor = page.cursor;
    }
  } catch (error) {
    output.note(
      `The contexts of namespace ${flags.namespace} could not be deleted (${(error as Error).message}); they expire after ${DEMO_TTL}.`,
    );
  }
}
