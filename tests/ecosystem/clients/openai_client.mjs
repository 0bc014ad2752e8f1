// openai for node: text, a clip, a stream, a schema, and its own answer sent back.
import fs from "node:fs";
import assert from "node:assert";
import OpenAI, { toFile } from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({ baseURL: process.env.URL_, apiKey: "none" });
const clip = await client.files.create({
  file: await toFile(fs.readFileSync(`${process.env.MEDIA}/clip.mp4`), "clip.mp4"),
  purpose: "user_data",
});
const messages = [
  { role: "developer", content: "Be brief." },
  { role: "user", content: [{ type: "file", file: { file_id: clip.id } }, { type: "text", text: "What is it?" }] },
];
const first = await client.chat.completions.create({ model: "default", messages, max_tokens: 8, user: "ann", store: false });
assert.equal(first.receipt.audio.state, "used");
messages.push(first.choices[0].message, { role: "user", content: "And then?" });
const stream = await client.chat.completions.create({
  model: "default", messages, max_tokens: 8, stream: true, stream_options: { include_usage: true },
});
let usage;
for await (const chunk of stream) usage = chunk.usage ?? usage;
assert(usage.total_tokens > 0);
const Sound = z.object({ loud: z.boolean() });
const parsed = await client.chat.completions.parse({
  model: "default", messages, max_tokens: 40, response_format: zodResponseFormat(Sound, "sound"),
});
assert.equal(typeof parsed.choices[0].message.parsed.loud, "boolean");
await assert.rejects(client.chat.completions.create({ model: "default", messages, logit_bias: { 5: 1 } }), /logit_bias/);
console.log("openai (node)", JSON.parse(fs.readFileSync("node_modules/openai/package.json")).version);
