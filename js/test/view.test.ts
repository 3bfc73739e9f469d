import { beforeEach, describe, expect, it } from "vitest";
import type { ClassFacts, ContainerFacts, Kept, LifeTuple, State, Step } from "../src/types";
import { View } from "../src/view";
import { Fake } from "./model";

let now = 2000;
let model: Fake;
let view: View;

const cls = (name: string, more: Partial<ClassFacts> = {}): ClassFacts => ({
  key: `cell/${name}`, name, app: "", variant: false, declared: false, failed: "", engine: "docker",
  image: "python:3.11-slim", options: ["cpu=2"], enter: ["load"], exit: ["close"],
  needs_arguments: false, pools: 1, most: 4, calls: 1234, failures: 2, p50: 0.0042, p99: 1.5,
  build: [], steps: 0, web: [], ...more,
});

const container = (name: string, of: string, more: Partial<ContainerFacts> = {}): ContainerFacts => ({
  name, cls: `cell/${of}`, began: 1900, grace: 30, cpu: null, memory: 512, ended: null, exits: [], tail: "", build_hook: "", ...more,
});

const life = (state: State, more: { since?: number; calls?: number; running?: number; call?: number | null; why?: string; gpu?: string } = {}): LifeTuple => [
  state, more.since ?? 1990, more.calls ?? 3, more.running ?? 0, more.call ?? null, more.why ?? "", more.gpu ?? "",
];

const step = (text: string, status: Step["status"], seconds: number | null, detail = ""): Step => ({ text, status, began: 1995, seconds, detail });

const start = (traits: ConstructorParameters<typeof Fake>[0] = {}): void => {
  model = new Fake(traits);
  view = new View(model, "me", () => now);
  document.body.replaceChildren(view.element);
  view.start();
  model.set("beat", now);
  view.draw();
};

const all = (selector: string): HTMLElement[] => [...view.element.querySelectorAll<HTMLElement>(selector)];
const one = (selector: string): HTMLElement => {
  const found = all(selector);
  expect(found.length, selector).toBeGreaterThan(0);
  return found[0]!;
};
const named = (name: string): HTMLButtonElement => one(`button[aria-label="${name}"]`) as HTMLButtonElement;
const seen = (element: HTMLElement): boolean => !element.closest("[hidden]");

beforeEach(() => {
  now = 2000;
});

describe("an empty session", () => {
  it("says how to begin", () => {
    start();
    expect(seen(one(".lcm-empty"))).toBe(true);
    expect(one(".lcm-empty pre").textContent).toContain("%%lifecycle_cls");
  });

  it("is not told of before the kernel was heard", () => {
    model = new Fake();
    view = new View(model, "me", () => now);
    view.draw();
    expect(seen(one(".lcm-empty"))).toBe(false);
  });
});

describe("a class", () => {
  it("has its figures, options and the size of its pool", () => {
    start({
      classes: [cls("Model")],
      containers: [container("lm-model-1", "Model")],
      lives: { "lm-model-1": life("busy", { running: 1, call: 1996 }) },
    });
    expect(one(".lcm-facts").textContent).toBe("calls 1,234p50 4.2 msp99 1.5 sfailed calls 2");
    expect(one(".lcm-meta").textContent).toBe("docker  ·  python:3.11-slim  ·  1 of 4 containers  ·  cpu=2");
    expect(one(".lcm-chips").textContent).toBe("1 busy");
    expect(one(".lcm-totals").textContent).toBe("1 class · 1 busy");
  });

  it("unfolds and folds by its button, and begins folded with many containers", () => {
    const many = Array.from({ length: 100 }, (_, n) => container(`lm-model-${n}`, "Model"));
    start({
      classes: [cls("Model")],
      containers: many,
      lives: Object.fromEntries(many.map(({ name }) => [name, life("idle")])),
    });
    const fold = one(".lcm-fold");
    expect(fold.getAttribute("aria-expanded")).toBe("false");
    expect(seen(one(".lcm-table"))).toBe(false);
    fold.click();
    expect(fold.getAttribute("aria-expanded")).toBe("true");
    expect(all(".lcm-container").map((row) => row.dataset["state"])).toEqual(Array(100).fill("idle"));
  });

  it("shows its build by step, with the time that runs and what a step printed", () => {
    start({ classes: [cls("Model", { build: [step("pip install six", "done", 1.5), step("train()", "running", null, "epoch 3")], steps: 3 })] });
    expect((one(".lcm-build") as HTMLDetailsElement).open).toBe(true);
    expect(one(".lcm-build summary").textContent).toBe("Building the image: step 2 of 3, 5 s");
    expect(all(".lcm-build li").map((li) => li.textContent)).toEqual(["✓pip install six1.5 s", "…train()5 sepoch 3"]);
    model.set("classes", [cls("Model", { build: [step("pip install six", "done", 1.5), step("train()", "cached", 0)], steps: 2 })]);
    view.draw();
    expect((one(".lcm-build") as HTMLDetailsElement).open).toBe(false);
    expect(one(".lcm-build summary").textContent).toBe("Image built in 1.5 s: 2 steps, 1 cached");
  });

  it("says what to do where it has no container", () => {
    start({ classes: [cls("Model"), cls("Needs", { needs_arguments: true })] });
    const [model_, needs] = all(".lcm-none").filter(seen);
    expect(model_!.textContent).toContain("The next call starts one");
    expect(needs!.textContent).toContain("Needs(…) starts one");
    expect(seen(named("Warm Model"))).toBe(true);
    expect(seen(named("Warm Needs"))).toBe(false);
  });
});

