// Colors: one for each expression, and a scale for attention. The same as in the images of the command line.

const EXPRESSIONS = {
  neutral: "#bec6d1", happiness: "#ffc83d", surprise: "#ff8a3d", sadness: "#5c9aff", anger: "#e83e36",
  disgust: "#68be5c", fear: "#9662f0", contempt: "#24bab2", uncertain: "#707882",
};
const OTHER = "#d678be";

/** On every expression's color these letters have a contrast of 4.5 and more. */
export const LETTERS = "#050607";
export const HAIR = "#1b1f24";

// "Inferno" (public domain, N. Smith and S. van der Walt): it rises evenly in lightness.
const STOPS = [
  [0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21], [250, 193, 39], [252, 255, 164],
];

/** Returns the color of an expression; names that are not known share one. */
export function expressionColor(name) {
  return EXPRESSIONS[name] ?? OTHER;
}

/** Returns red, green and blue, 0 to 255, of a value 0 to 1. */
export function heatColor(value) {
  const place = Math.min(Math.max(value, 0), 1) * (STOPS.length - 1);
  const lower = Math.min(Math.floor(place), STOPS.length - 2);
  return STOPS[lower].map((start, channel) => start + (STOPS[lower + 1][channel] - start) * (place - lower));
}
