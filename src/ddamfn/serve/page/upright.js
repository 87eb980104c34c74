// WebP images turned upright. The server obeys their EXIF orientation; browsers obey that of JPEG, PNG and AVIF alone.

const ORIENTATION = 0x0112;
// What the canvas has to do, by the tag's value: a b c d, in units of the upright image's sides.
const TURNS = {
  2: [-1, 0, 0, 1], 3: [-1, 0, 0, -1], 4: [1, 0, 0, -1], 5: [0, 1, 1, 0], 6: [0, 1, -1, 0], 7: [0, -1, -1, 0], 8: [0, -1, 1, 0],
};

/** Resolves to an image that every browser shows upright: the file itself, or a turned copy of it. */
export async function upright(file) {
  if (file.type !== "image/webp") return file;
  const bytes = new DataView(await file.arrayBuffer());
  const tag = findOrientation(bytes);
  const turn = tag && TURNS[bytes.getUint16(tag.at, tag.little)];
  if (!turn) return file;
  // A browser that does obey the tag must not turn the image a second time.
  bytes.setUint16(tag.at, 1, tag.little);
  const bitmap = await createImageBitmap(new Blob([bytes], { type: file.type }));
  const [a, b, c, d] = turn;
  const [width, height] = a === 0 ? [bitmap.height, bitmap.width] : [bitmap.width, bitmap.height];
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.setTransform(a, b, c, d, a + c < 0 ? width : 0, b + d < 0 ? height : 0);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const turned = await new Promise((resolve) => {
    canvas.toBlob(resolve, "image/png");
  });
  return turned ?? file;
}

/** Returns where in a WebP file its orientation stands, and whether in little-endian order; null if nowhere. */
function findOrientation(bytes) {
  const name = (at) => String.fromCharCode(...[0, 1, 2, 3].map((offset) => bytes.getUint8(at + offset)));
  try {
    if (name(0) !== "RIFF" || name(8) !== "WEBP") return null;
    for (let at = 12; at + 8 < bytes.byteLength; ) {
      const size = bytes.getUint32(at + 4, true);
      if (name(at) === "EXIF") return inExif(bytes, at + 8 + (name(at + 8) === "Exif" ? 6 : 0));
      at += 8 + size + (size % 2);
    }
  } catch (error) {
    // Damaged metadata is no reason to refuse the pixels.
    if (!(error instanceof RangeError)) throw error;
  }
  return null;
}

function inExif(bytes, start) {
  const little = bytes.getUint16(start) === 0x4949;
  const directory = start + bytes.getUint32(start + 4, little);
  const entries = bytes.getUint16(directory, little);
  for (let entry = 0; entry < entries; entry += 1) {
    const at = directory + 2 + 12 * entry;
    if (bytes.getUint16(at, little) === ORIENTATION) return { at: at + 8, little };
  }
  return null;
}
