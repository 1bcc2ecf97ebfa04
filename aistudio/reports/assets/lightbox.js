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

  /* Where a model's picture was cropped to. Boxes are in pixels of the picture as decoded, width and height those of the
     file as stored: the thumbnail's own shape tells whether it was turned. */
  const boxes = (tile, picture) => {
    const crops = Object.entries(tile.fields).filter(([k, v]) => k.startsWith("crop_") && v && v.method && v.method !== "whole");
    if (!tile.src || !crops.length) return picture;
    const svg = (tag, attributes) => {
      const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
      return node;
    };
    const overlay = svg("svg", { class: "crops", role: "img" });
    const frame = h("span", { class: "cropped" }, picture, overlay);
    const draw = () => {
      const { width, height } = tile.fields, wide = picture.naturalWidth >= picture.naturalHeight;
      overlay.setAttribute("viewBox", (width >= height) === wide ? `0 0 ${width} ${height}` : `0 0 ${height} ${width}`);
      overlay.replaceChildren(...crops.map(([name, c]) => {
        const box = svg("rect", { x: c.x0, y: c.y0, width: c.x1 - c.x0, height: c.y1 - c.y0 });
        const title = svg("title", {});
        title.textContent = name.replaceAll("_", " ") + ": " + c.method;
        box.append(title);
        return box;
      }));
    };
    if (picture.complete && picture.naturalWidth) draw(); else picture.addEventListener("load", draw);
    return frame;
  };

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
      h("div", { class: "stage" }, boxes(tile, picture)),
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
