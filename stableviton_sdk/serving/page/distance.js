// How far every pixel is from a mask's edge, so that growing the mask is one comparison for each pixel.

/**
 * Signed distance to the mask's edge in pixels, exact up to `reach`: negative inside, positive outside.
 *
 * @param {Uint8Array} inside 1 inside the mask, 0 outside; row by row.
 * @returns {Float32Array} of the same length.
 */
export function signedDistance(inside, width, height, reach) {
  const toInside = distance(inside, 1, width, height, reach);
  const toOutside = distance(inside, 0, width, height, reach);
  return toInside.map((value, place) => (inside[place] ? 0.5 - toOutside[place] : value - 0.5));
}

/** Euclidean distance to the nearest pixel that has a value: along the columns first, then across them. */
function distance(values, wanted, width, height, reach) {
  const along = new Float32Array(values.length);
  for (let column = 0; column < width; column += 1) {
    let away = reach + 1;
    const visit = (place) => (away = values[place] === wanted ? 0 : Math.min(away + 1, reach + 1));
    for (let row = 0; row < height; row += 1) along[row * width + column] = visit(row * width + column);
    away = reach + 1;
    for (let place = (height - 1) * width + column; place >= 0; place -= width) {
      along[place] = Math.min(along[place], visit(place));
    }
  }
  const nearest = new Float32Array(values.length);
  for (let place = 0; place < nearest.length; place += 1) {
    const column = place % width;
    let least = along[place] ** 2;
    for (let offset = Math.max(-reach, -column); offset <= Math.min(reach, width - 1 - column); offset += 1) {
      const squared = along[place + offset] ** 2 + offset ** 2;
      if (squared < least) least = squared;
    }
    nearest[place] = Math.sqrt(least);
  }
  return nearest;
}
