// One container that waits for the next kernel of its notebook: where, how long, and a Stop button.

import { attribute, button, h, shown, text, type Part } from "./dom";
import type { Kept, Verb } from "./types";
import { elapsed, shortName } from "./words";

export class KeptRow implements Part {
  readonly element = h("li", { class: "lcm-kept-row" });
  private readonly name = h("strong");
  private readonly where = h("span", { class: "lcm-kept-where" });
  private readonly left = h("span", { class: "lcm-kept-left" });
  private readonly stop: HTMLButtonElement;
  private readonly ask = h("div", { class: "lcm-ask", role: "alertdialog", hidden: "" });
  private facts: Kept | null = null;

  constructor(
    name: string,
    private readonly press: (verb: Verb, target: string) => void,
  ) {
    this.stop = button("Stop", `Stop container ${shortName(name)}`, () => this.confirm());
    this.element.append(h("div", { class: "lcm-kept-line" }, this.name, this.where, this.left, this.stop), this.ask);
  }

  update(facts: Kept, now: number, stopping: boolean, usable: boolean): void {
    this.facts = facts;
    text(this.name, facts.cls);
    this.name.title = facts.name;
    text(this.where, `${shortName(facts.name)}  ·  ${facts.engine}  ·  ${facts.notebook}`);
    text(this.left, facts.ends === null ? "finishing a call" : `${elapsed(facts.ends - now)} left`);
    text(this.stop, stopping ? "Stopping…" : "Stop");
    attribute(this.stop, "aria-disabled", usable && !stopping ? null : "true");
    if (!usable) shown(this.ask, false);
  }

  private confirm(): void {
    const { facts } = this;
    if (!facts) return;
    const close = (): void => {
      shown(this.ask, false);
      this.ask.replaceChildren();
      this.stop.focus();
    };
    const what = `container ${shortName(facts.name)}`;
    const yes = button("Stop", `Stop ${what} now`, () => {
      close();
      this.press("stop", facts.name);
    }, "lcm-bad");
    const no = button("Keep", `Keep ${what}`, close);
    attribute(this.ask, "aria-label", `Stop ${what}?`);
    const lost = " Its exit hooks run, and what enter has loaded is lost to the next kernel.";
    this.ask.replaceChildren(h("p", {}, h("strong", {}, `Stop ${facts.cls}?`), lost), yes, no);
    this.ask.onkeydown = (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        close();
      }
    };
    shown(this.ask, true);
    no.focus(); // a second Enter destroys nothing
  }
}
