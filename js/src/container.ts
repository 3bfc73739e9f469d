// One container: a row in the table of its class, with a line below it for details.

import { Chip } from "./chip";
import { attribute, button, h, shown, svg, text, type Part } from "./dom";
import { latest, path, type Samples } from "./spark";
import type { ContainerFacts, Life, Verb } from "./types";
import { age, elapsed, ending, isGone, isLeaving, isStarting, isWarm, seconds, shortName, size } from "./words";

const WIDTH = 64;
const HEIGHT = 16;

export interface Hands {
  press(verb: Verb, target: string, opener: HTMLElement): void;
  logs(target: string): void;
}

/** A figure with its limit and a sparkline of the last minutes. */
class Gauge implements Part {
  readonly element = h("div", { class: "lcm-gauge" });
  private readonly figure = h("span", { class: "lcm-figure" });
  private readonly limit = h("span", { class: "lcm-of" });
  private readonly area = svg("path", { class: "lcm-area" });
  private readonly line = svg("path", { class: "lcm-line" });

  constructor() {
    this.element.append(
      h("span", { class: "lcm-figures" }, this.figure, this.limit),
      svg(
        "svg",
        { class: "lcm-spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
        svg("path", { class: "lcm-base", d: `M0 ${HEIGHT - 0.5}H${WIDTH}` }),
        this.area,
        this.line,
      ),
    );
  }

  update(
    figure: number | null,
    limit: number | null,
    format: (value: number) => string,
    times: readonly number[],
    figures: readonly (number | null)[],
    now: number,
  ): void {
    const near = figure !== null && limit !== null && figure > 0.9 * limit;
    text(this.figure, figure === null ? "–" : format(figure) + (near ? " !" : ""));
    attribute(this.element, "data-near", near ? "yes" : null);
    attribute(this.element, "title", near ? "close to its limit" : null);
    text(this.limit, figure !== null && limit !== null ? ` of ${format(limit)}` : "");
    const most = figures.reduce<number>((top, one) => Math.max(top, one ?? 0), 0);
    const line = path(times, figures, now, limit ?? Math.max(most * 1.25, 1e-3), WIDTH, HEIGHT);
    attribute(this.line, "d", line);
    const one = line.lastIndexOf("M") === 0; // an area only under an unbroken line
    const start = /^M([\d.]+)/.exec(line)?.[1];
    const end = /L([\d.]+) [\d.]+$/.exec(line)?.[1];
    attribute(this.area, "d", one && start && end ? `${line}L${end} ${HEIGHT}L${start} ${HEIGHT}Z` : "");
  }
}

export const COLUMNS = ["State", "Container", "Up", "Calls", "Call", "CPU", "Memory", "Actions"] as const;

export class ContainerRow implements Part {
  readonly element = h("div", { class: "lcm-container", role: "rowgroup" });
  private readonly chip = new Chip();
  private readonly name = h("code");
  private readonly hook = h("span", { class: "lcm-hook", title: "It only runs this build hook for the image", hidden: "" });
  private readonly up = h("span");
  private readonly calls = h("span");
  private readonly call = h("span");
  private readonly cpu = new Gauge();
  private readonly memory = new Gauge();
  private readonly stop: HTMLButtonElement;
  private readonly kill: HTMLButtonElement;
  private readonly logs: HTMLButtonElement;
  private readonly more = h("div", { class: "lcm-more", role: "row", hidden: "" });
  private readonly gpu = h("span", { class: "lcm-gpu", title: "Memory and load of the whole GPU" });
  private readonly why = h("span", { class: "lcm-why" });
  private readonly bar = h("div", { class: "lcm-bar", role: "progressbar", "aria-valuemin": "0" }, h("i"));
  private readonly tail = h("pre", { class: "lcm-tail", tabindex: "0" });

