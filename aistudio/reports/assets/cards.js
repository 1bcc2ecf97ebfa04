/* Gallery, pairs, selection: search, filter, sort and page through the index; cards are filled when they come near. */
"use strict";
(function () {
  const { h, clip, when, load, forget, notes } = AIStudio;
  const root = document.querySelector("[data-deck]");
  const place = root.querySelector("[data-cards]"), tools = root.querySelector("[data-tools]");
  const status = root.querySelector("[data-status]"), pager = root.querySelector("[data-pager]");
  const MAX_CHUNKS = 8; // chunk files kept in memory
  const NAME = 0, ID = 1, FACET = 2, LOW = 3, HIGH = 4, SORT = 5; // columns of an index row
  let index = null, shown = [], page = 0, recent = [];

  const noteOf = (card) => notes.get(index.kind, index.cards[card][ID]);
  const saveView = () => { // what is shown, in its order
    const rows = shown.map((i) => [NAME, ID, FACET, LOW, HIGH].map((c) => index.cards[i][c]).concat(noteOf(i)));
    notes.saveCsv(`${index.kind}.csv`, ["name", "id", "kind", "lowest_score", "highest_score", "note"], rows);
  };

  const chunkOf = (card) => `${index.kind}-${String(Math.floor(card / index.chunkCards)).padStart(4, "0")}`;
  const fetchCard = async (card) => {
    const name = chunkOf(card);
    recent = [name, ...recent.filter((n) => n !== name)];
    recent.splice(MAX_CHUNKS).forEach(forget);
    return (await load(name))[card % index.chunkCards];
  };

  const order = (sort) => (a, b) => {
    const x = index.cards[a][SORT][sort.column], y = index.cards[b][SORT][sort.column];
    if (x === null || y === null) return (x === null) - (y === null) || a - b;
    const c = typeof x === "string" ? x.localeCompare(y) : x - y;
    return (sort.descending ? -c : c) || a - b;
  };
  const limits = () => {
    const value = (name, none) => (tools.elements[name].value === "" ? none : Number(tools.elements[name].value));
    return [value("low", -Infinity), value("high", Infinity)];
  };
  const inside = (score, [low, high]) => (score === null ? low === -Infinity && high === Infinity : score >= low && score <= high);

  const choose = () => {
    const query = tools.elements.q.value.trim().toLocaleLowerCase(), facet = tools.elements.facet.value;
    const [low, high] = limits();
    const any = low === -Infinity && high === Infinity;
    shown = [];
    index.cards.forEach((c, i) => {
      if (facet && c[FACET] !== facet) return;
      if (!any && (c[LOW] === null || c[LOW] > high || c[HIGH] < low)) return;
      if (query && ![c[NAME], c[ID], noteOf(i)].some((text) => text.toLocaleLowerCase().includes(query))) return;
      shown.push(i);
    });
    shown.sort(order(index.sorts[tools.elements.sort.value]));
    page = 0;
    draw();
  };

  const tile = (t, group, at) => {
    const src = t.thumb;
    const picture = src ? h("img", { src, alt: "", loading: "lazy", decoding: "async" }) : h("span", { class: "none" }, "no picture");
    const sign = t.mark === "hit" ? "✓" : t.mark === "miss" ? "✕" : null;
    const pic = h("span", { class: "pic" }, picture,
      t.badge ? h("span", { class: "badge" }, t.badge) : null, sign ? h("span", { class: "tick " + t.mark, "aria-hidden": "true" }, sign) : null);
    const open = () => AIStudio.lightbox(group.map((g) => ({ ...g, src: g.thumb })), at);
    const label = [t.badge && `${t.badge}.`, t.markText, t.caption].filter(Boolean).join(" ");
    return h("button", { type: "button", class: "tile " + t.mark, "aria-label": label, onclick: open }, pic, h("span", { class: "cap", title: t.caption }, h("bdi", {}, t.caption)));
  };
  const fill = (article, card, data) => {
    const range = limits();
    const groups = data.groups.map((g) => ({ label: g.label, tiles: g.tiles.filter((t) => inside(t.score, range)) })).filter((g) => g.tiles.length);
    const all = groups.flatMap((g) => g.tiles);
    let at = 0;
    const facts = data.facts.map(([label, value]) => label
      ? h("b", {}, h("span", {}, label + " "), h("bdi", {}, clip(value, 60)))
      : h("span", { class: "chip " + (index.cards[card][FACET] === "wrong" ? "bad" : "good") }, value));
    article.replaceChildren(
      h("header", {}, h("h2", {}, h("bdi", { title: data.name.length > 160 ? data.name : null }, clip(data.name, 160))), h("div", { class: "info" }, ...facts)),
      ...groups.flatMap((g) => [g.label ? h("h3", {}, g.label) : null, h("div", { class: "tiles" }, ...g.tiles.map((t) => tile(t, all, at++)))].filter(Boolean)));
    if (!all.length) article.append(h("p", { class: "muted" }, "No picture of this one is within the score filter."));
    article.append(notes.field(index.kind, index.cards[card][ID], clip(data.name, 80)));
    article.classList.remove("waiting");
  };
  const near = new IntersectionObserver((entries) => entries.filter((e) => e.isIntersecting).forEach((e) => {
    near.unobserve(e.target);
    const card = Number(e.target.dataset.card);
    fetchCard(card).then((data) => fill(e.target, card, data))
      .catch((error) => e.target.append(h("p", { class: "bad-text" }, error.message)));
  }), { rootMargin: "600px" });

  const draw = () => {
    near.disconnect();
    const pages = Math.max(1, Math.ceil(shown.length / index.perPage)), from = page * index.perPage;
    const part = shown.slice(from, from + index.perPage);
    place.replaceChildren(...part.map((i) => h("article", { class: "card item waiting", "data-card": i, "aria-busy": false },
      h("header", {}, h("h2", {}, h("bdi", {}, clip(index.cards[i][NAME], 160)))))));
    if (!part.length) place.append(h("p", { class: "empty" }, "Nothing matches. Clear the search or widen the score filter."));
    place.querySelectorAll("[data-card]").forEach((a) => near.observe(a));
    const some = index.cards.length < index.total ? `, a sample of ${index.total.toLocaleString("en")} with all extremes` : "";
    status.textContent = `${shown.length.toLocaleString("en")} of ${index.cards.length.toLocaleString("en")} ${index.noun}${some}`;
    const go = (by) => () => { page += by; draw(); root.scrollIntoView(); };
    pager.replaceChildren(...(pages < 2 ? [] : [
      h("button", { type: "button", class: "button", disabled: page === 0, onclick: go(-1) }, "← Previous"),
      h("span", {}, `${page + 1} of ${pages}`),
      h("button", { type: "button", class: "button", disabled: page === pages - 1, onclick: go(1) }, "Next →")]));
  };

  when(root.dataset.deck).then((data) => {
    index = data;
    tools.querySelector("[data-csv]").addEventListener("click", saveView);
    tools.elements.sort.append(...index.sorts.map((s, i) => h("option", { value: i }, s.label)));
    tools.elements.facet.append(...index.facets.map((f) => h("option", { value: f.value }, f.label)));
    let timer = 0;
    tools.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(choose, 120); });
    tools.addEventListener("submit", (e) => { e.preventDefault(); choose(); });
    choose();
  });
})();
