// The log of one class or container: its tail, followed, searched, and nothing but text.

import { type Line, lines, marked, places, plain } from "./ansi";
import { attribute, button, h, shown, text, type Part } from "./dom";

export class LogView implements Part {
  readonly element = h("section", { class: "lcm-logs", hidden: "" });
  private readonly title = h("span", { class: "lcm-logs-title", role: "heading", "aria-level": "3" });
  private readonly search = h("input", { type: "search", placeholder: "Search", "aria-label": "Search the log" });
  private readonly hits = h("span", { class: "lcm-hits", role: "status" });
  private readonly body = h("div", { class: "lcm-log", role: "log", tabindex: "0" });
  private readonly older = h("div");
  private readonly newer = h("div");
  private readonly empty = h("p", { class: "lcm-none" });
  private readonly followed: HTMLButtonElement;
  private following = true;
  private old = "";
  private fresh = "";
  private current = -1;

  constructor(close: () => void) {
    this.followed = button("Follow", "Follow the end of the log", () => this.follow(!this.following));
    const before = button("↑", "Previous match", () => this.step(-1));
    const after = button("↓", "Next match", () => this.step(1));
    this.search.addEventListener("input", () => {
      this.current = -1;
      this.draw(true);
      if (this.search.value) this.step(-1);
    });
    this.search.addEventListener("keydown", (event) => {
      // JupyterLab has shortcuts for bare keys.
      event.stopPropagation();
      if (event.key === "Enter") this.step(event.shiftKey ? -1 : 1);
      if (event.key === "Escape") close();
    });
    this.body.addEventListener("scroll", () => {
      const atEnd = this.body.scrollHeight - this.body.scrollTop - this.body.clientHeight < 24;
      if (atEnd !== this.following) this.follow(atEnd, false);
    });
    this.body.append(this.empty, this.older, this.newer);
    this.element.append(
      h("div", { class: "lcm-logs-bar" }, this.title, this.search, this.hits, before, after, this.followed, button("Close", "Close the log", close)),
      this.body,
    );
    this.follow(true);
  }

  show(title: string | null): void {
    shown(this.element, title !== null);
    if (title === null || this.title.textContent === `Logs of ${title}`) return;
    text(this.title, `Logs of ${title}`);
    attribute(this.element, "aria-label", `Logs of ${title}`);
    attribute(this.body, "aria-label", `Output of ${title}`);
    this.search.value = "";
    this.follow(true);
  }

  focus(): void {
    this.search.focus();
  }

  update(old: string, fresh: string, waiting: boolean): void {
    const changed = old !== this.old || fresh !== this.fresh;
    const older = old !== this.old;
    this.old = old;
    this.fresh = fresh;
    text(this.empty, waiting ? "Asking for it…" : "Nothing was printed yet.");
    shown(this.empty, !old && !fresh);
    if (changed) this.draw(older);
  }

  private draw(older: boolean): void {
    // A line that the page's end cuts in two belongs to the newer part.
    const end = this.old.lastIndexOf("\n") + 1;
    if (older) this.fill(this.older, this.old.slice(0, end));
    this.fill(this.newer, this.old.slice(end) + this.fresh);
    this.count();
    if (this.following) this.body.scrollTop = this.body.scrollHeight;
  }

  private fill(part: HTMLElement, raw: string): void {
    part.replaceChildren(...lines(raw).map((line) => this.row(line)));
  }

  private row(line: Line): HTMLElement {
    const row = h("div", { class: "lcm-log-line" });
    const where = places(plain(line), this.search.value);
    for (const piece of marked(line, where)) {
      const names = piece.style.split(" ").filter(Boolean).map((name) => `lcm-${name}`).join(" ");
      row.append(piece.hit || names ? h(piece.hit ? "mark" : "span", { class: names }, piece.text) : piece.text);
    }
    if (!line.length) row.append("\u200b");
    return row;
  }

  private marks(): HTMLElement[] {
    return [...this.body.querySelectorAll("mark")];
  }

  private count(): void {
    const number = this.search.value ? this.marks().length : 0;
    const at = this.current >= 0 && number ? `${Math.min(this.current, number - 1) + 1} of ` : "";
    text(this.hits, !this.search.value ? "" : number ? `${at}${number}` : "no match");
  }

  /** Go to the next match, or the one before; from nowhere to the last one. */
  private step(by: number): void {
    const found = this.marks();
    if (!found.length) return;
    found[this.current]?.classList.remove("lcm-here");
    this.current = this.current < 0 ? found.length - 1 : (this.current + by + found.length) % found.length;
    const here = found[this.current];
    here?.classList.add("lcm-here");
    this.follow(false);
    here?.scrollIntoView({ block: "nearest" });
    this.count();
  }

  private follow(on: boolean, scroll = true): void {
    this.following = on;
    attribute(this.followed, "aria-pressed", `${on}`);
    if (on && scroll) this.body.scrollTop = this.body.scrollHeight;
  }
}
