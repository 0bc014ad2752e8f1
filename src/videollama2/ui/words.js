// The words of the page: times, what was used of a clip, and errors with what to do next.

/** Seconds for display: 4.2 s, 1:05.3. */
export function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  const minutes = Math.floor(tenths / 600);
  const rest = ((tenths % 600) / 10).toFixed(1);
  return minutes ? `${minutes}:${rest.padStart(4, "0")}` : `${rest} s`;
}

/** Seconds for a screen reader. */
export function spoken(seconds) {
  const minutes = Math.floor(seconds / 60);
  const rest = `${(seconds % 60).toFixed(1)} seconds`;
  return minutes ? `${minutes} ${minutes === 1 ? "minute" : "minutes"} ${rest}` : rest;
}

/** “1 frame”, “8 frames”. */
export const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

/** Bytes for display. */
export const size = (bytes) => (bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

export const EXAMPLES = [
  "What do you see and hear?",
  "What is shown?",
  "What is making the sound?",
  "What happens first, and what happens next?",
];

export const PROTOCOLS = {
  "": "",
  released: "As in the public implementation: eight 2-second windows of a video’s audio.",
  full: "All audio of the selected part, up to a minute, and frames at their true times.",
  paper: "The published evaluation setting: like released, with frames padded to squares.",
};

/** What was used of the video, in a few words. */
export function seen(video) {
  if (!video) return "No video";
  if (video.kind === "image") return "Saw the image";
  return `Saw ${video.frames_used} of ${count(video.frames_total, "frame")}`;
}

/** What was used of the audio, in a few words, and whether anything was. */
export function heard(audio) {
  switch (audio?.state) {
    case "used":
      return { text: `Heard ${audio.used_seconds.toFixed(1)} s`, any: true };
    case "silent":
      return { text: "The audio is silent", any: false };
    case "absent":
      return { text: "No audio track", any: false };
    case "unsupported":
      return { text: "This model can’t use audio", any: false };
    case "not_requested":
      return { text: "Audio was off", any: false };
    default:
      return { text: "No audio", any: false };
  }
}

/** How long an answer took, and how much of that went into the clip. */
export function lasted({ decode_seconds: decode = 0, encode_seconds: encode = 0, total_seconds: total }, reused) {
  return `${total.toFixed(1)} s${reused ? "; the clip was cached" : `, of which ${(decode + encode).toFixed(1)} s for reading the clip`}`;
}

/** Why an answer ended, if that is worth saying. */
export const ENDINGS = {
  length: "The answer was cut off at its length limit. Ask the model to continue.",
  cancelled: "Stopped.",
};

const BY_CODE = {
  unreadable_media: ["This file could not be read", "It may be damaged or in an unsupported format. Try MP4, WebM or WAV."],
  media_too_large: ["The clip is too large", "Select a shorter part, or choose a smaller file."],
  file_too_large: ["The file is too large for this server", "Choose a shorter or smaller clip."],
  time_range_error: ["The selected part is outside the clip", "Press “Select the whole clip”, or move the handles."],
  no_video_stream: ["This file has no video", "Choose a video, or ask about the audio."],
  no_audio_stream: ["This file has no audio", "Turn “Use the audio” off."],
  empty_media: ["The file is empty", "Choose another file."],
  media_lost: ["Part of the clip would be dropped", "Select a shorter part, or choose another protocol."],
  unsupported_modality: ["This model can’t use this kind of clip", "Turn audio off, or choose another model."],
  context_overflow: ["The conversation is too long for the model", "Start a new one: choose another clip, or select another part."],
  file_not_found: ["The server no longer has the clip", "Ask again; the clip is being uploaded again."],
  storage_full: ["The server’s storage is full", "Try again later, or ask its operator to free some space."],
  model_not_found: ["The server now has another model", "Reload the page."],
  out_of_memory: ["The server ran out of memory", "Select a shorter part, or try again later."],
  numerics_error: ["The model’s computation failed", "This is the server’s fault, not yours. Please tell its operator."],
};
const BY_STATUS = {
  400: ["The server rejected the question", "Its message is below."],
  401: ["This server needs an API key", "Reload the page and enter the key as the password. The server’s operator can give you one."],
  403: ["The server does not allow this", "Ask its operator."],
  404: ["Not found on the server", "Reload the page; the server may have changed."],
  408: ["It took too long", "Select a shorter part, or try again later."],
  413: ["The file is too large for this server", "Choose a shorter or smaller clip."],
  415: ["This file format is not supported", "Try MP4, WebM, MKV, WAV, FLAC, MP3 or OGG."],
  422: ["The server could not use the clip", "Its message is below."],
  429: ["The server is busy", "Wait a moment, then ask again."],
  500: ["Something went wrong on the server", "Ask again; if it keeps happening, tell the server’s operator."],
  503: ["The server is not ready", "It may be starting or stopping. Try again in a minute."],
  504: ["It took too long", "Select a shorter part, or try again later."],
};

/**
 * An error explained, with the next move.
 * @param {{status?: number, code?: string, message?: string, retryAfter?: number}} problem
 * @returns {{title: string, next: string, detail: string}} `detail` is the server’s own message.
 */
export function explain(problem) {
  const unknown = problem.status ? ["The server reported an error", "Ask again; its message is below."] : null;
  const [title, next] = BY_CODE[problem.code] ?? BY_STATUS[problem.status] ?? unknown ?? [
    "The server can’t be reached",
    "Check that it is running and that you are online, then ask again.",
  ];
  const later = [429, 503].includes(problem.status) && problem.retryAfter;
  return { title, next: later ? `Try again in ${count(problem.retryAfter, "second")}.` : next, detail: problem.message ?? "" };
}
