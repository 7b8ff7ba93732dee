/**
 * JSON Patch (RFC 6902) on immutable values: checked, applied with structural sharing, all or nothing.
 *
 * One member is our own: `before` on `add` and `move`. It says before which key of the same object the member goes, so that a patch
 * can give the key order too and writer and replicas agree to the byte. RFC 6902 tells others to ignore members they do not
 * know (section 4), and what they get then is the same document with its keys in another order.
 */
import { ContextError, type ErrorCode } from './errors.js';
import {
  DEFAULT_MAX_DEPTH,
  deepFreeze,
  isContainer,
  type JsonArray,
  type JsonObject,
  type JsonValue,
  MAX_DEPTH,
  normalize,
} from './json.js';
import { PatchDraft } from './PatchDraft.js';
import { parsePointer } from './pointer.js';

/** One operation of a JSON Patch (RFC 6902, section 4). `path` and `from` are JSON pointers (RFC 6901). */
export type PatchOperation =
  | { readonly op: 'add'; readonly path: string; readonly value: JsonValue; readonly before?: string }
  | { readonly op: 'remove'; readonly path: string }
  | { readonly op: 'replace'; readonly path: string; readonly value: JsonValue }
  | { readonly op: 'move'; readonly from: string; readonly path: string; readonly before?: string }
  | { readonly op: 'copy'; readonly from: string; readonly path: string }
  | { readonly op: 'test'; readonly path: string; readonly value: JsonValue };
export type Patch = readonly PatchOperation[];

export interface ValidatePatchOptions {
  /** Containers inside one another in each value. @defaultValue 256 */
  readonly maxDepth?: number;
}

/**
 * `patch` as a frozen list of operations that shares nothing with what was given: structure checked (RFC 6902, 4), values
 * normalized. Members that an operation does not define are ignored. Says nothing about any document.
 *
 * @throws {@link ContextError} `INVALID_PATCH` with the index of the operation; `LIMIT_EXCEEDED`: a value is nested too deep.
 */
export function validatePatch(patch: unknown, options: ValidatePatchOptions = {}): Patch {
  if (!Array.isArray(patch)) {
    throw new ContextError(
      'INVALID_PATCH',
      `a JSON Patch is an array of operations, not ${patch === null ? 'null' : `a value of type ${typeof patch}`}`,
    );
  }
  const maxDepth = options.maxDepth ?? DEFAULT_MAX_DEPTH;
  return Object.freeze(
    Array.from(patch, (operation: unknown, index) => Object.freeze(validateOperation(operation, index, maxDepth))),
  );
}

function validateOperation(given: unknown, index: number, maxDepth: number): PatchOperation {
  const refuse = (why: string, details: { pointer?: string; cause?: unknown } = {}): never => {
    throw new ContextError('INVALID_PATCH', `patch operation ${index}: ${why}`, { operation: index, ...details });
  };
  if (typeof given !== 'object' || given === null || Array.isArray(given)) return refuse('it is not an object');
  const member = (name: string): unknown => (Object.hasOwn(given, name) ? (given as Record<string, unknown>)[name] : undefined);
  const pointer = (name: 'path' | 'from'): string => {
    const value = member(name);
    if (typeof value !== 'string')
      return refuse(`"${name}" ${value === undefined ? 'is missing' : 'is not a string'}; it has to be a JSON pointer`);
    if (!value.isWellFormed()) return refuse(`"${name}" has a lone surrogate, which UTF-8 cannot carry`);
    try {
      parsePointer(value);
    } catch (error) {
      return refuse(`"${name}": ${(error as Error).message}`, { pointer: value, cause: error });
    }
    return value;
  };
  const op = member('op');
  if (op === 'remove') return { op, path: pointer('path') };
  const before = member('before');
  const order = typeof before === 'string' && before.isWellFormed() ? { before } : {};
  if (op === 'move') return { op, from: pointer('from'), path: pointer('path'), ...order };
  if (op === 'copy') return { op, from: pointer('from'), path: pointer('path') };
  if (op !== 'add' && op !== 'replace' && op !== 'test') {
    return refuse(
      op === undefined
        ? '"op" is missing'
        : `unknown "op" ${typeof op === 'string' ? JSON.stringify(op) : `of type ${typeof op}`}; there are add, remove, replace, move, copy, test`,
    );
  }
  const path = pointer('path');
  if (member('value') === undefined) return refuse('"value" is missing');
  let value: JsonValue;
  try {
    value = normalize(member('value'), { maxDepth });
  } catch (error) {
    if (!(error instanceof ContextError)) throw error;
    const details = { ...error.details, operation: index, cause: error };
    throw new ContextError(
      error.code === 'LIMIT_EXCEEDED' ? error.code : 'INVALID_PATCH',
      `patch operation ${index}, in its value: ${error.message}`,
      details,
    );
  }
  return op === 'add' ? { op, path, value, ...order } : { op, path, value };
}

