// The search field of a panel with many classes. What it hides keeps running.

import { attribute, h, shown, text, type Part } from "./dom";
import type { ClassFacts, Kept } from "./types";
import { count } from "./words";

/** From this number of classes on, the panel has a search field. */
const MANY = 10;

interface Row {
  element: HTMLElement;
  facts: ClassFacts;
  states: readonly string[];
}

interface KeptContainer {
  element: HTMLElement;
  facts: Kept;
}

export class Filter implements Part {
  readonly element = h("div", { class: "lcm-filter", role: "search", hidden: "" });
  private readonly field = h("input", {
    type: "search", "aria-label": "Filter classes", placeholder: "name, app, engine or state",
  });
  private readonly found = h("span", { class: "lcm-found", role: "status" });

  constructor(changed: () => void) {
    this.element.append(this.field, this.found);
    this.field.addEventListener("input", changed);
    this.field.addEventListener("keydown", (event) => {
      // JupyterLab has single letters as shortcuts.
      event.stopPropagation();
      if (event.key !== "Escape" || !this.field.value) return;
      this.field.value = "";
      changed();
    });
  }

  /** Hide the rows of classes and of kept containers that lack a word of the field, and say how many classes are left. */
  update(rows: readonly Row[], kept: readonly KeptContainer[]): void {
    const many = rows.length >= MANY;
    shown(this.element, many);
    const words = many ? this.field.value.toLowerCase().split(/\s+/).filter(Boolean) : [];
    for (const { element, facts } of kept) {
      const whole = [facts.cls, facts.name, facts.engine, facts.notebook, "kept"].join(" ").toLowerCase();
      shown(element, words.every((word) => whole.includes(word)));
    }
    let left = 0;
    for (const { element, facts, states } of rows) {
      const failed = facts.failed || facts.build.some((step) => step.status === "failed") ? "failed" : "";
      const whole = [facts.name, facts.app, facts.engine, facts.image, failed, ...states].join(" ").toLowerCase();
      const matches = words.every((word) => whole.includes(word));
      shown(element, matches);
      left += matches ? 1 : 0;
    }
    text(this.found, words.length ? `${left} of ${count(rows.length, "class").replace("classs", "classes")}` : "");
    attribute(this.element, "data-none", words.length && !left ? "yes" : null);
  }
}
