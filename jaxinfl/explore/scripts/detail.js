// The chosen example: what models say of it, and its partners in both directions.

const SVG = "http://www.w3.org/2000/svg";
function svgElement(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function intervalBar(value, low, high, reach) {
  const at = (number) => `${50 + 47 * Math.max(-1, Math.min(1, number / reach))}%`;
  const svg = svgElement("svg", { class: "interval", "aria-hidden": "true" });
  svg.append(svgElement("line", { class: "zero", x1: "50%", x2: "50%", y1: 0, y2: 14 }));
  if (Number.isFinite(low)) svg.append(svgElement("line", { class: "range", x1: at(low), x2: at(high), y1: 7, y2: 7 }));
  svg.append(svgElement("circle", { cx: at(value), cy: 7, r: 4 }));
  return svg;
}

function facts(split, index) {
  const { values } = sets[split];
  const found = [];
  const all = content.models;
  const without = split === "train" ? all - values.num_in[index] : all;
  const of = content.score.kind === "0-1" ? "of" : "over";
  // The interval of a share of right models, where the score is that share.
  const within =
    values.right && content.score.kind === "0-1"
      ? ` (${between(values.right_low[index], values.right_high[index], 0, percent)})`
      : "";
  const models = split === "train" ? `the ${count(without)} models trained without it` : `all ${count(all)} models`;
  if (split === "train" && !values.mean_out)
    found.push(["models", `${count(values.num_in[index])} trained with it, ${count(without)} without`]);
  if (values.mean_out) {
    found.push([content.score.words, `${meanOf(values.mean_out[index])}${within} ${of} ${models}`]);
    found.push([
      "with it",
      `${meanOf(values.mean_out[index] + values.memorization[index])} ${of} ${count(values.num_in[index])} models`,
    ]);
    const told = values.q[index] <= content.fdr;
    const about = Number.isNaN(values.q[index])
      ? "not tested"
      : told
        ? qValue(values.q[index])
        : `q > ${content.fdr}: not told from chance`;
    found.push([
      "memorization",
      `${signed(values.memorization[index])}, 95% interval: ${between(values.low[index], values.high[index], values.reason[index])}; ${about}`,
    ]);
  }
  if (values.mean) found.push([content.score.words, `${meanOf(values.mean[index])}${within} ${of} ${models}`]);
  if (values.right && content.score.kind !== "0-1")
    found.push([
      "right",
      `${percent(values.right[index])} (${between(values.right_low[index], values.right_high[index], 0, percent)}) of ${models}`,
    ]);
  if (values.other && values.other_share[index] > 0) {
    const range = between(values.other_low[index], values.other_high[index], 0, percent);
    found.push([
      "other answers",
      `${percent(values.other_share[index])} (${range}) say ${content.classes[values.other[index]]}`,
    ]);
  }
  if (values.risk)
    found.push([
      "membership risk",
      `${probability(values.risk[index])}, 95% interval: ${between(values.risk_low[index], values.risk_high[index], 0, probability)}; 0.5 is chance`,
    ]);
  if (isSuspect(split, index))
    found.push(["label", element("span", { class: "warning" }, "may be wrong: see the other answers")]);
  return element("dl", {}, ...found.flatMap(([name, said]) => [element("dt", {}, name), element("dd", {}, said)]));
}

// Means of a pair with and without the training example, from the mean over all models and the influence.
function sides(train, test, influence) {
  const [all, number] = [content.models, sets.train.values.num_in[train]];
  const mean = sets.test.values.mean[test];
  const means = [mean + (influence * (all - number)) / all, mean - (influence * number) / all];
  if (content.score.kind !== "0-1") return { number, with: means[0], without: means[1] };
  // Influences are kept in steps, and whole numbers of models are right.
  const [withIt, without] = [number, all - number].map((models, k) => Math.round(means[k] * models) / models);
  return { number, with: withIt, without };
}

function pairWords(train, test, influence) {
  const { number, ...means } = sides(train, test, influence);
  const rest = content.models - number;
  if (content.score.kind !== "0-1")
    return `mean ${decimal(means.with)} with train ${train} (${count(number)} models), ${decimal(means.without)} without (${count(rest)})`;
  return `right: ${percent(means.with)} of ${count(number)} models with train ${train}, ${percent(means.without)} of ${count(rest)} without`;
}

function sharedText(split, index, others) {
  const both = new Set(others.split(/\s+/).filter((word) => /[\p{L}\p{N}]/u.test(word)));
  const parts = textOf(split, index)
    .split(/(\s+)/)
    .map((word) => (both.has(word) ? element("b", {}, word) : word));
  return element("span", { class: "text" }, ...parts);
}

function testWords(q) {
  if (content.discovered === null) return "not tested";
  return Number.isNaN(q) ? `${qValue(q)}: not told from chance` : qValue(q);
}

function partnerCard(own, other, pair, reach) {
  const [train, test] = own.split === "train" ? [own.index, other.index] : [other.index, own.index];
  const noise = Number.isNaN(pair.q);
  const words = [
    element("span", {}, nameOf(other.split, other.index)),
    intervalBar(pair.influence, pair.low, pair.high, reach),
    element("span", { class: "value" }, `${signed(pair.influence)} (${between(pair.low, pair.high, pair.reason)})`),
    element("span", {}, `${testWords(pair.q)}; ${pairWords(train, test, pair.influence)}`),
  ];
  if (content.texts.length) words.push(sharedText(other.split, other.index, textOf(own.split, own.index)));
  const button = element(
    "button",
    { type: "button", class: noise ? "noise" : "told", onclick: () => choose(other.split, other.index) },
    picture(other.split, other.index, 72),
    element("span", {}, ...words),
  );
  return element("li", {}, button);
}

function rowsTable(title, own, others) {
  const head = element(
    "tr",
    {},
    element("th", { scope: "col" }, "example"),
    ...content.columns.map(([name]) => element("th", { scope: "col" }, element("div", {}, name))),
  );
  const rows = [own, ...others].map(({ split, index }) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, element("div", {}, nameOf(split, index))),
      ...content.columns.map((_, k) =>
        element("td", {}, String(+columnValues(k)[placeOf(split, index)].toPrecision(4))),
      ),
    ),
  );
  return element(
    "div",
    { class: "wide", tabindex: 0, role: "region", "aria-label": `Values, ${title}` },
    element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)),
  );
}

