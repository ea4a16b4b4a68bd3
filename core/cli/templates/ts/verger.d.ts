// What verger.js gives, for the compiler and the editor.

export type Value = null | undefined | boolean | number | bigint | string | Uint8Array;
export type Row = Record<string, null | number | string | Uint8Array>;
export interface Scope { organizationId?: string; actorId?: string; impersonatingFrom?: string }

export class HostError extends Error {
  readonly code: string;
  readonly words: string;
  get concernsOneRow(): boolean;
}

/** How a job may end beside returning; return it or throw it. */
export interface Ending { readonly outcome: unknown }
export function failed(message: string, code?: string): Ending;
export function discard(message: string, code?: string): Ending;
export function snooze(seconds: number): Ending;
export function cancel(reason: string): Ending;

export function all<T extends object = Row>(sql: string, ...params: Value[]): T[];
export function one<T extends object = Row>(sql: string, ...params: Value[]): T | undefined;
export function rows<T extends object = Row>(sql: string, ...params: Value[]): Generator<T>;
export function execute(sql: string, ...params: Value[]): number;
export function savepoint<T>(work: () => T): T;
export function checkpoint(): void;
export function checkpointDue(): boolean;

export interface AuditEvent {
  outcome?: 'success' | 'failure' | 'error';
  organization?: string | null;
  subject?: [type: string, id: string | number];
  before?: unknown;
  after?: unknown;
  metadata?: Record<string, unknown>;
}
export function audit(action: string, event?: AuditEvent): number;
export function publish(topic: string, payload: unknown): void;
export function callApp(name: string, request: unknown): any;

export interface JobOptions {
  queue?: string;
  priority?: number;
  max_attempts?: number;
  at?: number;
  after_ms?: number;
  unique?: boolean | string[];
  unique_for_ms?: number;
}
export interface Enqueued { id: number; existing: boolean }
export function enqueue(worker: string, args?: object, options?: JobOptions): Enqueued;
export function enqueueAll(jobs: { worker: string; args?: object; options?: JobOptions }[]): Enqueued[];
export function getState(key: string): null | number | string | Uint8Array;
export function setState(key: string, value: Value): void;
export function progress(done: number, total?: number): void;
export function isCancelled(): boolean;
export function now(): number;

export interface Slot { schedule: string; at: number; missed: number; after?: number; zone: string }
export interface Job { id?: number; attempt: number; maxAttempts: number; deadline: number; slot?: Slot }
export function currentJob(): Job;
export const log: Record<'trace' | 'debug' | 'info' | 'warn' | 'error', (...parts: unknown[]) => void>;

interface Types { string: string; number: number; boolean: boolean; object: object }
export function arg<T extends keyof Types>(args: object, key: string, type: T): Types[T];
export function arg(args: object, key: string): any;

export interface Manifest {
  name: string;
  version: string;
  description?: string;
  tenant_aware?: boolean;
  args?: Record<string, { default?: unknown; required?: boolean; description?: string }>;
  tables?: ({ verbs: ('read' | 'insert' | 'update' | 'delete')[] } & ({ table: string } | { arg: string; default: string }))[];
  capabilities?: string[];
  enqueues?: string[];
  schedule?: { cron: string } | { every_ms: number };
}
export function worker(manifest: Manifest, work: (args: Record<string, unknown>, scope?: Scope) => unknown): {
  describe(): string;
  perform(scope: unknown, args: string): unknown;
};
