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
const unscored = summary.rows - summary.bad - data.scored;

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

const Z = 1.959963984540054;

// Wilson's score interval, as in estimates.py.
function share(count, total) {
  const p = count / total, z2 = Z * Z;
  const centre = (p + z2 / (2 * total)) / (1 + z2 / total);
  const half = (Z / (1 + z2 / total)) * Math.sqrt((p * (1 - p)) / total + z2 / (4 * total * total));
  return [Math.max(0, Math.min(p, centre - half)), p, Math.min(1, Math.max(p, centre + half))];
}

// How much more often than not a value of the one lies above a value of the other, where that is no chance; both in
// rising order. As `_share_above_beyond_chance` in estimates.py.
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
  if (data.untold) return data.untold;
  if (limit === decided) return summary.doubt;
  const known = data.planted.trusted, upTo = (sorted) => sorted.slice(0, sorted.length - above(sorted, limit));
  const keptRows = upTo(values), there = data.scored - removedAt(limit), spared = upTo(known.values);
  if (surelyAbove(keptRows, there, known.values, known.count)) return `the kept rows are ${signal.more} than the trusted rows`;
  const left = Math.round((known.count * spared.length) / Math.max(1, known.values.length));
  if (surelyAbove(spared, left, keptRows, there)) return `the trusted rows are ${signal.more} than the kept rows`;
  const gone = removedAt(limit);
  if (shareOf(known, limit)[0] * data.scored >= gone) return 'more of the trusted rows than of the data are above the threshold';
  // As `are_too_few_kept` in cuts.py.
  return there < 20 && gone > 0.7 * data.scored
    ? 'the kept rows are too few to show whether the trusted rows are like the harmless rows of the data' : '';
}

// Low, best and high estimate of the share of rows of known kind above a threshold.
function shareOf(known, limit) {
  return share((above(known.values, limit) * known.count) / known.values.length, known.count);
}

// The same of the harmless rows: like the one kind of trusted rows, like the other, or between them.
function lostAt(limit) {
  const pooled = shareOf(data.planted.trusted, limit), kinds = data.kinds.map((kind) => shareOf(kind, limit));
  if (!kinds.length) return pooled;
  return [Math.min(...kinds.map((kind) => kind[0])), pooled[1], Math.max(...kinds.map((kind) => kind[2]))];
}

// The same of the unsafe rows, which differ from the known ones.
function recallAt(limit, gone) {
  const known = shareOf(data.planted.known_unsafe, limit), [low, best, high] = known;
  if (!gone) return known;
  const moved = (p, by) => 1 / (1 + Math.exp(-(Math.log(p) - Math.log1p(-p) + by * data.other_unsafe)));
  return [moved(low, -Z), best, moved(high, Z)];
}

// Low, best and high estimate of precision and recall of the filter alone; nothing where they are unknown.
function estimated(limit) {
  const gone = removedAt(limit), { trusted, known_unsafe: unsafe } = data.planted;
  const why = trusted.count && gone ? doubt(limit) : '';
  const found = { why, precision: null, recall: unsafe.count ? recallAt(limit, gone) : null };
  if (trusted.count && gone && gone < data.scored && !(why && signal.fused)) {
    const harmless = lostAt(limit)
      .map((p) => (p < 1 ? Math.min(1, ((p / (1 - p)) * (data.scored - gone)) / gone) : 1));
    // Without a width all bounds were clipped.
    if (harmless[0] < harmless[2]) found.precision = harmless.map((p) => 1 - p).reverse();
  }
  return found;
}

// An interval of this width is no estimate, as in terminal.py.
const SAYS_NOTHING = 0.8, isTold = (estimate) => estimate && estimate[2] - estimate[0] < SAYS_NOTHING;

function estimates(limit) {
  const { why, precision, recall } = estimated(limit);
  const told = (name, [low, value, high]) => (isTold([low, value, high])
    ? `${name} ${percent(value)} (${percent(low)} to ${percent(high)})` : `${name} unknown: ${percent(low)} to ${percent(high)}`);
  const said = [];
  if (precision) said.push(told('precision', precision) + (why ? `, not to be relied on as ${why}` : ''));
  else said.push(why ? `precision cannot be told (${why})` : 'precision unknown');
  said.push(recall ? told('recall', recall) : 'recall unknown');
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
    : `${beyond}, which alone is judged. ${rowCount(summary.judged_in_part)} ` +
      `${summary.judged_in_part === 1 ? 'has an answer that goes' : 'have answers that go'} on like this`;
}

