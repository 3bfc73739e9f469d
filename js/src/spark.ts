// The last minutes of a container as a line. Pure.

import type { Page } from "./types";

export interface Samples {
  /** Seconds since the epoch. */
  t: number[];
  cpu: (number | null)[];
  memory: (number | null)[];
}

/** Seconds that a sparkline goes back: as far as there are samples, within these bounds. */
const LONGEST = 180;
const SHORTEST = 30;

export function span(times: readonly number[], now: number): number {
  const first = times.find((time) => now - time <= LONGEST) ?? now;
  return Math.max(SHORTEST, now - first);
}
/** Without a sample for so long the line is broken: nobody looked. */
const GAP = 15;

/** One container's samples out of both pages. */
export function samplesOf(name: string, pages: readonly Page[]): Samples {
  const found: Samples = { t: [], cpu: [], memory: [] };
  for (const page of pages) {
    const times = page.t ?? [];
    const figures = page.of?.[name];
    if (!figures) continue;
    times.forEach((time, n) => {
      found.t.push(time);
      found.cpu.push(figures[2 * n] ?? null);
      found.memory.push(figures[2 * n + 1] ?? null);
    });
  }
  return found;
}

export function latest(figures: readonly (number | null)[]): number | null {
  return figures.findLast((figure) => figure !== null) ?? null;
}

/**
 * The path of an SVG of `width` by `height` in which the right edge is `now` and the upper one `top`.
 * Empty with less than two samples that belong together.
 */
export function path(
  times: readonly number[],
  figures: readonly (number | null)[],
  now: number,
  top: number,
  width: number,
  height: number,
): string {
  const points: string[] = [];
  let before: number | null = null;
  let drawn = 0;
  const back = span(times, now);
  times.forEach((time, n) => {
    const figure = figures[n] ?? null;
    if (figure === null || now - time > LONGEST) {
      before = null;
      return;
    }
    const x = width * (1 - Math.max(0, now - time) / back);
    const y = (height - 1) * (1 - Math.min(1, figure / Math.max(top, 1e-9))) + 0.5;
    const joined = before !== null && time - before <= GAP;
    points.push(`${joined ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`);
    if (joined) drawn += 1;
    before = time;
  });
  return drawn ? points.join("") : "";
}
