// One choice for the code of every chapter, kept for the next page: the main steps (what a chapter shows by itself), all
// of it, or none.
(function () {
  "use strict";
  const element = window.claimbookElement; // element.js
  const KEY = "claimbook-code", AT_FIRST = "steps";
  const CHOICES = {steps: "the main steps", all: "all of it", none: "none"};

  function kept() {
    try { return localStorage.getItem(KEY); } catch { return null; } // a browser may refuse to keep anything
  }

  function keep(choice) {
    try { localStorage.setItem(KEY, choice); } catch { /* then it holds for this page */ }
  }

  function apply(choice) {
    document.body.classList.toggle("without-code", choice === "none");
    for (const cell of document.querySelectorAll("details.above-input")) cell.open = choice === "all";
  }

  document.addEventListener("DOMContentLoaded", () => {
    const title = document.querySelector("article h1");
    if (!title || !document.querySelector("div.cell_input")) return;
    const label = element("label", "Code: ", null, {class: "code-switch"});
    const select = element("select", "", label);
    for (const value in CHOICES) element("option", CHOICES[value], select, {value});
    select.value = kept() in CHOICES ? kept() : AT_FIRST;
    select.onchange = () => { keep(select.value); apply(select.value); };
    title.after(label);
    apply(select.value);
  });
})();