export interface ApplyPatchOptions {
  /** Containers inside one another that the document may have after each operation. @defaultValue 1,000 */
  readonly maxDepth?: number;
}

/**
 * The document that `patch` makes of `value`, which itself never changes. Only the containers on the way to a change are copied, once
 * in a patch; all else is shared. The result is deeply frozen, given that `value` is. Values of the patch are taken into it: they come
 * from {@link validatePatch} or `parseFrozen`, and are frozen in place where they are not yet.
 *
 * @throws {@link ContextError} `PATCH_FAILED` with the index of the operation that failed (then none of them is applied);
 * `LIMIT_EXCEEDED`: the document would be nested deeper than `maxDepth`, or the patch copies more than 16 MiB;
 * `INVALID_PATCH`: a path is no JSON pointer.
 */
export function applyPatch(value: JsonValue, patch: Patch, options: ApplyPatchOptions = {}): JsonValue {
  const maxDepth = options.maxDepth ?? MAX_DEPTH;
  let index = 0;
  const failWith = (code: ErrorCode, reason: string, limit?: string): never => {
    const operation = patch[index] as PatchOperation;
    const from = 'from' in operation ? ` from ${JSON.stringify(operation.from)}` : '';
    throw new ContextError(
      code,
      `patch operation ${index} (${operation.op} ${JSON.stringify(operation.path)}${from}) failed, and nothing was changed: ${reason}`,
      { operation: index, pointer: operation.path, ...(limit === undefined ? {} : { limit }) },
    );
  };
  const fail = (reason: string): never => failWith('PATCH_FAILED', reason);
  const draft = new PatchDraft(value, fail);
  let walked = 0;

  /** Copies and moves can nest without end what a short patch names, so both are walked, and walk together over a bounded size. */
  const checkMoved = (moved: JsonValue, depth: number): void => {
    const measured = measure(moved, maxDepth - depth, MAX_WALKED - walked);
    if (measured === 'deep')
      failWith('LIMIT_EXCEEDED', `the document would be nested deeper than ${maxDepth} levels`, `depth ${maxDepth}`);
    else if (measured === 'large')
      failWith('LIMIT_EXCEEDED', `the patch copies or moves more than ${MAX_WALKED} bytes`, `copied ${MAX_WALKED}`);
    else walked += measured;
  };
  const taken = (given: JsonValue, depth: number): JsonValue => {
    if (!isContainer(given)) return given;
    if (!Object.isFrozen(given)) deepFreeze(given);
    if (measure(given, maxDepth - depth, Number.POSITIVE_INFINITY) === 'deep') {
      failWith('LIMIT_EXCEEDED', `the document would be nested deeper than ${maxDepth} levels`, `depth ${maxDepth}`);
    }
    return given;
  };

  for (; index < patch.length; index++) {
    const operation = patch[index] as PatchOperation;
    const path = parsePointer(operation.path);
    switch (operation.op) {
      case 'add':
        draft.add(path, taken(operation.value, path.length), operation.before);
        break;
      case 'replace':
        draft.replace(path, taken(operation.value, path.length));
        break;
      case 'remove':
        draft.remove(path);
        break;
      case 'test':
        if (!jsonDeepEqual(draft.get(path), operation.value)) fail('the value there is another one');
        break;
      case 'move': {
        if (operation.from === operation.path) {
          draft.reorder(path, operation.before);
          break;
        }
        if (operation.path.startsWith(`${operation.from}/`)) fail('a value cannot be moved into itself');
        const from = parsePointer(operation.from);
        const deeper = path.length > from.length ? (moved: JsonValue) => checkMoved(moved, path.length) : undefined;
        draft.move(from, path, deeper, operation.before);
        break;
      }
      case 'copy': {
        const copied = draft.get(parsePointer(operation.from));
        checkMoved(copied, path.length);
        draft.add(path, copied);
        break;
      }
      default:
        fail('there is no such operation');
    }
  }
  return draft.finish();
}

