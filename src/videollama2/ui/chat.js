// Questions and answers on the page, and the conversation as the API wants it.

import { ask, mediaPart } from "./api.js";
import { announce, byId, make } from "./dom.js";
import { drawReceipt } from "./receipt.js";
import { ENDINGS, explain } from "./words.js";

/** One conversation about one clip with one choice of settings; other settings start another conversation. */
export class Chat {
  /** @param {(seconds: number) => void} show shows a moment of the clip. */
  constructor(show) {
    this.show = show;
    this.messages = [];
    this.key = "";
    this.turns = 0;
  }

  /** Whether a question with these settings continues the conversation. */
  continues(settings) {
    return this.messages.length > 0 && this.key === keyOf(settings);
  }

  /** The next question starts a new conversation. */
  forget() {
    this.messages = [];
  }

  /**
   * Ask, and show the answer while it streams. Never rejects: errors are shown under the question.
   * @returns {Promise<Error | null>} the error, if any.
   */
  async ask(text, settings, signal) {
    if (!this.continues(settings)) {
      if (this.turns) byId("turns").append(make("p", { class: "divider", role: "separator" }, "new conversation"));
      [this.messages, this.key] = [[], keyOf(settings)];
    }
    const first = this.messages.length === 0;
    const content = first ? [mediaPart(settings.media), { type: "text", text }] : text;
    const asked = [...this.messages, { role: "user", content }];
    const turn = new Turn(text, ++this.turns, first ? describe(settings) : "");
    byId("turns").append(turn.element);
    const follow = new Follow(turn.element);
    const answer = { text: "", receipt: null, finish: "", timings: null };
    try {
      for await (const piece of ask({ model: settings.model, protocol: settings.protocol, messages: asked }, signal)) {
        if (piece.text) follow.after(() => turn.say((answer.text += piece.text)));
        Object.assign(answer, { ...piece, text: answer.text });
      }
    } catch (error) {
      if (error.name !== "AbortError") {
        follow.after(() => turn.fail(error));
        return error;
      }
      answer.finish = "cancelled";
    }
    if (answer.text || answer.finish !== "cancelled") this.messages = [...asked, { role: "assistant", content: answer.text }];
    follow.after(() => turn.finish(answer, settings.clip, this.show));
    return null;
  }
}

const keyOf = ({ media, model, protocol }) => JSON.stringify([media, model, protocol]);

/** The clip and settings, shown above the first question of a conversation. */
function describe({ clip, rangeText, media }) {
  const without = clip.kind === "video" && !media.sound ? ", without audio" : "";
  return `${clip.file.name}${rangeText}${without}`;
}

/** Scrolls with a growing answer, never past its question, until the user scrolls. */
class Follow {
  constructor(element) {
    this.element = element;
    this.left = new AbortController();
    for (const event of ["wheel", "touchmove", "mousedown"]) {
      addEventListener(event, () => this.left.abort(), { signal: this.left.signal, passive: true });
    }
    this.after(() => null);
  }

  after(change) {
    change();
    if (this.left.signal.aborted) return;
    const { top, bottom } = this.element.getBoundingClientRect();
    const hidden = bottom + 12 - byId("composer").getBoundingClientRect().top;
    if (hidden > 0) window.scrollBy(0, Math.min(hidden, top - 12));
  }
}

/** A question, its answer, and the answer's receipt. */
class Turn {
  constructor(question, number, about) {
    this.answer = make("div", { class: "answer", "aria-busy": "true" }, make("p", { class: "waiting" }, waves(), "Watching and listening…"));
    this.element = make(
      "article",
      { class: "turn", "aria-label": `Question ${number}` },
      about ? make("p", { class: "about" }, about) : null,
      make("p", { class: "asked" }, make("span", { class: "hidden" }, "You asked: "), question),
      this.answer,
    );
  }

  say(text) {
    if (!this.words) this.answer.replaceChildren((this.words = make("p", { class: "words" })));
    this.words.textContent = text;
  }

  finish({ text, receipt, finish, timings }, clip, show) {
    this.say(text);
    if (!text) this.answer.replaceChildren(make("p", { class: "quiet" }, finish === "cancelled" ? "" : "The model gave an empty answer."));
    this.answer.removeAttribute("aria-busy");
    if (ENDINGS[finish]) this.answer.append(make("p", { class: "quiet ending" }, ENDINGS[finish]));
    if (receipt) {
      for (const older of document.querySelectorAll(".receipt[open]")) older.open = false;
      this.answer.append(drawReceipt(receipt, clip, show, timings));
    }
    announce(finish === "cancelled" ? "Stopped." : `Answer: ${text || "empty"}`);
  }

  fail(error) {
    this.answer.removeAttribute("aria-busy");
    this.answer.querySelector(".waiting")?.remove();
    this.answer.append(errorCard(error));
  }
}

function waves() {
  return make("svg:svg", { class: "pulse", viewBox: "0 0 24 24", "aria-hidden": "true" }, ...[3, 7.5, 12, 16.5, 21].map((x) => make("svg:path", { d: `M${x} 7v10` })));
}

/** An error: what happened, what to do, and the server’s own message. */
export function errorCard(error, ...actions) {
  const { title, next, detail } = explain(error);
  return make(
    "div",
    { class: "error", role: "alert" },
    make("p", { class: "title" }, title),
    make("p", {}, next),
    detail ? make("p", { class: "detail" }, detail) : null,
    actions.length ? make("div", { class: "row" }, ...actions) : null,
  );
}