// --- The threshold ---

// Where a threshold stands on the scale; one that removes nothing stands at its end.
const shownAt = (value) => Math.max(least, Math.min(most, value));

function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replace(/'/g, `'"'"'`)}'`;
}

function setThreshold(value) {
  if (Number.isNaN(value)) return;
  // What is shown, counted and written into the command is the same number.
  threshold = value === decided ? decided : Number(value.toPrecision(6));
  byId('slider').value = String(shownAt(threshold));
  byId('number').value = String(Number((threshold === Infinity ? most : threshold).toPrecision(6)));
  byId('slider').setAttribute('aria-valuetext', `${short(shownAt(threshold))} ${summary.unit}`);
  showCommand();
  showHistogram();
  showDecisions();
  showGroups();
  showExamples();
  showList();
}

function showEffect() {
  const { removed: gone } = removedNow(), judged = summary.rows - summary.bad;
  const at = threshold === Infinity ? 'As decided' : `At ${short(threshold)} ${summary.unit}`;
  const who = overrides.size ? `the filter, with ${marksAreApplied() ? "a person's" : 'your'} marks,` : 'the filter';
  byId('effect').textContent = `${at} ${who} removes ${about()}${rowCount(gone)} and keeps ` +
    `${about()}${number(judged - gone)}; ${overrides.size ? 'of the filter alone: ' : ''}${estimates(threshold)}.`;
}

// What depends on the threshold or on a person's decisions, beside the list.
function showDecisions() {
  showCounts();
  showNext();
  showEffect();
  showTopics();
}

const wanted = () => (threshold === decided ? summary.threshold : String(threshold));

// The file that holds these marks; nothing where they have to be saved first.
function fileOfMarks() {
  if (marksAreApplied()) return `${data.folder}/overrides.json`;
  return unsaved ? '' : savedAs;
}

const marksAreSaved = () => !overrides.size || Boolean(fileOfMarks());

function showCommand() {
  const file = fileOfMarks(), ready = marksAreSaved();
  byId('save-first').hidden = ready;
  byId('command').hidden = byId('copy').hidden = !ready;
  byId('copied').textContent = '';
  showSaved(file);
  if (!ready) {
    byId('command').replaceChildren();
    return;
  }
  byId('command').replaceChildren(...commandOf(file));
}

// The command that decides as this page shows it, or by another threshold, whatever the file of marks was saved with. Broken
// between its words only, as far as they fit.
function commandOf(file, at = wanted()) {
  const parts = ['forgetfilter decide', quoted(data.folder), `--threshold=${quoted(at)}`, `--signal ${summary.signal}`];
  if (summary.drop_unscorable) parts.push('--drop-unscorable');
  else if (overrides.size) parts.push('--no-drop-unscorable');
  if (overrides.size) parts.push(`--overrides ${quoted(file)}`);
  else if (summary.overrides) parts.push('--overrides none');
  return parts.flatMap((part) => [' ', element('span', {}, visible(part))]).slice(1);
}

// Where the marks were saved, or loaded from, and how they are applied.
function showSaved(file) {
  const fresh = overrides.size && file && !marksAreApplied(), apply = () => element('code', {}, ...commandOf(file));
  const [where, folder] = loaded ? [`Loaded from ${visible(file)}`, 'in the folder of that file']
    : [`Saved as ${visible(file)}, where this browser puts downloads`, 'in that folder'];
  byId('saved').replaceChildren(...(fresh ? [`${where}. To apply: `, apply(), `, ${folder}.`] : []));
  byId('look-says').replaceChildren(`A person's word tells most about these ${number(proposed.size)} rows: some are ` +
    `${summary.cut === null ? 'the most suspicious' : 'nearest to the threshold'}, others stand for many like them. ` +
    'Keep or remove them, save your decisions, and run ', fresh ? apply() : 'the command that the page then shows',
  ': it takes seconds, and all other rows are ranked anew.');
}

// --- A person's decisions ---

