// The server's API as this page uses it.

async function failure(response) {
  const text = await response.text();
  try {
    return new Error(JSON.parse(text).error.message);
  } catch {
    return new Error(`The server answered ${response.status}.`);
  }
}

const authorization = (key) => (key ? { Authorization: `Bearer ${key}` } : {});

export async function getModel(key) {
  const response = await fetch("v1/models", { headers: authorization(key) });
  if (!response.ok) throw await failure(response);
  return (await response.json()).data[0];
}

// The events of a streamed completion, as they come.
export async function* stream(body, key, signal) {
  const response = await fetch("v1/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json", ...authorization(key) },
    body: JSON.stringify(body),
    signal,
  });
  if (!response.ok) throw await failure(response);
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += decoder.decode(value, { stream: true });
    for (let end = held.indexOf("\n\n"); end >= 0; end = held.indexOf("\n\n")) {
      const line = held.slice(0, end);
      held = held.slice(end + 2);
      if (line === "data: [DONE]") return;
      if (line.startsWith("data: ")) yield JSON.parse(line.slice(6));
    }
  }
}
