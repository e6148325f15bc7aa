// The controls, the list, and what a click or a key does.

const PAGE = 60;
const list = { found: [], shown: PAGE, element: document.getElementById("list") };
const controls = document.getElementById("controls");
const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));

function control(name, title, input) {
  input.name = name;
  return element(
    "label",
    { class: input.type === "checkbox" ? "check" : false },
    ...(input.type === "checkbox" ? [input, title] : [title, input]),
  );
}

const options = (pairs) => element("select", {}, ...pairs.map(([value, text]) => element("option", { value }, text)));

function makeControls() {
  const { train, test } = sets;
  const made = [];
  made.push(
    control(
      "split",
      "Show",
      options([
        ["train", `training examples (${count(train.count)})`],
        ["test", `test examples (${count(test.count)})`],
      ]),
    ),
  );
  made.push(
    control(
      "q",
      "Search by number, label or text",
      element("input", { type: "search", autocomplete: "off", spellcheck: "false" }),
    ),
  );
  if (content.classes.length)
    made.push(
      control("class", "Class", options([["", "all"], ...content.classes.map((name, k) => [String(k), name])])),
    );
  if (train.values.memorization)
    made.push(control("above", "Memorized above", element("input", { type: "number", step: "any" })));
  if (train.values.right || test.values.right)
    made.push(control("wrong", "wrong more often than right", element("input", { type: "checkbox" })));
  if (train.values.suspect || test.values.suspect)
    made.push(control("suspects", "label may be wrong", element("input", { type: "checkbox" })));
  made.push(control("sort", "Order", options([])));
  if (Object.keys(heights).length > 1)
    made.push(
      control(
        "y",
        "Height of a point",
        options(Object.entries(heights).map(([name, { title }]) => [name, title.toLowerCase()])),
      ),
    );
  const clear = element(
    "button",
    {
      type: "button",
      onclick: () => {
        view = { ...empty, split: view.split, id: view.id };
        refresh();
      },
    },
    "Clear filters",
  );
  const copy = element("button", { type: "button", onclick: copyLink }, "Copy link");
  controls.replaceChildren(...made, clear, copy);
  controls.addEventListener("input", takeControls);
  controls.addEventListener("submit", (event) => event.preventDefault());
}

function takeControls(event) {
  const { name, type, value, checked } = event.target;
  view[name] = type === "checkbox" ? (checked ? "1" : "") : value;
  if (name === "split") Object.assign(view, { id: "", sort: "", brush: "" });
  if (name === "y") view.brush = "";
  refresh(name === "q" || name === "above" ? name : null);
}

// Shows in the controls what the view says; a field that is typed into stays as it is.
function setControls(typed) {
  const named = orders(view.split);
  controls.elements.sort.replaceChildren(
    ...Object.entries(named).map(([name, [title]]) => element("option", { value: name }, title)),
  );
  for (const field of controls.elements) {
    if (!field.name || field.name === typed) continue;
    if (field.type === "checkbox") field.checked = view[field.name] !== "";
    else
      field.value =
        field.name === "sort"
          ? view.sort || defaultOrder()
          : field.name === "y"
            ? view.y || "memorization"
            : view[field.name];
  }
  if (controls.elements.above) controls.elements.above.disabled = view.split === "test";
}

async function copyLink(event) {
  const button = event.currentTarget;
  writeAddress();
  try {
    await navigator.clipboard.writeText(location.href);
    button.textContent = "Copied";
  } catch {
    // Without permission the link is in the address bar all the same.
    button.textContent = "The link is in the address bar";
  }
  setTimeout(() => (button.textContent = "Copy link"), 2000);
}

function listItem(index) {
  const [, , says] = orders(view.split)[view.sort || defaultOrder()];
  const current = String(index) === view.id;
  const text = content.sprites ? null : textOf(view.split, index).slice(0, 90);
  const button = element(
    "button",
    {
      type: "button",
      tabindex: -1,
      "data-index": index,
      class: view.split === "train" && height() && !height().told(index) ? "noise" : false,
      "aria-current": current ? "true" : false,
      onclick: () => choose(view.split, index),
    },
    picture(view.split, index, 56, true),
    element("span", {}, nameOf(view.split, index)),
    element("span", {}, says(index)),
    text ? element("span", { class: "text" }, text) : null,
  );
  return element("li", {}, button);
}

function showList() {
  list.found = filtered();
  list.shown = PAGE;
  const place = view.id === "" ? -1 : list.found.indexOf(Number(view.id));
  while (list.shown <= place && list.shown < 10 * PAGE) list.shown += PAGE;
  list.element.classList.toggle("rows", content.texts.length > 0);
  fillList();
  const words = view.split === "train" ? "training" : "test";
  const brush = view.brush && view.split === "train" ? ", in the rectangle" : "";
  document.getElementById("status").textContent =
    `${count(list.found.length)} of ${count(sets[view.split].count)} ${words} examples${brush}, by ${orders(view.split)[view.sort || defaultOrder()][0]}`;
}

