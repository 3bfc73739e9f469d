import { expect, it } from "vitest";
import { reach } from "../src/web";

const web = { method: "predict", port: 28948, url: "http://127.0.0.1:28948/", link: "http://127.0.0.1:28948/", warning: "" };
const hub = { host: "hub.example.org", base: "https://hub.example.org/user/me/" };

it("is the address itself on the kernel's machine", () => {
  for (const host of ["localhost", "127.0.0.1", "[::1]"]) {
    expect(reach(web, { host, base: `http://${host}:8888/` })).toBe(web.url);
  }
});

it("goes by way of jupyter-server-proxy from elsewhere", () => {
  expect(reach(web, hub)).toBe("https://hub.example.org/user/me/proxy/28948/");
});

it("is what the kernel says where it knows better, and where the page is not JupyterLab's", () => {
  const told = { ...web, link: "https://elsewhere.example.org/proxy/28948/" };
  expect(reach(told, hub)).toBe(told.link);
  expect(reach(web, { host: "hub.example.org", base: "" })).toBe(web.url);
});

it("is nothing that could run in the page", () => {
  expect(reach({ ...web, link: "javascript:alert(1)" }, hub)).toBe(null);
});
