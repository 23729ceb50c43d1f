// On the search page: finds sections and claims that hold all words, with an excerpt. The texts stand in sections.js,
// which is a script and no file to fetch, so that it works from disk.
(function () {
  "use strict";
  const element = window.claimbookElement; // element.js
  const AT_FIRST = 20, BEFORE = 60, LENGTH = 220;

  // Sections in which every word begins a word of title or text; those with words in the title first.
  function find(sections, query) {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    const begins = words.map((word) => new RegExp("(^|[^\\p{L}\\p{N}])" + word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "iu"));
    const found = [];
    for (const [page, anchor, title, text] of words.length ? sections : []) {
      const inTitle = begins.filter((word) => word.test(title)).length;
      if (!begins.every((word) => word.test(title) || word.test(text))) continue;
      const together = `${title} ${text}`.toLowerCase().includes(query.trim().toLowerCase());
      found.push({page, anchor, title, text, begins, score: 2 * inTitle + (together ? 1 : 0)});
    }
    return found.sort((a, b) => b.score - a.score);
  }

  function excerpt({text, begins}, parent) {
    const first = begins.map((word) => text.search(word)).filter((at) => at >= 0);
    const start = first.length ? Math.max(0, Math.min(...first) - BEFORE) : 0;
    let rest = (start ? "… " : "") + text.slice(start, start + LENGTH) + (start + LENGTH < text.length ? " …" : "");
    const line = element("p", "", parent);
    const any = new RegExp(begins.map((word) => `(?:${word.source.replace("(^|", "(?:^|")})`).join("|"), "iu");
    for (let hit = any.exec(rest); hit && hit[0]; hit = any.exec(rest)) {
      line.append(rest.slice(0, hit.index));
      element("mark", hit[0], line);
      rest = rest.slice(hit.index + hit[0].length);
    }
    line.append(rest);
  }

  function show(root, sections, query, limit) {
    root.replaceChildren();
    if (!query.trim()) return;
    const found = find(sections, query);
    const pages = new Map(sections.map(([page, , title]) => [page, title]).reverse());
    const count = found.length === 1 ? "1 section or claim" : `${found.length} sections and claims`;
    element("p", found.length ? `${count} with “${query}”.` : `Nothing with “${query}”: try fewer words.`, root, {role: "status"});
    const list = element("ol", "", root, {class: "section-results"});
    for (const one of found.slice(0, limit)) {
      const item = element("li", "", list);
      element("a", one.title, item, {href: `${one.page}#${one.anchor}`});
      if (pages.get(one.page) !== one.title) element("span", ` · ${pages.get(one.page)}`, item, {class: "result-page"});
      excerpt(one, item);
    }
    if (found.length > limit) {
      const more = element("button", `show all ${found.length}`, root, {type: "button"});
      more.onclick = () => show(root, sections, query, found.length);
    }
  }

  window.claimbookSearch = {find};
  document.addEventListener("DOMContentLoaded", () => {
    const theirs = document.getElementById("search-results");
    if (!theirs) return;
    theirs.hidden = true;
    const root = element("div", "", null, {class: "search-sections"});
    theirs.before(root);
    const script = element("script", "", null, {src: "_static/sections.js"});
    script.onload = () => {
      const query = new URLSearchParams(location.search).get("q") || "";
      show(root, window.claimbookSections, query, AT_FIRST);
    };
    document.head.append(script);
  });
})();
