// The page's data as linked objects: nodes, modules ("groups"), and links between the nodes of panes.

const DATA = JSON.parse(document.getElementById("data").textContent);

/** A module: `parts` are nodes and groups in the graph's order; closed, it is drawn as one box. */
class Group {
  constructor(data, parent, nodes, pane, key = "root") {
    Object.assign(this, { label: data.label, parent, pane, key, open: false, layout: null });
    this.path = parent && parent.path ? `${parent.path}.${data.label}` : data.label;
    this.parts = data.parts.map((part, i) => {
      if (typeof part !== "number") return new Group(part, this, nodes, pane, `g${i}`);
      nodes[part].parent = this;
      return nodes[part];
    });
    this.nodes = this.parts.flatMap((part) => (part instanceof Group ? part.nodes : [part]));
    this.edges = new Map(); // between its parts and ports: see `addEdge`
  }
}

/** One graph. A node's `operands` and `results` are values; a value's `producer` is a node, null for a constant. */
class PaneModel {
  constructor(data, index) {
    Object.assign(this, { index, title: data.title, level: data.level, metadata: data.metadata });
    this.nodes = data.nodes.map((node, id) => ({ ...node, id, key: `n${id}`, pane: this, parent: null, users: [] }));
    this.values = data.values.map((value, id) => ({
      ...value,
      id,
      producer: value.producer === null ? null : this.nodes[value.producer],
    }));
    for (const node of this.nodes) {
      node.operands = node.operands.map((value) => (value === null ? null : this.values[value]));
      node.results = node.results.map((value) => this.values[value]);
      node.name = (node.results[0] || node.operands[0]).name;
    }
    this.root = new Group(data.tree, null, this.nodes, this);
    this.count = this.nodes.filter((node) => !isBoundary(node)).length;
    for (const node of this.nodes) this.connect(node);
  }

  connect(node) {
    for (const value of new Set(node.operands)) {
      if (value === null || value.producer === null) continue;
      value.producer.users.push(node);
      addEdge(value, node);
    }
  }

  /** Call `visit` with every group, outer ones first. */
  eachGroup(visit, group = this.root) {
    visit(group);
    for (const part of group.parts) if (part instanceof Group) this.eachGroup(visit, part);
  }

  /** Open modules, outer ones first, as long as no more than `limit` boxes are shown. */
  openUpTo(limit) {
    this.root.open = true;
    let shown = this.root.parts.length;
    const queue = this.root.parts.filter((part) => part instanceof Group);
    while (queue.length) {
      const group = queue.shift();
      if (shown + group.parts.length - 1 > limit) continue;
      group.open = true;
      shown += group.parts.length - 1;
      queue.push(...group.parts.filter((part) => part instanceof Group));
    }
  }
}

function isBoundary(node) {
  return node.op === "input" || node.op === "output";
}

/** The groups around a node, outermost first. */
function groupsAround(part) {
  const groups = [];
  for (let group = part.parent; group; group = group.parent) groups.unshift(group);
  return groups;
}

/**
 * Enter the edge from `value`'s producer to `node` into every group that it passes. In the innermost group around both
 * it connects two parts; in the groups that it leaves or enters, a part and the value's port on the border (null).
 */
function addEdge(value, node) {
  const from = [...groupsAround(value.producer), value.producer];
  const to = [...groupsAround(node), node];
  let common = 0;
  while (from[common + 1] === to[common + 1]) common++;
  const put = (group, tail, head) => {
    const key = `${value.id} ${tail ? tail.key : ""} ${head ? head.key : ""}`;
    if (!group.edges.has(key)) group.edges.set(key, { value, tail, head, users: new Set() });
    group.edges.get(key).users.add(node);
  };
  put(from[common], from[common + 1], to[common + 1]);
  for (let i = common + 1; i < from.length - 1; i++) put(from[i], from[i + 1], null);
  for (let i = common + 1; i < to.length - 1; i++) put(to[i], null, to[i + 1]);
}

/** What is drawn for a node: itself, or the outermost closed module around it. */
function shownFor(node) {
  return groupsAround(node).find((group) => !group.open) || node;
}

/** Open the modules around a part; true when one was closed. */
function reveal(part) {
  const closed = groupsAround(part).filter((group) => !group.open);
  for (const group of closed) setOpen(group, true);
  return closed.length > 0;
}

/** Open or close a module and forget the layouts that depend on its size. */
function setOpen(group, open) {
  group.open = open;
  for (let outer = group; outer; outer = outer.parent) outer.layout = null;
}

/** All panes and links. */
class Model {
  constructor(data) {
    this.title = data.title;
    this.about = data.about;
    this.panes = data.panes.map((pane, index) => new PaneModel(pane, index));
    this.links = data.links.map((link) => ({
      ...link,
      before: link.before.map((id) => this.panes[link.panes[0]].nodes[id]),
      after: link.after.map((id) => this.panes[link.panes[1]].nodes[id]),
      numbers: Object.fromEntries(Object.entries(link.numbers).map(([key, value]) => [key, toNumber(value)])),
    }));
    this.pairs = new Map();
  }

