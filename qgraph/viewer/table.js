// The table of what differs: sorted by a column, filtered by kind; a row selects its nodes.

const ROWS = 400; // more are left out until filters narrow them
const LINES = 4; // of longer details the panel has the rest

const COLUMNS = [
  { key: "order", label: "#", of: (link) => link.order },
  { key: "kind", label: "kind", of: (link) => KINDS.indexOf(link.kind) },
  { key: "before", label: "before", of: (link) => namesOf(link.before) },
  { key: "after", label: "after", of: (link) => namesOf(link.after) },
  { key: "origin", label: "origin", of: originOf },
  { key: "details", label: "what differs", of: detailLines },
];

function namesOf(nodes) {
  return nodes.map((node) => `${node.op} ${node.name}`).join(", ") || "–";
}

function detailLines({ details }) {
  const more = details.length - LINES;
  return [...details.slice(0, LINES), ...(more > 0 ? [`… ${more} more`] : [])].join("\n");
}

function originOf(link) {
  const nodes = link.before.length ? link.before : link.after;
  return [...new Set(nodes.flatMap((node) => node.origins.map(([path, line]) => path || line)))].join(", ");
}

/** The table; `page` is told which link a row selects. */
class DifferenceTable {
  constructor(page) {
    Object.assign(this, {
      page,
      links: [],
      columns: COLUMNS,
      hidden: new Set(["same"]),
      sort: { key: "order", down: false },
    });
    this.section = byId("differences");
    this.rows = new Map();
    const button = byId("fold-table");
    button.addEventListener("click", () => {
      const folded = this.section.classList.toggle("folded");
      button.setAttribute("aria-expanded", String(!folded));
      button.textContent = folded ? "Show" : "Hide";
    });
  }

  show({ links, panes }) {
    this.links = links.map((link, order) => Object.assign(link, { order: order + 1 }));
    const numbers = Object.keys(OVERLAYS).filter((key) => links.some((link) => typeof link.numbers[key] === "number"));
    this.columns = [
      ...COLUMNS.slice(0, 2),
      ...(panes.length > 2 ? [{ key: "panes", label: "between", of: (link) => this.between(link) }] : []),
      ...COLUMNS.slice(2),
      ...numbers.map((key) => ({ key, label: OVERLAYS[key].label, number: true, of: (link) => link.numbers[key] })),
    ];
    this.section.hidden = links.length === 0;
    this.paintFilters();
    this.paint();
  }

  between({ panes: [before, after] }) {
    const { panes } = this.page.model;
    return `${panes[before].title} → ${panes[after].title}`;
  }

  paintFilters() {
    const kinds = KINDS.filter((kind) => this.links.some((link) => link.kind === kind));
    byId("filters").replaceChildren(...kinds.map((kind) => this.filter(kind)));
  }

  filter(kind) {
    const count = this.links.filter((link) => link.kind === kind).length;
    const box = element("input", { type: "checkbox", value: kind });
    box.checked = !this.hidden.has(kind);
    box.addEventListener("change", () => {
      if (box.checked) this.hidden.delete(kind);
      else this.hidden.add(kind);
      this.paint();
    });
    return element(
      "label",
      {},
      box,
      element("span", { class: "kind", style: `background: var(--${kind})` }, kind),
      String(count),
    );
  }

  paint() {
    document
      .querySelector("#differences thead")
      .replaceChildren(element("tr", {}, ...this.columns.map((column) => this.heading(column))));
    const shown = this.sorted(this.links.filter((link) => !this.hidden.has(link.kind)));
    this.rows = new Map(shown.slice(0, ROWS).map((link) => [link, this.row(link)]));
    document.querySelector("#differences tbody").replaceChildren(...this.rows.values());
    const first = document.querySelector("#differences tbody tr");
    if (first) first.tabIndex = 0; // the arrow keys lead on
    byId("rows").textContent = `${Math.min(shown.length, ROWS)} of ${this.links.length} shown`;
    this.mark(this.page.selectedLinks());
  }

  sorted(links) {
    const { of } = this.columns.find((column) => column.key === this.sort.key) || COLUMNS[0];
    const sign = this.sort.down ? -1 : 1;
    const rank = (value) => (value === null || value === undefined || Number.isNaN(value) ? null : value);
    return [...links].sort((a, b) => {
      const [x, y] = [rank(of(a)), rank(of(b))];
      if (x === null || y === null) return (x === null) - (y === null); // what was not measured comes last
      return sign * (x < y ? -1 : x > y ? 1 : 0) || a.order - b.order;
    });
  }

  heading({ key, label }) {
    const active = this.sort.key === key;
    const arrow = active ? (this.sort.down ? " ▾" : " ▴") : "";
    const button = element("button", { type: "button", onclick: () => this.sortBy(key) }, label + arrow);
    return element(
      "th",
      { scope: "col", "aria-sort": active ? (this.sort.down ? "descending" : "ascending") : "none" },
      button,
    );
  }

  sortBy(key) {
    this.sort = { key, down: this.sort.key === key && !this.sort.down };
    this.paint();
  }

  row(link) {
    const cells = this.columns.map((column) => this.cell(column, link));
    const row = element(
      "tr",
      { tabindex: "-1", "aria-selected": "false", onclick: () => this.page.selectLink(link) },
      ...cells,
    );
    row.addEventListener("keydown", (event) => this.rowKey(event, row, link));
    return row;
  }

  rowKey(event, row, link) {
    if (event.key === "Enter" || event.key === " ") this.page.selectLink(link);
    else if (event.key === "ArrowDown" && row.nextElementSibling) row.nextElementSibling.focus();
    else if (event.key === "ArrowUp" && row.previousElementSibling) row.previousElementSibling.focus();
    else return;
    event.preventDefault();
  }

  cell({ key, number, of }, link) {
    if (key === "kind")
      return element("td", {}, element("span", { class: "kind", style: `background: var(--${link.kind})` }, link.kind));
    if (number) return element("td", { class: "number" }, readable(of(link)));
    return element("td", { class: key }, String(of(link)));
  }

  /** Mark the rows of the selected links. */
  mark(links) {
    for (const [link, row] of this.rows) row.setAttribute("aria-selected", String(links.includes(link)));
    const first = this.rows.get(links[0]);
    if (first && !first.contains(document.activeElement)) first.scrollIntoView({ block: "nearest" });
  }
}
