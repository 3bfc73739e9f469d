// One class: its figures, its build, its containers, and the confirmation before state is lost.

import { Chip } from "./chip";
import { COLUMNS, ContainerRow, type Hands } from "./container";
import { attribute, button, h, Keyed, shown, text, type Part } from "./dom";
import { samplesOf } from "./spark";
import type { ClassFacts, ContainerFacts, Life, Page, State, Step, Verb } from "./types";
import { WebLink } from "./web";
import { count, destroys, elapsed, endOfBuild, isGone, isLeaving, loss, seconds, shortName } from "./words";

/** A class with more containers than this is folded at first. */
const OPEN = 12;

const DOING: Record<Verb, string> = {
  stop: "Stopping…",
  restart: "Restarting…",
  warm: "Warming…",
  kill: "Killing…",
};
const LABEL: Record<Verb, string> = { stop: "Stop", restart: "Restart", warm: "Warm", kill: "Kill" };

class Figure implements Part {
  readonly element = h("div", { class: "lcm-fact" });
  private readonly value = h("span", { class: "lcm-value" });

  constructor(name: string) {
    this.element.append(h("span", { class: "lcm-key" }, name), " ", this.value);
  }

  update(value: string, bad = false): void {
    text(this.value, value);
    attribute(this.element, "data-bad", bad ? "yes" : null);
  }
}

class StepRow implements Part {
  readonly element = h("li");
  private readonly mark = h("span", { class: "lcm-mark" });
  private readonly name = h("code");
  private readonly took = h("span", { class: "lcm-took" });
  private readonly detail = h("code", { class: "lcm-detail" });

  constructor() {
    this.element.append(this.mark, this.name, this.took, this.detail);
  }

  update(step: Step, now: number): void {
    const marks = { running: "…", done: "✓", cached: "=", failed: "✗" };
    attribute(this.element, "data-status", step.status);
    text(this.mark, marks[step.status]);
    text(this.name, step.text);
    this.name.title = step.text;
    const took = step.seconds === null ? elapsed(now - step.began) : seconds(step.seconds);
    text(this.took, step.status === "cached" ? "cached" : step.status === "failed" ? `failed after ${took}` : took);
    text(this.detail, step.detail);
    shown(this.detail, step.detail !== "");
  }
}

export class ClassRow implements Part {
  readonly element = h("section", { class: "lcm-class" });
  private readonly name = h("span", { class: "lcm-name" });
  private readonly variant = h("span", { class: "lcm-variant" }, "with_options");
  private readonly fold = h("button", { type: "button", class: "lcm-fold", "aria-expanded": "true" });
  private readonly chips = h("div", { class: "lcm-chips" });
  private readonly states: Keyed<Chip>;
  private readonly figures = {
    calls: new Figure("calls"),
    p50: new Figure("p50"),
    p99: new Figure("p99"),
    failed: new Figure("failed calls"),
  };
  private readonly meta = h("div", { class: "lcm-meta" });
  private readonly build = h("details", { class: "lcm-build" });
  private readonly built = h("summary");
  private readonly steps: Keyed<StepRow>;
  private readonly web: Keyed<WebLink>;
  private readonly links = h("ul", { class: "lcm-web", "aria-label": "Addresses", hidden: "" });
  private readonly ask = h("div", { class: "lcm-ask", role: "alertdialog", hidden: "" });
  private readonly table = h("div", { class: "lcm-table", role: "table" });
  private readonly none = h("p", { class: "lcm-none" });
  private readonly rows: Keyed<ContainerRow>;
  private readonly body = h("div", { class: "lcm-body" });
  private readonly buttons: Record<"warm" | "restart" | "stop", HTMLButtonElement>;
  private readonly logs: HTMLButtonElement;
  private opened: boolean | null = null;
  private again: () => void = () => {};
  private buildState = "";
  private facts: ClassFacts | null = null;
  private lives = new Map<string, Life>();
  /** Containers that only run a build hook, with its name. */
  private hooks = new Map<string, string>();
  private askedBy: HTMLElement | null = null;
  private scroll = h("div", { class: "lcm-scroll" });

