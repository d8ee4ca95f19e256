// What nodes serve of the client library: its source without what only people read.
//
//   node minify.mjs        writes static/sluice.min.js, after a change of static/sluice.js

import { readFile, writeFile } from "node:fs/promises";
import { argv } from "node:process";
import { fileURLToPath } from "node:url";
import { minify } from "terser";

const here = (name) => new URL(`../../static/${name}`, import.meta.url);
const options = { module: true, mangle: true, compress: { passes: 3, ecma: 2022, unsafe_arrows: true, pure_getters: true } };

export const files = { source: here("sluice.js"), minified: here("sluice.min.js") };

/** minified returns what files.minified should hold. */
export const minified = async () => (await minify(await readFile(files.source, "utf8"), options)).code + "\n";

if (argv[1] === fileURLToPath(import.meta.url)) await writeFile(files.minified, await minified());
