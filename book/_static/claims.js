// Every claim: filter, order, totals, and an address for each. Entries carry what is filtered as data-… attributes.
// A filter's address is scoreboard.html#?verdict=partial&headline=1, a claim's scoreboard.html#streaming-llm-c3.
(function () {
  "use strict";
  const CHOICES = ["paper", "verdict", "fidelity", "headline", "revised", "failed", "words", "sort"];
  const FIDELITY = ["exact", "reduced", "toy", ""];

  function start(form) {
    const fields = form.elements, total = form.querySelector(".filter-total");
    const lists = [...document.querySelectorAll(".claim-list")];
    const entries = lists.flatMap((list) => [...list.querySelectorAll("details.entry")]);
    const home = new Map(entries.map((entry) => [entry, entry.parentElement]));
    const verdicts = [...fields.verdict.options].filter((one) => one.value)
      .map((one) => [one.value, one.text.replace(/^\S+ | \(\d+\)$/g, "")]);
    const order = verdicts.map(([name]) => name);
    const flat = document.createElement("div");
    flat.className = "claim-list flat";
    form.after(flat);
    form.hidden = false;

    function chosen() {
      return Object.fromEntries(CHOICES.map((name) => {
        const field = fields[name];
        return [name, field.type === "checkbox" ? (field.checked ? "1" : "") : field.value.trim()];
      }));
    }

    function fits(entry, want) {
      const has = entry.dataset;
      if (want.paper && has.paper !== want.paper) return false;
      if (want.verdict && has.verdict !== want.verdict) return false;
      if (want.fidelity === "real" ? !["exact", "reduced"].includes(has.fidelity)
        : want.fidelity && has.fidelity !== want.fidelity) return false;
      if (["headline", "revised", "failed"].some((name) => want[name] && !has[name])) return false;
      const text = want.words ? entry.textContent.toLowerCase() : "";
      return want.words.toLowerCase().split(/\s+/).every((word) => text.includes(word));
    }

    function rank(entry, by) {
      if (by === "verdict") return order.indexOf(entry.dataset.verdict);
      if (by === "fidelity") return FIDELITY.indexOf(entry.dataset.fidelity);
      return entry.dataset.headline ? 0 : 1;
    }

    function arrange(by) {
      if (by) flat.append(...entries.slice().sort((a, b) => rank(a, by) - rank(b, by)));
      else for (const entry of entries) home.get(entry).append(entry);
      for (const list of lists) {
        const section = list.closest("section");
        if (section) section.hidden = Boolean(by) || !list.querySelector("details.entry:not([hidden])");
      }
    }

    function counts(shown) {
      const listed = verdicts.map(([name, word]) => [shown.filter((one) => one.dataset.verdict === name).length, word]);
      return listed.filter(([count]) => count).map(([count, word]) => `${count} ${word}`).join(", ");
    }

    function tell(shown) {
      const counted = shown.filter((one) => one.dataset.counted);
      const others = shown.filter((one) => !one.dataset.counted);
      const toys = counted.filter((one) => one.dataset.fidelity === "toy");
      const rest = counted.filter((one) => one.dataset.fidelity !== "toy");
      const said = [`${shown.length} of ${entries.length} claims.`];
      if (rest.length) said.push(`${counts(rest)}.`);
      if (toys.length) said.push(`On toys: ${counts(toys)}.`);
      if (others.length) said.push(`In no total: ${counts(others)}.`);
      if (!shown.length) said.push("Nothing fits: choose less, or show all.");
      total.textContent = said.join(" ");
    }

    function apply(keepAddress) {
      const want = chosen(), shown = [];
      for (const entry of entries) {
        entry.hidden = !fits(entry, want);
        if (!entry.hidden) shown.push(entry);
      }
      arrange(want.sort);
      tell(shown);
      if (keepAddress) return;
      const set = new URLSearchParams(Object.entries(want).filter(([, value]) => value)).toString();
      history.replaceState(null, "", set ? `#?${set}` : "#");
    }

    function choose(values) {
      for (const name of CHOICES) {
        const field = fields[name], value = values.get(name) || "";
        if (field.type === "checkbox") field.checked = value === "1";
        else field.value = value;
        if (field.tagName === "SELECT" && field.selectedIndex < 0) field.value = "";
      }
    }

    function follow() {
      const address = decodeURIComponent(location.hash.slice(1));
      if (address.startsWith("?")) choose(new URLSearchParams(address.slice(1)));
      const target = address && !address.startsWith("?") ? document.getElementById(address) : null;
      const entry = target && target.closest("details.entry");
      if (entry) choose(new URLSearchParams());  // a claim's own address shows it, whatever was filtered before
      apply(true);
      if (!entry) return;
      entry.open = true;
      entry.scrollIntoView();
    }

    fields.unfold.onclick = () => {
      const open = fields.unfold.textContent === "unfold all";
      for (const entry of entries) if (!open || !entry.hidden) entry.open = open;
      fields.unfold.textContent = open ? "fold all" : "unfold all";
    };
    form.addEventListener("input", () => apply(false));
    form.addEventListener("reset", () => setTimeout(() => apply(false)));
    form.addEventListener("submit", (event) => event.preventDefault());
    window.addEventListener("hashchange", follow);
    follow();
  }

  document.addEventListener("DOMContentLoaded", () => {
    const form = document.getElementById("claim-filter");
    if (form) start(form);
  });
})();
