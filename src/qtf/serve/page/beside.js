// The same prompt, written by the dense parent, and both side by side in figures.
import { stream } from "./stream.js";

const by = (id) => document.getElementById(id);

// Writes the text; what was measured: { speed, first, joules }, in tokens a second, ms and J.
export async function writeParent(body, key, signal) {
  by("beside").hidden = false;
  const prompt = Object.assign(document.createElement("b"), { textContent: body.prompt });
  by("parent-text").replaceChildren(prompt);
  const start = performance.now();
  let first = 0, joules = null, speed = 0, written = 0;
  for await (const event of stream(body, key, signal)) {
    const choice = event.choices[0];
    if (choice?.text) by("parent-text").append(choice.text);
    if (choice?.trace) {
      first ||= performance.now();
      if (++written > 1) speed = (written - 1) / ((performance.now() - first) / 1000);
    }
    if (event.usage) joules = event.usage.energy?.joules ?? null;
  }
  return { speed, first: first - start, joules };
}

// two: { name, bytes, speed, first, joules }, the model's and the parent's.
export function showCompared(two) {
  const rows = [
    ["tokens/s", ({ speed }) => speed.toFixed(0)],
    ["first token, ms", ({ first }) => first.toFixed(0)],
    ["joules", ({ joules }) => (joules === null ? "–" : joules.toPrecision(3))],
    ["megabytes", ({ bytes }) => (bytes / 1e6).toFixed(2)],
  ];
  two.forEach(({ name }, i) => { by("compared").tHead.rows[0].cells[i + 1].textContent = name; });
  by("compared").tBodies[0].replaceChildren(...rows.map(([what, show]) => {
    const row = document.createElement("tr");
    row.append(Object.assign(document.createElement("th"), { scope: "row", textContent: what }));
    for (const one of two) row.append(Object.assign(document.createElement("td"), { textContent: show(one) }));
    return row;
  }));
}
