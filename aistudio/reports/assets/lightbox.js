/* The large view of one picture with its address and all its fields; arrow keys go through its group. Below: more like
   this, the stored neighbours, each of which opens in its turn. */
"use strict";
(function () {
  const { h, load, forget, notes } = AIStudio;
  const MAX_FILES = 8; // data files of neighbours kept in memory
  let dialog = null, list = [], at = 0, before = [], numbers = null, recent = [];

  const text = (value) => {
    if (typeof value === "number") return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
    return typeof value === "string" ? value : JSON.stringify(value);
  };
  const field = ([name, value]) => h("div", {}, h("dt", {}, name.replaceAll("_", " ")), h("dd", { dir: "auto" }, text(value)));

  /* The neighbours of a picture, [] where none are stored. */
  const neighbours = async (id) => {
    const index = await load("similar");
    numbers = numbers || new Map(index.ids.map((v, i) => [v, i]));
    if (!numbers.has(id)) return [];
    const n = numbers.get(id), name = `similar-${String(Math.floor(n / index.perFile)).padStart(4, "0")}`;
    recent = [name, ...recent.filter((r) => r !== name)];
    recent.splice(MAX_FILES).forEach(forget);
    return (await load(name))[n % index.perFile];
  };
  const like = (tiles) => h("div", { class: "like" }, ...tiles.map((t, i) => h("button", {
    type: "button", "aria-label": `${t.markText}, ${t.fields.text || t.fields.item_id || ""}`, onclick: () => { before.push([list, at]); list = tiles; at = i; show(); },
  }, t.thumb ? h("img", { src: t.thumb, alt: "" }) : h("span", { class: "none" }, "no picture"), h("span", { class: "cap" }, t.caption))));
  const addSimilar = (tile, place) => {
    if (!("similar" in document.body.dataset) || tile.fields.row_id === undefined) return;
    neighbours(tile.fields.row_id).then((found) => {
      if (found.length) place.append(h("h3", {}, "More like this"), like(found.map((t) => ({ ...t, src: t.thumb }))));
    }).catch((error) => place.append(h("p", { class: "bad-text" }, error.message)));
  };

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
    const similar = h("div", { class: "similar" });
    const back = before.length ? h("button", { type: "button", class: "ghost back", onclick: () => { [list, at] = before.pop(); show(); } }, "← Back") : null;
    const note = tile.fields.row_id === undefined ? null : notes.field(notes.PICTURES, String(tile.fields.row_id), "this picture");
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
        h("header", {}, back,
          h("span", { class: "count" }, `${at + 1} of ${list.length}` + (tile.markText ? ` · ${tile.markText}` : "")),
          step(-1, "Previous picture", "←"), step(1, "Next picture", "→"),
          h("button", { type: "button", class: "ghost", "aria-label": "Close", onclick: () => dialog.close() }, "✕")),
        h("h2", { id: "box-title", dir: "auto" }, name), link, note, similar,
        h("dl", { class: "fields" }, ...Object.entries(tile.fields).filter(([k]) => k !== "text").map(field)))));
    addSimilar(tile, similar);
    if (dialog.open && !dialog.contains(document.activeElement)) dialog.focus({ preventScroll: true }); // keys go on working
  };
  const move = (by) => { at = (at + by + list.length) % list.length; show(); };

  /* tiles: [{src, link, markText, fields}], the one at `start` first. */
  AIStudio.lightbox = (tiles, start) => {
    if (!dialog) {
      dialog = h("dialog", { class: "box", tabindex: "-1", "aria-labelledby": "box-title" });
      dialog.addEventListener("click", (e) => { if (e.target === dialog) dialog.close(); });
      dialog.addEventListener("keydown", (e) => {
        if (e.target.matches("input")) return; // a note is being written
        if (e.key === "ArrowLeft") move(-1);
        if (e.key === "ArrowRight") move(1);
      });
      document.body.append(dialog);
    }
    list = tiles;
    at = start;
    before = [];
    show();
    dialog.showModal();
  };
})();