  constructor(
    readonly key: string,
    private readonly hands: Hands,
    private readonly id: string,
  ) {
    this.fold.append(h("span", { class: "lcm-arrow", "aria-hidden": "true" }), this.name);
    attribute(this.fold, "aria-controls", `${id}-body`);
    this.body.id = `${id}-body`;
    this.fold.addEventListener("click", () => this.open(!this.isOpen()));
    this.states = new Keyed(this.chips, () => new Chip());
    this.web = new Keyed(this.links, () => new WebLink());
    const own = (verb: "warm" | "restart" | "stop", kind = ""): HTMLButtonElement =>
      button(LABEL[verb], LABEL[verb], () => this.press(verb, key, this.buttons[verb]), kind);
    this.buttons = { warm: own("warm"), restart: own("restart"), stop: own("stop") };
    this.logs = button("Logs", "Logs", () => hands.logs(key));
    const list = h("ol");
    this.steps = new Keyed(list, () => new StepRow());
    this.build.append(this.built, list);
    const heads = COLUMNS.map((column, n) =>
      h("div", { role: "columnheader", class: `lcm-cell lcm-c${n}` }, n === 7 ? h("span", { class: "lcm-unseen" }, column) : column),
    );
    const head = h("div", { role: "rowgroup", class: "lcm-heads" }, h("div", { role: "row", class: "lcm-line-of" }, ...heads));
    const rows = h("div", { class: "lcm-rows", role: "presentation" });
    this.rows = new Keyed(rows, (name) => new ContainerRow(name, { press: (v, t, o) => this.press(v, t, o), logs: hands.logs }));
    this.table.append(head, rows);
    this.scroll.append(this.table);
    this.body.append(this.none, this.scroll);
    const figures = h("div", { class: "lcm-facts" });
    for (const figure of Object.values(this.figures)) figures.append(figure.element);
    this.element.append(
      h(
        "div",
        { class: "lcm-row" },
        h("div", { class: "lcm-title", role: "heading", "aria-level": "3" }, this.fold, this.variant),
        this.chips,
        figures,
        h("div", { class: "lcm-actions" }, this.buttons.warm, this.buttons.restart, this.buttons.stop, this.logs),
      ),
      this.meta,
      this.links,
      this.build,
      this.ask,
      this.body,
    );
  }

  private isOpen(): boolean {
    return this.opened ?? this.rows.parts.size <= OPEN;
  }

  private open(value: boolean): void {
    this.opened = value;
    this.again(); // the rows of a folded class were not updated
  }

  private unfold(): void {
    attribute(this.fold, "aria-expanded", `${this.isOpen()}`);
    shown(this.body, this.isOpen());
  }

