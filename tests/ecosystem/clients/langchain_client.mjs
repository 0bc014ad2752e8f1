// LangChain for JavaScript: text, an image, a stream, a schema, and its own answer sent back.
import fs from "node:fs";
import assert from "node:assert";
import { ChatOpenAI } from "@langchain/openai";
import { HumanMessage, SystemMessage } from "@langchain/core/messages";
import { z } from "zod";

const model = new ChatOpenAI({ model: "default", maxTokens: 40, apiKey: "none", configuration: { baseURL: process.env.URL_ } });
const clip = fs.readFileSync(`${process.env.MEDIA}/clip.mp4`).toString("base64");
const seen = new HumanMessage({
  content: [
    { type: "text", text: "What happens?" },
    { type: "video_url", video_url: { url: `data:video/mp4;base64,${clip}` } },
  ],
});
const first = await model.invoke([new SystemMessage("Be brief."), seen]);
assert(first.usage_metadata.total_tokens > 0);
for await (const chunk of await model.stream([seen, first, new HumanMessage("And then?")])) assert(chunk);
const found = await model.withStructuredOutput(z.object({ loud: z.boolean() }), { name: "sound", method: "jsonSchema" }).invoke([seen]);
assert.equal(typeof found.loud, "boolean");
console.log("@langchain/openai", JSON.parse(fs.readFileSync("node_modules/@langchain/openai/package.json")).version);
