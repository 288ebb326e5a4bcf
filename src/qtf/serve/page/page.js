// The page of `qtf serve`: asks for a text and shows what was decided for every token while it is written.
import { stream, getAudit, getModels } from "./stream.js";
import { showCompared, writeParent } from "./beside.js";
import { showCircuit, showWhy, hideWhy } from "./why.js";
import { drawEntropies, drawLevels } from "./charts.js";

const by = (id) => document.getElementById(id);
const mean = (numbers) => numbers.reduce((sum, x) => sum + x, 0) / Math.max(1, numbers.length);
const chosenLevels = (trace) => trace.level.filter((level) => level > 0);

let tokens = [];  // { id, number, trace, span }: of the answer `id`, its token `number`
let chosen = -1;
let running = null;  // an AbortController
let explainers = [];
let model = null, parent = null;  // as /v1/models tells them

function tell(message, bad = false) {
  by("message").textContent = message;
  by("message").classList.toggle("bad", bad);
}

// The chosen token's panel.
function choose(index) {
  if (index < 0 || index >= tokens.length) return;
  tokens[chosen]?.span.classList.remove("chosen");
  chosen = index;
  const { trace, span } = tokens[index];
  span.classList.add("chosen");
  const levels = chosenLevels(trace);
  by("token-summary").textContent =
    `“${trace.token}”, written after token ${trace.position} was read, in ${trace.ms.toFixed(2)} ms` +
    (levels.length ? `, at mean level ${mean(levels).toFixed(2)}` : "") +
    (trace.routed ? ", after a token that passed the quantum circuit." : ".");
  const rows = trace.entropy.map((entropy, layer) => {
    const row = document.createElement("tr");
    const meter = document.createElement("meter");
    meter.value = entropy;
    meter.setAttribute("aria-label", `entropy of layer ${layer}`);
    const value = document.createElement("td");
    value.append(meter, ` ${entropy.toFixed(2)}`);
    const name = document.createElement("td");
    name.textContent = layer;
    const level = document.createElement("td");
    level.textContent = trace.level[layer] || "–";
    row.append(name, value, level);
    return row;
  });
  by("layers").tBodies[0].replaceChildren(...rows);
  by("layers").hidden = false;
  by("ask-why").hidden = false;
  hideWhy();
  showCircuit(trace.routed, by("key").value);
}

// Opens the explanation of the chosen token.
function explain() {
  if (chosen >= 0) showWhy(tokens[chosen], explainers, by("key").value);
}

function add(id, trace, text) {
  const span = document.createElement("span");
  span.textContent = text;
  span.classList.toggle("routed", trace.routed);
  const index = tokens.length;
  span.addEventListener("pointerenter", () => choose(index));
  span.addEventListener("click", () => { choose(index); explain(); });
  by("text").append(span);
  tokens.push({ id, number: index, trace, span });
}

// Colours run from the least to the greatest entropy of the text, which the scale names.
function colour(entropies) {
  const least = Math.min(...entropies), most = Math.max(...entropies);
  by("least").textContent = least.toFixed(2);
  by("most").textContent = most.toFixed(2);
  tokens.forEach(({ span }, i) => {
    span.style.setProperty("--entropy", ((entropies[i] - least) / Math.max(1e-6, most - least)).toFixed(3));
  });
}

function draw() {
  const traces = tokens.map((token) => token.trace);
  if (traces.length) colour(traces.map((trace) => mean(trace.entropy)));
  drawEntropies(by("entropies"), traces.map((trace) => mean(trace.entropy)), traces.map((trace) => trace.routed));
  drawLevels(by("levels"), traces.map((trace) => trace.level));
  const levels = traces.flatMap(chosenLevels);
  by("level").textContent = levels.length ? mean(levels).toFixed(2) : "all";
  const routed = traces.filter((trace) => trace.routed).length;
  by("routed").textContent = traces.length ? `${((100 * routed) / traces.length).toFixed(0)} %` : "–";
}

// Once a frame, however fast tokens come: drawing must not hold up what is measured.
let frame = 0;
function drawSoon() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    draw();
  });
}

function request() {
  const body = {
    prompt: by("prompt").value,
    max_tokens: Number(by("tokens").value),
    temperature: Number(by("temperature").value),
    seed: Number(by("seed").value),
    trace: true,
    stream: true,
    stream_options: { include_usage: true },
  };
  const policy = by("policy").value;
  if (by("ranks").hidden) return body;
  if (policy.startsWith("level:")) return { ...body, level: Number(policy.slice(6)) };
  if (Number(by("latency").value) > 0) body.max_latency_ms = Number(by("latency").value);
  if (Number(by("joules").value) > 0) body.max_energy_per_query = Number(by("joules").value);
  return policy === "" ? body : { ...body, rank_policy: policy, mean_rank: Number(by("rank").value) };
}

// The same text's, without ranks to choose.
function parentRequest() {
  const { prompt, max_tokens, temperature, seed, trace, stream, stream_options } = request();
  return { prompt, max_tokens, temperature, seed, trace, stream, stream_options };
}