  /** The links between two panes: as given, or composed of those between the panes that lie between. */
  linksBetween(left, right) {
    const key = `${left} ${right}`;
    if (!this.pairs.has(key)) {
      const direct = this.links.filter(({ panes: [a, b] }) => a === left && b === right);
      const links = direct.length || right === left + 1 ? direct : composed(this.links, left, right);
      this.pairs.set(key, new Pair(links, this.panes[left], this.panes[right]));
    }
    return this.pairs.get(key);
  }
}

function toNumber(value) {
  if (Array.isArray(value)) return value.map(Number);
  return value === null ? null : Number(value);
}

/** Links between two panes, and for each node those it is in. */
class Pair {
  constructor(links, left, right) {
    this.links = links;
    this.byNode = new Map();
    for (const link of links) {
      for (const node of [...link.before, ...link.after]) {
        if (!this.byNode.has(node)) this.byNode.set(node, []);
        this.byNode.get(node).push(link);
      }
    }
    for (const op of ["input", "output"]) this.linkBoundary(left, right, op);
  }

  /** Inputs and outputs correspond by their order; they are no difference of their own. */
  linkBoundary(left, right, op) {
    const [before, after] = [left, right].map((pane) => pane.nodes.filter((node) => node.op === op));
    before.slice(0, after.length).forEach((node, i) => {
      const link = { kind: null, before: [node], after: [after[i]], details: [], numbers: {} };
      this.byNode.set(node, [link]);
      this.byNode.set(after[i], [link]);
    });
  }

  of(node) {
    return this.byNode.get(node) || [];
  }

  counterparts(node) {
    const found = this.of(node).flatMap((link) => (link.before.includes(node) ? link.after : link.before));
    return [...new Set(found)];
  }
}

/** The panes on the screen, in order, and the links between neighbours. */
class Comparison {
  constructor(model, indices) {
    this.panes = indices.map((index) => model.panes[index]);
    this.pairs = indices.slice(1).map((index, i) => model.linksBetween(indices[i], index));
    this.links = this.pairs.flatMap((pair) => pair.links);
  }

  /** The links of a node with the pane before its own; in the first pane, with the one after. */
  of(node) {
    const pair = this.pairs[Math.max(this.panes.indexOf(node.pane) - 1, 0)];
    return pair ? pair.of(node) : [];
  }

  /** The links of a node with both neighbours. */
  allOf(node) {
    const at = this.panes.indexOf(node.pane);
    return this.pairs.slice(Math.max(at - 1, 0), at + 1).flatMap((pair) => pair.of(node));
  }

  /** The nodes of all other panes that a chain of links leads to, nearest panes first. */
  counterparts(node) {
    const at = this.panes.indexOf(node.pane);
    return [...this.chain(node, this.pairs.slice(0, at).reverse()), ...this.chain(node, this.pairs.slice(at))];
  }

  chain(node, pairs) {
    const found = [];
    let last = [node];
    for (const pair of pairs) {
      last = [...new Set(last.flatMap((next) => pair.counterparts(next)))];
      found.push(...last);
    }
    return found;
  }
}

/** Links from pane `left` to pane `right`: nodes belong together when a chain of links joins them. */
function composed(links, left, right) {
  const root = new Map();
  const find = (node) => {
    if (!root.has(node)) root.set(node, node);
    while (root.get(node) !== node) {
      root.set(node, root.get(root.get(node)));
      node = root.get(node);
    }
    return node;
  };
  const between = links.filter(({ panes: [a, b] }) => a >= left && b <= right && b === a + 1);
  for (const link of between) {
    const [first, ...rest] = [...link.before, ...link.after];
    for (const node of rest) root.set(find(node), find(first));
  }
  const joined = new Map();
  for (const link of between) {
    const key = find([...link.before, ...link.after][0]);
    if (!joined.has(key)) joined.set(key, []);
    joined.get(key).push(link);
  }
  return [...joined.values()].map((chain) => composedLink(chain, left, right)).filter((link) => link !== null);
}

function composedLink(chain, left, right) {
  const nodes = [...new Set(chain.flatMap((link) => [...link.before, ...link.after]))];
  const before = nodes.filter((node) => node.pane.index === left);
  const after = nodes.filter((node) => node.pane.index === right);
  if (!before.length && !after.length) return null;
  const kind = composedKind(before, after, chain);
  return {
    panes: [left, right],
    before,
    after,
    kind,
    details: [...new Set(chain.flatMap((link) => link.details))],
    numbers: {},
  };
}

function composedKind(before, after, chain) {
  if (!before.length) return "added";
  if (!after.length) return "removed";
  if (before.length > 1 && after.length === 1) return "fused";
  if (before.length === 1 && after.length > 1) return "split";
  const kinds = new Set(chain.map((link) => link.kind));
  return kinds.size === 1 ? chain[0].kind : "changed";
}
