"use strict";
// Tables that sort, filter and turn pages, and the viewer of cases. All data are in the page; see report.py.
(() => {
  const dataOf = (id) => JSON.parse(document.getElementById(id).textContent);
  const [viewer, long] = [dataOf("viewer-data"), dataOf("long-tables")];
  const PAGE = 50; // rows of a long table
  const FEW = 6; // rows that need no filter

  function element(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  // ---- tables

  /** The number that a cell begins with ("< 0.001", "0.81 ± 0.07"); NaN where there is none, or a name. */
  const numberIn = (text) => Number((/^[<>]? ?([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?![\w.])/.exec(text) || [])[1] ?? NaN);
  const isEmpty = (text) => text === "" || text === "-";

  function cell(text, i) {
    const td = element("td");
    if (i || !(text in viewer.cases)) td.textContent = text;
    else td.append(opener(text, text));
    return td;
  }

  const opener = (name, text) => {
    const button = element("button", { type: "button", className: "open", textContent: text });
    button.dataset.case = name;
    return button;
  };

  function enhance(box) {
    const table = box.querySelector("table");
    if (!table.tHead) return;
    const body = table.tBodies[0];
    const pages = box.dataset.long in long;
    const rows = pages
      ? long[box.dataset.long].map((texts) => ({ texts }))
      : [...body.rows].map((tr) => ({ tr, texts: [...tr.cells].map((td) => td.textContent.trim()) }));
    const state = { column: -1, sign: 1, words: [], page: 0, shown: rows };

    const filter = element("input", { type: "search", placeholder: "Filter: all words must occur" });
    filter.setAttribute("aria-label", `Filter ${box.getAttribute("aria-label") || "the table"}`);
    const count = element("span");
    count.setAttribute("role", "status");
    const turn = (by, text) => {
      const button = element("button", { type: "button", textContent: text });
      button.addEventListener("click", () => draw((state.page += by)));
      return button;
    };
    const [back, on] = [turn(-1, "Previous"), turn(1, "Next")];
    const tools = element("div", { className: "tools" }, filter, count, ...(pages && rows.length > PAGE ? [back, on] : []));
    if (rows.length > FEW) box.before(tools);

    function draw() {
      const first = pages ? state.page * PAGE : 0;
      const part = pages ? state.shown.slice(first, first + PAGE) : state.shown;
      for (const row of part) row.tr ||= element("tr", {}, ...row.texts.map(cell));
      body.replaceChildren(...part.map((row) => row.tr));
      const range = pages && part.length ? `${first + 1} to ${first + part.length} of ` : "";
      count.textContent = `${range}${state.shown.length} rows`;
      back.disabled = !state.page;
      on.disabled = first + PAGE >= state.shown.length;
    }

    function select() {
      const { column, sign, words } = state;
      const fits = (row) => words.every((word) => row.texts.some((text) => text.toLowerCase().includes(word)));
      state.shown = rows.filter(fits);
      state.page = 0;
      if (column >= 0) {
        const numeric = rows.every(({ texts }) => isEmpty(texts[column]) || !Number.isNaN(numberIn(texts[column])));
        const key = (row) => (numeric ? numberIn(row.texts[column]) : row.texts[column]);
        const compare = numeric ? (a, b) => a - b : (a, b) => a.localeCompare(b, undefined, { numeric: true });
        const [known, empty] = [true, false].map((is) => state.shown.filter((row) => isEmpty(row.texts[column]) !== is));
        state.shown = [...known.sort((a, b) => sign * compare(key(a), key(b))), ...empty]; // empty ones are last, always
      }
      draw();
    }

    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = element("button", { type: "button", textContent: head.textContent });
      head.replaceChildren(button);
      head.scope = "col";
      button.addEventListener("click", () => {
        state.sign = state.column === column ? -state.sign : 1;
        state.column = column;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", state.sign > 0 ? "ascending" : "descending");
        select();
      });
    });
    filter.addEventListener("input", () => {
      state.words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      select();
    });
    draw();
  }

  document.querySelectorAll(".wide").forEach(enhance);

  // ---- the viewer: every column shows the same slice

  const SVG = "http://www.w3.org/2000/svg";
  const dialog = document.getElementById("viewer");
  const find = (selector) => dialog.querySelector(selector);
  const [slider, columns] = [find("input"), find(".columns")];
  const now = { case: null, slice: 0, panels: [] };

  function svg(name, attributes) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  function panel(who, slices, shown) {
    const height = shown.height * shown.aspect;
    const frame = svg("svg", { viewBox: `0 0 ${shown.width} ${height}`, role: "img", "aria-label": who });
    const image = svg("image", { width: shown.width, height, preserveAspectRatio: "none" });
    const group = svg("g", { transform: `scale(${1 / viewer.steps} ${shown.aspect / viewer.steps})` });
    const paths = viewer.colours.map((stroke) => svg("path", { stroke }));
    group.append(...paths);
    frame.append(image, group);
    const name = element("strong", { textContent: `${viewer.numbers[who] || ""} ${who}` });
    const words = slices ? shown.metrics[who] || "" : "no segmentation";
    columns.append(element("figure", {}, frame, element("figcaption", {}, name, element("br"), words)));
    return { image, paths, slices };
  }

  function open(name) {
    const shown = viewer.cases[name];
    Object.assign(now, { case: shown, slice: shown.slice });
    columns.replaceChildren();
    now.panels = Object.entries(shown.outlines).map(([who, slices]) => panel(who, slices, shown));
    find("h3").textContent = `${name}, ${shown.why}`;
    find("select").value = name;
    slider.max = shown.images.length;
    show(shown.slice);
    if (!dialog.open) dialog.showModal();
  }

  function show(slice) {
    now.slice = Math.min(Math.max(slice, 0), now.case.images.length - 1);
    for (const { image, paths, slices } of now.panels) {
      image.setAttribute("href", now.case.images[now.slice]);
      paths.forEach((path, i) => path.setAttribute("d", slices ? slices[now.slice][i] : ""));
    }
    slider.value = now.slice + 1;
    find("output").textContent = `${now.slice + 1} of ${now.case.images.length}`;
  }

  function hide() {
    const hidden = columns.classList.toggle("plain");
    find(".hide").setAttribute("aria-pressed", hidden);
  }

  find("select").append(...Object.keys(viewer.cases).map((name) => element("option", { textContent: name })));
  find("select").addEventListener("change", (event) => open(event.target.value));
  slider.addEventListener("input", () => show(slider.value - 1));
  find(".hide").addEventListener("click", hide);
  find(".close").addEventListener("click", () => dialog.close());
  columns.addEventListener("wheel", (event) => {
    if (event.ctrlKey) return; // zooms
    event.preventDefault();
    show(now.slice + Math.sign(event.deltaY));
  }, { passive: false });
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1 }[event.key];
    if (by && !/INPUT|SELECT/.test(event.target.tagName)) {
      event.preventDefault();
      show(now.slice + by);
    } else if (event.key === "o" && event.target.tagName !== "SELECT") hide();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".open[data-case]");
    if (button) open(button.dataset.case);
  });
  document.querySelectorAll(".open[hidden]").forEach((button) => (button.hidden = false));
})();
