// A reader for the PNGs of this service: gray or RGB, 8 or 16 bits, not interlaced.
// A browser's own decoder gives 8 bits whatever the file has, which would make windowing of 16 bits a pretence.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const CHANNELS = { 0: 1, 2: 3 };

/** Bytes of base64. */
export function fromBase64(text) {
  const packed = atob(text);
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i += 1) bytes[i] = packed.charCodeAt(i);
  return bytes;
}

/**
 * Decodes a PNG.
 * @returns {Promise<{width, height, channels, depth, data}>} data: Uint8Array or Uint16Array, row by row.
 */
export async function decodePng(bytes) {
  if (SIGNATURE.some((value, i) => bytes[i] !== value)) throw new Error("the service’s picture is not a PNG");
  const { header, packed } = readChunks(bytes);
  const [depth, colour, , , interlace] = header.subarray(8, 13);
  const channels = CHANNELS[colour];
  if (!channels || (depth !== 8 && depth !== 16) || interlace) throw new Error("a PNG of a kind that is not read here");
  const view = new DataView(header.buffer, header.byteOffset);
  const image = { width: view.getUint32(0), height: view.getUint32(4), channels, depth };
  const pixelBytes = (channels * depth) / 8;
  const rows = unfilter(await inflate(packed), image.width * pixelBytes, image.height, pixelBytes);
  return { ...image, data: depth === 8 ? rows : bigEndian(rows) };
}

function readChunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const packed = [];
  let header = null;
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const content = bytes.subarray(at + 8, at + 8 + length);
    if (kind === "IHDR") header = content;
    else if (kind === "IDAT") packed.push(content);
    else if (kind === "IEND") return { header, packed };
    at += 12 + length;
  }
  throw new Error("the service’s picture breaks off");
}

async function inflate(parts) {
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Undoes the filters of PNG (third edition, section 9); `step` is the bytes of a pixel. */
function unfilter(filtered, stride, height, step) {
  if (filtered.length !== (stride + 1) * height) throw new Error("the service’s picture has the wrong size");
  const rows = new Uint8Array(stride * height);
  for (let y = 0; y < height; y += 1) {
    const predict = PREDICTORS[filtered[y * (stride + 1)]];
    const from = y * (stride + 1) + 1;
    const to = y * stride;
    for (let x = 0; x < stride; x += 1) {
      const left = x >= step ? rows[to + x - step] : 0;
      const above = y > 0 ? rows[to + x - stride] : 0;
      const corner = x >= step && y > 0 ? rows[to + x - stride - step] : 0;
      rows[to + x] = filtered[from + x] + predict(left, above, corner);
    }
  }
  return rows;
}

const PREDICTORS = [
  () => 0,
  (left) => left,
  (left, above) => above,
  (left, above) => (left + above) >> 1,
  (left, above, corner) => {
    const guess = left + above - corner;
    const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - above), Math.abs(guess - corner)];
    if (a <= b && a <= c) return left;
    return b <= c ? above : corner;
  },
];

function bigEndian(bytes) {
  const values = new Uint16Array(bytes.length / 2);
  for (let i = 0; i < values.length; i += 1) values[i] = (bytes[2 * i] << 8) | bytes[2 * i + 1];
  return values;
}
