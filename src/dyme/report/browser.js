// The browser of samples: filters the groups embedded in the page, shows them, and keeps the filter in the address after "#", so that it
// can be linked to. Text enters the page as text, never as HTML.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("filters");
  if (!form) return;
  const list = document.getElementById("groups");
  const count = document.getElementById("count");
  const more = document.getElementById("more");
  const link = document.getElementById("link");
  const PAGE = 12;
  const SIGNS = { true: "✓", false: "✗", unknown: "?" };
  let found = [];
  let shown = 0;

  /** An element with classes, and children that are elements or plain text; null children are left out. */
  function el(name, classes, ...children) {
    const node = document.createElement(name);
    if (classes) node.className = classes;
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  const number = (value, digits = 2) => (value === null ? "–" : String(Number(Number(value).toFixed(digits))).replace("-", "−"));
  const signed = (value) => (value > 0 ? "+" : "") + number(value);
  const right = (group) => group.completions.filter((c) => c.correct).length;
  const halves = (group) => (group.beside ? [group, group.beside] : [group]);

  /** Nodes of a text whose spans, [start, end, ...], are what `made` makes of them. */
  function pieces(text, spans, made) {
    const nodes = [];
    let end = 0;
    for (const span of spans) {
      nodes.push(text.slice(end, span[0]), made(text.slice(span[0], span[1]), ...span.slice(2)));
      end = span[1];
    }
    return [...nodes, text.slice(end)];
  }

  /** A statement with its sign; what is known of it stands beside it unless it is simply true. */
  function statement(text, truth, known) {
    const plain = truth === "true" && !known.includes(", but ");
    return el("span", `statement ${truth}`, el("span", "said", text), el("span", "sign", SIGNS[truth]),
      plain ? el("span", "unseen", ` (true, ${known})`) : el("small", "", ` (${truth === "true" ? "" : `${truth}, `}${known})`));
  }

  /** The text up to the marker, and the marker with what follows; a text without exactly one marker is all thinking. */
  function parts(text, marker) {
    const at = marker ? text.indexOf(marker) : -1;
    if (at < 0 || at !== text.lastIndexOf(marker)) return [text, ""];
    return [text.slice(0, at), text.slice(at)];
  }

  function textOf(text, marks, marker) {
    const [thinking, answer] = parts(text, marker);
    return el("p", "text", ...pieces(thinking, marks.filter((mark) => mark[1] <= thinking.length), statement), answer ? el("b", "", answer) : null);
  }

  function verdict(c) {
    if (c.correct) return el("span", "verdict right", "✓ right");
    return el("span", "verdict wrong", c.parsed ? "✗ wrong" : "✗ not parsed");
  }

  function truths(c) {
    if (!c.marks.length) return null;
    const rows = c.marks.map(([start, end, truth, known]) =>
      el("li", "", el("span", `truth ${truth}`, `${SIGNS[truth]} ${truth}`), " ", c.text.slice(start, end), el("span", "quiet", ` – ${known}`)));
    const unknown = c.marks.filter((mark) => mark[2] === "unknown").length;
    const [so, of] = c.stated;
    return el("details", "statements", el("summary", "", `${so} of ${of} statements true${unknown ? `, ${unknown} not known` : ""}`), el("ul", "", ...rows));
  }

  function completion(group) {
    return (c) => {
      const rewards = Object.entries(c.rewards).map(([name, value]) => `${name} ${number(value)}`).join(" · ");
      const facts = el("p", "facts quiet",
        verdict(c),
        c.parsed && c.answer !== null ? el("span", "", "read as ", el("b", "", c.answer)) : null,
        el("span", "", "reward ", el("b", "", number(c.reward)), rewards ? ` (${rewards})` : ""),
        c.advantage === null ? null : el("span", "", "advantage ", el("b", "", signed(c.advantage))),
        el("span", "", `${c.tokens} tokens${c.finished === false ? ", cut off" : ""}`),
        c.reason ? el("span", "", c.reason) : null);
      const grade = c.assessment ? el("p", "grade", el("span", "quiet", `${group.grader}: `), c.assessment) : null;
      return el("li", c.correct ? "right" : "wrong", textOf(c.text, c.marks, group.marker ?? data.marker), facts, grade, truths(c));
    };
  }

  function pictures(group) {
    if (!group.pictures) return null;
    const box = el("div", "pictures");
    for (const name of group.images.filter((image) => image in data.images)) {
      const img = el("img", "");
      img.src = data.images[name];
      img.alt = `Picture of: ${group.question}`;
      box.append(img);
    }
    if (!box.children.length) box.append(el("p", "missing quiet", group.images.length ? "picture left out, to keep this page small" : "picture not kept by the run"));
    return box;
  }

  const trace = (label, text, spans, tag) =>
    el("div", "trace", el("h4", "", label), el("p", "text", ...pieces(text, spans, (piece) => el(tag, "", piece))));

  /** What the helpers wrote for a group, beside the reference: who wrote it, what differs, what was refused. */
  function written(group) {
    const learnt = group.mode === "memorize" || group.mode === "mixed";
    const texts = [];
    if (group.rationale !== null) texts.push(trace(learnt && group.target === null ? "Reference, memorized" : "Reference", group.rationale, group.gone, "del"));
    if (group.target !== null) texts.push(trace(`${learnt ? "Memorized: target" : "Target"} by ${group.writer}`, group.target, group.new, "ins"));
    const facts = group.facts.map(([subject, value]) => `${subject} ${value}`).join(", ");
    if (!texts.length && !facts && !group.trouble && !group.drafts.length) return null;
    const drafts = group.drafts.map((draft) => el("li", "", el("span", "quiet", `refused (${draft.fault}): ${draft.reason || "no reason"} `), el("span", "text", draft.text)));
    const said = group.target !== null ? "Target beside the reference" : learnt ? "Memorized: the row's own reference" : group.grader ? "Reference, to compare the grades with" : "The row's own reference";
    const box = el("details", "target", el("summary", "", texts.length ? said : "Facts"),
      texts.length ? el("div", "traces", ...texts) : null,
      group.gone.length || group.new.length ? el("p", "quiet", "Struck through: words only in the reference. Underlined: words only in the target.") : null,
      group.trust === null || group.trust === undefined ? null : el("p", "quiet", `Trust in the target, by the local checker: ${number(group.trust)} of 1`),
      group.trouble ? el("p", "trouble", el("b", "", "A helper gave nothing or was replaced: "), group.trouble) : null,
      drafts.length ? el("div", "", el("h4", "", `Drafts of the model's that were refused (${drafts.length})`), el("ul", "drafts", ...drafts)) : null,
      facts ? el("p", "quiet", `Facts: ${facts}`) : null);
    box.open = learnt || Boolean(group.trouble);
    return box;
  }

  /** What one run decided about the prompt, and why; what its helpers wrote. */
  function decision(group) {
    const total = group.completions.length;
    return [el("p", "facts decision",
      group.run ? el("b", "", group.run) : null,
      el("span", `mode ${group.mode}`, group.mode),
      el("b", "", `step ${group.step}`),
      total ? el("span", "", `${right(group)} of ${total} right`) : null,
      group.grader ? el("span", "quiet", `graded by ${group.grader}`) : null),
    group.reason ? el("p", "quiet", `Why: ${group.reason}`) : null,
    written(group)];
  }

  const answers = (group) => (group.completions.length ? el("ol", "completions", ...group.completions.map(completion(group))) : null);

  function card(group) {
    const question = el("div", "",
      el("h3", "question", group.question),
      el("p", "facts", el("span", "", el("span", "quiet", "gold answer "), el("b", "", group.answer)), group.kind ? el("span", "quiet", group.kind) : null,
        el("span", "quiet", group.id)),
      ...(group.beside ? [] : decision(group)));
    const prompt = el("div", "prompt", pictures(group), question);
    if (!group.beside) return el("article", "group", prompt, answers(group));
    return el("article", "group", prompt, el("div", "halves", ...halves(group).map((one) => el("div", "half", ...decision(one), answers(one)))));
  }

  const haystack = new Map(data.groups.map((group) => [group,
    halves(group).flatMap((one) => [one.id, one.question, one.answer, one.reason, one.rationale || "", one.target || "", one.trouble,
      ...one.completions.map((c) => c.text)]).join("\n").toLowerCase()]));
  const ids = new Set(data.groups.map((group) => group.id));

  function passes(one, want) {
    const [so, of] = [right(one), one.completions.length];
    return one.step >= Number(want.from) && one.step <= Number(want.to) && (!want.mode || one.mode === want.mode)
      && (!want.verdict || (want.verdict === "all" ? of > 0 && so === of : (so > 0) === (want.verdict === "some")));
  }

  function filter() {
    const want = Object.fromEntries(new FormData(form));
    const words = want.text.trim().toLowerCase();
    const name = ids.has(want.text.trim()) ? want.text.trim() : "";
    found = data.groups.filter((group) => (!want.kind || group.kind === want.kind) && halves(group).some((one) => passes(one, want))
      && (name ? group.id === name : haystack.get(group).includes(words)));
    shown = 0;
    list.replaceChildren();
    count.textContent = found.length === 1 ? "1 group" : `${found.length} groups`;
    show();
  }

  function show() {
    list.append(...found.slice(shown, shown + PAGE).map(card));
    shown = Math.min(shown + PAGE, found.length);
    more.hidden = shown >= found.length;
    more.textContent = `Show more (${found.length - shown} left)`;
  }

  const fields = () => [...form.elements].filter((field) => field.name);
  const usual = new Map(fields().map((field) => [field.name, field.value]));

  /** The filter as the part of the address after "#"; "" for no filter. */
  const fragment = () => new URLSearchParams(fields().filter((f) => f.value !== usual.get(f.name)).map((f) => [f.name, f.value])).toString();

  /** Set the filter by the address: a value that the page does not have is left out; an address of another place changes nothing. */
  function restore() {
    const hash = location.hash.slice(1);
    if (hash && !hash.includes("=")) return false;
    const given = new URLSearchParams(hash);
    for (const field of fields()) {
      const value = given.get(field.name);
      const known = value !== null && (!field.options || [...field.options].some((option) => option.value === value));
      field.value = known ? value : usual.get(field.name);
    }
    filter();
    return Boolean(hash);
  }

  /** Filter, and write the filter to the address: as a new entry of the history, or, while a word is typed, in the place of the last. */
  function changed(again) {
    link.hidden = true;
    const address = fragment() ? `#${fragment()}` : location.pathname + location.search;
    if (again) history.replaceState(null, "", address);
    else if (fragment() !== location.hash.slice(1)) history.pushState(null, "", address);
    filter();
  }

  let typing = false;
  form.addEventListener("input", (event) => {
    const word = event.target.name === "text";
    changed(word && typing);
    typing = word;
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("popstate", () => {
    typing = false;
    if (restore()) document.getElementById("samples").scrollIntoView();
  });
  document.getElementById("copy").addEventListener("click", async () => {
    const address = `${location.href.split("#")[0]}#${fragment() || "samples"}`;
    try {
      await navigator.clipboard.writeText(address);
      count.textContent = "The link to this filter is copied.";
    } catch {
      link.hidden = false;
      link.value = address;
      link.select();
      count.textContent = "The browser does not allow copying here; copy the link from the field.";
    }
  });
  more.addEventListener("click", () => {
    const first = shown;
    show();
    const next = list.children[first];
    next.tabIndex = -1;
    next.focus({ preventScroll: true });
  });
  form.hidden = false;
  document.getElementById("off").hidden = true;
  filter();
  if (restore()) document.getElementById("samples").scrollIntoView();
})();