  update(
    facts: ClassFacts,
    containers: readonly ContainerFacts[],
    lives: ReadonlyMap<string, Life>,
    pages: readonly Page[],
    now: number,
    cores: number,
    live: boolean,
  ): void {
    this.again = () => this.update(facts, containers, lives, pages, now, cores, live);
    this.facts = facts;
    this.lives = new Map(containers.flatMap(({ name }) => {
      const life = lives.get(name);
      return life ? [[name, life] as const] : [];
    }));
    this.hooks = new Map(containers.flatMap(({ name, build_hook }) => (build_hook ? [[name, build_hook] as const] : [])));
    const all = [...this.lives].filter(([, life]) => !isGone(life.state));
    const here = all.filter(([name]) => !this.hooks.has(name)).map(([, life]) => life);
    text(this.name, facts.name);
    this.name.title = facts.name;
    const label = [facts.name, facts.app && `of app ${facts.app}`, facts.variant && "with its own options"].filter(Boolean).join(" ");
    attribute(this.element, "aria-label", label);
    shown(this.variant, facts.variant);
    this.updateChips(facts, here, live);
    this.figures.calls.update(facts.calls.toLocaleString("en-US"));
    this.figures.p50.update(facts.p50 === null ? "–" : seconds(facts.p50));
    this.figures.p99.update(facts.p99 === null ? "–" : seconds(facts.p99));
    this.figures.failed.update(facts.failures.toLocaleString("en-US"), facts.failures > 0);
    const pools = facts.pools > 1 ? ` in ${count(facts.pools, "pool")}` : "";
    const staying = here.filter(({ state }) => !isLeaving(state)).length;
    const bound = facts.declared ? "" : `${staying} of ${count(facts.most * Math.max(1, facts.pools), "container")}${pools}`;
    text(this.meta, [facts.app && `app ${facts.app}`, facts.engine, facts.image, bound, ...facts.options].filter(Boolean).join("  ·  "));
    this.web.keep(facts.web.map(({ method }) => method));
    for (const one of facts.web) this.web.parts.get(one.method)?.update(one);
    shown(this.links, facts.web.length > 0);
    this.updateBuild(facts, now);
    this.rows.keep(containers.map(({ name }) => name));
    this.unfold();
    shown(this.buttons.restart, here.length > 0);
    shown(this.buttons.stop, all.length > 0);
    const building = facts.build.some((step) => step.status === "running");
    shown(this.buttons.warm, here.length === 0 && !facts.needs_arguments && !building);
    for (const [verb, element] of Object.entries(this.buttons)) {
      attribute(element, "aria-label", `${LABEL[verb as Verb]} ${label}`);
    }
    attribute(this.logs, "aria-label", `Logs of ${label}`);
    attribute(this.table, "aria-label", `Containers of ${label}`);
    attribute(this.scroll, "tabindex", containers.length > OPEN ? "0" : null);
    attribute(this.scroll, "role", containers.length > OPEN ? "region" : null);
    attribute(this.scroll, "aria-label", containers.length > OPEN ? `Containers of ${label}` : null);
    shown(this.none, containers.length === 0);
    shown(this.scroll, containers.length > 0);
    text(this.none, this.whyNone(facts));
    if (!this.isOpen()) return;
    for (const one of containers) {
      const life = this.lives.get(one.name);
      if (life) this.rows.parts.get(one.name)?.update(one, life, samplesOf(one.name, pages), now, cores, live);
    }
  }

  private whyNone(facts: ClassFacts): string {
    if (facts.build.some((step) => step.status === "running")) return "No container yet.";
    if (facts.failed) return `Failed. The next call tries again.\n${facts.failed}`;
    if (facts.declared) return "Declared. The first call builds the image and starts a container.";
    if (facts.needs_arguments) {
      return `No container. The class takes arguments, so the first call of ${facts.name}(…) starts one.`;
    }
    return "No container. The next call starts one. Warm starts one now.";
  }

  private updateChips(facts: ClassFacts, here: readonly Life[], live: boolean): void {
    const order: State[] = ["building", "starting", "entering", "busy", "idle", "draining", "exiting", "failed"];
    const counts = new Map<string, number>();
    for (const life of here) counts.set(life.state, (counts.get(life.state) ?? 0) + 1);
    if (facts.build.some((step) => step.status === "running")) counts.set("building", counts.get("building") ?? 0);
    const ended = [...this.lives.values()].filter(({ state }) => isGone(state)).sort((a, b) => b.since - a.since);
    const failed = facts.failed || facts.build.some((step) => step.status === "failed") || ended[0]?.state === "failed";
    if (failed && !here.length) counts.set("failed", 0);
    const keys = order.filter((state) => counts.has(state));
    this.states.keep(keys);
    for (const state of keys) {
      const number = counts.get(state) ?? 0;
      const words = number ? `${number} ${state}` : state;
      this.states.parts.get(state)?.update(state, live ? words : `was: ${words}`);
    }
  }

