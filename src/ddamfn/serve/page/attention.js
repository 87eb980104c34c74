// Attention maps on the aligned face, and the way back to the image.

import { heatColor } from "./palette.js";

// A map flatter than this has no place of interest; stretching it would paint rounding noise as if it were attention.
const FLAT = 1e-3;
const [WEAKEST, STRONGEST] = [0.35, 0.75];
// Below this range a map says so little that the page tells it.
const EVEN = 0.05;
const SIDE_PX = 224;

/** Returns the map of a choice: "none" gives null, a number that head, "both" the largest value at every place. */
export function mapOf(face, choice) {
  if (choice === "none" || !face.attention) return null;
  if (choice !== "both") return face.attention[Number(choice)];
  return face.attention[0].map((row, y) => row.map((_, x) => Math.max(...face.attention.map((map) => map[y][x]))));
}

/** Returns the smallest and the largest value of a map. */
export function rangeOf(map) {
  const values = map.flat();
  return [Math.min(...values), Math.max(...values)];
}

/** Tells whether all maps of a face are almost even. */
export function isEven(face) {
  return face.attention.every((map) => rangeOf(map)[1] - rangeOf(map)[0] < EVEN);
}

/** Draws the aligned face of an image, with a map over it or none; returns a square canvas. */
export function drawAligned(img, face, cropSide, map) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE_PX;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const [[a, c, e], [b, d, f]] = face.matrix;
  const scale = SIDE_PX / cropSide;
  context.imageSmoothingQuality = "high";
  context.setTransform(a * scale, b * scale, c * scale, d * scale, e * scale, f * scale);
  if (img) context.drawImage(img, 0, 0);
  if (map) color(context, map);
  return canvas;
}

/** Returns the transform that takes the aligned face, as a square of side 1, back to the image: a b c d e f. */
export function backToImage(face, cropSide) {
  const [[a, c, e], [b, d, f]] = face.matrix;
  const inverse = new DOMMatrix([a, b, c, d, e, f]).inverse().scale(cropSide);
  return [inverse.a, inverse.b, inverse.c, inverse.d, inverse.e, inverse.f];
}

/** Lays a map over the face in a canvas; the face turns gray, so that every color that is seen is attention. */
function color(context, map) {
  const pixels = context.getImageData(0, 0, SIDE_PX, SIDE_PX);
  const values = enlarge(map, SIDE_PX);
  values.forEach((value, index) => {
    const at = 4 * index;
    const [red, green, blue] = pixels.data.slice(at, at + 3);
    const gray = 0.299 * red + 0.587 * green + 0.114 * blue;
    const strength = WEAKEST + (STRONGEST - WEAKEST) * value;
    heatColor(value).forEach((level, channel) => {
      pixels.data[at + channel] = gray * (1 - strength) + level * strength;
    });
    pixels.data[at + 3] = 255;
  });
  context.putImageData(pixels, 0, 0);
}

/** Returns a map smoothly enlarged to a square, row by row, its range stretched to 0 to 1. */
export function enlarge(map, side) {
  const [low, high] = rangeOf(map);
  if (high - low < FLAT) return new Float64Array(side * side).fill(0.5);
  const [across, down] = [weights(map[0].length, side), weights(map.length, side)];
  const rows = map.map((row) => across.map((taps) => taps.reduce((sum, [at, weight]) => sum + weight * row[at], 0)));
  const result = new Float64Array(side * side);
  for (let y = 0; y < side; y += 1) {
    for (let x = 0; x < side; x += 1) {
      const value = down[y].reduce((sum, [at, weight]) => sum + weight * rows[at][x], 0);
      result[y * side + x] = Math.min(Math.max((value - low) / (high - low), 0), 1);
    }
  }
  return result;
}

/** Returns for each place of the enlarged line which values it is mixed of: cubic convolution, a = -0.5, as Pillow's. */
function weights(length, side) {
  const cubic = (t) => {
    const x = Math.abs(t);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
  };
  return Array.from({ length: side }, (_, place) => {
    const center = ((place + 0.5) * length) / side - 0.5;
    const taps = [];
    for (let at = Math.floor(center) - 1; at <= Math.floor(center) + 2; at += 1) {
      if (at >= 0 && at < length) taps.push([at, cubic(center - at)]);
    }
    const sum = taps.reduce((total, [, weight]) => total + weight, 0);
    return taps.map(([at, weight]) => [at, weight / sum]);
  });
}
