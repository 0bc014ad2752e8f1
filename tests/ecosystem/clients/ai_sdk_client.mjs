// Vercel's AI SDK, with both of its OpenAI providers: text, an image, sound, a stream, an object, several turns.
import fs from "node:fs";
import assert from "node:assert";
import { generateObject, generateText, streamText } from "ai";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { z } from "zod";

const baseURL = process.env.URL_;
const image = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFklEQVR4nGP8z8DAwMDAxMDAwMDAAAANHQEDasKb6QAAAABJRU5ErkJggg==", "base64",
);
const wave = fs.readFileSync(`${process.env.MEDIA}/tone.wav`);
const models = {
  openai: createOpenAI({ baseURL, apiKey: "none" }).chat("default"),
  compatible: createOpenAICompatible({ name: "local", baseURL, includeUsage: true, supportsStructuredOutputs: true })("default"),
};
for (const [name, model] of Object.entries(models)) {
  const parts = [{ type: "text", text: "What do you see and hear?" }, { type: "image", image }];
  parts.push({ type: "file", data: wave, mediaType: "audio/wav" });
  const messages = [{ role: "user", content: parts }];
  const first = await generateText({ model, system: "Be brief.", messages, maxOutputTokens: 8, maxRetries: 0 });
  assert(first.usage.totalTokens > 0, name);
  const again = [...messages, ...first.response.messages, { role: "user", content: "And then?" }];
  const stream = streamText({ model, messages: again, maxOutputTokens: 8, maxRetries: 0 });
  let text = "";
  for await (const part of stream.textStream) text += part;
  assert.equal(await stream.text, text);
  const found = await generateObject({
    model, messages, schema: z.object({ loud: z.boolean() }), maxOutputTokens: 40, maxRetries: 0,
  });
  assert.equal(typeof found.object.loud, "boolean", name);
}
console.log("ai", JSON.parse(fs.readFileSync("node_modules/ai/package.json")).version);
