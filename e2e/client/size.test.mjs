// What nodes serve is made from the source, and must not grow beyond what is promised.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { files, minified } from "./minify.mjs";

const most = 5 * 1024; // bytes

test("what nodes serve is made from the source", async () => {
  assert.equal(await readFile(files.minified, "utf8"), await minified(), "run npm run minify in e2e/client");
});

test("size", async (t) => {
  const code = await readFile(files.minified);
  const size = gzipSync(code, { level: 9 }).length;
  t.diagnostic(`sluice.min.js: ${code.length} bytes, ${size} compressed; at most ${most}`);
  assert.ok(size <= most, `${size} bytes, which is ${size - most} too many`);
});
