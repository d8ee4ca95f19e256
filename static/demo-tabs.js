// Tabs are the views of the page, as the ARIA pattern has it: one tab stop, arrow keys, Home and End. The view
// lives in the address, so that it can be sent to someone.

export class Tabs {
  /** show(view) is called with the name of the view that is shown, first of all with that of the address. */
  constructor(list, show) {
    this.tabs = [...list.querySelectorAll("[role=tab]")];
    this.show = show;
    list.addEventListener("click", (e) => {
      const tab = e.target.closest("[role=tab]");
      if (tab) this.select(tab);
    });
    list.addEventListener("keydown", (e) => this.key(e));
    window.addEventListener("popstate", () => this.follow());
  }

  /** follow shows the view that the address names, else the first one. */
  follow() {
    const name = new URLSearchParams(location.search).get("view");
    this.mark(this.tabs.find((t) => t.dataset.view === name) ?? this.tabs[0]);
  }

  key(e) {
    const at = this.tabs.indexOf(e.target.closest("[role=tab]"));
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 }[e.key];
    if (to === undefined || e.ctrlKey || e.altKey || e.metaKey) return;
    e.preventDefault();
    const tab = this.tabs.at(to % this.tabs.length);
    this.select(tab);
    tab.focus();
  }

  select(tab) {
    if (tab === this.shown) return;
    const url = new URL(location.href);
    if (tab === this.tabs[0]) url.searchParams.delete("view");
    else url.searchParams.set("view", tab.dataset.view);
    history.pushState(null, "", url);
    this.mark(tab);
  }

  mark(tab) {
    if (tab === this.shown) return;
    this.shown = tab;
    for (const t of this.tabs) {
      const on = t === tab;
      t.setAttribute("aria-selected", String(on));
      t.tabIndex = on ? 0 : -1;
      document.getElementById(t.getAttribute("aria-controls")).hidden = !on;
    }
    this.show(tab.dataset.view);
  }
}
