import { expect, it } from "vitest";
import { latest, path, samplesOf, span } from "../src/spark";

it("joins both pages of a container's samples", () => {
  const pages = [
    { t: [10, 12], of: { a: [0.5, 100, null, null] } },
    { t: [14], of: { a: [1, 120], b: [0, 1] } },
  ];
  expect(samplesOf("a", pages)).toEqual({ t: [10, 12, 14], cpu: [0.5, null, 1], memory: [100, null, 120] });
  expect(samplesOf("b", pages)).toEqual({ t: [14], cpu: [0], memory: [1] });
  expect(samplesOf("c", [{}, {}])).toEqual({ t: [], cpu: [], memory: [] });
  expect(latest([1, 2, null])).toBe(2);
});

it("draws now at the right edge, and the limit at the top", () => {
  expect(path([90, 100], [0, 2], 100, 2, 180, 11)).toBe("M120.0 10.5L180.0 0.5");
});

it("goes back as far as there are samples, and never further than three minutes", () => {
  expect([span([], 100), span([90], 100), span([10, 90], 100), span([10, 290, 300], 300)]).toEqual([30, 30, 90, 180]);
  expect(span([130, 290], 300)).toBe(170);
});

it("breaks the line where nobody looked, and leaves out what is too old", () => {
  expect(path([0, 300, 500, 502, 504, 560, 562], [1, 1, 1, 1, null, 1, 1], 562, 1, 180, 11)).toMatch(/^M[^L]+L[^M]+M[^L]+L[^M]+$/);
  expect(path([500], [1], 500, 1, 10, 10)).toBe("");
});

it("holds a figure while the kernel sends none, as it does while nothing changes", () => {
  expect(path([60], [1], 100, 2, 40, 11)).toBe("M0.0 5.5L40.0 5.5");
  expect(path([60, 80, 100], [1, null, 2], 100, 2, 40, 11)).toBe("M0.0 5.5L20.0 5.5M40.0 0.5");
});
