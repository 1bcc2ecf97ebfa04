/* Tags and notes stay in this browser: one object per report folder and page, from a card's or picture's id to its text. */
"use strict";
(function () {
  const { h } = AIStudio;
  const PICTURES = "pictures", KINDS = ["gallery", "pairs", "selection", "searches", PICTURES];
  const key = (kind) => `aistudio-notes:${location.pathname.replace(/[^/]*$/, "")}:${kind}`;
  const cache = new Map();
  const of = (kind) => {
    if (!cache.has(kind)) {
      let found = {};
      try { found = { ...JSON.parse(localStorage.getItem(key(kind)) || "{}") }; } catch (e) { /* storage is off, or not ours */ }
      cache.set(kind, found);
    }
    return cache.get(kind);
  };
  const get = (kind, id) => (Object.hasOwn(of(kind), id) ? String(of(kind)[id]) : "");
  const set = (kind, id, text) => {
    if (text) of(kind)[id] = text; else delete of(kind)[id];
    try { localStorage.setItem(key(kind), JSON.stringify(of(kind))); } catch (e) { /* kept until the page is left */ }
  };
  const field = (kind, id, label) => h("input", {
    class: "note", type: "text", value: get(kind, id), maxlength: 1000, placeholder: "Tag or note, kept in this browser",
    "aria-label": "Tag or note on " + label, dir: "auto", oninput: (e) => set(kind, id, e.target.value.trim()),
  });

  /* Text that a spreadsheet would take for a formula gets an apostrophe, as in our other CSVs. */
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? "'" + text : text;
    return /[",\r\n]/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
  };
  const saveCsv = (name, header, rows) => {
    const text = "\ufeff" + [header, ...rows].map((r) => r.map(cell).join(",")).join("\r\n") + "\r\n";
    const link = h("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  const all = () => KINDS.flatMap((kind) => Object.entries(of(kind)).map(([id, text]) => [kind, id, String(text)]));
  document.querySelectorAll("[data-notes-csv]").forEach((b) => b.addEventListener("click", () => {
    cache.clear(); // another tab may have written
    saveCsv("notes.csv", ["page", "id", "note"], all());
  }));

  AIStudio.notes = { get, set, field, saveCsv, PICTURES };
})();