const columns = [];
const columnValues = (k) => (columns[k] ??= arrayOf(content.columns[k][1]));

function partnerSection(own, title, partners, reach) {
  const pairs = [];
  for (let k = 0; k < partners.width; k++) {
    const at = own.index * partners.width + k;
    if (partners.index[at] < 0) break;
    pairs.push({
      index: partners.index[at],
      influence: partners.influence[at],
      low: partners.low[at],
      high: partners.high[at],
      q: partners.q[at],
      reason: partners.reason[at],
    });
  }
  const split = own.split === "train" ? "test" : "train";
  const told = pairs.filter((pair) => !Number.isNaN(pair.q)).length;
  const parts = [
    element("h3", {}, `${title}: ${pairs.length ? `the ${pairs.length} strongest, ${told} told from chance` : "none"}`),
  ];
  if (pairs.length)
    parts.push(
      element(
        "ol",
        { class: "partners" },
        ...pairs.map((pair) => partnerCard(own, { split, index: pair.index }, pair, reach)),
      ),
    );
  if (pairs.length && content.columns.length)
    parts.push(
      rowsTable(
        title,
        own,
        pairs.map(({ index }) => ({ split, index })),
      ),
    );
  return parts;
}

function showDetail() {
  const detail = document.getElementById("detail");
  if (view.id === "") {
    detail.replaceChildren(
      element("h2", {}, "No example is chosen"),
      element("p", {}, "Choose one in the plot or in the list."),
    );
    return;
  }
  const own = { split: view.split, index: Number(view.id) };
  const inputs = content.texts.map(([name, texts]) =>
    element("p", {}, name ? `${name}: ` : "", element("span", { class: "text" }, texts[placeOf(own.split, own.index)])),
  );
  const top = element("div", { class: "chosen" }, picture(own.split, own.index, 128), facts(own.split, own.index));
  const parts = [element("h2", {}, nameOf(own.split, own.index)), top, ...inputs];
  const partners = partnersOf(own.split);
  if (partners) {
    const reach = Math.max(
      1e-12,
      ...partners.flatMap((each) =>
        Array.from({ length: each.width }, (_, k) => own.index * each.width + k)
          .flatMap((at) => [each.influence[at], each.low[at], each.high[at]])
          .filter(Number.isFinite)
          .map(Math.abs),
      ),
    );
    const titles =
      own.split === "train"
        ? ["Test examples that it helps", "Test examples that it hurts"]
        : ["Training examples that speak for it", "Training examples that speak against it"];
    titles.forEach((title, side) => parts.push(...partnerSection(own, title, partners[side], reach)));
    parts.push(
      element(
        "p",
        { class: "note" },
        `Intervals have ${content.confidence[own.split]} confidence: they allow for the search for the strongest of many pairs. Numbers are the difference that the training example makes: ${content.score.words} with it, minus without it.`,
      ),
    );
  } else if (content.columns.length) parts.push(rowsTable("of this example", own, []));
  detail.replaceChildren(...parts);
}
