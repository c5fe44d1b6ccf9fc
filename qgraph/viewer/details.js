// The panel that tells of the selected node or module. All text goes in as text, never as markup.

const byId = (id) => document.getElementById(id);

/** An element with attributes and children (elements or text). */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") made.addEventListener("click", value);
    else if (key === "style") made.style.cssText = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** What the panel shows for a selected part, or for none. */
function detailsOf(part, page) {
  if (part === null) return overview(page);
  return part instanceof Group ? groupDetails(part, page) : nodeDetails(part, page);
}

function overview(page) {
  const keys = [
    ["click", "select a node, unfold a module; on an open module's name, fold it"],
    ["drag, wheel", "pan"],
    ["ctrl + wheel, + −", "zoom"],
    ["0", "fit"],
    ["arrow keys", "go to an operand, a user, a neighbour"],
    ["Enter", "fold or unfold"],
    ["/", "search"],
    ["Esc", "clear the selection"],
  ];
  const about = page.model.about.map((line) => element("p", {}, line));
  const panes = page.views.map(({ pane }) =>
    element(
      "div",
      { class: "value" },
      element("b", {}, pane.title),
      facts([["level", pane.level], ["nodes", String(pane.count)], ...Object.entries(pane.metadata)]),
    ),
  );
  return [element("h2", {}, "Nothing selected"), ...about, ...panes, element("h3", {}, "Mouse and keys"), facts(keys)];
}

function groupDetails(group, page) {
  const ops = new Map();
  for (const node of group.nodes) ops.set(node.op, (ops.get(node.op) || 0) + 1);
  const counts = [...ops].sort((a, b) => b[1] - a[1]).map(([op, count]) => [op, String(count)]);
  const found = group.nodes.flatMap((node) => page.comparison.of(node)).filter(({ kind }) => kind !== null);
  const kinds = KINDS.map((kind) => [kind, String(new Set(found.filter((link) => link.kind === kind)).size)]);
  return [
    element("h2", {}, group.path || group.label),
    element("p", { class: "hint" }, `module of ${group.nodes.length} nodes in ${group.pane.title}`),
    element("button", { type: "button", onclick: () => page.toggle(group) }, group.open ? "Fold" : "Unfold"),
    ...section(
      "Differences",
      kinds.filter(([, count]) => count !== "0"),
      facts,
    ),
    ...section("Ops", counts, facts),
  ];
}

function nodeDetails(node, page) {
  const name = node.results.map((value) => value.name).join(", ") || node.name;
  return [
    element("h2", {}, node.op),
    element("p", { class: "hint" }, `${name} in ${node.pane.title}`),
    ...page.comparison.allOf(node).flatMap((link) => linkDetails(link, node, page)),
    ...originDetails(node),
    ...section("Attributes", Object.entries(node.attrs), facts),
    ...section(
      "Operands",
      node.operands.map((value, i) => [value, node.operand_names[i]]).filter(([value]) => value),
      (operands) => element("div", {}, ...operands.map(([value, word]) => valueDetails(value, word, page))),
    ),
    ...section("Results", node.results, (results) =>
      element("div", {}, ...results.map((value) => valueDetails(value, "", page))),
    ),
    ...section("Users", [...new Set(node.users)], (users) =>
      element("div", {}, ...users.map((user) => jump(user, page))),
    ),
  ];
}

/** A heading and what `make` makes of the items; nothing without items. */
function section(title, items, make) {
  return items.length ? [element("h3", {}, title), make(items)] : [];
}

function facts(pairs) {
  return element("dl", {}, ...pairs.flatMap(([key, value]) => [element("dt", {}, key), element("dd", {}, value)]));
}

function originDetails(node) {
  return section("Origin", node.origins, (origins) =>
    element(
      "div",
      {},
      ...origins.map(([path, line]) =>
        element(
          "p",
          {},
          path ? element("code", {}, path) : null,
          path && line ? " " : null,
          line ? element("span", { class: "hint" }, line) : null,
        ),
      ),
    ),
  );
}

