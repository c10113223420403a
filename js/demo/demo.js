// SPDX-License-Identifier: Apache-2.0
// The demo: one model as float ONNX, the same under brotli, and as .cwb; what comes over the wire, and when the first
// answer is there.
import * as ort from '../node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs';
import { loadCwb } from '../src/browser.js';

const CLASSES = ['T-shirt', 'Trousers', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot'];
const SIDE = 28;
const FIRST = 7; // the picture at the beginning, a sneaker
const WAYS = [
  { id: 'float', title: 'Float ONNX', file: 'model.onnx' },
  { id: 'brotli', title: 'Float ONNX, brotli', file: 'model.onnx.br' },
  { id: 'cwb', title: '.cwb', file: 'model.cwb' },
];

const at = (id) => document.getElementById(id);
const picture = at('picture').getContext('2d', { willReadFrequently: true });
ort.env.wasm.numThreads = 1;

/** A new element with texts or elements in it. */
function element(name, properties = {}, ...content) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...content);
  return made;
}

// Loading

const url = (file) => `../../build/demo-web/${file}${at('rate').value && `?rate=${at('rate').value}`}`;

async function loadFloat(address) {
  const answer = await fetch(address, { cache: 'no-store' });
  if (!answer.ok) throw new Error(`${address} answers ${answer.status}`);
  return ort.InferenceSession.create(new Uint8Array(await answer.arrayBuffer()));
}

async function load(way) {
  const address = new URL(url(way.file), location.href).href;
  performance.clearResourceTimings();
  const begin = performance.now();
  if (way.id === 'cwb') {
    const onprogress = ({ loaded, total }) => (way.progress.value = loaded / total);
    way.session = await loadCwb(await fetch(address, { cache: 'no-store' }), { ort, onprogress });
  } else {
    way.session = await loadFloat(address);
  }
  way.ready = performance.now() - begin;
  await classify(way);
  way.first = performance.now() - begin;
  way.progress.value = 1;
  const [entry] = performance.getEntriesByName(address);
  way.bytes = entry?.encodedBodySize ?? 0;
}

async function loadAll() {
  delete document.body.dataset.done;
  at('again').disabled = at('rate').disabled = true;
  draw();
  try {
    for (const way of WAYS)
      Object.assign(way, { session: undefined, bytes: undefined, ready: undefined, first: undefined, odds: undefined });
    for (const way of WAYS) {
      draw();
      way.progress.removeAttribute('value');
      at('verdict').textContent = `Loading ${way.title} …`;
      await load(way);
    }
    await answer();
    document.body.dataset.done = 'yes';
  } catch (error) {
    at('verdict').textContent = error.message;
    document.body.dataset.done = 'failed';
    throw error;
  } finally {
    at('again').disabled = at('rate').disabled = false;
  }
}

// Answers

async function classify(way) {
  const { data } = picture.getImageData(0, 0, SIDE, SIDE);
  const input = Float32Array.from({ length: SIDE * SIDE }, (_, i) => data[4 * i] / 255);
  const { logits } = await way.session.run({ input: new ort.Tensor('float32', input, [1, 1, SIDE, SIDE]) });
  const largest = Math.max(...logits.data);
  const powers = Array.from(logits.data, (value) => Math.exp(value - largest));
  const sum = powers.reduce((a, b) => a + b);
  way.odds = powers.map((power) => power / sum);
}

const best = (way) => way.odds.indexOf(Math.max(...way.odds));

async function answer() {
  const loaded = WAYS.filter((way) => way.session);
  for (const way of loaded) await classify(way);
  draw();
  if (loaded.length < WAYS.length) return;
  const answers = new Set(WAYS.map(best));
  const ratio = WAYS[0].bytes / WAYS[2].bytes;
  const same = answers.size === 1 ? `the same answer, ${CLASSES[best(WAYS[2])]},` : 'not the same answer';
  at('verdict').replaceChildren(
    element('span', { className: answers.size === 1 ? 'same' : '' }, `The .cwb file gives ${same}`),
    ` from ${ratio.toFixed(0)} times fewer bytes.`,
  );
}

// What is shown

const ms = (time) =>
  time === undefined
    ? '…'
    : time < 10_000
      ? `${Math.round(time).toLocaleString('en')} ms`
      : `${(time / 1000).toFixed(1)} s`;

