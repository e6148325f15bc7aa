// What is looked at: the chosen example and the filters, which the address of the page keeps.

const empty = {
  split: "train",
  id: "",
  q: "",
  class: "",
  above: "",
  wrong: "",
  suspects: "",
  sort: "",
  y: "",
  brush: "",
};
let view = { ...empty };

function readAddress() {
  view = { ...empty };
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) if (name in empty) view[name] = value;
  if (!(view.split in sets)) view.split = "train";
  if (!(/^\d+$/.test(view.id) && Number(view.id) < sets[view.split].count)) view.id = "";
  const ends = view.brush.split(",").map(Number);
  if (ends.length !== 4 || !ends.every(Number.isFinite)) view.brush = "";
  if (!(view.sort in orders(view.split))) view.sort = "";
  if (!(view.y in heights)) view.y = "";
}

// A chosen example is an entry of the browser's history, to which its button goes back; filters are none.
function writeAddress(entry = false) {
  const told = Object.entries(view).filter(([name, value]) => value !== "" && value !== empty[name]);
  const address = `#${new URLSearchParams(told)}`;
  if (entry && address !== location.hash) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
}

// By falling or rising values; equal ones by index, and what is undefined last.
function ordered(values, sign) {
  if (!values) return null;
  const strength = Float64Array.from(values, (value) => (Number.isNaN(value) ? -Number.MAX_VALUE : sign * value));
  return (a, b) => strength[b] - strength[a] || a - b;
}
const falling = (values) => ordered(values, 1);
const rising = (values) => ordered(values, -1);

// The orders of the list, by name: title, comparison, and what is said of each example.
const known = {};
const orders = (split) => (known[split] ??= makeOrders(split));
function makeOrders(split) {
  const { values } = sets[split];
  const train = split === "train";
  const mean = train ? values.mean_out : values.mean;
  const all = {
    memorization: [
      "memorization",
      falling(values.memorization),
      (i) => `memorization ${decimal(values.memorization[i])}`,
    ],
    risk: ["membership risk", falling(values.risk), (i) => `risk ${probability(values.risk[i])}`],
    suspicion: [
      "votes for another class",
      falling(values.other_share),
      (i) => `${percent(values.other_share[i])} say ${content.classes[values.other[i]]}`,
    ],
    mean: [
      content.score.kind === "0-1" ? "least often right" : "lowest score",
      rising(mean),
      (i) => `${meanOf(mean[i])}${train ? " without it" : ""}`,
    ],
    index: ["index", (a, b) => a - b, mean ? (i) => `${meanOf(mean[i])}${train ? " without it" : ""}` : () => ""],
  };
  return Object.fromEntries(Object.entries(all).filter(([, [, compare]]) => compare));
}
const defaultOrder = () => (sets[view.split].values.memorization ? "memorization" : "index");

// What the height of a point may be: values, interval, and whether it is told from chance.
const heights = {};
{
  const { values } = sets.train;
  if (values.memorization)
    heights.memorization = {
      title: "Memorization",
      words: `difference that the example makes to the ${content.score.words}`,
      values: values.memorization,
      low: values.low,
      high: values.high,
      told: (i) => values.q[i] <= content.fdr,
    };
  if (values.risk)
    heights.risk = {
      title: "Membership risk",
      words: "probability of telling a model with the example from one without it, 0.5 by chance",
      values: values.risk,
      low: values.risk_low,
      high: values.risk_high,
      told: (i) => values.risk_q[i] <= content.fdr,
    };
}
const height = () => heights[view.y] || heights.memorization;

const isSuspect = (split, index) => Boolean(sets[split].values.suspect && sets[split].values.suspect[index]);

let searched = {};
function words(split, index) {
  searched[split] ??= new Array(sets[split].count);
  return (searched[split][index] ??= `${labelOf(split, index)} ${textOf(split, index)}`.toLowerCase());
}

function matches(split, index, token) {
  if (token.startsWith("#")) return token.slice(1) === String(index);
  if (/^\d+$/.test(token) && (token === String(index) || labelOf(split, index) === token)) return true;
  // Part of a number is no match: 8 is not in 18.
  const text = words(split, index);
  return /^\d+$/.test(token) ? text.split(/[^\w.]+/).includes(token) : text.includes(token);
}

// Examples that pass the filters, in the order of the list; with the brush, or as if there were none.
function filtered(withBrush = true) {
  const { split } = view;
  const { values, count: number } = sets[split];
  const tokens = view.q.toLowerCase().split(/\s+/).filter(Boolean);
  const chosenClass = view.class === "" ? -1 : Number(view.class);
  const above = view.above === "" ? -Infinity : Number(view.above);
  const brush = withBrush && split === "train" && view.brush && height() ? view.brush.split(",").map(Number) : null;
  const kept = [];
  for (let i = 0; i < number; i++) {
    if (chosenClass >= 0 && (!values.classes || values.classes[i] !== chosenClass)) continue;
    if (above > -Infinity && split === "train" && values.memorization && !(values.memorization[i] > above)) continue;
    if (view.wrong && values.right && !(values.right[i] < 0.5)) continue;
    if (view.suspects && !isSuspect(split, i)) continue;
    if (brush) {
      const [x, y] = [values.mean_out[i], height().values[i]];
      if (!(x >= brush[0] && x <= brush[1] && y >= brush[2] && y <= brush[3])) continue;
    }
    if (tokens.length && !tokens.every((token) => matches(split, i, token))) continue;
    kept.push(i);
  }
  return kept.sort(orders(split)[view.sort || defaultOrder()][1]);
}
