// A log as lines of styled pieces of plain text. The output is only text and names of colours; this
// module never produces markup. Pure.

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

/** Replace characters that can't be displayed: controls, and changes of the writing direction. */
function inert(text: string): string {
  return text.replace(CONTROL, "\u00b7");
}

/** A progress bar rewrites its line: keep the last version. */
function overwritten(line: string): string {
  const parts = line.split("\r");
  return parts.findLast((part) => part !== "") ?? "";
}

/** Split `text` into lines at "\n"; a last line without "\n" is a line too. */
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

/** Parse one line without its end, which begins with `style`; also return the next line's style. */
export function parsed(raw: string, style: Style): [Line, Style] {
  const line: Line = [];
  let length = 0;
  const add = (piece: string) => {
    if (!piece || length > LONGEST) return;
    const shown = inert(piece);
    const room = LONGEST - length;
    length += shown.length;
    const cut = shown.length > room ? `${shown.slice(0, room)} … (line truncated)` : shown;
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

/** Find `needle` in `hay`, ignoring case: [start, end] of each match. */
export function places(hay: string, needle: string): [number, number][] {
  if (!needle) return [];
  const found: [number, number][] = [];
  const low = hay.toLowerCase();
  const sought = needle.toLowerCase();
  if (low.length !== hay.length) return []; // a letter whose lower case is longer
  for (let at = low.indexOf(sought); at >= 0; at = low.indexOf(sought, at + sought.length)) {
    found.push([at, at + sought.length]);
  }
  return found;
}

/** Split a line at the matches `where`, and mark the pieces that are hits. */
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
