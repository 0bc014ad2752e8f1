// A clip as this browser reads it: frames at given times, and loudness. Nothing here leaves the browser.

import { make } from "./dom.js";

const PICTURE_HEIGHT = 144; // pixels of cached frames: twice the largest display height
const BARS = 500; // of the waveform
const MAX_AUDIO_BYTES = 200 * 2 ** 20; // a larger file is not decoded just to draw its waveform
const MAX_SEEK_MS = 10_000;
const MAX_PAINT_MS = 300; // after a seek; if the frame does not change, none is painted

/** A file and what the browser can show of it. Created by `Clip.open`. */
export class Clip {
  /** @param {File} file */
  constructor(file) {
    this.file = file;
    this.url = URL.createObjectURL(file);
    this.kind = file.type.startsWith("image/") ? "image" : file.type.startsWith("audio/") ? "audio" : "video";
    this.duration = 0; // seconds; 0 if unknown
    this.aspect = 16 / 9;
    this.readable = false; // whether this browser can show it
    this.peaks = null; // loudness 0…1 of BARS equal parts; null if unknown
    this.pictures = new Map();
    this.queue = Promise.resolve();
    this.eye = null;
  }

  /** Open a file; a clip that the browser can't read is still a clip, without frames. */
  static async open(file) {
    const clip = new Clip(file);
    clip.eye = clip.kind === "image" ? make("img", { alt: "" }) : make("video", { muted: true, playsinline: true, preload: "auto" });
    clip.eye.muted = true;
    try {
      if (clip.kind === "image") {
        clip.eye.src = clip.url;
        await clip.eye.decode();
        clip.aspect = clip.eye.naturalWidth / clip.eye.naturalHeight;
      } else {
        await settled(clip.eye, "loadeddata", () => (clip.eye.src = clip.url));
        if (!Number.isFinite(clip.eye.duration)) await findEnd(clip.eye);
        clip.duration = Number.isFinite(clip.eye.duration) ? clip.eye.duration : 0;
        if (clip.eye.videoWidth) clip.aspect = clip.eye.videoWidth / clip.eye.videoHeight;
        else clip.kind = "audio";
      }
      clip.readable = true;
    } catch {
      clip.readable = false; // the server may still be able to read it
    }
    return clip;
  }

  /** A canvas with the frame at a time, or null. Frames are read one at a time and cached. */
  pictureAt(seconds) {
    const key = Math.round(seconds * 1000);
    if (!this.pictures.has(key)) {
      const painted = this.queue.then(() => this.#paint(seconds));
      this.queue = painted.catch(() => null);
      this.pictures.set(key, painted.catch(() => null));
    }
    return this.pictures.get(key).then((canvas) => (canvas ? copyOf(canvas) : null));
  }

  async #paint(seconds) {
    if (!this.readable || this.kind === "audio") return null;
    // slightly after the start of the frame, so that rounding does not show the previous one
    const time = Math.max(0, Math.min(seconds + 0.002, this.duration - 0.001));
    if (this.kind === "video" && Math.abs(this.eye.currentTime - time) > 1e-4) {
      await seek(this.eye, time);
    }
    const canvas = make("canvas", { width: Math.max(1, Math.round(PICTURE_HEIGHT * this.aspect)), height: PICTURE_HEIGHT });
    canvas.getContext("2d").drawImage(this.eye, 0, 0, canvas.width, canvas.height);
    return canvas;
  }

  /** Measure the loudness over time; sets `peaks`. */
  async listen() {
    if (this.kind === "image" || this.file.size > MAX_AUDIO_BYTES || !window.OfflineAudioContext) return;
    try {
      const sound = await new OfflineAudioContext(1, 1, 8000).decodeAudioData(await this.file.arrayBuffer());
      if (!this.duration) this.duration = sound.duration;
      this.peaks = peaksOf(sound, this.duration);
    } catch {
      this.peaks = null; // no audio, or none that this browser decodes; the receipt says which
    }
  }

  /** Free its memory. */
  close() {
    URL.revokeObjectURL(this.url);
    this.pictures.clear();
  }
}

/** Do something to a media element and wait for an event of it. */
function settled(element, event, begin) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${event}`)), MAX_SEEK_MS);
    const done = (then) => () => {
      clearTimeout(timer);
      then();
    };
    element.addEventListener(event, done(resolve), { once: true });
    element.addEventListener("error", done(() => reject(new Error("unreadable"))), { once: true });
    begin();
  });
}

/** Seek, and wait until the frame is painted, which may be after the seek ends. */
async function seek(element, time) {
  const painted = new Promise((resolve) => element.requestVideoFrameCallback?.(resolve) ?? resolve());
  await settled(element, "seeked", () => (element.currentTime = time));
  while (element.seeking) await settled(element, "seeked", () => null); // an earlier seek has ended
  await Promise.race([painted, new Promise((resolve) => setTimeout(resolve, MAX_PAINT_MS))]);
}

/** A recording made by the browser has no duration until its end is sought. */
async function findEnd(element) {
  await settled(element, "durationchange", () => (element.currentTime = 1e7));
  await settled(element, "seeked", () => (element.currentTime = 0));
}

function peaksOf(sound, duration) {
  const peaks = new Float32Array(BARS);
  const perBar = (duration * sound.sampleRate) / BARS;
  for (let channel = 0; channel < sound.numberOfChannels; channel++) {
    const samples = sound.getChannelData(channel);
    for (let bar = 0; bar < BARS; bar++) {
      const end = Math.min(samples.length, Math.floor((bar + 1) * perBar));
      for (let i = Math.floor(bar * perBar); i < end; i++) peaks[bar] = Math.max(peaks[bar], Math.abs(samples[i]));
    }
  }
  const loudest = peaks.reduce((a, b) => Math.max(a, b), 0);
  return loudest > 2 ** -15 ? peaks.map((peak) => peak / loudest) : peaks;
}

function copyOf(canvas) {
  const copy = make("canvas", { width: canvas.width, height: canvas.height });
  copy.getContext("2d").drawImage(canvas, 0, 0);
  return copy;
}

/**
 * The waveform as two lines for an SVG of 1000 × 100: what lies in the windows, and what does not.
 * @param {Array<[number, number]>} windows seconds.
 */
export function wavePaths(clip, windows) {
  const count = clip.peaks ? BARS : 0;
  const used = [];
  const rest = [];
  for (let bar = 0; bar < count; bar++) {
    const middle = ((bar + 0.5) / BARS) * clip.duration;
    const half = Math.max(1.2, clip.peaks[bar] * 46);
    const line = `M${((bar + 0.5) * 1000) / BARS} ${(50 - half).toFixed(1)}v${(2 * half).toFixed(1)}`;
    (windows.some(([from, to]) => middle >= from && middle < to) ? used : rest).push(line);
  }
  return [
    make("svg:path", { class: "rest", d: rest.join("") || null }),
    make("svg:path", { class: "heard", d: used.join("") || null }),
  ];
}
