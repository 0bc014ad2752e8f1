// The receipt of an answer: the frames that were used, on a timeline with the audio that was used.

import { wavePaths } from "./clip.js";
import { byId, make } from "./dom.js";
import { clock, count, heard, lasted, seen } from "./words.js";

const MIN_FRAME_WIDTH = 34; // pixels, for frames in one row with a line from each to its time; else a grid

/**
 * The receipt as a collapsible element.
 * @param {object} receipt as the API gives it.
 * @param {Clip} clip the clip.
 * @param {(seconds: number) => void} show called when a frame is clicked.
 */
export function drawReceipt(receipt, clip, show, timings = null) {
  const sound = heard(receipt.audio);
  const card = make("div", { class: "card" });
  if (receipt.video || sound.any) card.append(timeline(receipt, clip, show));
  const notes = [...(receipt.video?.notes ?? []), ...(receipt.audio?.notes ?? []), ...(receipt.notes ?? [])];
  if (notes.length) {
    card.append(make("ul", { class: "notes", "aria-label": "Notes" }, ...[...new Set(notes)].map((note) => make("li", {}, note))));
  }
  card.append(details(receipt, timings));
  const summary = make(
    "summary",
    {},
    make("span", { class: receipt.video ? "saw" : "not" }, icon("eye"), seen(receipt.video)),
    make("span", { class: sound.any ? "listened" : "not" }, icon("ear"), sound.text),
  );
  return make("details", { class: "receipt", open: true }, summary, card);
}

function icon(name) {
  const paths = {
    eye: "M2 12c3-5 6.5-7.5 10-7.5S19 7 22 12c-3 5-6.5 7.5-10 7.5S5 17 2 12Zm10 3.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7Z",
    ear: "M3 10v4M7.5 6v12M12 3v18M16.5 7v10M21 10v4",
  };
  return make("svg:svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, make("svg:path", { d: paths[name] }));
}

function timeline(receipt, clip, show) {
  const times = receipt.video?.times_seconds ?? [];
  const windows = receipt.audio?.windows_seconds ?? [];
  // server and browser may measure different lengths; everything that was used must fit on the timeline
  const length = Math.max(clip.duration, ...times, ...windows.map(([, to]) => to), 0.001);
  const fanned = clip.kind === "video" && byId("turns").clientWidth / times.length >= MIN_FRAME_WIDTH;
  const line = make("figure", { class: fanned ? "line fanned" : "line" });
  if (receipt.video?.kind === "image") line.append(frames([0], clip, () => null, "the image"));
  else if (times.length) line.append(frames(times, clip, show));
  if (!clip.duration) return line;
  line.append(fan(times, length, fanned), track(receipt, clip, windows, length), axis(length));
  const heardText = windows.length ? ` Audio used: ${windows.map(([a, b]) => `${clock(a)} to ${clock(b)}`).join(", ")}.` : "";
  line.append(make("figcaption", { class: "hidden" }, `Frames at ${times.map(clock).join(", ") || "none"}.${heardText}`));
  return line;
}

function frames(times, clip, show, label = null) {
  const list = make("ol", { class: "frames" });
  for (const time of times) {
    const button = make(
      "button",
      { type: "button", "aria-label": label ?? `Frame at ${clock(time)}: show it in the clip`, title: label ?? clock(time), onclick: () => show(time) },
      make("span", { class: "time", "aria-hidden": "true" }, label ? "" : time.toFixed(1)),
    );
    button.style.aspectRatio = String(Math.min(2.4, Math.max(0.5, clip.aspect)));
    clip.pictureAt(time).then((picture) => picture && button.prepend(picture));
    list.append(make("li", {}, button));
  }
  return list;
}

/** Lines from each frame to its time; in a grid, only marks. */
function fan(times, length, fanned) {
  const lines = times.map((time, i) => {
    const [from, to] = [((i + 0.5) / times.length) * 1000, (time / length) * 1000];
    return fanned ? `M${from} 0L${to} 24` : `M${to} 12V24`;
  });
  return make("svg:svg", { class: "fan", viewBox: "0 0 1000 24", preserveAspectRatio: "none", "aria-hidden": "true" }, make("svg:path", { d: lines.join("") || null }));
}

function track(receipt, clip, windows, length) {
  const asked = receipt.video?.range_seconds;
  const track = make("div", { class: "track" });
  const place = (kind, from, to) => {
    const band = make("i", { class: kind });
    band.style.left = `${(from / length) * 100}%`;
    band.style.width = `${((to - from) / length) * 100}%`;
    track.append(band);
  };
  if (asked) place("asked", asked[0] ?? 0, asked[1] ?? length);
  for (const [from, to] of windows) place("window", from, to);
  if (clip.peaks) {
    const wave = make("svg:svg", { class: "wave", viewBox: "0 0 1000 100", preserveAspectRatio: "none", "aria-hidden": "true" }, ...wavePaths(clip, windows));
    wave.style.width = `${(clip.duration / length) * 100}%`;
    track.append(wave);
  }
  return track;
}

function axis(length) {
  const steps = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];
  const step = steps.find((each) => length / each <= 6) ?? 7200;
  const line = make("div", { class: "axis", "aria-hidden": "true" });
  for (let time = 0; time <= length * 0.97; time += step) {
    const mark = make("span", {}, step < 1 ? time.toFixed(1) : `${Math.floor(time / 60)}:${String(Math.round(time % 60)).padStart(2, "0")}`);
    mark.style.left = `${(time / length) * 100}%`;
    line.append(mark);
  }
  return line;
}

function details(receipt, timings) {
  const media = [receipt.video, receipt.audio].filter(Boolean);
  const tokens = media.map((part) => `${part.tokens} for ${"state" in part ? "audio" : part.kind}`);
  const rows = [
    ["Model", receipt.model],
    ["Protocol", receipt.protocol],
    ["Device", `${receipt.device}, ${receipt.dtype}`],
    ["Prompt", `${count(receipt.prompt_tokens, "token")}${tokens.length ? ` (${tokens.join(", ")})` : ""}`],
    ["Answer", count(receipt.generated_tokens, "token")],
  ];
  if (receipt.audio?.padded_seconds) rows.push(["Silence added", `${receipt.audio.padded_seconds.toFixed(1)} s`]);
  if (timings) rows.push(["Time", lasted(timings, receipt.reused?.length > 0)]);
  return make(
    "details",
    {},
    make("summary", {}, "Details"),
    make("dl", {}, ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))])),
  );
}
