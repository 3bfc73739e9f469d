// The connection to the kernel: whether it is alive, and reporting to it that the panel is visible. No
// DOM: the clock, the timer and the model are passed in.
//
// The kernel sends a beat at least every 6 s while the panel is visible. Data from before the first
// beat may come from a kernel that has exited, so the panel is not shown as live until then.

import type { Model } from "./types";

export type Bond =
  | "waiting" // no beat yet
  | "live"
  | "silent" // the beats stopped
  | "gone" // the front end reports a closed connection
  | "over"; // the kernel reports that the session is closed

export const RENEW = 10;
export const SILENT = 12;
export const FIRST = 8;

export class Link {
  bond: Bond = "waiting";
  /** Seconds to add to this page's clock to get the kernel's time. */
  offset = 0;
  private heard: number;
  private announced = -Infinity;
  private visible = false;
  private counter = 0;

  constructor(
    private readonly model: Model,
    private readonly client: string,
    private readonly clock: () => number,
  ) {
    this.heard = clock();
  }

  /** Seconds since the last beat. */
  get silence(): number {
    return this.clock() - this.heard;
  }

  /** The time by the kernel's clock; without a live kernel, the time of the last beat. */
  now(): number {
    return this.bond === "live" ? this.clock() + this.offset : this.model.get("beat");
  }

  /** Record a beat. */
  beat(): void {
    this.heard = this.clock();
    this.offset = this.model.get("beat") - this.heard;
    this.bond = this.model.get("session").open === false ? "over" : "live";
  }

  /** Record that the kernel was lost, or restarted without this panel. */
  lost(): void {
    if (this.bond !== "over") this.bond = "gone";
  }

  /** Record whether the panel is visible. */
  show(visible: boolean): void {
    if (visible === this.visible) return;
    this.visible = visible;
    if (visible && this.bond !== "gone") this.heard = this.clock(); // no beats are sent to a hidden panel
    this.announce();
  }

  /** Renew and detect silence, once a second. Return whether the bond changed. */
  tick(): boolean {
    if (!this.visible) return false;
    if (this.clock() - this.announced >= RENEW) this.announce();
    const before = this.bond;
    if (this.bond === "live" && this.silence > SILENT) this.bond = "silent";
    if (this.bond === "waiting" && this.silence > FIRST) this.bond = "silent";
    return this.bond !== before;
  }

  private announce(): void {
    if (this.bond === "gone" || this.bond === "over") return;
    this.announced = this.clock();
    this.counter += 1;
    this.model.set("look", { client: this.client, visible: this.visible, count: this.counter });
    this.model.save_changes();
  }
}
