// The log of one class or container: its tail, with follow and search, as plain text.
//
// Rows are kept: only new text is added, and only text that the kernel has cut off is removed. So the
// selection, the scroll position and the current match are kept, and a screen reader does not repeat
// text.

import { type Line, marked, parsed, places, plain, PLAIN, type Style } from "./ansi";
import { attribute, button, h, shown, text, type Part } from "./dom";

interface Row {
  element: HTMLElement;
  raw: string;
  /** The style at the start of the line: colours continue across lines. */
  style: Style;
  line: Line;
  marks: HTMLElement[];
}

interface Match {
  row: Row;
  mark: number;
}

export class LogView implements Part {
  readonly element = h("section", { class: "lcm-logs", hidden: "" });
  private readonly title = h("span", { class: "lcm-logs-title", role: "heading", "aria-level": "3" });
  private readonly search = h("input", { type: "search", placeholder: "Search", "aria-label": "Search the log" });
  private readonly hits = h("span", { class: "lcm-hits", role: "status" });
  private readonly body = h("div", { class: "lcm-log", role: "log", tabindex: "0" });
  private readonly list = h("div");
  private readonly empty = h("p", { class: "lcm-none" });
  private readonly followed: HTMLButtonElement;
  private following = true;
  private scrolled = 0;
  private target: string | null = null;
  private raw = "";
  /** The length of the text cut off before `raw`, in UTF-16 units. */
  private start = 0;
  private rows: Row[] = [];
  private next: Style = PLAIN;
  private current: Match | null = null;

  constructor(close: () => void) {
    this.followed = button("Follow", "Follow the end of the log", () => this.follow(!this.following));
    const before = button("↑", "Previous match", () => this.step(-1));
    const after = button("↓", "Next match", () => this.step(1));
    this.search.addEventListener("input", () => {
      this.current = null;
      for (const row of this.rows) this.fill(row);
      this.count();
      if (this.search.value) this.step(-1);
    });
    this.search.addEventListener("keydown", (event) => {
      // JupyterLab has shortcuts for bare keys.
      event.stopPropagation();
      if (event.key === "Enter") this.step(event.shiftKey ? -1 : 1);
      if (event.key === "Escape") close();
    });
    this.body.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.body;
      const atEnd = scrollHeight - scrollTop - clientHeight < 24;
      const back = scrollTop < this.scrolled; // otherwise the log or its box changed size
      this.scrolled = scrollTop;
      if (atEnd ? !this.following : this.following && back) this.follow(atEnd, false);
    });
    this.body.append(this.empty, this.list);
    this.element.append(
      h("div", { class: "lcm-logs-bar" }, this.title, this.search, this.hits, before, after, this.followed, button("Close", "Close the log", close)),
      this.body,
    );
    this.follow(true);
  }

  /** Show the log of a class or container with this title; null hides the log. */
  show(target: string | null, title = ""): void {
    shown(this.element, target !== null);
    if (target === this.target) return;
    this.target = target;
    this.clear(0);
    if (target === null) return;
    text(this.title, `Logs of ${title}`);
    attribute(this.element, "aria-label", `Logs of ${title}`);
    attribute(this.body, "aria-label", `Output of ${title}`);
    this.search.value = "";
    this.follow(true);
  }

  focus(): void {
    this.search.focus();
  }

  /** Show `raw`, the present part of the log; `start` is the length of what was cut off before it. */
  update(raw: string, start: number, waiting: boolean): void {
    text(this.empty, waiting ? "Loading…" : "No output yet.");
    shown(this.empty, !raw);
    if (start === this.start && raw === this.raw) return;
    const gone = start - this.start;
    const kept = this.raw.slice(gone);
    if (gone < 0 || gone > this.raw.length || !raw.startsWith(kept)) this.clear(start);
    else if (gone) this.drop(gone, start);
    const more = raw.slice(this.raw.length);
    this.raw = raw;
    this.add(more);
    this.count();
    if (this.following) this.body.scrollTop = this.body.scrollHeight;
  }

  private clear(start: number): void {
    this.raw = "";
    this.start = start;
    this.rows = [];
    this.next = PLAIN;
    this.current = null;
    this.list.replaceChildren();
  }

  /** Remove `count` units at the front, which the kernel has cut off. */
  private drop(count: number, start: number): void {
    this.raw = this.raw.slice(count);
    this.start = start;
    let row: Row | undefined;
    while (count > 0 && (row = this.rows[0])) {
      const ends = row.raw.endsWith("\n");
      if (row.raw.length > count || (row.raw.length === count && !ends)) {
        row.raw = row.raw.slice(count);
        this.fill(row);
        return;
      }
      count -= row.raw.length;
      this.rows.shift();
      row.element.remove();
      if (this.current?.row === row) this.current = null;
    }
  }

  private add(more: string): void {
    if (!more) return;
    const last = this.rows.at(-1);
    // Continue an unfinished line.
    const open = last && !last.raw.endsWith("\n") ? last : null;
    const pieces = more.split(/(?<=\n)/);
    if (open) {
      open.raw += pieces.shift() ?? "";
      this.next = this.fill(open);
    }
    const made = pieces.map((raw) => {
      const row: Row = { element: h("div", { class: "lcm-log-line" }), raw, style: this.next, line: [], marks: [] };
      this.next = this.fill(row);
      return row;
    });
    this.rows.push(...made);
    this.list.append(...made.map((row) => row.element));
  }

  /** Render a line; return the style at its end. */
  private fill(row: Row): Style {
    const [line, style] = parsed(row.raw.replace(/\n$/, ""), row.style);
    row.line = line;
    row.marks = [];
    const parts = marked(line, places(plain(line), this.search.value)).map((piece) => {
      const names = piece.style.split(" ").filter(Boolean).map((name) => `lcm-${name}`).join(" ");
      if (!piece.hit && !names) return piece.text;
      const part = h(piece.hit ? "mark" : "span", { class: names }, piece.text);
      if (piece.hit) row.marks.push(part);
      return part;
    });
    row.element.replaceChildren(...(line.length ? parts : ["\u200b"]));
    if (this.current?.row === row) row.marks[this.current.mark]?.classList.add("lcm-here");
    return style;
  }

  private matches(): Match[] {
    return this.rows.flatMap((row) => row.marks.map((_, mark) => ({ row, mark })));
  }

  private place(found: readonly Match[]): number {
    return found.findIndex(({ row, mark }) => row === this.current?.row && mark === this.current.mark);
  }

  private count(): void {
    const found = this.search.value ? this.matches() : [];
    const at = this.place(found);
    const count = at >= 0 ? `${at + 1} of ${found.length}` : `${found.length}`;
    text(this.hits, !this.search.value ? "" : found.length ? count : "no match");
  }

  /** Go to the next or previous match; at first, to the last match. */
  private step(by: number): void {
    const found = this.matches();
    if (!found.length) return;
    const at = this.place(found);
    this.current?.row.marks[this.current.mark]?.classList.remove("lcm-here");
    this.current = found[at < 0 ? found.length - 1 : (at + by + found.length) % found.length] ?? null;
    const here = this.current?.row.marks[this.current.mark];
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