const STORE = `forgetfilter:${data.folder}:${data.run}`;
const overrides = new Map();
// The rows that were marked together with their group, whose undo takes back these marks and no others.
const byGroup = new Set();
let unsaved = false, savedAs = '', savedAt = 0, loaded = false;

function remember() {
  try {
    localStorage.setItem(STORE, JSON.stringify({ reviewer: byId('reviewer').value, decisions: [...overrides],
      byGroup: [...byGroup], unsaved, savedAs, savedAt, loaded }));
  } catch { /* A browser may forbid it; then the warning on closing remains. */ }
}

// What was decided here before, or else what the run was decided with.
function recall() {
  let stored = null;
  try {
    stored = JSON.parse(localStorage.getItem(STORE));
  } catch { /* As above. */ }
  for (const [id, verdict] of stored ? stored.decisions : Object.entries(data.decided)) overrides.set(id, verdict);
  for (const id of stored ? stored.byGroup || [] : data.by_group) byGroup.add(id);
  byId('reviewer').value = stored ? stored.reviewer : summary.reviewer;
  unsaved = Boolean(stored && stored.unsaved);
  savedAs = (stored && stored.savedAs) || '';
  savedAt = (stored && stored.savedAt) || 0;
  loaded = Boolean(stored && stored.loaded);
}

function filterSays(suspicion) {
  if (suspicion === null) return summary.drop_unscorable ? removed : kept;
  return suspicion > threshold ? removed : kept;
}

const decisionOf = (id, suspicion) => overrides.get(id) || filterSays(suspicion);
const decision = (row) => decisionOf(row.id, row.suspicion);

// Rows that are nearly the same and are decided alike are one where they are folded.
const members = topicMembers();
const copyOf = new Map(members.flat().map((row) => [row.id, row.original]));
const copiesOf = new Map();
for (const row of members.flat()) {
  if (!copiesOf.has(row.original)) copiesOf.set(row.original, []);
  copiesOf.get(row.original).push(row);
}
const rowOf = new Map(data.rows.map((row) => [row.id, row]));
const suspicionOf = new Map([...data.rows, ...members.flat()].map((row) => [row.id, row.suspicion]));

// The ids of a row and of those folded under it.
function alike(row) {
  const copies = byId('fold').checked ? copiesOf.get(copyOf.get(row.id)) || [] : [], verdict = decision(row);
  return [row.id, ...copies.filter(({ id, suspicion }) => id !== row.id && decisionOf(id, suspicion) === verdict)
    .map(({ id }) => id)];
}

function override(ids, verdict) {
  for (const id of ids) byGroup.delete(id);
  mark(ids, verdict);
}

function overrideGroup(ids, verdict) {
  for (const id of ids) {
    if (verdict === null) byGroup.delete(id); else byGroup.add(id);
  }
  mark(ids, verdict);
}

function mark(ids, verdict) {
  for (const id of ids) {
    if (verdict === null) overrides.delete(id); else overrides.set(id, verdict);
  }
  unsaved = !marksAreApplied();
  remember();
  showMine();
  showCommand();
  showDecisions();
}

function showProposed() {
  const done = [...proposed.keys()].filter((id) => overrides.has(id)).length;
  byId('look').hidden = !proposed.size;
  byId('look-done').textContent = done ? `${number(done)} of them decided.` : '';
}

function showMine() {
  showProposed();
  const { unsafe, harmless } = marks(), kinds = overrides.size ? `: ${number(unsafe)} unsafe, ${number(harmless)} harmless` : '';
  const who = overrides.size && marksAreApplied() ? earlierReviewer() : 'you';
  byId('mine').textContent = `${rowCount(overrides.size)} decided by ${who}${unsaved && overrides.size ? ', not saved yet' : ''}${kinds}.`;
}

// A name that no earlier file has, so that the browser need not rename this one: the local time, to the second.
function newName() {
  savedAt = Math.max(Date.now(), savedAt + 1000);
  const at = new Date(savedAt), two = (value) => String(value).padStart(2, '0');
  const day = [at.getFullYear(), at.getMonth() + 1, at.getDate()], time = [at.getHours(), at.getMinutes(), at.getSeconds()];
  return `overrides-${day.map(two).join('')}-${time.map(two).join('')}.json`;
}

