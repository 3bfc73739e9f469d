// The whole panel: it reads the traits, keeps this page's own state, and draws at most once a frame.

import { ClassRow } from "./class";
import { Filter } from "./filter";
import { attribute, focusFirst, h, Keyed, shown, text } from "./dom";
import { KeptRow } from "./kept";
import { type Bond, Link } from "./link";
import { LogView } from "./log";
import { NoticeRow } from "./notice";
import type { ContainerFacts, Life, LifeTuple, Model, Notice, Traits, Verb } from "./types";
import { latest, samplesOf } from "./spark";
import { count, isGone, shortName, size, summary } from "./words";

const EXAMPLE = `%%lifecycle_cls
import lifecycle_magic as lm

class Model:
    @lm.enter()
    def load(self): ...

    @lm.method()
    def predict(self, x): ...`;

const DREW: (keyof Traits)[] = [
  "session", "classes", "containers", "lives", "kept", "samples_old", "samples_new",
  "log_shown", "log_old", "log_new", "log_cut", "notices", "acks", "beat",
];

interface Asked {
  target: string;
  verb: Verb;
  at: number;
}

let panels = 0;

export class View {
  readonly element = h("section", { class: "lcm-panel", "aria-label": "Lifecycle panel" });
  readonly link: Link;
  private readonly id = `lcm${(panels += 1)}`;
  private readonly totals = h("span", { class: "lcm-totals" });
  private readonly state = h("span", { class: "lcm-live", role: "status" });
  private readonly alert = h("div", { class: "lcm-alert", role: "alert", hidden: "" });
  private readonly notices = h("ul", { class: "lcm-notices", "aria-label": "Notices" });
  private readonly list = h("div", { class: "lcm-classes" });
  private readonly keptList = h("ul", { "aria-label": "Containers that wait for their next kernel" });
  private readonly kept = h(
    "section",
    { class: "lcm-kept", hidden: "" },
    h("div", { class: "lcm-kept-head", role: "heading", "aria-level": "3" }, "Kept for the next kernel"),
    this.keptList,
  );
  private readonly keptRows = new Keyed(this.keptList, (name) => new KeptRow(name, (verb, target) => this.press(verb, target)));
  private readonly filter = new Filter(() => this.draw());
  private readonly empty: HTMLElement;
  private readonly rows: Keyed<ClassRow>;
  private readonly said: Keyed<NoticeRow>;
  private readonly brand = h("span", { class: "lcm-brand", role: "heading", "aria-level": "2", tabindex: "-1" }, "Lifecycle");
  private readonly log: LogView;
  private readonly asked = new Map<string, Asked>();
  private readonly dismissed = new Set<number>();
  private doing = "";
  private frame = 0;
  private requests = 0;
  private logOpener: Element | null = null;

  constructor(
    private readonly model: Model,
    private readonly client: string,
    private readonly clock: () => number = () => Date.now() / 1000,
  ) {
    this.link = new Link(model, client, clock);
    this.log = new LogView(() => this.showLog(""));
    this.rows = new Keyed(this.list, (key) => new ClassRow(key, {
      press: (verb, target) => this.press(verb, target),
      logs: (target) => this.showLog(model.get("follow") === target ? "" : target),
    }, `${this.id}-${this.rows.parts.size}-${(this.requests += 1)}`));
    this.said = new Keyed(this.notices, (id) => new NoticeRow(() => {
      this.dismissed.add(Number(id));
      this.drawNotices(this.model.get("notices"));
    }));
    this.empty = h(
      "div",
      { class: "lcm-empty", hidden: "" },
      h("p", {}, h("strong", {}, "No container runs in this session yet.")),
      h("p", {}, "A cell like this one runs a class in its own container. The class then appears here with its calls, its log, and buttons to stop and restart it."),
      h("pre", { tabindex: "0", "aria-label": "An example of a cell" }, EXAMPLE),
    );
    this.element.append(
      h(
        "div",
        { class: "lcm-top" },
        this.brand,
        this.totals,
        this.state,
      ),
      this.alert,
      this.notices,
      this.filter.element,
      this.empty,
      this.list,
      this.kept,
      this.log.element,
    );
  }

