import { beforeEach, describe, expect, it } from "vitest";
import { FIRST, Link, RENEW, SILENT } from "../src/link";
import { Fake } from "./model";

let now = 0;
let model: Fake;
let link: Link;

beforeEach(() => {
  now = 1000;
  model = new Fake();
  link = new Link(model, "me", () => now);
});

const beat = (at = now): void => {
  model.set("beat", at);
  link.beat();
};

describe("the link to the kernel", () => {
  it("is not called live before a beat came", () => {
    link.show(true);
    expect(link.bond).toBe("waiting");
    beat();
    expect(link.bond).toBe("live");
  });

  it("is silent when no first beat comes, as in a notebook that is opened again, and its clock stands at the last", () => {
    model.set("beat", 400);
    link.show(true);
    expect(link.now()).toBe(400);
    now += FIRST + 1;
    expect(link.tick()).toBe(true);
    expect(link.bond).toBe("silent");
    expect(link.now()).toBe(400);
  });

  it("is silent when the beats stop, live again when they go on, and its clock stands meanwhile", () => {
    link.show(true);
    beat();
    const then = link.now();
    now += SILENT + 1;
    link.tick();
    expect(link.bond).toBe("silent");
    expect(link.now()).toBe(then);
    beat();
    expect(link.bond).toBe("live");
  });

  it("does not take for silence that nothing was asked for", () => {
    link.show(true);
    beat();
    link.show(false);
    now += 1000;
    link.tick();
    link.show(true);
    link.tick();
    expect(link.bond).toBe("live");
  });

  it("says that somebody looks, again in time, and that nobody does", () => {
    link.show(true);
    expect(model.get("look")).toEqual({ client: "me", visible: true, count: 1 });
    now += RENEW;
    link.tick();
    expect(model.get("look")).toEqual({ client: "me", visible: true, count: 2 });
    link.show(false);
    expect(model.get("look")).toEqual({ client: "me", visible: false, count: 3 });
    now += RENEW;
    link.tick();
    expect(model.saved).toBe(3);
  });

  it("counts time by the kernel's clock", () => {
    beat(500);
    now += 2;
    expect(link.now()).toBe(502);
  });

  it("knows when the kernel is gone, and says nothing to it any more", () => {
    link.show(true);
    beat();
    link.lost();
    const saved = model.saved;
    now += RENEW;
    link.tick();
    expect([link.bond, model.saved]).toEqual(["gone", saved]);
  });

  it("knows that a session is over", () => {
    model.set("session", { ...model.get("session"), open: false });
    beat();
    expect(link.bond).toBe("over");
  });
});
