import { describe, expect, it } from "vitest";
import type { ClassFacts, Life, State } from "../src/types";
import { age, elapsed, ending, loss, seconds, shortName, size, summary } from "../src/words";

const life = (state: State, running = 0): Life => ({ state, since: 0, calls: 0, running, call: null, why: "", gpu: "" });

const model: ClassFacts = {
  key: "cell/Model", name: "Model", app: "", web: [], variant: false, declared: false, failed: "", engine: "docker",
  image: "python:3.11-slim", options: [], enter: ["load"], exit: ["close"], needs_arguments: false,
  pools: 1, most: 1, calls: 0, failures: 0, p50: null, p99: null, build: [], steps: 0,
};

describe("figures", () => {
  it("have the unit that reads well", () => {
    expect([42e-6, 0.0042, 0.42, 3.21, 75, 7200].map(seconds)).toEqual([
      "42 µs", "4.2 ms", "420 ms", "3.2 s", "1 min 15 s", "2 h",
    ]);
    expect([12, 3700, 200000, -1].map(age)).toEqual(["12 s", "1 h", "2 d", "0 s"]);
    expect([0.9, 61, 3700].map(elapsed)).toEqual(["0 s", "1 min 1 s", "1 h 1 min"]);
    expect([12.4, 1536, 102400].map(size)).toEqual(["12 MiB", "1.5 GiB", "100 GiB"]);
  });

  it("sum containers up by state and leave out those that are gone", () => {
    expect(summary([life("idle"), life("busy"), life("idle"), life("failed")])).toBe("1 busy · 2 idle");
    expect(shortName("lm-model-0a1b2c3d")).toBe("0a1b2c3d");
    expect(shortName("plain")).toBe("plain");
  });
});

describe("what a button destroys", () => {
  it("is the state that enter made, and exit still runs", () => {
    expect(loss("stop", model, [life("idle")])).toBe("What load() made is lost. Then close() runs.");
  });

  it("names the calls that run", () => {
    expect(loss("stop", model, [life("busy", 2), life("idle")])).toBe(
      "What load() made in each of them is lost. 2 running calls are cancelled first, then close() runs.",
    );
  });

  it("is told for a restart, a start that is cut off and a kill", () => {
    expect(loss("restart", model, [life("busy", 1)])).toContain("New containers start first. What load() made in the previous ones is lost: 1 running call ends first, then close() runs.");
    expect(loss("stop", model, [life("entering")])).toContain("close() does not run");
    expect(loss("kill", model, [life("draining", 1)])).toBe(
      "What load() made is lost and 1 running call fails; close() does not run to its end.",
    );
    expect(loss("stop", { ...model, enter: [], exit: [] }, [life("idle")])).toBe("The live instance is lost. Then it stops.");
  });
});

it("tells an ending with its reason and how long each exit hook took", () => {
  const facts = {
    name: "c", cls: "k", began: 0, grace: 30, cpu: null, memory: null, ended: 9, tail: "", build_hook: "",
    exits: [{ hook: "close", seconds: 4, error: null }, { hook: "save", seconds: 0.5, error: "Traceback" }],
  };
  expect(ending(facts, { ...life("exited"), why: "stopped in the panel" })).toBe(
    "stopped in the panel; close() took 4.0 s, save() raised after 500 ms",
  );
});
