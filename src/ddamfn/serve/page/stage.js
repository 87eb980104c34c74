// The shown picture with its faces boxed, and what there is to say where it has none.

import { backToPicture } from "./attention.js";
import { byId, element, mark, radioButton, radioGroup } from "./dom.js";
import { placeLabels } from "./labels.js";
import { expressionColour } from "./palette.js";
import { stateOf } from "./strip.js";
import { count, expressionName, percent, text } from "./texts.js";

const LARGEST_ZOOM = 4;
const LABEL_GAP_PX = 5;
const CROWD = 12;

/** Shows one picture; calls `onShown` when the browser has it, and `onChoose` with a face's index. */
export class Stage {
  #picture = null;
  #url = null;
  #result = null;
  #buttons = [];
  #limits = () => null;

  constructor({ onShown, onChoose, limits }) {
    this.#limits = limits;
    this.image = byId("picture");
    this.image.addEventListener("load", () => {
      this.#resize();
      onShown();
    });
    this.image.addEventListener("error", () => {
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

  /** Tells whether the browser shows the picture, so that it can be drawn elsewhere. */
  get isShown() {
    return this.image.complete && this.image.naturalWidth > 0 && !byId("frame").classList.contains("unshown");
  }

  /** Waits until the browser shows the picture, or has found that it cannot: `isShown` tells. */
  async settle() {
    // Decoding is also broken off by the picture being turned upright, which loads another; hence the loop.
    while (!this.image.complete) await this.image.decode().catch(() => {});
  }

  render(picture) {
    this.#picture = picture;
    if (picture?.url !== this.#url) this.#load(picture?.url ?? null);
    // Also without a picture: the faces of the last one must go.
    if ((picture?.result ?? null) !== this.#result) this.#makeFaces(picture?.result ?? null);
    if (!picture) return;
    // Shown in another way than it was read: boxes would stand beside the faces.
    if (picture.result && this.isShown && !this.#isAsRead(picture.result)) byId("frame").classList.add("unshown");
    this.#resize();
    this.#buttons.forEach((button, index) => this.#describe(button, picture.result.faces[index], index));
    mark(this.#buttons, this.#buttons[picture.face]);
    byId("faces").setAttribute("aria-label", text("facesIn", picture.name));
    byId("faces").hidden = this.#buttons.length === 0;
    byId("frame").dataset.state = picture.state;
    this.image.alt = text("pictureAlt", picture.name);
    const [width, height] = this.#size();
    byId("caption").textContent = width ? text("caption", picture.name, width, height, stateOf(picture)) : picture.name;
    this.#explain(picture);
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
    heat.setAttribute("transform", `matrix(${backToPicture(face, cropSide).join(" ")})`);
    heat.setAttribute("opacity", opacity);
  }

  #isAsRead({ width, height }) {
    return width === this.image.naturalWidth && height === this.image.naturalHeight;
  }

  #load(url) {
    this.#url = url;
    byId("frame").classList.remove("unshown");
    byId("layer").classList.add("empty");
    if (url) this.image.src = url;
    else this.image.removeAttribute("src");
  }

  #size() {
    const result = this.#result;
    return result ? [result.width, result.height] : [this.image.naturalWidth, this.image.naturalHeight];
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
    button.style.setProperty("--colour", expressionColour(face.expression));
    button.setAttribute("aria-label", text("faceLabel", index + 1, expressionName(face.expression), confidence));
  }

  /** Says in the picture's place why nothing was read, or below it that there is no face. */
  #explain(picture) {
    const { refusal, state, result } = picture;
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
    const texts = faces.map((face, index) => labelTexts(face, faces.length > CROWD && index !== this.#picture.face));
    const marks = faces.map((face, index) => ({
      box: face.bbox.map((value) => value * scale),
      extents: texts[index].map((words) => measure(labels[index], words)),
    }));
    const found = placeLabels(marks, [frame.clientWidth, frame.clientHeight], LABEL_GAP_PX, this.#picture.face);
    labels.forEach((label, index) => {
      const { box } = marks[index];
      // A thick line would hide a small face.
      const thickest = index === this.#picture.face ? 4 : 2;
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
