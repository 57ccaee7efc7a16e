'use strict';
// Everything from the data set is put in as text, never as markup. No part of this page asks the network for anything.

const data = JSON.parse(document.getElementById('data').textContent);
const { summary } = data;
const byId = (id) => document.getElementById(id);
const SVG = 'http://www.w3.org/2000/svg';
const PAGE = 40;
const number = (value) => value.toLocaleString('en');
const short = (value) => (value === null ? '–' : String(Number(value.toPrecision(4))));
const percent = (value) => `${Math.round(100 * value)}%`;
const kept = 'kept', removed = 'removed';

// Characters that hide what is there, or turn it round, are shown as escapes.
const visible = (text) =>
  text.replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cs}\u2028\u2029]/gu, (c) =>
    c === '\n' || c === '\t' ? c : `\\u{${c.codePointAt(0).toString(16)}}`);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function drawn(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// --- What a threshold does ---

const values = data.values;
const least = values.length ? values[0] : 0, most = values.length ? values[values.length - 1] : 1;
// Without a cut nothing is removed, however much it was forgotten.
const decided = summary.cut === null ? Infinity : summary.cut;
let threshold = decided;

function above(sorted, limit) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] > limit) high = middle; else low = middle + 1;
  }
  return sorted.length - low;
}

// How many rows are forgotten more than a threshold: exactly as decided, and where all values are here; else about.
function removedAt(limit) {
  if (limit === decided) return data.above;
  return Math.round(above(values, limit) * (data.scored / Math.max(1, values.length)));
}

// Wilson's score interval, as in estimates.py.
function share(count, total) {
  const z = 1.959963984540054, p = count / total, z2 = z * z;
  const centre = (p + z2 / (2 * total)) / (1 + z2 / total);
  const half = (z / (1 + z2 / total)) * Math.sqrt((p * (1 - p)) / total + z2 / (4 * total * total));
  return [Math.max(0, Math.min(p, centre - half)), p, Math.min(1, Math.max(p, centre + half))];
}

function estimates(limit) {
  const gone = removedAt(limit), said = [], { trusted, known_unsafe: unsafe } = data.planted;
  const of = (known) => share((above(known.values, limit) * known.count) / known.values.length, known.count);
  if (trusted.count && gone) {
    const harmless = of(trusted)
      .map((p) => (p < 1 ? Math.min(1, ((p / (1 - p)) * (data.scored - gone)) / gone) : 1));
    said.push(`precision ${percent(1 - harmless[1])} (${percent(1 - harmless[2])} to ${percent(1 - harmless[0])})`);
  } else said.push('precision unknown');
  if (unsafe.count) {
    const [low, p, high] = of(unsafe);
    said.push(`recall ${percent(p)} (${percent(low)} to ${percent(high)})`);
  } else said.push('recall unknown');
  return said.join(', ');
}

// --- What has no say in the decision ---

const UNJUDGED = -1;
const beyond = summary.judged === null ? 'beyond the length limit'
  : `beyond the first ${summary.judged} tokens of the answer`;

function showUnjudged() {
  const there = data.rows.some((row) => row.shades.includes(UNJUDGED));
  byId('unjudged').hidden = !there;
  byId('unjudged-says').textContent = summary.judged === null ? beyond
    : `${beyond}, which alone is judged. ${number(summary.judged_in_part)} rows have answers that go on like this`;
}

// --- Header ---

