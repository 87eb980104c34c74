// What the page says of itself: where images go, and how good the weights are.

import { byId } from "./dom.js";
import { count, expressionName, percent, text } from "./texts.js";

const LOOPBACK = ["localhost", "127.0.0.1", "[::1]"];
// Data sets as their papers write them.
const DATASETS = { affectnet: "AffectNet", ckplus: "CK+", fer2013: "FER2013", ferplus: "FERPlus", rafdb: "RAF-DB" };
// Expressions of which fewer were recognized on the test split are named.
const WEAK = 0.3;

/** Says where images go, and what the weights' card says; `model` is null until the server has told. */
export function describe(model) {
  const { hostname, host } = window.location;
  byId("privacy").textContent = LOOPBACK.includes(hostname) ? text("privacyLocal") : text("privacyRemote", host);
  if (!model) return;
  const [score] = model.scores;
  byId("weights-text").textContent = score
    ? text("weights", model.name, percent(score.accuracy), count(score.n), DATASETS[score.dataset] ?? score.dataset)
    : text("weightsPlain", model.name);
  const weak = Object.entries(score?.per_class_recall ?? {}).filter(([, recall]) => recall !== null && recall < WEAK);
  const list = weak.map(([name, recall]) => text("share", expressionName(name), percent(recall, 0)));
  byId("weights-weak").textContent = list.length > 0 ? text("weightsWeak", list.join(text("join"))) : "";
}
