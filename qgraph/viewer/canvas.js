// A pane on the screen: draws the part of its scene that is in view; pointer and keyboard.

const ZOOM = { least: 0.03, most: 3, text: 0.3, easy: 0.85 };
const FONT = 'system-ui, "Segoe UI", "DejaVu Sans", sans-serif';
const DRAG = 4; // pixels a pointer moves before it drags

/**
 * A canvas with one pane's graph. `page` has the colours and what is selected; it is told of every change of the
 * view, and of clicks and keys.
 */
class PaneView {
  constructor(pane, page, element) {
    Object.assign(this, { pane, page, view: { x: 0, y: 0, zoom: 1 }, width: 0, height: 0, pending: false });
    this.anchors = new Map(); // see `anchorsBetween`
    this.canvas = element;
    this.context = element.getContext("2d");
    this.scene = sceneOf(pane);
    this.listen();
  }

  relayout() {
    this.scene = sceneOf(this.pane);
    this.draw();
  }

  resize() {
    const box = this.canvas.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    Object.assign(this, { width: box.width, height: box.height, ratio });
    this.canvas.width = Math.round(box.width * ratio);
    this.canvas.height = Math.round(box.height * ratio);
    this.paint();
  }

  /** Show the whole graph. */
  fit() {
    const { width, height } = this.scene;
    const zoom = Math.max(ZOOM.least, Math.min((this.width - 40) / width, (this.height - 40) / height, 1.2));
    this.setView({ x: width / 2 - this.width / 2 / zoom, y: height / 2 - this.height / 2 / zoom, zoom });
  }

  /** Show the beginning of the graph at a size that is easy to read, or all of it where it fits so. */
  start() {
    this.fit();
    if (this.view.zoom >= ZOOM.easy) return;
    const zoom = Math.max(ZOOM.least, Math.min(ZOOM.easy, (this.width - 40) / this.scene.width));
    this.setView({ x: this.scene.width / 2 - this.width / 2 / zoom, y: -20 / zoom, zoom });
  }

  setView(view) {
    this.view = view;
    this.draw();
  }

  /** Bring a part to the middle. */
  centre(part) {
    const box = this.scene.where.get(part);
    if (!box) return;
    const zoom = Math.max(this.view.zoom, 0.5);
    this.setView({
      x: box.x + box.width / 2 - this.width / 2 / zoom,
      y: box.y + Math.min(box.height, 300) / 2 - this.height / 2 / zoom,
      zoom,
    });
  }

  zoomBy(factor, x = this.width / 2, y = this.height / 2) {
    const { view } = this;
    const zoom = Math.max(ZOOM.least, Math.min(ZOOM.most, view.zoom * factor));
    this.moved({ x: view.x + x / view.zoom - x / zoom, y: view.y + y / view.zoom - y / zoom, zoom });
  }

  panBy(dx, dy) {
    const { view } = this;
    this.moved({ x: view.x + dx / view.zoom, y: view.y + dy / view.zoom, zoom: view.zoom });
  }

  moved(view) {
    this.setView(view);
    this.page.viewMoved(this);
  }

  // ---- drawing