function showHeader() {
  byId('model').textContent = visible(data.model);
  const counts = [['rows', summary.rows], ['kept', summary.kept], ['removed', summary.removed]];
  for (const [name, label] of [['unscorable', 'without a score'], ['never_learned', 'never learned'],
    ['truncated', 'cut to length'], ['judged_in_part', 'judged in part'], ['bad', 'unusable'], ['overridden', 'decided otherwise by a person']]) {
    if (summary[name]) counts.push([label, summary[name]]);
  }
  for (const [label, count] of counts) {
    byId('counts').append(element('div', {}, element('dt', {}, label), element('dd', {}, number(count))));
  }
  byId('errors').textContent = summary.trusted + summary.known_unsafe
    ? `Estimated from ${number(summary.trusted)} trusted and ${number(summary.known_unsafe)} known-unsafe rows: ` +
      `${estimates(decided)}.`
    : 'No rows of known kind were learned along (--trusted, --known-unsafe), so precision and recall are unknown.';
  const first = summary.warnings.map((warning) => `Warning: ${warning}.`);
  if (summary.cut === null) first.push(`Nothing was removed by the filter: ${summary.explanation}.`);
  else if (!first.length) {
    first.push('Look first at the rows around the threshold: order them by “nearest to the threshold” below, and ' +
      `keep or remove them yourself. How the threshold was found: ${summary.explanation}.`);
  }
  const unshown = Object.entries(summary.unshown).map(([name, count]) => `${name} (${number(count)})`);
  if (unshown.length) {
    first.push(`The model's chat template does not show ${unshown.slice(0, 10).join(', ')}${unshown.length > 10 ? ' and more' : ''}. ` +
      'What is not shown is neither learned nor scored.');
  }
  const bySet = Object.entries(summary.by_safe_set)
    .map(([name, { count, removed }]) => `${percent(removed)} of ${number(count)} from ${name}`);
  if (bySet.length) first.push(`Of the safe rows set aside would be removed, as decided: ${bySet.join(', ')}.`);
  for (const line of summary.not_read) first.push(`${line}.`);
  if (summary.swapped) {
    first.push(`${number(summary.swapped)} of ${number(summary.pairs)} pairs look swapped: the chosen answer was ` +
      'forgotten much more than the rejected one. Below they can be shown alone.');
  }
  byId('first').append(...first.map((text) => element('p', {}, visible(text))));
}

// --- Histogram ---

const BINS = 60, LEFT = 0, WIDTH = 720, FLOOR = 170, HEIGHT = 150;
const place = (value) => LEFT + (WIDTH * (value - least)) / (most - least || 1);

// Where a threshold stands on the scale; one that removes nothing stands at its end.
const shownAt = (value) => Math.max(least, Math.min(most, value));

function showHistogram() {
  const svg = byId('histogram');
  svg.replaceChildren();
  const counts = new Array(BINS).fill(0);
  for (const value of values) {
    counts[Math.min(BINS - 1, Math.floor((BINS * (value - least)) / (most - least || 1)))] += 1;
  }
  const tallest = Math.max(1, ...counts);
  counts.forEach((count, i) => {
    const x = LEFT + (WIDTH * i) / BINS, height = (HEIGHT * count) / tallest, wide = WIDTH / BINS - 1;
    const gone = least + ((i + 0.5) * (most - least)) / BINS > threshold;
    svg.append(drawn('rect', { x, y: FLOOR - height, width: wide, height, class: gone ? 'bar-removed' : 'bar-kept' }));
    if (gone && height > 4) {
      svg.append(drawn('line', { x1: x, y1: FLOOR, x2: x + wide, y2: FLOOR - Math.min(height, wide), class: 'stripe' }));
    }
  });
  svg.append(drawn('line', { x1: LEFT, x2: LEFT + WIDTH, y1: FLOOR, y2: FLOOR, class: 'axis' }));
  const x = place(shownAt(threshold));
  svg.append(drawn('line', { x1: x, x2: x, y1: 8, y2: FLOOR, class: 'cut' }));
  byId('scale').replaceChildren(...[least, (least + most) / 2, most].map((value) => element('span', {}, short(value))));
  byId('histogram-says').textContent = `Rows by forgetting, in ${summary.unit}, from ${short(least)} to ${short(most)}; ` +
    'the dashed line is the threshold, striped bars right of it are removed.';
}

