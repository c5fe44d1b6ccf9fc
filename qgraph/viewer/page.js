// The page: which panes are shown, what is selected, and everything that ties them together.

const SHOWN = 120; // modules are open at first as long as no more boxes than this are shown

class Page {
  constructor(model) {
    Object.assign(this, {
      model,
      views: [],
      comparison: null,
      selection: new Set(),
      counterparts: new Set(),
      current: null,
    });
    Object.assign(this, { query: "", matches: [], matched: new Set(), match: -1, colouring: new Colouring(this) });
    byId("title").textContent = model.title;
    byId("about").textContent = (model.panes.length < 3 && model.about[0]) || ""; // the panel has all of it
    for (const pane of model.panes) pane.openUpTo(SHOWN);
    this.table = new DifferenceTable(this);
    this.steps = new Steps(this);
    this.listen();
    this.steps.showFrom(0);
  }

  // ---- panes

  /** Show the panes of these numbers side by side; place and selection stay where a pane stays. */
  showPanes(indices) {
    const { comparison, current, views } = this;
    this.comparison = new Comparison(this.model, indices);
    byId("panes").replaceChildren();
    this.views = this.comparison.panes.map((pane) => this.addView(pane));
    this.clearSelection();
    this.steps.paint(indices);
    this.colouring.offer();
    this.table.show(this.comparison);
    for (const view of this.views) {
      view.resize();
      view.start();
    }
    this.search(this.query);
    if (comparison) this.keepPlace(comparison, current, views);
  }

  /** Go where the reader was before other panes were shown, and select the same node or its counterpart. */
  keepPlace(comparison, current, views) {
    for (const view of this.views) {
      const old = views.find(({ pane }) => pane === view.pane);
      if (!old) continue;
      const { x, y, zoom } = old.view;
      view.moved({ x: x + (old.width - view.width) / 2 / zoom, y, zoom });
      break;
    }
    if (current === null || current instanceof Group) return;
    const same = [current, ...comparison.counterparts(current)].find((node) => this.viewOf(node));
    if (same) this.select(shownFor(same));
  }

  addView(pane) {
    const canvas = element("canvas", {
      class: "graph",
      tabindex: "0",
      role: "application",
      "aria-label": `Graph ${pane.title}: arrow keys move the selection`,
    });
    const heading = element(
      "h2",
      { class: "pane-title" },
      pane.title,
      element("span", {}, `${pane.level}, ${pane.count} nodes`),
    );
    byId("panes").append(
      element(
        "section",
        { class: "pane", "aria-label": pane.title },
        heading,
        element("div", { class: "pane-view" }, canvas),
      ),
    );
    return new PaneView(pane, this, canvas);
  }

  viewOf(part) {
    return this.views.find((view) => view.pane === part.pane);
  }

  /** Let the other panes follow. */
  viewMoved(view) {
    if (!byId("link-views").checked) return;
    for (const other of this.views) if (other !== view) follow(other, view, this.comparison);
  }

  // ---- selection

  /** Select a part; its counterparts in the other pane are marked and brought to the middle. */
  select(part) {
    this.selection = new Set([part]);
    this.current = part;
    const nodes = part instanceof Group ? part.nodes : [part];
    const others = [...new Set(nodes.flatMap((node) => this.comparison.counterparts(node)))];
    this.markCounterparts(others);
    this.refresh();
    this.announce(part, others);
  }

  announce(part, others) {
    const word = part instanceof Group ? `module ${part.path}` : `${part.op} ${part.name}`;
    byId("announcement").textContent = others.length ? `${word}, ${others.length} counterparts` : word;
  }

  /** Mark nodes, and where a pane shows any bring the first to its middle. */
  markCounterparts(nodes) {
    this.counterparts = new Set(nodes.map(shownFor));
    for (const view of this.views) {
      const first = [...this.counterparts].find((part) => part.pane === view.pane);
      if (first) view.centre(first);
    }
  }

  clearSelection() {
    this.selection = new Set();
    this.counterparts = new Set();
    this.current = null;
  }

  /** Select a node, unfold what hides it and its counterparts, and bring it to the middle. */
  goTo(node) {
    const nodes = [node, ...this.comparison.counterparts(node)];
    this.revealAll(nodes);
    const view = this.viewOf(node);
    if (view) view.centre(node);
    this.select(node);
  }

  revealAll(nodes) {
    const changed = new Set(nodes.filter((node) => reveal(node)).map((node) => this.viewOf(node)));
    for (const view of changed) if (view) view.relayout();
  }

  selectLink(link) {
    const nodes = [...link.before, ...link.after];
    this.goTo(nodes[0]);
    this.selection = new Set(link.before.length ? link.before : link.after);
    this.refresh();
  }

  selectedLinks() {
    if (!this.current || this.current instanceof Group) return [];
    return this.comparison.allOf(this.current);
  }

  touchesSelection({ value, users }) {
    if (this.selection.has(value.producer)) return true;
    for (const user of users) if (this.selection.has(user)) return true;
    return false;
  }

  clicked(view, part) {
    if (part === null) this.clearSelection();
    else if (part instanceof Group) return this.toggle(part);
    else return this.select(part);
    return this.refresh();
  }

  /** Fold or unfold a module, in linked panes also the one of the same path; the module stays where it is. */
  toggle(group) {
    const open = !group.open;
    for (const view of this.views) {
      const same =
        view.pane === group.pane ? group : byId("link-views").checked ? groupAt(view.pane, group.path) : null;
      if (same && same.open !== open && view.scene.where.has(same)) this.setOpen(view, same, open);
    }
    this.select(group);
  }

