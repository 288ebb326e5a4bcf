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

// The model, and its parent where the server has it.
export async function getModels(key) {
  const response = await fetch("v1/models", { headers: authorization(key) });
  if (!response.ok) throw await failure(response);
  return (await response.json()).data;
}

// Whether the records of how the model was made are consistent.
export async function getAudit(key) {
  const response = await fetch("v1/audit", { headers: authorization(key) });
  if (!response.ok) throw await failure(response);
  return response.json();
}

// Why a token that was written took its ranks: { explanations, explained_by, note }.
export async function getWhy(id, token, explainer, key) {
  const response = await fetch("v1/why", {
    method: "POST",
    headers: { "Content-Type": "application/json", ...authorization(key) },
    body: JSON.stringify({ id, token, explainer }),
  });
  if (!response.ok) throw await failure(response);
  return response.json();
}

// The model's circuit, as an SVG element without a style of its own.
export async function getCircuit(key) {
  const response = await fetch("v1/circuit", { headers: authorization(key) });
  if (!response.ok) throw await failure(response);
  const drawing = new DOMParser().parseFromString(await response.text(), "image/svg+xml").documentElement;
  drawing.querySelector("style")?.remove();
  return document.importNode(drawing, true);
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
