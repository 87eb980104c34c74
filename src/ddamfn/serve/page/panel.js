// What is known of the chosen face: its answer, a bar for each expression, and the attention maps.

import { drawAligned, isEven, mapOf, rangeOf } from "./attention.js";
import { byId, element, mark, radioButton, radioGroup } from "./dom.js";
import { expressionColor } from "./palette.js";
import { shownConfidence } from "./stage.js";
import { expressionName, percent, text } from "./texts.js";

/** Shows one face; calls `onStep` with the index of another face. */
export class Panel {
  #stage;
  #image = null;
  #choice = "none";
  #drawn = new Map();
  #drawnFor = null;

  constructor(stage, cropSide, onStep) {
    this.#stage = stage;
    this.cropSide = cropSide;
    const step = (by) => {
      const { face, result } = this.#image;
      onStep((face + by + result.faces.length) % result.faces.length);
    };
    byId("previous").addEventListener("click", () => step(-1));
    byId("next").addEventListener("click", () => step(1));
    byId("opacity").addEventListener("input", () => this.#overlay());
    radioGroup(byId("tiles"), (tile) => {
      this.#choice = tile.dataset.choice;
      this.#overlay();
    });
  }

  /** The chosen face, or undefined. */
  get face() {
    return this.#image?.result?.faces[this.#image.face];
  }

  /** What lies over the image: the drawn map and its opacity; null if nothing does. */
  get overlaid() {
    if (this.#choice === "none" || !this.#drawn.has(this.#choice)) return null;
    return { canvas: this.#drawn.get(this.#choice), face: this.face, opacity: byId("opacity").value / 100 };
  }

  render(image) {
    this.#image = image;
    const { face } = this;
    const all = image?.result?.faces.length ?? 0;
    byId("face-title").textContent = face ? text("faceTitle", image.face + 1, all) : text("faceTitleNone");
    byId("face-hint").textContent = all > 1 ? text("faceHintMany") : face ? "" : text("faceHintNone");
    byId("steps").hidden = all < 2;
    byId("face").hidden = !face;
    if (!face) {
      this.#drawn.clear();
      this.#drawnFor = null;
      this.#stage.overlay(null);
      return;
    }
    this.#answer(face);
    this.#bars(face);
    byId("attention").hidden = !face.attention;
    if (face.attention) this.#attention(face);
  }

  #answer(face) {
    const uncertain = face.expression === "uncertain";
    byId("answer").textContent = expressionName(face.expression);
    byId("confidence").textContent = uncertain ? "" : text("confidence", shownConfidence(face));
    const likeliest = likeliestOf(face);
    byId("withheld").textContent = uncertain
      ? text("withheld", expressionName(likeliest), percent(face.probabilities[likeliest]))
      : "";
  }

  #bars(face) {
    const likeliest = likeliestOf(face);
    const rows = Object.entries(face.probabilities).map(([name, probability]) => {
      const fill = element("span", { className: "fill" });
      fill.style.width = `${100 * probability}%`;
      fill.style.setProperty("--color", expressionColor(name));
      const bar = element("span", { className: "bar" }, fill);
      bar.setAttribute("aria-hidden", "true");
      const row = element("li", {}, element("span", { className: "name", textContent: expressionName(name) }), bar);
      row.append(element("span", { className: "value", textContent: percent(probability) }));
      row.classList.toggle("likeliest", name === likeliest);
      return row;
    });
    byId("bars").replaceChildren(...rows);
  }

  #attention(face) {
    const heads = face.attention.length;
    const names = { none: text("none") };
    for (let head = 0; head < heads; head += 1) names[head] = text("head", head + 1);
    if (heads > 1) names.both = text("both", heads);
    // Numbers come first in an object, whatever was put in first.
    const choices = ["none", ...Array.from({ length: heads }, (_, head) => String(head)), ...(heads > 1 ? ["both"] : [])];
    if (!choices.includes(this.#choice)) this.#choice = "none";
    this.#makeTiles(choices, names);
    this.#draw(face, choices);
    const digits = isEven(face) ? 3 : 2;
    const ranges = face.attention.map((map, head) => {
      const [low, high] = rangeOf(map).map((value) => value.toFixed(digits));
      return text("range", names[head], low, high);
    });
    byId("attention-note").textContent =
      (isEven(face) ? `${text("attentionEven")} ` : "") + text("attentionNote", ranges.join(text("join")));
    this.#overlay();
  }

  #makeTiles(choices, names) {
    const group = byId("tiles");
    const made = [...group.children].map((tile) => tile.dataset.choice);
    if (made.join() !== choices.join()) {
      group.replaceChildren(
        ...choices.map((choice) => {
          const tile = radioButton("tile", element("span", { className: "drawn" }), element("span", { className: "name" }));
          tile.dataset.choice = choice;
          return tile;
        }),
      );
    }
    for (const tile of group.children) tile.querySelector(".name").textContent = names[tile.dataset.choice];
  }

  /** Draws the aligned face and its maps once for each face. */
  #draw(face, choices) {
    const img = this.#stage.isShown ? this.#stage.img : null;
    if (this.#drawnFor?.face === face && this.#drawnFor.img === img) return;
    this.#drawnFor = { face, img };
    this.#drawn.clear();
    for (const choice of choices) {
      this.#drawn.set(choice, drawAligned(img, face, this.cropSide, mapOf(face, choice)));
    }
    for (const tile of byId("tiles").children) {
      tile.querySelector(".drawn").replaceChildren(this.#drawn.get(tile.dataset.choice));
    }
  }

  #overlay() {
    const tiles = [...byId("tiles").children];
    mark(tiles, tiles.find((tile) => tile.dataset.choice === this.#choice));
    byId("opacity").disabled = this.#choice === "none";
    byId("opacity-value").textContent = percent(byId("opacity").value / 100, 0);
    const { overlaid } = this;
    this.#stage.overlay(overlaid?.canvas ?? null, overlaid?.face, this.cropSide, overlaid?.opacity);
  }
}

function likeliestOf(face) {
  return Object.entries(face.probabilities).reduce((best, entry) => (entry[1] > best[1] ? entry : best))[0];
}
