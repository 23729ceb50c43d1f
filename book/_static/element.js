// What other scripts build pages of: an element with text and attributes, put at the end of its parent.
window.claimbookElement = function (tag, text, parent, attributes) {
  const made = document.createElement(tag);
  made.textContent = text || "";
  for (const name in attributes || {}) made.setAttribute(name, attributes[name]);
  if (parent) parent.append(made);
  return made;
};
