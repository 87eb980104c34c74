// The shown image with its faces boxed, and what there is to say where it has none.

import { backToImage } from "./attention.js";
import { byId, element, mark, radioButton, radioGroup } from "./dom.js";
import { placeLabels } from "./labels.js";
import { expressionColor } from "./palette.js";
import { stateOf } from "./strip.js";
import { count, expressionName, percent, text } from "./texts.js";

const LARGEST_ZOOM = 4;
const LABEL_GAP_PX = 5;
const CROWD = 12;

/** Shows one image; calls `onShown` when the browser has it, and `onChoose` with a face's index. */
export class Stage {
  #image = null;
  #url = null;
  #result = null;
  #buttons = [];
  #limits = () => null;

  constructor({ onShown, onChoose, limits }) {
    this.#limits = limits;
    this.img = byId("image");
    this.img.addEventListener("load", () => {
      this.#resize();
      onShown();
    });
    this.img.addEventListener("error", () => {
      byId("frame").classList.add("unshown");
      onShown();
    });
    const readingOrder = () => {
      const middle = (button) => this.#result.faces[button.dataset.face].bbox;
      return [...this.#buttons].sort((one, other) => middle(one)[0] - middle(other)[0]);
    };
    radioGroup(byId("faces"), (button) => onChoose(Number(button.dataset.face)), readingOrder);
    new ResizeObserver(() => this.#placeLabels()).observe(byId("frame"));
  }

  /** Tells whether the browser shows the image, so that it can be drawn elsewhere. */
  get isShown() {
    return this.img.complete && this.img.naturalWidth > 0 && !byId("frame").classList.contains("unshown");
  }

  /** Waits until the browser shows the image, or has found that it cannot: `isShown` tells. */
  async settle() {
    // Decoding is also broken off by the image being turned upright, which loads another; hence the loop.
    while (!this.img.complete) await this.img.decode().catch(() => {});
  }

  render(image) {
    this.#image = image;
    if (image?.url !== this.#url) this.#load(image?.url ?? null);
    // Also without an image: the faces of the last one must go.
    if ((image?.result ?? null) !== this.#result) this.#makeFaces(image?.result ?? null);
    if (!image) return;
    // Shown in another way than it was read: boxes would stand beside the faces.
    if (image.result && this.isShown && !this.#isAsRead(image.result)) byId("frame").classList.add("unshown");
    this.#resize();
    this.#buttons.forEach((button, index) => this.#describe(button, image.result.faces[index], index));
    mark(this.#buttons, this.#buttons[image.face]);
    byId("faces").setAttribute("aria-label", text("facesIn", image.name));
    byId("faces").hidden = this.#buttons.length === 0;
    byId("frame").dataset.state = image.state;
    this.img.alt = text("imageAlt", image.name);
    const [width, height] = this.#size();
    byId("caption").textContent = width ? text("caption", image.name, width, height, stateOf(image)) : image.name;
    this.#explain(image);
    this.#placeLabels();
  }

  /** Lays a drawn map over the face, turned and scaled as the face is; null takes it away. */
  overlay(canvas, face, cropSide, opacity) {
    const layer = byId("layer");
    layer.classList.toggle("empty", !canvas);
    if (!canvas) return;
    layer.setAttribute("viewBox", `0 0 ${this.#size().join(" ")}`);
    const heat = byId("heat");
    heat.setAttribute("href", canvas.toDataURL());
    heat.setAttribute("width", "1");
    heat.setAttribute("height", "1");
    heat.setAttribute("transform", `matrix(${backToImage(face, cropSide).join(" ")})`);
    heat.setAttribute("opacity", opacity);
  }

  #isAsRead({ width, height }) {
    return width === this.img.naturalWidth && height === this.img.naturalHeight;
  }

  #load(url) {
    this.#url = url;
    byId("frame").classList.remove("unshown");
    byId("layer").classList.add("empty");
    if (url) this.img.src = url;
    else this.img.removeAttribute("src");
  }

  #size() {
    const result = this.#result;
    return result ? [result.width, result.height] : [this.img.naturalWidth, this.img.naturalHeight];
  }

  #resize() {
    const [width, height] = this.#size();
    if (!width) return;
    const frame = byId("frame");
    frame.style.aspectRatio = `${width} / ${height}`;
    frame.style.width = `min(100%, ${(66 * width) / height}vh, ${LARGEST_ZOOM * width}px)`;
  }

  #makeFaces(result) {
    this.#result = result;
    const faces = result?.faces ?? [];
    this.#buttons = faces.map((face, index) => {
      const button = radioButton("face", element("span", { className: "label" }));
      button.dataset.face = index;
      const [width, height] = this.#size();
      const [x1, y1, x2, y2] = face.bbox;
      Object.assign(button.style, {
        left: `${(100 * x1) / width}%`,
        top: `${(100 * y1) / height}%`,
        width: `${(100 * (x2 - x1)) / width}%`,
        height: `${(100 * (y2 - y1)) / height}%`,
      });
      return button;
    });
    byId("faces").replaceChildren(...this.#buttons);
  }