function draw() {
  for (const way of WAYS) {
    const rows = [
      ['Over the wire', way.bytes === undefined ? '…' : `${way.bytes.toLocaleString('en')} bytes`],
      ['Session after', ms(way.ready)],
      ['First answer after', ms(way.first)],
    ];
    way.list.replaceChildren(...rows.flatMap(([term, value]) => [element('dt', {}, term), element('dd', {}, value)]));
    const order =
      way.odds?.map((odds, index) => ({ odds, name: CLASSES[index] })).sort((a, b) => b.odds - a.odds) ?? [];
    way.answer.replaceChildren(
      ...order
        .slice(0, 3)
        .map(({ odds, name }) =>
          element(
            'div',
            {},
            element('span', {}, name),
            element('meter', { value: odds, ariaLabel: name }),
            element('span', {}, `${(100 * odds).toFixed(1)} %`),
          ),
        ),
    );
  }
}

for (const way of WAYS) {
  way.progress = element('progress', { value: 0, ariaLabel: `Loading ${way.title}` });
  way.list = element('dl');
  way.answer = element('div', { className: 'answer' });
  at('cards').append(
    element('div', { className: 'card', id: way.id }, element('h2', {}, way.title), way.progress, way.list, way.answer),
  );
}

// Pictures

function show(pixels) {
  const image = picture.createImageData(SIDE, SIDE);
  pixels.forEach((value, index) => image.data.set([value, value, value, 255], 4 * index));
  picture.putImageData(image, 0, 0);
}

/** A photograph as the network knows them: grey, bright clothing in the middle of black. */
async function open(file) {
  const bitmap = await createImageBitmap(file);
  const scale = SIDE / Math.max(bitmap.width, bitmap.height);
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  picture.imageSmoothingQuality = 'high';
  picture.fillStyle = '#fff';
  picture.fillRect(0, 0, SIDE, SIDE);
  picture.drawImage(bitmap, (SIDE - width) / 2, (SIDE - height) / 2, width, height);
  const { data } = picture.getImageData(0, 0, SIDE, SIDE);
  const grey = Array.from(
    { length: SIDE * SIDE },
    (_, i) => 0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2],
  );
  const border = grey.filter((_, i) => i < SIDE || i % SIDE === 0 || i % SIDE === SIDE - 1 || i >= SIDE * (SIDE - 1));
  const isBright = border.reduce((a, b) => a + b) / border.length > 127;
  show(grey.map((value) => (isBright ? 255 - value : value)));
  await answer();
}

function clear() {
  show(Array(SIDE * SIDE).fill(0));
}

function paint(event) {
  const box = event.target.getBoundingClientRect();
  const [x, y] = [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
  picture.fillStyle = '#ccc';
  picture.beginPath();
  picture.arc(x, y, 1.4, 0, 7);
  picture.fill();
}

const canvas = at('picture');
canvas.addEventListener('pointerdown', (event) => {
  canvas.setPointerCapture(event.pointerId);
  paint(event);
});
canvas.addEventListener('pointermove', (event) => event.buttons && paint(event));
canvas.addEventListener('pointerup', answer);
canvas.addEventListener('dragover', (event) => {
  event.preventDefault();
  canvas.classList.add('over');
});
canvas.addEventListener('dragleave', () => canvas.classList.remove('over'));
canvas.addEventListener('drop', (event) => {
  event.preventDefault();
  canvas.classList.remove('over');
  if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
});
addEventListener('paste', (event) => event.clipboardData.files[0] && open(event.clipboardData.files[0]));
at('file').addEventListener('change', (event) => event.target.files[0] && open(event.target.files[0]));
at('clear').addEventListener('click', () => {
  clear();
  answer();
});
at('again').addEventListener('click', loadAll);

// Begin

async function begin() {
  at('rate').value = new URLSearchParams(location.search).get('rate') ?? at('rate').value;
  const samples = new Uint8Array(await (await fetch(url('samples.bin'))).arrayBuffer());
  for (let start = 0; start < samples.length; start += SIDE * SIDE + 1) {
    const [label, ...pixels] = samples.subarray(start, start + SIDE * SIDE + 1);
    show(pixels);
    const thumb = element('canvas', { width: SIDE, height: SIDE });
    thumb.getContext('2d').drawImage(canvas, 0, 0);
    const button = element('button', { title: CLASSES[label], ariaLabel: CLASSES[label] }, thumb);
    button.addEventListener('click', () => {
      show(pixels);
      answer();
    });
    at('samples').append(button);
  }
  show(samples.subarray(FIRST * (SIDE * SIDE + 1) + 1, (FIRST + 1) * (SIDE * SIDE + 1)));
  await ort.InferenceSession.create(url('identity.onnx')); // onnxruntime-web comes with the first session
  const runtime = performance.getEntriesByType('resource').filter(({ name }) => name.includes('/dist/ort'));
  at('runtime').textContent =
    `${(runtime.reduce((sum, { encodedBodySize }) => sum + encodedBodySize, 0) / 1e6).toFixed(1)} MB`;
  await loadAll();
}

begin().catch((error) => {
  at('verdict').textContent = error.message;
  document.body.dataset.done = 'failed';
});
