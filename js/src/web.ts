// An address that answers HTTP, as a link that works where this page is.

import { h, text, type Part } from "./dom";
import type { Web } from "./types";

/** Where the page is: its host, and JupyterLab's base url as an absolute one, "" elsewhere. */
export interface Place {
  host: string;
  base: string;
}

/** What a JupyterLab page says of itself. */
export function here(): Place {
  let base = "";
  try {
    const told = JSON.parse(document.getElementById("jupyter-config-data")?.textContent ?? "{}") as { baseUrl?: string };
    if (told.baseUrl) base = new URL(told.baseUrl, location.href).href;
  } catch {
    // a page that is not JupyterLab's
  }
  return { host: location.hostname, base };
}

const LOCAL = /^(localhost|.*\.localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

/** How the browser reaches it: where the kernel's own address means another machine, by way of
 * jupyter-server-proxy. Null if nothing leads there. */
export function reach(web: Web, place: Place): string | null {
  const away = web.link === web.url && !LOCAL.test(place.host) && place.base !== "";
  const url = away ? `${place.base.replace(/\/$/, "")}/proxy/${web.port}/` : web.link;
  return /^https?:\/\//.test(url) ? url : null;
}

export class WebLink implements Part {
  readonly element = h("li");
  private readonly method = h("code");
  private readonly link = h("a", { target: "_blank", rel: "noopener" });

  constructor() {
    this.element.append(this.method, " answers at ", this.link);
  }

  update(web: Web): void {
    const url = reach(web, here());
    text(this.method, web.method);
    text(this.link, url ?? web.url);
    if (url === null) this.link.removeAttribute("href");
    else if (this.link.getAttribute("href") !== url) this.link.setAttribute("href", url);
  }
}
