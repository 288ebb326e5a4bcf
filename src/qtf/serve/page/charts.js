// Two small charts, drawn anew as tokens come.

const kWidth = 600, kHeight = 140, kLeft = 46, kBottom = 22, kTop = 8;

function shape(name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function frame(labels) {
  const parts = [];
  for (const [share, label] of labels) {
    const y = kTop + (1 - share) * (kHeight - kTop - kBottom);
    parts.push(shape("line", { x1: kLeft, x2: kWidth, y1: y, y2: y, class: "axis" }));
    parts.push(shape("text", { x: kLeft - 6, y: y + 4, "text-anchor": "end" }, label));
  }
  return parts;
}

// entropies: a number in [0, 1] a token; routed: whether it passed the circuit.
export function drawEntropies(svg, entropies, routed) {
  const parts = frame([[0, "0"], [0.5, "½"], [1, "1"]]);
  const x = (i) => kLeft + ((i + 0.5) / Math.max(8, entropies.length)) * (kWidth - kLeft);
  const y = (value) => kTop + (1 - value) * (kHeight - kTop - kBottom);
  if (entropies.length > 0) {
    const points = entropies.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    parts.push(shape("polyline", { points, class: "line" }));
  }
  routed.forEach((is, i) => {
    if (is) parts.push(shape("circle", { cx: x(i), cy: y(entropies[i]), r: 3.5, class: "dot" }));
  });
  svg.replaceChildren(...parts);
}

// levels: of every token, a level a layer; 0 where none was chosen.
export function drawLevels(svg, levels) {
  const layers = levels.length ? levels[0].length : 0;
  const parts = frame([[0, "0 %"], [1, "100 %"]]);
  const step = (kWidth - kLeft) / Math.max(1, layers);
  for (let layer = 0; layer < layers; ++layer) {
    const counts = [0, 0, 0, 0, 0];
    for (const token of levels) ++counts[token[layer]];
    const total = levels.length - counts[0];
    let below = 0;
    for (let level = 1; level <= 4 && total > 0; ++level) {
      const height = (counts[level] / total) * (kHeight - kTop - kBottom);
      below += height;
      const bar = shape("rect", {
        x: kLeft + layer * step + step * 0.15, width: step * 0.7, height, y: kHeight - kBottom - below,
        class: `level-${level}`,
      });
      bar.append(shape("title", {}, `layer ${layer}: ${counts[level]} of ${total} tokens at level ${level}`));
      parts.push(bar);
    }
    parts.push(shape("text", { x: kLeft + (layer + 0.5) * step, y: kHeight - 6, "text-anchor": "middle" }, layer));
  }
  svg.replaceChildren(...parts);
}