  private updateBuild(facts: ClassFacts, now: number): void {
    const { build } = facts;
    shown(this.build, build.length > 0);
    if (!build.length) return;
    const failed = build.find((step) => step.status === "failed");
    const running = build.find((step) => step.status === "running");
    const cached = build.filter((step) => step.status === "cached").length;
    const first = build[0]?.began ?? now;
    const took = build.reduce((sum, step) => sum + (step.seconds ?? 0), 0);
    const state = failed ? "failed" : running ? "running" : "done";
    if (state !== this.buildState) {
      this.build.open = state !== "done";
      this.buildState = state;
      attribute(this.build, "data-status", state);
    }
    const at = running ? build.indexOf(running) + 1 : build.length;
    if (failed) text(this.built, `Image build failed: ${failed.text}`);
    else if (running) text(this.built, `Building the image: step ${at} of ${Math.max(facts.steps, build.length)}, ${elapsed(now - first)}`);
    else if (cached === build.length) text(this.built, `Image found: ${count(cached, "step")} cached`);
    else text(this.built, `Image built in ${seconds(took)}: ${count(build.length, "step")}${cached ? `, ${cached} cached` : ""}`);
    const keys = build.map((_, n) => `${n}`);
    this.steps.keep(keys);
    build.forEach((step, n) => this.steps.parts.get(`${n}`)?.update(step, now));
  }

  // --- the confirmation ------------------------------------------------------------------------

  private press(verb: Verb, target: string, opener: HTMLElement): void {
    if (!destroys(verb)) {
      this.hands.press(verb, target, opener);
      return;
    }
    if (!this.facts) return;
    const whole = target === this.key;
    const touched = [...this.lives].filter(([name, life]) => (whole || name === target) && !isGone(life.state));
    const hooks = touched.flatMap(([name]) => this.hooks.get(name) ?? []);
    const serving = touched.filter(([name]) => !this.hooks.has(name)).map(([, life]) => life);
    const here = touched.length;
    const what = whole ? `${this.facts.name} (${count(here, "container")})` : `container ${shortName(target)}`;
    const close = (): void => {
      shown(this.ask, false);
      this.ask.replaceChildren();
      if (this.askedBy?.isConnected && !this.askedBy.hidden) this.askedBy.focus();
      else this.fold.focus();
    };
    const yes = button(LABEL[verb], `${LABEL[verb]} ${what}`, () => {
      close();
      this.hands.press(verb, target, opener);
    }, "lcm-bad");
    const ended = hooks.length && verb !== "restart" ? endOfBuild(hooks) : "";
    const losses = [ended, serving.length || !ended ? loss(verb, this.facts, serving) : ""].filter(Boolean).join(" ");
    const no = button("Keep", `Keep ${what}`, close);
    const warning = h("p", {}, h("strong", {}, `${LABEL[verb]} ${what}?`), ` ${losses}`);
    warning.id = `${this.id}-lost`;
    attribute(this.ask, "aria-describedby", warning.id);
    attribute(this.ask, "aria-label", `${LABEL[verb]} ${what}?`);
    this.ask.replaceChildren(warning, yes, no);
    this.ask.onkeydown = (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        close();
      }
    };
    this.askedBy = opener;
    shown(this.ask, true);
    no.focus(); // a second Enter destroys nothing
  }

  /** Show the requests that the kernel has not accepted yet: target → verb. */
  pending(asked: ReadonlyMap<string, Verb>, usable: boolean): void {
    const verb = asked.get(this.key) ?? null;
    for (const [name, element] of Object.entries(this.buttons) as ["warm" | "restart" | "stop", HTMLButtonElement][]) {
      attribute(element, "aria-disabled", usable && !verb ? null : "true");
      text(element, verb === name ? DOING[name] : LABEL[name]);
    }
    attribute(this.logs, "aria-disabled", usable ? null : "true");
    if (!usable && !this.ask.hidden) {
      shown(this.ask, false);
      this.ask.replaceChildren();
    }
    for (const [name, row] of this.rows.parts) row.pending(asked.get(name) ?? null, usable);
  }
}
