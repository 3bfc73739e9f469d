// Creating and changing elements without a framework. Text is set as text only; nothing is parsed.

type Child = Node | string | null;

export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  for (const child of children) if (child !== null) element.append(child);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag: string, attributes: Record<string, string>, ...children: Node[]): SVGElement {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** These functions write only on a change, so focus, selection and scrolling are kept. */
export function text(element: Element, value: string): void {
  if (element.textContent !== value) element.textContent = value;
}

export function attribute(element: Element, name: string, value: string | null): void {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

export function shown(element: HTMLElement, value: boolean): void {
  if (element.hidden === value) element.hidden = !value;
}

export interface Part {
  readonly element: HTMLElement;
}

/** The children of an element, one for each key, created once and kept in order. */
export class Keyed<P extends Part> {
  readonly parts = new Map<string, P>();

  constructor(
    private readonly parent: HTMLElement,
    private readonly make: (key: string) => P,
  ) {}

  keep(keys: readonly string[]): void {
    const wanted = new Set(keys);
    for (const [key, part] of this.parts) {
      if (wanted.has(key)) continue;
      part.element.remove();
      this.parts.delete(key);
    }
    let before: Element | null = null;
    for (const key of keys) {
      let part = this.parts.get(key);
      if (!part) {
        part = this.make(key);
        this.parts.set(key, part);
      }
      const place: Element | null = before ? before.nextElementSibling : this.parent.firstElementChild;
      if (place !== part.element) this.parent.insertBefore(part.element, place);
      before = part.element;
    }
  }
}

/** Move the focus to the first visible one of these elements, after the focused one was removed. */
export function focusFirst(...elements: (HTMLElement | null | undefined)[]): void {
  elements.find((element) => element?.isConnected && !element.closest("[hidden]"))?.focus();
}

/** A button that stays reachable by keyboard when it is unavailable. */
export function button(label: string, spoken: string, press: () => void, kind = ""): HTMLButtonElement {
  const element = h(
    "button",
    { type: "button", class: `lcm-button ${kind}`.trim(), "aria-label": spoken },
    label,
  );
  element.addEventListener("click", () => {
    if (element.getAttribute("aria-disabled") !== "true") press();
  });
  return element;
}