describe("a container that waits for the next kernel", () => {
  const kept = (more: Partial<Kept> = {}): Kept => ({
    name: "lm-model-1", cls: "Model", engine: "ssh://me@box", notebook: "notebook /work/a.ipynb", ends: 2600, ...more,
  });

  it("has a row of its own, which says where and for how long", () => {
    start({ kept: [kept(), kept({ name: "lm-model-2", ends: null })] });
    expect(seen(one(".lcm-kept"))).toBe(true);
    expect(all(".lcm-kept-where").map((e) => e.textContent)[0]).toBe("1  ·  ssh://me@box  ·  notebook /work/a.ipynb");
    expect(all(".lcm-kept-left").map((e) => e.textContent)).toEqual(["10 min 0 s left", "finishing a call"]);
    now = 2030;
    model.set("beat", now);
    view.draw();
    expect(one(".lcm-kept-left").textContent).toBe("9 min 30 s left");
    model.set("kept", []);
    view.draw();
    expect(seen(one(".lcm-kept"))).toBe(false);
  });

  it("is stopped only after a second word", () => {
    start({ kept: [kept()] });
    named("Stop container 1").click();
    expect(model.sent).toEqual([]);
    expect(document.activeElement).toBe(named("Keep container 1"));
    named("Stop container 1 now").click();
    expect(model.sent).toMatchObject([{ do: "stop", target: "lm-model-1" }]);
    expect(named("Stop container 1").textContent).toBe("Stopping…");
  });
});

describe("a container", () => {
  const show = (state: State, more: Parameters<typeof life>[1] = {}, facts: Partial<ContainerFacts> = {}): void =>
    start({
      classes: [cls("Model")],
      containers: [container("lm-model-1", "Model", facts)],
      lives: { "lm-model-1": life(state, more) },
      samples_old: {},
      samples_new: { t: [1998, 2000], of: { "lm-model-1": [0.5, 100, 1.25, 480] } },
    });
  const cells = (): (string | null)[] => all(".lcm-container [role=cell]").slice(0, 7).map((cell) => cell.textContent);

  it("has its state, age, calls, the current call's time, and what it uses of what it may", () => {
    show("busy", { running: 2, call: 1996 });
    expect(cells()).toEqual(["busy", "1", "1 min", "3", "4 s × 2", "1.25 of 2", "480 MiB ! of 512 MiB"]);
    expect(one(".lcm-line").getAttribute("d")).toMatch(/^M.*L/);
  });

  it("shows its GPUs until it has exited", () => {
    show("idle", { gpu: "GPU 0: 3.1 GiB of 22.5 GiB, 45 %" });
    expect(one(".lcm-gpu").textContent).toBe("GPU 0: 3.1 GiB of 22.5 GiB, 45 %");
    expect(seen(one(".lcm-gpu"))).toBe(true);
    show("exited", { gpu: "GPU 0" });
    expect(seen(one(".lcm-gpu"))).toBe(false);
  });

  it("says how long it has been on its way up or out", () => {
    show("entering");
    expect(cells()[0]).toBe("entering 10 s");
    show("exiting", { why: "stopped in the panel" });
    expect(cells()[0]).toBe("exiting 10 s");
    expect(one(".lcm-why").textContent).toBe("exit 10 s of 30 s: stopped in the panel");
    expect(one(".lcm-bar").getAttribute("aria-valuenow")).toBe("10");
    expect(seen(named("Kill container 1"))).toBe(true);
  });

  it("says why it failed, with its last lines", () => {
    show("failed", { why: "it ran out of memory" }, { ended: 1990, tail: "loading\nkilled <b>" });
    expect(one(".lcm-container").dataset["state"]).toBe("failed");
    expect(one(".lcm-why").textContent).toBe("it ran out of memory");
    expect(one(".lcm-tail").textContent).toBe("loading\nkilled <b>");
    expect(all(".lcm-tail b").length).toBe(0);
    expect(seen(named("Stop container 1"))).toBe(false);
  });

  it("counts up while nothing is sent", () => {
    show("busy", { running: 1, call: 1996 });
    now += 3;
    view.draw();
    expect(cells()[4]).toBe("7 s");
  });
});

