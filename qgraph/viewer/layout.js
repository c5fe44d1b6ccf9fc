// Where boxes and edges stand. Each open module is laid out by dagre on its own, its open parts as boxes of their size.

const NODE = { width: 190, height: 46 };
const GROUP = NODE; // closed
const BOUNDARY = { width: 120, height: 30 };
const MARGIN = { side: 14, top: 28, bottom: 12 }; // around the parts of an open module, its ports on the border

/** Size of a part: of an open module what its layout needs. */
function sizeOf(part) {
  if (!(part instanceof Group)) return isBoundary(part) ? BOUNDARY : NODE;
  return part.open ? layoutOf(part) : GROUP;
}

/**
 * The layout of an open module: `width`, `height`, `places` (part -> {x, y}, its upper left corner), `routes`
 * ({value, users, points}), and `entries` and `exits` (value -> x on the upper and lower border).
 */
function layoutOf(group) {
  group.layout ??= group.parts.length ? placed(group) : { width: 0, height: 0, places: new Map(), routes: [] };
  return group.layout;
}

function placed(group) {
  const description = described(group);
  const graph = arrangement(description);
  const { left, top, width, height } = boundsOf(group, graph, description);
  const places = new Map();
  group.parts.forEach((part, i) => {
    const box = graph.node(`box ${i}`);
    places.set(part, { x: box.x - box.width / 2 - left, y: box.y - box.height / 2 - top });
  });
  const border = (ports) => new Map([...ports].map(([value, port]) => [value, graph.node(port).x - left]));
  const layout = { width, height, places, entries: border(description.entries), exits: border(description.exits) };
  layout.routes = [...group.edges.values()].map((edge, i) => {
    const bends = bendsOf(graph, description.edges[i], i).map(({ x, y }) => ({ x: x - left, y: y - top }));
    return route(edge, bends, layout);
  });
  return layout;
}

/** The rectangle of a module around its parts and the bends of its edges, with the ports on its border. */
function boundsOf(group, graph, { boxes, edges, entries, exits }) {
  const margin = group.parent === null ? { side: 0, top: 0, bottom: 0 } : MARGIN;
  const nodes = (names) => [...names].map((name) => graph.node(name));
  const [upper, lower] = [nodes(entries.values()), nodes(exits.values())];
  const parts = nodes(boxes.map((_, i) => `box ${i}`));
  const bends = edges.flatMap((ends, i) => bendsOf(graph, ends, i).map((point) => ({ ...point, width: 0, height: 0 })));
  const across = [...parts, ...bends, ...upper, ...lower];
  const left = least(across, ({ x, width }) => x - width / 2) - margin.side;
  const right = -least(across, ({ x, width }) => -x - width / 2) + margin.side;
  const down = [...parts, ...bends];
  const top = Math.min(
    least(down, ({ y, height }) => y - height / 2) - margin.top,
    least(upper, ({ y }) => y),
  );
  const bottom = Math.max(
    -least(down, ({ y, height }) => -y - height / 2) + margin.bottom,
    -least(lower, ({ y }) => -y),
  );
  return { left, top, width: right - left, height: bottom - top };
}

/** dagre's points of an edge between its ends: by turns in the middle of a gap between rows, and at a row passed. */
function bendsOf(graph, [from, to], i) {
  return graph.edge({ v: from, w: to, name: String(i) }).points.slice(1, -1);
}

function least(items, of) {
  let found = Infinity;
  for (const item of items) found = Math.min(found, of(item));
  return found;
}

/**
 * The points of an edge, from the lower side of its tail to the upper side of its head. It turns only in the gaps
 * between rows, and passes beside the boxes of a row straight down.
 */
function route({ value, users, tail, head }, bends, layout) {
  const start = tail
    ? side(tail, layout.places.get(tail), "exits", value, bends[1])
    : { x: layout.entries.get(value), y: 0 };
  const end = head
    ? side(head, layout.places.get(head), "entries", value, bends[bends.length - 2])
    : { x: layout.exits.get(value), y: layout.height };
  const turns = [start];
  const half = (Math.sign(end.y - start.y) * SPACE.ranksep) / 2;
  for (let i = 0; i < bends.length; i += 2) {
    const next = bends[i + 1] || end;
    turns.push({ x: turns[turns.length - 1].x, y: bends[i].y - half }, { x: next.x, y: bends[i].y + half });
  }
  return { value, users, points: [...turns, end] };
}

function side(part, { x, y }, ports, value, towards) {
  const { width, height } = sizeOf(part);
  const border = ports === "exits" ? y + height : y;
  const port = part instanceof Group && part.open ? part.layout[ports].get(value) : undefined;
  if (port !== undefined) return { x: x + port, y: border };
  const centre = x + width / 2;
  const lean = towards ? Math.max(-0.3, Math.min(0.3, (towards.x - centre) / width / 2)) * width : 0;
  return { x: centre + lean, y: border };
}

/**
 * Everything to draw of a pane, in the coordinates of its root: `frames` (open modules), `boxes` (nodes and closed
 * modules), `edges`; all with bounds. `where` gives the rectangle of each shown part.
 */
function sceneOf(pane) {
  const scene = { frames: [], boxes: [], edges: [], where: new Map() };
  place(pane.root, 0, 0, scene);
  const { width, height } = layoutOf(pane.root);
  return { ...scene, width, height };
}

function place(group, x, y, scene) {
  const layout = layoutOf(group);
  for (const { value, users, points } of layout.routes) scene.edges.push({ value, users, ...edgeShape(points, x, y) });
  for (const part of group.parts) {
    const at = layout.places.get(part);
    const { width, height } = sizeOf(part);
    const box = { part, x: x + at.x, y: y + at.y, width, height };
    scene.where.set(part, box);
    const open = part instanceof Group && part.open;
    (open ? scene.frames : scene.boxes).push(box);
    if (open) place(part, box.x, box.y, scene);
  }
}

/** A smooth line that is vertical at each of its points. */
function edgeShape(points, x, y) {
  const path = new Path2D();
  const first = points[0];
  path.moveTo(first.x + x, first.y + y);
  for (let i = 1; i < points.length; i++) {
    const [a, b] = [points[i - 1], points[i]];
    const middle = (a.y + b.y) / 2 + y;
    if (Math.abs(a.x - b.x) < 0.5) path.lineTo(b.x + x, b.y + y);
    else path.bezierCurveTo(a.x + x, middle, b.x + x, middle, b.x + x, b.y + y);
  }
  const left = least(points, (p) => p.x) + x;
  const top = least(points, (p) => p.y) + y;
  return {
    path,
    x: left,
    y: top,
    width: x - least(points, (p) => -p.x) - left,
    height: y - least(points, (p) => -p.y) - top,
  };
}
