// Drives many pages of one browser, chromium, firefox or hiding (the argument), for a Go test. Each line on standard input is a command, a JSON object
// with "id", "do", "page" (a name) and its arguments; each is answered by one line on standard output, {"id": …, "value": …} or
// {"id": …, "error": "…"}, as soon as it is done. The browser ends with standard input.
//
//   open   {url}           loads a page, in a tab of its own
//   run    {script, arg}   calls the function in the page and answers what it returns
//   close  {}              closes the tab
//   offline {offline}      takes the network of the page away, or gives it back (chromium). Connections that are open stay
//   freeze {frozen}        freezes the page, as a browser does with tabs that were not seen for long, or has it go on (hiding)
//   sleep  {ms}            stops all processes of the browser for so long, as a laptop does whose lid is closed (Linux)
//
// CHROMIUM and FIREFOX name the browsers; by default they are looked for where systems put them. Certificates that nobody has signed are
// taken. All tabs count as seen: none is slowed down for being in the background. In hiding, which is Chromium, only the last one does.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const chromiums = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const sandbox = process.getuid?.() === 0 ? ["--no-sandbox"] : []; // Chromium's refuses root

// Pages of many sites share some processes, or each would have its own.
const browsers = {
  chromium: async () => {
    const { chromium } = await import("playwright-core");
    const browser = await chromium.launch({
      executablePath: chromiums.find((p) => p && existsSync(p)),
      args: ["--ignore-certificate-errors", "--disable-site-isolation-trials", "--renderer-process-limit=4", ...sandbox],
    });
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    return { page: () => context.newPage(), close: () => browser.close() };
  },
  hiding: async () => {
    const { default: puppeteer } = await import("puppeteer-core");
    const browser = await puppeteer.launch({ executablePath: chromiums.find((p) => p && existsSync(p)), args: sandbox });
    return { page: () => browser.newPage(), close: () => browser.close() };
  },
  firefox: async () => {
    const { default: puppeteer } = await import("puppeteer-core");
    const places = [process.env.FIREFOX, "/usr/bin/firefox-esr", "/usr/bin/firefox"];
    const browser = await puppeteer.launch({
      browser: "firefox",
      executablePath: places.find((p) => p && existsSync(p)),
      headless: true,
      acceptInsecureCerts: true,
      protocolTimeout: 120_000,
      extraPrefsFirefox: {
        "fission.autostart": false,
        "dom.ipc.processCount": 4,
        "dom.min_background_timeout_value": 4,
        "dom.min_background_timeout_value_without_budget_throttling": 4,
        "dom.timeout.enable_budget_timer_throttling": false,
      },
    });
    return { page: () => browser.newPage(), close: () => browser.close() };
  },
};

const browser = await browsers[process.argv[2]]();
const pages = new Map();

/** descendants returns the ids of all processes that pid has started, and those have. */
const descendants = (pid) => {
  const children = new Map();
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    let stat;
    try {
      stat = readFileSync(`/proc/${entry}/stat`, "latin1");
    } catch {
      continue; // it has ended
    }
    const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
    children.set(parent, [...(children.get(parent) ?? []), Number(entry)]);
  }
  const all = [pid];
  for (const p of all) all.push(...(children.get(p) ?? []));
  return all.slice(1);
};

const commands = {
  open: async ({ page, url }) => {
    pages.set(page, await browser.page());
    return (await pages.get(page).goto(url))?.status();
  },
  run: ({ page, script, arg }) => pages.get(page).evaluate(`(${script})(${JSON.stringify(arg ?? null)})`),
  close: ({ page }) => pages.get(page).close(),
  offline: async ({ page, offline }) => {
    const p = pages.get(page);
    p.devtools ??= await p.context().newCDPSession(p); // what it has set ends with it
    await p.devtools.send("Network.emulateNetworkConditions", { offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
  },
  freeze: async ({ page, frozen }) => {
    const p = pages.get(page);
    p.devtools ??= await p.createCDPSession();
    await p.devtools.send("Page.setWebLifecycleState", { state: frozen ? "frozen" : "active" });
  },
  sleep: async ({ ms }) => {
    const all = descendants(process.pid);
    for (const pid of all) process.kill(pid, "SIGSTOP");
    await new Promise((resolve) => setTimeout(resolve, ms));
    for (const pid of all) process.kill(pid, "SIGCONT");
  },
};

const answer = async ({ id, do: name, ...args }) => {
  let line;
  try {
    line = { id, value: (await commands[name](args)) ?? null };
  } catch (e) {
    line = { id, error: e.message };
  }
  process.stdout.write(JSON.stringify(line) + "\n");
};

const working = new Set();
for await (const line of createInterface({ input: process.stdin })) {
  const work = answer(JSON.parse(line)).then(() => working.delete(work));
  working.add(work);
}
await Promise.race([Promise.all(working), new Promise((resolve) => setTimeout(resolve, 2000))]);
await browser.close();
process.exit();
