// Fill a basket, see what the item-ranking method makes of it. The same steps as papers/grocery_ranking.py, on the data
// that the notebook put into the page; a browser test compares both.
(function () {
  "use strict";
  const element = window.claimbookElement; // element.js
  const EDGE = 1e-6; // as in the library: a score that equals theta activates

  function recommend(data, basket, theta) {
    const has = new Set(basket);
    const scores = data.subcategories.map((sub) =>
      sub.weights.reduce((sum, [item, weight]) => sum + (has.has(item) ? weight : 0), 0));
    const open = data.categories.map((category) => category.identifiers.some((item) => has.has(item)));
    const active = data.subcategories.map((sub, i) =>
      open[sub.category] && scores[i] > 0 && scores[i] >= theta - EDGE);
    const worth = new Array(data.items.length).fill(0);
    for (const sub of data.subcategories)
      for (const [item, weight] of sub.weights) worth[item] = Math.max(worth[item], weight);

    let scored = 0;
    const similar = [];
    data.recipes.forEach(([, sub, items], row) => {
      if (!active[sub]) return;
      scored += 1;
      const common = items.filter((item) => has.has(item)).length;
      if (common) similar.push([common / (has.size + items.length - common), row]);
    });
    similar.sort((a, b) => b[0] - a[0] || a[1] - b[1]);
    const matches = similar.slice(0, data.matches);
    const items = [];
    for (const [, row] of matches) {
      const missing = data.recipes[row][2].filter((item) => !has.has(item));
      missing.sort((a, b) => worth[b] - worth[a] || a - b);
      for (const item of missing) if (!items.includes(item)) items.push(item);
    }
    const all = active.map((on, i) => (on ? i : -1)).filter((i) => i >= 0);
    return {scores, categories: open, active: all, scored, matches: matches.map(([value, row]) => [row, value]), items};
  }

  function start(root) {
    const data = JSON.parse(root.querySelector("script").textContent);
    const at = new Map(data.items.map((item, i) => [item, i]));
    const basket = new Set(root.dataset.basket.split(";").filter((name) => at.has(name)).map((name) => at.get(name)));
    root.replaceChildren();

    const form = element("form", "", root);
    const label = element("label", "Add an item ", form);
    const input = element("input", "", label, {list: "grocery-items", autocomplete: "off", size: 18});
    element("button", "add", form, {type: "submit"});
    element("button", "empty the basket", form, {type: "button"}).onclick = () => { basket.clear(); show(); };
    const list = element("datalist", "", form, {id: "grocery-items"});
    for (const item of data.items) element("option", "", list, {value: item});
    const slide = element("label", "threshold theta ", root);
    const theta = element("input", "", slide, {type: "range", min: 0, max: 0.3, step: 0.001, value: data.theta});
    const shown = element("output", "", slide);
    const message = element("p", "", root, {class: "picker-message", role: "status"});
    const out = element("div", "", root);

    form.onsubmit = (event) => {
      event.preventDefault();
      const name = input.value.trim().toLowerCase();
      message.textContent = at.has(name) || !name ? "" : `No recipe here has “${name}”: take one of the list.`;
      if (at.has(name)) { basket.add(at.get(name)); input.value = ""; }
      show();
    };
    theta.oninput = show;

    function section(title) {
      element("h4", title, out);
      return element("ul", "", out, {class: "picker-list"});
    }

    function show() {
      const found = recommend(data, basket, Number(theta.value));
      shown.textContent = " " + Number(theta.value).toFixed(3);
      out.replaceChildren();
      const chosen = section("Basket");
      for (const item of basket) {
        const button = element("button", data.items[item] + " ×", element("li", "", chosen),
          {type: "button", "aria-label": `remove ${data.items[item]}`});
        button.onclick = () => { basket.delete(item); show(); };
      }
      const open = section("Active subcategories, with scores");
      const order = found.active.slice().sort((a, b) => found.scores[b] - found.scores[a]);
      for (const i of order) element("li", `${data.subcategories[i].name} ${found.scores[i].toFixed(3)}`, open);
      if (!order.length) element("li", "none: nothing is searched, nothing recommended", open);
      element("p", `${found.scored} of ${data.recipes.length} recipes were compared with the basket.`, out);
      const best = section("Best matches, with similarity");
      for (const [row, value] of found.matches) element("li", `${data.recipes[row][0]} ${value.toFixed(2)}`, best);
      const items = section("Recommended together");
      for (const item of found.items) element("li", data.items[item], items);
    }
    show();
  }

  window.groceryPicker = {recommend};
  document.addEventListener("DOMContentLoaded", () => {
    for (const root of document.querySelectorAll(".grocery-picker")) {
      window.groceryPicker.data = JSON.parse(root.querySelector("script").textContent);
      start(root);
    }
  });
})();
