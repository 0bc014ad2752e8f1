// The strip under the clip: frames, loudness, and two handles that select the part to ask about.

import { wavePaths } from "./clip.js";
import { byId } from "./dom.js";
import { clock, spoken } from "./words.js";

const MIN_SECONDS = 0.2; // of the selected part

/** Two handles over a film strip. `onchange` is called when the user moves one. */
export class Trim {
  constructor(onchange) {
    this.onchange = onchange;
    this.clip = null;
    this.player = null; // the video or audio element that is shown
    this.start = byId("start");
    this.end = byId("end");
    this.start.addEventListener("input", () => this.#moved(this.start));
    this.end.addEventListener("input", () => this.#moved(this.end));
    byId("whole").addEventListener("click", () => this.reset());
    byId("play").addEventListener("click", () => this.#play());
  }

  /** Show a clip; without a known duration, no part can be selected. */
  async show(clip, player) {
    this.clip = clip;
    this.player = player;
    byId("trim").hidden = !clip.duration;
    byId("film").replaceChildren();
    byId("wave").replaceChildren();
    if (!clip.duration) return;
    byId("film").hidden = clip.kind !== "video";
    for (const input of [this.start, this.end]) {
      input.max = String(clip.duration);
      input.step = String(clip.duration > 120 ? 0.5 : 0.1);
    }
    player.addEventListener("timeupdate", () => this.#head());
    player.addEventListener("seeked", () => this.#head());
    this.#set(0, clip.duration);
    if (clip.kind === "video") await this.#film();
  }

  async #film() {
    const clip = this.clip;
    const strip = byId("film");
    const many = Math.max(4, Math.min(16, Math.round(strip.clientWidth / (strip.clientHeight * clip.aspect || 1))));
    for (let i = 0; i < many; i++) {
      const picture = await clip.pictureAt(((i + 0.5) / many) * clip.duration);
      if (clip !== this.clip) return; // another clip was chosen in the meantime
      if (picture) strip.append(picture);
    }
  }

  /** The selected part in seconds; null at an end that is not limited. */
  range() {
    if (!this.clip?.duration) return { start: null, end: null };
    const [from, to] = [Number(this.start.value), Number(this.end.value)];
    return { start: from > 0 ? from : null, end: this.#atEnd(to) ? null : to };
  }

  /** Select the whole clip. */
  reset() {
    this.#set(0, this.clip.duration);
    this.onchange();
  }

  /** Draw the waveform, once loudness has been measured. */
  wave() {
    const peaks = Boolean(this.clip?.peaks);
    byId("trim").classList.toggle("with-wave", peaks);
    if (peaks) byId("wave").replaceChildren(...wavePaths(this.clip, [[0, this.clip.duration]]));
  }

  #atEnd(seconds) {
    return seconds > this.clip.duration - Number(this.end.step) + 1e-6; // the last step may be shorter
  }

  #moved(handle) {
    let [from, to] = [Number(this.start.value), Number(this.end.value)];
    const least = Math.min(MIN_SECONDS, this.clip.duration);
    if (handle === this.start) from = Math.max(0, Math.min(from, to - least));
    else to = Math.min(this.clip.duration, Math.max(to, from + least));
    this.#set(from, to);
    if (this.player) this.player.currentTime = handle === this.start ? from : Math.max(0, to - 0.05);
    this.onchange();
  }

  #set(from, to) {
    const length = this.clip.duration;
    this.start.value = String(from);
    this.end.value = String(this.#atEnd(to) ? length : to);
    const [left, right] = [from / length, 1 - to / length].map((share) => `${Math.max(0, share) * 100}%`);
    byId("shade-left").style.width = byId("frame").style.left = left;
    byId("shade-right").style.width = byId("frame").style.right = right;
    this.start.setAttribute("aria-valuetext", spoken(from));
    this.end.setAttribute("aria-valuetext", spoken(to));
    const whole = from <= 0 && this.#atEnd(to);
    byId("range").textContent = whole ? `Whole clip, ${clock(length)}` : `${clock(from)} to ${clock(to)}`;
    byId("whole").hidden = whole;
    // when both handles meet at the end, the one that can still move must be on top
    this.start.classList.toggle("top", from > length / 2);
  }

  #head() {
    const share = this.player.currentTime / this.clip.duration;
    byId("head").hidden = share <= 0;
    byId("head").style.left = `${Math.min(1, share) * 100}%`;
  }

  async #play() {
    const player = this.player;
    const to = Number(this.end.value);
    player.currentTime = Number(this.start.value);
    const until = () => {
      if (player.currentTime < to && !player.paused) return;
      player.removeEventListener("timeupdate", until);
      player.pause();
    };
    await player.play();
    player.addEventListener("timeupdate", until);
  }
}
