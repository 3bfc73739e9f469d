// Whether the kernel is there, and telling it that somebody looks. No DOM: the clock, the timer and
// the model are handed in.
//
// The kernel sends a beat at least every 6 s while somebody looks. What the model held before the
// first beat came may be of a kernel that is long gone, so until then nothing is called live.

import type { Model } from "./types";

export type Bond =
  | "waiting" // nothing was heard yet
  | "live"
  | "silent" // the beats stopped
  | "gone" // the front end says that the connection is closed
  | "over"; // the kernel says that the session is over

export const RENEW = 10;
export const SILENT = 12;
export const FIRST = 8;

export class Link {
  bond: Bond = "waiting";
  /** What to add to this page's clock to get the kernel's; seconds. */
  offset = 0;
  private heard: number;
  private told = -Infinity;
  private visible = false;
  private counter = 0;

  constructor(
    private readonly model: Model,
    private readonly client: string,
    private readonly clock: () => number,
  ) {
    this.heard = clock();
  }

  /** Seconds since the last sign of life. */
  get silence(): number {
    return this.clock() - this.heard;
  }

  /** The time by the kernel's clock; it stands at the last beat while the kernel is not heard. */
  now(): number {
    return this.bond === "live" ? this.clock() + this.offset : this.model.get("beat");
  }

  /** A beat came. */
  beat(): void {
    this.heard = this.clock();
    this.offset = this.model.get("beat") - this.heard;
    this.bond = this.model.get("session").open === false ? "over" : "live";
  }

  /** The front end lost the kernel, or has one again under which this panel is not known. */
  lost(): void {
    if (this.bond !== "over") this.bond = "gone";
  }

  /** The panel can be seen, or can't any more. */
  show(visible: boolean): void {
    if (visible === this.visible) return;
    this.visible = visible;
    if (visible && this.bond !== "gone") this.heard = this.clock(); // no beats came: none were asked for
    this.say();
  }

  /** Once a second: renew, and notice silence. Whether the bond changed. */
  tick(): boolean {
    if (!this.visible) return false;
    if (this.clock() - this.told >= RENEW) this.say();
    const before = this.bond;
    if (this.bond === "live" && this.silence > SILENT) this.bond = "silent";
    if (this.bond === "waiting" && this.silence > FIRST) this.bond = "silent";
    return this.bond !== before;
  }

  private say(): void {
    if (this.bond === "gone" || this.bond === "over") return;
    this.told = this.clock();
    this.counter += 1;
    this.model.set("look", { client: this.client, visible: this.visible, count: this.counter });
    this.model.save_changes();
  }
}
