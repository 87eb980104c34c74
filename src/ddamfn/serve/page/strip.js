// The strip of thumbnails: which pictures there are, how far each is, and which is shown.

import { byId, element, mark, radioButton, radioGroup } from "./dom.js";
import { text } from "./texts.js";

/** Shows the strip of `pictures`. */
export class Strip {
  #buttons = new Map();
  #pictures;

  constructor(pictures) {
    this.#pictures = pictures;
    radioGroup(byId("strip"), (button) => {
      pictures.show(pictures.all.find(({ id }) => id === button.dataset.picture));
      button.scrollIntoView({ block: "nearest", inline: "nearest" });
    });
    byId("strip").addEventListener("keydown", (event) => {
      if (event.key === "Delete") byId("remove").click();
    });
  }

  render() {
    const { all, current } = this.#pictures;
    for (const [picture, button] of this.#buttons) {
      if (!all.includes(picture)) {
        button.remove();
        this.#buttons.delete(picture);
      }
    }
    for (const picture of all) this.#update(picture);
    mark([...this.#buttons.values()], this.#buttons.get(current));
    const done = all.filter(({ state }) => state === "done" || state === "failed").length;
    byId("progress").textContent = text("progress", done, all.length);
    byId("strip").hidden = all.length < 2;
  }

  /** Puts the focus on the shown picture's thumbnail, if the strip is shown; tells whether it is. */
  focus() {
    byId("strip").querySelector("[aria-checked=true]")?.focus();
    return !byId("strip").hidden;
  }

  #update(picture) {
    let button = this.#buttons.get(picture);
    if (!button) {
      button = radioButton("thumb", element("span", { className: "badge" }));
      button.dataset.picture = picture.id;
      this.#buttons.set(picture, button);
      byId("strip").append(button);
    }
    if (picture.thumb && !button.contains(picture.thumb)) button.prepend(picture.thumb);
    button.dataset.state = picture.state;
    const badge = button.querySelector(".badge");
    badge.textContent = picture.state === "done" ? String(picture.result.faces.length) : picture.state === "failed" ? "!" : "…";
    button.setAttribute("aria-label", text("pictureLabel", picture.name, stateOf(picture)));
    button.title = picture.name;
  }
}

/** Returns how far a picture is, in words. */
export function stateOf(picture) {
  if (picture.state === "done") return text("faces", picture.result.faces.length);
  return text({ waiting: "waiting", reading: "reading", busy: "busyWaiting", failed: "failed" }[picture.state]);
}
