'use strict';
// Everything from the data set is put in as text, never as markup. No part of this page asks the network for anything.

const data = JSON.parse(document.getElementById('data').textContent);
const { summary, signal } = data;
const byId = (id) => document.getElementById(id);
const SVG = 'http://www.w3.org/2000/svg';
const PAGE = 40;
const proposed = new Map(Object.entries(data.proposed));
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
// Without a cut nothing is removed, however suspicious it is.
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

// How many rows lie above a threshold: exactly as decided, and where all values are here; else about.
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

// How much more often than not a value of the one lies above a value of the other, where that is no chance; both in
// rising order. As `_surely_above` in estimates.py.
function surelyAbove(one, counted, other, against) {
  if (Math.min(counted, against) < 20) return false;
  let below = 0, level = 0, pairs = 0;
  for (const value of one) {
    while (below < other.length && other[below] < value) below += 1;
    level = Math.max(level, below);
    while (level < other.length && other[level] === value) level += 1;
    pairs += below + (level - below) / 2;
  }
  const spread = Math.sqrt((counted + against + 1) / (12 * counted * against));
  return pairs / (one.length * other.length) - 3 * spread > 0.55;
}

// Why the trusted rows do not tell what a threshold gets wrong; nothing where they do.
function doubt(limit) {
  if (limit === decided) return summary.doubt;
  const known = data.planted.trusted, upTo = (sorted) => sorted.slice(0, sorted.length - above(sorted, limit));
  const keptRows = upTo(values), there = data.scored - removedAt(limit), spared = upTo(known.values);
  if (surelyAbove(keptRows, there, known.values, known.count)) return `the kept rows are ${signal.more} than the trusted rows`;
  const left = Math.round((known.count * spared.length) / Math.max(1, known.values.length));
  return surelyAbove(spared, left, keptRows, there) ? `the trusted rows are ${signal.more} than the kept rows` : '';
}

function estimates(limit) {
  const gone = removedAt(limit), said = [], { trusted, known_unsafe: unsafe } = data.planted;
  const of = (known) => share((above(known.values, limit) * known.count) / known.values.length, known.count);
  const why = trusted.count && gone ? doubt(limit) : '';
  if (why && signal.fused) said.push(`precision cannot be told (${why})`);
  else if (trusted.count && gone) {
    const harmless = of(trusted)
      .map((p) => (p < 1 ? Math.min(1, ((p / (1 - p)) * (data.scored - gone)) / gone) : 1));
    said.push(`precision ${percent(1 - harmless[1])} (${percent(1 - harmless[2])} to ${percent(1 - harmless[0])})` +
      (why ? `, not to be relied on as ${why}` : ''));
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
    ['truncated', 'cut to length'], ['judged_in_part', 'judged in part'], ['bad', 'unusable'], ['overridden', 'decided otherwise by a person'],
    ['left_out', 'left out of the random sample']]) {
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
  if (data.untrained) first.push(`${data.untrained[0].toUpperCase()}${data.untrained.slice(1)}.`);
  if (summary.cut === null) first.push(`Nothing was removed by the filter: ${summary.explanation}.`);
  else if (!summary.warnings.length) {
    first.push((proposed.size ? 'Look first at the rows that are proposed below, and '
      : 'Look first at the rows around the threshold: order them by “nearest to the threshold” below, and ') +
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
  byId('histogram-says').textContent = `Rows by ${signal.quantity}, in ${summary.unit}, from ${short(least)} to ${short(most)}; ` +
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

function showProposed() {
  const done = [...proposed.keys()].filter((id) => overrides.has(id)).length;
  byId('look').hidden = !proposed.size;
  byId('look-done').textContent = done ? `${number(done)} of them decided.` : '';
}

function showMine() {
  showProposed();
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
    } else if (which === 'look') {
      if (!proposed.has(row.id)) return false;
    } else if (which === 'mine' ? !overrides.has(row.id) : which !== 'all' && decision(row) !== which) return false;
    return !wanted || row.searched.includes(wanted);
  });
  const height = (row) => (row.suspicion === null ? -Infinity : row.suspicion);
  const keys = { most: (row) => -height(row), least: height, near: (row) => Math.abs(height(row) - shownAt(threshold)) };
  return found.sort((a, b) => keys[order](a) - keys[order](b) || a.row - b.row);
}

const amount = (row) => (row.suspicion === null ? 'no score' : `${signal.quality} by ${short(row.suspicion)}`);

