/* The large view of one picture with its address and all its fields; arrow keys go to its neighbours. */
"use strict";
(function () {
  const { h } = AIStudio;
  let dialog = null, list = [], at = 0;

  const text = (value) => {
    if (typeof value === "number") return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
    return typeof value === "string" ? value : JSON.stringify(value);
  };
  const field = ([name, value]) => h("div", {}, h("dt", {}, name.replaceAll("_", " ")), h("dd", { dir: "auto" }, text(value)));

  const show = () => {
    const tile = list[at];
    const name = tile.fields.text || tile.fields.item_id || "";
    const picture = tile.src ? h("img", { src: tile.src, alt: tile.markText || "picture" }) : h("span", { class: "none" }, "no picture stored");
    const step = (by, label, sign) => h("button", {
      type: "button", class: "ghost", "aria-label": label, disabled: list.length < 2, onclick: () => move(by),
    }, sign);
    const link = tile.link
      ? h("a", { class: "open ext", href: tile.link, target: "_blank", rel: "noopener noreferrer nofollow" }, "Open the original image")
      : null;
    dialog.replaceChildren(h("div", { class: "inner" },
      h("div", { class: "stage" }, picture),
      h("div", { class: "side" },
        h("header", {},
          h("span", { class: "count" }, `${at + 1} of ${list.length}` + (tile.markText ? ` · ${tile.markText}` : "")),
          step(-1, "Previous picture", "←"), step(1, "Next picture", "→"),
          h("button", { type: "button", class: "ghost", "aria-label": "Close", onclick: () => dialog.close() }, "✕")),
        h("h2", { id: "box-title", dir: "auto" }, name), link,
        h("dl", { class: "fields" }, ...Object.entries(tile.fields).filter(([k]) => k !== "text").map(field)))));
  };
  const move = (by) => { at = (at + by + list.length) % list.length; show(); };

  /* tiles: [{src, link, markText, fields}], the one at `start` first. */
  AIStudio.lightbox = (tiles, start) => {
    if (!dialog) {
      dialog = h("dialog", { class: "box", "aria-labelledby": "box-title" });
      dialog.addEventListener("click", (e) => { if (e.target === dialog) dialog.close(); });
      dialog.addEventListener("keydown", (e) => {
        if (e.key === "ArrowLeft") move(-1);
        if (e.key === "ArrowRight") move(1);
      });
      document.body.append(dialog);
    }
    list = tiles;
    at = start;
    show();
    dialog.showModal();
  };
})();