describe("buttons", () => {
  beforeEach(() =>
    start({
      classes: [cls("Model")],
      containers: [container("lm-model-1", "Model")],
      lives: { "lm-model-1": life("busy", { running: 1 }) },
    }));

  it("ask before they destroy, say what is lost, and take no for an answer", () => {
    named("Stop Model").focus();
    named("Stop Model").click();
    expect(one(".lcm-ask").textContent).toContain("What load() made is lost. 1 running call is cancelled first, then close() runs.");
    const ask = one(".lcm-ask");
    expect(ask.getAttribute("role")).toBe("alertdialog");
    expect(document.getElementById(ask.getAttribute("aria-describedby")!)?.textContent).toContain("load() made is lost");
    expect(document.activeElement?.textContent).toBe("Keep");
    one(".lcm-ask").dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
    expect(seen(one(".lcm-ask"))).toBe(false);
    expect(document.activeElement).toBe(named("Stop Model"));
    expect(model.sent).toEqual([]);
  });

  it("answer at once, and go back when the kernel has taken the request", () => {
    named("Stop Model").click();
    (one(".lcm-ask button") as HTMLButtonElement).click();
    expect(model.sent).toEqual([{ id: expect.any(String), do: "stop", target: "cell/Model" }]);
    expect(named("Stop Model").textContent).toBe("Stopping…");
    named("Stop Model").click();
    expect(seen(one(".lcm-ask"))).toBe(false);
    model.set("acks", [(model.sent[0] as { id: string }).id]);
    view.draw();
    expect(named("Stop Model").textContent).toBe("Stop");
  });

  it("reach one container as well", () => {
    named("Stop container 1").click();
    (one(".lcm-ask button") as HTMLButtonElement).click();
    expect(model.sent).toEqual([{ id: expect.any(String), do: "stop", target: "lm-model-1" }]);
  });

  it("do not ask where nothing is lost", () => {
    model.set("containers", []);
    model.set("lives", {});
    view.draw();
    named("Warm Model").click();
    expect(model.sent).toHaveLength(1);
    expect(named("Warm Model").textContent).toBe("Warming…");
  });

  it("do nothing once the kernel is gone, and the panel says so", () => {
    model.emit("comm:close");
    view.draw();
    named("Stop Model").click();
    expect(seen(one(".lcm-ask"))).toBe(false);
    expect(one(".lcm-alert").textContent).toContain("The kernel was restarted or has exited");
    expect(view.element.dataset["bond"]).toBe("gone");
  });

  it("keep the focus while rows come and go", () => {
    named("Stop container 1").focus();
    model.set("containers", [container("lm-model-0", "Model"), container("lm-model-1", "Model")]);
    model.set("lives", { "lm-model-0": life("starting"), "lm-model-1": life("idle") });
    view.draw();
    expect(document.activeElement).toBe(named("Stop container 1"));
    expect(all(".lcm-container code").map((code) => code.textContent)).toEqual(["0", "1"]);
  });
});