  setOpen(view, group, open) {
    const before = view.scene.where.get(group);
    setOpen(group, open);
    view.relayout();
    const after = view.scene.where.get(group);
    const middle = after.x + after.width / 2 - before.x - before.width / 2;
    view.setView({ x: view.view.x + middle, y: view.view.y + after.y - before.y, zoom: view.view.zoom });
  }

  /** Fold or unfold every module. */
  setAllOpen(open) {
    for (const view of this.views) {
      view.pane.eachGroup((group) => {
        Object.assign(group, { open: open || group === view.pane.root, layout: null });
      });
      view.relayout();
      view.start();
    }
    if (this.current) this.select(shownFor(this.current));
    else this.refresh();
  }

  // ---- search

  search(query) {
    this.query = query.trim().toLowerCase();
    const nodes = this.query
      ? this.views.flatMap((view) => view.pane.nodes.filter((node) => searchText(node).includes(this.query)))
      : [];
    Object.assign(this, { matches: nodes, matched: new Set(nodes), match: -1 });
    byId("found").textContent = this.query ? `${nodes.length} found` : "";
    this.refresh();
  }

  /** Go to the next match, or with -1 to the previous one. */
  step(by) {
    if (!this.matches.length) return;
    const count = this.matches.length;
    this.match = this.match < 0 ? (by > 0 ? 0 : count - 1) : (this.match + by + count) % count;
    byId("found").textContent = `${this.match + 1} of ${count}`;
    this.goTo(this.matches[this.match]);
  }

  // ---- events

  refresh() {
    this.colouring.clear();
    for (const view of this.views) view.draw();
    byId("details").replaceChildren(...detailsOf(this.current, this));
    this.table.mark(this.selectedLinks());
  }

  keyPressed(view, event) {
    const action = KEYS[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action(this, view, event);
  }

  /** Move the selection to what `find` gives for the selected part; without a selection to the first box. */
  move(view, find) {
    const from = this.current;
    const first = view.scene.boxes.length ? view.scene.boxes[0].part : null;
    const part = from && from.pane === view.pane ? find(shownFor(from), view) : first;
    if (!part) return;
    this.select(part);
    if (!view.shows(part)) view.centre(part);
  }

  listen() {
    byId("overlay").addEventListener("change", (event) => this.colouring.choose(event.target.value));
    byId("fit").addEventListener("click", () => this.views.forEach((view) => view.fit()));
    byId("unfold").addEventListener("click", () => this.setAllOpen(true));
    byId("fold").addEventListener("click", () => this.setAllOpen(false));
    byId("query").addEventListener("input", (event) => this.search(event.target.value));
    byId("query").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !event.shiftKey) return;
      event.preventDefault();
      this.step(-1);
    });
    byId("search").addEventListener("submit", (event) => {
      event.preventDefault();
      this.step(1);
    });
    byId("previous").addEventListener("click", () => this.step(-1));
    document.addEventListener("keydown", (event) => {
      if (event.key !== "/" || event.target.matches("input, select")) return;
      event.preventDefault();
      byId("query").focus();
    });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      style.cache.clear();
      this.refresh();
    });
  }
}

/** What keys do on a focused graph. */
const KEYS = {
  ArrowUp: (page, view, event) => (event.shiftKey ? view.panBy(0, -80) : page.move(view, operandOf)),
  ArrowDown: (page, view, event) => (event.shiftKey ? view.panBy(0, 80) : page.move(view, userOf)),
  ArrowLeft: (page, view, event) =>
    event.shiftKey ? view.panBy(-80, 0) : page.move(view, (part) => beside(part, view, -1)),
  ArrowRight: (page, view, event) =>
    event.shiftKey ? view.panBy(80, 0) : page.move(view, (part) => beside(part, view, 1)),
  Enter: (page) => toggleSelected(page),
  " ": (page) => toggleSelected(page),
  "+": (page, view) => view.zoomBy(1.25),
  "=": (page, view) => view.zoomBy(1.25),
  "-": (page, view) => view.zoomBy(0.8),
  0: (page) => page.views.forEach((view) => view.fit()),
  Escape: (page) => {
    page.clearSelection();
    page.refresh();
  },
};

/** Fold or unfold the selected module; from a node, fold the module around it. */
function toggleSelected(page) {
  const part = page.current;
  if (part === null) return;
  if (part instanceof Group) page.toggle(part);
  else if (part.parent.parent) page.toggle(part.parent);
}

function operandOf(part) {
  const edge = [...part.parent.edges.values()].find(({ head }) => head === part);
  return edge ? shownFor(edge.value.producer) : null;
}

function userOf(part) {
  const edge = [...part.parent.edges.values()].find(({ tail }) => tail === part);
  return edge ? shownFor([...edge.users][0]) : null;
}

/** The nearest box to the left (-1) or right (1) at about the same height. */
function beside(part, view, side) {
  const at = view.scene.where.get(part);
  const near = view.scene.boxes.filter(
    ({ x, y, part: other }) => other !== part && (x - at.x) * side > 0 && Math.abs(y - at.y) < 2 * NODE.height,
  );
  const distance = (box) => Math.abs(box.x - at.x) + 3 * Math.abs(box.y - at.y);
  return near.length ? near.reduce((a, b) => (distance(b) < distance(a) ? b : a)).part : null;
}

function groupAt(pane, path) {
  let found = null;
  pane.eachGroup((group) => {
    if (group.path === path) found = group;
  });
  return found;
}

function searchText(node) {
  node.text ??= [
    node.op,
    ...node.results.map((value) => value.name),
    ...node.operands.map((value) => (value ? value.name : "")),
    ...node.origins.flat(),
  ]
    .join("\n")
    .toLowerCase();
  return node.text;
}

window.qgraphPage = new Page(new Model(DATA));
