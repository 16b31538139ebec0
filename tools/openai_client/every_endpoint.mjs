// Asks a server at every address with the official client: node every_endpoint.mjs CHAT EMBEDDER RANKER

import assert from "node:assert/strict";
import OpenAI from "openai";

const [chatUrl, embedderUrl, rankerUrl] = process.argv.slice(2);
const connect = (baseURL) => new OpenAI({ baseURL, apiKey: "none", maxRetries: 0, timeout: 60_000 });
const chat = connect(chatUrl);
const embedder = connect(embedderUrl);
const ranker = connect(rankerUrl);

const model = "demo";
const hello = [{ role: "user", content: "Hello! My name is Zorblax." }];
const weather = {
  name: "get_weather",
  description: "The weather in a city.",
  parameters: {
    type: "object",
    properties: { city: { enum: ["Oslo", "Rome"] } },
    required: ["city"],
    additionalProperties: false,
  },
};
const schema = {
  type: "object",
  properties: { yes: { type: "boolean" } },
  required: ["yes"],
  additionalProperties: false,
};

const facts = {
  async "models are listed and retrieved"() {
    const names = [];
    for await (const one of chat.models.list()) names.push(one.id);
    assert.deepEqual(names, [model]);
    assert.equal((await chat.models.retrieve(model)).object, "model");
  },

  async "a chat is answered, and a stream adds up to the answer"() {
    const whole = await chat.chat.completions.create({ model, messages: hello });
    assert.equal(whole.choices[0].finish_reason, "stop");
    const stream = await chat.chat.completions.create({
      model, messages: hello, stream: true, stream_options: { include_usage: true },
    });
    let said = "";
    let usage;
    for await (const chunk of stream) {
      said += chunk.choices[0]?.delta?.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.equal(said, whole.choices[0].message.content);
    assert.equal(usage.total_tokens, whole.usage.total_tokens);
  },

  async "the helper for streams puts the pieces together"() {
    const stream = chat.chat.completions.stream({ model, messages: hello });
    assert.match(await stream.finalContent(), /Zorblax/);
    const called = chat.chat.completions.stream({
      model, messages: hello, max_tokens: 200,
      tools: [{ type: "function", function: weather }], tool_choice: "required",
    });
    const message = await called.finalMessage();
    assert.equal(message.tool_calls[0].function.name, "get_weather");
    assert.ok("city" in JSON.parse(message.tool_calls[0].function.arguments));
  },

  async "log probabilities, biases and several answers come"() {
    const made = await chat.chat.completions.create({
      model, messages: hello, logprobs: true, top_logprobs: 2, max_tokens: 4, n: 2, seed: 5,
      logit_bias: { 5: -100 }, stop: ["nowhere"],
    });
    assert.equal(made.choices.length, 2);
    for (const token of made.choices[0].logprobs.content) assert.equal(token.top_logprobs.length, 2);
  },

  async "an answer fits its schema"() {
    const made = await chat.chat.completions.create({
      model, messages: hello,
      response_format: { type: "json_schema", json_schema: { name: "x", schema, strict: true } },
    });
    assert.deepEqual(Object.keys(JSON.parse(made.choices[0].message.content)), ["yes"]);
  },

  async "raw text goes on, whole and streamed"() {
    const whole = await chat.completions.create({ model, prompt: "Nice to meet", max_tokens: 6 });
    const stream = await chat.completions.create({
      model, prompt: "Nice to meet", max_tokens: 6, stream: true,
    });
    let said = "";
    for await (const chunk of stream) said += chunk.choices[0]?.text ?? "";
    assert.equal(said, whole.choices[0].text);
  },

  async "responses go on from each other, are read again, and go"() {
    const first = await chat.responses.create({ model, input: hello[0].content });
    const asked = { model, input: "What is my name?", previous_response_id: first.id };
    assert.match((await chat.responses.create(asked)).output_text, /Zorblax/);
    const kinds = [];
    let said = "";
    for await (const event of await chat.responses.create({ ...asked, stream: true })) {
      kinds.push(event.type);
      if (event.type === "response.output_text.delta") said += event.delta;
    }
    assert.match(said, /Zorblax/);
    assert.deepEqual([kinds[0], kinds.at(-1)], ["response.created", "response.completed"]);
    const stream = chat.responses.stream(asked);
    assert.match((await stream.finalResponse()).output_text, /Zorblax/);
    assert.equal((await chat.responses.retrieve(first.id)).id, first.id);
    for await (const item of chat.responses.inputItems.list(first.id)) assert.equal(item.role, "user");
    await chat.responses.delete(first.id);
    await assert.rejects(chat.responses.create(asked), (error) => {
      assert.ok(error instanceof OpenAI.NotFoundError);
      assert.equal(error.param, "previous_response_id");
      return true;
    });
  },

  async "a response calls a tool and is told its result"() {
    const tools = [{ type: "function", strict: true, ...weather }];
    const made = await chat.responses.create({
      model, input: "What is the weather?", tools, tool_choice: "required", max_output_tokens: 200,
    });
    const call = made.output.find((item) => item.type === "function_call");
    assert.ok("city" in JSON.parse(call.arguments));
    const after = await chat.responses.create({
      model, previous_response_id: made.id, tools, tool_choice: "none", max_output_tokens: 8,
      input: [{ type: "function_call_output", call_id: call.call_id, output: "sunny" }],
    });
    assert.equal(after.output[0].type, "message");
  },

  async "texts become vectors, by default in base64"() {
    const made = await embedder.embeddings.create({ model: "embedder", input: ["one", "two words"] });
    const plain = await embedder.embeddings.create({
      model: "embedder", input: "one", encoding_format: "float",
    });
    assert.equal(made.data.length, 2);
    assert.equal(made.data[0].embedding.length, 32);
    for (const [i, value] of plain.data[0].embedding.entries()) {
      assert.ok(Math.abs(value - made.data[0].embedding[i]) < 1e-3);
    }
  },

  async "documents are ranked"() {
    const made = await ranker.post("/rerank", { body: { query: "what?", documents: ["a", "b c"] } });
    assert.equal(made.results.length, 2);
  },

  async "an error is one of the client's"() {
    await assert.rejects(chat.chat.completions.create({ model: "gpt", messages: hello }), OpenAI.NotFoundError);
    await assert.rejects(chat.chat.completions.create({ model, messages: [] }), OpenAI.BadRequestError);
    await assert.rejects(chat.embeddings.create({ model, input: "x" }), OpenAI.BadRequestError);
  },

  async "a stream that is left ends"() {
    const stream = await chat.chat.completions.create({ model, messages: hello, stream: true });
    for await (const _ of stream) break;
    assert.ok((await chat.chat.completions.create({ model, messages: hello })).choices.length);
  },
};

let failed = 0;
for (const [name, fact] of Object.entries(facts)) {
  try {
    await fact();
    console.log(`ok      ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}`);
    console.error(error);
  }
}
process.exit(failed ? 1 : 0);