  constructor(
    readonly key: string,
    hands: Hands,
  ) {
    const short = shortName(key);
    text(this.name, short);
    this.name.title = key;
    this.stop = button("Stop", `Stop container ${short}`, () => hands.press("stop", key, this.stop));
    this.kill = button("Kill", `Kill container ${short}`, () => hands.press("kill", key, this.kill), "lcm-bad");
    this.logs = button("Logs", `Logs of container ${short}`, () => hands.logs(key));
    attribute(this.tail, "aria-label", `Last lines of container ${short}`);
    attribute(this.bar, "aria-label", `Part of the grace that exit of container ${short} has used`);
    const actions = h("div", { class: "lcm-actions" }, this.stop, this.kill, this.logs);
    const parts = [
      this.chip.element, h("span", {}, this.name, this.hook), this.up, this.calls, this.call,
      this.cpu.element, this.memory.element, actions,
    ];
    const row = h("div", { class: "lcm-line-of", role: "row" });
    parts.forEach((part, n) => {
      const column = COLUMNS[n] ?? "";
      row.append(h("div", { class: `lcm-cell lcm-c${n}`, role: "cell", "data-column": column }, part));
    });
    const cell = h("div", { role: "cell", class: "lcm-more-cell" }, this.gpu, this.why, this.bar, this.tail);
    this.more.append(cell);
    this.element.append(row, this.more);
  }

  update(facts: ContainerFacts, life: Life, samples: Samples, now: number, cores: number, live: boolean): void {
    const gone = isGone(life.state);
    const inState = now - life.since;
    const going = isStarting(life.state) || isLeaving(life.state);
    const words = going ? `${life.state} ${elapsed(inState)}` : life.state;
    this.chip.update(life.state, live || gone ? words : `was ${words}`);
    text(this.hook, facts.build_hook);
    shown(this.hook, facts.build_hook !== "");
    attribute(this.element, "data-state", life.state);
    text(this.up, gone ? seconds(Math.max(0, (facts.ended ?? life.since) - facts.began)) : age(now - facts.began));
    text(this.calls, gone ? "" : life.calls.toLocaleString("en-US"));
    text(this.call, life.call === null ? "" : elapsed(now - life.call) + (life.running > 1 ? ` × ${life.running}` : ""));
    shown(this.cpu.element, !gone);
    shown(this.memory.element, !gone);
    if (!gone) {
      const { t, cpu, memory } = samples;
      const cpuNow = latest(cpu);
      this.cpu.update(cpuNow, facts.cpu ?? cores, (value) => (Number.isInteger(value) ? `${value}` : value.toFixed(2)), t, cpu, now);
      this.memory.update(latest(memory), facts.memory, size, t, memory, now);
    }
    const hook = facts.build_hook !== "" && !gone;
    shown(this.stop, isWarm(life.state) || hook);
    shown(this.kill, going && !hook);
    this.updateMore(facts, life, gone, inState);
  }

  private updateMore(facts: ContainerFacts, life: Life, gone: boolean, inState: number): void {
    const exiting = life.state === "exiting";
    let why = gone ? ending(facts, life) : life.why;
    if (exiting) why = `exit ${elapsed(inState)} of ${elapsed(facts.grace)}${why ? `: ${why}` : ""}`;
    const gpu = gone ? "" : life.gpu;
    text(this.gpu, gpu);
    shown(this.gpu, gpu !== "");
    text(this.why, why);
    shown(this.bar, exiting);
    if (exiting) {
      const most = Math.max(facts.grace, 1);
      const part = Math.min(1, Math.max(0, inState / most));
      attribute(this.bar, "aria-valuemax", `${most}`);
      attribute(this.bar, "aria-valuenow", `${Math.round(part * most)}`);
      (this.bar.firstElementChild as HTMLElement).style.inlineSize = `${(100 * part).toFixed(1)}%`;
    }
    const errors = facts.exits.map((exit) => exit.error).filter((error) => error !== null);
    const tail = [...errors, facts.tail].join("\n").trim();
    text(this.tail, tail.split("\n").slice(-12).join("\n"));
    shown(this.tail, tail !== "");
    shown(this.more, why !== "" || tail !== "" || gpu !== "");
  }

  /** Show the request that the kernel has not accepted yet; null for none. */
  pending(verb: Verb | null, usable: boolean): void {
    attribute(this.stop, "aria-disabled", usable && !verb ? null : "true");
    attribute(this.kill, "aria-disabled", usable && !verb ? null : "true");
    text(this.stop, verb === "stop" ? "Stopping…" : "Stop");
    text(this.kill, verb === "kill" ? "Killing…" : "Kill");
    attribute(this.logs, "aria-disabled", usable ? null : "true");
  }
}
