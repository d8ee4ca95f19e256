// Drives one Chromium for a Go test. Each line on standard input is a command, a JSON object with
// "do" and its arguments; each is answered by one line on standard output, {"value": …} or
// {"error": "…"}. The browser ends with standard input.
//
//   open   {url}                 loads a page
//   run    {script, arg}         calls the function in the page and answers what it returns
//   wait   {script, arg, within} until the function in the page returns something true, milliseconds
//   shot   {path, dark, width}   writes a screenshot of the whole page, at a window of that width
//   look   {dark, width}         has the page look so from now on
//   press  {key, times}          presses a key
//   tab    {n}                   goes on in the n-th tab, from 0; one that is not there yet is opened
//   close  {}                    closes the tab, and goes on in the first one that is left
//   noise  {}                    what the pages have complained about since it was asked last
//
// CHROMIUM names the browser; by default it is looked for where systems put it.

import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const places = [
  process.env.CHROMIUM,
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];

const browser = await chromium.launch({
  executablePath: places.find((p) => p && existsSync(p)),
  args: process.getuid?.() === 0 ? ["--no-sandbox"] : [], // Chromium's sandbox refuses root
});
const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });

let noise = [];

async function newTab() {
  const tab = await context.newPage();
  tab.on("console", (m) => {
    if (m.location().url.endsWith("/favicon.ico")) return; // asked for by the browser, not by a page
    if (m.type() === "error" || m.type() === "warning") noise.push(`${m.type()}: ${m.text()}`);
  });
  tab.on("pageerror", (e) => noise.push(`exception: ${e.message}`));
  await tab.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (e) => {
      console.error(`CSP: ${e.effectiveDirective} blocked ${e.blockedURI}`);
    });
  });
  return tab;
}

let page = await newTab();
const tabs = [page];

// call is the text of a function, called with arg.
const call = ({ script, arg }) => `(${script})(${JSON.stringify(arg ?? null)})`;

const commands = {
  open: ({ url }) => page.goto(url).then((r) => r?.status()),
  run: (c) => page.evaluate(call(c)),
  // Playwright's own waitForFunction needs eval in the page, which its content policy forbids.
  wait: async (c) => {
    for (const end = Date.now() + c.within; ; await new Promise((resolve) => setTimeout(resolve, 50))) {
      const value = await page.evaluate(call(c));
      if (value) return value;
      if (Date.now() > end) throw new Error(`not within ${c.within} ms: ${c.script} of ${JSON.stringify(c.arg)}`);
    }
  },
  shot: async ({ path, dark, width }) => {
    const usual = page.viewportSize();
    await page.emulateMedia({ colorScheme: dark ? "dark" : "light" });
    await page.setViewportSize({ ...usual, width });
    await page.evaluate("new Promise(requestAnimationFrame)"); // canvases follow their size a frame later
    await page.screenshot({ path, fullPage: true });
    await page.setViewportSize(usual);
  },
  look: async ({ dark, width }) => {
    await page.emulateMedia({ colorScheme: dark ? "dark" : "light" });
    await page.setViewportSize({ ...page.viewportSize(), width });
    await page.evaluate("new Promise(requestAnimationFrame).then(() => Promise.allSettled(document.getAnimations().filter((a) => a instanceof CSSTransition).map((a) => a.finished)))");
  },
  press: async ({ key, times = 1 }) => {
    for (let i = 0; i < times; i++) await page.keyboard.press(key);
  },
  tab: async ({ n }) => {
    page = tabs[n] ??= await newTab();
    await page.bringToFront();
  },
  close: async () => {
    await page.close();
    delete tabs[tabs.indexOf(page)];
    page = tabs.find(Boolean);
    await page.bringToFront();
  },
  noise: () => {
    const all = noise;
    noise = [];
    return all;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...args } = JSON.parse(line);
  let answer;
  try {
    answer = { value: (await commands[name](args)) ?? null };
  } catch (e) {
    answer = { error: e.message };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
await browser.close();
