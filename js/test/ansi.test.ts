import { describe, expect, it } from "vitest";
import { lines, marked, places, plain } from "../src/ansi";

const texts = (text: string): string[] => lines(text).map(plain);

describe("a log", () => {
  it("keeps colours as names and nothing of the escape", () => {
    expect(lines("\x1b[1;31mred\x1b[0m plain\n\x1b[92mbright\x1b[39m")).toEqual([
      [{ text: "red", style: "f1 b" }, { text: " plain", style: "" }],
      [{ text: "bright", style: "F2" }],
    ]);
  });

  it("carries a colour over the end of a line", () => {
    expect(lines("\x1b[34mone\ntwo")[1]).toEqual([{ text: "two", style: "f4" }]);
  });

  it("passes over colours it has no name for, and over the figures that belong to them", () => {
    expect(lines("\x1b[38;5;31mx\x1b[48;2;1;4;31my")).toEqual([[{ text: "x", style: "" }, { text: "y", style: "" }]]);
  });

  it("drops cursor moves, titles and links", () => {
    expect(texts("a\x1b[2Kb\x1b]0;title\x07c\x1b]8;;http://x\x1b\\d\x1b(Be")).toEqual(["abcdBe"]);
  });

  it("makes control characters and turned writing visible instead of letting them act", () => {
    expect(texts("a\x00b\x08c\u202ed")).toEqual(["a·b·c·d"]);
  });

  it("shows what a progress bar wrote last", () => {
    expect(texts("10 %\r50 %\r100 %\ndone\r\n")).toEqual(["100 %", "done"]);
  });

  it("cuts a line that has no end", () => {
    const [line] = texts("x".repeat(100_000));
    expect(line!.length).toBeLessThan(2100);
    expect(line).toContain("line truncated");
  });

  it("ends its last line with or without a newline", () => {
    expect(texts("a\nb")).toEqual(["a", "b"]);
    expect(texts("a\nb\n")).toEqual(["a", "b"]);
    expect(texts("")).toEqual([]);
  });
});

describe("searching", () => {
  it("finds every place in any case", () => {
    expect(places("Error, error", "ERROR")).toEqual([[0, 5], [7, 12]]);
    expect(places("anything", "")).toEqual([]);
  });

  it("marks a hit that goes over two colours", () => {
    const [line] = lines("ab\x1b[31mcd");
    expect(marked(line!, places("abcd", "bc"))).toEqual([
      { text: "a", style: "", hit: false },
      { text: "b", style: "", hit: true },
      { text: "c", style: "f1", hit: true },
      { text: "d", style: "f1", hit: false },
    ]);
  });
});
