// The camera: on only after the user has started it, off as soon as an image is taken or the window is closed.

import { announce, byId, element } from "./dom.js";
import { text } from "./texts.js";

const PROBLEMS = { NotAllowedError: "cameraDenied", NotFoundError: "cameraMissing", OverconstrainedError: "cameraMissing" };

/** The window of the camera; calls `onTaken` with the image as a file. */
export class Camera {
  #stream = null;
  #taken = 0;
  #started = 0;

  constructor(onTaken) {
    const dialog = byId("camera");
    byId("camera-open").addEventListener("click", () => this.#open());
    byId("camera-start").addEventListener("click", () => this.#start());
    byId("camera-stop").addEventListener("click", () => (this.#stream ? this.#stop() : dialog.close()));
    byId("camera-device").addEventListener("change", (event) => this.#start(event.target.value));
    byId("camera-take").addEventListener("click", async () => {
      const file = await this.#take();
      dialog.close();
      if (file) onTaken(file);
    });
    // Also after Escape, and where the page is left.
    dialog.addEventListener("close", () => this.#stop());
    window.addEventListener("pagehide", () => this.#stop());
  }

  #open() {
    this.#tell(null);
    this.render();
    byId("camera").showModal();
    byId("camera-start").focus();
  }

  async #start(deviceId) {
    this.#stop();
    const started = (this.#started += 1);
    this.#tell(null);
    // Pages that are not secure have no `mediaDevices` at all.
    if (!navigator.mediaDevices) return this.#tell("cameraInsecure");
    const wanted = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "user" };
    try {
      const video = { ...wanted, width: { ideal: 1280 }, height: { ideal: 720 } };
      const stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
      // The window may have been closed while the browser asked.
      if (!byId("camera").open || started !== this.#started) return stream.getTracks().forEach((track) => track.stop());
      this.#stream = stream;
      byId("camera-view").srcObject = stream;
      await byId("camera-view").play();
    } catch (error) {
      this.#stop();
      return this.#tell(PROBLEMS[error.name] ?? "cameraBroken");
    }
    this.render();
    byId("camera-take").focus();
    announce(text("cameraRunning"));
    return this.#listDevices();
  }

  #stop() {
    this.#started += 1;
    if (this.#stream) {
      this.#stream.getTracks().forEach((track) => track.stop());
      announce(text("cameraStopped"));
      byId("camera-start").focus();
    }
    this.#stream = null;
    byId("camera-view").srcObject = null;
    this.render();
  }

  async #take() {
    const view = byId("camera-view");
    const canvas = element("canvas", { width: view.videoWidth, height: view.videoHeight });
    canvas.getContext("2d").drawImage(view, 0, 0);
    const blob = await new Promise((resolve) => {
      canvas.toBlob(resolve, "image/jpeg", 0.95);
    });
    this.#taken += 1;
    return blob && new File([blob], `camera-${this.#taken}.jpg`, { type: "image/jpeg" });
  }

  async #listDevices() {
    const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
    const used = this.#stream?.getVideoTracks()[0]?.getSettings().deviceId;
    byId("camera-choice").hidden = cameras.length < 2 || !this.#stream;
    byId("camera-device").replaceChildren(
      ...cameras.map(({ deviceId, label }) =>
        element("option", { value: deviceId, textContent: label, selected: deviceId === used }),
      ),
    );
  }

  #tell(problem) {
    byId("camera-problem").hidden = problem === null;
    byId("camera-problem").textContent = problem === null ? "" : text(problem);
  }

  /** Shows the buttons that make sense now. */
  render() {
    const isOn = this.#stream !== null;
    const view = byId("camera-view");
    view.hidden = !isOn;
    view.setAttribute("aria-label", text("cameraView"));
    // People expect a mirror of themselves; a camera that looks away from them must not swap left and right.
    const facing = this.#stream?.getVideoTracks()[0].getSettings().facingMode;
    view.classList.toggle("mirrored", facing !== "environment");
    byId("camera-start").hidden = isOn;
    byId("camera-take").hidden = !isOn;
    byId("camera-choice").hidden ||= !isOn;
    byId("camera-stop").textContent = text(isOn ? "cameraStop" : "cameraClose");
  }
}
