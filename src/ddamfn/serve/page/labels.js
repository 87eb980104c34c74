// Where labels may stand beside their faces: inside the image, clear of each other and of other faces.

// A label may hide this share of another face at most.
const MOST_HIDDEN = 0.15;

/**
 * Finds a place for each label, those asked for `first` before the others, then the largest faces.
 *
 * `marks`: { box: [x1, y1, x2, y2], extents: [[width, height], ...] }, its texts' sizes, best text first.
 * Returns for each mark { text: index of the extent, place: [x1, y1, x2, y2] }, or null where there is no room.
 */
export function placeLabels(marks, size, gap, first = -1) {
  const found = marks.map(() => null);
  const taken = [];
  const rank = (index) => (index === first ? Infinity : area(marks[index].box));
  const order = marks.map((_, index) => index).sort((one, other) => rank(other) - rank(one));
  for (const index of order) {
    const others = marks.filter((_, other) => other !== index).map((mark) => mark.box);
    found[index] = find(marks[index], others, taken, size, gap);
    if (found[index]) taken.push(found[index].place);
  }
  return found;
}

function find(mark, others, taken, size, gap) {
  for (const [text, extent] of mark.extents.entries()) {
    const hidden = (place) => Math.max(0, ...others.map((box) => overlap(place, box) / area(box)));
    const free = places(mark.box, extent, size, gap).filter((place) => taken.every((other) => !overlap(place, other)));
    const best = free.sort((one, other) => hidden(one) - hidden(other))[0];
    if (best && hidden(best) <= MOST_HIDDEN) return { text, place: best };
  }
  return null;
}

/** Lists where a label may stand, best first: above the box, below, beside it, and last inside. */
function places([left, top, right, bottom], [width, height], size, gap) {
  if (width > size[0] || height > size[1]) return [];
  const inX = (x) => Math.min(Math.max(x, 0), size[0] - width);
  const inY = (y) => Math.min(Math.max(y, 0), size[1] - height);
  const middle = (left + right - width) / 2;
  const corners = [top - height - gap, bottom + gap].flatMap((y) => [left, middle, right - width].map((x) => [x, y]));
  corners.push(...[right + gap, left - width - gap].flatMap((x) => [top, bottom - height].map((y) => [x, y])));
  const rectangle = (x, y) => [x, y, x + width, y + height];
  const outside = corners
    .filter(([, y]) => y >= 0 && y <= size[1] - height)
    .map(([x, y]) => rectangle(inX(x), y))
    .filter((place) => !overlap(place, [left, top, right, bottom]));
  // Inside only where it leaves most of the face to be seen.
  if (3 * height > bottom - top) return outside;
  return [...outside, ...[top + gap, bottom - height - gap].map((y) => rectangle(inX(middle), inY(y)))];
}

function overlap(one, other) {
  const width = Math.min(one[2], other[2]) - Math.max(one[0], other[0]);
  const height = Math.min(one[3], other[3]) - Math.max(one[1], other[1]);
  return Math.max(width, 0) * Math.max(height, 0);
}

function area(box) {
  return (box[2] - box[0]) * (box[3] - box[1]);
}
