'use strict';
// Charts of the threshold and the sessions. Comes before page.js, whose elements and numbers it uses.

// Groups differ by line and mark as well as by colour.
const DASHES = ['', '7 4', '2 3', '10 3 2 3', '1 4', '14 4'];
const MARKS = ['M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0', 'M-4-4h8v8h-8z', 'M0-5l5 9h-10z', 'M0-5l5 5-5 5-5-5z', 'M0 5l5-9h-10z',
  'M-4-2h8v4h-8z'];

// Round numbers from below the least to above the largest.
function ticks(low, high, parts = 4) {
  const rough = (high - low) / parts || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((times) => times * power >= rough), found = [];
  for (let i = Math.floor(low / step); i <= Math.ceil(high / step); i += 1) found.push(Number((i * step).toPrecision(6)));
  return found;
}

// An empty chart with its axes; returns where a point stands in it.
function chart(svg, { values, stops, along, upwards }) {
  const marked = ticks(Math.min(...values), Math.max(...values)), low = marked[0], high = marked[marked.length - 1];
  const first = stops[0], last = stops[stops.length - 1];
  const x = (step) => 50 + (294 * (step - first)) / (last - first || 1);
  const y = (value) => 158 - (136 * (value - low)) / (high - low);
  svg.replaceChildren(drawn('text', { x: 2, y: 11 }, upwards),
    drawn('text', { x: 196, y: 188, 'text-anchor': 'middle' }, along));
  for (const value of marked) {
    svg.append(drawn('line', { x1: 40, x2: 352, y1: y(value), y2: y(value), class: value === 0 ? 'axis' : 'grid' }),
      drawn('text', { x: 36, y: y(value) + 3.5, 'text-anchor': 'end' }, String(value)));
  }
  // As many of the stops as there is room for, the last in any case.
  let free = 0;
  for (const stop of stops) {
    if (stop !== last && (x(stop) < free || x(stop) > x(last) - 30)) continue;
    svg.append(drawn('text', { x: x(stop), y: 173, 'text-anchor': 'middle' }, number(stop)));
    free = x(stop) + 30;
  }
  return { x, y };
}

function showSession({ title, steps, tokens, seconds, loss }) {
  const svg = drawn('svg', { viewBox: '0 0 360 190', role: 'img', class: 'chart',
    'aria-label': `Loss from ${short(loss[0])} to ${short(loss[loss.length - 1])}` });
  const middle = Math.round((steps + 1) / 2), stops = steps > 2 ? [1, middle, steps] : [1, steps];
  const { x, y } = chart(svg, { values: loss, stops, along: 'step', upwards: 'loss (nats per token)' });
  const points = loss.map((value, i) => `${x(1 + ((steps - 1) * i) / Math.max(1, loss.length - 1))},${y(value)}`);
  svg.append(drawn('polyline', { points: points.join(' '), class: 'curve' }));
  return element('figure', {}, element('h3', {}, title), svg, element('figcaption', {}, `${number(steps)} steps, ` +
    `${number(tokens)} tokens in ${number(Math.round(seconds))} seconds: ${number(Math.round(tokens / seconds))} a second`));
}

const withHalf = (mean, half) => `${mean.toFixed(2)}${half === null ? '' : ` ± ${half.toFixed(2)}`}`;

function showCurve() {
  const { steps, groups } = data.curve, { values: lines } = groups[Number(byId('curve-column').value)];
  const ends = lines.flatMap(({ mean, half }) => mean.flatMap((m, i) => [m - (half[i] || 0), m + (half[i] || 0)]));
  const svg = byId('curve-drawn'), last = steps[steps.length - 1];
  const { x, y } = chart(svg, { values: [0, ...ends], stops: steps, along: 'steps of the review',
    upwards: 'forgetting (nats per token)' });
  lines.forEach(({ mean, half }, i) => {
    // Bars of groups that were looked at together stand side by side.
    const at = steps.map((step) => x(step) + 3 * (i - (lines.length - 1) / 2));
    svg.append(drawn('polyline', { points: mean.map((m, k) => `${at[k]},${y(m)}`).join(' '), class: `series s${i}`,
      'stroke-dasharray': DASHES[i] }));
    mean.forEach((m, k) => {
      if (half[k]) {
        svg.append(drawn('line', { x1: at[k], x2: at[k], y1: y(m - half[k]), y2: y(m + half[k]), class: `series s${i}` }));
      }
      svg.append(drawn('path', { d: MARKS[i], transform: `translate(${at[k]} ${y(m)})`, class: `mark s${i}` }));
    });
  });
  svg.setAttribute('aria-label', `Mean forgetting after ${number(last)} steps: ` +
    lines.map(({ value, mean }) => `${visible(value)} ${mean[mean.length - 1].toFixed(2)}`).join(', '));
  byId('curve-key').replaceChildren(...lines.map(({ value, count }, i) => {
    const sample = drawn('svg', { viewBox: '0 0 40 12', 'aria-hidden': 'true' });
    sample.append(drawn('line', { x1: 0, x2: 40, y1: 6, y2: 6, class: `series s${i}`, 'stroke-dasharray': DASHES[i] }),
      drawn('path', { d: MARKS[i], transform: 'translate(20 6)', class: `mark s${i}` }));
    return element('li', {}, sample, `${visible(value)} (${number(count)} rows)`);
  }));
  const table = byId('curve-table');
  table.tHead.replaceChildren(element('tr', {}, element('th', { scope: 'col' }, 'Steps'),
    ...lines.map(({ value, count }) => element('th', { scope: 'col' }, `${visible(value)} (${number(count)})`))));
  table.tBodies[0].replaceChildren(...steps.map((step, k) => element('tr', {},
    element('th', { scope: 'row' }, number(step)),
    ...lines.map(({ mean, half }) => element('td', {}, withHalf(mean[k], half[k]))))));
}

