// Which of many panes are shown: a slider through neighbours, or any two.

class Steps {
  constructor(page) {
    this.page = page;
    this.panes = page.model.panes;
    byId("steps").hidden = this.panes.length < 3;
    byId("link-label").hidden = this.panes.length < 2;
    for (const id of ["left", "right"]) {
      byId(id).replaceChildren(...this.panes.map(({ title }, i) => element("option", { value: String(i) }, title)));
      byId(id).addEventListener("change", () => this.showTwo(id));
    }
    const counts = this.panes.map((_, i) => i + 1).slice(1);
    byId("across").replaceChildren(...counts.map((n) => element("option", { value: String(n) }, `${n} side by side`)));
    byId("across").addEventListener("change", () => this.showFrom(Number(byId("slider").value)));
    byId("slider").addEventListener("input", () => this.showFrom(Number(byId("slider").value)));
  }

  /** Show neighbours from a pane on, as many as chosen. */
  showFrom(first) {
    const count = Math.min(Number(byId("across").value) || 1, this.panes.length);
    const start = Math.min(first, this.panes.length - count);
    this.page.showPanes(Array.from({ length: count }, (_, i) => start + i));
  }

  /** Show the two chosen panes, the earlier one on the left; `changed` is the list that was used. */
  showTwo(changed) {
    const last = this.panes.length - 1;
    let [left, right] = [Number(byId("left").value), Number(byId("right").value)];
    if (left >= right && changed === "left") [left, right] = [Math.min(left, last - 1), Math.min(left + 1, last)];
    else if (left >= right) [left, right] = [Math.max(right - 1, 0), Math.max(right, 1)];
    byId("across").value = "2";
    this.page.showPanes([left, right]);
  }

  /** Let the controls say what is shown. */
  paint(indices) {
    const [first, last] = [indices[0], indices[indices.length - 1]];
    byId("left").value = String(first);
    byId("right").value = String(last);
    byId("slider").max = String(this.panes.length - indices.length);
    byId("slider").disabled = this.panes.length === indices.length;
    byId("slider").value = String(first);
    byId("slider").setAttribute("aria-valuetext", indices.map((index) => this.panes[index].title).join(", "));
  }
}
