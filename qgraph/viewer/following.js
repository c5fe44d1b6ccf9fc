// How one view follows another: the same zoom, and the same place between linked nodes.

/** Move `other` to where `view` is. */
function follow(other, view, comparison) {
  const { zoom } = view.view;
  const centre = { x: view.view.x + view.width / 2 / zoom, y: view.view.y + view.height / 2 / zoom };
  const x = centre.x + (other.scene.width - view.scene.width) / 2 - other.width / 2 / zoom;
  const y = alongAnchors(anchorsBetween(view, other, comparison), centre.y) - other.height / 2 / zoom;
  other.setView({ x, y, zoom });
}

/** Heights of linked parts in two views, both ascending; kept as long as neither is laid out anew. */
function anchorsBetween(view, other, comparison) {
  const kept = view.anchors.get(other);
  if (kept && kept.from === view.scene && kept.to === other.scene) return kept.anchors;
  const anchors = computedAnchors(view, other, comparison);
  view.anchors.set(other, { from: view.scene, to: other.scene, anchors });
  return anchors;
}

/** One anchor for all parts with the same counterparts: the mean of their heights to the mean of the counterparts'. */
function computedAnchors(view, other, comparison) {
  const anchors = [];
  for (const box of [...view.scene.boxes].sort((a, b) => a.y - b.y)) {
    const node = box.part instanceof Group ? box.part.nodes[0] : box.part;
    const shown = comparison.counterparts(node).filter(({ pane }) => pane === other.pane);
    if (!shown.length) continue;
    const from = middleOf(box);
    const to = mean(shown.map((counterpart) => middleOf(other.scene.where.get(shownFor(counterpart)))));
    const last = anchors[anchors.length - 1];
    if (last && last.to === to)
      Object.assign(last, { from: (last.from * last.count + from) / (last.count + 1), count: last.count + 1 });
    else if (!last || to > last.to) anchors.push({ from, to, count: 1 });
  }
  return anchors;
}

function middleOf({ y, height }) {
  return y + height / 2;
}

function mean(numbers) {
  return numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
}

/** The height in the other view that corresponds to `y`: between the anchors linear, outside them parallel. */
function alongAnchors(anchors, y) {
  if (!anchors.length) return y;
  const next = anchors.findIndex(({ from }) => from > y);
  if (next === 0) return anchors[0].to + y - anchors[0].from;
  const before = anchors[(next < 0 ? anchors.length : next) - 1];
  if (next < 0) return before.to + y - before.from;
  const after = anchors[next];
  return before.to + ((y - before.from) / (after.from - before.from || 1)) * (after.to - before.to);
}
