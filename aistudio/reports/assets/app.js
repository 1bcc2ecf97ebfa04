/* What every page needs: data files that call back, elements without innerHTML, the theme switch, sortable tables.
   Text from a manifest reaches the page through textContent and setAttribute only. */
"use strict";
(function () {
  const waiting = new Map(); // name -> {promise, resolve}
  const entry = (name) => {
    if (!waiting.has(name)) {
      let settle;
      const promise = new Promise((resolve, reject) => { settle = { resolve, reject }; });
      promise.catch(() => {}); // every caller handles it; this keeps an unread one quiet
      waiting.set(name, { promise, ...settle, asked: false });
    }
    return waiting.get(name);
  };

  /* Data files are scripts (a page opened from disk may not fetch) that end up here. */
  const receive = (name, value) => { const e = entry(name); e.asked = true; e.resolve(value); };
  const when = (name) => entry(name).promise;
  const load = (name) => {
    const e = entry(name);
    if (!e.asked) {
      e.asked = true;
      const script = document.createElement("script");
      script.src = "data/" + name + ".js";
      script.onerror = () => { waiting.delete(name); e.reject(new Error(script.src + " is missing")); };
      script.onload = () => script.remove();
      document.head.append(script);
    }
    return e.promise;
  };
  const forget = (name) => waiting.delete(name);

  /* h("a", {class: "x", href: "…"}, "text", child): an element. A null child or attribute is left out. */
  const h = (tag, attributes, ...children) => {
    const e = document.createElement(tag);
    for (const [k, v] of Object.entries(attributes || {})) {
      if (v === null || v === undefined || v === false) continue;
      if (k.startsWith("on")) e.addEventListener(k.slice(2), v); else e.setAttribute(k, v === true ? "" : v);
    }
    e.append(...children.filter((c) => c !== null && c !== undefined));
    return e;
  };
  const clip = (text, limit) => (text.length <= limit ? text : text.slice(0, limit - 1) + "…");
  const isDark = () => {
    const theme = document.documentElement.dataset.theme;
    return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const onTheme = [];
  const themed = (f) => { onTheme.push(f); };
  const tell = () => onTheme.forEach((f) => f());

  document.querySelectorAll("[data-theme-toggle]").forEach((b) => b.addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    try { localStorage.setItem("aistudio-theme", theme); } catch (e) { /* not remembered, still switched */ }
    tell();
  }));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", tell);

  const cellValue = (row, i) => {
    const cell = row.cells[i];
    const raw = cell.dataset.value;
    return raw === undefined ? cell.textContent.trim() : raw === "" ? null : Number(raw);
  };
  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null); // what is absent comes last either way
    return typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
  };
  const sortable = (table) => {
    [...table.tHead.rows[0].cells].forEach((th, i) => {
      if (!th.textContent.trim()) return;
      const button = h("button", { type: "button" });
      button.append(...th.childNodes);
      th.append(button);
      button.addEventListener("click", () => {
        const numeric = th.classList.contains("n");
        const before = th.getAttribute("aria-sort");
        const down = before ? before === "ascending" : numeric; // numbers start with the largest
        table.querySelectorAll("th").forEach((o) => o.removeAttribute("aria-sort"));
        th.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows].map((row) => [cellValue(row, i), row]);
        rows.sort(([a], [b]) => (a === null || b === null ? compare(a, b) : down ? compare(b, a) : compare(a, b)));
        table.tBodies[0].append(...rows.map(([, row]) => row));
      });
    });
  };
  document.querySelectorAll("table[data-sortable]").forEach(sortable);
  const here = document.querySelector('.top nav a[aria-current]');
  if (here) here.parentElement.parentElement.parentElement.scrollLeft = Math.max(0, here.offsetLeft - 60);

  window.AIStudio = { receive, when, load, forget, h, clip, isDark, themed };
})();