  /** Draw now and after each change; return a function that ends this. */
  start(): () => void {
    const changed = (): void => this.soon();
    const beat = (): void => this.link.beat();
    const lost = (): void => {
      this.link.lost();
      this.soon();
    };
    this.model.on("change:beat", beat);
    for (const name of DREW) this.model.on(`change:${name}`, changed);
    this.model.on("change:follow", changed);
    this.model.on("comm:close", lost);
    this.model.on("comm_live_update", lost);
    const timer = setInterval(() => {
      if (this.link.tick() || this.visible) this.soon();
    }, 1000);
    this.draw();
    return () => {
      clearInterval(timer);
      cancelAnimationFrame(this.frame);
      this.model.off("change:beat", beat);
      for (const name of DREW) this.model.off(`change:${name}`, changed);
      this.model.off("change:follow", changed);
      this.model.off("comm:close", lost);
      this.model.off("comm_live_update", lost);
      this.show(false);
    };
  }

  private visible = false;

  show(visible: boolean): void {
    this.visible = visible;
    this.link.show(visible);
    if (visible) this.soon();
  }

  private soon(): void {
    if (!this.frame) {
      this.frame = requestAnimationFrame(() => {
        this.frame = 0;
        this.draw();
      });
    }
  }

  // --- drawing -----------------------------------------------------------------------------------

  draw(): void {
    const { model } = this;
    const now = this.link.now();
    const classes = model.get("classes");
    const containers = new Map<string, ContainerFacts[]>();
    for (const one of model.get("containers")) {
      const group = containers.get(one.cls);
      if (group) group.push(one);
      else containers.set(one.cls, [one]);
    }
    const lives = new Map(Object.entries(model.get("lives")).map(([name, life]) => [name, asLife(life)]));
    const pages = [model.get("samples_old"), model.get("samples_new")];
    const cores = model.get("session").cores ?? 1;
    this.settle();
    const usable = this.link.bond === "live";
    const asked = new Map([...this.asked.values()].map(({ target, verb }) => [target, verb]));
    this.rows.keep(classes.map(({ key }) => key));
    for (const facts of classes) {
      const row = this.rows.parts.get(facts.key);
      row?.update(facts, containers.get(facts.key) ?? [], lives, pages, now, cores, usable);
      row?.pending(asked, usable);
    }
    const kept = model.get("kept") ?? []; // a state saved by an older release has none
    this.keptRows.keep(kept.map(({ name }) => name));
    for (const one of kept) this.keptRows.parts.get(one.name)?.update(one, now, asked.has(one.name), usable);
    const keptRows = kept.map((facts) => ({ element: this.keptRows.parts.get(facts.name)!.element, facts }));
    this.filter.update(classes.map((facts) => {
      const states = (containers.get(facts.key) ?? []).map(({ name }) => lives.get(name)?.state ?? "");
      return { element: this.rows.parts.get(facts.key)!.element, facts, states };
    }), keptRows);
    shown(this.kept, keptRows.some(({ element }) => !element.hidden));
    shown(this.empty, classes.length === 0 && usable);
    const hooks = new Set(model.get("containers").flatMap((one) => (one.build_hook ? [one.name] : [])));
    const running = [...lives].filter(([, life]) => !isGone(life.state)).map(([name]) => name);
    const here = [...lives].filter(([name, life]) => !isGone(life.state) && !hooks.has(name)).map(([, life]) => life);
    const memory = running.reduce((sum, name) => sum + (latest(samplesOf(name, pages).memory) ?? 0), 0);
    const used = memory ? `${size(memory)} of memory` : "";
    const totals = [count(classes.length, "class").replace("classs", "classes"), summary(here), used].filter(Boolean).join(" · ");
    text(this.totals, classes.length ? (usable ? totals : `was: ${totals}`) : "");
    this.drawBond(this.link.bond);
    this.drawNotices(model.get("notices"));
    this.drawLog();
  }

