// OpenAI's own client, unchanged, against the server: client.mjs QTF MODEL
import { check, load, startServer } from "./server.mjs";

const { default: OpenAI } = await load("openai");

const [qtf, model] = process.argv.slice(2);
const server = await startServer(qtf, model, { QTF_API_KEYS: "key-of-this-test" });
try {
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "key-of-this-test", maxRetries: 0 });
  const models = await client.models.list();
  check(models.data.length === 1, "one model is listed");

  const asked = { model: models.data[0].id, prompt: "The ", max_tokens: 12, seed: 7, logprobs: 2 };
  const answer = await client.completions.create(asked);
  check(answer.choices[0].logprobs.tokens.length === answer.usage.completion_tokens, "log-probabilities come with a text");
  let text = "";
  for await (const part of await client.completions.create({ ...asked, stream: true })) text += part.choices[0].text;
  check(text === answer.choices[0].text, "the streamed text is the same");

  const conversation = { model: models.data[0].id, messages: [{ role: "user", content: "Who was he?" }], max_tokens: 12, seed: 1, n: 2 };
  const chat = await client.chat.completions.create(conversation);
  check(chat.choices.length === 2 && chat.choices[0].message.role === "assistant", "a conversation gets its answers");
  const parts = ["", ""];
  for await (const part of await client.chat.completions.create({ ...conversation, stream: true, stream_options: { include_usage: true } }))
    for (const choice of part.choices) parts[choice.index] += choice.delta.content ?? "";
  check(chat.choices.every((choice) => parts[choice.index] === choice.message.content), "and streams them");

  for (const [what, call, status] of [
    ["a wrong key", () => new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "no", maxRetries: 0 }).models.list(), 401],
    ["a bad field", () => client.completions.create({ ...asked, temperature: -1 }), 400],
  ]) {
    const error = await call().then(() => null, (failure) => failure);
    check(error?.status === status && error.message.length > 10, `${what} is refused with ${status}`);
  }
} finally {
  server.stop();
}
