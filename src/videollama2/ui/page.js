// The page: which clip, which settings, which question; the other modules do the rest.

import { models, upload } from "./api.js";
import { Chat, errorCard } from "./chat.js";
import { Clip } from "./clip.js";
import { byId, make } from "./dom.js";
import { RecorderDialog, canRecord } from "./recorder.js";
import { Trim } from "./trim.js";
import { EXAMPLES, PROTOCOLS, clock, size } from "./words.js";

const state = { models: [], file: null, clip: null, player: null, uploaded: null, uploading: null, answering: null };
const chat = new Chat(showMoment);
const trim = new Trim(hint);

/* The clip */

async function choose(file) {
  if (!file) return;
  state.answering?.abort();
  state.uploading?.abort();
  state.clip?.close();
  chat.forget();
  state.file = file;
  state.clip = state.player = state.uploaded = null;
  byId("clip-error").replaceChildren();
  byId("drop").hidden = true;
  byId("stage").hidden = false;
  byId("name").textContent = file.name;
  byId("trim").hidden = true;
  trim.clip = null;
  byId("screen").replaceChildren();
  send(file);
  refresh(); // until this clip is uploaded and opened, no question can be asked
  const clip = await Clip.open(file);
  if (state.file !== file) return clip.close(); // another was chosen meanwhile
  state.clip = clip;
  state.player = playerOf(clip);
  byId("screen").replaceChildren(state.player ?? make("p", { class: "quiet" }, "No preview"));
  byId("trim-note").hidden = clip.readable;
  byId("trim-note").textContent = "This browser can’t play this clip, so there is no preview and you can’t select a part. The model may still be able to read it.";
  matchSettings();
  refresh();
  const drawn = trim.show(clip, state.player);
  await clip.listen();
  if (state.clip === clip) trim.wave();
  await drawn;
}

function playerOf(clip) {
  if (!clip.readable) return null;
  if (clip.kind === "image") return make("img", { src: clip.url, alt: clip.file.name });
  const attributes = { src: clip.url, controls: true, playsinline: true, preload: "auto", "aria-label": "The clip" };
  const player = make(clip.kind === "audio" ? "audio" : "video", attributes);
  if (clip.kind === "video") player.style.aspectRatio = String(Math.max(clip.aspect, 0.7));
  return player;
}

/** Upload the file, and show the progress. */
async function send(file) {
  const uploading = (state.uploading = new AbortController());
  const says = (text) => (byId("upload").textContent = text);
  byId("progress").hidden = false;
  byId("progress").removeAttribute("value");
  says("");
  byId("clip-error").replaceChildren();
  try {
    const progress = (share) => (byId("progress").value = share);
    const id = await upload(file, progress, uploading.signal);
    if (uploading.signal.aborted) return;
    state.uploaded = { id, file };
    says(size(file.size));
  } catch (error) {
    if (error.name === "AbortError") return;
    says("");
    const again = make("button", { type: "button", onclick: () => send(file) }, "Try again");
    byId("clip-error").replaceChildren(errorCard(error, again));
  } finally {
    if (state.uploading === uploading) byId("progress").hidden = true;
    refresh();
  }
}

function showMoment(seconds) {
  if (!state.player?.pause) return;
  state.player.pause();
  state.player.currentTime = seconds + 0.002;
  byId("stage").scrollIntoView({ block: "nearest" });
}

/* The question */

function settings() {
  const { start, end } = trim.range();
  const { clip, uploaded } = state;
  const media = { kind: clip.kind, id: uploaded.id, start, end, sound: byId("sound").checked };
  const rangeText = start === null && end === null ? "" : `, ${clock(start ?? 0)} to ${clock(end ?? clip.duration)}`;
  return { clip, media, rangeText, model: byId("model").value, protocol: byId("protocol").value };
}

const ready = () => Boolean(state.clip && state.uploaded && byId("model").value);

async function submit(text) {
  if (!text || !ready() || state.answering) return;
  const answering = (state.answering = new AbortController());
  byId("question").value = "";
  byId("welcome").hidden = true;
  refresh();
  const error = await chat.ask(text, settings(), answering.signal);
  state.answering = null;
  if (error) byId("question").value = text;
  if (error?.code === "file_not_found") await send(state.clip.file); // it has expired on the server
  refresh();
  // the focused element may be gone; don't open a phone's keyboard unasked
  if (!matchMedia("(pointer: coarse)").matches) byId("question").focus({ preventScroll: true });
}

