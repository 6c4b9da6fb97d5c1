// Pixel values on their way to the screen: smaller copies for a far view, the window, the colours of a map.

/** The image at full size and then at halves, each pixel the mean of four, until it is small. */
export function pyramid(image) {
  const levels = [image];
  while (Math.max(levels.at(-1).width, levels.at(-1).height) > 128) levels.push(halved(levels.at(-1)));
  return levels;
}

function halved({ width, height, channels, depth, data }) {
  const w = Math.ceil(width / 2);
  const h = Math.ceil(height / 2);
  const out = new data.constructor(w * h * channels);
  for (let y = 0; y < h; y += 1) {
    const top = 2 * y * width;
    const low = Math.min(2 * y + 1, height - 1) * width;
    for (let x = 0; x < w; x += 1) {
      const left = 2 * x;
      const right = Math.min(left + 1, width - 1);
      for (let c = 0; c < channels; c += 1) {
        const sum =
          data[(top + left) * channels + c] + data[(top + right) * channels + c] +
          data[(low + left) * channels + c] + data[(low + right) * channels + c];
        out[(y * w + x) * channels + c] = (sum + 2) >> 2;
      }
    }
  }
  return { width: w, height: h, channels, depth, data: out };
}

/** A table from value to screen: `level` is the middle of the window, `width` what goes from black to white. */
export function windowTable(depth, { level, width }) {
  const table = new Uint8ClampedArray(2 ** depth);
  const low = level - width / 2;
  for (let value = 0; value < table.length; value += 1) table[value] = Math.round((255 * (value - low)) / width);
  return table;
}

/** The window that leaves half a per cent of an image's values black and half a per cent white. */
export function autoWindow({ data, depth }) {
  const counts = new Uint32Array(2 ** depth);
  for (const value of data) counts[value] += 1;
  const low = quantile(counts, data.length * 0.005);
  const high = Math.max(low + 1, quantile(counts, data.length * 0.995));
  return { level: (low + high) / 2, width: high - low };
}

function quantile(counts, wanted) {
  let seen = 0;
  for (let value = 0; value < counts.length; value += 1) {
    seen += counts[value];
    if (seen >= wanted) return value;
  }
  return counts.length - 1;
}

export const fullWindow = (depth) => ({ level: (2 ** depth - 1) / 2, width: 2 ** depth - 1 });

/** A rectangle of an image through a table: RGBA. */
export function shade({ width, channels, data }, table, { x, y, w, h }) {
  const out = new ImageData(w, h);
  for (let row = 0, to = 0; row < h; row += 1) {
    let from = ((y + row) * width + x) * channels;
    for (let column = 0; column < w; column += 1, to += 4, from += channels) {
      out.data[to] = table[data[from]];
      out.data[to + 1] = table[data[channels === 3 ? from + 1 : from]];
      out.data[to + 2] = table[data[channels === 3 ? from + 2 : from]];
      out.data[to + 3] = 255;
    }
  }
  return out;
}

/** What a pixel of a map means, in its unit. */
export const mapValue = (map, stored) => (stored - map.zero) * map.step;

/** A table from a map's pixel to RGBA: the more there is, the more its colour covers what is under it. */
export function mapTable(map) {
  const table = new Uint8ClampedArray(4 * 65536);
  const last = map.colours.length - 1;
  const reach = Math.max(Math.abs(map.low), Math.abs(map.high));
  for (let stored = 0; stored < 65536; stored += 1) {
    const value = mapValue(map, stored);
    const place = Math.min(1, Math.max(0, (value - map.low) / (map.high - map.low)));
    const rgb = Number.parseInt(map.colours[Math.round(place * last)], 16);
    table.set([rgb >> 16, (rgb >> 8) & 255, rgb & 255, 255 * cover(Math.abs(value) / reach)], 4 * stored);
  }
  return table;
}

const cover = (share) => 0.85 * Math.min(1, share) ** 0.7;

/** A rectangle of a map, as colour to lay over an image. */
export function tint({ width, data }, table, { x, y, w, h }) {
  const out = new ImageData(w, h);
  for (let row = 0, to = 0; row < h; row += 1) {
    for (let from = (y + row) * width + x, end = from + w; from < end; from += 1, to += 4) {
      out.data.set(table.subarray(4 * data[from], 4 * data[from] + 4), to);
    }
  }
  return out;
}
