// An address that answers HTTP, as a link that works from this page.

import { h, shown, text, type Part } from "./dom";
import type { Web } from "./types";

/** The location of the page: its host, and JupyterLab's absolute base URL, "" elsewhere. */
export interface Place {
  host: string;
  base: string;
}

/** Read the location from the page. */
export function here(): Place {
  let base = "";
  try {
    const config = JSON.parse(document.getElementById("jupyter-config-data")?.textContent ?? "{}") as { baseUrl?: string };
    if (config.baseUrl) base = new URL(config.baseUrl, location.href).href;
  } catch {
    // not a JupyterLab page
  }
  return { host: location.hostname, base };
}

const LOCAL = /^(localhost|.*\.localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

/** Return the URL for the browser, or null if there is none. If the kernel's own address would mean
 * another machine, the URL goes through jupyter-server-proxy. */
export function reach(web: Web, place: Place): string | null {
  const away = web.link === web.url && !LOCAL.test(place.host) && place.base !== "";
  const url = away ? `${place.base.replace(/\/$/, "")}/proxy/${web.port}/` : web.link;
  return /^https?:\/\//.test(url) ? url : null;
}

export class WebLink implements Part {
  readonly element = h("li");
  private readonly method = h("code");
  private readonly link = h("a", { target: "_blank", rel: "noopener" });
  private readonly warning = h("p", { class: "lcm-web-warning", role: "alert" });

  constructor() {
    this.element.append(this.method, " answers at ", this.link, this.warning);
  }

  update(web: Web): void {
    const url = reach(web, here());
    text(this.method, web.method);
    text(this.link, url ?? web.url);
    text(this.warning, web.warning && `Warning: ${web.warning}`);
    shown(this.warning, web.warning !== "");
    if (url === null) this.link.removeAttribute("href");
    else if (this.link.getAttribute("href") !== url) this.link.setAttribute("href", url);
  }
}