describe("the log", () => {
  beforeEach(() => {
    start({ classes: [cls("Model")], containers: [], lives: {} });
    named("Logs of Model").click();
  });

  it("is asked for, shown as plain text, and searched", () => {
    expect(model.get("follow")).toBe("cell/Model");
    expect(seen(one(".lcm-logs"))).toBe(true);
    model.set("log_shown", "cell/Model");
    model.set("log_old", "one <script>x</script>\nhalf a ");
    model.set("log_new", "line\n\x1b[31mERROR\x1b[0m\n");
    view.draw();
    expect(all(".lcm-log-line").map((line) => line.textContent)).toEqual(["one <script>x</script>", "half a line", "ERROR"]);
    expect(all(".lcm-log script").length).toBe(0);
    expect(one(".lcm-f1").textContent).toBe("ERROR");
    const search = one(".lcm-logs input") as HTMLInputElement;
    search.value = "e";
    search.dispatchEvent(new Event("input"));
    expect(one(".lcm-hits").textContent).toBe("3 of 3");
    search.value = "nowhere";
    search.dispatchEvent(new Event("input"));
    expect(one(".lcm-hits").textContent).toBe("no match");
  });

  describe("that grows", () => {
    const show = (old: string, fresh: string, cut = 0): void => {
      model.set("log_shown", "cell/Model");
      model.set("log_old", old);
      model.set("log_new", fresh);
      model.set("log_cut", cut);
      view.draw();
    };
    const rows = (): HTMLElement[] => all(".lcm-log-line");
    const find = (what: string): void => {
      const search = one(".lcm-logs input") as HTMLInputElement;
      search.value = what;
      search.dispatchEvent(new Event("input"));
    };

    it("keeps the lines that stand there, whichever page they move to", () => {
      show("", "one\ntwo\nthr");
      const [one_, two, three] = rows();
      show("one\ntwo\nthree\n", "four\n");
      expect(rows().map((line) => line.textContent)).toEqual(["one", "two", "three", "four"]);
      expect(rows().slice(0, 3)).toEqual([one_, two, three]);
      show("two\nthree\nfour\n", "five\n", 4);
      expect(rows().map((line) => line.textContent)).toEqual(["two", "three", "four", "five"]);
      expect(rows()[0]).toBe(two);
    });

    it("keeps its colours over the end of a page and of an update", () => {
      show("\x1b[31mred\n", "");
      show("\x1b[31mred\n", "still red\n");
      expect(all(".lcm-f1").map((piece) => piece.textContent)).toEqual(["red", "still red"]);
    });

    it("keeps the match that was gone to", () => {
      show("", "match 1\nmatch 2\n");
      find("match");
      expect(one(".lcm-hits").textContent).toBe("2 of 2");
      show("match 1\nmatch 2\n", "match 3\n");
      expect(one(".lcm-hits").textContent).toBe("2 of 3");
      expect(all(".lcm-here")).toHaveLength(1);
      expect(one(".lcm-here").closest(".lcm-log-line")).toBe(rows()[1]);
    });

    it("is followed until it is scrolled back, and not only until its box changes", () => {
      const body = one(".lcm-log");
      const follow = named("Follow the end of the log");
      let [height, box] = [1000, 200];
      Object.defineProperty(body, "scrollHeight", { get: () => height });
      Object.defineProperty(body, "clientHeight", { get: () => box });
      const scroll = (top: number): string | null => {
        body.scrollTop = top;
        body.dispatchEvent(new Event("scroll"));
        return follow.getAttribute("aria-pressed");
      };
      expect(scroll(800)).toBe("true");
      [height, box] = [1400, 100];
      expect(scroll(800)).toBe("true");
      expect(scroll(700)).toBe("false");
      expect(scroll(1300)).toBe("true");
    });

    it("begins anew where it does not go on from what stood there", () => {
      show("", "of then\n");
      show("", "of now\n");
      expect(rows().map((line) => line.textContent)).toEqual(["of now"]);
    });
  });

  it("shows nothing of the log that was shown before", () => {
    model.set("log_shown", "cell/Other");
    model.set("log_old", "of another\n");
    view.draw();
    expect(all(".lcm-log-line").length).toBe(0);
  });

  it("closes with Escape", () => {
    one(".lcm-logs input").dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
    expect(model.get("follow")).toBe("");
    expect(seen(one(".lcm-logs"))).toBe(false);
  });
});

it("shows notices until they are dismissed", () => {
  start({ notices: [{ id: 1, cls: "Model", text: "could not warm Model: <b>no</b>", at: 1, level: "warning" }] });
  expect(one(".lcm-notices").textContent).toContain("Warning could not warm Model: <b>no</b>");
  (one(".lcm-notices button") as HTMLButtonElement).click();
  view.draw();
  expect(seen(one(".lcm-notices"))).toBe(false);
});