function fillList() {
  list.element.replaceChildren(...list.found.slice(0, list.shown).map(listItem));
  document.getElementById("more").hidden = list.found.length <= list.shown;
  const current = list.element.querySelector("[aria-current]") || list.element.querySelector("button");
  if (current) current.tabIndex = 0;
}

// Marks the chosen example in the list, and makes that the place where the tab key enters it.
function markChosen() {
  for (const button of list.element.querySelectorAll("button")) {
    const current = button.dataset.index === view.id;
    if (current) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
    button.tabIndex = current ? 0 : -1;
  }
  if (!list.element.querySelector("[aria-current]")) {
    const first = list.element.querySelector("button");
    if (first) first.tabIndex = 0;
  }
}

function choose(split, index) {
  const moved = split !== view.split;
  if (moved) view = { ...empty, split };
  view.id = String(index);
  writeAddress(true);
  showDetail();
  // The example is on the screen before the list and the plot of the other set are made: they take 100 ms of 12,000 images.
  if (moved)
    painted().then(() => {
      refresh();
      scrollToDetail();
    });
  else {
    markChosen();
    placeChosen()?.runAsync();
    scrollToDetail();
  }
}

// On a narrow screen the example is below the list.
function scrollToDetail() {
  const detail = document.getElementById("detail");
  if (detail.getBoundingClientRect().top > innerHeight * 0.8) detail.scrollIntoView();
}

function step(by) {
  if (!list.found.length) return;
  const place = list.found.indexOf(Number(view.id === "" ? -1 : view.id));
  const next = place < 0 ? 0 : Math.max(0, Math.min(list.found.length - 1, place + by));
  while (list.shown <= next) {
    list.shown += PAGE;
    fillList();
  }
  choose(view.split, list.found[next]);
  const button = list.element.querySelector("[aria-current]");
  if (button && list.element.contains(document.activeElement)) button.focus();
}

function takeKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "Escape" && event.target.name === "q") {
    view.q = "";
    refresh();
  } else if (typing) return;
  else if (event.key === "/") {
    event.preventDefault();
    controls.elements.q.focus();
  } else if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
    if (event.target.closest(".wide")) return;
    event.preventDefault();
    step(event.key === "ArrowRight" ? 1 : -1);
  }
}

function describePlot() {
  document.getElementById("plot-title").textContent =
    `${height().title} of ${count(sets.train.count)} training examples: ${height().words}`;
  const legend = [
    ["told", `told from chance (q at most ${content.fdr})`],
    ["noise", "not told from chance"],
  ];
  if (sets.train.values.suspect) legend.push(["suspect", "label may be wrong"]);
  if (content.bands[view.y || "memorization"]) legend.push(["band", "about 95% of what chance alone makes"]);
  document
    .getElementById("legend")
    .replaceChildren(...legend.map(([name, text]) => element("span", { class: name }, text)));
}

let waiting = 0;
async function refresh(typed = null) {
  setControls(typed);
  writeAddress();
  showList();
  showDetail();
  const turn = ++waiting;
  const pane = document.getElementById("plot-pane");
  pane.hidden = !height() || view.split !== "train";
  if (!plot.view || pane.hidden) return;
  describePlot();
  // What was asked for is on the screen before the plot is drawn again, which takes 50 ms of 10,000 points.
  await painted();
  if (turn !== waiting) return;
  // What was drawn while it was hidden has no width, or one that the window no longer has.
  dispatchEvent(new Event("resize"));
  setScales();
  placePoints(view.brush ? filtered(false) : list.found);
  await placeChosen().runAsync();
  if (turn === waiting) await restoreBrush();
}

async function start() {
  makeControls();
  readAddress();
  document.getElementById("x-title").textContent = `${content.score.words}, of the models trained without the example`;
  document.getElementById("more").addEventListener("click", () => {
    list.shown += PAGE;
    fillList();
  });
  addEventListener("keydown", takeKey);
  addEventListener("hashchange", () => {
    readAddress();
    refresh();
  });
  setControls();
  showList();
  showDetail();
  // The page is painted before the plot is made.
  await painted();
  await makePlot();
  await refresh();
  // Milliseconds from the opening of the page until everything answers.
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
  // Decoded now, the partners need not be when an example is first chosen.
  (window.requestIdleCallback ?? setTimeout)(() => partnersOf("train"));
}

start();
