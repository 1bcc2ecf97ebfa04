/* What the search page does with scripts: theme, keys, a picture by choosing, dropping or pasting. It works without. */
"use strict";
(function () {
  const root = document.documentElement;
  const all = (selector) => Array.from(document.querySelectorAll(selector));

  /* theme, remembered as in the report */
  const toggle = document.querySelector("[data-theme-toggle]");
  if (toggle) toggle.addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("aistudio-theme", root.dataset.theme); } catch (e) { /* storage may be off */ }
  });

  /* pictures that are not stored */
  all(".result img").forEach((img) => {
    const lost = () => img.classList.add("gone");
    if (img.complete && !img.naturalWidth && img.currentSrc) lost();
    img.addEventListener("error", lost);
  });

  const ask = document.getElementById("ask"), photo = document.getElementById("photo");
  if (!ask || !photo) return;
  /* a short address: parameters that say nothing are not sent */
  ask.addEventListener("submit", () => {
    const first = ask.querySelector("select[name=in]");
    for (const field of Array.from(ask.elements)) {
      const usual = (field.name === "per" && field.value === "item") || ((field.name === "wt" || field.name === "wp") && Number(field.value) === 1);
      const alone = field === first && first.selectedIndex === 0 && !all("#ask select[name=in]").some((s) => s !== first && s.value);
      if (field.name && (!field.value || usual || alone)) field.disabled = true;
    }
    setTimeout(() => { for (const field of Array.from(ask.elements)) field.disabled = false; }, 0);
  });
  const something = () => ["text", "row", "item", "photo", "url"].some((n) => Array.from(ask.elements).some((f) => f.name === n && f.value));
  all("[data-submit]").forEach((field) => field.addEventListener("change", () => { if (something()) ask.requestSubmit(); }));
  all(".weights input").forEach((field) => {
    field.addEventListener("input", () => { field.nextElementSibling.value = field.value; });
    field.addEventListener("change", () => ask.requestSubmit());
  });

  /* a photograph: chosen, dropped anywhere, or pasted */
  const file = document.getElementById("file");
  const send = (files) => {
    const picture = Array.from(files || []).find((f) => f.type.startsWith("image/"));
    if (!picture) return;
    const held = new DataTransfer();
    held.items.add(picture);
    file.files = held.files;
    photo.requestSubmit();
  };
  file.addEventListener("change", () => { if (file.files.length) photo.requestSubmit(); });
  document.addEventListener("dragover", (event) => { event.preventDefault(); photo.classList.add("over"); });
  document.addEventListener("dragleave", () => photo.classList.remove("over"));
  document.addEventListener("drop", (event) => { event.preventDefault(); photo.classList.remove("over"); send(event.dataTransfer.files); });
  document.addEventListener("paste", (event) => send(event.clipboardData && event.clipboardData.files));

  /* a picture that is no longer kept leaves no broken one behind */
  all(".askpic img").forEach((img) => {
    const gone = () => img.remove();
    img.addEventListener("error", gone);
    if (img.complete && !img.naturalWidth) gone();
  });

  /* panels close on Escape and on a click beside them; one is open at a time */
  const panels = all("details.pop");
  panels.forEach((one) => one.addEventListener("toggle", () => { if (one.open) panels.forEach((other) => { if (other !== one) other.open = false; }); }));
  document.addEventListener("click", (event) => panels.forEach((one) => { if (one.open && !one.contains(event.target)) one.open = false; }));

  /* keys */
  const results = all("[data-result]");
  const at = () => results.findIndex((one) => one.contains(document.activeElement));
  const go = (place) => { if (results[place]) { results[place].querySelector(".pic").focus(); results[place].scrollIntoView({ block: "nearest" }); } };
  const follow = (selector) => { const link = document.querySelector(selector); if (link) link.click(); };
  const keys = {
    "/": () => { const words = ask.querySelector(".words"); words.focus(); words.select(); },
    j: () => go(Math.min(at() + 1, results.length - 1)),
    k: () => go(Math.max(at() - 1, 0)),
    d: () => { if (at() >= 0) { const box = results[at()].querySelector("details"); if (box) box.open = !box.open; } },
    o: () => { if (at() >= 0) { const link = results[at()].querySelector(".open"); if (link) link.click(); } },
    n: () => follow("a[rel=next]"),
    p: () => follow("a[rel=prev]"),
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { panels.forEach((one) => { one.open = false; }); return; }
    if (event.ctrlKey || event.metaKey || event.altKey || /^(input|select|textarea)$/i.test(event.target.tagName)) return;
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });
})();
