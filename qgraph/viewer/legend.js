// How boxes are coloured: by difference, by family of op, or by a number; and the legend that says so.

/** The colours of the page's boxes: `overlay` is "kind", "family", or one of `OVERLAYS`. */
class Colouring {
  constructor(page) {
    Object.assign(this, {
      page,
      overlay: "family",
      chosen: null,
      scale: null,
      focusKind: null,
      fills: new Map(),
      bars: new Map(),
    });
  }

  /** Forget the colours, which depend on the selection of what is shown. */
  clear() {
    this.fills.clear();
    this.bars.clear();
  }

  fill(part) {
    if (!this.fills.has(part)) this.fills.set(part, this.computedFill(part));
    return this.fills.get(part);
  }

  computedFill(part) {
    const nodes = part instanceof Group ? part.nodes : [part];
    if (this.overlay === "family") return colour(part instanceof Group ? "node" : `family-${part.family}`);
    if (this.overlay === "kind") return part instanceof Group ? colour("node") : this.kindColour(part);
    return this.worstColour(nodes) || colour("node");
  }

  kindColour(node) {
    const kinds = this.page.comparison.of(node).map((link) => link.kind);
    const kind = kinds.find((found) => found !== "same") || kinds[0];
    return colour(kind || "node");
  }

  worstColour(nodes) {
    const values = nodes
      .flatMap((node) => this.page.comparison.of(node))
      .map((link) => link.numbers[this.overlay])
      .filter((value) => typeof value === "number");
    if (!values.length) return null;
    const sign = OVERLAYS[this.overlay].log ? -1 : 1; // of errors the largest is the worst
    return scaleColour(this.scale, sign * least(values, (value) => sign * value));
  }

  /** Kinds of the differences inside a closed module, with their shares. */
  shares(group) {
    if (this.overlay !== "kind") return [];
    if (!this.bars.has(group)) this.bars.set(group, this.computedShares(group));
    return this.bars.get(group);
  }

  computedShares(group) {
    const kinds = group.nodes
      .flatMap((node) => this.page.comparison.of(node).map((link) => link.kind))
      .filter((kind) => kind !== null);
    return KINDS.map((kind) => [kind, kinds.filter((found) => found === kind).length / kinds.length]).filter(
      ([, share]) => share > 0,
    );
  }

  faded(part) {
    const nodes = part instanceof Group ? part.nodes : [part];
    if (this.focusKind !== null && !nodes.some((node) => this.hasFocus(node))) return true;
    return this.page.query !== "" && !nodes.some((node) => this.page.matched.has(node));
  }

  hasFocus(node) {
    if (this.overlay === "family") return node.family === this.focusKind;
    return this.page.comparison.of(node).some((link) => link.kind === this.focusKind);
  }

  /** Offer what the shown links have numbers for. */
  offer() {
    const { links } = this.page.comparison;
    const numbers = Object.keys(OVERLAYS).filter((key) => links.some((link) => typeof link.numbers[key] === "number"));
    const names = [...(links.length ? ["kind"] : []), "family", ...numbers];
    const label = (name) => ({ kind: "by difference", family: "by op" })[name] || OVERLAYS[name].label;
    byId("overlay-label").hidden = names.length < 2;
    byId("overlay").replaceChildren(...names.map((name) => element("option", { value: name }, label(name))));
    this.setOverlay(names.includes(this.chosen) ? this.chosen : names[0]);
  }

  choose(name) {
    this.chosen = name;
    this.setOverlay(name);
  }

  setOverlay(name) {
    this.overlay = name;
    byId("overlay").value = name;
    this.focusKind = null;
    this.scale = OVERLAYS[name] ? scaleFor(name, this.page.comparison.links) : null;
    this.paintLegend();
    this.page.refresh();
  }

  paintLegend() {
    const chips = this.scale
      ? scaleLegend(this.scale)
      : this.kindsShown().map(([name, label]) => this.chip(name, label));
    byId("legend").replaceChildren(...chips);
  }

  /** What the legend lists: [name, label] of the kinds or families that occur. */
  kindsShown() {
    if (this.overlay === "family") {
      const found = new Set(this.page.views.flatMap((view) => view.pane.nodes.map((node) => node.family)));
      return Object.entries(DATA.families).filter(([name]) => found.has(name));
    }
    const count = (kind) => this.page.comparison.links.filter((link) => link.kind === kind).length;
    return KINDS.filter((kind) => count(kind)).map((kind) => [kind, `${kind} (${count(kind)})`]);
  }

  chip(name, label) {
    const shade = this.overlay === "family" ? `family-${name}` : name;
    const button = element(
      "button",
      { type: "button", class: "chip", "aria-pressed": "false", title: "Show only these in full colour" },
      element("span", { class: "swatch", style: `background: var(--${shade})` }),
      label,
    );
    button.addEventListener("click", () => {
      this.focusKind = this.focusKind === name ? null : name;
      for (const chip of byId("legend").children)
        chip.setAttribute("aria-pressed", String(chip === button && this.focusKind !== null));
      this.page.refresh();
    });
    return button;
  }
}

function scaleLegend(scale) {
  const bar = element("span", { class: "scale", style: `background: linear-gradient(to right, ${SCALE.join(", ")})` });
  return [
    element("span", { class: "chip" }, `${scale.label}: `, readable(scale.poor), bar, readable(scale.good)),
    element("span", {}, "a module shows the worst number inside"),
  ];
}