  draw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => this.paint());
  }

  paint() {
    this.pending = false;
    const { context, view, ratio = 1 } = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = colour("page");
    context.fillRect(0, 0, this.width, this.height);
    const scale = view.zoom * ratio;
    context.setTransform(scale, 0, 0, scale, -view.x * scale, -view.y * scale);
    const seen = (shape) => this.inView(shape);
    for (const frame of this.scene.frames) if (seen(frame)) this.paintFrame(frame);
    this.paintEdges(this.scene.edges.filter(seen));
    for (const box of this.scene.boxes) if (seen(box)) this.paintBox(box);
  }

  inView({ x, y, width, height }) {
    const { view } = this;
    return (
      x + width >= view.x &&
      y + height >= view.y &&
      x <= view.x + this.width / view.zoom &&
      y <= view.y + this.height / view.zoom
    );
  }

  /** Whether all of a part is in view. */
  shows(part) {
    const { x, y, width, height } = this.scene.where.get(part);
    const corners = [
      { x, y },
      { x: x + width, y: y + height },
    ];
    return corners.every((corner) => this.inView({ ...corner, width: 0, height: 0 }));
  }

  paintFrame({ part, x, y, width, height }) {
    const { context } = this;
    context.fillStyle = groupsAround(part).length % 2 ? colour("frame") : colour("page");
    context.strokeStyle = colour("line");
    context.lineWidth = 1;
    outline(context, x, y, width, height, 10);
    context.fill();
    context.stroke();
    if (this.page.selection.has(part)) this.ring(x, y, width, height, 10);
    if (this.view.zoom < ZOOM.text) return;
    context.fillStyle = colour("quiet");
    context.font = `600 11px ${FONT}`;
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.fillText(fitted(context, `▾ ${part.label}`, width - 20), x + 10, y + 13);
  }

  paintEdges(edges) {
    const { context, page } = this;
    context.strokeStyle = colour("edge");
    context.lineWidth = Math.max(1.1, 0.7 / this.view.zoom);
    const strong = [];
    for (const edge of edges) {
      if (page.touchesSelection(edge)) strong.push(edge);
      else context.stroke(edge.path);
    }
    context.strokeStyle = colour("accent");
    context.lineWidth = Math.max(2.2, 1.2 / this.view.zoom);
    for (const edge of strong) context.stroke(edge.path);
  }

  paintBox({ part, x, y, width, height }) {
    const { context, page } = this;
    const fill = page.colouring.fill(part);
    const faded = page.colouring.faded(part);
    context.globalAlpha = faded ? 0.35 : 1;
    context.fillStyle = fill;
    context.strokeStyle = colour("node-line");
    context.lineWidth = 1;
    const radius = part instanceof Group ? 4 : isBoundary(part) ? height / 2 : 7;
    if (part instanceof Group) this.paintStack(x, y, width, height);
    context.fillStyle = fill;
    outline(context, x, y, width, height, radius);
    context.fill();
    context.stroke();
    if (part instanceof Group) this.paintShares(part, x, y, width, height);
    if (this.view.zoom >= ZOOM.text) this.paintWords(part, inkOn(fill), x, y, width, height);
    context.globalAlpha = 1;
    if (page.selection.has(part)) this.ring(x, y, width, height, radius);
    else if (page.counterparts.has(part)) this.ring(x, y, width, height, radius, [5, 3]);
  }

  /** A second sheet behind a closed module: there is more inside. */
  paintStack(x, y, width, height) {
    outline(this.context, x + 4, y + 4, width, height, 4);
    this.context.fill();
    this.context.stroke();
  }

  /** A bar under a closed module's name with the kinds of differences inside. */
  paintShares(group, x, y, width, height) {
    const shares = this.page.colouring.shares(group);
    let from = x + 8;
    for (const [kind, share] of shares) {
      this.context.fillStyle = mix(colour(kind), colour("ink"), 0.2);
      this.context.fillRect(from, y + height - 7, share * (width - 16), 4);
      from += share * (width - 16);
    }
  }

  paintWords(part, ink, x, y, width, height) {
    const { context } = this;
    const [first, second] = words(part);
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillStyle = ink;
    context.font = `600 13px ${FONT}`;
    context.fillText(fitted(context, first, width - 14), x + width / 2, y + (second ? 16 : height / 2));
    if (!second) return;
    context.font = `11px ${FONT}`;
    context.globalAlpha *= 0.8;
    context.fillText(fitted(context, second, width - 14), x + width / 2, y + 32);
  }

  ring(x, y, width, height, radius, dash = []) {
    const { context } = this;
    context.strokeStyle = colour("accent");
    context.lineWidth = Math.max(3, 2 / this.view.zoom);
    context.setLineDash(dash.map((length) => length / Math.min(this.view.zoom, 1)));
    outline(context, x - 2.5, y - 2.5, width + 5, height + 5, radius + 2);
    context.stroke();
    context.setLineDash([]);
  }

  // ---- pointer and keys

  /** The innermost shown part under a point of the canvas, null for none. An open module counts by its name only. */
  partAt(px, py) {
    const x = this.view.x + px / this.view.zoom;
    const y = this.view.y + py / this.view.zoom;
    const within = (box, height) => x >= box.x && x <= box.x + box.width && y >= box.y && y <= box.y + height;
    const box = this.scene.boxes.find((candidate) => within(candidate, candidate.height));
    if (box) return box.part;
    const frame = this.scene.frames.filter((candidate) => within(candidate, MARGIN.top)).pop();
    return frame ? frame.part : null;
  }

  /** Tell what is under the pointer, in full. */
  hover({ offsetX, offsetY }) {
    const part = this.partAt(offsetX, offsetY);
    this.canvas.style.cursor = part ? "pointer" : "";
    this.canvas.title = part ? [...words(part), part.path || part.name].filter(Boolean).join("\n") : "";
  }

  /** Where on the canvas the middle of a part is (of an open module: its name). */
  pointOf(part) {
    const { x, y, width, height } = this.scene.where.get(part);
    const middle = part instanceof Group && part.open ? MARGIN.top / 2 : height / 2;
    return { x: (x + width / 2 - this.view.x) * this.view.zoom, y: (y + middle - this.view.y) * this.view.zoom };
  }

  listen() {
    const { canvas } = this;
    let from = null;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      from = { x: event.clientX, y: event.clientY, dragged: false };
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!from) {
        this.hover(event);
        return;
      }
      const [dx, dy] = [event.clientX - from.x, event.clientY - from.y];
      if (!from.dragged && Math.hypot(dx, dy) < DRAG) return;
      from = { x: event.clientX, y: event.clientY, dragged: true };
      this.panBy(-dx, -dy);
    });
    canvas.addEventListener("pointerup", (event) => {
      const clicked = from && !from.dragged;
      from = null;
      if (clicked) this.page.clicked(this, this.partAt(event.offsetX, event.offsetY));
    });
    canvas.addEventListener("pointercancel", () => {
      from = null;
    });
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        if (event.ctrlKey || event.metaKey) this.zoomBy(Math.exp(-event.deltaY / 200), event.offsetX, event.offsetY);
        else this.panBy(event.shiftKey ? event.deltaY : event.deltaX, event.shiftKey ? 0 : event.deltaY);
      },
      { passive: false },
    );
    canvas.addEventListener("keydown", (event) => this.page.keyPressed(this, event));
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
  }
}

function outline(context, x, y, width, height, radius) {
  context.beginPath();
  context.roundRect(x, y, width, height, radius);
}

/** The two lines in a box. */
function words(part) {
  if (part instanceof Group) return [`▸ ${part.label}`, `${part.nodes.length} nodes`];
  if (isBoundary(part)) return [part.name.replace(/^%/, ""), ""];
  const type = part.results.length ? part.results[0].type : "";
  return [part.op, type];
}

const widths = new Map();

/** The text, shortened with an ellipsis where it is wider than `width`. */
function fitted(context, text, width) {
  const key = `${context.font}\n${width}\n${text}`;
  if (!widths.has(key)) widths.set(key, shortened(context, text, width));
  return widths.get(key);
}

function shortened(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let [low, high] = [0, Math.min(text.length, 200)];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (context.measureText(`${text.slice(0, middle)}…`).width <= width) low = middle;
    else high = middle - 1;
  }
  return `${text.slice(0, low)}…`;
}
