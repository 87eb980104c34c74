// The server's interface. Every refusal becomes a `Refusal` of a kind that the page has words for.

const KINDS = { 400: "unreadable", 408: "busy", 413: "tooLarge", 415: "unreadable", 429: "busy", 503: "starting" };
const TRIES = 30;

/** Why something was not answered. `kind` names the page's text, `detail` is the server's own sentence. */
export class Refusal extends Error {
  constructor(kind, detail = "") {
    super(detail || kind);
    this.kind = kind;
    this.detail = detail;
  }
}

/** Asks the server; knows its limits and, in memory alone, the token. */
export class Api {
  #token = null;
  #asking = null;
  #askToken;

  /** `askToken(wrong)` resolves to a token, or to null if the user has none. */
  constructor(askToken) {
    this.#askToken = askToken;
    this.limits = null;
  }

  /** Returns what `/v1/models` says. */
  async models() {
    const answer = await (await this.#fetch("v1/models")).json();
    this.limits = answer.limits;
    return answer;
  }

  /**
   * Reads one image. `precision` is the wanted share of right answers or null, `prior` the expected mix or null for the
   * server's; `onWait` is told of a full queue.
   */
  async predict(file, { precision = null, prior = null, signal, onWait } = {}) {
    if (file.size === 0) throw new Refusal("empty");
    if (this.limits && file.size > this.limits.max_upload_bytes) throw new Refusal("tooLarge");
    const query = new URLSearchParams({ attention: "true" });
    if (precision !== null) query.set("min_precision", precision);
    if (prior !== null) query.set("class_prior", prior);
    for (let tried = 1; ; tried += 1) {
      const body = new FormData();
      body.append("file", file, file.name);
      try {
        const answer = await this.#fetch(`v1/predict?${query}`, { method: "POST", body, signal }, file);
        return await answer.json();
      } catch (error) {
        if (!["busy", "starting"].includes(error.kind) || tried === TRIES) throw error;
        onWait?.();
        // Different pauses, so that images that were refused together do not come back together.
        await new Promise((resolve) => setTimeout(resolve, error.pauseMs * (0.75 + Math.random() / 2)));
        if (signal?.aborted) throw error;
      }
    }
  }

  async #fetch(address, options = {}, file = null) {
    const used = this.#token;
    const headers = used === null ? {} : { Authorization: `Bearer ${used}` };
    let answer;
    try {
      answer = await fetch(address, { ...options, headers, cache: "no-store" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refusal(await this.#whyNoAnswer(file));
    }
    if (answer.ok) return answer;
    if (answer.status === 401) {
      await this.#renewToken(used);
      return this.#fetch(address, options, file);
    }
    const problem = await answer.json().catch(() => ({}));
    const refusal = new Refusal(KINDS[answer.status] ?? "refused", problem.detail ?? answer.statusText);
    refusal.pauseMs = 1000 * (Number(answer.headers.get("Retry-After")) || 1);
    throw refusal;
  }

  /** Tells a server that is gone from a file that can no longer be opened, or that the server would not take in. */
  async #whyNoAnswer(file) {
    try {
      await fetch("healthz", { cache: "no-store" });
    } catch {
      return "gone";
    }
    if (file === null) return "gone";
    const opens = await file.slice(0, 1).arrayBuffer().then(() => true, () => false);
    return opens ? "broken" : "moved";
  }

  async #renewToken(used) {
    // Several images may be refused at once; the user is asked once.
    if (this.#token === used) {
      this.#asking ??= this.#askToken(used !== null).finally(() => {
        this.#asking = null;
      });
      const token = await this.#asking;
      if (token === null) throw new Refusal("tokenNeeded");
      // What cannot stand in a header cannot be right: an empty token is refused, and asked for again.
      this.#token = /^[\x21-\x7e]+$/.test(token) ? token : "";
    }
  }
}