/** Update everything that depends on the state. */
function refresh() {
  const answering = Boolean(state.answering);
  byId("ask").hidden = answering;
  byId("stop").hidden = !answering;
  byId("ask").disabled = !ready();
  for (const chip of byId("examples").children) chip.disabled = !ready() || answering;
  const question = byId("question");
  question.style.height = "auto";
  question.style.height = `${question.scrollHeight}px`;
  hint();
}

function hint() {
  if (!state.file) byId("hint").textContent = "Choose a clip first.";
  else if (!state.uploaded && !byId("progress").hidden) byId("hint").textContent = "Uploading the clip…";
  else if (state.uploaded && !state.clip) byId("hint").textContent = "Opening the clip…";
  else if (!ready()) byId("hint").textContent = "The clip is not uploaded.";
  else if (chat.messages.length && !chat.continues(settings())) byId("hint").textContent = "The settings have changed: the next question starts a new conversation.";
  else if (chat.messages.length) byId("hint").textContent = "Continues the conversation; the clip is not uploaded again.";
  else byId("hint").textContent = "Press Enter to ask, Shift+Enter for a new line.";
}

/* The server */

async function connect() {
  const server = byId("server");
  try {
    const found = (state.models = await models());
    byId("model").replaceChildren(...found.map(({ id }) => make("option", { value: id }, id)));
    server.textContent = found.map(({ id }) => id).join(", ");
    server.dataset.state = "well";
    byId("model").disabled = found.length < 2;
    matchSettings();
  } catch (error) {
    server.dataset.state = "ill";
    server.textContent = "not connected";
    const again = make("button", { type: "button", onclick: connect }, "Try again");
    byId("clip-error").replaceChildren(errorCard(error, again));
    return refresh();
  }
  byId("clip-error").replaceChildren();
  refresh();
}

/* Events */

function addListeners() {
  byId("file").addEventListener("change", (event) => {
    choose(event.target.files[0]);
    event.target.value = "";
  });
  byId("example").addEventListener("click", fetchExample);
  byId("other").addEventListener("click", () => byId("file").click());
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      document.body.classList.add("dragging");
    });
  }
  document.addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("dragging"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    choose(event.dataTransfer.files[0]);
  });
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    submit(byId("question").value.trim());
  });
  byId("question").addEventListener("input", refresh);
  byId("question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      submit(event.target.value.trim());
    }
  });
  byId("stop").addEventListener("click", () => state.answering?.abort());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) state.answering?.abort();
  });
  for (const id of ["sound", "protocol"]) byId(id).addEventListener("change", hint);
  byId("model").addEventListener("change", matchSettings);
  byId("protocol").addEventListener("change", showProtocol);
  for (const text of EXAMPLES) byId("examples").append(make("button", { type: "button", class: "chip", onclick: () => submit(text) }, text));
  if (canRecord()) {
    const recorder = new RecorderDialog(choose);
    byId("record").addEventListener("click", () => recorder.open());
  } else {
    byId("record").disabled = true;
    byId("record").title = "Browsers only allow recording on pages from this computer or over HTTPS";
  }
}

/** Match the settings to the model and the clip. */
function matchSettings() {
  const model = state.models.find(({ id }) => id === byId("model").value) ?? {};
  const deaf = model.hears === false;
  byId("sound").disabled = deaf || (state.clip && state.clip.kind !== "video");
  byId("sound-says").textContent = deaf ? "This model can’t use audio" : "Use the audio";
  byId("protocol").options[0].textContent = model.protocol ? `default (${model.protocol})` : "default";
  hint();
}

function showProtocol() {
  byId("protocol-says").textContent = PROTOCOLS[byId("protocol").value] ?? "";
}

async function fetchExample() {
  try {
    const response = await fetch("ui/example.mp4");
    await choose(new File([await response.blob()], "example.mp4", { type: "video/mp4" }));
  } catch (error) {
    byId("clip-error").replaceChildren(errorCard(error));
  }
}

function setUpTheme() {
  const button = byId("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const show = () => button.setAttribute("aria-pressed", String(dark()));
  button.addEventListener("click", () => {
    const theme = dark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    localStorage.setItem("theme", theme);
    show();
  });
  system.addEventListener("change", show);
  show();
}

byId("protocol").append(
  ...Object.keys(PROTOCOLS).map((name) => make("option", { value: name }, name || "default")),
);
showProtocol();
addListeners();
setUpTheme();
refresh();
connect();
