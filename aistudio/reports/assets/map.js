/* The embedding map: a scatter with the picture of the point under the pointer; pictures come in packs of neighbours. */
"use strict";
(function () {
  const { h, when, load, forget, themed, isDark } = AIStudio;
  const place = document.querySelector("[data-map]"), tools = document.querySelector("[data-map-tools]"), found = document.querySelector("[data-found]");
  const MAX_PACKS = 30, MAX_FOUND = 40;
  const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const LIGHT = ["#2452d6", "#d9480f", "#0f8a60", "#8b3fc4", "#b58900", "#0b7f93", "#c2255c", "#5c7a12", "#6b5bd2", "#7a5230"];
  const DARK = ["#86a8ff", "#ff9466", "#4cc997", "#d08cf0", "#e8c24d", "#6fd3e0", "#ff86b0", "#abc95c", "#aaa0ff", "#cfa37c"];
  const STEPS_LIGHT = ["#c7d3f7", "#9fb3ef", "#7690e6", "#4d6cdb", "#2b49bf", "#16297f"], STEPS_DARK = ["#25345f", "#37508f", "#4f70c0", "#6f92e3", "#9ab5fb", "#d3e0ff"];
  let data = null, chart = null, recent = [];

  const packOf = (i) => `map-${String(Math.floor(i / data.packImages)).padStart(4, "0")}`;
  const point = async (i) => {
    const name = packOf(i);
    recent = [name, ...recent.filter((n) => n !== name)];
    recent.splice(MAX_PACKS).forEach(forget);
    const entry = (await load(name))[i % data.packImages];
    const thumbnail = entry.thumbnail.join("");
    return { ...entry, src: thumbnail ? "data:image/jpeg;base64," + thumbnail : null };
  };
  const tip = (p) => {
    const i = p.data[2];
    const picture = h("div", { class: "empty-pic" });
    point(i).then((e) => { if (e.src) picture.replaceWith(h("img", { src: e.src, alt: "" })); }).catch(() => {});
    return h("div", { class: "tip" }, picture, h("div", {}, h("bdi", {}, data.names[i]), h("div", { class: "muted" }, p.seriesName === "images" ? "" : p.seriesName)));
  };
  const classes = () => {
    const c = data.colours[Number(tools.elements.colour.value)];
    const all = data.x.map((x, i) => [x, data.y[i], i]);
    if (!c) return [{ name: "images", points: all, colour: (isDark() ? DARK : LIGHT)[0] }];
    const steps = isDark() ? STEPS_DARK : STEPS_LIGHT, tones = isDark() ? DARK : LIGHT;
    const levels = c.levels.map((name, i) => ({ name: name === "" ? "(empty)" : name, points: [], colour: c.kind === "number" ? steps[Math.round(i * (steps.length - 1) / Math.max(1, c.levels.length - 1))] : i < tones.length && name !== "other" ? tones[i] : token("--line-strong") }));
    const none = { name: "(none)", points: [], colour: token("--line-strong") };
    all.forEach((p) => (c.codes[p[2]] < 0 ? none : levels[c.codes[p[2]]]).points.push(p));
    const rest = (l) => l.name === "other" || l === none; // drawn first, so that it covers nothing
    return [none, ...levels].filter((l) => l.points.length).sort((a, b) => rest(b) - rest(a));
  };
  const draw = () => {
    const muted = token("--muted"), line = token("--line");
    const axis = { type: "value", scale: true, axisLabel: { show: false }, axisLine: { show: false }, axisTick: { show: false }, splitLine: { lineStyle: { color: line } } };
    const size = data.x.length > 5000 ? 4 : data.x.length > 1000 ? 6 : 9;
    const share = (i) => (data.shares.length ? `${(100 * data.shares[i]).toFixed(1)} % of the variance` : ""); // t-SNE's axes mean nothing
    chart.setOption({
      animation: false, textStyle: { fontFamily: token("--sans") },
      grid: { left: 30, right: 16, top: 44, bottom: 34 },
      legend: { type: "scroll", top: 6, left: 8, right: 8, textStyle: { color: muted, fontSize: 12 }, pageTextStyle: { color: muted }, itemWidth: 10, itemHeight: 10, icon: "circle", formatter: (n) => AIStudio.clip(n, 24) },
      tooltip: { trigger: "item", confine: true, enterable: false, backgroundColor: token("--surface"), borderColor: line, padding: 8, formatter: tip },
      xAxis: { ...axis, name: share(0), nameLocation: "middle", nameGap: 10, nameTextStyle: { color: muted } },
      yAxis: { ...axis, name: share(1), nameLocation: "middle", nameGap: 10, nameTextStyle: { color: muted } },
      dataZoom: [{ type: "inside", xAxisIndex: 0, filterMode: "none" }, { type: "inside", yAxisIndex: 0, filterMode: "none" }],
      series: classes().map((c) => ({ name: c.name, type: "scatter", symbolSize: size, data: c.points, itemStyle: { color: c.colour, opacity: .8 }, emphasis: { scale: 1.8, itemStyle: { opacity: 1, borderColor: token("--ink"), borderWidth: 1 } } })),
    }, { replaceMerge: ["series"] });
  };
  const open = (i) => point(i).then((e) => AIStudio.lightbox([e], 0)).catch(() => {});
  const find = () => {
    const q = tools.elements.q.value.trim().toLocaleLowerCase();
    const hits = [];
    for (let i = 0; q && i < data.names.length && hits.length < MAX_FOUND; i++) if (data.names[i].toLocaleLowerCase().includes(q)) hits.push(i);
    found.hidden = !q;
    found.replaceChildren(...hits.map((i) => h("button", { type: "button", onclick: () => open(i) }, h("bdi", {}, data.names[i]))), ...(q && !hits.length ? [h("p", { class: "fine" }, "No image has that name.")] : []));
  };

  when("map").then((value) => {
    data = value;
    tools.elements.colour.append(...data.colours.map((c, i) => h("option", { value: i }, c.name.replaceAll("_", " "))), h("option", { value: -1 }, "nothing"));
    chart = echarts.init(place, null, { renderer: "canvas" });
    draw();
    chart.on("click", (p) => open(p.data[2]));
    themed(draw);
    tools.elements.colour.addEventListener("change", draw);
    tools.elements.q.addEventListener("input", find);
    tools.addEventListener("submit", (e) => e.preventDefault());
    document.querySelector("[data-map-reset]").addEventListener("click", () => chart.dispatchAction({ type: "dataZoom", batch: [{ dataZoomIndex: 0, start: 0, end: 100 }, { dataZoomIndex: 1, start: 0, end: 100 }] }));
    new ResizeObserver(() => chart.resize()).observe(place);
  });
})();