describe("notices", () => {
  const notice = (id: number) => ({ id, cls: null, text: `notice ${id}`, at: 1, level: "info" as const });
  const dismissals = (): HTMLButtonElement[] => all(".lcm-notices button") as HTMLButtonElement[];

  it("are not made again when another one comes or goes", () => {
    start({ notices: [notice(1), notice(2)] });
    const [first, second] = all(".lcm-notices [role=status]");
    model.set("notices", [notice(1), notice(2), notice(3)]);
    view.draw();
    expect(all(".lcm-notices [role=status]").slice(0, 2)).toEqual([first, second]);
  });

  it("hand the focus on when they are dismissed, and at last to the heading", () => {
    start({ notices: [notice(1), notice(2)] });
    dismissals()[0]!.focus();
    dismissals()[0]!.click();
    expect(document.activeElement).toBe(dismissals()[0]);
    dismissals()[0]!.click();
    expect(document.activeElement).toBe(one(".lcm-brand"));
  });
});

describe("a kernel that is not heard", () => {
  const traits = {
    classes: [cls("Model")],
    containers: [container("lm-model-1", "Model")],
    lives: { "lm-model-1": life("busy", { running: 1, call: 1996 }) },
    beat: 2000,
  };

  it("leaves nothing that counts or is called by what it is, before the first beat", () => {
    now = 2000 + 127 * 3600;
    model = new Fake(traits);
    view = new View(model, "me", () => now);
    view.draw();
    expect(one("[data-column=Call]").textContent).toBe("4 s");
    expect(one(".lcm-totals").textContent).toBe("was: 1 class · 1 busy");
    expect(one(".lcm-chips").textContent).toBe("was: 1 busy");
    expect(one("[data-column=State]").textContent).toBe("was busy");
    model.set("beat", now);
    view.link.beat();
    view.draw();
    expect(one(".lcm-totals").textContent).toBe("1 class · 1 busy");
  });

  it("says what was when it goes", () => {
    start(traits);
    model.emit("comm:close");
    view.draw();
    expect(one(".lcm-totals").textContent).toBe("was: 1 class · 1 busy");
  });
});

describe("a build hook's container", () => {
  beforeEach(() =>
    start({
      classes: [cls("Model", { build: [step("bake()", "running", null)], steps: 1 })],
      containers: [container("lm-model-1", "Model", { build_hook: "bake()" })],
      lives: { "lm-model-1": life("busy", { running: 1, call: 1996 }) },
    }));

  it("is part of the build, none of the pool", () => {
    expect(one("[data-column=Container]").textContent).toBe("1bake()");
    expect(one(".lcm-meta").textContent).toContain("0 of 4 containers");
    expect(one(".lcm-chips").textContent).toBe("building");
    expect(seen(named("Restart Model"))).toBe(false);
  });

  it("is stopped with the build", () => {
    named("Stop Model").click();
    expect(one(".lcm-ask").textContent).toContain("The build stops during bake() and fails");
    expect(one(".lcm-ask").textContent).not.toContain("load()");
  });
});

it("links the addresses that answer HTTP", () => {
  const url = "http://127.0.0.1:28948/";
  start({ classes: [cls("Model", { web: [{ method: "Model.predict", port: 28948, url, link: url, warning: "" }] })] });
  const link = one(".lcm-web a");
  expect(one(".lcm-web").textContent).toBe(`Model.predict answers at ${url}`);
  expect(one(".lcm-web-warning").hidden).toBe(true);
  expect([link.getAttribute("href"), link.getAttribute("target"), link.getAttribute("rel")]).toEqual([url, "_blank", "noopener"]);
});

it("warns where another user listens on the usual port of an address", () => {
  const url = "http://127.0.0.1:28949/";
  const warning = "Model.predict: the usual port 28948 is taken by <b>eve</b>";
  start({ classes: [cls("Model", { web: [{ method: "Model.predict", port: 28949, url, link: url, warning }] })] });
  expect(one(".lcm-web-warning").textContent).toBe(`Warning: ${warning}`);
  expect(one(".lcm-web-warning").hidden).toBe(false);
});

it("tells classes of one name apart by their app", () => {
  start({ classes: [cls("Model"), cls("Model", { key: "second/Model", app: "second" })] });
  expect(all(".lcm-meta").map((meta) => meta.textContent!.startsWith("app second"))).toEqual([false, true]);
  expect(named("Warm Model of app second")).toBeTruthy();
});

