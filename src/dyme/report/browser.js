// The browser of samples: filters the groups embedded in the page and shows them. Text enters the page as text, never as HTML.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("filters");
  if (!form) return;
  const list = document.getElementById("groups");
  const count = document.getElementById("count");
  const more = document.getElementById("more");
  const PAGE = 12;
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

  /** The thinking, and the marker with what follows; a text without exactly one marker is all thinking. */
  function parts(text) {
    const at = data.marker ? text.indexOf(data.marker) : -1;
    if (at < 0 || at !== text.lastIndexOf(data.marker)) return [text, ""];
    return [text.slice(0, at), text.slice(at)];
  }

  function textOf(text) {
    const [thinking, answer] = parts(text);
    return el("p", "text", thinking, answer ? el("b", "", answer) : null);
  }

  function verdict(c) {
    if (c.correct) return el("span", "verdict right", "✓ right");
    return el("span", "verdict wrong", c.parsed ? "✗ wrong" : "✗ not parsed");
  }

  function completion(c) {
    const rewards = Object.entries(c.rewards).map(([name, value]) => `${name} ${number(value)}`).join(" · ");
    const facts = el("p", "facts quiet",
      verdict(c),
      c.parsed && c.answer !== null ? el("span", "", "read as ", el("b", "", c.answer)) : null,
      el("span", "", "reward ", el("b", "", number(c.reward)), rewards ? ` (${rewards})` : ""),
      c.advantage === null ? null : el("span", "", "advantage ", el("b", "", signed(c.advantage))),
      el("span", "", `${c.tokens} tokens${c.finished === false ? ", cut off" : ""}`),
      c.reason ? el("span", "", c.reason) : null);
    return el("li", c.correct ? "right" : "wrong", textOf(c.text), facts);
  }

  function pictures(group) {
    if (!group.pictures) return null;
    const box = el("div", "pictures");
    for (const name of group.images) {
      const img = el("img", "");
      img.src = data.images[name];
      img.alt = `Picture of: ${group.question}`;
      box.append(img);
    }
    if (!group.images.length) box.append(el("p", "missing quiet", "picture not kept"));
    return box;
  }

  function target(group) {
    const texts = [["rationale", group.rationale], ["refined target", group.target]].filter(([, text]) => text !== null);
    if (!texts.length && !group.facts.length) return null;
    const facts = group.facts.map(([subject, value]) => `${subject} ${value}`).join(", ");
    const learnt = group.mode === "memorize" || group.mode === "mixed";
    const last = texts.length ? texts[texts.length - 1][0] : "facts";
    const box = el("details", "target", el("summary", "", learnt ? `Memorized: the ${last}` : `The row's own: ${texts.length ? "rationale" : "facts"}`),
      ...texts.map(([name, text]) => el("p", "text", el("span", "quiet", `${name} `), text)),
      facts ? el("p", "quiet", `Facts: ${facts}`) : null);
    box.open = learnt;
    return box;
  }

  function card(group) {
    const total = group.completions.length;
    const head = el("p", "facts",
      el("span", `mode ${group.mode}`, group.mode),
      el("b", "", `step ${group.step}`),
      total ? el("span", "", `${right(group)} of ${total} right`) : null,
      group.kind ? el("span", "quiet", group.kind) : null,
      el("span", "quiet id", group.id));
    const question = el("div", "",
      el("h3", "question", group.question),
      el("p", "", el("span", "quiet", "answer "), el("b", "", group.answer)),
      group.reason ? el("p", "quiet", `Why: ${group.reason}`) : null,
      target(group));
    const answers = total ? el("ol", "completions", ...group.completions.map(completion)) : null;
    return el("article", "group", head, el("div", "prompt", pictures(group), question), answers);
  }

  const haystack = new Map(data.groups.map((group) => [group,
    [group.id, group.question, group.answer, group.reason, group.rationale || "", group.target || "", ...group.completions.map((c) => c.text)].join("\n").toLowerCase()]));

  function filter() {
    const want = Object.fromEntries(new FormData(form));
    const words = want.text.trim().toLowerCase();
    found = data.groups.filter((group) =>
      group.step >= Number(want.from) && group.step <= Number(want.to)
      && (!want.mode || group.mode === want.mode)
      && (!want.kind || group.kind === want.kind)
      && (!want.verdict || (right(group) > 0) === (want.verdict === "some"))
      && haystack.get(group).includes(words));
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

  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => {
    const first = shown;
    show();
    const next = list.children[first];
    next.tabIndex = -1;
    next.focus({ preventScroll: true });
  });
  filter();
})();
