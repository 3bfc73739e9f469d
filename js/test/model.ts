// A model like anywidget's, in place of a kernel: it keeps traits and what was sent.

import type { Model, Traits } from "../src/types";

export const EMPTY: Traits = {
  session: { id: "ab12", pid: 7, cores: 2, open: true },
  classes: [], containers: [], lives: {}, kept: [], samples_old: {}, samples_new: {},
  log_shown: "", log_old: "", log_new: "", log_cut: 0, notices: [], acks: [], beat: 0, look: {}, follow: "",
};

export class Fake implements Model {
  readonly sent: unknown[] = [];
  saved = 0;
  private readonly traits: Traits;
  private readonly callbacks = new Map<string, Set<() => void>>();

  constructor(traits: Partial<Traits> = {}) {
    this.traits = { ...EMPTY, ...traits };
  }

  get<K extends keyof Traits>(name: K): Traits[K] {
    return this.traits[name];
  }

  set<K extends keyof Traits>(name: K, value: Traits[K]): void {
    this.traits[name] = value;
    this.emit(`change:${name}`);
  }

  save_changes(): void {
    this.saved += 1;
  }

  send(content: unknown): void {
    this.sent.push(content);
  }

  on(event: string, callback: () => void): void {
    const all = this.callbacks.get(event) ?? new Set();
    this.callbacks.set(event, all.add(callback));
  }

  off(event: string, callback: () => void): void {
    this.callbacks.get(event)?.delete(callback);
  }

  emit(event: string): void {
    for (const callback of [...(this.callbacks.get(event) ?? [])]) callback();
  }

  get listeners(): number {
    return [...this.callbacks.values()].reduce((sum, all) => sum + all.size, 0);
  }
}
