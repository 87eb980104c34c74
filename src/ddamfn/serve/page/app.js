// Puts the parts of the page together.

import { describe } from "./about.js";
import { Api } from "./api.js";
import { Camera } from "./camera.js";
import { announce, byId, element } from "./dom.js";
import { annotated, save, stem, toCsv, toJson } from "./files.js";
import { takeIn } from "./intake.js";
import { Panel } from "./panel.js";
import { Images } from "./images.js";
import { shownConfidence, Stage } from "./stage.js";
import { stateOf, Strip } from "./strip.js";
import { expressionName, percent, switchLanguage, text, translate } from "./texts.js";
import { askToken } from "./token.js";

const PRECISIONS = [0.8, 0.85, 0.9, 0.95, 0.98, 0.99];
const PRIORS = { training: "priorTraining", uniform: "priorUniform" };
const CROP_SIDE_PX = 112;

const api = new Api(askToken);
const images = new Images(api);
const strip = new Strip(images);
const stage = new Stage({
  onShown: () => render(),
  onChoose: (index) => images.chooseFace(index),
  limits: () => api.limits,
});
const panel = new Panel(stage, CROP_SIDE_PX, (index) => images.chooseFace(index));
const camera = new Camera((file) => addFiles([file]));
let model = null;

function render() {
  const { all, current } = images;
  byId("workspace").hidden = all.length === 0;
  byId("intake").classList.toggle("compact", all.length > 0);
  byId("remove-all").hidden = all.length < 2;
  byId("choose").textContent = text(all.length > 0 ? "chooseMore" : "choose");
  strip.render();
  stage.render(current);
  panel.render(current);
  const unfinished = all.some(({ state }) => state !== "done" && state !== "failed");
  byId("save-json").disabled = unfinished;
  byId("save-csv").disabled = unfinished || !model?.labels;
  byId("save-image").disabled = !current?.result;
  const gone = all.some(({ refusal }) => refusal?.kind === "gone") || model === "gone";
  if (byId("banner").hidden === gone) {
    byId("banner-text").textContent = gone ? `${text("goneTitle")}. ${text("goneText")}` : "";
    byId("banner").hidden = !gone;
  }
}

function renderTexts() {
  translate();
  byId("language").textContent = text("other");
  byId("language").setAttribute("aria-label", text("otherLabel"));
  byId("language").lang = text("other") === "English" ? "en" : "zh-CN";
  describe(typeof model === "object" ? model : null);
  renderPrecisions();
  renderPriors();
  camera.render();
  render();
}

function renderPrecisions() {
  // What was measured holds for the server's own mix.
  const highest = (images.prior === null && model?.highest_precision) || 0;
  byId("precision-block").hidden = highest === 0;
  const reached = PRECISIONS.filter((precision) => precision <= highest);
  const options = reached.map((precision) => element("option", { value: precision, textContent: percent(precision, 0) }));
  byId("precision").replaceChildren(element("option", { value: "", textContent: text("precisionOff") }), ...options);
  byId("precision").value = images.precision ?? "";
}

function renderPriors() {
  const servers = model?.class_prior;
  byId("prior-block").hidden = !servers;
  if (!servers) return;
  const choices = servers in PRIORS ? PRIORS : { [servers]: "priorServer", ...PRIORS };
  const options = Object.entries(choices).map(([value, key]) => element("option", { value, textContent: text(key, value) }));
  byId("prior").replaceChildren(...options);
  byId("prior").value = images.prior ?? servers;
}

function addFiles(files) {
  images.add(files);
  announce(text("reading"));
}

function tellRead({ detail: image }) {
  // The token may have been missing when the page asked first.
  if (image.result && !model?.labels) learnModel();
  const unfinished = images.all.some(({ state }) => state !== "done" && state !== "failed");
  if (image !== images.current && unfinished) return;
  const told = images.current;
  if (told.refusal) {
    announce(text("toldFailed", told.name, text(`${told.refusal.kind}Title`)));
  } else if (told.result) {
    const face = told.result.faces[told.face];
    const answer = face ? text("faceLabel", told.face + 1, expressionName(face.expression), shownConfidence(face)) : "";
    announce(text("told", told.name, stateOf(told), answer));
  }
}

async function learnModel() {
  try {
    [model] = (await api.models()).models;
    panel.cropSide = model.alignment.side_px;
  } catch (error) {
    model = error.kind === "gone" ? "gone" : null;
  }
  renderTexts();
}

async function retryGone() {
  if (model === null || model === "gone") await learnModel();
  images.again(({ refusal }) => refusal?.kind === "gone");
}

async function saveImage() {
  const image = images.current;
  await stage.settle();
  if (image !== images.current) return undefined;
  if (!stage.isShown) return announce(text("saveImageUnshown"));
  const blob = await annotated(stage.img, image, panel.overlaid, panel.cropSide);
  if (!blob) return announce(text("saveFailed"));
  return save(blob, `${stem(image.name)}-annotated.${blob.type === "image/jpeg" ? "jpg" : "png"}`);
}

function removeCurrent() {
  const { name } = images.current;
  images.remove(images.current);
  announce(text("removed", name));
  // The focus must not vanish with what it was on.
  if (images.all.length === 0) byId("choose").focus();
  else if (!strip.focus()) byId("remove").focus();
}

images.addEventListener("change", render);
images.addEventListener("read", tellRead);
takeIn(addFiles);
byId("language").addEventListener("click", () => {
  switchLanguage();
  renderTexts();
});
byId("remove").addEventListener("click", removeCurrent);
byId("remove-all").addEventListener("click", () => {
  for (const image of [...images.all]) images.remove(image);
  byId("choose").focus();
});
byId("retry").addEventListener("click", () => images.again((image) => image === images.current));
byId("banner-retry").addEventListener("click", retryGone);
byId("precision").addEventListener("change", ({ target }) => {
  images.precision = target.value === "" ? null : Number(target.value);
  images.again(() => true);
});
byId("prior").addEventListener("change", ({ target }) => {
  images.prior = target.value === model.class_prior ? null : target.value;
  if (images.prior !== null) images.precision = null;
  renderPrecisions();
  images.again(() => true);
});
byId("save-json").addEventListener("click", () => {
  save(new Blob([toJson(images.all)], { type: "application/json" }), "expressions.json");
});
byId("save-csv").addEventListener("click", () => {
  save(new Blob([toCsv(images.all, model.labels)], { type: "text/csv" }), "expressions.csv");
});
byId("save-image").addEventListener("click", saveImage);

renderTexts();
learnModel();
