// The bytes of an image -> the pixels that the network takes: the image pipeline of tellapart (data/pixels.py,
// data/resize.py, data/raster.py), step by step. The page compares its results with those of Python when it opens.

const tellapartPixels = (() => {
  "use strict";
  const MAX_PIXELS = 100_000_000;
  const STRIP = 2 ** 20;
  const CHANNELS = 4; // of a canvas; the fourth is ignored
  const LOOKS = { width: 224, height: 224, fit: "crop", interpolation: "bilinear" }; // data/pixels.py decodes for it too

  /** A file or a frame of a video -> Uint8Array of height x width x channels. Throws for what the browser cannot decode. */
  async function read(source, spec) {
    const file = source instanceof Blob;
    const bitmap = await createImageBitmap(source, file ? { colorSpaceConversion: "none", imageOrientation: "from-image" } : {});
    try {
      if (bitmap.width * bitmap.height > MAX_PIXELS) throw new Error("it has more than 100 megapixels");
      const size = [bitmap.width, bitmap.height];
      const { box, inner } = geometry(size, spec);
      let raster = strips(bitmap);
      let used = box;
      const scale = file ? jpegScale(size, spec, await jpegComponents(source)) : 1;
      if (scale > 1) {
        raster = reduced(raster, [scale, scale], [0, 0, ...size], Float32Array);
        used = box.map((side) => side / scale);
      }
      return placed(resized(raster, used, inner, spec.interpolation), spec);
    } finally {
      bitmap.close();
    }
  }

  /** How many colours a JPEG has, as its header says; 0 for another file. */
  async function jpegComponents(file) {
    const data = new Uint8Array(await file.arrayBuffer());
    if (data[0] !== 0xff || data[1] !== 0xd8) return 0;
    for (let at = 2; at + 9 < data.length; ) {
      const marker = data[at] === 0xff ? data[at + 1] : 0;
      if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) return data[at + 9];
      at += marker > 0 && marker < 0xff ? 2 + data[at + 2] * 256 + data[at + 3] : 1;
    }
    return 0;
  }

  /** The bitmap as rows over white, read in strips: telephones limit the size of a canvas. */
  function strips(bitmap) {
    const canvas = document.createElement("canvas");
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    const rows = (top, bottom) => {
      canvas.width = bitmap.width;
      canvas.height = bottom - top;
      pen.fillStyle = "white";
      pen.fillRect(0, 0, canvas.width, canvas.height);
      pen.drawImage(bitmap, 0, -top);
      return pen.getImageData(0, 0, canvas.width, canvas.height).data;
    };
    return { width: bitmap.width, height: bitmap.height, rows };
  }

  function held(data, width, height) {
    return { width, height, data, rows: (top, bottom) => data.subarray(top * width * CHANNELS, bottom * width * CHANNELS) };
  }

  /** Python rounds halves to even. */
  function rounded(value) {
    const below = Math.floor(value);
    if (value - below !== 0.5) return Math.round(value);
    return below % 2 ? below + 1 : below;
  }

  /** The box (left, top, right, bottom) that is used, and the size that it gets. */
  function geometry([width, height], spec) {
    const target = [spec.width, spec.height];
    const ratios = [target[0] / width, target[1] / height];
    if (spec.fit === "crop") {
      const ratio = Math.max(...ratios);
      const left = Math.max(0, (width - target[0] / ratio) / 2);
      const top = Math.max(0, (height - target[1] / ratio) / 2);
      return { box: [left, top, width - left, height - top], inner: target };
    }
    if (spec.fit === "pad") {
      const ratio = Math.min(...ratios);
      return { box: [0, 0, width, height], inner: [width, height].map((side) => Math.max(1, rounded(side * ratio))) };
    }
    return { box: [0, 0, width, height], inner: target };
  }

  /** By how much the JPEG decoder of tellapart scales down; here means over blocks, which differ little. */
  function jpegScale(size, spec, components) {
    if (!components) return 1;
    const [scale, looks] = [mostScale(size, spec), mostScale(size, LOOKS)];
    const grey = components === 3 && spec.channels === 1;
    return !grey && scale === 2 * looks ? looks : scale;
  }

  function mostScale(size, spec) {
    const { box, inner } = geometry(size, spec);
    if (spec.interpolation === "nearest" || Math.max(...size) <= 8) return 1;
    const needed = [0, 1].map((at) => Math.ceil((size[at] * inner[at]) / (box[at + 2] - box[at])));
    const possible = Math.min(...[0, 1].map((at) => Math.floor(size[at] / needed[at])));
    return [8, 4, 2].find((scale) => scale <= possible) ?? 1;
  }

  function resized(raster, box, inner, interpolation) {
    if (interpolation === "nearest") return nearest(raster, box, inner);
    if (interpolation === "bilinear") return bilinear(raster, box, inner);
    return filtered(raster, box, inner, interpolation);
  }

  /** Means over blocks of (across, down) pixels of a box of whole pixels, rounded unless kept as floats. */
  function reduced(raster, [across, down], [left, top, right, bottom], Kind = Uint8ClampedArray) {
    const width = Math.ceil((right - left) / across);
    const height = Math.ceil((bottom - top) / down);
    const out = new Kind(width * height * CHANNELS);
    const half = Kind === Float32Array ? 0 : 0.5;
    const whole = half ? Math.floor : (value) => value;
    const most = Math.max(1, Math.floor(STRIP / raster.width / down)) * down;
    for (let start = top; start < bottom; start += most) {
      const stop = Math.min(start + most, bottom);
      const data = raster.rows(start, stop);
      for (let y = start; y < stop; y += down) {
        const tall = Math.min(down, stop - y);
        for (let column = 0; column < width; column += 1) {
          const x = left + column * across;
          const wide = Math.min(across, right - x);
          let [red, green, blue] = [0, 0, 0];
          for (let row = 0; row < tall; row += 1) {
            let at = ((y - start + row) * raster.width + x) * CHANNELS;
            for (let step = 0; step < wide; step += 1, at += CHANNELS) {
              red += data[at];
              green += data[at + 1];
              blue += data[at + 2];
            }
          }
          const to = (((y - top) / down) * width + column) * CHANNELS;
          const area = wide * tall;
          out[to] = whole(red / area + half);
          out[to + 1] = whole(green / area + half);
          out[to + 2] = whole(blue / area + half);
        }
      }
    }
    return held(out, width, height);
  }

  /** Reduced by whole numbers while more than halved, blurred for the rest, sampled once. */
  function bilinear(raster, given, inner) {
    const stepsOf = (sides) => [(sides[2] - sides[0]) / inner[0], (sides[3] - sides[1]) / inner[1]];
    const factors = stepsOf(given).map((step) => Math.ceil(step / 2));
    const near = given.map(rounded);
    const whole = Math.max(...factors) === 1 && Math.min(...stepsOf(given)) >= 1 && near[0] < near[2] && near[1] < near[3];
    const box = whole ? near : given;
    const steps = stepsOf(box);
    const outer = [Math.floor(box[0]), Math.floor(box[1]), Math.ceil(box[2]), Math.ceil(box[3])];
    let small = reduced(raster, factors, [outer[0], outer[1], Math.min(outer[2], raster.width), Math.min(outer[3], raster.height)]);
    const [across, down] = [steps[0] / factors[0], steps[1] / factors[1]];
    if (across > 1 || down > 1) small = blurred(small, across, down);
    const even = [0, 1].every((at) => (outer[at + 2] - outer[at]) % factors[at] === 0);
    if (even && box.every((side, at) => side === outer[at])) return stretched(small, inner);
    const first = [
      (box[0] - outer[0]) / factors[0] + across / 2 - 0.5,
      (box[1] - outer[1]) / factors[1] + down / 2 - 0.5,
    ];
    return sampled(small, first, [across, down], inner);
  }

  function clamped(value, most) {
    return Math.min(Math.max(value, 0), most);
  }

  /** Three weights each way that widen a bilinear sample to a triangle of `step` pixels a side. */
  function blurred(image, across, down) {
    const { width, height, data } = image;
    const sides = [across, down].map((step) => Math.max(0, step * step - 1) / 12);
    const between = new Float32Array(data.length);
    const out = new Uint8ClampedArray(data.length);
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1) {
        const before = (y * width + clamped(x - 1, width - 1)) * CHANNELS;
        const after = (y * width + clamped(x + 1, width - 1)) * CHANNELS;
        const at = (y * width + x) * CHANNELS;
        for (let colour = 0; colour < 3; colour += 1) {
          between[at + colour] = sides[0] * (data[before + colour] + data[after + colour]) + (1 - 2 * sides[0]) * data[at + colour];
        }
      }
    }
    for (let y = 0; y < height; y += 1) {
      const above = clamped(y - 1, height - 1) * width * CHANNELS;
      const below = clamped(y + 1, height - 1) * width * CHANNELS;
      const row = y * width * CHANNELS;
      for (let at = 0; at < width * CHANNELS; at += 1) {
        out[row + at] = sides[1] * (between[above + at] + between[below + at]) + (1 - 2 * sides[1]) * between[row + at];
      }
    }
    return held(out, width, height);
  }

  function sampled({ width, height, data }, first, steps, inner) {
    const out = new Uint8ClampedArray(inner[0] * inner[1] * CHANNELS);
    for (let row = 0; row < inner[1]; row += 1) {
      const y = first[1] + row * steps[1];
      const top = Math.floor(y);
      const low = y - top;
      const above = clamped(top, height - 1) * width;
      const below = clamped(top + 1, height - 1) * width;
      for (let column = 0; column < inner[0]; column += 1) {
        const x = first[0] + column * steps[0];
        const left = Math.floor(x);
        const right = x - left;
        const before = clamped(left, width - 1);
        const after = clamped(left + 1, width - 1);
        const to = (row * inner[0] + column) * CHANNELS;
        for (let colour = 0; colour < 3; colour += 1) {
          const upper = data[(above + before) * CHANNELS + colour] * (1 - right) + data[(above + after) * CHANNELS + colour] * right;
          const lower = data[(below + before) * CHANNELS + colour] * (1 - right) + data[(below + after) * CHANNELS + colour] * right;
          out[to + colour] = upper * (1 - low) + lower * low;
        }
      }
    }
    return held(out, ...inner);
  }

  /** All of an image, in the whole numbers that OpenCV computes in: weights of 1/2048, and four bits fewer between. */
  function stretched({ width, height, data }, inner) {
    const cells = (count, most) => Array.from({ length: count }, (_, number) => {
      const place = Math.fround((number + 0.5) * (most / count) - 0.5);
      const first = clamped(Math.floor(place), most - 1);
      const part = place < 0 || first >= most - 1 ? 0 : place - first;
      return { first, next: Math.min(first + 1, most - 1), near: rounded((1 - part) * 2048), far: rounded(part * 2048) };
    });
    const across = cells(inner[0], width);
    const out = new Uint8ClampedArray(inner[0] * inner[1] * CHANNELS);
    cells(inner[1], height).forEach(({ first: above, next: below, near, far }, row) => {
      across.forEach((place, column) => {
        for (let colour = 0; colour < 3; colour += 1) {
          const [upper, lower] = [above, below].map((y) =>
            data[(y * width + place.first) * CHANNELS + colour] * place.near + data[(y * width + place.next) * CHANNELS + colour] * place.far);
          const sum = (((upper >> 4) * near) >> 16) + (((lower >> 4) * far) >> 16);
          out[(row * inner[0] + column) * CHANNELS + colour] = (sum + 2) >> 2;
        }
      });
    });
    return held(out, ...inner);
  }

  /** At the centres of equal cells. */
  function nearest(raster, box, inner) {
    const out = new Uint8ClampedArray(inner[0] * inner[1] * CHANNELS);
    const middles = [0, 1].map((at) => {
      // In Pillow's precision and order of summation, so that ties are rounded alike.
      const [first, last] = [box[at], box[at + 2]].map(Math.fround);
      const step = Math.fround(last - first) / inner[at];
      const most = (at ? raster.height : raster.width) - 1;
      let place = first + step * 0.5;
      return Array.from({ length: inner[at] }, (_, number) => Math.min(Math.floor(number ? (place += step) : place), most));
    });
    middles[1].forEach((y, row) => {
      const data = raster.rows(y, y + 1);
      middles[0].forEach((x, column) => {
        out.set(data.subarray(x * CHANNELS, x * CHANNELS + 3), (row * inner[0] + column) * CHANNELS);
      });
    });
    return held(out, ...inner);
  }

  const FILTERS = {
    bicubic: [2, (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0)],
    lanczos: [3, (x) => (x < 3 ? sinc(x) * sinc(x / 3) : 0)],
  };

  function sinc(x) {
    return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
  }

  /** Pillow's filters, which grow with the reduction; reduced by whole numbers before, if by 6 or more. */
  function filtered(raster, box, inner, name) {
    const factors = [0, 1].map((at) => Math.max(1, Math.floor((box[at + 2] - box[at]) / inner[at] / 3)));
    const small = reduced(raster, factors, [0, 0, raster.width, raster.height]);
    const places = [0, 1].map((at) =>
      weights(box[at] / factors[at], box[at + 2] / factors[at], inner[at], at ? small.height : small.width, ...FILTERS[name]));
    const across = new Uint8ClampedArray(inner[0] * small.height * CHANNELS);
    gather(small.data, across, small.height, inner[0], places[0], [small.width * CHANNELS, CHANNELS], [inner[0] * CHANNELS, CHANNELS]);
    const out = new Uint8ClampedArray(inner[0] * inner[1] * CHANNELS);
    gather(across, out, inner[0], inner[1], places[1], [CHANNELS, inner[0] * CHANNELS], [CHANNELS, inner[0] * CHANNELS]);
    return held(out, ...inner);
  }

  /** Of each place of the result: the first pixel that counts, and the weights of it and those after it. */
  function weights(start, stop, count, most, support, filter) {
    const step = (stop - start) / count;
    const grown = Math.max(step, 1);
    return Array.from({ length: count }, (_, number) => {
      const centre = start + (number + 0.5) * step;
      const first = Math.max(0, Math.floor(centre - support * grown + 0.5));
      const last = Math.min(most, Math.floor(centre + support * grown + 0.5));
      const values = Array.from({ length: last - first }, (_, at) => filter(Math.abs((first + at - centre + 0.5) / grown)));
      const total = values.reduce((sum, value) => sum + value, 0);
      return { first, values: values.map((value) => value / total) };
    });
  }

  /** One direction of a separable filter. strides: of a line, and of a place in it. */
  function gather(data, out, lines, count, places, [line, place], [outLine, outPlace]) {
    for (let number = 0; number < lines; number += 1) {
      for (let to = 0; to < count; to += 1) {
        const { first, values } = places[to];
        for (let colour = 0; colour < 3; colour += 1) {
          let sum = 0;
          for (let at = 0; at < values.length; at += 1) sum += values[at] * data[number * line + (first + at) * place + colour];
          out[number * outLine + to * outPlace + colour] = sum;
        }
      }
    }
  }

  /** In the middle of black, in the channels of the network. */
  function placed(image, { height, width, channels }) {
    const out = new Uint8Array(height * width * channels);
    const top = Math.floor((height - image.height) / 2);
    const left = Math.floor((width - image.width) / 2);
    for (let y = 0; y < image.height; y += 1) {
      for (let x = 0; x < image.width; x += 1) {
        const at = (y * image.width + x) * CHANNELS;
        const to = ((y + top) * width + x + left) * channels;
        const [red, green, blue] = [image.data[at], image.data[at + 1], image.data[at + 2]];
        if (channels === 1) out[to] = Math.round(0.299 * red + 0.587 * green + 0.114 * blue);
        else out.set([red, green, blue], to);
      }
    }
    return out;
  }

  return { read };
})();
