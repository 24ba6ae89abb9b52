// What a person drops or chooses -> image files, also those in folders.

const SUFFIXES = /\.(avif|bmp|dib|gif|heic|heif|ico|jfif|jpe?g|jp2|jxl|pbm|pgm|png|pnm|ppm|tga|tiff?|webp)$/i;
const MOST = 5000;

/** Whether a file of a folder, which nobody chose alone, is worth sending. */
function isImage(file) {
  return file.type.startsWith("image/") || SUFFIXES.test(file.name);
}

/** Files of a folder, with their paths in it as names; and how many of them are no images. */
export function ofFolder(files) {
  const images = [...files].filter(isImage);
  return { images: images.slice(0, MOST), skipped: files.length - images.length, left: Math.max(0, images.length - MOST) };
}

/** The files of a drop: those dropped themselves, as they are; of folders, the images below. */
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return { images: [...transfer.files], skipped: 0, left: 0 };
  const alone = [], inside = [];
  for (const entry of entries) await walk(entry, entry.isDirectory ? inside : alone);
  const found = ofFolder(inside);
  return { ...found, images: [...alone, ...found.images] };
}

async function walk(entry, found) {
  if (found.length > 4 * MOST) return;
  if (entry.isFile) {
    const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
    if (file) found.push(named(file, entry.fullPath.slice(1)));
    return;
  }
  const reader = entry.createReader();
  // A reader gives a hundred at a time, and nothing at the end.
  for (;;) {
    const some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!some.length) return;
    for (const one of some) await walk(one, found);
  }
}

function named(file, path) {
  Object.defineProperty(file, "path", { value: path });
  return file;
}

export function nameOf(file) {
  return file.path || file.webkitRelativePath || file.name || "image";
}

/** Why a file cannot be sent, or "". A folder that a browser gives as a file, and a file that is gone, cannot be read. */
export async function unreadable(file) {
  try {
    await file.arrayBuffer();
    return "";
  } catch {
    return "it cannot be read. It is a folder, or it was moved or changed since it was given.";
  }
}
