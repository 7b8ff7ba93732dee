/** The child's side of `spawnNode`: what a script calls that runs as a process of its own. */

/** What travels to the child. */
export interface Request {
  readonly request: number;
  /** Absent in the first one, which only asks whether the script serves. */
  readonly message?: unknown;
}

/** What travels to the parent: the answer to a request, or an event. */
export type Answer =
  | { readonly answer: number; readonly value: unknown }
  | { readonly answer: number; readonly error: { readonly message: string; readonly stack: string; readonly code: unknown } }
  | { readonly event: unknown };

/**
 * Answers each request with what `handler` returns or throws. Requests do not wait for each other. The process ends when its
 * parent is gone, however that happened.
 */
export function serve(handler: (message: unknown) => unknown): void {
  process.once('disconnect', () => process.exit());
  process.on('message', (request: Request) => {
    void answer(request, handler).then(send);
  });
}

/** Tells the parent something it did not ask for; messages keep their order. */
export function emit(event: unknown): void {
  send({ event });
}

async function answer({ request, ...rest }: Request, handler: (message: unknown) => unknown): Promise<Answer> {
  try {
    return { answer: request, value: 'message' in rest ? await handler(rest.message) : undefined };
  } catch (thrown) {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown));
    return { answer: request, error: { message: error.message, stack: String(error.stack), code: Reflect.get(error, 'code') } };
  }
}

function send(message: Answer): void {
  // without a parent there is nobody to tell, and the process is about to end
  if (process.connected) process.send?.(message, undefined, undefined, () => {});
}