function save() {
  // With what the filter decided where this person did not, as the page shows it now.
  const content = JSON.stringify({ reviewer: byId('reviewer').value.trim() || 'person', threshold: wanted(),
    signal: summary.signal, drop_unscorable: summary.drop_unscorable, decisions: Object.fromEntries(overrides),
    by_group: [...byGroup] }, null, 2);
  const link = element('a', { href: URL.createObjectURL(new Blob([content], { type: 'application/json' })),
    download: newName() });
  link.click();
  URL.revokeObjectURL(link.href);
  [unsaved, savedAs, loaded] = [false, link.download, false];
  remember();
  showMine();
  showCommand();
  showNext();
}

async function load(file) {
  try {
    const given = JSON.parse(await file.text());
    const valid = Object.entries(given.decisions).filter(([, verdict]) => verdict === kept || verdict === removed);
    // Only a page that holds all rows knows which the run lacks.
    const holdsAll = suspicionOf.size === summary.rows - summary.bad;
    const taken = valid.filter(([id]) => suspicionOf.has(id) || !holdsAll), strange = valid.length - taken.length;
    if (strange && !taken.length) {
      byId('mine').textContent = `${visible(file.name)} seems to be of another run, which has other rows; nothing was loaded.`;
      return;
    }
    const together = new Set(given.by_group || []);
    for (const [id, verdict] of taken) {
      overrides.set(id, verdict);
      if (together.has(id)) byGroup.add(id); else byGroup.delete(id);
    }
    // Beside other marks, or without some of its own, no file holds just these yet.
    unsaved = (overrides.size > taken.length || strange > 0) && !marksAreApplied();
    [savedAs, loaded] = [file.name, true];
    byId('reviewer').value = [...String(given.reviewer || '')].slice(0, 60).join('');
    remember();
    const saved = Number(given.threshold ?? NaN), here = (given.signal ?? summary.signal) === summary.signal;
    setThreshold(here && given.threshold !== '' && Number.isFinite(saved) ? saved : threshold);
    showMine();
    if (strange) byId('mine').append(` Left out: ${number(strange)} of ${visible(file.name)}, as this run has no such rows.`);
  } catch {
    byId('mine').textContent = 'This is not a file of saved decisions.';
  }
}

// --- The rows ---

let listed = [], limit = PAGE, current = -1;

