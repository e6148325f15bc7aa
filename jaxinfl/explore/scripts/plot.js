// The plot: Vega draws it, and these functions say what is in it.

const plot = { view: null, element: document.getElementById("plot"), pending: false, brushed: false };

function extent(array, least = 0) {
  const finite = array.filter(Number.isFinite);
  if (!finite.length) return [0, 1];
  const [low, high] = finite.reduce(
    ([low, high], value) => [Math.min(low, value), Math.max(high, value)],
    [finite[0], finite[0]],
  );
  const margin = Math.max(least, 0.03 * (high - low || 1));
  return [low - margin, high + margin];
}

// Half of a typical interval, for which the plot has room above and below.
function typicalReach({ low, high }) {
  const widths = high
    .map((end, i) => end - low[i])
    .filter(Number.isFinite)
    .sort();
  return widths.length ? widths[widths.length >> 1] / 2 : 0;
}

async function makePlot() {
  if (!height()) return;
  document.getElementById("plot-pane").hidden = false;
  ({ view: plot.view } = await vegaEmbed(plot.element, content.plot, {
    mode: "vega",
    renderer: "canvas",
    actions: false,
    tooltip: false,
    hover: false,
  }));
  // Vega's own description of the drawing would be read twice.
  plot.element.querySelector("canvas").setAttribute("aria-hidden", "true");
  plot.view.addSignalListener("brush_tuple", brushed);
  plot.element.addEventListener("click", (event) => choosePoint(event));
  plot.element.addEventListener("pointermove", (event) => describePoint(event));
}

function setScales() {
  const [x, y] = [extent(sets.train.values.mean_out), extent(height().values, typicalReach(height()))];
  plot.view.signal("x0", x[0]).signal("x1", x[1]).signal("y0", y[0]).signal("y1", y[1]);
}

const pointOf = (i) => ({
  across: sets.train.values.mean_out[i],
  up: height().values[i],
  low: height().low[i],
  high: height().high[i],
});

// Sorts all training examples into the layers of the plot; `kept` are those that pass the filters.
function placePoints(kept) {
  const layers = { faded: [], noise: [], told: [], suspects: [] };
  const { told } = height();
  const passes = new Uint8Array(sets.train.count);
  for (const i of kept) passes[i] = 1;
  for (let i = 0; i < passes.length; i++) {
    const layer = !passes[i] ? "faded" : isSuspect("train", i) ? "suspects" : told(i) ? "told" : "noise";
    layers[layer].push(pointOf(i));
  }
  for (const [name, points] of Object.entries(layers)) plot.view.data(name, points);
  plot.view.data("band", content.bands[view.y || "memorization"] || []);
}

function placeChosen() {
  if (!plot.view) return null;
  const chosen = view.split === "train" && view.id !== "" ? [pointOf(Number(view.id))] : [];
  return plot.view.data("chosen", chosen);
}

// The brush as the address keeps it, in the units of the axes; "" where there is none.
let restoring = false;
function brushed(_, tuple) {
  if (restoring) return;
  const ends = tuple && tuple.values ? tuple.values.flatMap((pair) => [Math.min(...pair), Math.max(...pair)]) : [];
  const brush = ends.length === 4 ? ends.map((end) => +end.toPrecision(5)).join(",") : "";
  // The first click tells of a brush that is still empty; the list would be made again, which takes 150 ms of 10,000 images.
  if (brush === view.brush) return;
  view.brush = brush;
  plot.brushed = view.brush !== "";
  if (plot.pending) return;
  plot.pending = true;
  requestAnimationFrame(() => {
    plot.pending = false;
    showList();
    writeAddress();
  });
}

async function restoreBrush() {
  if (!view.brush && !plot.brushed) return;
  plot.brushed = view.brush !== "";
  restoring = true;
  const ends = view.brush && view.brush.split(",").map(Number);
  const [x, y] = ["x", "y"].map((name) => plot.view.scale(name));
  plot.view.signal("brush_x", ends ? [x(ends[0]), x(ends[1])] : [0, 0]);
  plot.view.signal("brush_y", ends ? [y(ends[3]), y(ends[2])] : [0, 0]);
  await plot.view.runAsync();
  restoring = false;
}

// The training example whose point is nearest, within some pixels.
function nearest(event) {
  const frame = plot.element.querySelector("canvas").getBoundingClientRect();
  const [left, top] = plot.view.origin();
  const [x, y] = ["x", "y"].map((name) => plot.view.scale(name));
  const [atX, atY] = [event.clientX - frame.left - left, event.clientY - frame.top - top];
  const { mean_out: across } = sets.train.values;
  const { values: up } = height();
  let [found, best] = [-1, 14 ** 2];
  for (let i = 0; i < up.length; i++) {
    const distance = (x(across[i]) - atX) ** 2 + (y(up[i]) - atY) ** 2;
    if (distance < best) [found, best] = [i, distance];
  }
  return found;
}

let pressed = null;
plot.element.addEventListener("pointerdown", (event) => (pressed = [event.clientX, event.clientY]), true);

function choosePoint(event) {
  // The end of a drag is no click.
  if (pressed && Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) > 4) return;
  const found = nearest(event);
  if (found >= 0) choose("train", found);
}

function describePoint(event) {
  const found = event.buttons ? -1 : nearest(event);
  const hover = document.getElementById("hover");
  hover.textContent =
    found < 0
      ? ""
      : `${nameOf("train", found)}, ${height().title.toLowerCase()} ${decimal(height().values[found])} (${between(height().low[found], height().high[found])})`;
}