it("lets go of its model when it ends", () => {
  model = new Fake();
  view = new View(model, "me", () => now);
  const end = view.start();
  view.show(true);
  end();
  expect(model.listeners).toBe(0);
  expect(model.get("look")).toMatchObject({ visible: false });
});

describe("many classes", () => {
  const many = (number: number): void => start({
    classes: Array.from({ length: number }, (_, n) => cls(`Model${n}`, {
      app: n === 3 ? "shop" : "",
      failed: n === 5 ? "BuildError: pip" : "",
    })),
    containers: [container("lm-model4-1", "Model4"), container("lm-model7-1", "Model7")],
    lives: { "lm-model4-1": life("busy"), "lm-model7-1": life("idle") },
  });
  const field = (): HTMLInputElement => one("input[type=search]") as HTMLInputElement;
  const type = (value: string): void => {
    field().value = value;
    field().dispatchEvent(new Event("input"));
  };
  const left = (): string[] => all(".lcm-class").filter(seen).map((row) => row.getAttribute("aria-label")!);

  it("are searched from ten on by name, app, engine and state", () => {
    many(9);
    expect(seen(field())).toBe(false);
    many(12);
    expect(seen(field())).toBe(true);
    type("MODEL1");
    expect(left()).toEqual(["Model1", "Model10", "Model11"]);
    expect(one(".lcm-found").textContent).toBe("3 of 12 classes");
    for (const [word, name] of [["shop", "Model3 of app shop"], ["busy", "Model4"], ["failed", "Model5"], ["docker idle", "Model7"]]) {
      type(word!);
      expect(left()).toEqual([name]);
    }
    type("nothing");
    expect(left()).toEqual([]);
    field().dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
    expect(left()).toHaveLength(12);
    expect(one(".lcm-found").textContent).toBe("");
  });

  it("are searched with the containers that are kept", () => {
    many(12);
    const kept = (cls: string): Kept => ({ name: `lm-${cls}`, cls, engine: "docker", notebook: "notebook /work/a.ipynb", ends: 2600 });
    model.set("kept", [kept("Left"), kept("Other")]);
    view.draw();
    const rows = (): string[] => all(".lcm-kept-row").filter(seen).map((row) => row.querySelector("strong")!.textContent!);
    type("left");
    expect([left(), rows()]).toEqual([[], ["Left"]]);
    type("nothing");
    expect(seen(one(".lcm-kept"))).toBe(false);
    type("");
    expect(rows()).toEqual(["Left", "Other"]);
  });

  it("show which failed before they had a container", () => {
    many(12);
    expect(all(".lcm-class")[5]!.querySelector(".lcm-chips")!.textContent).toBe("failed");
  });
});

it("counts no container that stops among those that a class may have", () => {
  start({
    classes: [cls("Model")],
    containers: [container("a", "Model"), container("b", "Model"), container("c", "Model")],
    lives: { a: life("idle"), b: life("exiting"), c: life("draining") },
  });
  expect(one(".lcm-meta").textContent).toContain("1 of 4 containers");
});

it("says after the kernel's end that kept containers wait", () => {
  start({ classes: [cls("Model", { options: ["keep=600"] })] });
  view.link.lost();
  view.draw();
  expect(one(".lcm-alert").textContent).toContain("and kept ones wait for the next kernel");
});

it("marks a class whose last container failed, until another one runs", () => {
  start({
    classes: [cls("Model")],
    containers: [container("a", "Model"), container("b", "Model")],
    lives: { a: life("exited", { since: 1980 }), b: life("failed", { since: 1990 }) },
  });
  expect(one(".lcm-chips").textContent).toBe("failed");
  model.set("lives", { a: life("idle", { since: 1995 }), b: life("failed", { since: 1990 }) });
  view.draw();
  expect(one(".lcm-chips").textContent).toBe("1 idle");
});

it("adds up the memory of the containers that run", () => {
  start({
    classes: [cls("Model")],
    containers: [container("a", "Model"), container("b", "Model"), container("c", "Model")],
    lives: { a: life("busy"), b: life("idle"), c: life("exited") },
    samples_new: { t: [1999], of: { a: [0.5, 1000], b: [0, 536], c: [0, 99] } },
  });
  expect(one(".lcm-totals").textContent).toBe("1 class · 1 busy · 1 idle · 1.5 GiB of memory");
});