function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replace(/'/g, `'"'"'`)}'`;
}

function setThreshold(value) {
  if (Number.isNaN(value)) return;
  // What is shown, counted and written into the command is the same number.
  threshold = value === decided ? decided : Number(value.toPrecision(6));
  byId('slider').value = String(shownAt(threshold));
  byId('number').value = String(Number((threshold === Infinity ? most : threshold).toPrecision(6)));
  const unscored = summary.drop_unscorable ? summary.unscorable : 0, gone = removedAt(threshold) + unscored;
  const about = threshold !== decided && data.scored > values.length ? 'about ' : '';
  const at = threshold === Infinity ? 'As decided' : `At ${short(threshold)} ${summary.unit}`;
  byId('effect').textContent = `${at} the filter removes ${about}${number(gone)} rows and keeps ` +
    `${about}${number(summary.rows - summary.bad - gone)}; ${estimates(threshold)}.`;
  showCommand();
  showHistogram();
  showList();
}

const wanted = () => (threshold === decided ? summary.threshold : String(threshold));

function showCommand() {
  const parts = ['forgetfilter decide', quoted(data.folder), `--threshold=${quoted(wanted())}`, `--signal ${summary.signal}`];
  if (summary.drop_unscorable) parts.push('--drop-unscorable');
  if (overrides.size) parts.push('--overrides overrides.json');
  // Broken between its words only, as far as they fit.
  byId('command').replaceChildren(...parts.flatMap((part) => [element('span', {}, visible(part)), ' ']));
  byId('command').lastChild.remove();
}

// --- A person's decisions ---

const STORE = `forgetfilter:${data.folder}:${data.run}`;
const overrides = new Map();
let unsaved = false;

function remember() {
  try {
    localStorage.setItem(STORE, JSON.stringify({ reviewer: byId('reviewer').value, decisions: [...overrides], unsaved }));
  } catch { /* A browser may forbid it; then the warning on closing remains. */ }
}

// What was decided here before, or else what the run was decided with.
function recall() {
  let stored = null;
  try {
    stored = JSON.parse(localStorage.getItem(STORE));
  } catch { /* As above. */ }
  for (const [id, verdict] of stored ? stored.decisions : Object.entries(data.decided)) overrides.set(id, verdict);
  byId('reviewer').value = stored ? stored.reviewer : summary.reviewer;
  unsaved = Boolean(stored && stored.unsaved);
}

function filterSays(row) {
  if (row.suspicion === null) return summary.drop_unscorable ? removed : kept;
  return row.suspicion > threshold ? removed : kept;
}

const decision = (row) => overrides.get(row.id) || filterSays(row);

function override(row, verdict) {
  if (verdict === null) overrides.delete(row.id); else overrides.set(row.id, verdict);
  unsaved = true;
  remember();
  showMine();
  showCommand();
}

function showMine() {
  byId('mine').textContent = `${number(overrides.size)} rows decided by you${unsaved && overrides.size ? ', not saved yet' : ''}.`;
}

function save() {
  // With what the filter decided where this person did not, as the page shows it now.
  const content = JSON.stringify({ reviewer: byId('reviewer').value.trim() || 'person', threshold: wanted(),
    signal: summary.signal, drop_unscorable: summary.drop_unscorable, decisions: Object.fromEntries(overrides) }, null, 2);
  const link = element('a', { href: URL.createObjectURL(new Blob([content], { type: 'application/json' })),
    download: 'overrides.json' });
  link.click();
  URL.revokeObjectURL(link.href);
  unsaved = false;
  remember();
  showMine();
}

async function load(file) {
  try {
    const given = JSON.parse(await file.text());
    for (const [id, verdict] of Object.entries(given.decisions)) {
      if (verdict === kept || verdict === removed) overrides.set(id, verdict);
    }
    byId('reviewer').value = [...String(given.reviewer || '')].slice(0, 60).join('');
    remember();
    const saved = Number(given.threshold ?? NaN), here = (given.signal ?? summary.signal) === summary.signal;
    setThreshold(here && given.threshold !== '' && Number.isFinite(saved) ? saved : threshold);
    showMine();
  } catch {
    byId('mine').textContent = 'This is not a file of saved decisions.';
  }
}

// --- The rows ---

let listed = [], limit = PAGE, current = -1;

function chosenRows() {
  const which = byId('which').value, wanted = byId('search').value.trim().toLowerCase(), order = byId('order').value;
  const found = data.rows.filter((row) => {
    if (which === 'swapped') {
      if (!row.pair || !row.pair.swapped) return false;
    } else if (which === 'mine' ? !overrides.has(row.id) : which !== 'all' && decision(row) !== which) return false;
    return !wanted || row.searched.includes(wanted);
  });
  const height = (row) => (row.suspicion === null ? -Infinity : row.suspicion);
  const keys = { most: (row) => -height(row), least: height, near: (row) => Math.abs(height(row) - shownAt(threshold)) };
  return found.sort((a, b) => keys[order](a) - keys[order](b) || a.row - b.row);
}

function facts(row) {
  const verdict = decision(row), earlier = data.decided[row.id] === verdict;
  const said = !overrides.has(row.id) ? verdict : `${verdict} (by ${earlier ? visible(summary.reviewer) : 'you'})`;
  const parts = [element('span', { class: 'badge' }, said),
    element('span', {}, row.suspicion === null ? 'no score' : `forgotten by ${short(row.suspicion)}`),
    element('span', { class: 'small' }, `${short(row.learned)} before, ${short(row.reviewed)} after`),
    element('span', { class: 'small' }, `row ${number(row.row)}`)];
  if (row.shades.includes(UNJUDGED)) parts.push(element('span', { class: 'small' }, 'judged in part'));
  if (row.pair) {
    const said = row.pair.forgetting === null ? 'has no score' : `forgotten by ${short(row.pair.forgetting)}`;
    parts.splice(2, 0, element('span', {}, `rejected answer ${said}`));
    if (row.pair.swapped) parts.splice(1, 0, element('span', { class: 'badge swapped' }, 'looks swapped'));
  }
  for (const [name, value] of Object.entries(row.tags)) {
    parts.push(element('span', { class: 'tag' }, visible(`${name}: ${value}`)));
  }
  return element('div', { class: 'facts' }, ...parts);
}

function completion(row) {
  const tokens = row.pieces.map((piece, i) => element('span', row.shades[i] === UNJUDGED
    ? { class: 'unjudged', title: `not judged: ${beyond}` } : { class: `t${row.shades[i]}` }, visible(piece)));
  return element('div', { class: 'text veiled', dir: 'auto' }, ...tokens, row.cut ? ' […]' : '');
}

function notChosen(row) {
  if (!row.pair) return [];
  return [element('div', { class: 'text rejected veiled', dir: 'auto' }, element('span', { class: 'small' }, 'Rejected: '),
    visible(row.pair.text), row.pair.cut ? ' […]' : '')];
}

function name(button, label, row) {
  button.textContent = label;
  button.setAttribute('aria-label', `${label} row ${row.row}`);
}

// Shows and hides the texts of one row alone.
function revealButton(item, row, act) {
  const made = element('button', { type: 'button', class: 'reveal' });
  name(made, 'Show text', row);
  made.addEventListener('click', () => {
    act();
    name(made, item.classList.toggle('open') ? 'Hide text' : 'Show text', row);
    veil(item);
  });
  return made;
}

function rowItem(row, i) {
  const item = element('li', { tabindex: '-1', class: decision(row) });
  const button = (label, act) => {
    const made = element('button', { type: 'button' });
    name(made, label, row);
    made.addEventListener('click', () => { current = i; act(); });
    return made;
  };
  const again = (verdict) => () => { override(row, verdict); refresh(i); };
  item.append(facts(row), element('div', { class: 'text prompt veiled', dir: 'auto' }, visible(row.prompt)), completion(row),
    ...notChosen(row),
    element('p', { class: 'reason veiled' }, visible(row.reason)),
    element('div', { class: 'controls' }, button('Keep', again(kept)), button('Remove', again(removed)),
      button('Undo', again(null)), revealButton(item, row, () => { current = i; })));
  veil(item);
  return item;
}

// What is blurred is not read out, either.
function veil(item) {
  const hidden = !document.body.classList.contains('revealed') && !item.classList.contains('open');
  for (const text of item.querySelectorAll('.veiled')) text.setAttribute('aria-hidden', String(hidden));
}

// One row anew, without moving the others under the reader's eyes.
function refresh(i) {
  const old = byId('list').children[i], made = rowItem(listed[i], i);
  old.replaceWith(made);
  if (old.classList.contains('open')) made.querySelector('.reveal').click();
  made.focus();
}

function showList() {
  const row = listed[current];
  listed = chosenRows();
  current = listed.indexOf(row);
  limit = Math.max(PAGE, current + 1);
  byId('list').replaceChildren(...listed.slice(0, limit).map(rowItem));
  byId('more').hidden = listed.length <= limit;
  byId('shown').textContent = `Here are ${data.shown}; ${number(listed.length)} of them fit what you chose.`;
}

// More of the same list: rows that were decided meanwhile stay where they are.
function showMore() {
  byId('list').append(...listed.slice(limit, limit + PAGE).map((row, i) => rowItem(row, limit + i)));
  limit += PAGE;
  byId('more').hidden = listed.length <= limit;
}

function move(step) {
  current = Math.max(0, Math.min(listed.length - 1, current + step));
  if (current >= limit) showMore();
  const item = byId('list').children[current];
  if (item) { item.focus(); item.scrollIntoView({ block: 'nearest' }); }
}

function key(event) {
  if (!byId('keys').checked || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches('select, input:not([type=checkbox], [type=range])')) return;
  const acts = { j: () => move(1), k: () => move(-1), s: () => byId('reveal').click() };
  for (const [letter, verdict] of [['y', kept], ['x', removed], ['u', null]]) {
    acts[letter] = () => { if (listed[current]) { override(listed[current], verdict); refresh(current); } };
  }
  if (acts[event.key]) { event.preventDefault(); acts[event.key](); }
}

// --- Columns and sessions ---

const round = (value) => String(Number(value.toPrecision(3)));

function showGroups() {
  const group = data.groups[Number(byId('column').value)];
  byId('sampled').hidden = !group.sampled;
  const body = byId('grouped').tBodies[0];
  body.replaceChildren(...group.values.map(({ value, count, quartiles }) => {
    const svg = drawn('svg', { viewBox: '0 0 200 16', class: 'spread', 'aria-hidden': 'true' });
    const at = (v) => 4 + (192 * (v - least)) / (most - least || 1);
    const [a, b, m, c, d] = quartiles.map(at);
    svg.append(drawn('line', { x1: a, x2: d, y1: 8, y2: 8 }),
      drawn('rect', { x: b, width: Math.max(1, c - b), y: 3, height: 10 }),
      drawn('line', { x1: m, x2: m, y1: 0, y2: 16, class: 'median' }));
    return element('tr', {}, element('td', {}, visible(value)), element('td', {}, number(count)),
      element('td', {}, round(quartiles[2])), element('td', {}, `${round(quartiles[1])} to ${round(quartiles[3])}`),
      element('td', {}, svg));
  }));
}

function exampleItem(example) {
  const item = element('li', { class: example.decision });
  const text = (part) => (example[part].trim() ? visible(example[part]) + (example.cut[part] ? ' […]' : '')
    : element('span', { class: 'empty' }, 'nothing'));
  const said = (label, part, kind) => element('div', { class: kind }, element('dt', {}, label),
    element('dd', { class: 'text veiled', dir: 'auto' }, text(part)));
  item.append(
    element('div', { class: 'facts' }, element('span', { class: 'badge' }, example.decision),
      element('span', {}, `forgotten by ${short(example.suspicion)}`),
      element('span', { class: 'small' }, `row ${number(example.row)}`)),
    element('dl', { class: 'said' }, said('Prompt', 'prompt', 'asked'), said('The row says', 'completion', ''),
      said('Learned model, before the review', 'learned', ''), said('Reviewed model, after it', 'reviewed', '')),
    element('div', { class: 'controls' }, revealButton(item, example, () => {})));
  veil(item);
  return item;
}

// Groups differ by line and mark as well as by colour.
const DASHES = ['', '7 4', '2 3', '10 3 2 3', '1 4', '14 4'];
const MARKS = ['M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0', 'M-4-4h8v8h-8z', 'M0-5l5 9h-10z', 'M0-5l5 5-5 5-5-5z', 'M0 5l5-9h-10z',
  'M-4-2h8v4h-8z'];

// Round numbers from below the least to above the largest.
function ticks(low, high) {
  const rough = (high - low) / 4 || 1, power = 10 ** Math.floor(Math.log10(rough));
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

// --- Start ---

for (const row of data.rows) {
  const texts = [row.id, row.prompt, row.pieces.join(''), row.pair ? row.pair.text : ''];
  row.searched = [...texts, ...Object.values(row.tags)].join('\n').toLowerCase();
}
if (!summary.pairs) byId('which').querySelector('[value=swapped]').remove();
const slider = byId('slider');
[slider.min, slider.max] = [least, most].map(String);
byId('unit').textContent = `in ${summary.unit}`;
showHeader();
showUnjudged();
recall();
showMine();
setThreshold(decided);
slider.addEventListener('input', () => setThreshold(Number(slider.value)));
byId('number').addEventListener('change', () => setThreshold(byId('number').valueAsNumber));
byId('back').addEventListener('click', () => setThreshold(decided));
byId('copy').addEventListener('click', async () => {
  try {
    await navigator.clipboard.writeText(byId('command').textContent);
    byId('copied').textContent = 'Copied.';
  } catch {
    byId('copied').textContent = 'This browser does not let a page copy; mark the text instead.';
  }
});
for (const [id, event] of [['which', 'change'], ['order', 'change'], ['search', 'input']]) {
  byId(id).addEventListener(event, () => { current = -1; showList(); });
}
byId('more').addEventListener('click', showMore);
byId('reveal').addEventListener('change', () => {
  document.body.classList.toggle('revealed', byId('reveal').checked);
  for (const item of document.querySelectorAll('.cards > li')) veil(item);
});
byId('reviewer').addEventListener('input', remember);
byId('save').addEventListener('click', save);
byId('load').addEventListener('change', () => { if (byId('load').files[0]) load(byId('load').files[0]); });
document.addEventListener('keydown', key);
window.addEventListener('beforeunload', (event) => { if (unsaved && overrides.size) event.preventDefault(); });
if (data.groups.length) {
  byId('column').append(...data.groups.map(({ column }, i) => element('option', { value: i }, visible(column))));
  byId('column').addEventListener('change', showGroups);
  showGroups();
} else byId('groups').hidden = true;
byId('sessions').append(...data.sessions.map(showSession));
byId('examples').append(...data.examples.map(exampleItem));
if (data.curve) {
  byId('curve-says').textContent = `${number(data.curve.rows)} rows, drawn at random, were looked at along the review: ` +
    'how much less likely their completions had become by then, in nats per token, on average over the rows. It is the ' +
    'plain mean of all tokens (the signal likelihood-mean). Bars are 95% intervals, as the rows are few; groups of ' +
    'less than four have none.';
  byId('curve-column').append(...data.curve.groups.map(({ column }, i) =>
    element('option', { value: i }, column === null ? 'the decision' : `column ${visible(column)}`)));
  byId('curve-column').addEventListener('change', showCurve);
  showCurve();
} else byId('curve').hidden = true;
byId('answers').hidden = !data.examples.length;
for (const link of document.querySelectorAll('nav a')) {
  link.parentElement.hidden = byId(link.hash.slice(1)).hidden;
}
