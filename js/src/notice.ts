// One notice, until it is dismissed.

import { attribute, button, h, text, type Part } from "./dom";
import type { Notice } from "./types";

export class NoticeRow implements Part {
  readonly element = h("li");
  readonly dismiss: HTMLButtonElement;
  private readonly mark = h("strong");
  private readonly words = h("span");

  constructor(dismiss: () => void) {
    this.dismiss = button("Dismiss", "Dismiss this notice", dismiss);
    this.element.append(h("span", { role: "status" }, this.mark, " ", this.words), this.dismiss);
  }

  update(notice: Notice): void {
    attribute(this.element, "data-level", notice.level);
    text(this.mark, notice.level === "warning" ? "Warning" : "Note");
    text(this.words, notice.text);
  }
}
