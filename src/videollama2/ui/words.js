// Everything the page says: times, what was seen and heard, and errors with what to do next.

/** Seconds as people write them: 4.2 s, 1:05.3. */
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

/** Bytes as people write them. */
export const size = (bytes) => (bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

export const EXAMPLES = [
  "What do you see and hear?",
  "What is shown?",
  "What makes the sound?",
  "What happens first, and what then?",
];

export const PROTOCOLS = {
  "": "",
  released: "As the public implementation does: of a video’s sound eight pieces of 2 s.",
  full: "All the sound of the range, up to a minute, and frames by their true times.",
  paper: "The published evaluation setting: as released, with frames padded to squares.",
};

/** What was seen, in a few words. */
export function seen(video) {
  if (!video) return "Saw nothing";
  if (video.kind === "image") return "Saw the picture";
  return `Saw ${video.frames_used} of ${count(video.frames_total, "frame")}`;
}

/** What was heard, in a few words, and whether anything was. */
export function heard(audio) {
  switch (audio?.state) {
    case "used":
      return { text: `Heard ${audio.used_seconds.toFixed(1)} s`, any: true };
    case "silent":
      return { text: "Its sound is silence", any: false };
    case "absent":
      return { text: "It has no sound", any: false };
    case "unsupported":
      return { text: "This model can’t hear", any: false };
    case "not_requested":
      return { text: "Sound was off", any: false };
    default:
      return { text: "Heard nothing", any: false };
  }
}

/** How long an answer took, and whether its clip had to be read for it. */
export function lasted({ decode_seconds: decode = 0, encode_seconds: encode = 0, total_seconds: total }, reused) {
  return `${total.toFixed(1)} s${reused ? "; the clip was still there from before" : `, ${(decode + encode).toFixed(1)} s of them for the clip`}`;
}

/** Why an answer ended, where that is worth saying. */
export const ENDINGS = {
  length: "The answer was cut: it reached the greatest length. Ask it to go on.",
  cancelled: "Stopped.",
};

const BY_CODE = {
  unreadable_media: ["This file could not be read as a clip", "It may be damaged, or of a kind that is not taken. Try it as MP4, WebM or WAV."],
  media_too_large: ["The clip is too large", "Choose a shorter range, or a smaller or shorter file."],
  file_too_large: ["The file is too large for this server", "Choose a shorter or smaller clip."],
  time_range_error: ["The range does not fit the clip", "Press “Use all of it”, or move the handles."],
  no_video_stream: ["There are no pictures in this file", "Choose a video, or ask about its sound."],
  no_audio_stream: ["There is no sound in this file", "Turn “Listen to its sound” off."],
  empty_media: ["The file is empty", "Choose another one."],
  media_lost: ["Part of the clip could not be used", "Choose a shorter range, or another protocol."],
  unsupported_modality: ["This model can’t take this kind of clip", "Turn the sound off, or choose another model."],
  context_overflow: ["The conversation has become too long for the model", "Start a new conversation: choose “Another clip”, or change the range."],
  file_not_found: ["The server no longer has the clip", "Ask again: it will be uploaded anew."],
  storage_full: ["The server has no room for the clip", "Try again later, or ask whoever runs it to delete some."],
  model_not_found: ["The server has another model now", "Reload the page."],
  out_of_memory: ["The clip was too much for the server’s memory", "Choose a shorter range, or try again later."],
  numerics_error: ["The model’s numbers went wrong", "This is the server’s fault, not yours. Tell whoever runs it."],
};
const BY_STATUS = {
  400: ["The server did not accept the question", "Its words are below."],
  401: ["This server asks for a key", "Reload the page, and enter the key as the password. Whoever runs the server can give you one."],
  403: ["This server does not allow that", "Ask whoever runs it."],
  404: ["The server does not know that", "Reload the page: the server may have been changed."],
  408: ["It took too long", "Choose a shorter range, or ask again later."],
  413: ["The file is too large for this server", "Choose a shorter or smaller clip."],
  415: ["This kind of file is not taken", "Try it as MP4, WebM, MKV, WAV, FLAC, MP3 or OGG."],
  422: ["The server could not use the clip", "Its words are below."],
  429: ["The server is busy", "Wait a moment, and ask again."],
  500: ["Something went wrong in the server", "Ask again; if it stays so, tell whoever runs it."],
  503: ["The server is not ready", "It may be starting or stopping. Try again in a minute."],
  504: ["It took too long", "Choose a shorter range, or ask again later."],
};

/**
 * An error in words that help.
 * @param {{status?: number, code?: string, message?: string, retryAfter?: number}} problem
 * @returns {{title: string, next: string, detail: string}} `detail` is what the server said, as it said it.
 */
export function explain(problem) {
  const unknown = problem.status ? ["The server answered with an error", "Ask again; its words are below."] : null;
  const [title, next] = BY_CODE[problem.code] ?? BY_STATUS[problem.status] ?? unknown ?? [
    "The server can’t be reached",
    "Look whether it still runs and whether you are online, then ask again.",
  ];
  const later = [429, 503].includes(problem.status) && problem.retryAfter;
  return { title, next: later ? `Try again in ${count(problem.retryAfter, "second")}.` : next, detail: problem.message ?? "" };
}
