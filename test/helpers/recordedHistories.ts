/** The recorded histories of test/fixtures/linearizability as operations; times are numbers of lines. */
import type { Operation } from './history.js';
import type { RegisterInput, RegisterOutput, TextInput } from './linearizabilityModels.js';

/** The operation of each process that has begun and not ended. */
class Open<I, O> {
  readonly #open = new Map<string, { readonly key: string; readonly input: I; readonly start: number }>();
  readonly operations: Operation<I, O>[] = [];

  begin(process: string, key: string, input: I, start: number): void {
    this.#open.set(process, { key, input, start });
  }

  end(process: string, output: O | undefined, at: number): void {
    const begun = this.#open.get(process);
    if (begun === undefined) throw new Error(`line ${at}: process ${process} ends what it has not begun`);
    this.#open.delete(process);
    this.operations.push({
      process,
      ...begun,
      ...(output === undefined ? { end: Number.POSITIVE_INFINITY } : { output, end: at }),
    });
  }

  /** What has not ended never does. */
  close(): Operation<I, O>[] {
    for (const process of [...this.#open.keys()]) this.end(process, undefined, Number.POSITIVE_INFINITY);
    return this.operations;
  }
}

const numberOrNull = (text: string): number | null => (text === 'nil' ? null : Number(text));

function registerInput(what: string, value: string): RegisterInput {
  if (what === 'read') return { do: 'read' };
  if (what === 'write') return { do: 'write', value: Number(value) };
  const [, from, to] = /^\[(\d+) (\d+)\]$/.exec(value) ?? [];
  return { do: 'cas', from: Number(from), to: Number(to) };
}

/** A log of Jepsen's etcd test: `INFO  jepsen.util - <process> <:invoke|:ok|:fail|:info> <:read|:write|:cas> <value>`. */
export function parseRegisterLog(text: string): Operation<RegisterInput, RegisterOutput>[] {
  const open = new Open<RegisterInput, RegisterOutput>();
  text.split('\n').forEach((line, at) => {
    if (line === '') return;
    const [, process, kind, what, value] = /^INFO {2}jepsen\.util - (\d+)\s+:(\w+)\s+:(\w+)\s+(.*)$/.exec(line) ?? [];
    if (process === undefined || what === undefined || value === undefined) throw new Error(`line ${at}: ${line}`);
    if (kind === 'invoke') open.begin(process, 'register', registerInput(what, value), at);
    else if (kind === 'ok') open.end(process, what === 'read' ? numberOrNull(value) : true, at);
    // a compare-and-set that fails found another value; a read that fails has timed out
    else if (kind === 'fail') open.end(process, what === 'cas' ? false : undefined, at);
    else open.end(process, undefined, at);
  });
  return open.close();
}

/** A history of the key-value store: `{:process 0, :type :invoke, :f :append, :key "0", :value "x"}`. */
export function parseTextLog(text: string): Operation<TextInput, string>[] {
  const open = new Open<TextInput, string>();
  text.split('\n').forEach((line, at) => {
    if (line === '') return;
    const match = /^\{:process (\d+), :type :(\w+), :f :(get|put|append), :key "(.*)", :value (?:nil|"(.*)")\}$/.exec(line);
    const [, process, kind, what, key, value = ''] = match ?? [];
    if (process === undefined || key === undefined) throw new Error(`line ${at}: ${line}`);
    if (kind !== 'invoke') open.end(process, value, at);
    else open.begin(process, key, what === 'get' ? { do: 'get' } : { do: what as 'put' | 'append', value }, at);
  });
  return open.close();
}
