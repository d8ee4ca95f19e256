// The npm package: what is in it, that it installs, imports, bundles and type-checks.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { build } from "esbuild";
import webpack from "webpack";

const here = import.meta.dirname ?? new URL(".", import.meta.url).pathname;
const source = join(here, "../../static");
const exec = promisify(execFile);
const run = async (file, args, options) => {
  try {
    return (await exec(file, args, options)).stdout;
  } catch (e) {
    throw new Error(`${file} ${args.join(" ")}: ${e.message}\n${e.stdout}\n${e.stderr}`);
  }
};

const [major, minor] = process.versions.node.split(".").map(Number);
const requiresModules = major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19);

let dir, packed;

before(async () => {
  dir = await mkdtemp(join(tmpdir(), "sluice-client-"));
  [packed] = JSON.parse(await run("npm", ["pack", "--json", "--pack-destination", dir], { cwd: source }));
  await writeFile(join(dir, "package.json"), JSON.stringify({ private: true, type: "module" }));
  await writeFile(join(dir, "page.js"), `import { connect } from "sluice-client"; globalThis.page = connect;`);
  await run("npm", ["install", "--offline", "--no-package-lock", join(dir, packed.filename)], { cwd: dir });
});

after(() => rm(dir, { recursive: true, force: true }));

test("it has the module, its types, and what describes them", () => {
  assert.deepEqual(packed.files.map((f) => f.path).sort(), ["README.md", "package.json", "sluice.d.ts", "sluice.js", "sluice.min.js"]);
});

test("it depends on nothing and runs nothing when it is installed", async () => {
  const manifest = JSON.parse(await readFile(join(dir, "node_modules/sluice-client/package.json"), "utf8"));
  for (const key of ["dependencies", "peerDependencies", "optionalDependencies", "scripts", "bin"]) assert.equal(manifest[key], undefined, key);
});

test("Node imports it by its name, and it opens nothing by that", async () => {
  const script = `
    import { connect, SluiceError } from "sluice-client";
    const edge = connect("http://127.0.0.1:9/");
    const e = new SluiceError({ code: "x" });
    console.log(JSON.stringify([edge.state, e instanceof Error, e.code]));
    edge.close();`;
  assert.deepEqual(JSON.parse(await run(process.execPath, ["--input-type=module", "-e", script], { cwd: dir, timeout: 10_000 })), ["idle", true, "x"]);
});

test("require of a module gets it where Node can", async (t) => {
  const script = `console.log(typeof require("sluice-client").connect)`;
  if (!requiresModules) return t.skip("this Node can't require modules");
  assert.equal((await run(process.execPath, ["--input-type=commonjs", "-e", script], { cwd: dir, timeout: 10_000 })).trim(), "function");
});

test("esbuild bundles it", async () => {
  const out = join(dir, "bundle.js");
  const { warnings } = await build({ entryPoints: [join(dir, "page.js")], outfile: out, bundle: true, minify: true, format: "esm", logLevel: "silent" });
  assert.deepEqual(warnings, []);
  const text = await readFile(out, "utf8");
  assert.doesNotMatch(text, /^import /m);
  await import(out);
  const edge = globalThis.page("http://127.0.0.1:9/");
  assert.equal(edge.state, "idle");
  edge.close();
});

// workerOf returns the script that a bundle starts as a SharedWorker, which its options must still name.
const workerOf = async (out, pattern) => {
  const scripts = await Promise.all((await readdir(out, { recursive: true })).filter((f) => f.endsWith(".js")).map((f) => readFile(join(out, f), "utf8")));
  assert.ok(scripts.some((s) => pattern.test(s)), `nothing starts a SharedWorker among ${scripts.length} scripts`);
  return scripts.find((s) => s.includes("SharedWorkerGlobalScope") && !pattern.test(s) && !s.includes("globalThis.page="));
};

// Vite 5 wants the options of workers to be literals, and is told to let these pass.
for (const name of ["vite", "vite-5"]) {
  test(`${name} bundles it and its worker`, async (t) => {
    if (name === "vite" && !requiresModules) return t.skip("this Node is too old for it");
    const { build } = await import(name);
    const root = join(dir, name);
    await mkdir(root);
    await writeFile(join(root, "index.html"), `<script type="module" src="../page.js"></script>`);
    await build({ root, logLevel: "silent", configFile: false, build: { outDir: "out" } });
    assert.ok(await workerOf(join(root, "out"), /new SharedWorker\(new URL\([^)]*sluice-[^)]*\.js[^)]*\),\{type:.module.,name:\w+\}\)/));
  });
}

test("webpack bundles it and its worker", async () => {
  const path = join(dir, "webpack");
  const stats = await promisify(webpack)({ mode: "production", context: dir, entry: "./page.js", output: { path } });
  assert.deepEqual(stats.toJson().errors, []);
  assert.deepEqual(stats.toJson().warnings, []);
  assert.ok(await workerOf(path, /new SharedWorker\(new URL\(/));
});

test("a script for a worker of one's own keeps what runs at its top", async () => {
  const { outputFiles } = await build({ stdin: { contents: `import "sluice-client";`, resolveDir: dir }, bundle: true, format: "esm", write: false, logLevel: "silent" });
  assert.match(outputFiles[0].text, /SharedWorkerGlobalScope/);
});

for (const [name, options] of [
  ["bundlers", { module: "esnext", moduleResolution: "bundler" }],
  ["Node", { module: "nodenext", moduleResolution: "nodenext" }],
])
  test(`its types allow what they should and nothing else, for ${name}`, async () => {
    await cp(join(here, "usage.ts"), join(dir, "usage.ts"));
    const compilerOptions = { strict: true, noEmit: true, target: "es2022", lib: ["es2022", "dom"], types: [], skipLibCheck: false, exactOptionalPropertyTypes: true, ...options };
    await writeFile(join(dir, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["usage.ts"] }));
    await run(process.execPath, [join(here, "node_modules/typescript/bin/tsc"), "-p", dir]);
  });

test("types and module export the same names", async () => {
  const types = await readFile(join(source, "sluice.d.ts"), "utf8");
  const named = [...types.matchAll(/^export (?:declare )?(?:function|class|const) (\w+)/gm)].map((m) => m[1]);
  const module = await import(join(source, "sluice.js"));
  assert.deepEqual([...new Set(named)].sort(), Object.keys(module).sort());
});
