"use strict";
// Shows runs that were computed when the page was written (c2f_lrp/play.py); here they are only unpacked and drawn.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const size = data.size, area = size * size;
const LARGE = 512;  // pixels a side of a canvas: a multiple of the image's, so that its pixels stay squares
// Blue, white, red: matplotlib's RdBu, reversed.
const COLOURS = [[5, 48, 97], [33, 102, 172], [67, 147, 195], [146, 197, 222], [209, 229, 240], [247, 247, 247],
  [253, 219, 199], [244, 165, 130], [214, 96, 77], [178, 24, 43], [103, 0, 31]];
const now = {scene: 0, attack: "", eps: "", step: 0};
let bytes, timer = null;

async function unpack() {
  if (!("DecompressionStream" in window))
    throw new Error("This browser is too old to unpack the pictures; use one from 2023 or later.");
  const packed = Uint8Array.from(atob($("pictures").textContent), c => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// ------------------------------------------------------------------------------------------------ what is looked at
const scene = () => data.scenes[now.scene];
const runs = () => scene().runs[now.attack];
const unbounded = () => "" in runs();
const run = () => runs()[unbounded() ? "" : now.eps];

/** int8 values of one step, from the changes that each step adds; step 0 is `start`, or nothing. */
function at(offset, length, step) {
  const values = new Int8Array(length);
  for (let k = 0; k < step; k++) {
    const part = new Int8Array(bytes.buffer, offset + k * length, length);
    for (let i = 0; i < length; i++) values[i] += part[i];
  }
  return values;
}
const perturbation = step => at(run().eta, 3 * area, step);
const evidence = step => step ? at(run().evidence, area, step) : new Int8Array(bytes.buffer, scene().evidence, area);

// --------------------------------------------------------------------------------------------------------- drawing
function paint(canvas, colour, outlined) {
  const small = new OffscreenCanvas(size, size), pixels = new ImageData(size, size);
  for (let i = 0; i < area; i++) pixels.data.set([...colour(i), 255], 4 * i);
  small.getContext("2d").putImageData(pixels, 0, 0);
  canvas.width = canvas.height = LARGE;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, LARGE, LARGE);
  if (outlined) outline(context);
}

/** The edges of both masks: solid around the object, dashed around the other one. */
function outline(context) {
  const masks = bytes.subarray(scene().masks, scene().masks + area), side = LARGE / size;
  for (const bit of [1, 2]) {
    const inside = (x, y) => x >= 0 && y >= 0 && x < size && y < size && (masks[y * size + x] & bit) > 0;
    const path = new Path2D();
    for (let y = 0; y <= size; y++) for (let x = 0; x <= size; x++) {
      if (bit === 2 && (x + y) % 2) continue;
      if (inside(x, y) !== inside(x, y - 1)) { path.moveTo(x * side, y * side); path.lineTo((x + 1) * side, y * side); }
      if (inside(x, y) !== inside(x - 1, y)) { path.moveTo(x * side, y * side); path.lineTo(x * side, (y + 1) * side); }
    }
    context.strokeStyle = "#111";
    context.lineWidth = 3;
    context.stroke(path);
  }
}

/** -1 (blue) to 1 (red). */
function diverging(value) {
  const place = (Math.max(-1, Math.min(1, value)) + 1) / 2 * (COLOURS.length - 1);
  const low = Math.min(Math.floor(place), COLOURS.length - 2), share = place - low;
  return COLOURS[low].map((c, k) => Math.round(c + share * (COLOURS[low + 1][k] - c)));
}

const clean = i => [0, 1, 2].map(c => bytes[scene().pixels + c * area + i]);
const percent = (value, digits = 0) => (100 * value).toFixed(digits) + "\u00a0%";
const element = (tag, text = "", name = "") => Object.assign(document.createElement(tag), {textContent: text, className: name});
const called = ([coarse, fine]) => `${data.coarse[coarse]} / ${data.fine[coarse][fine]}`;

function show() {
  const s = scene(), r = run(), k = now.step, last = r.last;
  const org = data.coarse[s.org], adv = data.coarse[s.adv], label = r.labels[k];
  const eta = perturbation(k), before = evidence(0), here = evidence(k), outlined = $("outlines").checked;

  const flipped = label[0] !== s.org;
  const state = k === 0 ? "" : flipped ? "fooled" : k === last ? "holds" : "";
  $("verdict").className = state;
  $("verdict").children[0].textContent = k === 0 ? "BEFORE" : flipped ? "FOOLED" : k === last ? "NOT FOOLED" : "NOT YET";
  $("verdict").children[1].textContent = k === 0 ? `the network says ${org}` : flipped ?
    `${org} → ${data.coarse[label[0]]}, after ${k} step${k > 1 ? "s" : ""}` : `still ${org}` + (k === last ? ` after ${k} steps` : "");
  $("step").max = last;
  $("step").value = k;
  $("step-says").textContent = `step ${k} of ${last}`;

  paint($("before"), clean);
  paint($("now"), i => clean(i).map((v, c) => Math.max(0, Math.min(255, Math.round(v + eta[c * area + i] * r.bound / data.fine_steps)))));
  paint($("added"), i => [0, 1, 2].map(c => Math.round(127.5 * (1 + eta[c * area + i] / data.fine_steps))));
  paint($("evidence"), i => diverging(here[i] / data.shades), outlined);
  paint($("moved"), i => diverging((here[i] - before[i]) / data.shades), outlined);

  $("before").nextElementSibling.textContent = called(r.labels[0]);
  $("now").nextElementSibling.textContent = called(label);
  $("now-title").textContent = `now, after step ${k}`;
  $("factor").textContent = `× ${Number((127.5 / r.bound).toPrecision(3))}`;
  $("added").nextElementSibling.textContent = `largest change: ${r.largest[k]} of 255`;
  bars(r.scores[0], r.scores[k], s);
  scale("evidence", `for ${adv}`, `for ${org}`, s.end);
  scale("moved", `towards ${adv}`, `towards ${org}`, s.end);
  const [object, beside] = r.shares.map(shares => `${percent(shares[0])} → ${percent(shares[k])}`);
  $("numbers").textContent = `Of what speaks for ${org} and not for ${adv} (red), the share on the ${org}: ${object}; ` +
    `on the ${data.coarse[s.beside]} beside it: ${beside}.`;
  $("outlines-say").textContent = `(solid: the ${org}; dashed: the ${data.coarse[s.beside]})`;
  $("run").textContent = timer ? "❚❚" : "▶";
}

function bars(before, after, s) {
  const rows = data.coarse.flatMap((name, i) => {
    const kind = i === s.org ? "org" : i === s.adv ? "adv" : "rest", track = element("div", "", kind);
    for (const score of [before[i], after[i]]) {
      const bar = element("i");
      bar.style.width = percent(score, 2).replace("\u00a0", "");
      track.append(bar);
    }
    return [element(kind === "rest" ? "span" : "b", name, kind), track, element("span", after[i].toFixed(2), kind)];
  });
  $("bars").replaceChildren(...rows);
}

/** A colour bar. Its ends are told as shares of an average pixel's relevance: both heat maps are nearly the same. */
function scale(id, low, high, end) {
  const bar = element("i"), names = element("div"), ends = element("div");
  bar.style.background = `linear-gradient(to right, ${COLOURS.map(c => `rgb(${c})`).join(", ")})`;
  names.append(element("b", low, "adv"), element("b", high, "org"));
  const value = Number((100 * end * area).toPrecision(2));
  ends.append(element("span", `−${value}\u00a0%`), element("span", "0"), element("span", `${value}\u00a0%`));
  $(id).nextElementSibling.replaceChildren(bar, ends, names);
}

// --------------------------------------------------------------------------------------------------------- choosing
function radios(where, name, entries, chosen) {
  $(where).replaceChildren(...entries.map(([value, text]) => {
    const label = element("label"), input = element("input"), face = element("span", text);
    Object.assign(input, {type: "radio", name, value, id: `${name}-${value}`});
    input.addEventListener("change", () => { stop(); chosen(value); });
    label.append(input, face);
    return label;
  }));
}

function choose(changes) {
  Object.assign(now, changes);
  $(`scene-${now.scene}`).checked = $(`attack-${now.attack}`).checked = $(`eps-${now.eps}`).checked = true;
  $("bound").disabled = unbounded();
  $("says").textContent = scene().says;
  $("attack-says").textContent = data.attacks[now.attack].says;
  now.step = Math.min(changes.step ?? run().last, run().last);
  show();
}

function stop() {
  clearInterval(timer);
  timer = null;
}

function play() {
  if (timer) { stop(); show(); return; }
  if (now.step >= run().last) now.step = 0;
  timer = setInterval(() => {
    now.step++;
    if (now.step >= run().last) stop();
    show();
  }, 450);
  show();
}

function explain() {
  const m = data.made, text = [
    "The network is the package's own coarse network for scenes of 64 × 64 pixels; scores, labels and shares are those of the " +
    `exact images. Pictures are rounded: what was added to 1/${data.fine_steps} of its bound, heat maps to 1/${data.shades} of ` +
    "the end of their scale.",
    `An attack takes at most ${m.steps} steps, each of ε/${m.parts} (DeepFool: as it needs), and stops when the label has changed.`,
    "The heat maps are those of layer-wise relevance propagation, one-hot start, for the label and the runner-up of the clean " +
    "image. They are so alike that only their difference shows anything, each scaled to the same sum: red, more for the label; " +
    "blue, more for the runner-up. The ends of the colour bar are in percent of an average pixel's relevance, and one scale " +
    "serves all attacks on a scene.",
    `Scenes were chosen by rules among the first ${m.pool} scenes of the evaluation part that are classified correctly and show ` +
    "enough of a second object. “The attack” is LRPC with the one-hot start at ε = 10.",
  ].map(words => element("p", words));
  const rules = element("ul");
  rules.append(...data.scenes.map(s => element("li", `${s.title} (${s.name}): ${s.how}.`)));
  const made = `c2f_lrp ${m.version}, torch ${m.torch}; weights ${m.weights.slice(0, 12)}…; written by c2f_lrp.play.write_page, which c2f-lrp book calls.`;
  $("made").replaceChildren(...text, rules, element("p", made, "small"));
}

async function start() {
  bytes = await unpack();
  radios("scenes", "scene", data.scenes.map((s, i) => [i, s.title]), i => choose({scene: +i, ...data.scenes[i].start}));
  data.scenes.forEach((s, i) => {
    const canvas = element("canvas");
    canvas.width = canvas.height = size;
    const pixels = new ImageData(size, size);
    for (let p = 0; p < area; p++)
      pixels.data.set([0, 1, 2].map(c => bytes[s.pixels + c * area + p]).concat(255), 4 * p);
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    $(`scene-${i}`).nextElementSibling.prepend(canvas);
  });
  radios("attacks", "attack", Object.entries(data.attacks).map(([key, a]) => [key, a.title]), attack => choose({attack}));
  radios("epsilons", "eps", data.epsilons.map(eps => [eps, eps]), eps => choose({eps}));
  $("step").addEventListener("input", () => { stop(); now.step = +$("step").value; show(); });
  $("run").addEventListener("click", play);
  $("outlines").addEventListener("change", show);
  explain();
  document.querySelector("main").hidden = false;
  choose({scene: 0, ...data.scenes[0].start});
  document.body.classList.toggle("framed", parent !== window);
  // Inside the book the page lies in a frame, which is to be as high as the page.
  if (parent !== window)
    new ResizeObserver(() => parent.postMessage({play: document.body.scrollHeight + 8}, "*")).observe(document.body);
}

start().catch(error => document.querySelector("header").append(element("p", error.message, "problem")));
