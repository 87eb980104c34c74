// Small ways to build and to operate parts of the document.

/** Returns the element of this id. */
export const byId = (id) => document.getElementById(id);

/** Makes an element with properties and children. */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Has a screen reader say a sentence when it has finished its own. */
export function announce(sentence) {
  const status = byId("status");
  // The same text twice would not be spoken twice: a changed node is.
  status.replaceChildren(element("p", { textContent: sentence }));
}

/**
 * Makes a radio group out of the buttons in `group`: one stop for Tab, arrow keys, Home and End choose.
 * `order` gives the buttons in the order of the arrow keys; `choose` is told the button.
 */
export function radioGroup(group, choose, order = () => [...group.querySelectorAll("[role=radio]")]) {
  group.addEventListener("click", (event) => {
    const button = event.target.closest("[role=radio]");
    if (button) choose(button);
  });
  group.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    const buttons = order();
    const place = buttons.indexOf(event.target);
    if (step === undefined || place < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const wanted = Number.isFinite(step) ? (place + step + buttons.length) % buttons.length : step < 0 ? 0 : buttons.length - 1;
    buttons[wanted].focus();
    choose(buttons[wanted]);
  });
}

/** Makes a button of a radio group. */
export function radioButton(className, ...children) {
  const button = element("button", { type: "button", className }, ...children);
  button.setAttribute("role", "radio");
  return button;
}

/** Marks which button of a radio group is chosen; Tab stops there, or at the first where none is. */
export function mark(buttons, chosen) {
  for (const button of buttons) {
    button.setAttribute("aria-checked", String(button === chosen));
    button.tabIndex = button === (chosen ?? buttons[0]) ? 0 : -1;
  }
}
