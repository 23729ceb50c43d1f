// What a tile, a term or a citation says, on hover, on focus, and on touch: there the first tap tells, the second follows the link.
// Without this script the same text is the element's title.
(function () {
  "use strict";
  const TOLD = ".tile[title], a.term[title], .claim .tag[title], a.reference[title][href*='bibliography.html#']";
  let tip, shownFor;

  function show(element) {
    if (shownFor === element) return;
    hide();
    shownFor = element;
    tip = document.createElement("div");
    tip.className = "tip";
    tip.setAttribute("role", "tooltip");
    tip.id = "tip";
    tip.textContent = element.dataset.tip;
    document.body.append(tip);
    if (!element.hasAttribute("aria-label")) element.setAttribute("aria-describedby", "tip");
    const at = element.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const wide = document.documentElement.clientWidth;
    const left = Math.max(8, Math.min(at.left, wide - own.width - 8));
    const above = at.bottom + own.height + 8 > window.innerHeight && at.top > own.height + 8;
    tip.style.left = `${left + window.scrollX}px`;
    tip.style.top = `${(above ? at.top - own.height - 6 : at.bottom + 6) + window.scrollY}px`;
  }

  function hide() {
    if (tip) tip.remove();
    if (shownFor) shownFor.removeAttribute("aria-describedby");
    tip = shownFor = undefined;
  }

  function start(element) {
    element.dataset.tip = element.title;
    element.removeAttribute("title");
    element.addEventListener("pointerenter", (event) => { if (event.pointerType !== "touch") show(element); });
    element.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") hide(); });
    element.addEventListener("focus", () => { if (element.matches(":focus-visible")) show(element); });
    element.addEventListener("blur", hide);
    let touched = false;
    element.addEventListener("pointerdown", (event) => { touched = event.pointerType === "touch"; });
    element.addEventListener("click", (event) => {
      if (!touched || shownFor === element) return;
      event.preventDefault();
      show(element);
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(TOLD).forEach(start);
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
    document.addEventListener("pointerdown", (event) => { if (shownFor && !shownFor.contains(event.target)) hide(); });
  });
})();
