"use strict";
// What the page holds, decoded; and how its numbers are written.

const content = JSON.parse(document.getElementById("content").textContent);

function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let k = 0; k < bytes.length; k++) bytes[k] = characters.charCodeAt(k);
  return bytes;
}

// Arrays are little-endian, as all machines are on which browsers run.
function arrayOf(packed) {
  if (!packed) return null;
  const { buffer } = bytesOf(packed.bytes);
  if (packed.type === "float32") return new Float32Array(buffer);
  if (packed.type === "int32") return new Int32Array(buffer);
  if (packed.type === "int8") return new Int8Array(buffer);
  // Numbers in steps of a scale; the lowest step stands for NaN.
  return Float32Array.from(new Int16Array(buffer), (step) => (step === -32768 ? NaN : step * packed.scale));
}

function decodeExamples(packed) {
  const values = {};
  for (const [name, array] of Object.entries(packed.values)) values[name] = arrayOf(array);
  return { ...packed, values };
}

const sets = { train: decodeExamples(content.train), test: decodeExamples(content.test) };

function decodePartners(packed) {
  if (!packed) return null;
  const arrays = { width: packed.width };
  for (const name of ["index", "influence", "low", "high", "q", "reason"]) arrays[name] = arrayOf(packed[name]);
  return arrays;
}

// Decoded when an example is first chosen: the page is there before.
let decoded = null;
function partnersOf(split) {
  decoded ??= content.partners && {
    train: content.partners.train.map(decodePartners),
    test: content.partners.test.map(decodePartners),
  };
  return decoded && decoded[split];
}

const isShare = content.score.kind !== "real";
const integers = new Intl.NumberFormat("en");
const count = (number) => integers.format(number);
const percent = (share) =>
  Number.isFinite(share)
    ? `${(100 * share).toFixed((share > 0 && share < 0.005) || (share > 0.995 && share < 1) ? 1 : 0)}%`
    : "unknown";
const decimal = (value) =>
  Number.isFinite(value)
    ? (isShare ? value.toFixed(2) : String(+value.toPrecision(3))).replace(/^-0\.00$/, "0.00").replace("-", "−")
    : "unknown";
const probability = (value) => (Number.isFinite(value) ? value.toFixed(2) : "unknown");
const signed = (value) => (value > 0 ? "+" : "") + decimal(value);
const between = (low, high, reason = 0, write = decimal) =>
  Number.isFinite(low) && Number.isFinite(high)
    ? `${write(low)} to ${write(high)}`
    : `no interval${reason ? `: ${content.reasons[reason]}` : ""}`;
const qValue = (q) => (Number.isNaN(q) ? `q > ${content.fdr}` : q < 0.001 ? "q < 0.001" : `q ${q.toFixed(3)}`);
const meanOf = (value) => (content.score.kind === "0-1" ? percent(value) : decimal(value));

function labelOf(split, index) {
  const { classes } = sets[split].values;
  if (classes) return content.classes[classes[index]];
  return sets[split].targets ? sets[split].targets[index] : "";
}

function nameOf(split, index) {
  const label = labelOf(split, index);
  return label === "" ? `${split} ${index}` : `${split} ${index}: ${label}`;
}

// Number of an example among all inputs: training examples come first.
const placeOf = (split, index) => (split === "train" ? index : sets.train.count + index);

const textOf = (split, index) => content.texts.map(([, texts]) => texts[placeOf(split, index)]).join(" ");

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined)
      made.setAttribute(name, value === true ? "" : value);
  }
  // Strings become text: names of classes and texts come from data sets.
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// Sheets are in the page behind this script, and become images when one of their examples is first shown.
const addresses = new Map();
function sheetAddress(sheet) {
  if (!addresses.has(sheet)) {
    // Until the whole page is read, a sheet may be there in part.
    if (document.readyState === "loading") return null;
    const source = document.getElementById(`sheet${sheet}`);
    if (!source) return null;
    addresses.set(sheet, URL.createObjectURL(new Blob([bytesOf(source.textContent)], { type: content.sprites.mime })));
  }
  return addresses.get(sheet);
}

function paint(span) {
  const { side } = content.sprites;
  const address = sheetAddress(Math.floor(span.dataset.place / (side * side)));
  if (!address) return;
  span.style.backgroundImage = `url(${address})`;
  span.classList.remove("waiting");
}

// Pictures of a long list are painted when they come into view: most of their sheets are never decoded.
const inView = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    inView.unobserve(target);
    paint(target);
  }
});

// A picture of an example at most `size` pixels large, or null where there are no images.
function picture(split, index, size, late = false) {
  if (!content.sprites) return null;
  const { width, height, side } = content.sprites;
  const scale = size / Math.max(width, height);
  const [wide, high] = [width * scale, height * scale];
  const at = placeOf(split, index) % (side * side);
  const span = element("span", {
    class: "picture waiting",
    role: "img",
    "aria-label": `Image of ${nameOf(split, index)}`,
  });
  span.dataset.place = placeOf(split, index);
  const rows = Math.ceil(Math.min(side * side, sets.train.count + sets.test.count - (span.dataset.place - at)) / side);
  Object.assign(span.style, {
    width: `${wide}px`,
    height: `${high}px`,
    backgroundSize: `${side * wide}px ${rows * high}px`,
    backgroundPosition: `${-(at % side) * wide}px ${-Math.floor(at / side) * high}px`,
    imageRendering: scale > 1.5 ? "pixelated" : "auto",
  });
  if (late) inView.observe(span);
  else paint(span);
  return span;
}

// The sheets lie behind the scripts in the page: what was shown before is painted when they are there.
addEventListener("DOMContentLoaded", () =>
  document.querySelectorAll(".picture.waiting").forEach((span) => inView.observe(span)),
);
