/** lukhas-context: JSON contexts that many app instances share through Redis. */
import { onInlineWorkers } from './store/workersHook.js';

export { DeltaDecoder, type DeltaDecoderOptions } from './core/DeltaDecoder.js';
export { DeltaEncoder } from './core/DeltaEncoder.js';
export { ContextError, type ContextErrorDetails, ERROR_CODES, type ErrorCode, isContextError } from './core/errors.js';
export type { JsonArray, JsonObject, JsonValue } from './core/json.js';
export type { Patch, PatchOperation } from './core/patch.js';
export type {
  ExportOptions,
  ExportProgress,
  ExportSource,
  IfExists,
  ImportOptions,
  ImportProgress,
  ImportResult,
  PreserveOptions,
  PreserveResult,
  RestoreSnapshotOptions,
  RestoreSnapshotResult,
  SnapshotSummary,
} from './store/backupTypes.js';
export { type ContextKeyNames, ContextStore } from './store/ContextStore.js';
export type { DiagnosisCheck, DiagnosisReport } from './store/diagnose.js';
export type { ExportPoint } from './store/ExportPoint.js';
export { type ExportSummary, verifyExport } from './store/exportReader.js';
export type { StoreOptions } from './store/options.js';
export type * from './store/types.js';

// loaded when the first store has workers of its own: who does without does not pay for it
onInlineWorkers(async (maintenance, logger, signal) => {
  const { Workers } = await import('../queues/Workers.js');
  return Workers.start(maintenance, { logger, signal });
});
