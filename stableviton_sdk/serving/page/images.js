// Files that a person chose, opened as images.

import { Problem } from "./messages.js";

/**
 * Open a file, within the server's limits.
 *
 * @returns {Promise<{file: Blob, name: string, url: string, width: number, height: number}>} Width and height as the
 *   image is displayed, turned upright by its EXIF orientation.
 */
export async function openImage(file, limits) {
  const name = file.name || "The image";
  if (limits.upload_bytes && file.size > limits.upload_bytes) {
    throw new Problem(`${name} has ${megabytes(file.size)}: use one of at most ${megabytes(limits.upload_bytes)}.`);
  }
  const url = URL.createObjectURL(file);
  try {
    const { naturalWidth: width, naturalHeight: height } = await decode(url);
    if (limits.pixels && width * height > limits.pixels) {
      const most = `${Math.floor(limits.pixels / 1e6)} megapixels`;
      throw new Problem(`${name} has ${width} x ${height} pixels: use one of at most ${most}.`);
    }
    return { file, name, url, width, height };
  } catch (error) {
    URL.revokeObjectURL(url);
    if (error instanceof Problem) throw error;
    throw new Problem(`${name} can't be opened as an image by this browser: use a JPEG, PNG or WebP file.`);
  }
}

/** An image element with its pixels decoded. */
export async function decode(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
