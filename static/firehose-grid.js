// Grid shows the newest price of each key, every key in its place. What arrives between two frames is kept in a
// map, so a frame writes a cell once, however many updates it had.

// A cell that changes with every frame would never be seen to change: it flashes no more often than this.
const FLASH = 150; // milliseconds

export class Grid {
  /** pick(key) is called when the user chooses a cell. */
  constructor(element, symbols, pick) {
    this.cells = new Map();
    this.changed = new Map();
    element.replaceChildren(...symbols.map((key) => this.make(key)));
    element.addEventListener("change", (e) => pick(e.target.value));
    this.choose(symbols[0]);
  }

  make(key) {
    const root = document.createElement("label");
    root.className = "cell";
    root.dataset.key = key;
    const radio = document.createElement("input");
    radio.type = "radio";
    radio.name = "symbol";
    radio.value = key;
    const name = document.createElement("span");
    name.className = "key";
    name.textContent = key;
    const value = document.createElement("span");
    value.className = "price";
    const text = value.appendChild(document.createTextNode("–"));
    root.append(radio, name, value);
    this.cells.set(key, { root, radio, name, text, price: null, flashed: 0, again: false });
    return root;
  }

  /** choose checks the cell of key. */
  choose(key) {
    this.cells.get(key).radio.checked = true;
  }

  /** clear forgets all prices. */
  clear() {
    this.changed.clear();
    for (const cell of this.cells.values()) {
      cell.price = null;
      cell.text.data = "–";
      delete cell.root.dataset.move;
    }
  }

  /** set notes a price. A key that the grid does not know takes the place of one that was never heard of. */
  set(key, price) {
    if (this.cells.has(key) || this.claim(key)) this.changed.set(key, price);
  }

  claim(key) {
    if (key === "") return false;
    for (const [old, cell] of [...this.cells].reverse()) {
      if (cell.price !== null || this.changed.has(old) || cell.radio.checked) continue;
      this.cells.delete(old);
      this.cells.set(key, cell);
      cell.root.dataset.key = cell.radio.value = cell.name.textContent = key;
      return true;
    }
    return false;
  }

  /** draw writes what has changed. ms is the frame's time. */
  draw(ms) {
    for (const [key, price] of this.changed) {
      const cell = this.cells.get(key);
      cell.text.data = price >= 1000 ? price.toFixed(0) : price.toFixed(2);
      if (cell.price !== null && price !== cell.price && ms - cell.flashed >= FLASH) {
        // Two names for one animation: it starts anew where the name changes, with no layout forced for it.
        const move = price > cell.price ? "up" : "down";
        cell.again = !cell.again;
        cell.root.dataset.move = cell.again ? `${move} again` : move;
        cell.flashed = ms;
      }
      cell.price = price;
    }
    this.changed.clear();
  }
}
