// A log as lines of styled pieces of plain text. Whatever comes in, what comes out is text and names
// of colours: nothing here makes markup. Pure.

export interface Piece {
  text: string;
  /** Class names: f1 … f7 and F0 … F7 (bright), b (bold), d (dim), u (underlined). */
  style: string;
}

export type Line = Piece[];

const LONGEST = 2000;

export const PLAIN = { colour: "", bold: false, dim: false, under: false };
export type Style = typeof PLAIN;

// eslint-disable-next-line no-control-regex
const ESCAPE = /\x1b\[([0-?]*)[ -/]*([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?/g;
const CONTROL = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;

function named(style: Style): string {
  const names = [style.colour, style.bold && "b", style.dim && "d", style.under && "u"];
  return names.filter(Boolean).join(" ");
}

function applied(style: Style, parameters: string): Style {
  let now = style;
  const codes = parameters.split(/[;:]/).map(Number);
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i] ?? 0;
    if (code === 0) now = PLAIN;
    else if (code === 1) now = { ...now, bold: true };
    else if (code === 2) now = { ...now, dim: true };
    else if (code === 4) now = { ...now, under: true };
    else if (code === 22) now = { ...now, bold: false, dim: false };
    else if (code === 24) now = { ...now, under: false };
    else if (code === 39) now = { ...now, colour: "" };
    else if (code >= 30 && code <= 37) now = { ...now, colour: `f${code - 30}` };
    else if (code >= 90 && code <= 97) now = { ...now, colour: `F${code - 90}` };
    else if (code === 38 || code === 48) i += codes[i + 1] === 5 ? 2 : 4;
  }
  return now;
}

/** What can't be shown as it is: control characters, and those that turn the writing's direction. */
function inert(text: string): string {
  return text.replace(CONTROL, "\u00b7");
}

/** A progress bar writes a line over and over: the last one counts. */
function overwritten(line: string): string {
  const parts = line.split("\r");
  return parts.findLast((part) => part !== "") ?? "";
}

/** The lines of `text`; a line's end is "\n", and a last line without one is a line too. */
export function lines(text: string): Line[] {
  const all = text.split("\n");
  if (all.at(-1) === "") all.pop();
  let style = PLAIN;
  return all.map((raw) => {
    const [line, after] = parsed(raw, style);
    style = after;
    return line;
  });
}

/** One line, without its end, that begins with `style`; and the style that the next one begins with. */
export function parsed(raw: string, style: Style): [Line, Style] {
  const line: Line = [];
  let length = 0;
  const add = (piece: string) => {
    if (!piece || length > LONGEST) return;
    const shown = inert(piece);
    const room = LONGEST - length;
    length += shown.length;
    const cut = shown.length > room ? `${shown.slice(0, room)} … (the line goes on)` : shown;
    line.push({ text: cut, style: named(style) });
  };
  const kept = overwritten(raw);
  let end = 0;
  for (const match of kept.matchAll(ESCAPE)) {
    add(kept.slice(end, match.index));
    end = match.index + match[0].length;
    if (match[2] === "m") style = applied(style, match[1] ?? "");
  }
  add(kept.slice(end));
  return [line, style];
}

export function plain(line: Line): string {
  return line.map((piece) => piece.text).join("");
}

/** Where `needle` is in `hay`, in any case: [start, end] of each place. */
export function places(hay: string, needle: string): [number, number][] {
  if (!needle) return [];
  const found: [number, number][] = [];
  const low = hay.toLowerCase();
  const sought = needle.toLowerCase();
  if (low.length !== hay.length) return []; // a letter that grows when it is made small
  for (let at = low.indexOf(sought); at >= 0; at = low.indexOf(sought, at + sought.length)) {
    found.push([at, at + sought.length]);
  }
  return found;
}

/** A line with the pieces at `where` marked, so that they can be shown as hits. */
export function marked(line: Line, where: readonly [number, number][]): (Piece & { hit: boolean })[] {
  const out: (Piece & { hit: boolean })[] = [];
  let start = 0;
  for (const piece of line) {
    let at = 0;
    for (const [from, to] of where) {
      const low = Math.max(from - start, at);
      const high = Math.min(to - start, piece.text.length);
      if (high <= low) continue;
      if (low > at) out.push({ ...piece, text: piece.text.slice(at, low), hit: false });
      out.push({ ...piece, text: piece.text.slice(low, high), hit: true });
      at = high;
    }
    if (at < piece.text.length) out.push({ ...piece, text: piece.text.slice(at), hit: false });
    start += piece.text.length;
  }
  return out;
}