function chosenRows() {
  const which = byId('which').value, wanted = byId('search').value.trim().toLowerCase(), order = byId('order').value;
  const topic = new Set(which.startsWith('topic-') ? topicRows(Number(which.slice(6))).map(({ id }) => id) : []);
  const found = data.rows.filter((row) => {
    if (which.startsWith('topic-')) {
      if (!topic.has(row.id)) return false;
    } else if (which === 'swapped') {
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

// Of rows that are nearly the same and decided alike only the first.
function folded(rows) {
  if (!byId('fold').checked) return rows;
  const seen = new Set();
  return rows.filter((row) => {
    const key = `${decision(row)} ${copyOf.get(row.id) ?? row.id}`, first = !seen.has(key);
    seen.add(key);
    return first;
  });
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
  const said = !overrides.has(row.id) ? verdict : `${verdict} (by ${earlier ? earlierReviewer() : 'you'})`;
  const parts = [element('span', { class: 'badge' }, said),
    element('span', {}, amount(row)), ...forgotten(row), element('span', { class: 'small' }, `row ${number(row.row)}`)];
  const like = alike(row).length - 1;
  if (like) parts.push(element('span', { class: 'look' }, `and ${number(like)} nearly the same`));
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
  const tokens = row.pieces.flatMap((piece, i) => {
    if (row.shades[i] !== UNJUDGED) return [element('span', { class: `t${row.shades[i]}` }, visible(piece))];
    const begins = row.shades[i - 1] !== UNJUDGED ? [element('span', { class: 'edge' }, 'not judged:'), ' '] : [];
    return [...begins, element('span', { class: 'unjudged', title: `not judged: ${beyond}` }, visible(piece))];
  });
  return element('div', { class: 'text veiled', dir: 'auto' }, ...tokens, row.cut ? ' […]' : '');
}

function notChosen(row) {
  if (!row.pair) return [];
  return [element('div', { class: 'text rejected veiled', dir: 'auto' }, element('span', { class: 'small' }, 'Rejected: '),
    visible(row.pair.text), row.pair.cut ? ' […]' : '')];
}

function name(button, label, row, like = 0) {
  button.textContent = like ? `${label} all ${number(like + 1)}` : label;
  button.setAttribute('aria-label', `${label} ${typeof row.row === 'number' ? `row ${row.row}` : row.row}` +
    (like ? ` and ${number(like)} nearly the same` : ''));
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
    name(made, label, row, alike(row).length - 1);
    made.addEventListener('click', () => { current = i; act(); });
    return made;
  };
  const again = (verdict) => () => { override(alike(row), verdict); refresh(i); };
  item.append(facts(row), ...evidence(row), element('div', { class: 'text prompt veiled', dir: 'auto' }, visible(row.prompt)), completion(row),
    ...notChosen(row),
    element('p', { class: 'reason veiled' }, (threshold === decided ? '' : 'As decided: ') + visible(row.reason)),
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
  const chosen = chosenRows();
  listed = folded(chosen);
  current = listed.indexOf(row);
  limit = Math.max(PAGE, current + 1);
  byId('list').replaceChildren(...listed.slice(0, limit).map(rowItem));
  byId('more').hidden = listed.length <= limit;
  const all = chosen.length === data.rows.length, under = chosen.length - listed.length;
  const match = chosen.length === 1 ? 'The one that matches your choice is' : `The ${number(chosen.length)} that match your choice are`;
  byId('shown').textContent = `This page holds ${data.shown}. ${all ? 'All of them are' : match} listed` +
    `${under ? `, ${number(under)} of these folded under others` : ''}.`;
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
    acts[letter] = () => { if (listed[current]) { override(alike(listed[current]), verdict); refresh(current); } };
  }
  if (acts[event.key]) { event.preventDefault(); acts[event.key](); }
}

// --- Examples ---

function exampleItem(example) {
  const item = element('li', { class: decision(example) });
  const text = (part) => (example[part].trim() ? visible(example[part]) + (example.cut[part] ? ' […]' : '')
    : element('span', { class: 'empty' }, 'nothing'));
  const said = (label, part, kind) => element('div', { class: kind }, element('dt', {}, label),
    element('dd', { class: 'text veiled', dir: 'auto' }, text(part)));
  item.append(
    element('div', { class: 'facts' }, element('span', { class: 'badge' }, decision(example)),
      element('span', {}, amount(example)),
      element('span', { class: 'small' }, `row ${number(example.row)}`)),
    element('dl', { class: 'said' }, said('Prompt', 'prompt', 'asked'), said('The row says', 'completion', ''),
      said('Learned model, before the review', 'learned', ''), said('Reviewed model, after it', 'reviewed', '')),
    element('div', { class: 'controls' }, revealButton(item, example, () => {})));
  veil(item);
  return item;
}

function showExamples() {
  const open = [...byId('examples').children].map((item) => item.classList.contains('open'));
  const items = data.examples.map(exampleItem);
  byId('examples').replaceChildren(...items);
  items.forEach((item, i) => { if (open[i]) item.querySelector('.reveal').click(); });
}

function showOnly(which) {
  byId('which').value = which;
  current = -1;
  showList();
  byId('rows').scrollIntoView();
  byId('h-rows').focus({ preventScroll: true });
}

// --- Start ---

for (const row of data.rows) {
  const texts = [row.id, row.prompt, row.pieces.join(''), row.pair ? row.pair.text : ''];
  row.searched = [...texts, ...Object.values(row.tags)].join('\n').toLowerCase();
}
if (!summary.pairs) byId('which').querySelector('[value=swapped]').remove();
if (!proposed.size) byId('which').querySelector('[value=look]').remove();
byId('look-show').addEventListener('click', () => showOnly('look'));
byId('which').append(...members.map((_, k) => element('option', { value: `topic-${k}` })));
byId('topics').hidden = !data.topics.ids.length;
byId('fold-label').hidden = data.topics.copies.every((original, i) => original === i);
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
window.addEventListener('resize', showHistogram);
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
for (const [id, event] of [['which', 'change'], ['order', 'change'], ['fold', 'change'], ['search', 'input']]) {
  byId(id).addEventListener(event, () => { current = -1; showList(); });
}
byId('more').addEventListener('click', showMore);
byId('reveal').addEventListener('change', () => {
  document.body.classList.toggle('revealed', byId('reveal').checked);
  showDecisions();
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
