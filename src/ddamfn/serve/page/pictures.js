// The pictures of the page and what was read from them. Everything is in memory, and gone with the page.

import { Refusal } from "./api.js";
import { upright } from "./upright.js";

const AT_ONCE = 4;
const THUMB_PX = 128;

/** One picture: `state` is "waiting", "busy", "reading", "done" or "failed". */
class Picture {
  static #count = 0;

  constructor(file) {
    this.id = `picture-${(Picture.#count += 1)}`;
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

/** The collection; sends "change" (something about a picture) and "read" (a picture was answered or refused). */
export class Pictures extends EventTarget {
  #api;
  #active = 0;
  #thumbs = Promise.resolve();

  constructor(api) {
    super();
    this.#api = api;
    this.all = [];
    this.current = null;
    this.precision = null;
  }

  /** Takes files in and reads them; the first of them is shown. */
  add(files) {
    const added = files.map((file) => new Picture(file));
    this.all.push(...added);
    this.current = added[0] ?? this.current;
    for (const picture of added) this.#thumbs = this.#thumbs.then(() => this.#prepare(picture));
    this.#changed();
    this.#work();
  }

  /** Shows another picture. */
  show(picture) {
    this.current = picture;
    this.#changed();
  }

  /** Chooses a face of the shown picture. */
  chooseFace(index) {
    this.current.face = index;
    this.#changed();
  }

  /** Forgets a picture. */
  remove(picture) {
    const place = this.all.indexOf(picture);
    picture.abort.abort();
    if (picture.url) URL.revokeObjectURL(picture.url);
    this.all.splice(place, 1);
    if (this.current === picture) this.current = this.all[Math.min(place, this.all.length - 1)] ?? null;
    this.#changed();
  }

  /** Reads those pictures again that the test accepts. */
  again(test) {
    for (const picture of this.all.filter(test)) {
      picture.abort.abort();
      picture.abort = new AbortController();
      picture.state = "waiting";
      picture.refusal = null;
    }
    this.#changed();
    this.#work();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }

  #work() {
    for (const picture of this.all.filter(({ state }) => state === "waiting")) {
      if (this.#active >= AT_ONCE) return;
      this.#active += 1;
      this.#read(picture).finally(() => {
        this.#active -= 1;
        this.#work();
      });
    }
  }

  async #read(picture) {
    const { signal } = picture.abort;
    picture.state = "reading";
    this.#changed();
    const onWait = () => {
      picture.state = "busy";
      this.#changed();
    };
    try {
      const result = await this.#api.predict(picture.file, { precision: this.precision, signal, onWait });
      if (signal.aborted) return;
      Object.assign(picture, { state: "done", result, refusal: null });
      picture.face = Math.min(picture.face, Math.max(result.faces.length - 1, 0));
    } catch (error) {
      if (signal.aborted) return;
      const refusal = error instanceof Refusal ? error : new Refusal("refused", String(error));
      Object.assign(picture, { state: "failed", result: null, refusal });
    }
    this.#changed();
    this.dispatchEvent(new CustomEvent("read", { detail: picture }));
  }

  // One after the other: a decoded photograph takes up to hundreds of megabytes.
  async #prepare(picture) {
    if (!this.all.includes(picture)) return;
    const shown = await upright(picture.file).catch(() => picture.file);
    if (!this.all.includes(picture)) return;
    picture.url = URL.createObjectURL(shown);
    this.#changed();
    // A browser that does not show the picture has no thumbnail of it; the server may read it all the same.
    picture.thumb = await shrink(shown).catch(() => null);
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
