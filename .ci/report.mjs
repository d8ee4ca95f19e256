// Reads the events of `go test -json` from standard input and prints them for people: a line per
// package, what failed with all of its output, what was skipped and why. The numbers of passed and
// failed tests go to the file named on the command line.

import { writeFileSync } from "node:fs";
import { createInterface } from "node:readline";

let passed = 0, failed = 0;
const output = new Map(); // of each test, and of each package apart from its tests
const counts = new Map(); // tests by package
const broken = new Set(); // packages with a failed test

const key = (e) => `${e.Package ?? e.ImportPath} ${e.Test ?? ""}`;

function keep(e) {
  const k = key(e);
  output.set(k, (output.get(k) ?? "") + e.Output);
}

function tell(e) {
  process.stdout.write((output.get(key(e)) ?? "").replace(/^=== .*\n/gm, ""));
}

function test(e) {
  const k = key(e);
  if (e.Action === "pass") {
    passed++;
    counts.set(e.Package, (counts.get(e.Package) ?? 0) + 1);
  }
  if (e.Action === "fail") {
    failed++;
    broken.add(e.Package);
    console.log(`FAIL ${e.Package} ${e.Test} (${e.Elapsed} s)`);
    tell(e);
  }
  if (e.Action === "skip") {
    console.log(`skip ${e.Package} ${e.Test}:${(output.get(k) ?? "").replace(/^(===|---) .*\n/gm, "").replace(/\s+/g, " ")}`);
  }
  if (["pass", "fail", "skip"].includes(e.Action)) output.delete(k);
}

function unit(e) {
  if (e.Action === "pass") console.log(`ok   ${e.Package}: ${counts.get(e.Package) ?? 0} tests, ${e.Elapsed} s`);
  if (e.Action !== "fail") return;
  if (!broken.has(e.Package)) failed++; // it does not build, panicked or leaked: no test to blame
  console.log(`FAIL ${e.Package} (${e.Elapsed} s)`);
  for (const [k, text] of output) {
    if (!k.startsWith(e.Package + " ")) continue;
    if (k !== key(e)) console.log(`under way: ${k}`); // when it panicked or timed out
    process.stdout.write(text.replace(/^=== .*\n/gm, ""));
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  let e;
  try {
    e = JSON.parse(line);
  } catch {
    console.log(line); // of the go command itself
    continue;
  }
  if (e.Action === "output") keep(e);
  else if (e.Action === "build-output") process.stdout.write(e.Output);
  else if (e.Test) test(e);
  else if (e.Package) unit(e);
}
writeFileSync(process.argv[2], `${passed} ${failed}\n`);
