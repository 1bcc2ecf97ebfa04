/* The questionnaire: random order from the seed in the address, answers in localStorage, a CSV file at the end. */
"use strict";
(function () {
  const { h, when } = AIStudio;
  const main = document.querySelector("[data-survey]");
  const LETTERS = "ABCDE";

  /* mulberry32: the same seed gives the same order in every browser. */
  const generator = (seed) => () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const shuffled = (list, random) => {
    const out = [...list];
    for (let i = out.length - 1; i > 0; i--) {
      const j = Math.floor(random() * (i + 1));
      [out[i], out[j]] = [out[j], out[i]];
    }
    return out;
  };

  const stored = (key) => { try { return JSON.parse(localStorage.getItem(key)); } catch (e) { return null; } };
  const store = (key, value) => { try { localStorage.setItem(key, JSON.stringify(value)); } catch (e) { /* private window: kept in memory */ } };

  /* Seed of the address, else the one that this browser had, else a new one. */
  const seedOf = (id) => {
    const asked = new URLSearchParams(location.search).get("seed");
    if (asked !== null && /^\d{1,9}$/.test(asked)) return Number(asked);
    const before = stored(`survey:${id}:seed`);
    const seed = Number.isInteger(before) ? before : crypto.getRandomValues(new Uint32Array(1))[0] % 1e9;
    store(`survey:${id}:seed`, seed);
    return seed;
  };

  /* Ordinary pages in random order; a repeat comes at the end with the sides swapped, the copy in the middle. */
  const ordered = (pages, seed) => {
    const random = generator(seed);
    const withSides = pages.map((page) => ({ ...page, sides: shuffled(Object.keys(page.lists), random) }));
    const ordinary = shuffled(withSides.filter((p) => !p.check), random);
    const copy = withSides.filter((p) => p.check === "copy");
    ordinary.splice(Math.ceil(ordinary.length / 2), 0, ...copy);
    for (const page of withSides.filter((p) => p.check === "repeat")) {
      const same = (p) => p.question === page.question && !p.check && Object.keys(page.lists).every((s) => s in p.lists);
      ordinary.push({ ...page, sides: [...ordinary.find(same).sides].reverse() });
    }
    return ordinary;
  };

  const cell = (value) => {
    let text = String(value ?? "");
    if (/^[=+\-@\t\r]/.test(text)) text = "'" + text; // a spreadsheet must not take it for a formula
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const csv = (survey, order, answers, comment) => {
    const shared = ["group", "check", "right_answer", "place", "seconds", "seed", "survey", "comment"];
    const own = survey.mode === "pairs" ? ["left", "right", "choice"] : ["system", "rank", "side"];
    const rows = [["respondent", "question", ...own, ...shared]];
    order.forEach((page, place) => {
      const answer = answers[place];
      if (!answer) return;
      const rest = [page.group, page.check, page.right, place + 1, answer.seconds, survey.seed, survey.id, comment];
      const who = ["r" + survey.seed, page.question];
      if (survey.mode === "pairs") rows.push([...who, ...page.sides, answer.choice, ...rest]);
      else page.sides.forEach((system, i) => rows.push([...who, system, answer.ranks[i], i + 1, ...rest]));
    });
    return "\ufeff" + rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
  };

  const start = (given) => {
    const seed = seedOf(given.id), survey = { ...given, seed };
    const key = `survey:${given.id}:${seed}`;
    const order = ordered(given.pages, seed);
    const kept = stored(key);
    const state = kept && kept.answers ? kept : { at: -1, answers: {}, comment: "" };
    let shownAt = 0, onKey = () => {};
    const keep = () => store(key, state);

    const go = (place) => {
      state.at = place;
      keep();
      shownAt = Date.now();
      const done = Math.max(0, Math.min(place, order.length));
      document.querySelector("[data-count]").textContent = place < 0 ? "" : place < order.length ? `${place + 1} of ${order.length}` : "done";
      const bar = document.querySelector("[data-progress]");
      bar.setAttribute("aria-valuenow", done);
      bar.setAttribute("aria-valuemax", order.length);
      bar.firstElementChild.style.width = `${(100 * done) / order.length}%`;
      main.replaceChildren(place < 0 ? consent() : place < order.length ? question(place) : end());
      main.querySelector("[data-focus]")?.focus({ preventScroll: true });
      scrollTo(0, 0);
    };
    const answer = (place, value) => {
      const seconds = Math.round((Date.now() - shownAt) / 100) / 10;
      state.answers[place] = { ...value, seconds };
      go(place + 1);
    };
    const back = (place) => h("button", { type: "button", class: "button", onclick: () => go(place - 1) }, "Back");

    const consent = () => {
      onKey = () => {};
      return h("section", { class: "card consent" }, h("h1", {}, survey.title), h("p", {}, survey.consent),
        h("button", { type: "button", class: "button primary", "data-focus": true, onclick: () => go(0) }, "I agree, begin"));
    };

    const picture = (shown) => h("img", { src: shown.path, alt: shown.alt });
    const thumbs = (list) => h("ol", { class: "thumbs" }, ...list.map((s) => h("li", {}, picture(s))));
    const question = (place) => {
      const page = order[place];
      const head = h("div", { class: "ask" }, picture(page.query),
        h("div", {}, h("h1", { tabindex: "-1", "data-focus": true }, survey.ask), h("p", {}, "You are looking at the picture on the left.")));
      const body = survey.mode === "pairs" ? pair(place, page) : ranks(place, page);
      return h("section", {}, head, ...body);
    };

    const pair = (place, page) => {
      const before = state.answers[place]?.choice;
      const choose = (choice) => answer(place, { choice });
      onKey = (k) => {
        if (k === "ArrowLeft" || k === "a" || k === "1") choose(page.sides[0]);
        else if (k === "ArrowRight" || k === "b" || k === "2") choose(page.sides[1]);
        else if (k === "0" || k === "c") choose("tie");
        else if (k === "Backspace" && place > 0) go(place - 1);
      };
      const lists = page.sides.map((system, i) => h("div", { class: "card choice" + (before === system ? " chosen" : "") },
        h("h2", {}, LETTERS[i]), thumbs(page.lists[system]),
        h("button", { type: "button", class: "button", "data-choose": i, onclick: () => choose(system) }, `I prefer ${LETTERS[i]}`)));
      const tie = h("button", { type: "button", class: "button", "data-tie": true, onclick: () => choose("tie") }, "Can't say");
      return [h("div", { class: "choices two" }, ...lists),
        h("div", { class: "steps" }, place > 0 ? back(place) : null, tie),
        h("p", { class: "keys" }, h("kbd", {}, "←"), " or ", h("kbd", {}, "A"), " prefers A, ", h("kbd", {}, "→"), " or ", h("kbd", {}, "B"), " prefers B, ",
          h("kbd", {}, "0"), " can't say, ", h("kbd", {}, "Backspace"), " goes back")];
    };

    const ranks = (place, page) => {
      const count = page.sides.length, given = state.answers[place]?.ranks ?? page.sides.map(() => null);
      const chosen = [...given];
      const next = h("button", { type: "button", class: "button primary", "data-next": true, onclick: () => answer(place, { ranks: chosen }) }, "Next");
      const check = () => { next.disabled = chosen.some((r) => r === null); };
      onKey = (k) => { if (k === "Enter" && !next.disabled) next.click(); else if (k === "Backspace" && place > 0) go(place - 1); };
      const lists = page.sides.map((system, i) => {
        const radios = Array.from({ length: count }, (_, r) => h("label", {}, h("input", {
          type: "radio", name: `rank-${i}`, value: r + 1, checked: chosen[i] === r + 1, onchange: () => { chosen[i] = r + 1; check(); },
        }), String(r + 1)));
        return h("div", { class: "card choice" }, h("h2", {}, LETTERS[i]), thumbs(page.lists[system]),
          h("fieldset", { class: "rank" }, h("legend", {}, `Place of ${LETTERS[i]}, 1 is best`), ...radios));
      });
      check();
      const tie = h("button", { type: "button", class: "button", "data-tie": true, onclick: () => answer(place, { ranks: page.sides.map(() => 1) }) }, "Can't say");
      return [h("div", { class: "choices" }, ...lists), h("div", { class: "steps" }, place > 0 ? back(place) : null, tie, next),
        h("p", { class: "keys" }, "Equal places are allowed. ", h("kbd", {}, "Tab"), " and arrows choose, ", h("kbd", {}, "Enter"), " goes on, ", h("kbd", {}, "Backspace"), " goes back")];
    };

    const end = () => {
      onKey = () => {};
      const text = h("textarea", { id: "comment", maxlength: "2000", oninput: (e) => { state.comment = e.target.value; keep(); } });
      text.value = state.comment;
      const save = () => {
        const url = URL.createObjectURL(new Blob([csv(survey, order, state.answers, state.comment)], { type: "text/csv;charset=utf-8" }));
        const link = h("a", { href: url, download: `answers-${survey.id}-${seed}.csv` });
        document.body.append(link);
        link.click();
        link.remove();
        setTimeout(() => URL.revokeObjectURL(url), 10000);
      };
      return h("section", { class: "card consent done" }, h("h1", { tabindex: "-1", "data-focus": true }, "Thank you"),
        h("p", {}, "Download your answers and send the file to the person who asked you."),
        h("label", { for: "comment" }, "Anything you would like to add (optional)"), text,
        h("div", { class: "steps" }, back(order.length), h("button", { type: "button", class: "button primary", "data-download": true, onclick: save }, "Download answers")));
    };

    document.addEventListener("keydown", (e) => {
      if (e.ctrlKey || e.metaKey || e.altKey || e.repeat || e.target.closest("textarea")) return;
      if (e.target.closest("input") && e.key.startsWith("Arrow")) return;
      onKey(e.key.length === 1 ? e.key.toLowerCase() : e.key);
    });
    go(Math.min(Number.isInteger(state.at) ? state.at : -1, order.length));
  };
  when("questionnaire").then(start);
})();
