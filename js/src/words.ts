// Facts in human-readable form. Pure; ui/panel/text.py uses the same units.

import type { ClassFacts, ContainerFacts, Life, State, Verb } from "./types";

/** A duration: 42 µs, 4.2 ms, 3.2 s, 1 min 15 s. */
export function seconds(value: number): string {
  if (value < 0.9995e-3) return `${Math.round(value * 1e6)} µs`;
  if (value < 9.995e-3) return `${(value * 1e3).toFixed(1)} ms`;
  if (value < 0.9995) return `${Math.round(value * 1e3)} ms`;
  if (value < 59.95) return `${value.toFixed(1)} s`;
  const whole = Math.round(value);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return age(value);
}

/** A long duration in its greatest unit: 12 s, 5 min, 1 h, 2 d. */
export function age(value: number): string {
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]] as const) {
    if (value >= length) return `${Math.floor(value / length)} ${unit}`;
  }
  return `${Math.max(0, Math.floor(value))} s`;
}

/** A running time, in whole seconds so that it changes only once a second. */
export function elapsed(value: number): string {
  const whole = Math.max(0, Math.floor(value));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** MiB: 12 MiB, 1.5 GiB. */
export function size(mib: number): string {
  if (mib < 1024) return `${Math.round(mib)} MiB`;
  const gib = mib / 1024;
  return gib >= 99.95 ? `${Math.round(gib)} GiB` : `${gib.toFixed(1)} GiB`;
}

export function count(number: number, one: string): string {
  return `${number.toLocaleString("en-US")} ${one}${number === 1 ? "" : "s"}`;
}

function listed(hooks: readonly string[]): string {
  return hooks.map((name) => `${name}()`).join(", ");
}

const GONE: readonly State[] = ["exited", "failed"];
const LEAVING: readonly State[] = ["draining", "exiting"];

export const isGone = (state: State): boolean => GONE.includes(state);
export const isLeaving = (state: State): boolean => LEAVING.includes(state);
export const isWarm = (state: State): boolean => state === "idle" || state === "busy";
export const isStarting = (state: State): boolean =>
  state === "building" || state === "starting" || state === "entering";

/** Containers by state, the most important first: "1 busy · 2 idle". */
export function summary(lives: readonly Life[]): string {
  const order: State[] = [
    "building", "starting", "entering", "busy", "idle", "draining", "exiting",
  ];
  return order
    .map((state) => [state, lives.filter((life) => life.state === state).length] as const)
    .filter(([, number]) => number > 0)
    .map(([state, number]) => `${number} ${state}`)
    .join(" · ");
}

/** Return whether a button needs a confirmation. */
export function destroys(verb: Verb): boolean {
  return verb !== "warm";
}

/** Describe what the user loses by an action, and what still happens. */
export function loss(verb: Verb, cls: ClassFacts, lives: readonly Life[]): string {
  const here = lives.filter((life) => !isGone(life.state));
  const kept = cls.enter.length ? `What ${listed(cls.enter)} made` : "The live instance";
  const many = here.length > 1 ? " in each of them" : "";
  const running = here.reduce((sum, life) => sum + life.running, 0);
  const calls = running ? `${count(running, "running call")} ` : "";
  const exit = cls.exit.length ? `${listed(cls.exit)} runs` : "it stops";
  if (verb === "kill") {
    const call = calls ? ` and ${calls.trim()} fail${running === 1 ? "s" : ""}` : "";
    const skipped = cls.exit.length ? `; ${listed(cls.exit)} does not run to its end` : "";
    return `${kept} is lost${call}${skipped}.`;
  }
  if (verb === "restart") {
    const first = calls ? `${calls}end${running === 1 ? "s" : ""} first, then ` : "then ";
    return `New containers start first. ${kept} in the previous ones is lost: ${first}${exit}.`;
  }
  const first = calls ? `${calls}${running === 1 ? "is" : "are"} cancelled first, then ` : "Then ";
  if (here.length && here.every((life) => isStarting(life.state))) {
    return `It is not ready yet: it is stopped at once, and ${
      cls.exit.length ? `${listed(cls.exit)} does not run` : "what it has made is lost"
    }.`;
  }
  return `${kept}${many} is lost. ${first}${exit}.`;
}

/** Describe what is lost with a container that runs a build hook. */
export function endOfBuild(hooks: readonly string[]): string {
  return `The build stops during ${hooks.join(", ")} and fails; the next call starts it again.`;
}

/** Return the short part of a container's name that identifies it. */
export function shortName(name: string): string {
  const last = name.lastIndexOf("-");
  return last > 0 ? name.slice(last + 1) : name;
}

/** Describe how a container ended, with the duration of each exit hook. */
export function ending(facts: ContainerFacts, life: Life): string {
  const hooks = facts.exits
    .map((exit) => `${exit.hook}() ${exit.error === null ? "took" : "raised after"} ${seconds(exit.seconds)}`)
    .join(", ");
  return [life.why, hooks].filter(Boolean).join("; ");
}
