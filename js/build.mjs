// Bundles src/panel.ts and src/panel.css into the Python package, or into the folder that is named:
// node build.mjs [FOLDER]
import { fileURLToPath } from "node:url";
import { dirname, resolve } from "node:path";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = resolve(process.argv[2] ?? `${here}/../lifecycle_magic/ui/panel/static`);

await build({
  absWorkingDir: here,
  entryPoints: { panel: "src/panel.ts" },
  outdir: out,
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: true,
  charset: "utf8",
  legalComments: "none",
});
await build({
  absWorkingDir: here,
  entryPoints: { panel: "src/panel.css" },
  outdir: out,
  minify: true,
  target: "es2022",
  charset: "utf8",
});