// What the review made of a row; beside other evidence forgetting is but a part of it.
function forgotten(row) {
  if (row.learned === null) return [];
  const sessions = `${short(row.learned)} before, ${short(row.reviewed)} after`;
  return [element('span', { class: 'small' }, signal.fused ? `forgotten by ${short(row.forgetting)}: ${sessions}` : sessions)];
}

// The longest bar is that of what weighs most in any row shown.
const heaviest = data.rows.reduce((most, row) => row.evidence.reduce((m, value) => Math.max(m, Math.abs(value)), most), 1e-9);

// What each kind of evidence adds to a row's suspicion.
function evidence(row) {
  if (!row.evidence.length) return [];
  const items = row.evidence.map((value, i) => {
    const svg = drawn('svg', { viewBox: '0 0 100 8', preserveAspectRatio: 'none', 'aria-hidden': 'true' });
    const wide = (48 * Math.abs(value)) / heaviest;
    svg.append(drawn('rect', { x: value > 0 ? 50 : 50 - wide, width: wide, y: 1, height: 6,
      class: value > 0 ? 'bar-removed' : 'bar-kept' }), drawn('line', { x1: 50, x2: 50, y1: 0, y2: 8, class: 'axis' }));
    return element('li', {}, element('span', {}, visible(data.evidence[i])), svg,
      element('span', { class: 'value' }, `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(1)}`));
  });
  return [element('ul', { class: 'evidence', 'aria-label': `What speaks for or against row ${row.row}` }, ...items)];
}

function facts(row) {
  const verdict = decision(row), earlier = data.decided[row.id] === verdict;
  const said = !overrides.has(row.id) ? verdict : `${verdict} (by ${earlier ? visible(summary.reviewer) : 'you'})`;
  const parts = [element('span', { class: 'badge' }, said),
    element('span', {}, amount(row)), ...forgotten(row), element('span', { class: 'small' }, `row ${number(row.row)}`)];
  if (proposed.has(row.id)) parts.push(element('span', { class: 'look' }, `look first: ${proposed.get(row.id)}`));
  if (row.shades.includes(UNJUDGED)) parts.push(element('span', { class: 'small' }, 'judged in part'));
  if (row.pair && summary.trained) {
    const said = row.pair.forgetting === null ? 'has no score' : `forgotten by ${short(row.pair.forgetting)}`;
    parts.splice(3, 0, element('span', {}, `rejected answer ${said}`));
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
  item.append(facts(row), ...evidence(row), element('div', { class: 'text prompt veiled', dir: 'auto' }, visible(row.prompt)), completion(row),
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

// --- Columns and examples ---

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
      element('span', {}, amount(example)),
      element('span', { class: 'small' }, `row ${number(example.row)}`)),
    element('dl', { class: 'said' }, said('Prompt', 'prompt', 'asked'), said('The row says', 'completion', ''),
      said('Learned model, before the review', 'learned', ''), said('Reviewed model, after it', 'reviewed', '')),
    element('div', { class: 'controls' }, revealButton(item, example, () => {})));
  veil(item);
  return item;
}

// --- Start ---

for (const row of data.rows) {
  const texts = [row.id, row.prompt, row.pieces.join(''), row.pair ? row.pair.text : ''];
  row.searched = [...texts, ...Object.values(row.tags)].join('\n').toLowerCase();
}
if (!summary.pairs) byId('which').querySelector('[value=swapped]').remove();
if (!proposed.size) byId('which').querySelector('[value=look]').remove();
byId('look-says').replaceChildren(`A person's word tells most about these ${number(proposed.size)} rows: some are ` +
  `${summary.cut === null ? 'the most suspicious' : 'nearest to the threshold'}, others stand for many like them. ` +
  'Keep or remove them, save your decisions, and run ',
element('code', {}, visible(`forgetfilter decide ${quoted(data.folder)} --overrides overrides.json`)),
': it takes seconds, and all other rows are ranked anew.');
byId('look-show').addEventListener('click', () => {
  byId('which').value = 'look';
  current = -1;
  showList();
  byId('list').scrollIntoView();
});
byId('evidence').hidden = !data.evidence.length;
byId('shades').hidden = !data.rows.some((row) => row.shades.some((shade) => shade > 0));
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
byId('course').hidden = !data.sessions.length && !data.curve;
byId('answers').hidden = !data.examples.length;
for (const link of document.querySelectorAll('nav a')) {
  link.parentElement.hidden = byId(link.hash.slice(1)).hidden;
}
