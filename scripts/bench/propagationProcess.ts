/** One of the two processes of a propagation benchmark: writer or reader, by what it is asked. */
import { serve } from '../../test/helpers/child.js';
import { makeConversation } from '../../test/helpers/random.js';
import { waitFor } from '../../test/helpers/waitFor.js';
import type { PropagationRequest } from './lib/propagate.js';
import { openSubject, type Subject } from './subjects/Subject.js';

let subject: Subject | undefined;
/** Times by the number of the edit; a later edit that came first holds the earlier ones as well. */
const heldAt = new Map<number, bigint>();
let latest = 0;

function opened(): Subject {
  if (subject === undefined) throw new Error('ask it to open first');
  return subject;
}

serve(async (message) => {
  const request = message as PropagationRequest;
  switch (request.do) {
    case 'open':
      subject = await openSubject(request.subject, request.url, request.namespace);
      return;
    case 'listen':
      return opened().onChange(request.id, (doc) => {
        const now = process.hrtime.bigint();
        const number = doc.state.step;
        for (; latest < number; latest += 1) heldAt.set(latest + 1, now);
      });
    case 'create':
      await opened().set(request.id, makeConversation(1, request.bytes));
      return;
    case 'prepare':
      return opened().warm([request.id]);
    case 'write':
      return write(request.id, request.from, request.count, request.paceMs);
    case 'times': {
      const { from, count } = request;
      await waitFor(() => latest >= from + count - 1, { what: `edit ${from + count - 1} to arrive`, limitMs: 30_000 });
      const times = Array.from({ length: count }, (_, index) => heldAt.get(from + index));
      heldAt.clear();
      return times;
    }
    case 'close':
      return opened().close();
  }
});

async function write(id: string, from: number, count: number, paceMs: number): Promise<bigint[]> {
  const times: bigint[] = [];
  for (let number = from; number < from + count; number += 1) {
    times.push(process.hrtime.bigint());
    await opened().edit(id, number);
    await new Promise((resolve) => (paceMs === 0 ? setImmediate(resolve) : setTimeout(resolve, paceMs)));
  }
  return times;
}
