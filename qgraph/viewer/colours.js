// Colours of boxes: by family of op, by kind of difference, or by a number on a scale. The style sheet names them.

const KINDS = ["same", "changed", "added", "removed", "fused", "split", "moved"];

/** Numbers that boxes can be coloured by; `poor` to `good` spans the scale, on a logarithmic one where `log`. */
const OVERLAYS = {
  sqnr_db: { label: "SQNR (dB)", poor: 10, good: 50 },
  own_sqnr_db: { label: "own SQNR (dB)", poor: 10, good: 50 },
  max_error: { label: "max |error|", log: true },
  cosine: { label: "cosine", poor: 0.95, good: 1 },
};

/** Poor to good: from dark red over yellow to blue, readable without red-green distinction. */
const SCALE = ["#a50026", "#e8603c", "#fdc66e", "#e6f2ea", "#8fc3dd", "#3a6db5"];

const style = { cache: new Map() };

/** A colour of the style sheet by name. */
function colour(name) {
  if (!style.cache.has(name)) {
    style.cache.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  }
  return style.cache.get(name);
}

/** The scale's bounds for these links: fixed, or from the numbers themselves. */
function scaleFor(name, links) {
  const overlay = OVERLAYS[name];
  if (!overlay.log) return overlay;
  const values = links.map((link) => link.numbers[name]).filter((value) => Number.isFinite(value) && value > 0);
  const [low, high] = values.length ? [least(values, (v) => v), -least(values, (v) => -v)] : [1e-6, 1];
  return { ...overlay, good: low, poor: high > low ? high : low * 10 };
}

function scaleColour(scale, value) {
  if (value === null || value === undefined || Number.isNaN(value)) return null;
  const of = scale.log ? (v) => Math.log(Math.max(v, 1e-30)) : (v) => v;
  const share = (of(value) - of(scale.poor)) / (of(scale.good) - of(scale.poor));
  const at = Math.max(0, Math.min(1, share)) * (SCALE.length - 1);
  const i = Math.min(Math.floor(at), SCALE.length - 2);
  return mix(SCALE[i], SCALE[i + 1], at - i);
}

function channels(hex) {
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

function mix(a, b, share) {
  const [from, to] = [channels(a), channels(b)];
  return `#${from
    .map((c, i) =>
      Math.round(c + (to[i] - c) * share)
        .toString(16)
        .padStart(2, "0"),
    )
    .join("")}`;
}

/** Black or white, whichever reads better on that colour. */
function inkOn(hex) {
  const [r, g, b] = channels(hex).map((c) => (c / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.3 ? "#10151d" : "#ffffff";
}
