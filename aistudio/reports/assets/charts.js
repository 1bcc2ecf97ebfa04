/* Draws the figures of a page with ECharts, in the colours of the style sheet; again when the theme changes. */
"use strict";
(function () {
  const { h, when, themed, isDark } = AIStudio;
  const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const palette = () => isDark() ? ["#86a8ff", "#4cc997", "#f0a25e", "#d58cf0", "#6fd3e0", "#ff8177"] : ["#2452d6", "#0f8a60", "#c96a12", "#8b3fc4", "#0b7f93", "#bf2f25"];
  const short = (v) => (typeof v !== "number" ? v : Math.abs(v) >= 1000 ? v.toLocaleString("en", { maximumFractionDigits: 0 }) : Number(v.toPrecision(4)).toString());

  const tooltip = (figure) => (points) => {
    const list = Array.isArray(points) ? points : [points];
    const box = h("div", {}, h("div", { class: "muted" }, `${figure.x_name}: ${short(list[0].value[0])}`));
    list.forEach((p) => box.append(h("div", {}, `${p.seriesName}: `, h("b", {}, short(p.value[1])))));
    return box;
  };
  const option = (figure) => {
    const muted = token("--muted"), line = token("--line"), colours = palette();
    const categories = figure.series.some((s) => s.points.some((p) => typeof p[0] === "string"));
    const axis = { axisLabel: { color: muted, fontSize: 12 }, nameTextStyle: { color: muted, fontSize: 12 }, axisLine: { lineStyle: { color: line } }, axisTick: { show: false } };
    const many = figure.series.length > 1;
    const named = categories && figure.series[0].points.length <= 14; // few enough to name each bar
    return {
      animation: false, color: colours, textStyle: { fontFamily: token("--sans") },
      grid: { left: 54, right: 18, top: many ? 34 : 14, bottom: named ? 84 : 46 },
      legend: many ? { top: 0, left: 6, itemWidth: 14, itemHeight: 8, icon: "roundRect", textStyle: { color: muted, fontSize: 12 } } : undefined,
      tooltip: { trigger: "axis", confine: true, backgroundColor: token("--surface"), borderColor: line, textStyle: { color: token("--ink"), fontSize: 13 }, formatter: tooltip(figure) },
      xAxis: { ...axis, type: categories ? "category" : "value", name: figure.x_name, nameLocation: "middle", nameGap: named ? 66 : 28, axisLabel: named ? { ...axis.axisLabel, interval: 0, rotate: 38, width: 76, overflow: "truncate" } : axis.axisLabel, splitLine: { show: false }, max: figure.x_max ?? undefined, min: categories ? undefined : figure.x_min ?? "dataMin" },
      yAxis: { ...axis, type: "value", max: figure.y_max ?? undefined, splitLine: { lineStyle: { color: line } }, axisLabel: { ...axis.axisLabel, formatter: short } },
      series: figure.series.map((s, i) => ({
        name: s.name, type: figure.kind, data: s.points, symbol: s.dashed || s.points.length > 24 ? "none" : "circle", symbolSize: 5,
        lineStyle: s.dashed ? { width: 1.5, type: "dashed" } : { width: 2 }, itemStyle: s.dashed ? { color: muted } : undefined,
        areaStyle: s.area ? { opacity: .12 } : undefined, z: figure.series.length - i,
      })),
    };
  };

  when("figures-" + document.body.dataset.page).then((figures) => figures.forEach((figure) => {
    const place = document.querySelector(`[data-figure="${figure.id}"]`);
    if (!place) return;
    const chart = echarts.init(place, null, { renderer: "svg" });
    const draw = () => chart.setOption(option(figure), true);
    draw();
    themed(draw);
    new ResizeObserver(() => chart.resize()).observe(place);
  }));
})();