  private drawBond(bond: Bond): void {
    const { session, beat } = { session: this.model.get("session"), beat: this.model.get("beat") };
    attribute(this.element, "data-bond", bond);
    const words: Record<Bond, string> = {
      waiting: "connecting",
      live: this.doing || "live",
      silent: "no answer",
      gone: "kernel exited",
      over: "session closed",
    };
    text(this.state, words[bond]);
    this.state.title = session.pid ? `session ${session.id}, kernel process ${session.pid}` : "";
    const at = beat ? new Date(beat * 1000).toLocaleTimeString() : "";
    const was = at ? ` The panel shows the state at ${at}.` : "";
    const alerts: Record<Bond, string> = {
      waiting: "",
      live: "",
      silent: beat && this.link.silence < 3600
        ? `The kernel does not answer.${was}`
        : `The kernel does not answer: this panel may be of a session that has ended.${was} Run %lifecycle to open the panel of the current session.`,
      gone: `The kernel was restarted or has exited; its containers run their exit hooks by themselves${
        this.model.get("classes").some(({ options }) => options.some((one) => one.startsWith("keep="))) ? ", and kept ones wait for the next kernel" : ""
      }.${was} Run %lifecycle to open the panel again.`,
      over: "This session is closed: the extension was unloaded, and its containers have exited. Run %load_ext lifecycle_magic to start a new one.",
    };
    text(this.alert, alerts[bond]);
    shown(this.alert, alerts[bond] !== "");
  }

  private drawNotices(all: readonly Notice[]): void {
    const visible = all.filter(({ id }) => !this.dismissed.has(id)).slice(-3);
    const before = [...this.said.parts.values()];
    const focused = before.findIndex((row) => row.element.contains(document.activeElement));
    this.said.keep(visible.map(({ id }) => `${id}`));
    for (const notice of visible) this.said.parts.get(`${notice.id}`)?.update(notice);
    shown(this.notices, visible.length > 0);
    const gone = before[focused];
    if (!gone || gone.element.isConnected) return;
    const after = [...before.slice(focused + 1), ...before.slice(0, focused).reverse(), ...this.said.parts.values()];
    focusFirst(...after.map((row) => row.dismiss), this.brand);
  }

  private drawLog(): void {
    const target = this.model.get("follow");
    const names = new Map(this.model.get("classes").map(({ key, name }) => [key, name]));
    this.log.show(target || null, names.get(target) ?? `container ${shortName(target)}`);
    if (!target) return;
    const there = this.model.get("log_shown") === target;
    const whole = this.model.get("log_old") + this.model.get("log_new");
    this.log.update(there ? whole : "", there ? (this.model.get("log_cut") ?? 0) : 0, !there);
  }

  // --- requests ----------------------------------------------------------------------------------

  private showLog(target: string): void {
    if (target) this.logOpener = this.element.querySelector(":focus");
    this.model.set("follow", target);
    this.model.save_changes();
    this.drawLog();
    if (target) this.log.focus();
    else if (this.logOpener instanceof HTMLElement) this.logOpener.focus();
  }

  private press(verb: Verb, target: string): void {
    const id = `${this.client}-${(this.requests += 1)}`;
    this.asked.set(id, { target, verb, at: this.clock() });
    this.model.send({ id, do: verb, target });
    this.draw();
  }

  /** Drop the requests that the kernel has accepted: the state shows the rest. */
  private settle(): void {
    for (const id of this.model.get("acks")) this.asked.delete(id);
    const late = [...this.asked.values()].some(({ at }) => this.clock() - at > 3);
    this.doing = late ? "live, the kernel has not accepted the request yet" : this.asked.size ? "requested" : "";
    if (this.link.bond !== "live") this.asked.clear();
  }
}

function asLife([state, since, calls, running, call, why, gpu = ""]: LifeTuple): Life {
  return { state, since, calls, running, call, why, gpu };
}
