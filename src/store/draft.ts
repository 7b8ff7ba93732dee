/** Runs the function of `update` on a draft. */
import { create } from 'mutative';
import { ContextError } from '../core/errors.js';
import { copyMembers, isContainer, isObject, type JsonObject, type JsonValue, normalize } from '../core/json.js';

/** What `change` makes of a value: the draft it changed, or what it returned. Objects with a key `__proto__` are copied with it. */
export async function runOnDraft(value: JsonValue, change: (draft: unknown) => unknown, maxDepth: number): Promise<JsonValue> {
  if (!isContainer(value)) {
    const returned = await change(value);
    return returned === undefined ? value : normalize(returned, { maxDepth });
  }
  const [draft, finish] = create(
    value as object,
    {
      mark: (target: unknown) =>
        isObject(target as JsonValue) && Object.hasOwn(target as object, '__proto__')
          ? () => copyMembers(target as JsonObject)
          : undefined,
    } as object,
  ) as unknown as [draft: object, finish: () => JsonValue];
  const returned = await change(draft);
  if (returned !== undefined && (typeof returned !== 'object' || returned === null)) {
    throw new ContextError(
      'INVALID_ARGUMENT',
      `the function of update returned ${String(returned)}, which would replace the whole document: write \`(draft) => { … }\` with braces, or use set for that`,
    );
  }
  // read before the draft ends: it may hold parts of it
  const made = returned === undefined || returned === draft ? undefined : normalize(returned, { maxDepth, base: value });
  const changed = finish();
  if (made === undefined) return changed === value ? value : normalize(changed, { maxDepth, base: value });
  if (changed === value) return made;
  throw new ContextError(
    'INVALID_ARGUMENT',
    'the function of update changed its draft and returned a value as well: do one of both (write `(draft) => { draft.list.push(1); }` with braces)',
  );
}
