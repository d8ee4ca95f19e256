// The module, minified and compressed, must not grow beyond what is promised.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { minify } from "terser";

const most = 5 * 1024; // bytes

test("size", async (t) => {
  const source = await readFile(new URL("../../static/sluice.js", import.meta.url), "utf8");
  const { code } = await minify(source, { module: true, mangle: true, compress: { passes: 3, ecma: 2022, unsafe_arrows: true, pure_getters: true } });
  const size = gzipSync(code, { level: 9 }).length;
  t.diagnostic(`sluice.js: ${source.length} bytes, ${code.length} minified, ${size} minified and compressed; at most ${most}`);
  assert.ok(size <= most, `${size} bytes, which is ${size - most} too many`);
});