/** Twice the largest document. */
const MAX_WALKED = 16 * 1024 * 1024;

/** The least bytes that `value` takes as JSON, or why it is refused. */
function measure(value: JsonValue, depthLeft: number, sizeLeft: number): number | 'deep' | 'large' {
  if (typeof value === 'string') return value.length + 2 > sizeLeft ? 'large' : value.length + 2;
  if (!isContainer(value)) return sizeLeft < 1 ? 'large' : 1;
  if (depthLeft < 1) return 'deep';
  let size = 2;
  if (Array.isArray(value)) {
    const array: JsonArray = value;
    for (let index = 0; index < array.length; index++) {
      const child = measure(array[index] as JsonValue, depthLeft - 1, sizeLeft - size);
      if (typeof child === 'string') return child;
      size += child + 1;
    }
  } else {
    for (const key of Object.keys(value)) {
      const child = measure((value as JsonObject)[key] as JsonValue, depthLeft - 1, sizeLeft - size);
      if (typeof child === 'string') return child;
      size += child + key.length + 4;
    }
  }
  return size > sizeLeft ? 'large' : size;
}

/**
 * True where both have the same JSON text: the order of keys counts. Identical parts cost nothing.
 *
 * @param different - what was found to differ, for who compares parts of the same two values again and again: a container of the first
 * with the one of the second that it was compared with last. Looked up, and added to.
 */
export function jsonEqual(a: JsonValue, b: JsonValue, different?: Map<object, object>): boolean {
  if (a === b) return true;
  if (!isContainer(a) || !isContainer(b) || different?.get(a) === b) return false;
  const equal =
    Array.isArray(a) || Array.isArray(b)
      ? Array.isArray(a) && Array.isArray(b) && elementsEqual(a, b, different)
      : membersEqual(a as JsonObject, b as JsonObject, different);
  if (!equal) different?.set(a, b);
  return equal;
}

function elementsEqual(a: JsonArray, b: JsonArray, different: Map<object, object> | undefined): boolean {
  if (a.length !== b.length) return false;
  for (let index = 0; index < a.length; index++) {
    if (!jsonEqual(a[index] as JsonValue, b[index] as JsonValue, different)) return false;
  }
  return true;
}

function membersEqual(a: JsonObject, b: JsonObject, different: Map<object, object> | undefined): boolean {
  const keys = Object.keys(a);
  const others = Object.keys(b);
  if (keys.length !== others.length) return false;
  for (let index = 0; index < keys.length; index++) {
    const key = keys[index] as string;
    if (key !== others[index] || !jsonEqual(a[key] as JsonValue, b[key] as JsonValue, different)) return false;
  }
  return true;
}

/** True where both mean the same (RFC 6902, 4.6): objects by their members in any order, numbers by value. */
export function jsonDeepEqual(a: JsonValue, b: JsonValue): boolean {
  if (a === b) return true;
  if (!isContainer(a) || !isContainer(b)) return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false;
    const others: JsonArray = b;
    return a.every((child: JsonValue, index) => jsonDeepEqual(child, others[index] as JsonValue));
  }
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length &&
    keys.every(
      (key) => Object.hasOwn(b, key) && jsonDeepEqual((a as JsonObject)[key] as JsonValue, (b as JsonObject)[key] as JsonValue),
    )
  );
}
