// A clip from this device's camera and microphone.

import { byId } from "./dom.js";
import { clock } from "./words.js";

const MAX_SECONDS = 60;
const KINDS = {
  video: ["video/mp4;codecs=avc1.42E01E,mp4a.40.2", "video/webm;codecs=vp9,opus", "video/webm"],
  audio: ["audio/mp4;codecs=mp4a.40.2", "audio/webm;codecs=opus"],
};
const ERRORS = {
  NotAllowedError: "The browser blocked the camera or microphone. Allow both for this page, then try again.",
  NotFoundError: "No camera or microphone found. Turn the camera off to record only audio, or choose a file.",
  NotReadableError: "Another program is using the camera. Close it, then try again.",
};

/** Whether this browser can record; pages from other computers need HTTPS. */
export const canRecord = () => Boolean(navigator.mediaDevices?.getUserMedia && window.MediaRecorder);

/** The recording dialog; `onclip` receives a File. */
export class RecorderDialog {
  constructor(onclip) {
    this.onclip = onclip;
    this.dialog = byId("recorder");
    this.stream = null;
    this.recorder = null;
    byId("recorder-go").addEventListener("click", () => (this.recorder ? this.recorder.stop() : this.#record()));
    byId("recorder-cancel").addEventListener("click", () => this.dialog.close());
    byId("camera").addEventListener("change", () => this.#listen());
    this.dialog.addEventListener("close", () => this.#release());
  }

  /** Open it, and ask for the camera and the microphone. */
  async open() {
    this.dialog.showModal();
    await this.#listen();
  }

  async #listen() {
    this.#release();
    const video = byId("camera").checked;
    const preview = byId("preview");
    preview.hidden = !video;
    byId("recorder-go").disabled = true;
    byId("recorder-says").textContent = "Waiting for the browser’s permission…";
    try {
      const wanted = video ? { width: { ideal: 640 }, height: { ideal: 480 } } : false;
      const stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: true });
      if (!this.dialog.open) return stopAll(stream);
      this.stream = stream;
      preview.srcObject = stream;
      if (video) await preview.play();
      byId("recorder-says").textContent = `Ready. Up to ${MAX_SECONDS} s.`;
      byId("recorder-go").disabled = false;
    } catch (error) {
      byId("recorder-says").textContent = ERRORS[error.name] ?? "The camera and microphone can’t be used here. Choose a file instead.";
    }
  }

  #record() {
    const kind = byId("camera").checked ? "video" : "audio";
    const mimeType = KINDS[kind].find((each) => MediaRecorder.isTypeSupported(each));
    const recorder = new MediaRecorder(this.stream, mimeType ? { mimeType } : {});
    const chunks = [];
    const began = performance.now();
    recorder.ondataavailable = (event) => chunks.push(event.data);
    recorder.onstop = () => {
      clearInterval(timer);
      if (this.recorder !== recorder) return; // cancelled
      const type = recorder.mimeType.split(";")[0];
      this.dialog.close();
      this.onclip(new File(chunks, `recording.${type.split("/")[1]}`, { type }));
    };
    const timer = setInterval(() => {
      const seconds = (performance.now() - began) / 1000;
      byId("recorder-says").textContent = `Recording: ${clock(seconds)}`;
      if (seconds >= MAX_SECONDS && recorder.state === "recording") recorder.stop();
    }, 200);
    this.recorder = recorder;
    byId("camera").disabled = true;
    byId("recorder-go").textContent = "Stop and use";
    recorder.start();
  }

  #release() {
    const recorder = this.recorder;
    this.recorder = null;
    if (recorder?.state === "recording") recorder.stop();
    if (this.stream) stopAll(this.stream);
    this.stream = null;
    byId("preview").srcObject = null;
    byId("camera").disabled = false;
    byId("recorder-go").textContent = "Start";
  }
}

function stopAll(stream) {
  for (const track of stream.getTracks()) track.stop();
}
