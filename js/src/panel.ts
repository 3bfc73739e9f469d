// The entry point for anywidget: one panel for each display of the widget.

import { h } from "./dom";
import type { Model } from "./types";
import { View } from "./view";

interface Kernel {
  statusChanged?: { connect(slot: Slot): void; disconnect(slot: Slot): void };
}
type Slot = (kernel: unknown, status: string) => void;

// `crypto.randomUUID` is missing on a page that was loaded by plain HTTP from another host.
const name = (): string => Math.random().toString(36).slice(2, 12);

function render({ model, el }: { model: Model & { widget_manager?: { kernel?: Kernel } }; el: HTMLElement }): () => void {
  const view = new View(model, name());
  el.classList.add("lcm-panel-host");
  el.append(view.element);
  const end = view.start();
  // The saved notebook has a note below the panel for when it is opened without the kernel.
  const left = h("style");
  el.append(left);
  const session = model.get("session").id ?? "";
  if (/^\w+$/.test(session)) left.textContent = `.lcm-panel-left-${session} { display: none; }`;

  let onScreen = true;
  const look = (): void => view.show(onScreen && document.visibilityState === "visible");
  const watcher = new IntersectionObserver((entries) => {
    onScreen = entries.at(-1)?.isIntersecting ?? onScreen;
    look();
  });
  watcher.observe(view.element);
  document.addEventListener("visibilitychange", look);
  window.addEventListener("pagehide", end);

  // JupyterLab reports a kernel's end at once; elsewhere it is detected by missing beats.
  const signal = model.widget_manager?.kernel?.statusChanged;
  const slot: Slot = (_, status) => {
    if (["restarting", "autorestarting", "dead", "terminating"].includes(status)) {
      view.link.lost();
      view.draw();
    }
  };
  signal?.connect(slot);

  return () => {
    signal?.disconnect(slot);
    watcher.disconnect();
    document.removeEventListener("visibilitychange", look);
    window.removeEventListener("pagehide", end);
    end();
  };
}

export default { render };