async function write() {
  if (running) return;
  running = new AbortController();
  by("run").disabled = true;
  by("stop").disabled = false;
  tokens = [];
  chosen = -1;
  by("ask-why").hidden = true;
  hideWhy();
  showCircuit(false);
  tell("");
  const prompt = document.createElement("b");
  prompt.textContent = by("prompt").value;
  by("text").replaceChildren(prompt);
  for (const id of ["speed", "first", "energy"]) by(id).textContent = "–";
  by("budget").parentElement.hidden = true;
  by("beside").hidden = true;
  const start = performance.now();
  let first = 0;
  const mine = { speed: 0, first: 0, joules: null };
  try {
    for await (const event of stream(request(), by("key").value, running.signal)) {
      const choice = event.choices[0];
      if (choice) {
        if (choice.trace) {
          first ||= performance.now();
          add(event.id, choice.trace[0], choice.text);
        } else if (choice.text) {
          by("text").append(choice.text);  // held back until the end
        }
        if (choice.budget) showBudget(choice.budget);
      }
      if (event.usage) {
        mine.joules = event.usage.energy?.joules ?? null;
        showUsage(event.usage);
      }
      const seconds = (performance.now() - first) / 1000;
      if (tokens.length > 1) mine.speed = (tokens.length - 1) / seconds;
      if (first) mine.first = first - start;
      if (mine.speed) by("speed").textContent = `${mine.speed.toFixed(0)} tokens/s`;
      if (first) by("first").textContent = `${mine.first.toFixed(0)} ms`;
      drawSoon();
    }
    draw();
    // One after the other: each has the machine to itself.
    if (parent && by("compare").checked) {
      const theirs = await writeParent({ ...parentRequest(), model: parent.id }, by("key").value, running.signal);
      showCompared([{ ...mine, name: model.id, bytes: model.qtf.bytes }, { ...theirs, name: parent.id, bytes: parent.qtf.bytes }]);
    }
  } catch (error) {
    if (error.name === "AbortError") tell("Stopped.");
    else tell(error.message, true);
  } finally {
    running = null;
    by("run").disabled = false;
    by("stop").disabled = true;
  }
}

// What the budgets made of the policy's mean rank.
function showBudget({ mean_rank: rank, kept, decisions }) {
  by("budget").parentElement.hidden = false;
  const changes = `${decisions.length} ${decisions.length === 1 ? "change" : "changes"}`;
  by("budget").textContent = kept
    ? `kept, at mean rank ${rank.toFixed(2)} after ${changes}`
    : `over, with the smallest ranks (${rank.toFixed(2)})`;
}

function showUsage({ energy, completion_tokens: written }) {
  by("energy").textContent = energy
    ? `${energy.joules.toPrecision(3)} J (${energy.low.toPrecision(2)}–${energy.high.toPrecision(2)}, ${energy.tier})`
    : "not known";
  tell(`${written} tokens.`);
}

function showModels([first, second]) {
  model = first;
  parent = second ?? null;
  by("with-parent").hidden = !parent;
  by("report").hidden = !model.qtf.report || by("key").value !== "";  // a link shows no key
  by("records").hidden = !model.qtf.records;
  by("model").textContent = model.id;
  const facts = model.qtf;
  const items = [
    `${facts.parameters.toLocaleString("en")} parameters`,
    `${(facts.bytes / 1e6).toFixed(2)} MB`,
    `${facts.ratio.toFixed(2)}× fewer than dense`,
    `context ${facts.context}`,
  ];
  if (facts.quantum) items.push(`circuit of ${facts.quantum.qubits} qubits`);
  by("facts").replaceChildren(...items.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  explainers = facts.explainers;
  by("tokens").max = String(Math.max(8, 2 * facts.context));
  if (facts.levels < 2) return;
  const options = [["", "all"]];
  if (facts.policy === "gate") options.push(["gate", "by the learned gate"]);
  if (facts.policy) options.push(["entropy", "by attention entropy"]);
  options.push(["random", "at random"]);
  for (let level = 1; level <= facts.levels; ++level) options.push([`level:${level}`, `level ${level} of ${facts.levels}`]);
  by("policy").replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  if (facts.policy) by("policy").value = "entropy";
  by("ranks").hidden = false;
  showMean();
}

// A mean rank is a policy's to have, and a budget's to drive; fixed levels have none.
function showMean() {
  const policy = by("policy").value;
  by("mean").hidden = !["gate", "entropy", "random"].includes(policy);
  for (const budget of document.querySelectorAll(".budget")) budget.hidden = policy.startsWith("level:");
}

for (const output of document.querySelectorAll("output")) {
  const input = by(output.getAttribute("for"));
  const show = () => { output.value = input.value; };
  input.addEventListener("input", show);
  show();
}
by("policy").addEventListener("change", showMean);
// A moved knob shows its effect at once, on the same prompt and seed.
for (const id of ["rank", "policy", "latency", "joules"]) by(id).addEventListener("change", () => { if (tokens.length) write(); });
by("ask").addEventListener("submit", (event) => { event.preventDefault(); write(); });
by("stop").addEventListener("click", () => running?.abort());
by("ask-why").addEventListener("click", explain);
by("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.ctrlKey && !event.metaKey) explain();
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10, Home: -tokens.length, End: tokens.length }[event.key];
  if (!step || !tokens.length) return;
  event.preventDefault();
  choose(Math.min(tokens.length - 1, Math.max(0, chosen + step)));
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) write();
  if (event.key === "Escape") running?.abort();
});

async function open() {
  try {
    showModels(await getModels(by("key").value));
    tell("");
  } catch (error) {
    by("access").open = true;
    tell(error.message, true);
  }
}
by("key").addEventListener("change", open);
by("records").addEventListener("toggle", async () => {
  if (!by("records").open) return;
  try {
    const { consistent, records, root, verify, problems } = await getAudit(by("key").value);
    by("audit").textContent = consistent
      ? `${records} records, consistent; root ${root}. Check them: ${verify}`
      : `The records were changed: ${problems[0].what}`;
  } catch (error) {
    by("audit").textContent = error.message;
  }
});
draw();
open();
