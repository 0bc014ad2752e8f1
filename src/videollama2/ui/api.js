// Client of the server's HTTP API: /v1/models, /v1/files, /v1/chat/completions.

/** An error of the API, or of the connection (then without `status`). */
export class Problem extends Error {
  constructor({ status, code, message, retryAfter }) {
    super(message ?? "");
    Object.assign(this, { status, code, retryAfter });
  }
}

function problemOf(status, text, retryAfter) {
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    body = {}; // not from our server, such as a proxy's page
  }
  const error = body.error ?? {};
  return new Problem({ status, code: error.code ?? undefined, message: error.message, retryAfter: Number(retryAfter) || undefined });
}

async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ message: "" });
  }
  if (!response.ok) throw problemOf(response.status, await response.text(), response.headers.get("Retry-After"));
  return response;
}

/** The server's models: objects with `id`, `sees`, `hears` and `protocol`. */
export async function models() {
  return (await (await call("v1/models")).json()).data;
}

/**
 * Upload a file; resolves to its id. Uses XMLHttpRequest, because fetch() does not report upload progress.
 * @param {(share: number) => void} onProgress receives 0…1.
 */
export function upload(file, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    form.append("purpose", "user_data");
    form.append("file", file, file.name);
    request.open("POST", "v1/files");
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onerror = () => reject(new Problem({ message: "" }));
    request.onload = () =>
      request.status === 200 || request.status === 201
        ? resolve(JSON.parse(request.responseText).id)
        : reject(problemOf(request.status, request.responseText, request.getResponseHeader("Retry-After")));
    signal?.addEventListener("abort", () => {
      request.abort();
      reject(new DOMException("", "AbortError"));
    });
    request.send(form);
  });
}

/**
 * The media part of a message.
 * @param {{kind: string, id: string, start: number|null, end: number|null, sound: boolean}} media
 */
export function mediaPart({ kind, id, start, end, sound }) {
  const range = { ...(start === null ? {} : { start }), ...(end === null ? {} : { end }) };
  return { type: "file", file: { file_id: id }, ...range, ...(kind === "video" && !sound ? { sound } : {}) };
}

/**
 * Ask, and yield what arrives: {text}, {receipt}, {finish}, {timings}.
 * @param {{model: string, messages: object[], protocol: string}} question
 */
export async function* ask({ model, messages, protocol }, signal) {
  const body = { model, messages, stream: true, ...(protocol ? { protocol } : {}) };
  const response = await call("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Problem({ ...chunk.error, status: chunk.error.status ?? 500 });
    const choice = chunk.choices?.[0];
    if (choice?.delta?.content) yield { text: choice.delta.content };
    if (choice?.finish_reason) yield { finish: choice.finish_reason };
    if (chunk.receipt) yield { receipt: chunk.receipt };
    if (chunk.timings) yield { timings: chunk.timings };
  }
  throw new Problem({ message: "the answer was cut off" });
}

/** The data of server-sent events. */
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      held += value;
      const lines = held.split(/\r?\n/);
      held = lines.pop();
      for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trim();
    }
  } finally {
    reader.cancel().catch(() => null);
  }
}
