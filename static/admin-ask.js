// Ask is how the page speaks with the admin API, and when.

/** How long an answer may take, in milliseconds: the node gives up a little earlier. */
const PATIENCE = 6000;

/** ask gets an answer of the admin API. Where that is an error, its problem says what is wrong. */
export async function ask(path, method = "GET") {
  const response = await fetch(path, { method, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  if (response.ok) return response.status === 204 ? null : response.json();
  const problem = await response.json().catch(() => ({}));
  throw new Error(problem.detail || problem.title || `the node answers ${response.status}`);
}

/** Poll calls a function again and again: never before it has finished, and not while nobody sees the page or it is paused. */
export class Poll {
  /** work is async and must not throw; every is in milliseconds. */
  constructor(every, work) {
    this.every = every;
    this.work = work;
    this.paused = false;
    document.addEventListener("visibilitychange", () => this.wake());
  }

  /** wake calls it now, unless it is under way, and goes on. */
  async wake() {
    if (this.running || this.paused || document.hidden) return;
    clearTimeout(this.timer);
    this.running = true;
    const begin = performance.now();
    await this.work();
    this.running = false;
    this.timer = setTimeout(() => this.wake(), Math.max(100, this.every - (performance.now() - begin)));
  }

  /** pause stops it, or has it go on. */
  pause(paused) {
    this.paused = paused;
    clearTimeout(this.timer);
    this.wake();
  }
}