  #describe(button, face, index) {
    const confidence = shownConfidence(face);
    button.style.setProperty("--color", expressionColor(face.expression));
    button.setAttribute("aria-label", text("faceLabel", index + 1, expressionName(face.expression), confidence));
  }

  /** Says in the image's place why nothing was read, or below it that there is no face. */
  #explain(image) {
    const { refusal, state, result } = image;
    const unshown = byId("frame").classList.contains("unshown") && state === "done";
    const none = state === "done" && result.faces.length === 0;
    byId("message").hidden = !(refusal || none || unshown);
    byId("message").classList.toggle("refused", Boolean(refusal));
    byId("frame").hidden = Boolean(refusal) && byId("frame").classList.contains("unshown");
    byId("retry").hidden = !refusal || ["empty", "unreadable", "tooLarge", "moved"].includes(refusal.kind);
    const kind = refusal ? refusal.kind : none ? "noFace" : null;
    byId("message-title").textContent = kind ? text(`${kind}Title`) : "";
    byId("message-text").textContent = kind ? refusalText(kind, this.#limits()) : unshown ? text("unshown") : "";
    byId("message-detail").textContent = refusal?.detail ?? "";
  }

  #placeLabels() {
    if (this.#buttons.length === 0) return;
    const frame = byId("frame");
    const [width] = this.#size();
    const scale = frame.clientWidth / width;
    const faces = this.#result.faces;
    const measure = (label, words) => {
      label.textContent = words;
      return [label.offsetWidth, label.offsetHeight];
    };
    const labels = this.#buttons.map((button) => button.querySelector(".label"));
    // In a crowd, numbers would cover the faces.
    const texts = faces.map((face, index) => labelTexts(face, faces.length > CROWD && index !== this.#image.face));
    const marks = faces.map((face, index) => ({
      box: face.bbox.map((value) => value * scale),
      extents: texts[index].map((words) => measure(labels[index], words)),
    }));
    const found = placeLabels(marks, [frame.clientWidth, frame.clientHeight], LABEL_GAP_PX, this.#image.face);
    labels.forEach((label, index) => {
      const { box } = marks[index];
      // A thick line would hide a small face.
      const thickest = index === this.#image.face ? 4 : 2;
      this.#buttons[index].style.setProperty("--line", `${Math.min(thickest, Math.max(1.5, (box[2] - box[0]) / 14))}px`);
      label.classList.toggle("unplaced", !found[index]);
      if (!found[index]) return;
      const { text: chosen, place } = found[index];
      label.textContent = texts[index][chosen];
      label.style.left = `${place[0] - box[0]}px`;
      label.style.top = `${place[1] - box[1]}px`;
    });
  }
}

/** Returns a face's confidence in words; empty where it abstains: "uncertain 43 %" would say how sure it is not to know. */
export function shownConfidence(face) {
  return face.expression === "uncertain" ? "" : percent(face.confidence);
}

/** Returns what may be written beside a face, best first. */
export function labelTexts(face, short = false) {
  const name = expressionName(face.expression);
  const confidence = short || face.expression === "uncertain" ? "" : percent(face.confidence, 0);
  return confidence ? [`${name} ${confidence}`, name] : [name];
}

/** Returns what a user can do about a refusal. */
function refusalText(kind, limits) {
  if (kind !== "tooLarge") return text(`${kind}Text`);
  if (!limits) return "";
  return text("tooLargeText", count(limits.max_upload_bytes / 2 ** 20), count(limits.max_pixels / 1e6));
}
