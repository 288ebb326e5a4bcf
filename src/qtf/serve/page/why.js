// What stands behind one token: its decisions in plain language, and the circuit that it passed.
import { getCircuit, getWhy } from "./stream.js";

const by = (id) => document.getElementById(id);
let asked = 0;  // answers to older questions are dropped
let circuit = null;

const element = (name, text, className = "") => Object.assign(document.createElement(name), { textContent: text, className });

export function hideWhy() {
  ++asked;
  by("why").hidden = true;
}

function show(answer, waiting) {
  const parts = answer.explanations.flatMap(({ subject, statements }) => [
    element("h3", subject),
    ...statements.map(({ text, refused }) => {
      const sentence = element("p", text);
      if (refused) sentence.title = `The service's own sentence was refused: ${refused}`;
      return sentence;
    }),
  ]);
  if (answer.note) parts.push(element("p", answer.note));
  if (waiting) parts.push(element("p", "K2 Think is being asked…", "hint"));
  else if (answer.explained_by) parts.push(element("p", `${answer.explained_by}.`, "hint"));
  by("why").replaceChildren(...parts);
}

// The program's own sentences at once; a service's, checked, in their place when they come.
export async function showWhy(token, explainers, key) {
  const mine = ++asked;
  by("why").hidden = false;
  by("why").replaceChildren(element("p", "…"));
  const services = explainers.filter((name) => name !== "template");
  try {
    token.why ||= await getWhy(token.id, token.number, "template", key);
    if (mine !== asked) return;
    show(token.why, services.length > 0 && !token.answered && token.why.explanations.length > 0);
    for (const name of services) {
      if (token.answered || !token.why.explanations.length) continue;
      token.why = await getWhy(token.id, token.number, name, key);
      token.answered = true;
      if (mine === asked) show(token.why, false);
    }
  } catch (error) {
    if (mine === asked) by("why").append(element("p", error.message, "bad"));
  }
}

// Only a routed token has passed it.
export async function showCircuit(routed, key) {
  by("circuit").hidden = !routed;
  if (!routed) return;
  circuit ||= getCircuit(key).catch(() => null);
  const drawing = await circuit;
  if (!drawing) return;
  drawing.setAttribute("role", "img");
  drawing.setAttribute("aria-label", "Quantum circuit");
  by("circuit").firstElementChild.replaceChildren(drawing);
}
