// A state as a shape, a word and a colour, the most important first.

import { attribute, h, svg, text, type Part } from "./dom";
import type { State } from "./types";

// In a box of 12 by 12. Filled shapes are busy, outlines are idle, triangles are stopping, squares
// have exited.
const SHAPES: Record<State, string> = {
  building: "M2 9.5h8M3.5 6.5h5M5 3.5h2",
  starting: "M6 2a4 4 0 0 1 4 4",
  entering: "M6 2a4 4 0 1 1-4 4",
  idle: "M6 2a4 4 0 1 1 0 8a4 4 0 1 1 0-8z",
  busy: "M6 2a4 4 0 1 1 0 8a4 4 0 1 1 0-8z",
  draining: "M2 3.5h8L6 9.5z",
  exiting: "M2 3.5h8L6 9.5z",
  exited: "M3 3h6v6H3z",
  failed: "M3 3l6 6M9 3l-6 6",
};

export class Chip implements Part {
  readonly element = h("span", { class: "lcm-chip" });
  private readonly shape = svg("path", {});
  private readonly word = h("span");

  constructor() {
    const picture = svg("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" }, this.shape);
    this.element.append(picture, this.word);
  }

  update(state: State, words: string = state): void {
    attribute(this.element, "data-state", state);
    attribute(this.shape, "d", SHAPES[state] ?? "");
    text(this.word, words);
  }
}