function linkDetails(link, node, page) {
  if (!link.kind) return [];
  const others = link.before.includes(node) ? link.after : link.before;
  const numbers = Object.entries(link.numbers).filter(([, value]) => typeof value === "number");
  const lsb = link.numbers.lsb_histogram;
  return [
    element("h3", {}, "Difference"),
    element("p", {}, element("span", { class: "kind", style: `background: var(--${link.kind})` }, link.kind)),
    ...others.map((other) => jump(other, page)),
    link.details.length ? element("ul", {}, ...link.details.map((line) => element("li", {}, line))) : null,
    numbers.length
      ? facts(numbers.map(([key, value]) => [(OVERLAYS[key] || { label: key }).label, readable(value)]))
      : null,
    ...(Array.isArray(lsb) && lsb.length
      ? [
          element("p", { class: "hint" }, "difference in steps of the quantized value (LSB)"),
          bars(lsb),
          axis(lsbRange(lsb)),
        ]
      : []),
  ].filter((child) => child !== null);
}

/** The histogram of differences is centred: an odd number of bins, one a step. */
function lsbRange(counts) {
  const reach = (counts.length - 1) / 2;
  return [`−${reach}`, "0", `+${reach}`];
}

function jump(node, page) {
  const text = `${node.op}  ${node.name}  (${node.pane.title})`;
  return element("p", {}, element("button", { type: "button", class: "jump", onclick: () => page.goTo(node) }, text));
}

function valueDetails(value, word, page) {
  const producer =
    value.producer && !value.constant
      ? element("button", { type: "button", class: "jump", onclick: () => page.goTo(value.producer) }, value.name)
      : element("code", {}, value.name);
  return element(
    "div",
    { class: "value" },
    element("div", {}, word ? element("b", {}, `${word} `) : null, producer),
    element("code", {}, value.type),
    value.elements.length ? element("code", {}, ` = ${value.elements.join(", ")}`) : null,
    value.quant ? facts(quantFacts(value.quant)) : null,
    ...(value.histogram ? histogramDetails(value.histogram) : []),
  );
}

function quantFacts({ scale, zero_point, axis: channelAxis, count, lowest, highest }) {
  const zeros = [...new Set(zero_point)];
  if (count === 1)
    return [
      ["scale", scale[0]],
      ["zero point", String(zero_point[0])],
    ];
  return [
    ["per channel", `${count} along axis ${channelAxis}`],
    ["scale", `${lowest} … ${highest}`],
    ["zero point", zeros.length === 1 ? String(zeros[0]) : `${Math.min(...zeros)} … ${Math.max(...zeros)}`],
    ["scales", scale.slice(0, 6).join(", ") + (count > 6 ? ", …" : "")],
  ];
}

function histogramDetails({ counts, low, high, mean, std, size, sampled, nonfinite }) {
  const words = `${size.toLocaleString("en")} elements${sampled ? " (a sample is counted)" : ""}, mean ${readable(mean)}, std ${readable(std)}`;
  return [
    bars(counts),
    axis([readable(low), readable(high)]),
    element("p", { class: "hint" }, words),
    nonfinite ? element("p", {}, `${nonfinite} not finite`) : null,
  ];
}

function bars(counts) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const most = Math.max(...counts, 1);
  svg.setAttribute("viewBox", `0 0 ${counts.length} 100`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `histogram of ${counts.length} bins`);
  counts.forEach((count, i) => {
    const bar = document.createElementNS(space, "rect");
    const height = count ? Math.max((count / most) * 100, 1.5) : 0;
    for (const [key, value] of Object.entries({ x: i + 0.06, y: 100 - height, width: 0.88, height }))
      bar.setAttribute(key, value);
    svg.append(bar);
  });
  return svg;
}

function axis(labels) {
  return element("div", { class: "axis" }, ...labels.map((label) => element("span", {}, label)));
}

/** A number with four significant digits. */
function readable(value) {
  if (value === null || value === undefined) return "–";
  if (value === Infinity) return "∞";
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(3) : String(Number(value.toPrecision(4)));
}
