// One module laid out by dagre. Its description does not name its nodes, so that modules that repeat are laid out once.

const SPACE = { nodesep: 22, edgesep: 12, ranksep: 26, rankalign: "top" };
const PORT = { width: 1, height: 0 };
const BORDER = { entries: "upper border", exits: "lower border" };

/**
 * A module in words: `boxes` are the sizes of its parts, `edges` the names of their ends: "box 0" for the first part,
 * a name of a port where a value crosses the border (`entries` and `exits`: value -> name).
 */
function described(group) {
  const number = new Map(group.parts.map((part, i) => [part, i]));
  const boxes = group.parts.map((part) => [sizeOf(part).width, sizeOf(part).height]);
  const [entries, exits] = [new Map(), new Map()];
  const port = (ports, word, value) => {
    if (!ports.has(value)) ports.set(value, `${word} ${ports.size}`);
    return ports.get(value);
  };
  const edges = [...group.edges.values()].map(({ value, tail, head }) => [
    tail ? `box ${number.get(tail)}` : port(entries, "entry", value),
    head ? `box ${number.get(head)}` : port(exits, "exit", value),
  ]);
  return { boxes, edges, entries, exits };
}

const arrangements = new Map();

/** The graph with positions that dagre makes of a description; not to be changed. */
function arrangement(description) {
  const key = JSON.stringify([description.boxes, description.edges]);
  if (!arrangements.has(key)) arrangements.set(key, laidOut(description));
  return arrangements.get(key);
}

function laidOut({ boxes, edges, entries, exits }) {
  const graph = new dagre.graphlib.Graph({ multigraph: true });
  graph.setGraph({ ...SPACE });
  boxes.forEach(([width, height], i) => graph.setNode(`box ${i}`, { width, height }));
  edges.forEach(([from, to], i) => graph.setEdge(from, to, {}, String(i)));
  for (const port of entries.values()) hold(graph, port, [BORDER.entries, port]);
  for (const port of exits.values()) hold(graph, port, [port, BORDER.exits]);
  dagre.layout(graph);
  return graph;
}

/** Keep a port at the border: a short heavy edge ties it to an invisible node there. */
function hold(graph, port, [from, to]) {
  for (const name of [from, to]) if (!graph.node(name)) graph.setNode(name, { ...PORT });
  graph.setEdge(from, to, { weight: 1000 }, "border");
}