// --- The histogram ---

const BINS = 60, LEFT = 48, RIGHT = 12, TOP = 20, FLOOR = 190, MARKS_SHOWN = 200;

// Round numbers within a range, both ends included.
const within = (low, high, parts) => ticks(low, high, parts).filter((tick) => tick >= low && tick <= high);

function showHistogram() {
  const svg = byId('histogram'), wide = Math.max(240, svg.clientWidth || 720), known = [];
  svg.setAttribute('viewBox', `0 0 ${wide} ${FLOOR + 44}`);
  const width = wide - LEFT - RIGHT, place = (value) => LEFT + (width * (value - least)) / (most - least || 1);
  const counts = new Array(BINS).fill(0), each = data.scored / Math.max(1, values.length);
  for (const value of values) {
    counts[Math.min(BINS - 1, Math.floor((BINS * (value - least)) / (most - least || 1)))] += each;
  }
  const marked = within(0, Math.max(1, ...counts)).filter(Number.isInteger);
  const tallest = Math.max(1, ...counts), y = (count) => FLOOR - ((FLOOR - TOP) * count) / tallest;
  svg.replaceChildren(drawn('text', { x: 2, y: 11 }, 'rows'));
  for (const count of marked) {
    svg.append(drawn('line', { x1: LEFT, x2: wide - RIGHT, y1: y(count), y2: y(count), class: count ? 'grid' : 'axis' }),
      drawn('text', { x: LEFT - 6, y: y(count) + 4, 'text-anchor': 'end' }, number(count)));
  }
  counts.forEach((count, i) => {
    if (!count) return;
    // Few rows among a million have a bar that can be seen.
    const x = LEFT + (width * i) / BINS, bar = Math.max(1, width / BINS - 1), height = Math.max(2, FLOOR - y(count));
    const gone = least + ((i + 0.5) * (most - least)) / BINS > threshold;
    svg.append(drawn('rect', { x, y: FLOOR - height, width: bar, height, class: gone ? 'bar-removed' : 'bar-kept' }));
    if (gone && height > 4) {
      svg.append(drawn('line', { x1: x, y1: FLOOR, x2: x + bar, y2: FLOOR - Math.min(height, bar), class: 'stripe' }));
    }
  });
  // Rows of known kind stand below the axis.
  for (const [kind, { values: own }] of Object.entries(data.planted)) {
    if (own.length) known.push(kind);
    const step = Math.max(1, own.length / MARKS_SHOWN);
    for (let i = 0; i < own.length; i += step) {
      const x = place(Math.max(least, Math.min(most, own[Math.floor(i)])));
      svg.append(kind === 'trusted' ? drawn('line', { x1: x, x2: x, y1: FLOOR + 3, y2: FLOOR + 11, class: 'trusted' })
        : drawn('path', { d: `M${x - 4} ${FLOOR + 20}l4-7 4 7z`, class: 'known-unsafe' }));
    }
  }
  for (const value of within(least, most, width / 70)) {
    svg.append(drawn('text', { x: place(value), y: FLOOR + 36, 'text-anchor': 'middle' }, String(value).replace('-', '−')));
  }
  const x = place(shownAt(threshold));
  svg.append(drawn('line', { x1: x, x2: x, y1: TOP - 14, y2: FLOOR + 22, class: 'cut' }));
  const named = { trusted: 'short strokes below are trusted rows, which are harmless',
    known_unsafe: 'triangles below are known unsafe rows' };
  byId('histogram-says').textContent = [`Rows by ${signal.quantity}, in ${summary.unit}; the dashed line is the threshold, ` +
    'striped bars right of it are removed', ...known.map((kind) => named[kind])].join('; ') + '.';
}
