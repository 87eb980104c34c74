// Results as files: JSON and CSV in the form of `ddamfn predict`, and the image with its faces marked.

import { backToImage } from "./attention.js";
import { placeLabels } from "./labels.js";
import { expressionColor, HAIR, LETTERS } from "./palette.js";
import { labelTexts } from "./stage.js";

const POINTS = ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"];
// Images smaller than this are enlarged before drawing: no letter is readable on a face of 40 pixels.
const SMALLEST_SIDE_PX = 480;
const LARGEST_FACTOR = 8;

/** Returns one image's result; one that was refused has `error`, and is not lost. */
function resultOf({ name, result, refusal }) {
  return result ?? { source: name, width: null, height: null, faces: [], error: refusal.detail || refusal.kind };
}

/** Returns the JSON of images: an object for a single one, else a list with one line per image. */
export function toJson(images) {
  const lines = images.map((image) => JSON.stringify(resultOf(image)));
  return lines.length === 1 ? `${lines[0]}\n` : `[\n${lines.join(",\n")}\n]\n`;
}

/** Returns the CSV of images: a row per face, and one for each image without any. `labels` name columns. */
export function toCsv(images, labels) {
  const points = POINTS.flatMap((name) => [`${name}_x`, `${name}_y`]);
  const named = labels.map((name) => `p_${name}`);
  const head = ["source", "face", "x1", "y1", "x2", "y2", "score", ...points, "roll_deg", "expression", "confidence", ...named, "error"];
  const rows = images.map(resultOf).flatMap((result) => {
    const error = result.error ?? "";
    if (result.faces.length === 0) return [[result.source, ...Array(head.length - 2).fill(""), error]];
    return result.faces.map((face, index) => [
      result.source, index, ...face.bbox, face.score, ...face.landmarks.flat(),
      face.roll_deg, face.expression, face.confidence, ...labels.map((name) => face.probabilities[name] ?? ""), error,
    ]);
  });
  return [head, ...rows].map((row) => `${row.map(quoted).join(",")}\n`).join("");
}

function quoted(value) {
  const plain = String(value);
  return /[",\r\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
}

/**
 * Draws the marked image in its full size; resolves to a blob, or to null if the browser cannot.
 * `overlaid` is the attention map that lies over it, or null.
 */
export function annotated(img, { file, result, face: chosen }, overlaid, cropSide) {
  const factor = Math.min(LARGEST_FACTOR, Math.ceil(SMALLEST_SIDE_PX / Math.max(result.width, result.height)));
  const canvas = document.createElement("canvas");
  canvas.width = result.width * factor;
  canvas.height = result.height * factor;
  const context = canvas.getContext("2d");
  if (!context) return Promise.resolve(null);
  context.imageSmoothingQuality = "high";
  context.drawImage(img, 0, 0, canvas.width, canvas.height);
  if (overlaid) {
    context.save();
    context.globalAlpha = overlaid.opacity;
    context.scale(factor, factor);
    context.transform(...backToImage(overlaid.face, cropSide));
    context.drawImage(overlaid.canvas, 0, 0, 1, 1);
    context.restore();
  }
  drawMarks(context, result, factor, chosen);
  const isJpeg = file.type === "image/jpeg";
  return new Promise((resolve) => {
    canvas.toBlob(resolve, isJpeg ? "image/jpeg" : "image/png", 0.95);
  });
}

function drawMarks(context, { width, height, faces }, factor, chosen) {
  const size = [width * factor, height * factor];
  const longer = Math.max(...size);
  const letters = Math.max(17, Math.round(longer * 0.024));
  context.textBaseline = "middle";
  const marks = faces.map((face) => {
    const box = face.bbox.map((value) => value * factor);
    const texts = labelTexts(face);
    const extents = texts.map((words) => {
      context.font = fontOf(letters);
      return [context.measureText(words).width + 0.9 * letters, 1.55 * letters];
    });
    return { box, texts, extents, color: expressionColor(face.expression) };
  });
  const line = (box) => Math.max(2, Math.min(longer / 320, Math.min(box[2] - box[0], box[3] - box[1]) / 18));
  for (const { box, color } of marks) drawBox(context, box, line(box), color);
  const labels = placeLabels(marks, size, Math.max(2, longer / 320) + 1, chosen);
  labels.forEach((label, index) => {
    if (!label) return;
    const [x1, y1, x2, y2] = label.place;
    context.fillStyle = marks[index].color;
    rounded(context, label.place, 0.28 * letters);
    context.fill();
    context.fillStyle = LETTERS;
    context.fillText(marks[index].texts[label.text], x1 + 0.45 * letters, (y1 + y2) / 2, x2 - x1);
  });
}

function drawBox(context, box, line, color) {
  const radius = 0.06 * Math.min(box[2] - box[0], box[3] - box[1]) + line;
  // A dark hair-line around the color keeps the box visible on a background of the same color.
  for (const [style, width] of [[HAIR, line + 2 * Math.max(1, line / 3)], [color, line]]) {
    context.strokeStyle = style;
    context.lineWidth = width;
    rounded(context, box, radius);
    context.stroke();
  }
}

function rounded(context, [x1, y1, x2, y2], radius) {
  context.beginPath();
  context.roundRect(x1, y1, x2 - x1, y2 - y1, radius);
}

function fontOf(size) {
  return `600 ${size}px ${getComputedStyle(document.body).fontFamily}`;
}

/** Returns a file's name without its ending. */
export function stem(name) {
  return name.replace(/\.[^.]+$/, "");
}

/** Has the browser save a blob under a name. */
export function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  // The browser reads the blob after this function has ended.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
