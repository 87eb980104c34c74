// Search where the site is read from files: browsers start no worker there, so its script runs in a hidden frame instead.
// The theme would load a script for this from another machine, unless one is named in mkdocs.yml.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    #window;
    #loaded;

    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.#window = frame.contentWindow;
      this.#window.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = frame.contentDocument.createElement("script");
      this.#loaded = new Promise((done) => script.addEventListener("load", done));
      script.src = new URL(address, location);
      frame.contentDocument.body.append(script);
    }

    postMessage(data) {
      this.#loaded.then(() => this.#window.dispatchEvent(new this.#window.MessageEvent("message", { data })));
    }
  };
}
