// The images of the page and what was read from them. Everything is in memory, and gone with the page.

import { Refusal } from "./api.js";
import { upright } from "./upright.js";

const AT_ONCE = 4;
const THUMB_PX = 128;

/** One image: `state` is "waiting", "busy", "reading", "done" or "failed". */
class UploadedImage {
  static #count = 0;

  constructor(file) {
    this.id = `image-${(UploadedImage.#count += 1)}`;
    this.file = file;
    this.name = file.name;
    this.url = null;
    this.state = "waiting";
    this.result = null;
    this.refusal = null;
    this.face = 0;
    this.thumb = null;
    this.abort = new AbortController();
  }
}

/** The collection; sends "change" (something about an image) and "read" (an image was answered or refused). */
export class Images extends EventTarget {
  #api;
  #active = 0;
  #thumbs = Promise.resolve();

  constructor(api) {
    super();
    this.#api = api;
    this.all = [];
    this.current = null;
    this.precision = null;
    this.prior = null;
  }

  /** Takes files in and reads them; the first of them is shown. */
  add(files) {
    const added = files.map((file) => new UploadedImage(file));
    this.all.push(...added);
    this.current = added[0] ?? this.current;
    for (const image of added) this.#thumbs = this.#thumbs.then(() => this.#prepare(image));
    this.#changed();
    this.#work();
  }

  /** Shows another image. */
  show(image) {
    this.current = image;
    this.#changed();
  }

  /** Chooses a face of the shown image. */
  chooseFace(index) {
    this.current.face = index;
    this.#changed();
  }

  /** Forgets an image. */
  remove(image) {
    const place = this.all.indexOf(image);
    image.abort.abort();
    if (image.url) URL.revokeObjectURL(image.url);
    this.all.splice(place, 1);
    if (this.current === image) this.current = this.all[Math.min(place, this.all.length - 1)] ?? null;
    this.#changed();
  }

  /** Reads those images again that the test accepts. */
  again(test) {
    for (const image of this.all.filter(test)) {
      image.abort.abort();
      image.abort = new AbortController();
      image.state = "waiting";
      image.refusal = null;
    }
    this.#changed();
    this.#work();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }

  #work() {
    for (const image of this.all.filter(({ state }) => state === "waiting")) {
      if (this.#active >= AT_ONCE) return;
      this.#active += 1;
      this.#read(image).finally(() => {
        this.#active -= 1;
        this.#work();
      });
    }
  }

  async #read(image) {
    const { signal } = image.abort;
    image.state = "reading";
    this.#changed();
    const onWait = () => {
      image.state = "busy";
      this.#changed();
    };
    try {
      const { precision, prior } = this;
      const result = await this.#api.predict(image.file, { precision, prior, signal, onWait });
      if (signal.aborted) return;
      Object.assign(image, { state: "done", result, refusal: null });
      image.face = Math.min(image.face, Math.max(result.faces.length - 1, 0));
    } catch (error) {
      if (signal.aborted) return;
      const refusal = error instanceof Refusal ? error : new Refusal("refused", String(error));
      Object.assign(image, { state: "failed", result: null, refusal });
    }
    this.#changed();
    this.dispatchEvent(new CustomEvent("read", { detail: image }));
  }

  // One after the other: a decoded photograph takes up to hundreds of megabytes.
  async #prepare(image) {
    if (!this.all.includes(image)) return;
    const shown = await upright(image.file).catch(() => image.file);
    if (!this.all.includes(image)) return;
    image.url = URL.createObjectURL(shown);
    this.#changed();
    // A browser that does not show the image has no thumbnail of it; the server may read it all the same.
    image.thumb = await shrink(shown).catch(() => null);
    this.#changed();
  }
}

async function shrink(file) {
  const bitmap = await createImageBitmap(file);
  const scale = THUMB_PX / Math.min(bitmap.width, bitmap.height);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = THUMB_PX;
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  context.drawImage(bitmap, (THUMB_PX - width) / 2, (THUMB_PX - height) / 2, width, height);
  bitmap.close();
  return canvas;
}
