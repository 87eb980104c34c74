// The ways by which images come in: chosen, dropped (folders too), pasted.

import { announce, byId } from "./dom.js";
import { text } from "./texts.js";

let pasted = 0;

/** Listens to all of them; calls `onFiles` with a list of files. */
export function takeIn(onFiles) {
  const input = byId("files");
  byId("choose").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    onFiles([...input.files]);
    // So that choosing the same file once more is a change as well.
    input.value = "";
  });
  listenToDrops(onFiles);
  document.addEventListener("paste", (event) => {
    if (event.target.closest?.("input, textarea") || document.querySelector("dialog[open]")) return;
    const files = [...event.clipboardData.files];
    if (files.length === 0) announce(text("nothingPasted"));
    else onFiles(files.map(named));
  });
}

function listenToDrops(onFiles) {
  const carriesFiles = (event) => event.dataTransfer.types.includes("Files") && !document.querySelector("dialog[open]");
  // Each element on the way sends its own "enter" and "leave": the last one that was entered is where the pointer is.
  let inside = null;
  document.addEventListener("dragenter", (event) => {
    if (!carriesFiles(event)) return;
    inside = event.target;
    byId("veil").hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (event.target === inside) byId("veil").hidden = true;
  });
  document.addEventListener("dragover", (event) => {
    if (carriesFiles(event)) event.preventDefault();
  });
  document.addEventListener("drop", async (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    byId("veil").hidden = true;
    const files = await droppedFiles(event.dataTransfer);
    if (files.length > 0) onFiles(files);
  });
}

/** Resolves to the dropped files, and to the images in dropped folders. */
async function droppedFiles(transfer) {
  // The list of items is emptied as soon as the event is over, so everything is taken before the first wait.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.());
  const plain = [...transfer.files];
  if (!entries.some((entry) => entry?.isDirectory)) return plain;
  return (await Promise.all(entries.filter(Boolean).map((entry) => filesIn(entry)))).flat();
}

async function filesIn(entry, inFolder = false) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => {
      entry.file(resolve, reject);
    });
    return inFolder && !file.type.startsWith("image/") ? [] : [file];
  }
  const reader = entry.createReader();
  const found = [];
  // A reader gives a hundred entries at a time, and none at the end.
  for (;;) {
    const some = await new Promise((resolve, reject) => {
      reader.readEntries(resolve, reject);
    });
    if (some.length === 0) return (await Promise.all(found.map((child) => filesIn(child, true)))).flat();
    found.push(...some);
  }
}

/** Browsers call every image of the clipboard "image.png". */
function named(file) {
  if (file.name && file.name !== "image.png") return file;
  pasted += 1;
  return new File([file], `pasted-${pasted}.${file.type.split("/")[1] || "png"}`, { type: file.type });
}
