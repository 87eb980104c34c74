// The strip of thumbnails: which images there are, how far each is, and which is shown.

import { byId, element, mark, radioButton, radioGroup } from "./dom.js";
import { text } from "./texts.js";

/** Shows the strip of `images`. */
export class Strip {
  #buttons = new Map();
  #images;

  constructor(images) {
    this.#images = images;
    radioGroup(byId("strip"), (button) => {
      images.show(images.all.find(({ id }) => id === button.dataset.image));
      button.scrollIntoView({ block: "nearest", inline: "nearest" });
    });
    byId("strip").addEventListener("keydown", (event) => {
      if (event.key === "Delete") byId("remove").click();
    });
  }

  render() {
    const { all, current } = this.#images;
    for (const [image, button] of this.#buttons) {
      if (!all.includes(image)) {
        button.remove();
        this.#buttons.delete(image);
      }
    }
    for (const image of all) this.#update(image);
    mark([...this.#buttons.values()], this.#buttons.get(current));
    const done = all.filter(({ state }) => state === "done" || state === "failed").length;
    byId("progress").textContent = text("progress", done, all.length);
    byId("strip").hidden = all.length < 2;
  }

  /** Puts the focus on the shown image's thumbnail, if the strip is shown; tells whether it is. */
  focus() {
    byId("strip").querySelector("[aria-checked=true]")?.focus();
    return !byId("strip").hidden;
  }

  #update(image) {
    let button = this.#buttons.get(image);
    if (!button) {
      button = radioButton("thumb", element("span", { className: "badge" }));
      button.dataset.image = image.id;
      this.#buttons.set(image, button);
      byId("strip").append(button);
    }
    if (image.thumb && !button.contains(image.thumb)) button.prepend(image.thumb);
    button.dataset.state = image.state;
    const badge = button.querySelector(".badge");
    badge.textContent = image.state === "done" ? String(image.result.faces.length) : image.state === "failed" ? "!" : "…";
    button.setAttribute("aria-label", text("imageLabel", image.name, stateOf(image)));
    button.title = image.name;
  }
}

/** Returns how far an image is, in words. */
export function stateOf(image) {
  if (image.state === "done") return text("faces", image.result.faces.length);
  return text({ waiting: "waiting", reading: "reading", busy: "busyWaiting", failed: "failed" }[image.state]);
}
