// The sparkline of a container's last minutes. Pure.

import type { Page } from "./types";

export interface Samples {
  /** Seconds since the epoch. */
  t: number[];
  cpu: (number | null)[];
  memory: (number | null)[];
}

/** Bounds of the time range of a sparkline, in seconds. */
const LONGEST = 180;
const SHORTEST = 30;

export function span(times: readonly number[], now: number): number {
  const first = Math.max(times[0] ?? now, now - LONGEST);
  return Math.max(SHORTEST, now - first);
}

/** Collect one container's samples from both pages. */
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
 *
 * The kernel skips samples that equal the previous one, so a figure is valid until the next one, and
 * the last one until now; null marks a gap. The path is empty with fewer than two points in time.
 */
export function path(
  times: readonly number[],
  figures: readonly (number | null)[],
  now: number,
  top: number,
  width: number,
  height: number,
): string {
  const back = span(times, now);
  const x = (time: number): string => (width * (1 - Math.min(1, Math.max(0, now - time) / back))).toFixed(1);
  const y = (figure: number): string => ((height - 1) * (1 - Math.min(1, figure / Math.max(top, 1e-9))) + 0.5).toFixed(1);
  const points: string[] = [];
  let held: number | null = null;
  let drawn = false;
  const to = (time: number, figure: number): void => {
    points.push(`L${x(time)} ${y(figure)}`);
    drawn = true;
  };
  times.forEach((time, n) => {
    const figure = figures[n] ?? null;
    if ((times[n + 1] ?? now) < now - back) return; // too old
    if (figure === null) {
      if (held !== null) to(time, held);
    } else if (held === null) {
      points.push(`M${x(time)} ${y(figure)}`);
    } else {
      to(time, figure);
    }
    held = figure;
  });
  if (held !== null && now > (times.at(-1) ?? now)) to(now, held);
  return drawn ? points.join("") : "";
}
