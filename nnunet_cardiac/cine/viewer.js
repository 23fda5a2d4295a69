"use strict";
// Plays the cine and draws contours and curves. All data are in the page, in #cine-data; see viewer_data in report.py.
(() => {
  const data = JSON.parse(document.getElementById("cine-data").textContent);
  const byId = (id) => document.getElementById(id);
  const viewer = byId("viewer");
  const stage = byId("stage");
  const STEPS = 8; // of a contour's coordinates in a pixel
  const aspect = (data.width * data.dx) / (data.height * data.dy);
  const state = { slice: data.slice, phase: data.ed, playing: false, pair: false, contours: true, speed: 1 };
  const sheets = [...byId("sheets").children]; // an image for each slice, with all its phases

  for (const polygon of data.contours.flat(3)) {
    for (let k = 2; k < polygon.length; k++) polygon[k] += polygon[k - 2]; // they come as steps from point to point
  }

  // ---- images and contours

  const phaseName = (phase) =>
    `phase ${phase + 1}` + (data.times && data.times[phase] !== null ? `, ${Math.round(data.times[phase])} ms` : "");

  /** Makes the canvas as sharp as the screen (or sharper, for print); returns its context in CSS pixels. */
  function sized(canvas, width, height, sharpness = window.devicePixelRatio || 1) {
    const [w, h] = [Math.round(width * sharpness), Math.round(height * sharpness)];
    if (canvas.width !== w || canvas.height !== h) {
      canvas.width = w;
      canvas.height = h;
    }
    const context = canvas.getContext("2d");
    context.setTransform(w / width, 0, 0, h / height, 0, 0);
    context.imageSmoothingQuality = "high";
    return context;
  }

  /** A slice at a phase in the rectangle (x, y, w, h). */
  function drawImage(context, slice, phase, x, y, w, h, line) {
    const [column, row] = [phase % data.across, Math.floor(phase / data.across)];
    const { width, height } = data;
    context.drawImage(sheets[slice], column * width, row * height, width, height, x, y, w, h);
    if (!state.contours) return;
    context.save();
    context.beginPath();
    context.rect(x, y, w, h);
    context.clip();
    context.lineJoin = "round";
    context.lineCap = "round";
    const [sx, sy] = [w / width / STEPS, h / height / STEPS];
    data.contours[slice][phase].forEach((polygons, i) => {
      const { colour, dash } = data.structures[i];
      context.beginPath();
      for (const points of polygons) {
        // rounded: from the middle of an edge to that of the next
        const n = points.length / 2;
        const at = (k) => [x + points[2 * (k % n)] * sx, y + points[2 * (k % n) + 1] * sy];
        const middle = (k) => at(k).map((value, axis) => (value + at(k + 1)[axis]) / 2);
        context.moveTo(...middle(n - 1));
        for (let k = 0; k < n; k++) context.quadraticCurveTo(...at(k), ...middle(k));
        context.closePath();
      }
      for (const [style, width, dashes] of [["#0009", line + 1, []], [colour, line, dash]]) {
        context.setLineDash(dashes.map((length) => length * line));
        context.lineWidth = width;
        context.strokeStyle = style;
        context.stroke();
      }
    });
    context.restore();
  }

  function caption(context, text, x, y) {
    context.font = "600 13px system-ui, sans-serif";
    context.lineWidth = 3;
    context.strokeStyle = "#000";
    context.fillStyle = "#fff";
    context.strokeText(text, x + 10, y + 22);
    context.fillText(text, x + 10, y + 22);
  }

  function drawStage() {
    const box = stage.parentElement.clientWidth;
    const most = Math.max(260, window.innerHeight * 0.68);
    const panels = state.pair ? 2 : 1;
    const width = Math.min(box, most * aspect * panels);
    const height = width / (aspect * panels);
    stage.style.width = `${width}px`;
    stage.style.height = `${height}px`;
    const context = sized(stage, width, height);
    context.fillRect(0, 0, width, height);
    const w = state.pair ? (width - 4) / 2 : width;
    const line = w > 360 ? 2 : 1.5;
    if (state.pair) {
      [["End-diastole", data.ed], ["End-systole", data.es]].forEach(([title, phase], i) => {
        drawImage(context, state.slice, phase, i * (w + 4), 0, w, height, line);
        caption(context, `${w > 260 ? `${title}, ` : ["ED, ", "ES, "][i]}${phaseName(phase)}`, i * (w + 4), 0);
      });
    } else {
      drawImage(context, state.slice, state.phase, 0, 0, w, height, line);
    }
  }

  const tiles = Array.from({ length: data.slices }, (_, slice) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-label", `Show slice ${slice + 1}`);
    const canvas = document.createElement("canvas");
    const label = document.createElement("span");
    label.textContent = slice + 1;
    button.append(canvas, label);
    button.addEventListener("click", () => show({ slice }));
    byId("mosaic").append(button);
    return { button, canvas };
  });

  function drawMosaic() {
    const width = tiles[0].button.clientWidth;
    if (!width) return; // not on the screen, as in print
    tiles.forEach(({ button, canvas }, slice) => {
      canvas.style.height = `${width / aspect}px`;
      drawImage(sized(canvas, width, width / aspect), slice, state.phase, 0, 0, width, width / aspect, 1);
      button.setAttribute("aria-pressed", slice === state.slice);
    });
  }

  /** All slices at ED and ES, for paper. */
  function drawPrint() {
    for (const [id, phase] of [["print-ed", data.ed], ["print-es", data.es]]) {
      for (let slice = 0; slice < data.slices; slice++) {
        const canvas = document.createElement("canvas");
        const width = 150;
        const context = sized(canvas, width, width / aspect, 3);
        drawImage(context, slice, phase, 0, 0, width, width / aspect, 1.3);
        caption(context, slice + 1, -4, -5);
        byId(id).append(canvas);
      }
    }
  }

  /** Shrinks each of the two sheets of paper until it fits; the page is laid out as for print while it is measured. */
  function fitSheets() {
    const body = document.body;
    const [first, second] = document.querySelectorAll(".sheet");
    const print = [...document.styleSheets[0].cssRules].find((rule) => rule.media && rule.media.mediaText === "print");
    const millimetre = 96 / 25.4;
    const room = (297 - 2 * 12 - 3) * millimetre; // of A4 between its margins, with a little to spare
    print.media.mediaText = "all";
    body.style.width = `${(210 - 2 * 12) * millimetre}px`;
    const top = (element) => element.getBoundingClientRect().top;
    const heights = [() => top(second) - top(body), () => body.getBoundingClientRect().bottom - top(second)];
    [first, second].forEach((sheet, i) => {
      for (let fit = 0.98; heights[i]() > room && fit > 0.3; fit -= 0.02) sheet.style.setProperty("--fit", fit);
    });
    body.style.width = "";
    print.media.mediaText = "print";
  }

  // ---- curves

  const SVG = "http://www.w3.org/2000/svg";
  const chart = byId("chart");
  let place = null; // of the chart's axes, and its moving parts

  function add(parent, name, attributes, text) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  }

  /** A round step that divides ``span`` into at most ``most`` parts. */
  function step(span, most) {
    const power = 10 ** Math.floor(Math.log10(span / most));
    return [1, 2, 5, 10].map((s) => s * power).find((s) => span / s <= most);
  }

  const xOf = (phase) => (data.times && data.times[phase] !== null ? data.times[phase] : phase + 1);

  function drawChart() {
    const width = chart.clientWidth;
    if (!width || !data.curves.length) return;
    const height = Math.round(Math.min(280, Math.max(220, width * 0.5)));
    const edge = { left: 44, right: 14, top: 24, bottom: 40 };
    chart.replaceChildren();
    const svg = add(chart, "svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    const volumes = data.curves.flatMap((curve) => [...curve.mL, ...curve.smooth_mL]).filter((v) => v !== null);
    const top = Math.max(...volumes, 1) * 1.06;
    const [first, last] = [xOf(0), xOf(data.phases - 1)];
    const x = (value) => edge.left + ((value - first) / (last - first || 1)) * (width - edge.left - edge.right);
    const y = (value) => height - edge.bottom - (value / top) * (height - edge.top - edge.bottom);

    const stepY = step(top, 5);
    for (let v = 0; v <= top; v += stepY) {
      add(svg, "line", { x1: edge.left, x2: width - edge.right, y1: y(v), y2: y(v), class: "grid" });
      add(svg, "text", { x: edge.left - 7, y: y(v) + 4, "text-anchor": "end" }, v);
    }
    add(svg, "text", { x: 2, y: 12 }, "mL");
    const stepX = Math.max(step(last - first || 1, width > 420 ? 8 : 5), data.times ? 0 : 1);
    for (let v = Math.ceil(first / stepX) * stepX; v <= last; v += stepX) {
      add(svg, "text", { x: x(v), y: height - edge.bottom + 18, "text-anchor": "middle" }, v);
    }
    const axis = data.times ? "time from the R wave, ms" : "phase";
    add(svg, "text", { x: (edge.left + width - edge.right) / 2, y: height - 4, "text-anchor": "middle" }, axis);

    for (const [name, phase] of [["ED", data.ed], ["ES", data.es]]) {
      const at = x(xOf(phase));
      add(svg, "line", { x1: at, x2: at, y1: edge.top - 6, y2: height - edge.bottom, class: "event" });
      add(svg, "text", { x: at, y: edge.top - 10, "text-anchor": "middle", class: "strong" }, name);
    }
    for (const [phase, why] of data.flagged) {
      const mark = add(svg, "g", { class: "flagged" });
      const [at, foot] = [x(xOf(phase)), height - edge.bottom];
      add(mark, "path", { d: `M${at} ${foot - 12}l6 11h-12z` });
      add(mark, "text", { x: at, y: foot - 2.5, "text-anchor": "middle" }, "!");
      add(mark, "title", {}, `Phase ${phase + 1}: ${why}`);
    }
    const path = (values) => {
      let d = "";
      let pen = "M";
      values.forEach((value, phase) => {
        if (value !== null) d += `${pen}${x(xOf(phase)).toFixed(1)} ${y(value).toFixed(1)}`;
        pen = value === null ? "M" : "L";
      });
      return d;
    };
    for (const { style, mL, smooth_mL } of data.curves) {
      const line = { stroke: style.colour, "stroke-dasharray": style.dash.map((l) => l * 2).join(" ") || "none" };
      add(svg, "path", { d: path(smooth_mL), class: "curve", ...line });
      mL.forEach((value, phase) => {
        if (value !== null) add(svg, "circle", { cx: x(xOf(phase)), cy: y(value), r: 2.2, fill: style.colour });
      });
    }
    const cursor = add(svg, "line", { y1: edge.top, y2: height - edge.bottom, class: "cursor" });
    const dots = data.curves.map(({ style }) => add(svg, "circle", { r: 5, fill: style.colour, class: "dot" }));
    place = { x, y, cursor, dots };
  }

  function moveCursor() {
    if (!place) return;
    const at = place.x(xOf(state.phase));
    place.cursor.setAttribute("x1", at);
    place.cursor.setAttribute("x2", at);
    const parts = data.curves.map(({ style, mL, smooth_mL }, i) => {
      const known = smooth_mL[state.phase] !== null;
      place.dots[i].style.display = known ? "" : "none";
      place.dots[i].setAttribute("cx", at);
      if (known) place.dots[i].setAttribute("cy", place.y(smooth_mL[state.phase]));
      return `${style.title} ${mL[state.phase] === null ? "–" : Math.round(mL[state.phase])} mL`;
    });
    const name = phaseName(state.phase);
    byId("readout").textContent = `${name[0].toUpperCase()}${name.slice(1)}: ${parts.join(", ")}`;
  }

  function jump(event) {
    const at = event.clientX - chart.getBoundingClientRect().left;
    const distance = (phase) => Math.abs(place.x(xOf(phase)) - at);
    const phases = Array.from({ length: data.phases }, (_, phase) => phase);
    const nearest = phases.reduce((a, b) => (distance(b) < distance(a) ? b : a));
    show({ phase: nearest, playing: false, pair: false });
  }
  chart.addEventListener("pointerdown", (event) => {
    if (!place || event.button) return;
    chart.setPointerCapture(event.pointerId);
    jump(event);
  });
  chart.addEventListener("pointermove", (event) => {
    if (place && chart.hasPointerCapture(event.pointerId)) jump(event);
  });

  // ---- state

  const wrap = (phase) => (phase + data.phases) % data.phases;
  const clamp = (slice) => Math.min(Math.max(slice, 0), data.slices - 1);

  function show(changes) {
    Object.assign(state, changes);
    viewer.dataset.slice = state.slice;
    viewer.dataset.phase = state.phase;
    viewer.dataset.view = state.pair ? "pair" : "cine";
    byId("slice").value = state.slice + 1;
    byId("phase").value = state.phase + 1;
    byId("slice-text").textContent = `${state.slice + 1} of ${data.slices}`;
    byId("phase-text").textContent = `${state.phase + 1} of ${data.phases}`;
    byId("play").textContent = state.playing ? "Pause" : "Play";
    byId("play").setAttribute("aria-label", state.playing ? "Pause the cine" : "Play the cine");
    byId("contours").setAttribute("aria-pressed", state.contours);
    byId("view-cine").setAttribute("aria-pressed", !state.pair);
    byId("view-pair").setAttribute("aria-pressed", state.pair);
    drawStage();
    drawMosaic();
    moveCursor();
  }

  const go = (by) => show({ phase: wrap(state.phase + by), playing: false, pair: false });
  const turn = (by) => show({ slice: clamp(state.slice + by) });
  const toggle = () => play(!state.playing);

  let due = 0; // when the next phase is to be shown, ms
  let timer = 0;
  function play(on) {
    if (data.phases < 2) return;
    clearTimeout(timer);
    show({ playing: on, pair: on ? false : state.pair });
    due = performance.now();
    if (on) wait();
  }

  function wait() {
    const now = performance.now();
    due = Math.max(due + data.cycle / data.phases / state.speed, now); // what was missed is not caught up with
    timer = setTimeout(() => {
      if (!state.playing) return;
      show({ phase: wrap(state.phase + 1) });
      wait();
    }, due - now);
  }

  byId("play").addEventListener("click", toggle);
  byId("contours").addEventListener("click", () => show({ contours: !state.contours }));
  byId("view-cine").addEventListener("click", () => show({ pair: false }));
  byId("view-pair").addEventListener("click", () => show({ pair: true, playing: false }));
  byId("slice").addEventListener("input", (event) => show({ slice: event.target.value - 1 }));
  byId("phase").addEventListener("input", (event) => {
    show({ phase: event.target.value - 1, playing: false, pair: false });
  });
  byId("speed").addEventListener("change", (event) => {
    state.speed = Number(event.target.value);
  });

  const KEYS = {
    ArrowLeft: () => go(-1), ArrowRight: () => go(1), ArrowUp: () => turn(1), ArrowDown: () => turn(-1),
    " ": toggle, c: () => show({ contours: !state.contours }),
  };
  viewer.addEventListener("keydown", (event) => {
    // what the browser does itself
    const own = { INPUT: /^Arrow/, SELECT: /^Arrow| /, BUTTON: / / }[event.target.tagName];
    if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key] || (own && own.test(event.key))) return;
    event.preventDefault();
    KEYS[event.key]();
  });

  // a drag over the image: sideways through the phases, with the mouse up and down through the slices
  let drag = null;
  stage.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    stage.setPointerCapture(event.pointerId);
    drag = { x: event.clientX, y: event.clientY, slice: state.slice, phase: state.phase, along: null };
  });
  stage.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    if (!drag.along && Math.hypot(dx, dy) > 8) drag.along = Math.abs(dx) >= Math.abs(dy) ? "x" : "y";
    const each = Math.max(8, stage.clientWidth / 2 / data.phases);
    if (drag.along === "x") {
      const phase = drag.phase + Math.round(dx / each);
      show({ phase: ((phase % data.phases) + data.phases) % data.phases, playing: false, pair: false });
    }
    if (drag.along === "y" && event.pointerType === "mouse") show({ slice: clamp(drag.slice - Math.round(dy / 24)) });
  });
  stage.addEventListener("pointerup", () => {
    if (drag && !drag.along) toggle();
    drag = null;
  });
  stage.addEventListener("pointercancel", () => (drag = null));

  // the page is loaded when its images are, so whatever prints or pictures a loaded page finds all of it drawn
  window.addEventListener("load", () => {
    if (sheets.some((image) => !image.naturalWidth)) {
      byId("viewer-problem").hidden = false;
      return;
    }
    drawChart();
    drawPrint();
    fitSheets();
    show({});
    new ResizeObserver(() => {
      drawChart();
      show({});
    }).observe(viewer);
    if (!window.matchMedia("(prefers-reduced-motion: reduce)").matches) play(true);
  });
})();
